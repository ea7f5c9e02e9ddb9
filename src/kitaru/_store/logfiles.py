"""Logs in a folder beside the store: JSON lines, a few bounded files for each execution.

``<execution>.<epoch>-<number>.jsonl``: an owner has names of its own, so that no two
processes ever write one file. Each begins with a line that says how many bytes
came before it; when the oldest are removed, that is how a reader knows what it misses.
Nothing is synced: a power cut may take the last seconds. A line that a kill or a full
disk left torn is skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from kitaru._store.logs import Chunk, Page, note
from kitaru.errors import KitaruLogRetrievalError

FOLDER = "logs"

SEGMENTS = 8
"""Files that the log of one execution is cut into, at most: the oldest goes when it is full."""

MAX_FILES = 20_000
"""Small logs of many executions: the names alone would make the folder slow."""

_PAGE_BYTES = 1 << 20
_NAME = re.compile(r"([0-9A-Za-z_-]{1,100})\.(\d{1,18})-(\d{1,9})\.jsonl")
_GONE = "dropped.json"
"""Says up to which execution logs were removed because all together were too many."""


class _Segment(NamedTuple):
    epoch: int
    number: int
    path: str
    size: int


class _Writing:
    """The log of an execution that is being written by this process."""

    def __init__(self, epoch: int, number: int, before: int, older: list[_Segment]) -> None:
        self.epoch = epoch
        self.number = number
        self.before = before
        """Bytes of all files before this one, also of those that are gone."""
        self.older = older
        """Those that are still there."""
        self.size = 0
        self.is_torn = False


class LogFiles:
    """A :class:`kitaru._store.logs.LogStore` in a folder.

    ``max_bytes``: of one execution; ``max_folder_bytes``: of all.
    """

    is_written_by_tidy = False

    def __init__(self, store_folder: str, *, max_bytes: int, max_folder_bytes: int) -> None:
        self._folder = os.path.join(store_folder, FOLDER)
        self._max_bytes = max_bytes
        self._segment_bytes = max_bytes // SEGMENTS
        self._max_folder_bytes = max_folder_bytes
        self._writing: dict[str, _Writing] = {}
        self._untidied = max_folder_bytes
        """Bytes written since the folder was looked at; at first as if it were high time."""

    # --- writing -----------------------------------------------------------------------------

    def append(self, exec_id: str, epoch: int, chunks: Sequence[Chunk]) -> None:
        writing = self._writing.get(exec_id)
        if writing is None or writing.epoch != epoch:
            writing = self._writing[exec_id] = self._begin(exec_id, epoch)
        data = bytearray()
        for chunk in chunks:
            line = encode_line(chunk)
            if writing.size + len(data) + len(line) > self._segment_bytes:
                if data:
                    self._write(exec_id, writing, data)
                    data = bytearray()
                if writing.size:
                    self._rotate(exec_id, writing)
            data += line
        if data:
            self._write(exec_id, writing, data)

    def close(self, exec_id: str) -> None:
        self._writing.pop(exec_id, None)

    def _path(self, exec_id: str, epoch: int, number: int) -> str:
        name = f"{exec_id}.{epoch}-{number}.jsonl"
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{exec_id!r} can be no part of a file's name")
        return os.path.join(self._folder, name)

    def _begin(self, exec_id: str, epoch: int) -> _Writing:
        first = self._path(exec_id, epoch, 0)
        if epoch == 1 and not os.path.lexists(first):
            return _Writing(epoch, 0, 0, [])  # as nearly always: the folder is not looked through
        older = self._segments(exec_id)
        last = max((each.number for each in older if each.epoch == epoch), default=-1)
        before = _before(older[-1].path) + older[-1].size if older else 0
        writing = _Writing(epoch, last + 1, before, older)
        self._drop_oldest(writing)
        return writing

    def _rotate(self, exec_id: str, writing: _Writing) -> None:
        path = self._path(exec_id, writing.epoch, writing.number)
        writing.older.append(_Segment(writing.epoch, writing.number, path, writing.size))
        writing.before += writing.size
        writing.number += 1
        writing.size = 0
        writing.is_torn = False
        self._drop_oldest(writing)

    def _drop_oldest(self, writing: _Writing) -> None:
        """Make room for one more file."""
        kept = sum(each.size for each in writing.older)
        while writing.older and kept > self._max_bytes - self._segment_bytes:
            oldest = writing.older.pop(0)
            kept -= oldest.size
            _remove(oldest.path)

    def _write(self, exec_id: str, writing: _Writing, data: bytearray) -> None:
        path = self._path(exec_id, writing.epoch, writing.number)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            file = os.open(path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            file = os.open(path, flags, 0o600)
        try:
            if os.fstat(file).st_size == 0:
                # New, or somebody tidied up meanwhile: then what stood here is missing, too.
                writing.before += writing.size
                writing.size = 0
                data[:0] = _header(writing.before)
            elif writing.is_torn:
                data[:0] = b"\n"
            self._write_all(file, writing, data)
        finally:
            os.close(file)

    def _write_all(self, file: int, writing: _Writing, data: bytearray) -> None:
        view = memoryview(data)
        written = 0
        try:
            while written < len(view):
                written += os.write(file, view[written:])
        finally:
            view.release()
            writing.size += written
            writing.is_torn = 0 < written < len(data) or (writing.is_torn and not written)
            self._untidied += written

    # --- removing ------------------------------------------------------------------------------

    def tidy(self) -> None:
        if self._untidied < self._max_folder_bytes // 16:
            return
        self._untidied = 0
        found = self._all()
        total, count = sum(size for _, size, _, _ in found), len(found)
        if total <= self._max_folder_bytes and count <= MAX_FILES:
            return
        found.sort()
        newest = ""
        for _, size, name, path in found:
            if total <= self._max_folder_bytes * 0.9 and count <= MAX_FILES * 0.9:
                break
            newest = max(newest, name)
            _remove(path)
            total -= size
            count -= 1
        self._remember_dropped(newest)

    def _all(self) -> list[tuple[int, int, str, str]]:
        """(when it was written last, bytes, execution, path) of each file."""
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                name = _NAME.fullmatch(entry.name)
                if name is not None:
                    with contextlib.suppress(OSError):
                        stat = entry.stat(follow_symlinks=False)
                        found.append((stat.st_mtime_ns, stat.st_size, name[1], entry.path))
        return found

    def _remember_dropped(self, exec_id: str) -> None:
        path = os.path.join(self._folder, _GONE)
        data = json.dumps({"up_to": max(exec_id, self._dropped_up_to())}).encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(path, flags, 0o600), "wb") as file:
            file.write(data)

    def _dropped_up_to(self) -> str:
        try:
            with open(os.path.join(self._folder, _GONE), "rb") as file:
                said = json.loads(file.read(1000))["up_to"]
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        return said if isinstance(said, str) else ""

    def delete(self, exec_id: str) -> None:
        self._writing.pop(exec_id, None)
        for segment in self._segments(exec_id):
            _remove(segment.path)

    # --- reading ---------------------------------------------------------------------------------

    def _segments(self, exec_id: str) -> list[_Segment]:
        found = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    name = entry.name.startswith(exec_id) and _NAME.fullmatch(entry.name)
                    if name and name[1] == exec_id:
                        size = entry.stat(follow_symlinks=False).st_size
                        found.append(_Segment(int(name[2]), int(name[3]), entry.path, size))
        except FileNotFoundError:
            return found
        return sorted(found)

    def read(self, exec_id: str, after: str | None = None) -> Page:
        try:
            return self._read(exec_id, after)
        except OSError as error:
            raise KitaruLogRetrievalError(
                f"the log of execution {exec_id} cannot be read: "
                f"{error.strerror or error} ({error.filename or self._folder}). The execution "
                "itself is not touched by this; check who owns that file and how it is mounted",
                code="log-unreadable",
            ) from error

    def _read(self, exec_id: str, after: str | None) -> Page:
        at = _Place.parse(after)
        left = [each for each in self._segments(exec_id) if each[:2] >= at[:2]]
        if not left:
            gone = after is None and "" < exec_id <= self._dropped_up_to()
            return Page([note(0, _ALL_DROPPED)] if gone else [], after, False)
        segment, *later = left
        if segment[:2] != at[:2] or at.offset > segment.size:
            at = _Place(segment.epoch, segment.number, 0, at.reached)
        elif later and at.offset == segment.size:
            segment, *later = later
            at = _Place(segment.epoch, segment.number, 0, at.reached)
        data = _bytes_of(segment.path, at.offset)
        end = data.rfind(b"\n") + 1
        chunks, missing = _decoded(data[:end], at)
        if later if len(data) < _PAGE_BYTES else not end:
            end = len(data)  # a torn line, which nobody will finish
        at = _Place(at.epoch, at.number, at.offset + end, at.reached + missing + end)
        return Page(chunks, str(at), bool(later) or len(data) == _PAGE_BYTES)


_ALL_DROPPED = (
    "if there was a log, it was removed, to keep the logs of all executions within their bound "
    "(max_log_folder_bytes)"
)


class _Place(NamedTuple):
    """Where a reader stands: in which file, at which byte, and how many bytes came before."""

    epoch: int
    number: int
    offset: int
    reached: int

    def __str__(self) -> str:
        return "-".join(map(repr, self))

    @classmethod
    def parse(cls, text: str | None) -> _Place:
        if text is None:
            return cls(0, 0, 0, 0)
        epoch, number, offset, reached = map(int, text.split("-"))
        return cls(epoch, number, offset, reached)


def _bytes_of(path: str, offset: int) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(path, flags), "rb", buffering=0) as file:
            file.seek(offset)
            data = bytearray()
            while len(data) < _PAGE_BYTES and (more := file.read(_PAGE_BYTES - len(data))):
                data += more
            return bytes(data)
    except FileNotFoundError:
        return b""  # removed meanwhile


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


# --- lines -----------------------------------------------------------------------------------


def _header(before: int) -> bytes:
    return b'{"kitaru_log":1,"before":%d}\n' % before


def _said_before(line: bytes) -> int | None:
    """What a file's first line says came before it."""
    try:
        before = json.loads(line)["before"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return before if type(before) is int else None


def _before(path: str) -> int:
    try:
        return _said_before(_bytes_of(path, 0).partition(b"\n")[0]) or 0
    except OSError:
        return 0


def encode_line(chunk: Chunk) -> bytes:
    """One line of a log, ASCII only."""
    parts = {name: part for name, part in zip(Chunk._fields, chunk, strict=True) if part}
    return _encode(parts).encode("ascii") + b"\n"


_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def _decoded(data: bytes, at: _Place) -> tuple[list[Chunk], int]:
    """The chunks in these lines, and how many bytes are missing before them."""
    chunks: list[Chunk] = []
    lines = data.split(b"\n")
    missing = 0
    if at.offset == 0 and (before := _said_before(lines[0])) is not None:
        del lines[0]
        missing = max(0, before - at.reached)
        if missing:
            chunks.append(note(0, said_dropped(missing)))
    for line in lines:
        if line:
            chunks.append(decode_line(line))
    return chunks, missing


def decode_line(line: bytes) -> Chunk:
    """What the line says, or that it says nothing."""
    return _chunk(line) or note(0, "a line of this log is damaged: left out")


def said_dropped(count: int) -> str:
    return (
        f"{count:,} bytes of the log were dropped here, to keep that of one execution within its "
        "bound (max_log_bytes)"
    )


_KINDS: dict[str, type] = {
    "at": int,
    "attempt": int,
    "lineno": int,
    "offsets": list,
}
"""What stands in a line's members; the others are texts."""


def _is_time(number: object) -> bool:
    """Whether it is a whole number of microseconds within the years of a calendar."""
    return type(number) is int and abs(number) < 1 << 57


def _chunk(line: bytes) -> Chunk | None:
    """What the line says; None if it is none of ours, whoever wrote it."""
    try:
        parts = json.loads(line)
        known = {name: parts[name] for name in Chunk._fields if name in parts}
        offsets = known.get("offsets", [])
        if any(type(part) is not _KINDS.get(name, str) for name, part in known.items()):
            return None
        if not all(_is_time(number) for number in (known.get("at", 0), *offsets)):
            return None
        return Chunk(**{"at": 0, "text": "", **known})
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
