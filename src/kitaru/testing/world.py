"""A world for one test: a Kitaru in memory whose time passes when nothing else can happen.

A thread of the world looks after it: it gives the answers that were prepared, and
when nothing runs any more and something is due later, it moves the clock to then.
Real parts run in it, down to the store's protocol; only the place and the time are not real.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from kitaru import app as _app
from kitaru import settings as _settings
from kitaru._core.lifecycle import State, WaitKind
from kitaru._core.limits import use as use_limits
from kitaru._core.names import shortened
from kitaru._engine.draining import abandon
from kitaru._store.protocol import Refused
from kitaru._store.reference import ReferenceStore
from kitaru.client import KitaruClient
from kitaru.env import SystemEnv
from kitaru.errors import KitaruStateError, KitaruUsageError
from kitaru.testing.clock import VirtualClock
from kitaru.testing.memory import LifeEnv, Liveness, seen_by

if TYPE_CHECKING:
    from kitaru._store.protocol import OpenWait
    from kitaru.handles import FlowHandle
    from kitaru.model import PendingWait

Answers = Mapping[str, Any] | Callable[["PendingWait"], Any]

LEAVE_OPEN: Any = object()
"""What a function of answers returns for a wait that it does not answer."""

_LOOK_SECONDS = 0.002
_DEAD_SECONDS = 0.5
"""How long a life that was killed may take to come to a place where it notices."""
_MAX_WAITS = 10_000
_UNFINISHED = frozenset({State.PENDING, State.RUNNING, State.CANCELLING})


class World:
    """What :func:`in_memory` gives: the time, the waits and the lives of a test's Kitaru."""

    def __init__(self, clock: VirtualClock, *, auto: bool, answers: Answers | None) -> None:
        self.clock = clock
        self._auto = auto
        self._answers = answers
        self._settings = _settings.resolve()
        use_limits(self._settings.limits)
        self._project = self._settings.project or "tests"
        self.store = ReferenceStore(project=self._project, env=SystemEnv())
        self._liveness = Liveness(clock)
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._failed: BaseException | None = None
        self._asked: set[tuple[str, int]] = set()
        self._begin(LifeEnv(clock))
        self._thread = threading.Thread(target=self._look_after, name="kitaru-world", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<World at {self.now:%Y-%m-%d %H:%M:%S}Z>"

    # --- time ------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The world's time: aware UTC. It stands still while something runs."""
        return self.clock.shown

    def advance(self, by: float | timedelta, *, timeout: float = 30.0) -> None:
        """Let time pass, in seconds or as a timedelta, stopping wherever something is due.

        Returns once nothing runs any more; ``KitaruStateError`` if that takes more
        than ``timeout`` real seconds.
        """
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 0:
            raise KitaruUsageError(
                f"advance({shortened(by)}): pass seconds (0 or more) or a timedelta",
                code="option-invalid",
            )
        end = self.clock.now() + round(seconds * 1e6)
        self.settle(timeout=timeout)
        while (due := self.store.next_due(project=self._project)) is not None and due <= end:
            self._move_to(due)
            self.settle(timeout=timeout)
        self._move_to(end)
        self.settle(timeout=timeout)

    def pause(self) -> None:
        """A moment of real time, for whoever looks again and again."""
        self._stop.wait(_LOOK_SECONDS)

    def settle(self, *, timeout: float = 30.0) -> None:
        """Wait until nothing runs, and nothing is left that happens by itself.

        ``timeout`` in real seconds; after it ``KitaruStateError``.
        """
        began = self.clock.monotonic()
        while self._can_move():
            self._raise_failure()
            if self.clock.monotonic() - began > timeout:
                raise KitaruStateError(
                    f"executions are still running after {timeout:g} real seconds: "
                    f"{', '.join(self._running()) or 'something is due'}. A body that really "
                    "waits takes real time: pass more of it, settle(timeout=...)",
                    code="executions-still-running",
                )
            self.pause()
        self._raise_failure()

    def _move_to(self, at: int) -> None:
        self.clock.move_to(at)
        self._app.host.keep_ticking()

    # --- waits -----------------------------------------------------------------------

    def waits(self) -> list[PendingWait]:
        """Every open wait, oldest first."""
        client = KitaruClient()
        return [
            wait
            for exec_id in dict.fromkeys(each.exec_id for each in self.open_waits())
            for wait in client.executions.pending_waits(exec_id)
        ]

    def answer(self, handle: FlowHandle[Any] | str, wait: str, value: Any) -> None:
        """Answer a wait of an execution, as ``client.executions.input`` does."""
        exec_id = handle if isinstance(handle, str) else handle.exec_id
        KitaruClient().executions.input(exec_id, wait=wait, value=value)

    # --- lives -----------------------------------------------------------------------

    def crash(self) -> None:
        """Kill the process that runs everything, and go on in another one.

        Nothing that the old one still does is recorded. The new one adopts all that
        is unfinished, as a process does that called ``kitaru.recover()``.
        """
        with self._lock:
            self.kill()
            self.live(LifeEnv(self.clock))

    def kill(self) -> None:
        """End the life that there is; its threads end where they meet Kitaru next."""
        with self._lock:
            self._env.die()
            self._liveness.everybody_dies()
            abandon(self._app.runner)
            self._app.runner.wait_idle(_DEAD_SECONDS)
            self._app.close(0.0)

    def live(self, env: LifeEnv) -> None:
        """Begin a life that adopts what is unfinished."""
        with self._lock:
            self._begin(env)
            self._app.runner.adopting = _app.known_flows
            self._app.host.keep_ticking()

    def _begin(self, env: LifeEnv) -> None:
        self._env = env
        self._app = _app.Kitaru(
            settings=self._settings,
            store=seen_by(self.store, env),
            liveness=self._liveness,
            env=env,
            project=self._project,
            root=None,
        )
        self._app.services.parks_at_once = True
        self._app.services.asker.enabled = False
        env.on_death = self._app.be_silent
        _app.use(self._app)

    # --- looking after it ----------------------------------------------------------------

    def _look_after(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            with self._lock:
                try:
                    self._step()
                except BaseException as error:
                    self._failed = self._failed or error

    def _step(self) -> None:
        if self._env.died.is_set():
            return
        # Asked first: what runs may yet open a wait, and must not find that time has passed.
        running = self._running()
        if self._give_answers() or running or not self._auto:
            return
        due = self.store.next_due(project=self._project)
        if due is not None and due > self.clock.now():
            self._move_to(due)

    def _give_answers(self) -> bool:
        """Answer what was opened since -> whether anything was asked."""
        asked = False
        if self._answers is None:
            return asked
        for each in self.open_waits():
            key = (each.exec_id, each.wait.id)
            if key in self._asked or each.wait.row.kind is not WaitKind.INPUT:
                continue
            self._asked.add(key)
            asked = True
            try:
                self._give_answer(each)
            except Refused:
                # Killed while answering: whoever lives next does it.
                self._asked.discard(key)
                if not self._env.died.is_set():
                    raise
        return asked

    def _give_answer(self, found: OpenWait) -> None:
        executions = KitaruClient().executions
        for wait in executions.pending_waits(found.exec_id):
            if wait.name != found.wait.row.label:
                continue
            value = self._answer_to(wait)
            if value is not LEAVE_OPEN:
                executions.input(found.exec_id, wait=wait.wait_id, value=value)

    def _answer_to(self, wait: PendingWait) -> Any:
        answers = self._answers
        if isinstance(answers, Mapping):
            answer = answers.get(wait.name, LEAVE_OPEN)
            return answer(wait) if callable(answer) else answer
        assert answers is not None
        return answers(wait)

    def open_waits(self) -> list[OpenWait]:
        return self.store.list_open_waits(project=self._project, limit=_MAX_WAITS)

    def _running(self) -> list[str]:
        """Executions that run, or are about to."""
        counts = self.store.count_executions(project=self._project)
        if not any(counts.get(state) for state in _UNFINISHED):
            return ["an execution that ends"] if self._app.runner.busy else []
        rows = self.store.list_executions(
            project=self._project, statuses=tuple(_UNFINISHED), limit=10
        )
        return [f"{row.flow_name} {row.exec_id}" for row in rows]

    def _can_move(self) -> bool:
        if self._running():
            return True
        due = self.store.next_due(project=self._project)
        if due is not None and (self._auto or due <= self.clock.now()):
            return True
        return self._answers is not None and any(
            (each.exec_id, each.wait.id) not in self._asked
            for each in self.open_waits()
            if each.wait.row.kind is WaitKind.INPUT
        )

    def _raise_failure(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def end(self, timeout: float) -> int:
        """Let go of everything -> how many executions were still running."""
        left = 0 if self._app.runner.wait_idle(timeout) else self._app.runner.busy
        self._stop.set()
        self._thread.join()
        with self._lock:
            self._app.close(0.0)
        self._raise_failure()
        return left


@contextmanager
def in_memory(
    *,
    answers: Answers | None = None,
    now: datetime | None = None,
    clock: Literal["auto", "manual"] = "auto",
    timeout: float = 5.0,
) -> Iterator[World]:
    """Let flows run in memory while inside, with a clock of their own -> :class:`World`.

    Nothing is written to the disk. Sleeps, backoffs and expiries pass at once: whenever
    nothing runs, the clock moves to what is due next. With ``clock="manual"`` it moves
    by :meth:`World.advance` only, for tests that act while an execution sleeps. ``now`` is where it
    begins (aware; default: the real time). ``answers`` gives input to waits by their names;
    a function among them, or instead of them, is called with the ``PendingWait``.
    Bodies run as they always do and take the time that they take.

    At the end executions get ``timeout`` seconds to finish, else ``KitaruStateError``;
    an answer that did not fit its wait is raised then.

    >>> import kitaru
    >>> from kitaru.testing import in_memory
    >>> @kitaru.flow
    ... def release(version: str) -> str:
    ...     if not kitaru.wait(name="approve", schema=bool):
    ...         return "rejected"
    ...     kitaru.sleep(3600)
    ...     return f"released {version}"
    >>> with in_memory(answers={"approve": True}) as world:
    ...     began = world.now
    ...     print(release.run("1.2").wait())
    ...     print(world.now - began >= timedelta(hours=1))
    released 1.2
    True
    """
    _check(answers, now, clock)
    outside = _app.set_aside()
    start = now or datetime.fromtimestamp(SystemEnv().now() / 1e6, UTC)
    try:
        world = World(VirtualClock(start), auto=clock == "auto", answers=answers)
        try:
            yield world
        finally:
            left = world.end(timeout)
    finally:
        _app.use(outside)
    if left:
        raise KitaruStateError(
            f"{left} execution(s) were still running {timeout:g} s after the end: wait() for "
            "what you start, or allow more with in_memory(timeout=...)",
            code="executions-still-running",
        )


def _check(answers: object, now: object, clock: object) -> None:
    wrong: tuple[str, object, str] | None = None
    if answers is not None and not isinstance(answers, Mapping) and not callable(answers):
        wrong = ("answers", answers, "a dict of names and answers, or a function")
    elif now is not None and (not isinstance(now, datetime) or now.tzinfo is None):
        wrong = ("now", now, "an aware datetime")
    elif clock not in ("auto", "manual"):
        wrong = ("clock", clock, '"auto" or "manual"')
    if wrong is not None:
        option, value, instead = wrong
        raise KitaruUsageError(
            f"{option}={shortened(value)}: pass {instead}", code="option-invalid"
        )


__all__ = ("LEAVE_OPEN", "World", "in_memory")
