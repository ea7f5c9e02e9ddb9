"""Killing a flow at every point, one after another, and looking whether it comes to the same.

First the flow runs undisturbed, and the places at which it could die are counted: every
effect of the engine, and before and after each commit. Then it is run anew for each of them,
killed there and gone on with in another life, on the same store, with the same ids and
the same time, so that what differs is the crash's doing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kitaru import app as _app
from kitaru._core.lifecycle import State, WaitKind
from kitaru._core.names import shortened
from kitaru._core.values import failure_info
from kitaru._engine.events import CALL_ID_DIGITS
from kitaru._engine.unwind import Unwind
from kitaru._store.protocol import Refused
from kitaru.client import KitaruClient
from kitaru.env import SystemEnv
from kitaru.errors import KitaruError, KitaruUsageError
from kitaru.flows import Flow
from kitaru.testing.clock import VirtualClock
from kitaru.testing.memory import LifeEnv
from kitaru.testing.world import Answers, World

if TYPE_CHECKING:
    from kitaru._engine.events import Event
    from kitaru._store.protocol import ExecutionRow, OpenWait

_KEY = "kitaru.testing"
_MAX_LIVES = 10
_FINISHED = (State.COMPLETED, State.FAILED, State.CANCELLED)

Decide = Mapping[str, Any] | Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class CrashReport:
    """What :func:`crash_everywhere` has tried. ``result`` is what the flow came to each time."""

    points: tuple[str, ...]
    """Where it was killed, in the order in which a life comes by."""
    result: Any
    failure: str | None
    """What it failed with, if failing is what it does undisturbed."""
    uncertain: int
    """Trials that ended with a person being asked what became of a body that was cut off."""

    def __str__(self) -> str:
        asked = f", {self.uncertain} of them up to a person" if self.uncertain else ""
        came_to = f"failure {self.failure}" if self.failure else shortened(self.result)
        return f"killed at {len(self.points)} points{asked}, each time: {came_to}"


def crash_everywhere(
    flow: Flow[..., Any],
    *args: Any,
    answers: Answers | None = None,
    decide: Decide | None = None,
    timeout: float = 30.0,
    **kwargs: Any,
) -> CrashReport:
    """Kill the flow at every point where it could die, and assert that it always ends the same.

    ``args`` and ``kwargs`` are the flow's; ``answers`` as for :func:`in_memory`, in whose
    worlds it runs. Raises ``AssertionError`` that names the point if the result or the
    failure differs, if the body of a checkpoint with ``effect="once"`` starts twice without
    anybody having decided that, or if an execution does not end within ``timeout`` real
    seconds. A body with ``effect="once"`` that was cut off is uncertain: ``decide`` gives for its
    checkpoint's name ``"run"``, ``"abort"`` or ``("adopt", value)``; without it the trial ends
    there. Code of the flow between its checkpoints runs again in each life, as after any crash.

    The flow has to come to the same each time by itself: what it takes from outside
    (files, a counter) must not change with every run.

    >>> import kitaru
    >>> from kitaru.testing import crash_everywhere
    >>> @kitaru.checkpoint
    ... def price(number: int) -> int:
    ...     return 10 * number
    >>> @kitaru.flow
    ... def total(count: int) -> int:
    ...     return sum(price(number) for number in range(count))
    >>> report = crash_everywhere(total, 3)
    >>> report.result, len(report.points) > 10
    (30, True)
    """
    if not isinstance(flow, Flow):
        raise KitaruUsageError(
            f"crash_everywhere({shortened(flow)}, ...): pass a function decorated with @flow",
            code="option-invalid",
        )
    start = datetime.fromtimestamp(SystemEnv().now() / 1e6, UTC)
    trial = _Trial(flow, args, kwargs, answers, decide, start, timeout)
    expected, points = trial.play(None)
    uncertain = 0
    for number, name in enumerate(points, start=1):
        found, _ = trial.play(number)
        where = f"flow {flow.spec.name!r}, killed at point {number} of {len(points)} ({name})"
        _compare(found, expected, where)
        uncertain += found.asked is not None
    return CrashReport(tuple(points), trial.result, expected.failure, uncertain)


def _compare(found: _End, expected: _End, where: str) -> None:
    """Raise ``AssertionError`` unless a trial came to what it had to come to."""
    if found.asked is None and found.outcome != expected.outcome:
        raise AssertionError(f"{where}, came to {found}; undisturbed to {expected}")
    if found.repeated:
        raise AssertionError(
            f"{where}: the body of {', '.join(found.repeated)} started twice, in spite of "
            'effect="once"'
        )


@dataclass(frozen=True, slots=True)
class _End:
    """What an execution came to."""

    status: State
    value: bytes | None
    failure: str | None
    shown: str
    repeated: tuple[str, ...]
    asked: str | None
    """The checkpoint of which a person is asked what became of it."""

    @property
    def outcome(self) -> tuple[State, bytes | None, str | None]:
        return self.status, self.value, self.failure

    def __str__(self) -> str:
        return self.shown


class _Trial:
    """One flow with its arguments, played again and again."""

    def __init__(
        self,
        flow: Flow[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        answers: Answers | None,
        decide: Decide | None,
        start: datetime,
        timeout: float,
    ) -> None:
        self._flow = flow
        self._args = args
        self._kwargs = kwargs
        self._answers = answers
        self._decide = decide
        self._start = start
        self._timeout = timeout
        self._starts: Counter[tuple[str, str]] = Counter()
        self.result: Any = None

    def play(self, dies_at: int | None) -> tuple[_End, list[str]]:
        """Run it in a new world -> (what it came to, the points of its first life)."""
        outside = _app.set_aside()
        self._starts.clear()
        try:
            world = World(VirtualClock(self._start), auto=True, answers=self._answers)
            first = LifeEnv(world.clock, dies_at=dies_at)
            try:
                world.kill()
                world.live(first)
                end = self._play_in(world, first)
                points = list(first.points)
                if dies_at is None and end.status is State.COMPLETED:
                    self.result = KitaruClient().executions.latest().result()
            finally:
                world.end(0.0)
        finally:
            _app.use(outside)
        return end, points

    def _play_in(self, world: World, env: LifeEnv) -> _End:
        for _ in range(_MAX_LIVES):
            self._listen()
            end = self._live(world, env)
            if end is not None:
                return end
            world.kill()
            env = LifeEnv(world.clock)
            world.live(env)
        raise AssertionError(f"flow {self._flow.spec.name!r} has not ended in {_MAX_LIVES} lives")

    def _listen(self) -> None:
        def heard(event: Event) -> None:
            if event.name == "call.started" and event.call_id is not None:
                self._starts[event.call_id, event.checkpoint or ""] += 1

        _app.current().services.events.listen(heard)

    def _live(self, world: World, env: LifeEnv) -> _End | None:
        """One life -> what the execution came to; None if this life was killed first."""
        try:
            self._flow.options(key=_KEY).run(*self._args, **self._kwargs)
        except (KitaruError, Refused, Unwind):
            if not env.died.is_set():
                raise
            return None
        began = world.clock.monotonic()
        while not env.died.is_set():
            (row,) = world.store.list_executions(project=_app.current().project, key=_KEY, limit=1)
            asked = self._asked(world, row)
            if row.status in _FINISHED or asked is not None:
                return self._end(world, row, asked)
            if world.clock.monotonic() - began > self._timeout:
                raise AssertionError(
                    f"flow {self._flow.spec.name!r} is {row.status} "
                    f"({row.status_reason or 'it runs'}) after {self._timeout:g} s, killed at "
                    f"{env.dies_at or 'no point'}"
                )
            world.pause()
        return None

    # --- what became of it ----------------------------------------------------------

    def _asked(self, world: World, row: ExecutionRow) -> str | None:
        """Answer what is uncertain; the checkpoint of which nobody says what became of it."""
        for each in world.open_waits():
            if each.wait.row.kind is not WaitKind.DECISION or row.status is not State.WAITING:
                continue
            name = _checkpoint_of(each)
            decision = self._decision(name)
            if decision is None:
                return name
            self._give(each, decision)
        return None

    def _decision(self, name: str) -> Any:
        if self._decide is None:
            return None
        if isinstance(self._decide, Mapping):
            return self._decide.get(name)
        return self._decide(name)

    def _give(self, each: OpenWait, decision: Any) -> None:
        assert each.wait.row.call is not None
        call = each.wait.row.call.hex()[:CALL_ID_DIGITS]
        client = KitaruClient().executions
        if isinstance(decision, tuple):
            what, value = decision
            client.decide(each.exec_id, call, what, value=value)
        else:
            client.decide(each.exec_id, call, decision)

    def _end(self, world: World, row: ExecutionRow, asked: str | None) -> _End:
        failure = None
        if row.failure is not None and row.status is State.FAILED:
            info = failure_info(row.failure)
            failure = f"{info.exception_type}: {info.message}"
        value = None if row.result is None else row.result.data
        shown = failure or (f"{row.status}" if value is None else shortened(value.decode()))
        repeated = self._repeated(world, row)
        return _End(row.status, value, failure, shown, repeated, asked)

    def _repeated(self, world: World, row: ExecutionRow) -> tuple[str, ...]:
        """Checkpoints with ``effect="once"`` that started more often than was decided."""
        decided = Counter(
            wait.row.call.hex()[:CALL_ID_DIGITS]
            for wait in world.store.list_waits(row.id)
            if wait.row.call is not None
        )
        once = {
            intent.identity.hex()[:CALL_ID_DIGITS] for intent in world.store.list_intents(row.id)
        }
        return tuple(
            checkpoint
            for (call_id, checkpoint), count in self._starts.items()
            if (number := call_id.rpartition(":")[2]) in once and count > 1 + decided[number]
        )


def _checkpoint_of(each: OpenWait) -> str:
    return each.wait.row.name or each.wait.row.label
