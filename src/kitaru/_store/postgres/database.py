"""The connections of one process to a store in PostgreSQL, and what is done when one is lost.

One connection writes, by one thread at a time (the group commit sees to that); a few
others read. None of them keeps a state between transactions, so that a pooler may stand
in between. What is lost, is opened anew by whoever needs it next.

A transaction is begun when its first statement is sent, together with its receipt: the
number of it, in the row of this process in ``receipts``. Where the connection goes while it
commits, the number that stands there tells whether it was recorded; whoever asks waits for
the row's lock, so that a transaction that still lives has ended before. A write that is one
statement needs no transaction, and goes to the server and back once: what it records tells
by itself whether it was recorded (``writes.py``).
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import LiteralString, TypeVar

import psycopg
from psycopg import errors as pg

from kitaru._core.keeping import keep_for_ever
from kitaru._store.address import Address
from kitaru._store.facts import Conflict
from kitaru._store.postgres.connecting import BOUNDS, Bounds, Connector
from kitaru._store.postgres.connection import BEGIN, Answer, Connection, Statement
from kitaru._store.postgres.errors import (
    backend_error,
    in_doubt,
    is_away,
    is_ours,
    may_be_done_anew,
)
from kitaru._store.rows import Row
from kitaru.env import Env, SystemEnv, process
from kitaru.errors import KitaruBackendError

MAX_IDLE_READERS = 8

PAUSES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds before each try to connect anew: a server that is started again is there within them."""

MAX_LOSSES = 5
"""Transactions lost in a row before their failure is told: something is wrong with them."""

LOOK_SECONDS = 2.0
"""How old an answer of ``changes()`` may be: one query each two seconds, of an idle process."""

_CONFLICTS = (pg.UniqueViolation, pg.ExclusionViolation)
_V = TypeVar("_V")

_RECEIPT: LiteralString = """
insert into kitaru.receipts as mine (process, number) values ($1, $2)
on conflict (process) do update set number = excluded.number, at = default
where mine.number < excluded.number"""

_SWEEP: LiteralString = """
delete from kitaru.receipts where process in (
    select process from kitaru.receipts
    where at < clock_timestamp() - interval '7 days' for update skip locked)"""

# A row that is not committed yet is waited for too, which a mere look would not do.
_LAST_RECEIPT: LiteralString = """
insert into kitaru.receipts as mine (process, number) values ($1, 0)
on conflict (process) do update set at = default returning number"""


class Database:
    """See the module. ``look_seconds``: how old an answer of ``changes`` may be."""

    def __init__(
        self,
        url: str,
        env: Env | None = None,
        *,
        bounds: Bounds = BOUNDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        address = url if isinstance(url, Address) else Address(url)
        self._env = env or SystemEnv()
        self.place = str(address)
        self._connector = Connector(address, self._env, bounds)
        self._pid = process.id
        self._closing = threading.Event()
        self._is_away = False
        """Whether the last try to connect failed: then one try is enough for the next."""
        self._writer: Connection | None = None
        self._in_transaction = False
        self._wanted = False
        """Whether a transaction is to be begun by the next statement."""
        self._ahead: list[Statement] = []
        """What goes in one message with the next statement, before it."""
        self.single = False
        """Whether the next write is one statement, which needs no transaction around it."""
        self._has_savepoint = False
        self._process = self._env.random_bytes(16)
        self._number = 0
        """Of the last transaction that was begun."""
        self._doubt: int | None = None
        """The number of the transaction that may have been committed, or not."""
        self._was_committed = False
        """What became of the last transaction that was in doubt."""
        self._is_committing = False
        self._may_be_done_anew = False
        self._losses = 0
        self._idle: list[Connection] = []
        self._made: weakref.WeakSet[Connection] = weakref.WeakSet()
        """All that are open: a forked child must close none of them."""
        self.words: set[str] = set()
        """What others are told of the transaction that is open, once it is committed."""
        self.tell: Callable[[set[str]], None] = lambda words: None
        self._look_seconds = look_seconds
        self._looked: tuple[float, int] | None = None
        _open_databases.add(self)

    # --- connecting ---

    def when_held(self, callback: Callable[[], object]) -> None:
        """Call it whenever the thread of a running event loop waits for the server."""
        self._connector.held = callback

    def connect(self, *, bounded: bool = True) -> Connection:
        """A new connection that commits each statement by itself: one try."""
        self.check_use()
        try:
            connection = self._connector.connect(bounded=bounded)
        except KitaruBackendError as error:
            self._is_away = error.code == "store-away"
            raise
        self._is_away = False
        self._made.add(connection)
        return connection

    def _connect_anew(self) -> Connection:
        """A new connection after a loss: a server that is being started is waited for a little."""
        pauses = list(PAUSES[:1] if self._is_away else PAUSES)
        while True:
            self._closing.wait(pauses.pop(0) * (0.75 + 0.5 * self._env.jitter()))
            try:
                return self.connect()
            except KitaruBackendError as error:
                if error.code != "store-away" or not pauses:
                    raise

    def _open_writer(self, connect: Callable[[], Connection]) -> Connection:
        writer = self._writer
        if writer is None or writer.closed:
            writer = self._writer = connect()
            if self._doubt is not None:
                self._resolve(writer)
        return writer

    def _resolve(self, writer: Connection) -> None:
        """Find out whether the transaction in doubt was committed, before another is begun."""
        number = self._doubt
        assert number is not None
        try:
            found = writer.ask(_LAST_RECEIPT, (self._process,)).rows
        except psycopg.Error as error:
            self._drop_writer()
            raise in_doubt(error, self.place) from error
        self._was_committed = found[0][0] >= number
        self._doubt = None

    def _ask_writer(self, sql: str, parameters: Row = ()) -> Answer:
        """Ask on the connection that writes, after what waits to go ahead."""
        writer = self._writer
        if writer is None or writer.closed:
            writer = self._open_writer(self.connect)
        if not self._ahead:
            return writer.ask(sql, parameters)
        together = [*self._ahead, (sql, parameters)]
        self._ahead = []
        answers = writer.ask_all(together)
        for (asked, _), answer in zip(together, answers, strict=True):
            assert asked is not _RECEIPT or answer.touched == 1, "a later number stands there"
        return answers[-1]

    # --- writing: one thread at a time ---

    def begin(self, *, wait: bool) -> bool:
        """A transaction begins with its first statement. ``wait`` false: nobody waits here, so
        nothing is sent: whoever cannot wait for a network commits elsewhere."""
        if not wait:
            return False
        self._wanted, self._has_savepoint = True, False
        return True

    def _begin_now(self) -> None:
        """With the receipt, which takes the lock by which a doubt is resolved. Nothing is sent
        yet: it goes ahead of the first statement."""
        writer = self._open_writer(self.connect)
        self._wanted = False
        self._number += 1
        self._ahead = [(each, ()) for each in writer.begin]
        self._ahead.append((_RECEIPT, (self._process, self._number)))
        if self._number == 1:
            self._ahead.append((_SWEEP, ()))
        self._in_transaction = True

    def commit(self) -> None:
        self._wanted = False
        if not self._in_transaction:
            self._losses = 0  # a statement alone: it is done
            self._tell()
            return
        self._is_committing = True
        try:
            done = self._ask_writer("commit")
        except psycopg.Error as error:
            self._is_committing = False
            if not is_away(error):
                raise self._failed(error) from error
            self._recognise(error)
        else:
            self._is_committing = False
            if done.tag != b"COMMIT":
                # What failed inside was not told to us, or we would not be here.
                self._in_transaction = False
                raise AssertionError(f"a transaction ended with {done.tag.decode()}")
        self._in_transaction = False
        self._losses = 0
        self._tell()

    def _tell(self) -> None:
        if self.words:
            words, self.words = self.words, set()
            self.tell(words)

    def _recognise(self, error: psycopg.Error) -> None:
        """The connection went while it committed: ask what became of it, on another one."""
        self._drop_writer()
        self._doubt = self._number
        try:
            self._open_writer(self._connect_anew)
        except KitaruBackendError:
            raise in_doubt(error, self.place) from error
        if not self._was_committed:
            self._may_be_done_anew = True
            raise backend_error(error, self.place) from error

    def is_back(self) -> bool:
        """Whether what just failed was lost as a whole, and may be done anew on a server that is
        there: the group commit asks, and then does it."""
        if not self._may_be_done_anew or self._losses >= MAX_LOSSES:
            self._may_be_done_anew = False
            return False
        self._may_be_done_anew = False
        self._losses += 1
        try:
            self._open_writer(self._connect_anew)
        except KitaruBackendError:
            return False
        return True

    def is_in_doubt(self) -> bool:
        return self._doubt is not None

    def was_committed(self) -> bool:
        """What became of the transaction that was in doubt; raises while that cannot be known."""
        if self._doubt is not None:
            self._open_writer(self.connect)
        return self._was_committed

    def rollback(self) -> None:
        self._wanted = False
        self.words.clear()
        if not self._in_transaction:
            return
        self._in_transaction = False
        ahead, self._ahead = self._ahead, []
        if ahead and ahead[0][0] == BEGIN:
            return  # nothing of it was sent
        try:
            self._ask_writer("rollback")
        except (psycopg.Error, KitaruBackendError):
            self._drop_writer()

    def is_open(self) -> bool:
        if self._is_committing:
            return self._is_still_open()
        return self._in_transaction

    def _is_still_open(self) -> bool:
        """Somebody was interrupted (Ctrl-C) while it committed."""
        self._is_committing = False
        self._drop_writer()
        self._doubt = self._number
        try:
            return not self.was_committed()
        except KitaruBackendError:
            return True

    def savepoint(self) -> None:
        if self._wanted:
            self._begin_now()
        self.ahead("savepoint one")
        self._has_savepoint = True

    def release(self) -> None:
        self.ahead("release savepoint one")
        self._has_savepoint = False

    def roll_back_to_savepoint(self) -> None:
        self.ahead("rollback to savepoint one")
        self.release()

    def ahead(self, sql: str, parameters: Row = ()) -> None:
        """A statement of a transaction whose answer nobody needs: it goes ahead of the next, in
        one message with it. If it fails, that fails."""
        if self._wanted:
            self._begin_now()
        self._ahead.append((sql, parameters))

    def change(self, sql: str, parameters: Row) -> int:
        return self._send(sql, parameters).touched

    def change_all(self, sql: str, rows: Sequence[Row]) -> list[int] | None:
        """Run it for each, in one message, as one transaction that is committed by then; how many
        rows each has changed, or None if one of them is wrong: then nothing is done."""
        self._wanted = False
        assert not self._in_transaction
        try:
            answers = self._open_writer(self.connect).ask_all([(sql, row) for row in rows])
        except psycopg.Error as error:
            if is_ours(error):
                self._wanted = True
                return None
            raise self._failed(error) from error
        return [answer.touched for answer in answers]

    def rows(self, sql: str, parameters: Row) -> list[Row]:
        if self._in_transaction or self._wanted:
            return self._send(sql, parameters).rows
        # A mere read, while nobody commits: it may be asked twice.
        try:
            return self._send(sql, parameters).rows
        except KitaruBackendError:
            if not self.is_back():
                raise
            return self._send(sql, parameters).rows

    def _send(self, sql: str, parameters: Row) -> Answer:
        try:
            if self._wanted and not self.single:
                self._begin_now()
            return self._ask_writer(sql, parameters)
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
            self.ahead("rollback to savepoint one")
        else:
            self.ahead("rollback")
            undone, self._ahead = self._ahead, []
            self._begin_now()
            self._ahead = undone + self._ahead

    def _failed(self, error: psycopg.Error) -> KitaruBackendError:
        self._may_be_done_anew = may_be_done_anew(error)
        if is_away(error):
            self._drop_writer()
        return backend_error(error, self.place)

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        self._in_transaction = False
        self._ahead = []
        if writer is not None:
            with contextlib.suppress(psycopg.Error):
                writer.close()

    def verify(self) -> None:
        """The server answered the commit: there is nothing more to look at."""

    # --- reading: any thread, each with its own connection ---

    def read(self, sql: str, parameters: Row) -> list[Row]:
        return self._ask(lambda connection: connection.ask(sql, parameters).rows)

    def _ask(self, question: Callable[[Connection], _V]) -> _V:
        """Ask on a connection that is at hand; once more, on a new one, if that was lost."""
        self.check_use()
        try:
            return self._ask_one(self._take_reader(), question)
        except KitaruBackendError as error:
            if error.code != "store-away" or self._is_away:
                raise
        # The server was started anew, or a network forgot about us: the others are lost too.
        self._close_idle()
        return self._ask_one(self._connect_anew(), question)

    def _ask_one(self, connection: Connection, question: Callable[[Connection], _V]) -> _V:
        try:
            return question(connection)
        except psycopg.Error as error:
            if is_away(error):
                connection.close()
            raise backend_error(error, self.place, "Nothing was changed") from error
        finally:
            self._give_back(connection)

    def ask_beside(self, question: Callable[[Connection], _V]) -> _V:
        """Ask, once, on a connection beside the writer's; ``KitaruBackendError`` if it fails."""
        self.check_use()
        return self._ask_one(self._take_reader(), question)

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
        is_idle = connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if self._closing.is_set() or not is_idle or len(self._idle) >= MAX_IDLE_READERS:
            connection.close()
        else:
            self._idle.append(connection)

    def _close_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(psycopg.Error, IndexError):
                self._idle.pop().close()

    def changes(self) -> int:
        """A digest of which transactions are over: it differs once anybody has committed.

        Asked for at most each ``look_seconds``; in between the last answer stands.
        """
        self.check_use()
        now = self._env.monotonic()
        looked = self._looked
        if looked is not None and 0 <= now - looked[0] < self._look_seconds:
            return looked[1]
        ((snapshot,),) = self.read("select pg_current_snapshot()::text", ())
        return self.saw(snapshot)

    def saw(self, snapshot: str) -> int:
        """Which transactions are over, by a query that was asked just now -> its digest."""
        found = int.from_bytes(blake2b(snapshot.encode(), digest_size=8).digest(), "big")
        self._looked = (self._env.monotonic(), found)
        return found

    def notify(self, channel: str, payload: str) -> None:
        """Tell whoever listens there, on any thread; one try, or ``KitaruBackendError``."""
        words = (channel, payload)
        self.ask_beside(lambda connection: connection.ask("select pg_notify($1, $2)", words))

    def describe(self) -> str:
        """How this process is connected, for people."""

        def told(connection: Connection) -> str:
            info = connection.info
            where = info.host if not info.host.startswith("/") else "a socket of this machine"
            how = "encrypted" if connection.pgconn.ssl_in_use else "not encrypted"
            # Where nobody can listen, everybody looks: people see why something takes a poll.
            pooled = ", through a pooler (no LISTEN: it polls)" if connection.is_pooled else ""
            return f"as {info.user} to {info.dbname} on {where}{pooled}, {how}"

        return self._ask(told)

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
        if self._closing.is_set():
            raise KitaruBackendError(
                f"the store {self.place} was closed: open it again", code="store-closed"
            )

    def is_usable(self) -> bool:
        return not self._closing.is_set() and process.id == self._pid

    def close(self) -> None:
        if not self.is_usable():
            return
        self._closing.set()
        self._drop_writer()
        self._close_idle()

    def _leak(self) -> None:
        # To close them here would tell the server that the parent has left.
        keep_for_ever(list(self._made))
        self._writer, self._idle = None, []


_open_databases: weakref.WeakSet[Database] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for database in list(_open_databases):
        database._leak()


os.register_at_fork(after_in_child=_after_fork_in_child)
