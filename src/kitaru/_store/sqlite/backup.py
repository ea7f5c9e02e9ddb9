"""A copy of a store that is in use: its database as it is at one instant, and its large values.

SQLite copies from a snapshot that is held for as long as it takes, so writers go on and
the copy is whole. Values are copied before the database and, those that came since, after
it: rows name files, files name nothing. The copy is made under another name, read back,
and only then given its own; a kill leaves a folder that says it is partial.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import apsw

from kitaru._store.blobs import Blobs
from kitaru._store.queries import Queries
from kitaru._store.sqlite.database import READER_CACHE_KIB, connect
from kitaru._store.sqlite.errors import backend_error
from kitaru._store.syncing import sync, sync_folder
from kitaru.env import Env
from kitaru.errors import KitaruBackendError, KitaruUsageError

CRASH_POINTS: tuple[str, ...] = (
    "copy_begun",
    "value_copied",
    "database_copied",
    "copy_verified",
    "copy_in_place",
)

PAGES_A_STEP = 2_000
"""Some 8 MB: progress is said, and Ctrl-C heard, between two of them."""


class BackedUp(NamedTuple):
    folder: str
    bytes: int
    values: int
    damaged: tuple[str, ...]
    """Digests of large values that were lost or damaged in the store already."""


def copy_database(
    connection: apsw.Connection, path: str, progress: Callable[[str], None] = lambda _: None
) -> None:
    """Copy the database to a new file, as it is now, whoever goes on writing."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    copy = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    connection.execute("BEGIN")
    try:
        # A read pins the snapshot: without it the copy begins anew after every commit of others.
        connection.execute("select 1 from sqlite_schema").fetchall()
        copy.pragma("synchronous", 2)
        with copy.backup("main", connection, "main") as backup:
            while not backup.done:
                backup.step(PAGES_A_STEP)
                total = max(1, backup.page_count)
                progress(f"database: {100 * (total - backup.remaining) // total} %")
        # The copy stands alone: no log beside it.
        copy.pragma("journal_mode", "delete")
    finally:
        connection.execute("ROLLBACK")
        copy.close()


class Backup:
    """One backup on its way, into a folder that is not there yet."""

    def __init__(
        self,
        path: str,
        blobs: Blobs,
        queries: Queries,
        env: Env,
        *,
        target: str,
        progress: Callable[[str], None],
    ) -> None:
        self._path = path
        self._blobs = blobs
        self._queries = queries
        self._env = env
        self._target = os.path.abspath(target)
        self._partial = f"{self._target}.{env.random_bytes(4).hex()}.partial"
        self._copies = Blobs(os.path.join(self._partial, "blobs"), env)
        self._progress = progress
        self._copied: set[bytes] = set()

    def make(self) -> BackedUp:
        if os.path.lexists(self._target):
            raise KitaruUsageError(
                f"{self._target!r} is there already: name a folder that is not, and the backup "
                "is made in it",
                code="option-invalid",
            )
        try:
            return self._make()
        except apsw.Error as error:
            raise backend_error(error, self._path, "The store is as it was") from error
        except OSError as error:
            raise KitaruBackendError(
                f"the backup cannot be written to {self._partial}: {error.strerror or error}. "
                "Check the disk, or name another folder; the store is as it was",
                code="disk-failed",
            ) from error

    def _make(self) -> BackedUp:
        os.makedirs(os.path.dirname(self._target), exist_ok=True)
        os.mkdir(self._partial, 0o700)
        self._env.crash_point("copy_begun")
        self._copy_values(digest for digest, _ in self._blobs.list_files(before=1 << 62))
        copied_to = os.path.join(self._partial, "kitaru.db")
        connection = connect(self._path, cache_kib=READER_CACHE_KIB)
        try:
            copy_database(connection, copied_to, self._progress)
        finally:
            connection.close()
        self._env.crash_point("database_copied")
        # What is still lacking was lost or damaged in the store itself.
        damaged = self._copy_values(self._verified_names(copied_to))
        sync_folder(self._partial)
        self._env.crash_point("copy_verified")
        os.rename(self._partial, self._target)
        sync_folder(os.path.dirname(self._target))
        self._env.crash_point("copy_in_place")
        size = sum(
            os.lstat(os.path.join(at, name)).st_size
            for at, _, names in os.walk(self._target)
            for name in names
        )
        lacking = tuple(sorted(digest.hex() for digest in damaged))
        return BackedUp(self._target, size, len(self._copied), lacking)

    def _verified_names(self, path: str) -> list[bytes]:
        """Read the copy back -> the large values that it names."""
        copy = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            found = [str(row[0]) for row in copy.execute("pragma integrity_check(10)")]
            if found != ["ok"]:
                raise KitaruBackendError(
                    f"the backup is not what was written ({found[0]}): {self._partial} is not to "
                    "be used. See `kitaru doctor` whether the store is damaged; else check the "
                    "disk, and make another backup",
                    code="store-damaged",
                )
            return [row[0] for row in copy.execute(self._queries.list_named_blobs)]
        finally:
            copy.close()

    def _copy_values(self, digests: Iterable[bytes]) -> list[bytes]:
        """Copy those that are not copied yet -> those that cannot be."""
        left = []
        for digest in digests:
            if digest in self._copied:
                continue
            if self._copy_value(digest):
                self._copied.add(digest)
                self._progress(f"large values: {len(self._copied):,}")
                self._env.crash_point("value_copied")
            else:
                left.append(digest)
        return left

    def _copy_value(self, digest: bytes) -> bool:
        """As it stands, compressed, if it is what it is called; read back from the copy."""
        if self._blobs.find(digest) is None:
            return False
        try:
            with open(self._blobs.path(digest), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return False  # a housekeeper was quicker
        path = self._copies.path(digest)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            sync(handle)
        return self._copies.find(digest) is not None
