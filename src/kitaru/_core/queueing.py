"""Which of what is queued is claimed next: by priority, in turns, where there is room.

Pure: the databases find the candidates and how much room there is; that the choice then
holds is for them to make sure of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import groupby, islice
from typing import NamedTuple

DEFAULT_QUEUE = "default"

MAX_PRIORITY = 1_000_000
"""Priorities go from minus this to this."""

MAX_LIMIT = 10_000
"""What may run at once under one name, at most: a claim looks at all its slots."""


class Queued(NamedTuple):
    """A candidate for a claim. ``turn``: the place of its flow among those that take turns."""

    id: int
    epoch: int
    turn: int
    priority: int
    since: int
    """The instant from which on it may be claimed: what its age is counted from."""
    queue: str
    limit_key: str | None


def choose(candidates: Iterable[Queued], room: Mapping[str, int], *, limit: int) -> list[Queued]:
    """Those to claim, in order. ``room``: free slots by name, of the names that have limits.

    >>> small, large = Queued(3, 0, 1, 0, 90, "q", None), Queued(1, 0, 0, 0, 10, "q", None)
    >>> [one.id for one in choose([large, large._replace(id=2), small], {}, limit=2)]
    [1, 3]
    """
    left = dict(room)
    chosen: list[Queued] = []
    ordered = sorted(candidates, key=lambda one: (-one.priority, one.turn, one.since, one.id))
    for _, same_priority in groupby(ordered, key=lambda one: one.priority):
        lines = [deque(line) for _, line in groupby(same_priority, key=lambda one: one.turn)]
        while lines and len(chosen) < limit:
            # One of each flow, and round again.
            for line in lines[: limit - len(chosen)]:
                taken = _next(line, left)
                if taken is not None:
                    chosen.append(taken)
            lines = [line for line in lines if line]
    return chosen


def _next(line: deque[Queued], left: dict[str, int]) -> Queued | None:
    """The first of the line that has room, which is then taken; those before it are passed over."""
    while line:
        one = line.popleft()
        names = [name for name in {one.queue, one.limit_key or one.queue} if name in left]
        if all(left[name] > 0 for name in names):
            for name in names:
                left[name] -= 1
            return one
    return None


def free_numbers(taken: Iterable[int], most: int) -> list[int]:
    """The numbers of the slots that may be taken, lowest first.

    Those above ``most`` count too: they are there if it was lowered while they were held.

    >>> free_numbers([2], 3), free_numbers([1, 7], 3), free_numbers([5, 6, 7], 3)
    ([1, 3], [2], [])
    """
    held = set(taken)
    free = (number for number in range(1, most + 1) if number not in held)
    return list(islice(free, max(0, most - len(held))))
