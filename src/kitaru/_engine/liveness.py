"""Who is alive: on one host, whoever holds the operating system's lock on its own file.

A process that may own executions holds ``flock`` on a file of a fresh random
name from before anybody learns that name until it dies; the kernel lets go
when it does, however it does. Knows nothing of executions or of the store:
who is declared dead, and when, is not decided here. Asking is cheap and
writes nothing, and an idle process does nothing at all to stay alive.

``flock`` and not POSIX ``lockf``: the latter is lost when its owner opens and
closes the file anywhere. The price is that a forked child inherits it, so
children close their copy before any code of theirs runs. A child that is
forked by C code without Python's knowledge, and then does not ``exec``, keeps
its parent alive in our eyes until it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
from typing import Protocol

from kitaru.env import Env, SystemEnv
from kitaru.errors import KitaruBackendError

_NAME_BYTES = 16
_NAME = re.compile(r"[0-9a-f]{32}")

# Every lock until it is released, whether or not anybody still refers to it.
_held: set[OwnerLock] = set()
# Taken while a descriptor exists that _held does not list yet: a thread that
# forks in between would give the child a copy that nobody closes there.
_opening = threading.RLock()


class OwnerLock:
    """The lock of this process: alive for as long as somebody else finds it taken."""

    def __init__(self, folder: str, name: str, descriptor: int) -> None:
        self.name = name
        self._path = _path(folder, name)
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self._file = (status.st_dev, status.st_ino)

    @classmethod
    def create(cls, folder: str, *, env: Env | None = None) -> OwnerLock:
        """Take a lock of a fresh name under ``<folder>/owners/``.

        It is taken when this returns, so the name may be told. Raises
        ``KitaruBackendError`` if the file cannot be made or locked.
        """
        name = (env or SystemEnv()).random_bytes(_NAME_BYTES).hex()
        with _opening:
            lock = cls(folder, name, _open_locked(folder, name))
            _held.add(lock)
        return lock

    def is_held(self) -> bool:
        """Whether this process still holds it: user code may close descriptors, or fork.

        False also when the file was removed, because then we were declared dead.
        """
        status = self._status()
        return status is not None and status.st_nlink > 0

    def release(self) -> None:
        """Give the lock up and remove its file: for a clean exit, after the last write."""
        with _opening:
            # Removed first: between the two steps a missing file already means
            # dead, while a file without a lock would have to be probed.
            if self.is_held():
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
            self._close()
            _held.discard(self)

    def _status(self) -> os.stat_result | None:
        """Of our file, or None: closed, in a forked child, or the number means another file now."""
        if self._descriptor < 0:
            return None
        try:
            status = os.fstat(self._descriptor)
        except OSError:
            return None
        return status if (status.st_dev, status.st_ino) == self._file else None

    def _close(self) -> None:
        if self._status() is not None:
            os.close(self._descriptor)
        self._descriptor = -1


def _close_in_child() -> None:
    for lock in list(_held):
        lock._close()
    _held.clear()
    _opening.release()


os.register_at_fork(
    before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_close_in_child
)


def is_alive(folder: str, name: str, own: OwnerLock | None = None) -> bool:
    """Whether some process holds the lock of that name; a missing file means dead.

    ``own`` is known without opening its file. Two probers do not take each
    other for an owner (both lock shared). Raises ``KitaruBackendError`` when
    it cannot be known: no answer is never "dead".
    """
    if own is not None and own.name == name and own.is_held():
        return True
    if not _NAME.fullmatch(name):
        return False  # not a name that we give: no file of ours can bear it
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(_path(folder, name), flags)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unknowable(folder, name, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise _unknowable(folder, name, error) from error
    finally:
        os.close(descriptor)
    return False


def forget(folder: str, name: str) -> None:
    """Remove the file of an owner that the store has declared dead; for whoever declared it.

    What cannot be removed stays: it is one empty file, and the store has the last word.
    """
    if _NAME.fullmatch(name):
        with contextlib.suppress(OSError):
            os.unlink(_path(folder, name))


class Liveness(Protocol):
    """What the engine asks: am I, and is that one, alive?"""

    def register(self) -> str:
        """A fresh name under which this process is alive from now on."""
        ...

    def alive(self, lock_name: str) -> bool:
        """Whether the process of that name lives. Raises if that cannot be known."""
        ...

    def holds(self, lock_name: str) -> bool:
        """Whether the name is this very process's, and still is: cheap, before each write."""
        ...

    def forget(self, lock_name: str) -> None:
        """Clear away what a dead process left; only after the store declared it dead."""
        ...

    def release(self, lock_name: str) -> None:
        """Stop being alive under this name, at a clean exit."""
        ...


class LockFiles:
    """Liveness by lock files in a store's folder; a forked child registers anew."""

    def __init__(self, folder: str, *, env: Env | None = None) -> None:
        self._folder = folder
        self._env = env
        self._own: dict[str, OwnerLock] = {}

    def register(self) -> str:
        lock = OwnerLock.create(self._folder, env=self._env)
        self._own[lock.name] = lock
        return lock.name

    def alive(self, lock_name: str) -> bool:
        return is_alive(self._folder, lock_name, self._own.get(lock_name))

    def holds(self, lock_name: str) -> bool:
        own = self._own.get(lock_name)
        return own is not None and own.is_held()

    def forget(self, lock_name: str) -> None:
        if not self.holds(lock_name):
            forget(self._folder, lock_name)

    def release(self, lock_name: str) -> None:
        own = self._own.pop(lock_name, None)
        if own is not None:
            own.release()


class FakeLiveness:
    """Liveness in memory, shared by the simulated processes of one test.

    >>> world = FakeLiveness()
    >>> name = world.register()
    >>> world.kill(name)
    >>> world.alive(name)
    False
    """

    def __init__(self) -> None:
        self._living: set[str] = set()
        self._registered = 0

    def register(self) -> str:
        self._registered += 1
        name = f"{self._registered:032x}"
        self._living.add(name)
        return name

    def alive(self, lock_name: str) -> bool:
        return lock_name in self._living

    def holds(self, lock_name: str) -> bool:
        return lock_name in self._living

    def forget(self, lock_name: str) -> None:
        pass

    def release(self, lock_name: str) -> None:
        self._living.discard(lock_name)

    def kill(self, lock_name: str) -> None:
        """The process of that name dies at this instant."""
        self._living.discard(lock_name)


def _path(folder: str, name: str) -> str:
    return os.path.join(folder, "owners", name)


def _open_locked(folder: str, name: str) -> int:
    path = _path(folder, name)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.dirname(path), 0o700)
        # O_EXCL: a name is never used twice, so nobody's file is ever taken over.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            os.unlink(path)
            raise
    except OSError as error:
        raise KitaruBackendError(
            f"cannot make and lock {path!r} ({error.strerror}): check that the store's folder "
            "is writable and on a local disk, or choose another with KITARU_STORE",
            code="lock-unusable",
        ) from error
    return descriptor


def _unknowable(folder: str, name: str, error: OSError) -> KitaruBackendError:
    return KitaruBackendError(
        f"cannot tell whether the owner {name} is alive: {_path(folder, name)!r} cannot be "
        f"opened or probed ({error.strerror}); nothing was taken over: mend that and try again",
        code="lock-unusable",
    )
