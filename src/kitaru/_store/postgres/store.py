"""The store in a PostgreSQL database, for as many machines as reach it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psycopg

from kitaru._store import commit
from kitaru._store.carrying import Carrying
from kitaru._store.migrations import Migration, load_migrations
from kitaru._store.objects import Objects
from kitaru._store.owners import beat_values
from kitaru._store.postgres import blobs as blobs_module
from kitaru._store.postgres import migrate
from kitaru._store.postgres import transactions as transactions_module
from kitaru._store.postgres.blobs import TableBlobs
from kitaru._store.postgres.connecting import BOUNDS, Bounds
from kitaru._store.postgres.connections import LOOK_SECONDS
from kitaru._store.postgres.database import Database
from kitaru._store.postgres.given import Given, opened, opened_async
from kitaru._store.postgres.listening import Listener
from kitaru._store.postgres.logs import LogTable
from kitaru._store.postgres.migrate import Meta, find_meta, prepare
from kitaru._store.postgres.pulse import Pulse
from kitaru._store.postgres.telling import Teller, channel
from kitaru._store.postgres.transactions import Transactions
from kitaru._store.postgres.within import Joining, Lent, Server, WithinBlobs
from kitaru._store.postgres.writes import PostgresWrites
from kitaru._store.protocol import Beat, Beaten, Hint, Write
from kitaru._store.queries import Queries
from kitaru._store.sql import SqlStore
from kitaru.env import Env
from kitaru.errors import KitaruBackendError

CRASH_POINTS: tuple[str, ...] = (
    *commit.CRASH_POINTS,
    *blobs_module.CRASH_POINTS,
    *migrate.CRASH_POINTS,
    *transactions_module.CRASH_POINTS,
)
"""Every place at which a test may end a process inside this store."""

_HERE = os.path.dirname(__file__)

# Of what is ours: the database may hold the tables of a whole application beside it.
_SIZES = """
select split_part(current_setting('server_version'), ' ', 1),
       (select coalesce(sum(pg_total_relation_size(oid)), 0)::int8 from pg_class
        where relnamespace = 'kitaru'::regnamespace and relkind in ('r', 'p')),
       pg_total_relation_size('kitaru.blobs')
"""

_DURABILITY = """
select name, current_setting(name)
from unnest(array['synchronous_commit', 'fsync', 'full_page_writes', 'server_version']) as name
"""


def is_made(url: str) -> bool:
    """Whether a store is in that database; makes none."""
    database = Database(url)
    try:
        return find_meta(database, Queries(os.path.join(_HERE, "queries"))) is not None
    finally:
        database.close()


class PostgresStore(Carrying, SqlStore):
    """A :class:`kitaru._store.protocol.Store` in a database that many machines share."""

    is_remote = True

    def __init__(
        self,
        database: Database,
        meta: Meta,
        queries: Queries,
        env: Env,
        project: str,
        objects: Objects | None = None,
    ) -> None:
        blobs = TableBlobs(database, queries, env, objects)
        self._table = blobs
        super().__init__(
            writer=database,
            read=database.read,
            changes=database.changes,
            check_use=database.check_use,
            queries=queries,
            blobs=blobs,
            env=env,
            project=project,
            writes=PostgresWrites,
        )
        self._database = database
        self._env = env
        self._meta = meta
        self._pulse = Pulse(database.connect, database.place)
        self._known_server: Server | None = None
        self._teller = Teller(partial(database.notify, channel(project)))
        database.tell = self._teller.tell
        self._listener: Listener | None = None
        self.transactions = self._transactions = Transactions(
            database, queries, env, blobs, self._keep_blobs
        )

    @classmethod
    def open(
        cls,
        url: str,
        *,
        env: Env,
        project: str,
        objects: Objects | None = None,
        migrations: Sequence[Migration] | None = None,
        bounds: Bounds = BOUNDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> PostgresStore:
        """Open the store in the database of that libpq URL; make or upgrade it if need be.

        ``look_seconds``: how old an answer of ``changes()`` may be; ``objects``: where large
        values go; None: into a table.
        """
        queries = Queries(os.path.join(_HERE, "queries"))
        database = Database(url, env, bounds=bounds, look_seconds=look_seconds)
        try:
            meta = prepare(
                database,
                env=env,
                queries=queries,
                migrations=migrations or load_migrations(os.path.join(_HERE, "migrations")),
            )
        except BaseException:
            database.close()
            raise
        return cls(database, meta, queries, env, project, objects)

    def when_held(self, callback: Callable[[], object]) -> None:
        """Call it whenever the thread of a running event loop waits for the server."""
        self._database.when_held(callback)

    def logs(self, *, max_bytes: int, max_total_bytes: int) -> LogTable:
        """Where the logs of executions in this store are."""
        bounds = {"max_bytes": max_bytes, "max_total_bytes": max_total_bytes}
        return LogTable(self._database, self._queries, self._env, **bounds)

    # --- in a transaction of the program's own ---

    def join(self, connection: object) -> Joining:
        return self._joining(opened(connection), None)

    async def join_async(self, connection: object) -> Joining:
        return self._joining(await opened_async(connection), asyncio.get_running_loop())

    def _joining(self, given: Given, loop: asyncio.AbstractEventLoop | None) -> Joining:
        self._database.check_use()
        return Joining(
            given,
            Lent(given.connection, loop),
            self._database.place,
            self._queries,
            lambda session: WithinBlobs(session, self._queries, self._env, self._table),
            self._server,
        )

    def _server(self, anew: bool) -> Server:
        """Which server we are connected to; ``anew``: asked again."""
        if anew or self._known_server is None:
            ((_, *found, _, _, _),) = self._read(self._queries.look_within, ())
            self._known_server = Server._make(found)
        return self._known_server

    def fate_of(self, transaction: str) -> str | None:
        try:
            ((fate,),) = self._read(self._queries.fate_of, (transaction,))
        except KitaruBackendError as error:
            if error.code != "store-failed":
                raise
            return None  # a number that this server has not come to: another history
        return None if fate is None else str(fate)

    # --- writes ---

    def apply(self, write: Write) -> Any:
        self._take_along()
        return super().apply(write)

    def post(self, write: Write, done: Callable[[Any, BaseException | None], None]) -> None:
        self._take_along()
        super().post(write, done)

    def _take_along(self) -> None:
        overdue = self._overdue()
        if overdue is not None:
            super().post(*overdue)

    def beat(self, write: Beat) -> Beaten:
        self._database.check_use()
        found = self._pulse.rows(
            self._queries.beat, beat_values(write), seconds=write.lease_seconds / 3
        )
        return Beaten(*found[0]) if found else Beaten(write.at, lease_until=None)

    def listen(self, heard: Callable[[Hint], None]) -> None:
        self._database.check_use()
        assert self._listener is None, "a store listens once"
        self._listener = Listener(self._database.connect, self.project, self._env, heard)
        self._listener.start()

    def _changes_before(self) -> int:
        return 0  # the question itself tells

    def _changes_of(self, mark: str) -> int:
        return self._database.saw(mark)

    @property
    def hears(self) -> bool:
        return self._listener is not None and self._listener.hears

    def info(self) -> dict[str, Any]:
        """Where the store is, its schema version, size in bytes, project, PostgreSQL version."""
        ((version, size, blobs),) = self._read(_SIZES, ())
        return {
            "backend": "postgresql",
            "location": self._database.place,
            "schema_version": self._meta.schema_version,
            "store_id": self._meta.store_id,
            "generation": self._meta.generation,
            "project": self.project,
            "root": None,
            "created_at": self._meta.created_at,
            "bytes": int(size),
            "blob_bytes": int(blobs),
            "upgraded_from": self._meta.upgraded_from,
            "backup": None,
            "postgresql_version": version,
        }

    def examine(self, *, seconds: float | None) -> dict[str, Any]:
        """The settings that durability hangs on."""
        return {
            **dict(self._read(_DURABILITY, ())),
            "problems": [],
            "complete": True,
            "connection": self._database.describe(),
            "library": f"psycopg {psycopg.__version__}",
        }

    def close(self) -> None:
        """Commit what is queued and let go of the connections; a second close does nothing."""
        if not self._database.is_usable():
            return
        try:
            self.flush(wait=True)
        finally:
            self._teller.close()
            if self._listener is not None:
                self._listener.close()
            self._pulse.close()
            self._transactions.close()
            self._database.close()
