"""Transactions of user code in which the outcome of its call is recorded (decision 32).

Each has a connection of its own, from a few that are kept. The body works with it
(``lent.py``); afterwards the record of the call is the last statement, and the only one that
locks the execution's row: however long a body takes, a takeover waits for nobody. Where the
connection goes while it commits, the call's own row tells what became of it: whoever asks
tries the very same record again and undoes it, which waits for the transaction that may
still be under way.
"""

from __future__ import annotations

import contextlib
import selectors
import threading
from collections.abc import Callable, Sequence

import psycopg
from psycopg import errors as pg
from psycopg.pq import TransactionStatus

from kitaru._store.facts import Conflict
from kitaru._store.postgres.blobs import TableBlobs
from kitaru._store.postgres.connecting import BOUNDS
from kitaru._store.postgres.connection import BEGIN, Connection, literal
from kitaru._store.postgres.database import Database
from kitaru._store.postgres.errors import backend_error, in_doubt, is_away
from kitaru._store.postgres.lent import LentAsyncConnection, LentConnection, ended, lend
from kitaru._store.postgres.writes import PostgresWrites
from kitaru._store.protocol import Record, Refused, TransactionLost
from kitaru._store.queries import Queries
from kitaru._store.rows import Row, Rows
from kitaru.env import Env
from kitaru.errors import KitaruUsageError

CRASH_POINTS: tuple[str, ...] = ("transaction_begun", "transaction_recorded", "transaction_over")

MAX_IDLE = 4
"""Connections that are kept while no transaction needs them."""

CANCEL_SECONDS = 1.0
"""Between two tries to end a statement of a body for which nobody waits any more."""

MAX_CANCELS = 10

_MARK = "kitaru.transaction"
"""Holds a transaction's own word while it lasts: gone with a COMMIT or ROLLBACK of the body."""

# Of those who ran this execution before: none of them can record any more, and what they have
# locked would be waited for until somebody ends them.
_END_FORMER = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()
    and case when application_name like $1 then split_part(application_name, ' ', 3)::int8 < $2
        else false end"""

_GONE = ("08", "57P01", "57P02", "57P03")
"""SQLSTATEs, or their beginnings, with which a connection ends for no fault of its user."""


class Within:
    """A session (``facts.py``) inside a transaction that others have begun, and will end."""

    single = False

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection
        self.words: set[str] = set()

    def is_open(self) -> bool:
        return True

    def is_back(self) -> bool:
        return False

    def ahead(self, sql: str, parameters: Row = ()) -> None:
        self._execute(sql, parameters)

    def change_all(self, sql: str, rows: Sequence[Row]) -> list[int] | None:
        return None  # they are committed here by nobody but the body's transaction

    def change(self, sql: str, parameters: Row) -> int:
        return self._execute(sql, parameters).rowcount

    def rows(self, sql: str, parameters: Row) -> list[Row]:
        return self._execute(sql, parameters).fetchall()

    def _execute(self, sql: str, parameters: Row) -> psycopg.Cursor[Row]:
        try:
            return self._connection.execute(literal(sql), parameters, binary=True)
        except pg.UniqueViolation as error:
            raise Conflict(str(error.diag.constraint_name)) from error


class BlobsWithin(TableBlobs):
    """Large values as they are seen, and locked, from inside that transaction."""

    session: Within

    def is_there(self, digest: bytes) -> bool:
        return bool(self.session.rows(self._queries.lock_blob, (digest,)))


class Transactions:
    """Begins them. ``keep`` puts the large values of a write where its rows may name them."""

    def __init__(
        self,
        database: Database,
        queries: Queries,
        env: Env,
        blobs: TableBlobs,
        keep: Callable[[Record], None],
    ) -> None:
        self.database = database
        self.keep = keep
        self.crash_point = env.crash_point
        self._queries = queries
        self._env = env
        self._blobs = blobs
        self._idle: list[Connection] = []
        self._is_closed = False

    def begin(self, exec_id: str, epoch: int, *, is_async: bool) -> Transaction:
        """A transaction for one try of a call; ``KitaruBackendError`` if there is none to have."""
        self.database.check_use()
        wire = self._take()
        try:
            if epoch > 1:
                self._end_former(wire, exec_id, epoch)
            mark = self._env.random_bytes(8).hex()
            with psycopg.ClientCursor(wire) as cursor:
                cursor.execute(
                    literal(
                        f"{BEGIN}; set local {_MARK} = '{mark}'; "
                        f"set local application_name = 'kitaru {exec_id} {epoch}'"
                    )
                )
        except BaseException as error:
            close(wire)
            if isinstance(error, psycopg.Error):
                raise backend_error(error, self.database.place, "The body has not begun") from error
            raise
        self.crash_point("transaction_begun")
        return Transaction(self, wire, mark, is_async=is_async)

    def _take(self) -> Connection:
        """One that is at hand and answers, else a new one."""
        while self._idle:
            try:
                wire = self._idle.pop()
            except IndexError:
                break
            try:
                if not wire.is_pooled:
                    # What the one before has set, prepared, locked or listened to in the session.
                    wire.execute("discard all")
                return wire
            except psycopg.Error:
                close(wire)
        wire = self.database.connect(bounded=False)
        # The body has a connection object of its own: on this one only Kitaru asks, and its
        # questions are bounded as everywhere.
        wire.answer_seconds = BOUNDS.answer_seconds
        return wire

    def _end_former(self, wire: Connection, exec_id: str, epoch: int) -> None:
        with contextlib.suppress(pg.InsufficientPrivilege):
            wire.execute(literal(_END_FORMER), (f"kitaru {exec_id} %", epoch))

    def give_back(self, wire: Connection) -> None:
        is_idle = wire.pgconn.transaction_status == TransactionStatus.IDLE
        if self._is_closed or not is_idle or len(self._idle) >= MAX_IDLE:
            close(wire)
        else:
            self._idle.append(wire)

    def writes(self, connection: Connection) -> PostgresWrites:
        """The writes of the store, in a transaction of that connection."""
        session = Within(connection)
        blobs = BlobsWithin(self.database, self._queries, self._env, self._blobs.objects)
        blobs.session = session
        return PostgresWrites(session, self._queries, Rows(blobs))

    def close(self) -> None:
        self._is_closed = True
        while self._idle:
            close(self._idle.pop())


class Transaction:
    """See :class:`kitaru._store.protocol.Transaction`."""

    connection: LentConnection | LentAsyncConnection

    def __init__(self, home: Transactions, wire: Connection, mark: str, *, is_async: bool) -> None:
        self._home = home
        self._wire = wire
        self._mark = mark
        self.connection = lend(wire, is_async=is_async, prepares=not wire.is_pooled)
        self._lock = threading.Lock()
        self._is_open = True
        self._is_in_doubt = False

    def was_lost(self, error: BaseException | None) -> bool:
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            # What ended this session says so; others may have been handled, or be of elsewhere.
            if self._wire.closed and _is_fatal(error):
                return str(error.sqlstate).startswith(_GONE)  # type: ignore[attr-defined]
            seen.add(id(error))
            error = error.__cause__ or error.__context__
        return self._is_open and self._wire.closed

    # --- the end ---

    def _take(self) -> bool:
        """Whether it is the caller's to end: one of them."""
        with self._lock:
            was_open, self._is_open = self._is_open, False
        return was_open

    def roll_back(self) -> None:
        if not self._take():
            return
        if not self.connection.loan.call_in(0):
            self._abandon()
        else:
            self._undo()

    def discard(self) -> None:
        if self._take():
            self._abandon()

    def _undo(self) -> None:
        wire = self._wire
        try:
            if wire.pgconn.transaction_status != TransactionStatus.IDLE:
                wire.execute("rollback")
        except psycopg.Error:
            close(wire)
        else:
            self._home.give_back(wire)

    def _abandon(self) -> None:
        """Something of the body's may still use it: ended where nobody waits for that."""
        self.connection.loan.is_over = True
        threading.Thread(target=self._end, name="kitaru-transaction", daemon=True).start()

    def _end(self) -> None:
        loan = self.connection.loan
        # Again and again: a statement that is only about to be sent is not cancelled by the first.
        while not loan.call_in(0):
            with contextlib.suppress(psycopg.Error):
                self._wire.cancel()
            if loan.call_in(CANCEL_SECONDS):
                break
        with contextlib.suppress(psycopg.Error, OSError, ValueError):
            self._stop()
        close(self._wire)

    def _stop(self) -> None:
        """End the statement that the body left behind: a server does not notice that nobody waits
        for one, and what it has locked would stay so until its end."""
        pgconn = self._wire.pgconn
        with selectors.DefaultSelector() as selector:
            selector.register(pgconn.socket, selectors.EVENT_READ)
            for _ in range(MAX_CANCELS):
                if pgconn.transaction_status != TransactionStatus.ACTIVE:
                    return
                self._wire.cancel()
                if selector.select(CANCEL_SECONDS):
                    pgconn.consume_input()
                    while not pgconn.is_busy() and pgconn.get_result() is not None:
                        pass

    def record(self, write: Record) -> None:
        if not self._is_in_doubt:
            self._home.keep(write)
            if not self._take():
                raise TransactionLost("it was over")
            if not self.connection.loan.call_in(0):
                self._abandon()
                raise in_use()
            self._add(write)
            if self._commit():
                return
        self._find_out(write)

    def _add(self, write: Record) -> None:
        wire = self._wire
        try:
            self._check()
            self._home.writes(wire).perform(write)
        except psycopg.Error as error:
            is_lost = wire.closed or _is_unanswered(error) or str(error.sqlstate).startswith(_GONE)
            self._undo()
            if is_lost:
                raise TransactionLost(str(error)) from error
            raise
        except BaseException:
            self._undo()
            raise

    def _check(self) -> None:
        """Bound what is left of it, and make sure that it is the one that was begun."""
        wire = self._wire
        status = wire.pgconn.transaction_status
        if status == TransactionStatus.INERROR:
            raise aborted()
        if status == TransactionStatus.IDLE:
            raise ended()
        with psycopg.ClientCursor(wire) as cursor:
            # The body may have taken another role, which has no rights on the record.
            mark = f"select current_setting('{_MARK}', true)"
            cursor.execute(literal(f"{wire.local_bounds}reset role; {mark}"))
            while cursor.nextset():
                pass
            found = cursor.fetchone()
        if found is None or found[0] != self._mark:
            raise ended()

    def _commit(self) -> bool:
        """False: nobody knows yet whether it is committed."""
        wire = self._wire
        self._home.crash_point("transaction_recorded")
        try:
            done = wire.execute("commit")
        except psycopg.Error as error:
            if not wire.closed and not _is_unanswered(error):
                # The server itself says that it is not: a deferred constraint, for one.
                self._undo()
                raise
            close(wire)
            self._is_in_doubt = True
            return False
        if done.statusmessage != "COMMIT":
            self._undo()
            raise aborted()
        self._home.crash_point("transaction_over")
        self._home.give_back(wire)
        return True

    def _find_out(self, write: Record) -> None:
        """Return if it was committed; ``TransactionLost`` if not; raises while that is unknown."""
        home = self._home
        connection = home.database.connect()
        try:
            connection.execute("; ".join(connection.begin))
            writes = home.writes(connection)
            try:
                writes.perform(write)
            except Refused:
                if not writes.stands(write):
                    raise
            else:
                raise TransactionLost("the connection was lost while it was committed")
            finally:
                self._is_in_doubt = connection.closed
        except psycopg.Error as error:
            self._is_in_doubt = True
            if is_away(error) or isinstance(error, (pg.LockNotAvailable, pg.QueryCanceled)):
                raise in_doubt(error, home.database.place) from error
            raise backend_error(error, home.database.place) from error
        finally:
            close(connection)


def _is_fatal(error: BaseException) -> bool:
    return isinstance(error, psycopg.Error) and (
        error.diag.severity_nonlocalized in ("FATAL", "PANIC")
    )


def _is_unanswered(error: psycopg.Error) -> bool:
    """Nothing came from the server: it was lost, or too slow."""
    return isinstance(error, psycopg.OperationalError) and error.sqlstate is None


def close(wire: Connection) -> None:
    with contextlib.suppress(psycopg.Error):
        wire.close()


def aborted() -> KitaruUsageError:
    return KitaruUsageError(
        "the body returned although a statement in its transaction had failed, after which "
        "PostgreSQL commits nothing of it: let the error out, or put what may fail into `with "
        "connection.transaction():`",
        code="transaction-aborted",
    )


def in_use() -> KitaruUsageError:
    return KitaruUsageError(
        "the body returned while a statement still ran on its connection: await the tasks and "
        "threads that use it before returning",
        code="transaction-aborted",
    )
