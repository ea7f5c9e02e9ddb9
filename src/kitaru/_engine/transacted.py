"""One try of a call whose body has a transaction: what belongs to it, and what is refused in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kitaru._engine.context import Attempt
from kitaru.errors import KitaruContextError, KitaruFeatureNotAvailableError

if TYPE_CHECKING:
    from kitaru._engine.call import Call, CheckpointSpec
    from kitaru._engine.run import Run
    from kitaru._engine.waking import Latch
    from kitaru._store.protocol import Transaction

_handing = threading.Lock()
"""Guards whether a try is left, against the thread that brings its transaction."""


def refuse_without(run: Run, spec: CheckpointSpec) -> None:
    """A store that is no PostgreSQL database has no transaction to give."""
    if run.store.transactions is None:
        raise KitaruFeatureNotAvailableError(
            f"checkpoint {spec.name!r} has transaction=True, which takes a store in PostgreSQL: "
            "its outcome is recorded in a transaction of that database. Point KITARU_STORE (or "
            "kitaru.configure(store=...)) at the database in which your tables are; or, here, use "
            'effect="once"',
            code="transaction-needs-postgres",
        )


class TransactionAttempt(Attempt):
    """A try with a transaction: no other checkpoint or flow is called in it."""

    __slots__ = ("hooks", "is_left", "kept", "over_hooks", "place", "transaction")

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.is_closed = True
        self.is_left = False
        self.transaction: Transaction | None = None
        self.place: Latch | None = None
        """Over once it has one of the places of this process."""
        self.kept: dict[str, Any] = {}
        """What was made for it once."""
        self.hooks: list[Callable[[], Any]] = []
        """Called once the body has returned, before its outcome is recorded; awaited where the
        body is."""
        self.over_hooks: list[Callable[[], object]] = []
        """Called when its transaction is over, however that came; they may not use it."""

    def begun(self, transaction: Transaction) -> None:
        with _handing:
            if not self.is_left:
                self.transaction = transaction
                return
        transaction.discard()  # nobody waits for it any more


def leave(call: Call) -> None:
    """End what is left of a try, if anything is. Waits for nothing."""
    attempt = call.transacted
    if attempt is None:
        return
    call.transacted = None
    with _handing:
        attempt.is_left = True
    attempt.is_over = True
    if attempt.transaction is not None:
        attempt.transaction.discard()
    if attempt.place is not None:
        call.run.services.transactions.leave(attempt.place)
    for hook in attempt.over_hooks:
        with suppress(Exception):
            hook()


def has_transaction(attempt: Attempt) -> bool:
    """Whether it is the try of a body that stands in its transaction."""
    return isinstance(attempt, TransactionAttempt) and not attempt.is_over


def refuse_inside(what: str, attempt: Attempt) -> None:
    """Raise if that is called in a body with a transaction, whose records would be apart."""
    if has_transaction(attempt):
        assert attempt.call is not None
        raise KitaruContextError(
            f"{what} was called in the body of checkpoint {attempt.call.spec.name!r}, which has "
            "transaction=True: what is recorded of it would stay where the transaction is rolled "
            "back. Call it in the flow, before or after, and hand over its result; to start a flow "
            "in it, write options(connection=kitaru.connection()).enqueue(...)",
            code="inside-transaction",
        )
