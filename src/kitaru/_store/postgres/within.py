"""An execution that begins in a transaction of the program's own.

It is written through a connection that was made elsewhere, with settings that are not ours,
and is there when and only when that transaction is committed. So nothing on the connection
is ended, prepared or set; what is read and written by a cursor of ours has types of its own;
and a savepoint keeps what is refused from failing the transaction.

A serialization failure or a deadlock is raised as the driver raises it: whoever asks for
strict transactions has a loop that catches it and does the transaction again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextvars import Context
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import errors as pg
from psycopg import sql as pgsql
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.bool import BoolBinaryDumper, BoolBinaryLoader
from psycopg.types.numeric import (
    Int2BinaryLoader,
    Int4BinaryLoader,
    Int8BinaryDumper,
    Int8BinaryLoader,
)
from psycopg.types.string import (
    ByteaBinaryLoader,
    BytesBinaryDumper,
    StrBinaryDumper,
    TextBinaryLoader,
)

from kitaru._core.payload import Payload
from kitaru._store.postgres.blobs import TableBlobs
from kitaru._store.postgres.connection import BEGIN, literal
from kitaru._store.postgres.errors import NOTHING_WRITTEN, backend_error, is_away, text_of
from kitaru._store.postgres.given import Given
from kitaru._store.postgres.telling import QUEUED, channel
from kitaru._store.protocol import Start, Started
from kitaru._store.queries import Queries
from kitaru._store.rows import Row, Rows
from kitaru._store.writes import Writes, born
from kitaru.env import Env
from kitaru.errors import KitaruBackendError, KitaruError, KitaruStateError, KitaruUsageError

TRIES = 3
"""Looks at a key that is there and, when looked at, has just been deleted."""

_SAVEPOINT: LiteralString = "savepoint kitaru_start"
_RELEASE: LiteralString = "release savepoint kitaru_start"
_TELL: LiteralString = "select pg_notify($1, $2)"
_BACK: LiteralString = "rollback to savepoint kitaru_start"

# The program may have taught its connection other ones.
_DUMPERS: tuple[tuple[type, Any], ...] = (
    (int, Int8BinaryDumper),
    (str, StrBinaryDumper),
    (bytes, BytesBinaryDumper),
    (bool, BoolBinaryDumper),
)
_LOADERS: tuple[tuple[str, Any], ...] = (
    ("bool", BoolBinaryLoader),
    ("bytea", ByteaBinaryLoader),
    ("int2", Int2BinaryLoader),
    ("int4", Int4BinaryLoader),
    ("int8", Int8BinaryLoader),
    ("text", TextBinaryLoader),
)

# What the driver raises for the sake of others: the program's own loop is waiting for it.
_OF_THE_PROGRAM = (pg.SerializationFailure, pg.DeadlockDetected)

_GRANTS = """\
grant usage on schema kitaru to {role};
grant select, insert on kitaru.executions to {role};
grant select on kitaru.execution_rows to {role};
grant select, insert, update on kitaru.blobs to {role};"""


class Server(NamedTuple):
    """Which database of which running server: nobody else has this pair of numbers."""

    database: int
    began_at: int


class Lent:
    """A connection of the program's, asked by cursors of ours."""

    def __init__(self, connection: Any, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.connection = connection
        self._loop = loop
        """Of an ``AsyncConnection``: where it lives; it is asked from another thread."""

    def ask(self, sql: str, parameters: Row = ()) -> tuple[list[Row], int]:
        """The rows, and how many there are or were changed."""
        if self._loop is not None:
            # Without our context: for the loop this is no branch of a flow.
            asking = self._ask_async(literal(sql), parameters)
            future = Context().run(asyncio.run_coroutine_threadsafe, asking, self._loop)
            return future.result()
        with psycopg.RawCursor(self.connection, row_factory=tuple_row) as cursor:
            _teach(cursor)
            cursor.execute(literal(sql), parameters, prepare=False, binary=True)
            return cursor.fetchall() if cursor.description else [], cursor.rowcount

    async def _ask_async(self, sql: LiteralString, parameters: Row) -> tuple[list[Row], int]:
        async with psycopg.AsyncRawCursor(self.connection, row_factory=tuple_row) as cursor:
            _teach(cursor)
            await cursor.execute(sql, parameters, prepare=False, binary=True)
            return await cursor.fetchall() if cursor.description else [], cursor.rowcount

    def status(self) -> TransactionStatus:
        """Whether a transaction is open; refuses what nothing can be started through."""
        connection = self.connection
        if connection.closed:
            raise _unfit("is closed: give an open one")
        if connection.pgconn.pipeline_status != PipelineStatus.OFF:
            raise _unfit("is in a pipeline: enqueue before or after that block")
        if connection.info.encoding != "utf-8":
            raise _unfit(
                f"has the client_encoding {connection.info.encoding}, which has no room for every "
                "text: give one with client_encoding UTF8"
            )
        status = TransactionStatus(connection.pgconn.transaction_status)
        if status is TransactionStatus.INERROR:
            raise KitaruStateError(
                "options(connection=): the transaction of that connection has failed already, so "
                "nothing can be added to it: roll it back, then start it again",
                code="connection-unfit",
            )
        if status is TransactionStatus.ACTIVE:
            raise _unfit("is busy with another statement: let that end first")
        return status

    def place(self) -> str:
        info = self.connection.info
        return f"database {info.dbname!r} on {info.host}, port {info.port}"


def _teach(cursor: Any) -> None:
    for kind, dumper in _DUMPERS:
        cursor.adapters.register_dumper(kind, dumper)
    for name, loader in _LOADERS:
        cursor.adapters.register_loader(name, loader)


class Session:
    """See :class:`kitaru._store.facts.Session`: inside a transaction of the program's."""

    is_strict = False
    """Whether it sees nothing of what is committed after its first statement."""

    def __init__(self, lent: Lent, place: str) -> None:
        self._lent = lent
        self.place = place

    def change(self, sql: str, parameters: Row) -> int:
        return self._lent.ask(sql, parameters)[1]

    def rows(self, sql: str, parameters: Row) -> list[Row]:
        return self._lent.ask(sql, parameters)[0]

    read = rows


class WithinWrites(Writes):
    def start(self, write: Start) -> Started:
        row = born(write)
        values = self._start_values(write, row)
        for _ in range(TRIES):
            found = self._select(self._queries.start_within, values)
            if found:
                # Heard by the workers with the commit, and not at all without it.
                self._select(_TELL, (channel(write.project), QUEUED))
                return Started(row._replace(id=found[0][0]), created=True)
            standing = self._find_started(write)
            if standing is not None:
                return standing
        raise KitaruBackendError(
            f"flow {write.flow_name!r}: each time it was looked at, the execution that has the key "
            f"{write.key!r} had just been deleted. {NOTHING_WRITTEN}; try again",
            code="store-locked",
        )


class WithinBlobs(TableBlobs):
    """Large values, kept with a row that is committed at once, as always.

    One that is committed with the program's transaction would hold up, until that ends, whoever
    keeps the same bytes. And an object without a row would be taken for a leftover meanwhile. If
    nothing comes of the transaction, the row is nobody's, and collected.

    A strict transaction could not lock such a row, because it does not see it: there the bytes
    are part of it.
    """

    def __init__(self, session: Session, queries: Queries, env: Env, own: TableBlobs) -> None:
        super().__init__(session, queries, env, own.objects)
        self._session = session
        self._own = own

    def keep(self, payload: Payload) -> None:
        if self.objects is None and self._session.is_strict:
            super().keep(payload)
        else:
            self._own.keep(payload)


class Joining:
    """See :class:`kitaru._store.protocol.Joining`."""

    transaction: str | None = None

    def __init__(
        self,
        given: Given,
        lent: Lent,
        place: str,
        queries: Queries,
        blobs: Callable[[Session], TableBlobs],
        home: Callable[[bool], Server],
    ) -> None:
        self._given = given
        self._lent = lent
        self._place = place
        self._queries = queries
        self._home = home
        self._session = session = Session(lent, place)
        self._writes = WithinWrites(session, queries, Rows(blobs(session)))
        self._role = "?"

    def start(self, write: Start) -> Started:
        ask = self._lent.ask
        try:
            is_idle = self._lent.status() is TransactionStatus.IDLE
        except BaseException:
            self._given.left()
            raise
        # Else the driver begins one, as it does before any first statement.
        is_alone = is_idle and self._lent.connection.autocommit
        try:
            ask(BEGIN if is_alone else _SAVEPOINT)
            try:
                started = self._perform(write)
                if not is_alone:
                    ask(_RELEASE)
            except BaseException:
                self._undo(is_idle)
                raise
        except psycopg.Error as error:
            raise self._translated(error, write) from error
        if is_alone:
            self._commit(write)
        return started

    def _perform(self, write: Start) -> Started:
        session = self._session
        ((self.transaction, *server, _, self._role, session.is_strict),) = session.rows(
            self._queries.look_within, ()
        )
        found = Server._make(server)
        # A server that was started anew since is the same one.
        if found != self._home(False) and found != self._home(True):
            raise KitaruUsageError(
                f"options(connection=): the connection goes to {self._lent.place()}, and the store "
                f"is {self._place}: one transaction is in one database. Give a connection to the "
                "store's, or enqueue without connection= after your commit",
                code="connection-elsewhere",
            )
        return self._writes.start(write)

    def _undo(self, is_idle: bool) -> None:
        """Back to how the connection was; where that cannot be, it is lost or its loop is."""
        with contextlib.suppress(Exception):
            if is_idle:
                self._lent.ask("rollback")
                self._given.left()
            else:
                self._lent.ask(_BACK)
                self._lent.ask(_RELEASE)

    def _commit(self, write: Start) -> None:
        try:
            self._lent.ask("commit")
        except psycopg.Error as error:
            raise KitaruBackendError(
                f"options(connection=): the connection went while it committed ({text_of(error)}), "
                f"and whether execution {write.exec_id} was recorded is not known. Look for it "
                f"(kitaru executions get {write.exec_id}) before you enqueue again, or enqueue "
                "with a key",
                code="connection-lost",
            ) from error

    def _translated(self, error: psycopg.Error, write: Start) -> Exception:
        if isinstance(error, _OF_THE_PROGRAM):
            return self._given.raised(error)
        if isinstance(error, pg.InsufficientPrivilege):
            return self._not_granted(error)
        if is_away(error):
            return KitaruBackendError(
                f"options(connection=): the connection is gone ({text_of(error)}), its transaction "
                f"with it, and execution {write.exec_id} is not recorded. Connect anew, and do the "
                "transaction again",
                code="connection-lost",
            )
        return backend_error(error, self._place)

    def _not_granted(self, error: psycopg.Error) -> KitaruError:
        role = pgsql.Identifier(self._role).as_string()
        return KitaruBackendError(
            f"options(connection=): the role {self._role!r} of that connection may not start "
            f"executions in the store {self._place} ({text_of(error)}). {NOTHING_WRITTEN}. As the "
            f"owner of the schema:\n{_GRANTS.format(role=role)}",
            code="store-may-not-be-used",
        )


def _unfit(why: str) -> KitaruUsageError:
    return KitaruUsageError(
        f"options(connection=): that connection {why}. Nothing was started: call it again then",
        code="connection-unfit",
    )
