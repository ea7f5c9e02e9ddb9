"""Connections to PostgreSQL: the only door to psycopg.

One connection writes, by one thread at a time (the group commit sees to that); a few
others read. None of them keeps a state between transactions, so that a pooler may stand
in between. What is lost, is opened anew by whoever needs it next.

A transaction is begun when its first statement is sent, and a write that is one statement
needs none: it goes to the server and back once.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterator
from hashlib import blake2b
from typing import LiteralString, cast

import psycopg
from psycopg import errors as pg
from psycopg.types.numeric import Int8BinaryDumper
from psycopg.types.string import StrBinaryDumper

from kitaru._core.keeping import keep_for_ever
from kitaru._store.address import Address
from kitaru._store.facts import Conflict
from kitaru._store.postgres.errors import backend_error, is_away, is_ours
from kitaru._store.rows import Row
from kitaru.env import process
from kitaru.errors import KitaruBackendError

Connection = psycopg.Connection[Row]

MAX_IDLE_READERS = 8
CONNECT_SECONDS = 10
APPLICATION = "kitaru"

_CONFLICTS = (pg.UniqueViolation, pg.ExclusionViolation)


def literal(sql: str) -> LiteralString:
    """A statement of ours, which is a literal of some file: nothing of a user is in it."""
    return cast("LiteralString", sql)  # type: ignore[redundant-cast]  # not to pyright


class Database:
    """The connections of one process to one database. See the module."""

    def __init__(self, url: str) -> None:
        self._address = url if isinstance(url, Address) else Address(url)
        self.place = str(self._address)
        self._pid = process.id
        self._closed = False
        self._writer: Connection | None = None
        self._in_transaction = False
        self._wanted = False
        """Whether a transaction is to be begun by the next statement."""
        self.single = False
        """Whether the next write is one statement, which needs no transaction around it."""
        self._has_savepoint = False
        self._idle: list[Connection] = []
        _open_databases.add(self)

    # --- connecting ---

    def connect(self) -> Connection:
        """A new connection that commits each statement by itself."""
        try:
            connection = psycopg.connect(
                self._address.secret(),
                autocommit=True,
                cursor_factory=psycopg.RawCursor,
                application_name=APPLICATION,
                connect_timeout=CONNECT_SECONDS,
            )
        except psycopg.Error as error:
            raise backend_error(error, self.place, "Nothing was changed") from error
        # One type a parameter, whatever its value: one statement is prepared once.
        connection.adapters.register_dumper(int, Int8BinaryDumper)
        connection.adapters.register_dumper(str, StrBinaryDumper)
        return connection

    def _execute(self, sql: str, parameters: Row = ()) -> psycopg.Cursor[Row]:
        if self._writer is None or self._writer.closed:
            self._writer = self.connect()
        return self._writer.execute(literal(sql), parameters, binary=True)

    # --- writing: one thread at a time ---

    def begin(self, *, wait: bool) -> bool:
        """A transaction begins with its first statement. ``wait`` false: nobody waits here, so
        nothing is sent: whoever cannot wait for a network commits elsewhere."""
        if not wait:
            return False
        self._wanted, self._has_savepoint = True, False
        return True

    def _begin_now(self) -> None:
        self._wanted = False
        self._execute("begin")
        self._in_transaction = True

    def commit(self) -> None:
        self._wanted = False
        if self._in_transaction:
            self._run("commit")
            self._in_transaction = False

    def rollback(self) -> None:
        self._wanted = False
        if not self._in_transaction:
            return
        self._in_transaction = False
        try:
            self._execute("rollback")
        except psycopg.Error:
            self._drop_writer()

    def is_open(self) -> bool:
        return self._in_transaction

    def savepoint(self) -> None:
        if self._wanted:
            self._run_in_transaction()
        self._run("savepoint one")
        self._has_savepoint = True

    def release(self) -> None:
        self._run("release savepoint one")
        self._has_savepoint = False

    def roll_back_to_savepoint(self) -> None:
        self._run("rollback to savepoint one")
        self._run("release savepoint one")
        self._has_savepoint = False

    def _run_in_transaction(self) -> None:
        try:
            self._begin_now()
        except psycopg.Error as error:
            raise self._failed(error) from error

    def _run(self, sql: str) -> None:
        try:
            self._execute(sql)
        except psycopg.Error as error:
            raise self._failed(error) from error

    def change(self, sql: str, parameters: Row) -> int:
        return self._send(sql, parameters).rowcount

    def rows(self, sql: str, parameters: Row) -> list[Row]:
        return self._send(sql, parameters).fetchall()

    def _send(self, sql: str, parameters: Row) -> psycopg.Cursor[Row]:
        try:
            if self._wanted and not self.single:
                self._begin_now()
            return self._execute(sql, parameters)
        except _CONFLICTS as error:
            self._undo()
            raise Conflict(str(error.diag.constraint_name)) from error
        except psycopg.Error as error:
            if is_ours(error):
                raise  # A bug of ours, of this write alone.
            raise self._failed(error) from error

    def _undo(self) -> None:
        """After a conflict the transaction takes no statement: back to before this write, so
        that its refusal can say what stands there."""
        if not self._in_transaction:
            return
        if self._has_savepoint:
            self._run("rollback to savepoint one")
        else:
            self._run("rollback")
            self._run("begin")

    def _failed(self, error: psycopg.Error) -> KitaruBackendError:
        if is_away(error):
            self._drop_writer()
        return backend_error(error, self.place)

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        self._in_transaction = False
        if writer is not None:
            with contextlib.suppress(psycopg.Error):
                writer.close()

    def verify(self) -> None:
        """The server answered the commit: there is nothing more to look at."""

    # --- reading: any thread, each with its own connection ---

    def read(self, sql: str, parameters: Row) -> list[Row]:
        self.check_use()
        with self.reader() as connection:
            return connection.execute(literal(sql), parameters, binary=True).fetchall()

    @contextlib.contextmanager
    def reader(self) -> Iterator[Connection]:
        """A connection beside the writer's, for one thread."""
        connection = self._take_reader()
        try:
            yield connection
        except psycopg.Error as error:
            if is_away(error):
                connection.close()
            raise backend_error(error, self.place, "Nothing was changed") from error
        finally:
            self._give_back(connection)

    def _take_reader(self) -> Connection:
        # The list's methods are atomic: a connection is in one thread's hands.
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if not connection.closed:
                return connection
        return self.connect()

    def _give_back(self, connection: Connection) -> None:
        if self._closed or connection.closed or len(self._idle) >= MAX_IDLE_READERS:
            connection.close()
        else:
            self._idle.append(connection)

    def changes(self) -> int:
        """A digest of which transactions are over: it differs once anybody has committed."""
        ((snapshot,),) = self.read("select pg_current_snapshot()::text", ())
        return int.from_bytes(blake2b(snapshot.encode(), digest_size=8).digest(), "big")

    def describe(self) -> str:
        """How this process is connected, for people."""
        with self.reader() as connection:
            info, encrypted = connection.info, connection.pgconn.ssl_in_use
            where = info.host if not info.host.startswith("/") else "a socket of this machine"
            how = "encrypted" if encrypted else "not encrypted"
            return f"as {info.user} to {info.dbname} on {where}, {how}"

    # --- life ---

    def check_use(self) -> None:
        """Refuse a forked child and a closed store."""
        if process.id != self._pid:
            raise KitaruBackendError(
                f"the store {self.place} was opened by a process of which this one is a fork, and "
                "a connection does not survive a fork. Start the child with multiprocessing's "
                "'spawn' method (or subprocess), or fork before Kitaru is used",
                code="store-forked",
            )
        if self._closed:
            raise KitaruBackendError(
                f"the store {self.place} was closed: open it again", code="store-closed"
            )

    def is_usable(self) -> bool:
        return not self._closed and process.id == self._pid

    def close(self) -> None:
        if not self.is_usable():
            return
        self._closed = True
        self._drop_writer()
        while self._idle:
            self._idle.pop().close()

    def _leak(self) -> None:
        # To close them here would tell the server that the parent has left.
        keep_for_ever((self._writer, list(self._idle)))
        self._writer, self._idle = None, []


_open_databases: weakref.WeakSet[Database] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for database in list(_open_databases):
        database._leak()


os.register_at_fork(after_in_child=_after_fork_in_child)
