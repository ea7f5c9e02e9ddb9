"""One execution from its claim to its end in this process.

``run_flow`` is the procedure; :class:`Completion` is what handles wait on.
Nothing terminal is recorded, and ownership is not given up, before all tasks
and submitted bodies of the execution have ended.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

from kitaru._core.lifecycle import State
from kitaru._core.payload import Payload
from kitaru._core.values import decode, encode, encode_failure, message_of
from kitaru._core.values.classes import FRESH, take_fresh
from kitaru._engine.call import Call
from kitaru._engine.children import owe_retries
from kitaru._engine.context import Place, here
from kitaru._engine.debugging import was_quit
from kitaru._engine.effects import Ask, Commit, Effect, Raised, Steps, is_shutdown_error
from kitaru._engine.frames import OUR_FOLDER
from kitaru._engine.parking import park
from kitaru._engine.procedures import origin_of
from kitaru._engine.run import Run
from kitaru._engine.settle import Settle
from kitaru._engine.stopping import is_patient, stop
from kitaru._engine.unwind import Unwind, Why
from kitaru._engine.waking import Latch
from kitaru._engine.watch import say_local_classes
from kitaru._store.protocol import ExecutionRow, Finish, Release, TryAgain
from kitaru.errors import FailureOrigin, KitaruDivergenceError, KitaruValueError

if TYPE_CHECKING:
    from kitaru._core.binding import Binder
    from kitaru._core.schedules import Schedule

_MAX_REASON_CHARACTERS = 500

_BODY_POLL_SECONDS = 0.02


class FlowSpec:
    """What the engine knows of a flow; made once, at decoration."""

    __slots__ = (
        "aliases",
        "annotations",
        "binder",
        "cache",
        "fn",
        "folder",
        "hints",
        "id",
        "is_async",
        "keep_seconds",
        "module",
        "name",
        "retries",
        "schedule",
        "strict",
        "timeout_seconds",
    )

    def __init__(
        self,
        *,
        id: str,
        name: str,
        fn: Callable[..., Any],
        is_async: bool,
        binder: Binder,
        module: str | None,
        folder: str | None,
        cache: bool | str | None,
        retries: int | None,
        strict: bool,
        aliases: tuple[str, ...],
        timeout_seconds: float | None = None,
        keep_seconds: int | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self.fn = fn
        self.is_async = is_async
        self.binder = binder
        self.module = module
        self.folder = folder
        self.cache = cache
        self.retries = retries
        self.strict = strict
        self.aliases = aliases
        self.timeout_seconds = timeout_seconds
        self.keep_seconds = keep_seconds
        self.schedule = schedule
        self.hints: tuple[type, ...] | None = None
        self.annotations: dict[str, Any] | None = None
        """Resolved at the first run."""


class Completion(Latch):
    """The end of an execution in this process: recorded, or given up here."""

    def __init__(self, exec_id: str) -> None:
        super().__init__()
        self.exec_id = exec_id
        self.unwound: Unwind | None = None
        """Set if it left this process unfinished."""
        self.cause: BaseException | None = None
        """The exception that left the flow, the object itself."""
        self.result: Payload | None = None
        """What the flow returned, once that is recorded."""


class Life:
    """A claimed execution on its way: its run, its flow, the context of whoever started it.

    The run is made on the execution's own thread, because it reads the store.
    """

    run: Run

    def __init__(
        self, row: ExecutionRow, flow: FlowSpec, context: Context, completion: Completion
    ) -> None:
        self.row = row
        self.flow = flow
        self.context = context
        self.completion = completion
        self.began = False
        self.taken_from: int | None = None
        """The dead owner from whom it was taken over."""
        self.parked_as: State | None = None
        """What it was recorded as when it was let go in order to wait."""
        self._told: Unwind | None = None
        """That it is to stop: it may be told before it has begun."""

    def begin(self, run: Run) -> None:
        self.run = run
        self.began = True
        if run.services.draining:
            run.end(Why.HANDED_BACK, f"execution {run.exec_id} is handed back")
        if self._told is not None:
            stop(run, self._told)

    def stop(self, unwind: Unwind) -> bool:
        """It was cancelled, or its time is over. False if it has been told before."""
        if self._told is not None:
            return False
        # Told first, then looked: `begin` does the two in the other order.
        self._told = unwind
        if self.began:
            stop(self.run, unwind)
        return True


class Unwound:
    """The answer of a flow that was made to leave."""

    __slots__ = ("unwind",)

    def __init__(self, unwind: Unwind) -> None:
        self.unwind = unwind


class CallFlow(Effect):
    """Run the flow's function with its recorded inputs -> value, ``Raised`` or ``Unwound``."""

    __slots__ = ("life",)
    waits = True
    name = "flow"

    def __init__(self, life: Life) -> None:
        self.life = life

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        life = self.life
        payload = life.run.row.inputs
        assert payload is not None
        bound = decode(payload, what=life.flow.name, hints=flow_hints(life.flow))
        assert isinstance(bound, dict)
        life.run.learn_values(bound.values())
        return life.flow.binder.unbind(bound)

    def perform(self) -> Any:
        life, run = self.life, self.life.run
        token = here.set(Place(run, run.top, run.top.root))
        run.standing.thread = threading.get_ident()
        try:
            args, kwargs = self._arguments()
            run.check()
            value = life.flow.fn(*args, **kwargs)
            run.check()
            return value
        except BaseException as exc:
            return _how_it_ended(run, exc)
        finally:
            here.reset(token)

    async def perform_async(self) -> Any:
        life, run = self.life, self.life.run
        root = asyncio.current_task()
        assert root is not None
        run.standing.root = root
        loop = asyncio.get_running_loop()
        inside = True

        def cancel() -> None:
            # Queued for the loop: by now the flow may have left by itself, and what
            # it does then (settling, handing back) must not be cancelled.
            if inside and root not in run.told:
                if is_patient(run):
                    loop.call_later(_BODY_POLL_SECONDS, cancel)
                else:
                    root.cancel()

        token = here.set(Place(run, run.top, run.top.root))
        try:
            with run.waking(lambda: loop.call_soon_threadsafe(cancel)):
                args, kwargs = self._arguments()
                run.check()
                value = await life.flow.fn(*args, **kwargs)
                run.check()
                return value
        except BaseException as exc:
            return _how_it_ended(run, exc)
        finally:
            inside = False
            while root.cancelling():
                root.uncancel()
            here.reset(token)


def _how_it_ended(run: Run, exc: BaseException) -> Raised | Unwound:
    if run.ended is not None:
        # Whatever user code made of it: a swallowed unwind is still one.
        return Unwound(run.ended)
    if isinstance(exc, Unwind):
        return Unwound(exc)
    if is_shutdown_error(run, exc):
        return Unwound(run.end(Why.HANDED_BACK, f"execution {run.exec_id} is handed back at exit"))
    if was_quit(exc):
        return Unwound(run.end(Why.HANDED_BACK, f"execution {run.exec_id} is handed back", exc))
    return Raised(exc)


def flow_hints(flow: FlowSpec) -> tuple[type, ...]:
    if flow.hints is None:
        from kitaru._core.hints import argument_classes, return_classes

        flow.hints = (*argument_classes(flow.fn), *return_classes(flow.fn))
    return flow.hints


def run_flow(life: Life) -> Steps[None]:
    """Run the flow to a recorded end; its automatic retries are part of the same execution."""
    run = life.run
    while True:
        result = yield CallFlow(life)
        if type(result) is Unwound:
            yield from leave(life, result.unwind)
            return
        failed = type(result) is Raised
        unseen = yield Settle(run, run.top, dropping="the flow had failed" if failed else None)
        if run.ended is not None:
            yield from leave(life, run.ended)
            return
        if run.stopped_by is not None:
            result = Raised(run.stopped_by)
        elif not failed and unseen is not None:
            result = Raised(unseen)
        elif not failed and run.past is not None and (missed := run.past.judge()) is not None:
            result = Raised(missed)
        if type(result) is not Raised:
            try:
                if FRESH:
                    take_fresh()
                payload = encode(result, what=f"flow {life.flow.name}")
            except KitaruValueError as error:
                result = Raised(error)
            else:
                if FRESH:
                    returned = f"flow {life.flow.name!r} returned"
                    say_local_classes(run.services, returned, take_fresh())
                yield from keep_log(run)
                facts = run.take_facts()
                now = run.env.now()
                finish = Finish(run.id, run.epoch, payload, None, (), None, facts, now)
                state = yield Commit(run, finish, facts)
                if state is State.COMPLETED:
                    life.completion.result = payload
                return
        again = yield from fail(life, result.exc)
        if not again:
            return


def fail(life: Life, exc: BaseException) -> Steps[bool]:
    """Record that the flow failed; True if it is to be tried again at once."""
    run = life.run
    # Also failures that user code was never given, so that one retry mends a whole map.
    calls = run.calls_behind(exc) + [
        (future.call.identity, future.call.spec.name)
        for future in run.top.futures
        if future.was_withheld and isinstance(future.call, Call)
    ]
    calls = list(dict.fromkeys(calls))
    failed_calls = [identity for identity, _ in calls]
    owe_retries(run, failed_calls)
    failure = encode_failure(exc, origin=origin_of(exc), drop_frames_of=OUR_FOLDER)
    yield from keep_log(run)
    facts = run.take_facts()
    now = run.env.now()
    again = run.attempt <= int(run.spec.get("retries", 0)) and not run.carried_all(failed_calls)
    if again and not isinstance(exc, KitaruDivergenceError):
        yield Commit(run, TryAgain(run.id, run.epoch, failure, failed_calls, facts, now), facts)
        names = ", ".join(dict.fromkeys(name for _, name in calls if name is not None))
        run.services.say(
            f"execution {run.exec_id} of flow {life.flow.name!r} failed "
            f"({type(exc).__name__}), attempt {run.attempt}; trying again: "
            + (f"{names} and what was not reached" if names else "the flow's own code")
        )
        yield Ask("again", lambda: _begin_again(run))
        return True
    life.completion.cause = exc
    reason = reason_of(exc, [name for _, name in calls if name is not None])
    yield Commit(
        run, Finish(run.id, run.epoch, None, failure, failed_calls, reason, facts, now), facts
    )
    return False


def _begin_again(run: Run) -> None:
    row = run.store.find_execution(run.exec_id)
    assert row is not None
    run.load(row)


def keep_log(run: Run) -> Steps[None]:
    """Write what was printed before the end is recorded: whoever learns of it may look."""
    # Whether or not the thread was quicker: the same program asks in every life.
    if run.log is not None and run.has_printed:
        log = run.log
        yield Ask("log", lambda: log.flush(run))


def reason_of(exc: BaseException, checkpoints: list[str]) -> str:
    message = message_of(exc)
    text = f"{type(exc).__name__}: {message}" if message else type(exc).__name__
    if checkpoints:
        text = f"checkpoint {checkpoints[0]!r} failed: {text}"
    # A message may hold what is no text (a file name with strange bytes); a column may not.
    return text[:_MAX_REASON_CHARACTERS].encode("utf-8", "backslashreplace").decode()


def leave(life: Life, unwind: Unwind) -> Steps[None]:
    """Give the execution up in this process; hand it back if it is still ours to hand."""
    run = life.run
    life.completion.unwound = unwind
    yield Settle(run, run.top, dropping="the execution left this process")
    yield from keep_log(run)
    if unwind.why is Why.PARKED:
        life.parked_as = yield from park(run)
    elif unwind.why in (Why.HANDED_BACK, Why.CANCELLED):
        # What is cancelling becomes cancelled by it: its code has stopped.
        facts = run.take_facts()
        yield Commit(run, Release(run.id, run.epoch, facts, run.env.now()), facts)
    elif unwind.why is Why.TIMED_OUT:
        yield _out_of_time(life, unwind)
    else:
        run.events.lost(run.row, str(unwind))


def _out_of_time(life: Life, unwind: Unwind) -> Commit:
    run, error = life.run, unwind.error
    assert error is not None
    life.completion.cause = error
    failure = encode_failure(error, origin=FailureOrigin.TIMEOUT)
    facts = run.take_facts()
    now = run.env.now()
    finish = Finish(run.id, run.epoch, None, failure, (), reason_of(error, []), facts, now)
    return Commit(run, finish, facts)


def is_finished(row: ExecutionRow) -> bool:
    return row.status in (State.COMPLETED, State.FAILED, State.CANCELLED)
