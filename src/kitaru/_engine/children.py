"""Executions that a running one starts: which child is which, and how it is waited for.

A child is an execution like any other: it has an owner of its own, goes on when its
parent is dead, and its outcome stands in its own row. What its parent adds is a name,
computed like that of a call, by which every life of the parent finds it again; and, of
a child that failed, what the parent has seen of it, because that may be tried again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection
from contextlib import suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru._core.drift import differing_arguments
from kitaru._core.identity import asked_identity, child_identity, keyed_child_identity
from kitaru._core.inputs import Inputs
from kitaru._core.lifecycle import FINISHED, MAX_DEATHS, State
from kitaru._engine.awaiting import Await
from kitaru._engine.carrying import CHILD
from kitaru._engine.context import Place, here
from kitaru._engine.deadlines import fresh_deadline
from kitaru._engine.effects import Ask, Commit, Land, Steps
from kitaru._engine.events import of_drifted_child
from kitaru._engine.standing import Stand
from kitaru._engine.transacted import has_transaction, refuse_inside
from kitaru._engine.unwind import Why
from kitaru._store.protocol import ExecutionRow, Fenced, LearntRow, Record, Refused, Retry, Start
from kitaru.errors import (
    FailureOrigin,
    KitaruContextError,
    KitaruDivergenceError,
    KitaruStateError,
)

if TYPE_CHECKING:
    from kitaru._engine.execution import Completion, FlowSpec
    from kitaru._engine.run import Run
    from kitaru._engine.runner import Runner
    from kitaru._store.protocol import Store

HOT_SECONDS = 5.0
"""How long an execution waits for a child before it may park: many are done by then."""

_POLL_SECONDS = 0.25
"""How often an execution looks at a child that runs in another process."""

_MAX_CHILDREN = 10_000
"""Recorded children that are looked at for drift."""

_MAX_DEPTH = 1000


class Child:
    """A call of ``run()`` inside an execution, and the name that it has there."""

    def __init__(
        self,
        place: Place,
        flow: FlowSpec,
        inputs: Inputs,
        key: str | None,
        *,
        is_queued: bool = False,
    ) -> None:
        run, attempt, branch = place.run, place.attempt, place.branch
        self.run = run
        self.flow = flow
        self.inputs = inputs
        self.key = key
        self.place = place
        self.is_queued = is_queued
        """Whether it is for workers to run, and not for whoever runs its parent."""
        self.former: list[bytes] = []
        """What its name was under former names of the flow."""
        if key is None:
            # Counted among equals, beside askings: a checkpoint may have the flow's name.
            n = branch.ask(f"run {flow.id}", inputs.digest.hex())
            self.identity, *self.former = (
                child_identity(
                    attempt.identity, attempt.number, branch.digest, name, inputs.digest, n
                )
                for name in (flow.id, *flow.aliases)
            )
        else:
            self.identity = keyed_child_identity(flow.id, key)
        self.seq = next(run.seq)

    def called(self) -> dict[str, Any]:
        """Where it was started, as its frozen spec says it: for showing, and to tell drift."""
        attempt = self.place.attempt
        return {
            "by": None if attempt.identity is None else attempt.identity.hex(),
            "attempt": attempt.number,
            "branch": self.place.branch.label,
            "seq": self.seq,
            "arguments": json.loads(self.inputs.arguments_json()),
        }

    def born(self, new: Start, spec: dict[str, Any]) -> Start:
        """The write by which it is born: only while its parent runs at this epoch."""
        return new._replace(
            spec=json.dumps({**spec, "called": self.called()}),
            parent_exec_id=self.run.exec_id,
            parent_call=self.identity,
            parent_epoch=self.run.epoch,
        )


def place_for_child(flow: FlowSpec, *, joins: bool = False) -> Place | None:
    """Where the caller stands, if it is inside an execution; refused where no name would hold.

    ``joins``: it is started in a transaction of the caller's, which may be that of its body.
    """
    place = here.get()
    if place is None:
        return None
    run = place.run
    place.check()
    run.check_owner()
    if run.services.draining:
        raise run.end(Why.HANDED_BACK, f"execution {run.exec_id} is handed back")
    if place.attempt.is_closed and not (joins and has_transaction(place.attempt)):
        refuse_inside(f"flow {flow.name!r}", place.attempt)
        raise KitaruContextError(
            f"flow {flow.name!r} is run by something that "
            f"{'the flow' if place.call is None else repr(place.call.spec.name)} left running: "
            "that attempt is over. Await tasks and threads before returning",
            code="attempt-is-over",
        )
    if asyncio._get_running_loop() is not None and not run.services.loop.is_current():
        raise KitaruContextError(
            f"flow {flow.name!r} is run inside an event loop of your own (asyncio.run), where "
            "concurrent branches cannot be told apart: make the outer flow `async def`, Kitaru "
            "then runs it on its own loop",
            code="own-event-loop",
        )
    return place


# --- starting ---------------------------------------------------------------------------


Born = tuple[ExecutionRow, "Completion | None"]
StartIt = Callable[[Start, Context], Born]
"""The way in which an execution is started, with the context that it runs in."""


def start_child(runner: Runner, child: Child, new: Start, start: StartIt) -> Born:
    """The child of an earlier life, launched if nobody runs it; or a new one."""
    run = child.run
    return run.services.drive(_start(runner, child, new, start), run.env)


def _start(runner: Runner, child: Child, new: Start, start: StartIt) -> Steps[Born]:
    run = child.run
    if child.key is None and (run.row.epoch > 1 or run.row.attempt > 1):
        row = yield Ask("child", lambda: _recorded(child))
        run.claimed.add(child.identity)
        if row is not None:
            return (yield from _taken(runner, child, row))
        yield Ask("drift", lambda: _watch_for_drift(child))
    # What the execution has learnt is durable before anybody can see what it does with it.
    if run.owes:
        facts = run.take_facts()
        yield Commit(run, Record(run.id, run.epoch, facts), facts)
    for flight in run.flights:
        yield Land(run, flight)
    try:
        row, completion = yield Ask("start child", lambda: start(new, _outside()))
    except Fenced as error:
        raise _lost(run, error) from error
    if completion is None:
        return (yield from _taken(runner, child, row))
    return row, completion


def _taken(runner: Runner, child: Child, row: ExecutionRow) -> Steps[Born]:
    """One that is there already: tried again if that is owed, and run here if nobody does."""
    owed = child.run.learnt.get(_to_be_retried(child.identity, child.run.attempt))
    if owed is not None:
        row = yield Ask("retry child", lambda: _retried(child.run, row, int(owed)))
    if child.is_queued:
        return row, None
    asked = owed is not None and row.status is State.PENDING
    return row, runner.take(child.flow, row, _outside(), asked=asked)


def _recorded(child: Child) -> ExecutionRow | None:
    store = child.run.store
    for identity in (child.identity, *child.former):
        row = store.find_child(child.run.exec_id, identity)
        if row is not None:
            # From here on it goes by the name under which it is recorded.
            child.identity = identity
            return row
    return None


def _outside() -> Context:
    """The caller's context, without its place in this execution."""
    context = copy_context()
    context.run(here.set, None)
    return context


def _lost(run: Run, error: Fenced) -> BaseException:
    """Why no child is born any more."""
    status, epoch, _ = run.store.get_status(run.id)
    if status is State.CANCELLING and epoch == run.epoch:
        return run.end(Why.CANCELLED, f"execution {run.exec_id} is cancelled", error)
    return run.refused(error)


# --- a child that failed, and may be tried again ---------------------------------------------


def _seen_failing(child: bytes, attempt: int) -> bytes:
    return asked_identity(child, attempt, b"", "child failed", None, 0)


def _to_be_retried(child: bytes, attempt: int) -> bytes:
    return asked_identity(child, attempt, b"", "child to retry", None, 0)


def _retried(run: Run, row: ExecutionRow, attempt: int) -> ExecutionRow:
    """Retry a child whose failure made the last attempt of this execution fail, once."""
    if row.status is not State.FAILED or row.attempt != attempt:
        return row
    now = run.env.now()
    opening = Retry(row.id, row.epoch, now, fresh_deadline(row, now))
    try:
        opened: ExecutionRow = run.store.apply(opening)
    except Refused:
        return run.store.find_execution(row.exec_id) or row  # somebody else was quicker
    run.events.written(opened, opening, opened)
    return opened


def remember_failure(run: Run, child: bytes, row: ExecutionRow, error: BaseException) -> None:
    """A child's failure is raised in its parent: from now on every life of this attempt sees it."""
    run.remember_failure(error, child, f"execution {row.exec_id} of {row.flow_name}")
    if error.__cause__ is not None:
        run.remember_failure(error.__cause__, child, f"execution {row.exec_id} of {row.flow_name}")
    run.failed_children[child] = row.attempt
    identity = _seen_failing(child, run.attempt)
    if identity not in run.learnt:
        run.learnt[identity] = str(row.attempt)
        run.queue(LearntRow(identity, CHILD, str(row.attempt)))


def failure_seen(run: Run, child: bytes, find: Callable[[], ExecutionRow]) -> ExecutionRow | None:
    """The child as an earlier life of this attempt saw it fail, if it did and that has changed."""
    attempt = run.learnt.get(_seen_failing(child, run.attempt))
    if attempt is None:
        return None
    row = find()
    if row.status is State.FAILED and row.attempt == int(attempt):
        return None
    for failed in run.store.list_attempts(row.id):
        if failed.attempt == int(attempt):
            return row._replace(
                status=State.FAILED, failure=failed.failure, result=None, failed_calls=()
            )
    return None


def owe_retries(run: Run, calls: Collection[bytes]) -> None:
    """The failures of these children made this attempt fail: the next one tries them again."""
    for identity in calls:
        attempt = run.failed_children.get(identity)
        if attempt is not None:
            run.queue(LearntRow(_to_be_retried(identity, run.attempt + 1), CHILD, str(attempt)))


# --- drift --------------------------------------------------------------------------------


def _watch_for_drift(child: Child) -> None:
    """Warn, or stop a strict flow, if an unclaimed child stands where this one is new."""
    run = child.run
    called = child.called()
    where = (called["by"], called["attempt"], called["branch"])
    for row in run.store.list_children(run.exec_id, limit=_MAX_CHILDREN):
        if row.flow_id != child.flow.id or row.parent_call in run.claimed or row.key is not None:
            continue
        before = json.loads(row.spec).get("called") or {}
        if (before.get("by"), before.get("attempt"), before.get("branch")) != where:
            continue
        if before["seq"] > child.seq:
            continue  # it may still be asked for
        assert row.parent_call is not None
        run.claimed.add(row.parent_call)
        _tell_drift(child, row, json.dumps(before["arguments"]))
        return


def _tell_drift(child: Child, row: ExecutionRow, before: str) -> None:
    run, name = child.run, child.flow.name
    changed = differing_arguments(before, child.inputs.arguments_json())
    what = ", ".join(changed) if changed else "the order of equal runs"
    strict = bool(run.spec.get("strict"))
    happens = "no other one was started" if strict else "another one is started"
    message = (
        f"flow {name!r} was run inside execution {run.exec_id} with other inputs ({what} "
        f"changed), as execution {row.exec_id}: {happens}. To have the same child in every "
        "life, make the argument durable (kitaru.now(), kitaru.uuid4(), kitaru.random()), or "
        "name it with options(key=)"
    )
    run.note("drift", message, of_drifted_child(run.row, name, f"{what} changed: {happens}"))
    if strict:
        run.stopped_by = run.stopped_by or KitaruDivergenceError(
            f"strict flow: {message}",
            exec_id=run.exec_id,
            failure_origin=FailureOrigin.DIVERGENCE,
            code="call-drifted",
        )
        raise run.stopped_by
    run.services.say(message, once=("drift", run.exec_id, child.flow.id))


# --- waiting ------------------------------------------------------------------------------


class Followed(NamedTuple):
    """An execution on whose end another one waits."""

    exec_id: str
    completion: Callable[[], Completion | None]
    """What to wait on, if it runs or is parked in this process."""
    look: Callable[[], Any]
    """What it came to, or None."""


TIMED_OUT = object()


class AwaitEnd(Await):
    """Stand until an execution is finished; one that runs elsewhere is looked at now and then."""

    __slots__ = ("_followed", "_until")
    name = "await child"

    def __init__(self, run: Run, stand: Stand, followed: Followed, until: float | None) -> None:
        self._followed = followed
        told: list[Completion] = []

        def wake() -> None:
            with suppress(RuntimeError):  # that loop was closed
                stand.wake()

        def look() -> Any:
            completion = followed.completion()
            if completion is not None and completion.is_over and _left_with(run, completion):
                return None  # and whoever stands here is told to end
            found = followed.look()
            if found is None and until is not None and run.env.monotonic() >= until:
                return TIMED_OUT
            completion = followed.completion()
            if found is None and completion is not None and completion not in told:
                told[:] = [completion]
                completion.when_over(wake)
            return found

        super().__init__(run, stand, look)
        self._until = until

    def _seconds(self) -> float | None:
        bounds = [] if self._followed.completion() is not None else [_POLL_SECONDS]
        if self._until is not None:
            bounds.append(max(0.0, self._until - self.run.env.monotonic()))
        return min(bounds, default=None)


def _left_with(run: Run, completion: Completion) -> bool:
    """Whether the child left this process for a reason that holds for its parent too."""
    unwound = completion.unwound
    if unwound is None or unwound.why not in (Why.HANDED_BACK, Why.STORE_FAILED):
        return False
    run.end(unwound.why, f"execution {run.exec_id} leaves with its child: {unwound}", unwound.error)
    return True


def await_end(
    run: Run, followed: Followed, *, flow: str, is_child: bool, timeout: float | None
) -> Steps[Any]:
    """Wait for the end of an execution inside another one -> what its ``look()`` answers.

    Only for a child of its own the execution may park, because only that is sure to wake it.
    """
    run.check()
    if not is_child:
        yield Ask("ancestors", lambda: _refuse_waiting_for_itself(run, followed.exec_id))
    until = None if timeout is None else run.env.monotonic() + timeout
    stand = Stand(
        run,
        f"waits for execution {followed.exec_id} of flow {flow!r}",
        child=followed.exec_id,
        hot_seconds=HOT_SECONDS,
    )
    if not is_child or timeout is not None:
        stand.is_attended = lambda: True
    return (yield AwaitEnd(run, stand, followed, until))


def _refuse_waiting_for_itself(run: Run, exec_id: str) -> None:
    above: str | None = run.exec_id
    for _ in range(_MAX_DEPTH):
        if above == exec_id:
            raise KitaruStateError(
                f"execution {run.exec_id} waits for {exec_id}, which cannot end before "
                f"{'it' if exec_id == run.exec_id else 'its child'} does: return what the "
                "inner one needs, or give it a key of its own",
                code="waits-for-itself",
            )
        row = run.row if above == run.exec_id else run.store.find_execution(above or "")
        above = None if row is None else row.parent_exec_id
        if above is None:
            return


# --- whoever goes on with a waiting parent ---------------------------------------------------


def abandoned_children(runner: Runner, row: ExecutionRow) -> list[ExecutionRow]:
    """Unfinished descendants of a waiting execution that no live process serves."""
    found: list[ExecutionRow] = []
    todo = [row.exec_id]
    while todo and len(found) < _MAX_CHILDREN:
        for child in runner.store.list_children(todo.pop(), limit=_MAX_CHILDREN):
            if child.status in FINISHED:
                continue
            if child.status is State.WAITING:
                todo.append(child.exec_id)
                if runner.ownership.is_gone(child.home):
                    found.append(child)
            elif runner.may_take(child):
                found.append(child)
    return found


def dies_with_child(store: Store, row: ExecutionRow) -> bool:
    """Whether a child of it is about to be failed as a killer: then it is not the killer itself."""
    return any(
        child.status not in FINISHED
        and child.deaths + (child.status is State.RUNNING) >= MAX_DEATHS
        for child in store.list_children(row.exec_id, limit=_MAX_CHILDREN)
    )
