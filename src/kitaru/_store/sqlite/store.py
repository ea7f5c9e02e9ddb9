"""The store in a folder: one SQLite file, blobs beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import apsw

from kitaru._store import blobs as blobs_module
from kitaru._store import commit
from kitaru._store.blobs import Blobs
from kitaru._store.migrations import Migration, load_migrations
from kitaru._store.queries import Queries
from kitaru._store.sql import SqlStore
from kitaru._store.sqlite import backup, migrate
from kitaru._store.sqlite.backup import BackedUp, Backup
from kitaru._store.sqlite.database import Database, _refuse_inherited, check_library
from kitaru._store.sqlite.migrate import Meta, prepare
from kitaru.env import Env

CRASH_POINTS: tuple[str, ...] = (
    *commit.CRASH_POINTS,
    *blobs_module.CRASH_POINTS,
    *migrate.CRASH_POINTS,
    *backup.CRASH_POINTS,
)
"""Every place at which a test may end a process inside this store."""

_HERE = os.path.dirname(__file__)


class SqliteStore(SqlStore):
    """A :class:`kitaru._store.protocol.Store` in a folder of this machine."""

    def __init__(self, folder: str, database: Database, meta: Meta, queries: Queries, env: Env):
        super().__init__(
            writer=database,
            read=database.read,
            changes=database.data_version,
            check_use=database.check_use,
            queries=queries,
            blobs=(files := Blobs(os.path.join(folder, "blobs"), env)),
            env=env,
            project=meta.project,
        )
        self.folder = folder
        self._files = files
        self._database = database
        self._env = env
        self._meta = meta

    @classmethod
    def open(
        cls,
        folder: str,
        *,
        env: Env,
        project: str | None,
        root: str | None = None,
        migrations: Sequence[Migration] | None = None,
    ) -> SqliteStore:
        """Open the store in ``folder``, which exists; make it or upgrade it if need be.

        ``project`` is recorded when the store is made (None: the name of the
        folder above it) and ignored later: ``store.project`` says what counts.
        So is ``root``, the folder of the project that it is made for.
        Raises ``KitaruBackendError`` if something else stands there, if a newer
        Kitaru made it, if it is damaged, or in a fork of a process that has it
        open.
        """
        check_library(apsw.sqlite_lib_version())
        folder = os.path.abspath(folder)
        path = os.path.join(folder, "kitaru.db")
        _refuse_inherited(path)
        queries = Queries(os.path.join(_HERE, "queries"))
        meta = prepare(
            path,
            env=env,
            project=project or os.path.basename(os.path.dirname(folder)) or "default",
            root=root,
            queries=queries,
            migrations=migrations or load_migrations(os.path.join(_HERE, "migrations")),
        )
        return cls(folder, Database(path, env.now), meta, queries, env)

    def info(self) -> dict[str, Any]:
        """Where the store is, its schema version, size in bytes, project, SQLite version."""
        size = 0
        for suffix in ("", "-wal"):
            try:
                size += os.stat(self._database.path + suffix).st_size
            except FileNotFoundError:
                continue
        return {
            "backend": "sqlite",
            "location": self.folder,
            "schema_version": self._meta.schema_version,
            "store_id": self._meta.store_id,
            "project": self._meta.project,
            "root": self._meta.root,
            "created_at": self._meta.created_at,
            "bytes": size,
            "upgraded_from": self._meta.upgraded_from,
            "backup": self._meta.backup,
            "sqlite_version": apsw.sqlite_lib_version(),
        }

    def examine(self, *, seconds: float | None) -> dict[str, Any]:
        """The settings that durability hangs on, read back, and SQLite's quick check."""
        problems, complete = self._database.check_integrity(seconds)
        ask = self._database.read
        return {
            "journal_mode": ask("pragma journal_mode", ())[0][0],
            "synchronous": ask("pragma synchronous", ())[0][0],
            "problems": problems,
            "complete": complete,
            "library": f"apsw {apsw.apsw_version()}",
        }

    def back_up(self, target: str, progress: Callable[[str], None] = lambda _: None) -> BackedUp:
        """Copy the store to a folder that is not there yet, while it is in use, and read it back.

        The folder is a store: name it as one, or put it in the place of this one.
        """
        self._check_use()
        return Backup(
            self._database.path,
            self._files,
            self._queries,
            self._env,
            target=target,
            progress=progress,
        ).make()

    def close(self) -> None:
        """Commit what is queued and let go of the file; a second close does nothing."""
        if not self._database.is_usable():
            return
        try:
            self.flush(wait=True)
        finally:
            self._database.close()
