"""The connection that a checkpoint with ``transaction=True`` has: its rows and its record are one.

What the body may do with it is decided where connections are made; when it begins and ends,
in the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kitaru._engine.context import here
from kitaru._engine.transacted import TransactionAttempt
from kitaru.errors import KitaruContextError

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Connection
    from psycopg.rows import TupleRow


def connection() -> Connection[TupleRow]:
    """The psycopg connection of a checkpoint with ``transaction=True`` that is a plain function.

    What is written over it is committed together with the outcome of the call, or not at
    all. ``with connection.transaction():`` makes a part that may fail alone; ``commit()``,
    ``rollback()`` and the like raise ``KitaruUsageError``, because the end is Kitaru's.
    Raises ``KitaruContextError`` anywhere else.

    >>> import kitaru
    >>> @kitaru.checkpoint(transaction=True)
    ... def credit(account: str, cents: int) -> None:
    ...     kitaru.connection().execute(
    ...         "update accounts set cents = cents + %s where name = %s", (cents, account)
    ...     )
    """
    return transaction_here("connection()", is_async=False).connection  # type: ignore[no-any-return]


def async_connection() -> AsyncConnection[TupleRow]:
    """The same for an ``async def`` checkpoint with ``transaction=True``.

    >>> import kitaru
    >>> @kitaru.checkpoint(transaction=True)
    ... async def credit(account: str, cents: int) -> None:
    ...     await kitaru.async_connection().execute(
    ...         "update accounts set cents = cents + %s where name = %s", (cents, account)
    ...     )
    """
    return transaction_here("async_connection()", is_async=True).connection  # type: ignore[no-any-return]


class TransactionHere:
    """The transaction in which the calling code stands."""

    __slots__ = ("_attempt",)

    def __init__(self, attempt: TransactionAttempt) -> None:
        self._attempt = attempt

    @property
    def connection(self) -> Any:
        """A ``psycopg.Connection``, or ``AsyncConnection``, in which it has begun."""
        transaction = self._attempt.transaction
        assert transaction is not None
        return transaction.connection

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What was made under that name in this transaction; made now if nothing was."""
        kept = self._attempt.kept
        if name not in kept:
            kept[name] = make()
        return kept[name]

    def before_end(self, hook: Callable[[], Any]) -> None:
        """Call it once the body has returned, and before its outcome is recorded; await it where
        the body is async. What it raises is the body's failure."""
        self._attempt.hooks.append(hook)

    def when_over(self, hook: Callable[[], object]) -> None:
        """Call it when the transaction is over, however that came. It may not use it."""
        self._attempt.over_hooks.append(hook)


def transaction_here(what: str, *, is_async: bool) -> TransactionHere:
    """Where the caller stands, or ``KitaruContextError`` that names ``kitaru.{what}``."""
    place = here.get()
    attempt = None if place is None else place.attempt
    if place is None or not isinstance(attempt, TransactionAttempt):
        raise KitaruContextError(
            f"kitaru.{what} was called outside the body of a checkpoint with transaction=True: "
            "call it there; a unit test calls a function that takes the connection as an argument",
            code="outside-transaction",
        )
    place.check()
    if attempt.is_over:
        raise KitaruContextError(
            f"kitaru.{what} was called by something that a checkpoint left running: its "
            "transaction is over. Await tasks and threads before returning",
            code="attempt-is-over",
        )
    assert attempt.call is not None
    if attempt.call.spec.is_async is not is_async:
        name = what.removeprefix("async_")
        raise KitaruContextError(
            f"kitaru.{what} was called in checkpoint {attempt.call.spec.name!r}, which is "
            + ("a plain function: " if is_async else "async: ")
            + f"use kitaru.{name if is_async else 'async_' + name}",
            code="outside-transaction",
        )
    return TransactionHere(attempt)
