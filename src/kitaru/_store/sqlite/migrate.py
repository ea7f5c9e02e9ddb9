"""Make a store, recognise one, and bring an older one up to date.

A new database is made whole under another name and linked to its place, so
that what stands there is a Kitaru store or not ours. Each migration is one
transaction with its version; before the first one the database is copied to
``backups/`` by SQLite's own backup. A kill anywhere leaves a usable store.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from kitaru._store.migrations import Migration
from kitaru._store.queries import Queries
from kitaru._store.sqlite.backup import copy_database
from kitaru._store.sqlite.database import (
    APPLICATION_ID,
    PAGE_BYTES,
    READER_CACHE_KIB,
    configure,
    connect,
)
from kitaru._store.sqlite.errors import backend_error, foreign
from kitaru._store.syncing import sync_folder
from kitaru.env import Env
from kitaru.errors import KitaruBackendError

CRASH_POINTS: tuple[str, ...] = (
    "store_made",
    "store_linked",
    "backup_written",
    "before_migration",
    "before_migration_commit",
    "after_migration",
)


class Meta(NamedTuple):
    schema_version: int
    store_id: str
    project: str
    created_at: int
    root: str | None = None
    """The project that it was made for; unknown in a store made before schema 2."""
    upgraded_from: int | None = None
    """The schema that it had when this process opened it, if that was an older one."""
    backup: str | None = None
    """The copy of the database that was made before."""


def prepare(
    path: str,
    *,
    env: Env,
    project: str,
    root: str | None,
    queries: Queries,
    migrations: Sequence[Migration],
) -> Meta:
    """See to it that a store of today's schema stands at ``path``.

    Raises ``KitaruBackendError`` if something else stands there, or a store
    that a newer Kitaru made.
    """
    try:
        if not _exists(path):
            _make(path, env, project, root, queries, migrations)
        connection = connect(path, cache_kib=READER_CACHE_KIB)
        try:
            return _bring_up_to_date(connection, path, env, queries, migrations)
        finally:
            connection.close()
    except apsw.Error as error:
        raise backend_error(error, path, "Nothing was changed") from error
    except OSError as error:
        raise KitaruBackendError(
            f"the store {path} cannot be opened: {error.strerror or error}. Check that the folder "
            "belongs to you and that the disk has room",
            code="store-may-not-be-used",
        ) from error


def _exists(path: str) -> bool:
    # By stat alone: opening the file here could drop the locks that this
    # process holds on it.
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if stat.S_ISLNK(found.st_mode):
        # SQLite would keep the log beside the file that it leads to, where nobody looks for it.
        raise foreign(path, "it is a link (to keep a store elsewhere, link its whole folder)")
    if not stat.S_ISREG(found.st_mode):
        raise foreign(path, "it is not a file")
    if found.st_size == 0:
        raise foreign(path, "it is empty")
    return True


def _make(
    path: str,
    env: Env,
    project: str,
    root: str | None,
    queries: Queries,
    migrations: Sequence[Migration],
) -> None:
    temporary = f"{path}.{env.random_bytes(8).hex()}.new"
    os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        connection = apsw.Connection(temporary, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.pragma("page_size", PAGE_BYTES)
            connection.pragma("application_id", APPLICATION_ID)
            configure(connection, temporary, READER_CACHE_KIB)
            first, *later = migrations
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(first.sql)
            connection.execute(
                queries.create_meta, (env.random_bytes(16).hex(), project, env.now())
            )
            connection.execute(queries.set_schema_version, (first.version,))
            connection.execute("COMMIT")
            for migration in later:
                _migrate(connection, migration, env, queries)
            connection.execute(queries.set_root, (root,))
        finally:
            connection.close()
        env.crash_point("store_made")
        # Unlike a rename, a link never replaces what another process has just made.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        sync_folder(os.path.dirname(path))
        env.crash_point("store_linked")
    finally:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(temporary + suffix)


def _bring_up_to_date(
    connection: apsw.Connection,
    path: str,
    env: Env,
    queries: Queries,
    migrations: Sequence[Migration],
) -> Meta:
    meta = _read_meta(connection, path, queries)
    newest = migrations[-1].version
    if meta.schema_version > newest:
        raise KitaruBackendError(
            f"the store {path} has schema {meta.schema_version}, made by a newer Kitaru; this one "
            f"knows schemas up to {newest}. Upgrade Kitaru, or choose another folder "
            "(KITARU_STORE)",
            code="store-of-later-release",
        )
    if meta.schema_version < 1:
        raise foreign(path, f"it says that its schema is {meta.schema_version}")
    _refuse_truncated(connection, path)
    before = meta
    made: str | None = None
    if meta.schema_version < newest:
        made = _back_up(connection, path, meta, env)
        for migration in migrations:
            _migrate(connection, migration, env, queries)
    rows: list[Any] = connection.execute(queries.read_root).fetchall()
    meta = _read_meta(connection, path, queries)._replace(root=rows[0][0])
    if made is None:
        return meta
    return meta._replace(upgraded_from=before.schema_version, backup=made)


def _read_meta(connection: apsw.Connection, path: str, queries: Queries) -> Meta:
    try:
        found: list[Any] = connection.execute(queries.read_meta).fetchall()
    except apsw.SQLError:
        found = []
    if not found:
        raise foreign(path, "its table `meta` is missing")
    return Meta(*found[0])


def _refuse_truncated(connection: apsw.Connection, path: str) -> None:
    """With an empty log the file must be as long as its header says."""

    def log_is_empty() -> bool:
        try:
            return os.stat(path + "-wal").st_size == 0
        except FileNotFoundError:
            return True

    if log_is_empty():
        pages, size = connection.pragma("page_count"), connection.pragma("page_size")
        if os.stat(path).st_size < pages * size and log_is_empty():
            raise KitaruBackendError(
                f"the store {path} is damaged: the file is shorter than it says. Keep a copy of "
                "the whole folder, then put back the newest file from its folder `backups`, or "
                "move the folder away to begin anew",
                code="store-damaged",
            )


def _back_up(connection: apsw.Connection, path: str, meta: Meta, env: Env) -> str:
    folder = os.path.join(os.path.dirname(path), "backups")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    name = f"kitaru-schema{meta.schema_version}-{env.now()}-{env.random_bytes(4).hex()}.db"
    final = os.path.join(folder, name)
    temporary = final + ".tmp"
    copy_database(connection, temporary)
    os.rename(temporary, final)
    sync_folder(folder)
    env.crash_point("backup_written")
    return final


def _migrate(connection: apsw.Connection, migration: Migration, env: Env, queries: Queries) -> None:
    env.crash_point("before_migration")
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again under the lock: another process may have been quicker.
        version = _version(connection, queries)
        if version < migration.version:
            connection.execute(migration.sql)
            connection.execute(queries.set_schema_version, (migration.version,))
            env.crash_point("before_migration_commit")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    env.crash_point("after_migration")


def _version(connection: apsw.Connection, queries: Queries) -> int:
    rows: list[Any] = connection.execute(queries.read_meta).fetchall()
    return Meta(*rows[0]).schema_version
