"""The one order in which the census shows things."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def biggest_first(things: Iterable[T], size: Callable[[T], int]) -> list[T]:
    """The biggest first; things of one size keep their order.

    The demo edits this helper in a copy of the example: `summarise` uses it and runs
    again, `parse_file` does not and is reused.
    """
    return sorted(things, key=size, reverse=True)
