"""Large payloads as files: compressed, named by their digest, never changed.

A blob is on the disk, whole, before the transaction that names it begins: a
temporary file, its fsync, a rename, the folder's fsync. So a crash leaves at
worst a file that no row names. This file knows nothing of rows.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import zlib
from collections.abc import Iterator
from hashlib import blake2b
from typing import NoReturn, Protocol

from kitaru._core.limits import READABLE
from kitaru._core.payload import Payload
from kitaru._store.syncing import sync, sync_folder
from kitaru.env import Env
from kitaru.errors import KitaruBackendError

INLINE_BYTES = 32 * 1024
"""Payloads up to this size stand in their row (DESIGN.md, section 5)."""

CRASH_POINTS: tuple[str, ...] = ("blob_written", "blob_synced", "blob_renamed", "blob_dropped")

_COMPRESSION_LEVEL = 1  # A third of the time of level 6 for about nine tenths of the gain.
_SAMPLE_BYTES = 16 * 1024
_SAMPLES = 4
_WORTH = 0.9
"""Data that does not shrink to this is written as it is: images and random numbers."""


_NAME = re.compile(r"[0-9a-f]{64}")


class BlobStore(Protocol):
    """Where large payloads are, by their digests. What is kept never changes."""

    def path(self, digest: bytes) -> str:
        """Where one is, for people."""
        ...

    def keep(self, payload: Payload) -> None:
        """Make sure that it is there, whole and durable, before a row names it."""
        ...

    def find(self, digest: bytes) -> bytes | None:
        """The bytes, if they are there and are those that the digest names."""
        ...

    def is_there(self, digest: bytes) -> bool:
        """Asked inside the transaction that names it: it stays until that ends."""
        ...

    def drop(self, digest: bytes) -> None:
        """Remove it; only inside a transaction that has seen that no row names it."""
        ...

    def list_files(self, *, before: int) -> Iterator[tuple[bytes, int]]:
        """(digest, bytes taken) of every one that is older than that instant."""
        ...

    def drop_leftovers(self, *, before: int) -> int:
        """Remove what somebody died writing -> how many."""
        ...


class Blobs:
    """Files in a folder. See the module."""

    def __init__(self, folder: str, env: Env) -> None:
        self._folder = folder
        self._env = env
        self._synced: set[str] = set()
        """Folders whose names this process has made durable, whoever made them."""

    def path(self, digest: bytes) -> str:
        name = digest.hex()
        return os.path.join(self._folder, name[:2], name[2:])

    def keep(self, payload: Payload) -> None:
        """Make sure that the payload's file is on the disk, whole and durable.

        Raises ``KitaruBackendError`` if the disk is full or cannot be written.
        """
        path = self.path(payload.digest)
        try:
            if self.find(payload.digest) is None:
                self._write(path, compressed(payload.data))
            # Also for a file that stood there: who renamed it may not have come
            # to this line yet.
            folder = os.path.dirname(path)
            sync_folder(folder)
            if folder not in self._synced:
                sync_folder(self._folder)
                sync_folder(os.path.dirname(self._folder))
                self._synced.add(folder)
        except OSError as error:
            _refuse(error, path)

    def find(self, digest: bytes) -> bytes | None:
        """The bytes, if they are there and are those that the digest names."""
        try:
            with open(self.path(digest), "rb") as file:
                data = unpacked(file.read())
        except OSError:
            return None
        return (
            data if data is not None and blake2b(data, digest_size=32).digest() == digest else None
        )

    def is_there(self, digest: bytes) -> bool:
        return os.path.exists(self.path(digest))

    def drop(self, digest: bytes) -> None:
        """Remove the file; only inside a transaction that has seen that no row names it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(digest))
        self._env.crash_point("blob_dropped")

    def list_files(self, *, before: int) -> Iterator[tuple[bytes, int]]:
        """(digest, bytes on the disk) of every blob that is older than that instant."""
        for entry, changed_at in self._entries():
            name = os.path.basename(os.path.dirname(entry.path)) + entry.name
            if _NAME.fullmatch(name) and changed_at < before:
                yield bytes.fromhex(name), entry.stat(follow_symlinks=False).st_size

    def drop_leftovers(self, *, before: int) -> int:
        """Remove files that somebody died writing -> how many."""
        left = [
            entry.path
            for entry, changed_at in self._entries()
            if entry.name.startswith(".") and entry.name.endswith(".tmp") and changed_at < before
        ]
        for path in left:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        return len(left)

    def _entries(self) -> Iterator[tuple[os.DirEntry[str], int]]:
        """Every file in the folders of blobs, with the instant of its last change."""
        for shard in _scan(self._folder):
            if shard.is_dir(follow_symlinks=False):
                for entry in _scan(shard.path):
                    with contextlib.suppress(FileNotFoundError):
                        yield entry, entry.stat(follow_symlinks=False).st_mtime_ns // 1000

    def _write(self, path: str, data: bytes) -> None:
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        temporary = os.path.join(folder, f".{self._env.random_bytes(12).hex()}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(temporary, flags, 0o600)
        try:
            with open(handle, "wb") as file:
                file.write(data)
                file.flush()
                self._env.crash_point("blob_written")
                sync(handle)
            self._env.crash_point("blob_synced")
            os.rename(temporary, path)
            self._env.crash_point("blob_renamed")
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def compressed(data: bytes) -> bytes:
    """The data as a zlib stream, which is no smaller where trying takes longer than it saves."""
    if len(data) > _SAMPLES * _SAMPLE_BYTES:
        starts = range(0, len(data) - _SAMPLE_BYTES, len(data) // _SAMPLES)
        sample = b"".join([data[start : start + _SAMPLE_BYTES] for start in starts])
        if len(zlib.compress(sample, _COMPRESSION_LEVEL)) > _WORTH * len(sample):
            return zlib.compress(data, 0)
    return zlib.compress(data, _COMPRESSION_LEVEL)


def unpacked(data: bytes) -> bytes | None:
    """What was compressed, up to one byte more than a value may have; None if it is damaged."""
    try:
        return zlib.decompressobj().decompress(data, READABLE.max_payload_bytes + 1)
    except zlib.error:
        return None


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _refuse(error: OSError, path: str) -> NoReturn:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        code, remedy = "disk-full", "the disk is full: free some space and run again"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        code = "store-may-not-be-used"
        remedy = "it may not be written: check who owns the folder and how it is mounted"
    else:
        code, remedy = "disk-failed", "check the disk, then run again"
    raise KitaruBackendError(
        f"a large value could not be written to {path}: {error.strerror or error}; {remedy}. "
        "Nothing of this write was recorded",
        code=code,
    ) from error
