"""Whether the file descriptors by which the database is open are still its own.

Code of the user's may close descriptors that it did not open: a daemonising helper
that closes 3 to 100, a number that is closed twice. SQLite notices nothing: if the number
has been given to another file since, the next commit goes into that file. So this is
asked before each write. Knows descriptors only, nothing of databases.
"""

from __future__ import annotations

import contextlib
import os

_MARK = 0x4B697461
"""The offset of a descriptor that nobody reads or writes: another file has another one."""

_BEGINS_BETWEEN_LOOKS = 64
_LOG = "-wal"


class Descriptors:
    """The descriptors that were opened between the making of this and ``remember``."""

    def __init__(self, folder: str) -> None:
        self._before = _open_numbers()
        self._files: dict[str, tuple[int, int, int]] = {}
        self._begins = 0
        # One more descriptor, opened beside them: to ask for its offset takes 0.3 us, to ask
        # each of theirs which file it is takes some microseconds a write.
        self._sentinel = -1
        with contextlib.suppress(OSError):
            self._sentinel = os.open(os.path.join(folder, ".gitignore"), os.O_RDONLY | os.O_CLOEXEC)
            os.lseek(self._sentinel, _MARK, os.SEEK_SET)

    def remember(self, path: str) -> None:
        """Note which of the new descriptors lead to the database, its log and its shared memory."""
        wanted = {}
        for suffix in ("", _LOG, "-shm"):
            with contextlib.suppress(OSError):
                wanted[_identity(os.stat(path + suffix))] = suffix
        for number in _open_numbers() - self._before:
            with contextlib.suppress(OSError):
                found = _identity(os.fstat(number))
                if found in wanted:
                    self._files[wanted[found]] = (number, *found)

    def seem_open(self) -> bool:
        """The quick look, before each use: False if any of them was closed together with ours."""
        self._begins += 1
        if self._begins >= _BEGINS_BETWEEN_LOOKS:
            self._begins = 0
            # Not the log: to ask for its times makes its next sync slower (see Database.verify).
            return self.are_open(log_too=False)
        return self._sentinel < 0 or self._is_sentinel_ours()

    def _is_sentinel_ours(self) -> bool:
        try:
            return os.lseek(self._sentinel, 0, os.SEEK_CUR) == _MARK
        except OSError:
            return False

    def are_open(self, *, log_too: bool = True) -> bool:
        """Whether each of them still is the file that it was."""
        for suffix, (number, *file) in self._files.items():
            if suffix == _LOG and not log_too:
                continue
            try:
                if _identity(os.fstat(number)) != tuple(file):
                    return False
            except OSError:
                return False
        return True

    def close(self) -> None:
        # By its own mark: the database, closed before it, has no descriptors any more.
        if self._sentinel >= 0 and self._is_sentinel_ours():
            os.close(self._sentinel)
        self._sentinel = -1


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def _open_numbers() -> set[int]:
    try:
        return {int(name) for name in os.listdir("/dev/fd")}
    except OSError:
        return set()
