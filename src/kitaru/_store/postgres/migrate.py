"""Make a store in a database, recognise one, and bring an older one up to date.

Each migration is one transaction with its version, under a lock that is tried for and not
waited for without end: many workers start at once after a deploy, and one of them migrates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import psycopg

from kitaru._store.migrations import Migration
from kitaru._store.postgres.database import Connection, Database, literal
from kitaru._store.queries import Queries
from kitaru.env import Env
from kitaru.errors import KitaruBackendError

CRASH_POINTS: tuple[str, ...] = (
    "before_migration",
    "before_migration_commit",
    "after_migration",
)

_LOCK = 0x4B697461  # "Kita"


class Meta(NamedTuple):
    schema_version: int
    store_id: str
    generation: int
    created_at: int


def prepare(
    database: Database, *, env: Env, queries: Queries, migrations: Sequence[Migration]
) -> Meta:
    """See to it that a store of today's schema stands there -> what it says of itself."""
    with database.reader() as connection:
        meta = _find_meta(connection, queries)
        newest = migrations[-1].version
        if meta is None or meta.schema_version < newest:
            for migration in migrations:
                _migrate(connection, migration, env, queries)
            meta = _find_meta(connection, queries)
        assert meta is not None
        if meta.schema_version > newest:
            raise KitaruBackendError(
                f"the store {database.place} has schema {meta.schema_version}, made by a newer "
                f"Kitaru; this one knows schemas up to {newest}. Upgrade Kitaru, or choose another "
                "database (KITARU_STORE)",
                code="store-of-later-release",
            )
        return meta


def find_meta(database: Database, queries: Queries) -> Meta | None:
    """What the store in that database says of itself; None: there is none yet."""
    with database.reader() as connection:
        return _find_meta(connection, queries)


def _find_meta(connection: Connection, queries: Queries) -> Meta | None:
    there = connection.execute("select to_regclass('kitaru.meta') is not null").fetchall()
    if not there[0][0]:
        return None
    found = connection.execute(literal(queries.read_meta)).fetchall()
    return Meta(*found[0]) if found else None


def _migrate(connection: Connection, migration: Migration, env: Env, queries: Queries) -> None:
    env.crash_point("before_migration")
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock($1::int8)", (_LOCK,))
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


def _has_schema(connection: Connection) -> bool:
    """An administrator may have made it for a role that may make none."""
    found = connection.execute("select to_regnamespace('kitaru') is not null").fetchall()
    return bool(found[0][0])


def _run_script(connection: Connection, sql: str) -> None:
    """Several statements at once: without parameters, as the simple protocol takes them."""
    with psycopg.ClientCursor(connection) as cursor:
        cursor.execute(sql.encode())
