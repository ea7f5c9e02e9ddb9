"""The transaction of a checkpoint with ``transaction=True``, as a session of SQLAlchemy."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from kitaru.errors import KitaruFeatureNotAvailableError
from kitaru.transactions import TransactionHere, transaction_here

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session


def session() -> Session:
    """SQLAlchemy's session on :func:`kitaru.connection`: the same transaction, the same rules.

    One a try: each call in a body gives the same. What is pending is flushed when the body
    returns, and committed together with the outcome. ``with session.begin_nested():`` makes a
    part that may fail alone; ``commit()``, ``rollback()`` and the like raise
    ``KitaruUsageError``. Raises ``KitaruContextError`` outside such a body.

    >>> import kitaru
    >>> @kitaru.checkpoint(transaction=True)
    ... def place(number: int) -> None:
    ...     kitaru.session().add(Order(number=number))
    """
    here = transaction_here("session()", is_async=False)
    return here.once("session", lambda: _leased(here, _alchemy().lease))  # type: ignore[no-any-return]


def async_session() -> AsyncSession:
    """The same for an ``async def`` checkpoint: SQLAlchemy's ``AsyncSession``.

    >>> import kitaru
    >>> @kitaru.checkpoint(transaction=True)
    ... async def place(number: int) -> None:
    ...     kitaru.async_session().add(Order(number=number))
    """
    here = transaction_here("async_session()", is_async=True)
    return here.once("session", lambda: _leased(here, _alchemy().lease_async))  # type: ignore[no-any-return]


def _leased(here: TransactionHere, lease: Any) -> Any:
    leased = lease(here.connection)
    here.before_end(leased.flush)
    here.when_over(leased.end)
    return leased.session


def _alchemy() -> ModuleType:
    try:
        from kitaru._store.postgres import alchemy
    except ImportError as error:
        if (error.name or "").startswith("kitaru"):
            raise
        raise KitaruFeatureNotAvailableError(
            f"kitaru.session() takes SQLAlchemy, which cannot be loaded ({error}): run `pip "
            "install 'sqlalchemy[asyncio]>=2.0.40'` in this environment, or use "
            "kitaru.connection()",
            code="driver-not-installed",
        ) from None
    return alchemy
