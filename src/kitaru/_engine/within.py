"""The caller's own transaction, in which an execution is started: ``options(connection=)``.

Until that transaction is committed the execution is there for nobody, and whoever asks its
handle is told why. Which connection that is, only the store knows.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import TypeVar

from kitaru._store.protocol import ExecutionRow, Joinable, Joining, Start, Started, Store
from kitaru.errors import KitaruNotFoundError, KitaruUsageError

R = TypeVar("R")

_AHEAD = "before the commit it is there for nobody"
_WHY = {
    "in progress": (
        "the transaction in which it is enqueued is not committed yet. Commit, and ask then: "
        + _AHEAD
    ),
    "aborted": (
        "the transaction in which it was enqueued was rolled back, and with it the execution, "
        "which nobody has seen. Enqueue again, if the transaction is done again"
    ),
    "committed": (
        "the transaction in which it was enqueued is committed, without it: it was rolled back to "
        "a savepoint before, or it was deleted since. Look: kitaru executions list"
    ),
}
_LOST = (
    "nothing is known any more of the transaction in which it was enqueued: that was rolled back, "
    "or the execution was deleted since. Look: kitaru executions list"
)


class Within:
    """One transaction of the caller's. ``missing`` is asked for an execution that was started
    in it and is not there."""

    def __init__(self, store: Joinable, join: Callable[[], Joining]) -> None:
        self._store = store
        self._join: Callable[[], Joining] | None = join
        self._transaction: str | None = None

    def start(self, new: Start) -> Started:
        join = self._join
        assert join is not None, "one transaction starts one execution here"
        # Through an outage of ours it is asked for again, and joins anew.
        joining = join()
        started = joining.start(new)
        # The handle lives on; the connection is the caller's.
        self._join = None
        self._transaction = joining.transaction
        return started

    def look(self, exec_id: str, find: Callable[[], ExecutionRow | None]) -> ExecutionRow:
        """The execution; if it is not there, the error that says why."""
        row = find()
        if row is None:
            fate = None if self._transaction is None else self._store.fate_of(self._transaction)
            # It may have been committed between the two looks.
            row = find() if fate == "committed" else None
            if row is None:
                raise KitaruNotFoundError(
                    f"execution {exec_id} is not in the store: {_WHY.get(fate or '', _LOST)}",
                    code="execution-not-committed",
                )
        return row


def within(store: Store, connection: object, flow: str, *, enqueue: bool) -> Within:
    """The transaction of that connection, for an execution of this flow."""
    joinable = _joinable(store, flow, enqueue=enqueue)
    return Within(joinable, lambda: joinable.join(connection))


def within_async(store: Store, connection: object, flow: str) -> Within:
    """The same of one that lives on this loop: what starts in it runs on another thread, and
    joins from there only then, so that a refusal before leaves nothing begun."""
    joinable = _joinable(store, flow, enqueue=True)
    loop = asyncio.get_running_loop()

    def join() -> Joining:
        # Without our context: for the loop this is no branch of a flow.
        joining = joinable.join_async(connection)
        return Context().run(asyncio.run_coroutine_threadsafe, joining, loop).result()

    return Within(joinable, join)


async def on_a_thread(function: Callable[[], R]) -> R:
    """``function()`` off this loop, in the caller's context. Whoever is cancelled meanwhile is
    so afterwards: the connection is the caller's again only then.

    On a thread of its own: it may wait for a transaction whose owner needs a thread of the
    loop's to end it.
    """
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[R] = loop.create_future()
    context = copy_context()

    def work() -> None:
        try:
            settle = partial(asked.set_result, context.run(function))
        except BaseException as error:
            settle = partial(asked.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=work, name="kitaru-enqueue", daemon=True).start()
    try:
        return await asyncio.shield(asked)
    except asyncio.CancelledError:
        if not asked.done():
            await asyncio.wait([asked])
        raise


def _joinable(store: Store, flow: str, *, enqueue: bool) -> Joinable:
    """The store, if an execution can begin in a transaction of the caller's there."""
    if not enqueue:
        raise KitaruUsageError(
            f"flow {flow!r}: what begins in a transaction of yours is run by a worker after your "
            f"commit. Write {flow}.options(connection=...).enqueue(...), or leave connection= out",
            code="run-in-a-transaction",
        )
    if not isinstance(store, Joinable):
        raise KitaruUsageError(
            f"flow {flow!r}: options(connection=) needs a store in the database of that "
            "connection, and this one is SQLite, whose file only Kitaru writes. Name the "
            "PostgreSQL database as the store (KITARU_STORE=postgresql://...), or enqueue without "
            "connection= after your commit, with a key",
            code="connection-unfit",
        )
    return store
