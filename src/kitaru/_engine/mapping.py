"""Many calls at once: identities first and in order, then at most so many bodies at a time."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import Any

from kitaru._core.values import message_of
from kitaru._engine.call import CheckpointSpec
from kitaru._engine.calling import Options, prepare, where
from kitaru._engine.events import of_calls
from kitaru._engine.futures import Submitted, start


def map_calls(
    spec: CheckpointSpec,
    items: list[tuple[tuple[Any, ...], dict[str, Any]]],
    options: Options,
    concurrency: int | None,
    on_error: str,
) -> list[Submitted]:
    """Submit a call for each item; what happens after a failure is ``on_error``'s."""
    place = where(spec) if items else None
    if place is not None and place.run.events.active:
        # First: that takes a while for very many.
        place.run.events.submitted(place.run, spec, place.attempt, len(items))
    submitted = [prepare(spec, args, kwargs, options) for args, kwargs in items]
    _Mapping(submitted, concurrency, stop_on_error=on_error == "stop").begin()
    return submitted


class _Mapping:
    """Starts the next item when one is done. Its lock guards the queue of those to come."""

    def __init__(
        self, submitted: list[Submitted], concurrency: int | None, *, stop_on_error: bool
    ) -> None:
        self._all = submitted
        self._waiting = deque(submitted)
        self._limit = len(submitted) if concurrency is None else concurrency
        self._stop_on_error = stop_on_error
        self._stopped = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        for one in self._all:
            one.may_be_stolen = self._limit >= len(self._all)
            one.when_done(lambda done=one: self._after(done))  # type: ignore[misc]
        for _ in range(self._limit):
            if not self._start_next():
                break

    def _start_next(self) -> bool:
        with self._lock:
            if not self._waiting or self._stopped:
                return False
            following = self._waiting.popleft()
        start(following)
        return True

    def _after(self, done: Submitted) -> None:
        if done.dropped_because is not None:
            return
        if done.error is not None and self._stop_on_error:
            self._stop(done)
        elif self._limit < len(self._all):
            self._start_next()

    def _stop(self, failed: Submitted) -> None:
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            self._waiting.clear()
        assert failed.error is not None
        error = f"{type(failed.error).__name__}: {message_of(failed.error):.200}"
        why = f"item {self._all.index(failed)} of the map failed ({error})"
        dropped = [index for index, one in enumerate(self._all) if one.drop(why)]
        if dropped:
            run, name = failed.call.run, failed.call.spec.name
            run.note(
                "not_started",
                f"{len(dropped)} of {len(self._all)} items of a map of checkpoint {name!r} were "
                f"not started (items {_ranges(dropped)}) because {why}; "
                'on_error="finish" runs them all the same',
                of_calls(
                    run,
                    failed.call.spec,
                    failed.call.parent,
                    "calls.not_started",
                    len(dropped),
                    why,
                ),
            )


def _ranges(numbers: list[int]) -> str:
    """Sorted numbers as people write them.

    >>> _ranges([1, 2, 3, 7])
    '1-3, 7'
    """
    runs = [
        [number for _, number in run]
        for _, run in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    ]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
