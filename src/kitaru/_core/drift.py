"""When a call on resume is not the call that was recorded.

A call without a record has *drifted* if a recorded success of the same checkpoint
stands unclaimed where this life should have claimed it already. This file only
judges what it is shown; what to do about it is the engine's decision.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Generic, Protocol, TypeVar


class Recorded(Protocol):
    """A recorded success in one (parent, branch, checkpoint)."""

    @property
    def identity(self) -> bytes: ...
    @property
    def place(self) -> int: ...
    @property
    def arguments(self) -> str: ...


R = TypeVar("R", bound=Recorded)

MAX_COMPARED = 64
"""Records whose arguments are compared with the call's, the nearest before it."""


def find_drift(
    places: Iterable[R], claimed: Collection[bytes], place: int, arguments: str
) -> R | None:
    """The recorded success that the call at ``place`` should have been, if there is one.

    ``places`` are the recorded successes of its (parent, branch, checkpoint),
    ``claimed`` the identities that calls of this life have found. One that stands
    unclaimed at this place or before it means that this call drifted; one behind it
    may still be called. Of several: the one at the same place, else the one with the
    most equal arguments, else the nearest before.
    """
    open_ = [each for each in places if each.place <= place and each.identity not in claimed]
    if not open_:
        return None
    open_.sort(key=lambda each: each.place)
    if open_[-1].place == place:
        return open_[-1]
    return min(
        reversed(open_[-MAX_COMPARED:]),
        key=lambda each: len(differing_arguments(each.arguments, arguments)),
    )


class OpenPlaces(Generic[R]):
    """The recorded successes of one (parent, branch, checkpoint) that are still unclaimed.

    Judges as :func:`find_drift` does, but forgets what was claimed, so that judging
    call after call behind 100,000 records stays cheap. Whoever treats a call as the
    drift of a record should add the record to ``claimed``: else the next new call
    would be taken for the drift of the same record again.
    """

    __slots__ = ("_open",)

    def __init__(self, places: Iterable[R]) -> None:
        self._open = list(places)

    def find_drift(self, claimed: Collection[bytes], place: int, arguments: str) -> R | None:
        self._open = [each for each in self._open if each.identity not in claimed]
        return find_drift(self._open, (), place, arguments)


def differing_arguments(recorded: str, called: str) -> list[str]:
    """The names of the arguments that were changed, added or removed, in the order of the call.

    Both are JSON, name -> digest, as they are recorded.

    >>> differing_arguments('{"a":"01","b":"02"}', '{"b":"03","c":"04"}')
    ['b', 'c', 'a']
    """
    before, now = parse_arguments(recorded), parse_arguments(called)
    changed = [name for name, digest in now.items() if before.get(name) != digest]
    return changed + [name for name in before if name not in now]


def parse_arguments(text: str) -> dict[str, str]:
    """Name -> hex digest; empty if it is no such JSON (a record of another make)."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
