"""Who hears of events: the one place that emits them, and the logger ``kitaru``.

An event about a record is told once that is durable: what rides in a later
transaction (a reuse, a note) has its event ride with it. While nobody listens, the
cost is the test of ``active``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kitaru._core.lifecycle import CallState
from kitaru._engine.events import Event, of_call, of_calls, of_execution, of_write
from kitaru._store.protocol import ExecutionRow, Record
from kitaru.notices import notice_once

if TYPE_CHECKING:
    from kitaru._engine.call import Call, CheckpointSpec
    from kitaru._engine.context import Attempt
    from kitaru._engine.run import Recalled, Run

Listener = Callable[[Event], None]

logger = logging.getLogger("kitaru")
# A program that sets up no logging has our notices on stderr; nothing is said twice.
logger.addHandler(logging.NullHandler())


class Events:
    """Who listens in this process, and the telling.

    Listeners are called on whichever thread made the thing durable, so they must
    be quick; one that raises is told of once and costs nobody else anything.
    """

    def __init__(self) -> None:
        self.active = False
        """Whether anybody listens: what is tested where time matters."""
        self._listeners: tuple[Listener, ...] = ()
        self._logs = False
        self._lock = threading.Lock()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every event from now on -> a function that ends it."""
        with self._lock:
            self._listeners = (*self._listeners, listener)
        self.look()

        def end() -> None:
            with self._lock:
                self._listeners = tuple(each for each in self._listeners if each is not listener)
            self.look()

        return end

    def look(self) -> None:
        """Find out again whether anybody listens: the program may have set up logging meanwhile.

        Done where an execution begins, and not at each event, which must cost nothing.
        """
        with self._lock:
            self._logs = _has_handlers(logger)
            self.active = self._logs or bool(self._listeners)

    def tell(self, *events: Event) -> None:
        for event in events:
            if self._logs and logger.isEnabledFor(event.level):
                _log(event)
            for listener in self._listeners:
                try:
                    listener(event)
                except Exception as error:
                    notice_once(f"a listener of events failed: {type(error).__name__}: {error}")

    def written(self, row: ExecutionRow, write: Any, answer: Any) -> None:
        """Tell what a durable write said. ``row``: the execution."""
        if self.active and (self._wants_calls() or _is_news(write)):
            self.tell(*of_write(row, write, answer))

    def claimed(self, row: ExecutionRow) -> None:
        """Tell that an execution was taken from a queue, with others in one write."""
        if self.active:
            self.tell(of_execution(row, "execution.claimed"))

    def lost(self, row: ExecutionRow, reason: str) -> None:
        """Tell that an execution left this process without our having written that."""
        self.tell(of_execution(row, "execution.lost", reason=reason))

    def started(self, call: Call) -> None:
        if self._wants_calls():
            self.tell(of_call(call, "call.started"))

    def abandoned(self, call: Call) -> None:
        if self._wants_calls():
            self.tell(of_call(call, "call.abandoned"))

    def submitted(self, run: Run, spec: CheckpointSpec, parent: Attempt, calls: int) -> None:
        if self._wants_calls():
            self.tell(of_calls(run, spec, parent, "calls.submitted", calls))

    def recalled(self, call: Call, found: Recalled) -> None:
        if not self._wants_calls():
            return
        reason = "its recorded failure" if found.state is CallState.FAILED else None
        seconds = call.run.seconds_of(found.id)
        self.tell(of_call(call, "call.recalled", source="recalled", seconds=seconds, reason=reason))

    def _wants_calls(self) -> bool:
        """Whether what goes well is of interest, which logging shows at DEBUG only."""
        return bool(self._listeners) or logger.isEnabledFor(logging.DEBUG)


def _is_news(write: Any) -> bool:
    """Whether a write says more than that calls have completed."""
    if type(write) is not Record:
        return True
    return any(call.state is CallState.FAILED for call in write.facts.calls)


def _has_handlers(found: logging.Logger | None) -> bool:
    """Whether records of the logger reach anybody, more than our own silence."""
    while found is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in found.handlers):
            return True
        found = found.parent if found.propagate else None
    return False


def _log(event: Event) -> None:
    extra: dict[str, Any] = event._asdict()
    extra["event"] = extra.pop("name")  # a record's `name` is its logger's
    logger.log(event.level, "%s", event.words(), extra=extra)
