"""Many calls at once: identities first and in order, then at most so many bodies at a time."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import Any

from kitaru._core.replaying import UNKNOWN_PLACE, Span
from kitaru._core.values import message_of
from kitaru._engine.call import Call, CheckpointSpec
from kitaru._engine.calling import Options, prepare, where
from kitaru._engine.carrying import map_fact
from kitaru._engine.context import Place
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
    if place is not None:
        _remember_length(place, submitted)
    _Mapping(submitted, concurrency, stop_on_error=on_error == "stop").begin()
    return submitted


def _remember_length(place: Place, submitted: list[Submitted]) -> None:
    """For replays, which take no outcome by place inside a map whose length changed."""
    first = submitted[0].call
    # Unknown where the arguments are not known yet: then nothing there goes by place.
    number = first.number if isinstance(first, Call) else UNKNOWN_PLACE
    span = Span(number, len(submitted))
    run, parent, branch = place.run, place.attempt, place.branch
    run.ride(map_fact(parent, branch, first.spec, span))
    if run.past is not None:
        run.past.note_map(parent, branch.label, first.spec.id, span)


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
        self._held: deque[Submitted] = deque()
        self._before_held = 0

    def begin(self) -> None:
        self._hold_back()
        for one in self._all:
            one.may_be_stolen = self._limit >= len(self._all) and not self._held
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
        elif self._before_held:
            self._one_kept()
        elif self._limit < len(self._all):
            self._start_next()

    def _hold_back(self) -> None:
        """In a replay: what keeps an outcome first.

        A failure that stopped the map then stops it again, before anything runs that
        was not started there.
        """
        past = self._all[0].call.run.past if self._all else None
        if past is None or not self._stop_on_error:
            return
        kept = {one for one in self._all if isinstance(one.call, Call) and past.keeps(one.call)}
        if kept and len(kept) < len(self._all):
            self._held = deque(one for one in self._all if one not in kept)
            self._waiting = deque(one for one in self._all if one in kept)
            self._before_held = len(kept)

    def _one_kept(self) -> None:
        with self._lock:
            self._before_held -= 1
            starting = 1
            if not self._before_held and not self._stopped:
                self._waiting.extend(self._held)
                starting = self._limit
        for _ in range(starting):
            if not self._start_next():
                break

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
