"""The connection that the body of a transactional checkpoint is lent.

A psycopg connection like any, but for the end of its transaction, which is not the body's:
there the outcome is recorded. It shares the session with the connection of ours that began
that transaction (``transactions.py``), and is of no use once that is over.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Generator
from typing import Any, NoReturn, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow, tuple_row
from psycopg.sql import Composable

from kitaru.errors import KitaruContextError, KitaruUsageError

_V = TypeVar("_V")

_ENDS = re.compile(
    r"(?:\s|;|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
    r"(?:commit|end|abort|begin|start\s+transaction|prepare\s+transaction"
    r"|rollback(?!\s+(?:work\s+|transaction\s+)?to\b))\b",
    re.IGNORECASE | re.DOTALL,
)


def ours(what: str) -> KitaruUsageError:
    return KitaruUsageError(
        f"{what} is not the body's to say in a checkpoint with transaction=True: its outcome is "
        "recorded in this transaction, which is committed when the body returns and rolled back "
        "when it raises. For a part that may fail alone use `with connection.transaction():`",
        code="transaction-is-ours",
    )


def over() -> KitaruContextError:
    return KitaruContextError(
        "the transaction of this checkpoint is over, and the connection was given back: use it "
        "inside the body, and await tasks and threads before returning",
        code="attempt-is-over",
    )


def ended() -> KitaruUsageError:
    return KitaruUsageError(
        "a statement of the body has ended the transaction of this checkpoint (COMMIT, "
        "ROLLBACK or the like, in SQL): what it had committed by then stays, without an outcome on "
        "record. "
        "Leave the end to Kitaru; for a part that may fail alone use `with "
        "connection.transaction():`",
        code="transaction-is-ours",
    )


class Loan:
    """Whether the connection is still lent, and whether a statement of the body runs."""

    def __init__(self) -> None:
        self.is_over = False
        self._using = threading.Lock()

    def use(self) -> None:
        """Before a statement; ``done`` after it. Waits for nobody."""
        if self.is_over or not self._using.acquire(blocking=False):
            raise over()

    def done(self) -> None:
        self._using.release()

    def bounded(self, gen: Generator[Any, Any, _V]) -> Generator[Any, Any, _V]:
        """``gen``, ended at a pause of it once the loan is over."""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if self.is_over:
                    raise over()
                wanted = gen.send(ready)
        except StopIteration as stop:
            value: _V = stop.value
            return value

    def call_in(self, seconds: float) -> bool:
        """Nothing of the body's begins on it any more; False if something still runs then."""
        self.is_over = True
        return self._using.acquire(timeout=seconds)


class _Ours:
    """What both kinds refuse. psycopg's own methods are not called for it."""

    def __del__(self, *more: Any) -> None:
        """The session is not this object's to close."""

    def _refuse(self, what: str) -> NoReturn:
        raise ours(what)


class Cursor(psycopg.Cursor[TupleRow]):
    """Refuses what would end the transaction, before it is sent."""

    def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        refuse_ending(query, self.connection)
        return super().execute(query, *args, **options)


class AsyncCursor(psycopg.AsyncCursor[TupleRow]):
    async def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        refuse_ending(query, self.connection)
        return await super().execute(query, *args, **options)


def refuse_ending(query: Any, connection: Any) -> None:
    text = query.as_string(connection) if isinstance(query, Composable) else query
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    if isinstance(text, str) and _ENDS.match(text):
        raise ours(f"{text.strip()[:40]!r}")


class LentConnection(_Ours, psycopg.Connection[TupleRow]):
    """See the module: for plain functions."""

    loan: Loan

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        loan = self.loan
        loan.use()
        try:
            found = super().wait(loan.bounded(gen), *args, **options)
            if self.pgconn.transaction_status == TransactionStatus.IDLE:
                raise ended()
            return found
        finally:
            loan.done()

    def commit(self) -> None:
        self._refuse("connection.commit()")

    def rollback(self) -> None:
        self._refuse("connection.rollback()")

    def close(self) -> None:
        self._refuse("connection.close()")

    def set_autocommit(self, value: bool) -> None:
        self._refuse("autocommit")

    def __enter__(self) -> NoReturn:
        self._refuse("`with` on the connection, which commits and closes it,")

    def tpc_begin(self, xid: Any) -> None:
        self._refuse("connection.tpc_begin()")


class LentAsyncConnection(_Ours, psycopg.AsyncConnection[TupleRow]):
    """See the module: for ``async def`` functions."""

    loan: Loan

    async def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        loan = self.loan
        loan.use()
        try:
            found = await super().wait(loan.bounded(gen), *args, **options)
            if self.pgconn.transaction_status == TransactionStatus.IDLE:
                raise ended()
            return found
        finally:
            loan.done()

    async def commit(self) -> None:
        self._refuse("connection.commit()")

    async def rollback(self) -> None:
        self._refuse("connection.rollback()")

    async def close(self) -> None:
        self._refuse("connection.close()")

    async def set_autocommit(self, value: bool) -> None:
        self._refuse("autocommit")

    async def __aenter__(self) -> NoReturn:
        self._refuse("`async with` on the connection, which commits and closes it,")

    async def tpc_begin(self, xid: Any) -> None:
        self._refuse("connection.tpc_begin()")


def lend(
    wire: psycopg.Connection[Any], *, is_async: bool, prepares: bool
) -> LentConnection | LentAsyncConnection:
    """A connection for a body, in the session of ``wire`` and the transaction it has begun."""
    lent: LentConnection | LentAsyncConnection
    if is_async:
        lent = LentAsyncConnection(wire.pgconn, tuple_row)
        lent.cursor_factory = AsyncCursor
    else:
        lent = LentConnection(wire.pgconn, tuple_row)
        lent.cursor_factory = Cursor
    lent.loan = Loan()
    lent.prepare_threshold = 5 if prepares else None
    return lent
