"""Transactions of which nobody knows yet whether they were committed, and their answers.

A connection can be lost between the commit and its answer, and the server with it. What
the writes were answered is then kept until it is known; whoever brings the same write again,
the very object, gets its answer if it was recorded. It is done anew if it was not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Kept = tuple[Any, Any, BaseException | None]
"""A write, what it was answered, or how it was refused."""


class Doubts:
    """Stands before ``perform``. Used by whoever leads the group commit, and by nobody else."""

    def __init__(self, perform: Callable[[Any], Any]) -> None:
        self._perform = perform
        self._kept: list[Kept] = []
        self._recognised: dict[int, Kept] = {}
        """By the identity of the write, which is kept alive here."""

    def __bool__(self) -> bool:
        return bool(self._kept)

    def keep(self, answers: Iterable[Kept]) -> None:
        """A transaction is in doubt. While one is, no other can be begun."""
        if not self._kept:
            self._kept = list(answers)

    def resolve(self, was_committed: bool) -> None:
        if was_committed:
            # Those of an earlier doubt were brought again by now, or never will be.
            self._recognised = {id(kept[0]): kept for kept in self._kept}
        self._kept = []

    def recognise_any(self) -> bool:
        """Whether a write that comes may have been answered before."""
        return bool(self._recognised)

    def perform(self, write: Any) -> Any:
        """Perform a write, or give the answer of before if it was recorded."""
        known = self._recognised.pop(id(write), None) if self._recognised else None
        if known is None:
            return self._perform(write)
        _, answer, error = known
        if error is not None:
            raise error
        return answer
