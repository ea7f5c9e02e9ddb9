"""Make a store in a database, recognise one, and bring an older one up to date.

Each migration is one transaction with its version, under a lock that is tried for and not
waited for without end: many workers start at once after a deploy, and one of them migrates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import psycopg
from psycopg import errors as pg

from kitaru._store.migrations import Migration
from kitaru._store.postgres.connection import Connection, literal
from kitaru._store.postgres.database import Database
from kitaru._store.postgres.errors import backend_error, text_of
from kitaru._store.queries import Queries
from kitaru.env import Env
from kitaru.errors import KitaruBackendError

CRASH_POINTS: tuple[str, ...] = (
    "before_migration",
    "before_migration_commit",
    "after_migration",
)

_LOCK = 0x4B697461  # "Kita"

TRIES, PAUSE_SECONDS = 600, 0.2
"""How often, and how long after one another, the lock is tried for."""

_SETTINGS = (
    # What is read under the lock has to be what the one before has committed.
    "set transaction isolation level read committed",
    # A change of a table that waits for somebody's transaction makes everybody wait who comes
    # after it: so it waits a moment only, and is tried again.
    "set local lock_timeout = '2s'",
    # Building an index may take longer than a role's statements may.
    "set local statement_timeout = 0",
    "set local idle_in_transaction_session_timeout = 0",
)


class Meta(NamedTuple):
    schema_version: int
    store_id: str
    generation: int
    created_at: int
    upgraded_from: int | None = None
    """The schema that it had when this process opened it, if that was an older one."""


def prepare(
    database: Database, *, env: Env, queries: Queries, migrations: Sequence[Migration]
) -> Meta:
    """See to it that a store of today's schema stands there -> what it says of itself."""

    def prepared(connection: Connection) -> Meta:
        meta = _find_meta(connection, queries)
        newest = migrations[-1].version
        if meta is None or meta.schema_version < newest:
            before = meta
            # Building an index takes as long as it takes.
            bound, connection.answer_seconds = connection.answer_seconds, None
            try:
                _bring_up_to_date(connection, database.place, env, queries, migrations)
            except pg.InsufficientPrivilege as error:
                raise _not_ours(error, database.place, before, newest) from error
            finally:
                connection.answer_seconds = bound
            meta = _find_meta(connection, queries)
            assert meta is not None
            if before is not None:
                meta = meta._replace(upgraded_from=before.schema_version)
        if meta.schema_version > newest:
            raise KitaruBackendError(
                f"the store {database.place} has schema {meta.schema_version}, made by a newer "
                f"Kitaru; this one knows schemas up to {newest}. Upgrade Kitaru, or choose another "
                "database (KITARU_STORE)",
                code="store-of-later-release",
            )
        return meta

    return database.ask_beside(prepared)


def find_meta(database: Database, queries: Queries) -> Meta | None:
    """What the store in that database says of itself; None: there is none yet."""
    return database.ask_beside(lambda connection: _find_meta(connection, queries))


def _find_meta(connection: Connection, queries: Queries) -> Meta | None:
    there = connection.ask("select to_regclass('kitaru.meta') is not null").rows
    if not there[0][0]:
        return None
    found = connection.ask(queries.read_meta).rows
    return Meta(*found[0]) if found else None


def _bring_up_to_date(
    connection: Connection, place: str, env: Env, queries: Queries, migrations: Sequence[Migration]
) -> None:
    refused: psycopg.Error | None = None
    for _ in range(TRIES):
        try:
            if all(_migrate(connection, each, env, queries) for each in migrations):
                return
        except (pg.LockNotAvailable, pg.DeadlockDetected) as error:
            refused = error
        connection.ask("select pg_sleep($1::float8)", (PAUSE_SECONDS,))
    if refused is not None:
        raise backend_error(refused, place, "The store is as it was") from refused
    raise KitaruBackendError(
        f"the store {place} is being brought up to date by another process, which is not done "
        f"after {round(TRIES * PAUSE_SECONDS)} s: look for it in pg_stat_activity, let it end or "
        "end it (nothing is lost), then run again",
        code="store-locked",
    )


def _migrate(connection: Connection, migration: Migration, env: Env, queries: Queries) -> bool:
    """See to it that this migration was made; False: another process is at it."""
    env.crash_point("before_migration")
    with connection.transaction():
        for setting in _SETTINGS:
            connection.execute(literal(setting))
        ((is_ours,),) = connection.execute("select pg_try_advisory_xact_lock($1::int8)", (_LOCK,))
        if not is_ours:
            return False
        # Asked again under the lock: another process may have been quicker.
        meta = _find_meta(connection, queries)
        if meta is None and not _has_schema(connection):
            connection.execute("create schema kitaru")
        if meta is None or meta.schema_version < migration.version:
            _run_script(connection, migration.sql)
            if meta is None:
                values = (env.random_bytes(16).hex(), env.now())
                connection.execute(literal(queries.create_meta), (migration.version, *values))
            else:
                connection.execute(literal(queries.set_schema_version), (migration.version,))
            env.crash_point("before_migration_commit")
    env.crash_point("after_migration")
    return True


def _not_ours(
    error: psycopg.Error, place: str, before: Meta | None, newest: int
) -> KitaruBackendError:
    """Whoever works with the tables need not be the role that owns them."""
    stands, doing = "has no tables of Kitaru's yet", "make them"
    if before is not None:
        stands = f"has schema {before.schema_version}, and this Kitaru needs {newest}"
        doing = "change its tables"
    return KitaruBackendError(
        f"the store {place} {stands}; this role may not {doing} ({text_of(error)}): let the role "
        "that owns the schema `kitaru` run `kitaru store migrate` once. Nothing was changed",
        code="store-may-not-be-used",
    )


def _has_schema(connection: Connection) -> bool:
    """An administrator may have made it for a role that may make none."""
    found = connection.execute("select to_regnamespace('kitaru') is not null").fetchall()
    return bool(found[0][0])


def _run_script(connection: Connection, sql: str) -> None:
    """Several statements at once: without parameters, as the simple protocol takes them."""
    with psycopg.ClientCursor(connection) as cursor:
        cursor.execute(sql.encode())
