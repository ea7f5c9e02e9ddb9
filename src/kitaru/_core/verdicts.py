"""What ``verify=`` says of an effect that may or may not have taken place."""

from __future__ import annotations

from typing import Any


class Done:
    """It took place, and this is what the call comes to; None is a value like any other.

    >>> Done("receipt-7").value
    'receipt-7'
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"kitaru.Done({self.value!r})"


class NotDone:
    """It did not take place: the body may run."""

    __slots__ = ()


class Unknown:
    """Nobody can tell: a person decides."""

    __slots__ = ()
