"""Transactions of user code in which the outcome of its call is recorded, where there are any."""

from __future__ import annotations

from typing import Any, Protocol

from kitaru._store.protocol.executions import Record


class TransactionLost(Exception):
    """Nothing of it is there, or ever will be: its connection went before it was committed."""


class Transaction(Protocol):
    """One that has begun, for one try of a call. Ended once; what comes later does nothing."""

    @property
    def connection(self) -> Any:
        """What the body works with, until the transaction ends."""
        ...

    def was_lost(self, error: BaseException | None) -> bool:
        """Whether its connection is gone; ``error``: what the body has raised."""
        ...

    def record(self, write: Record) -> None:
        """Add the record as the last statement, and commit.

        Raises :class:`TransactionLost`; :class:`Refused`; what the database says against
        committing, or that the body has ended or spoilt it: then everything is rolled back.
        While it is not known whether it was committed ``KitaruBackendError`` with the code
        ``store-away``: call it again with the same write to find out.
        """
        ...

    def roll_back(self) -> None:
        """End it; never raises. What still uses the connection is ended, not waited for."""
        ...

    def discard(self) -> None:
        """The same without asking the server, for whoever may wait for nothing."""
        ...


class BodyTransactions(Protocol):
    def begin(self, exec_id: str, epoch: int, *, is_async: bool) -> Transaction:
        """Begin one for the owner of that execution; ends those of its former owners.

        Raises ``KitaruBackendError`` if the database gives no connection.
        """
        ...
