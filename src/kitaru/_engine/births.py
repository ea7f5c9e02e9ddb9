"""A new execution is born: recorded, and launched here or left to a worker.

Or it was there before, under its key; then that one is the answer.
"""

from __future__ import annotations

from contextvars import Context, copy_context
from typing import TYPE_CHECKING

from kitaru._engine.claiming import Candidate
from kitaru._engine.execution import Completion, FlowSpec
from kitaru._engine.within import Within
from kitaru._store.protocol import ExecutionRow, Fenced, Start, Started
from kitaru.errors import KitaruStateError

if TYPE_CHECKING:
    from kitaru._engine.runner import Runner


def start(
    runner: Runner, flow: FlowSpec, new: Start, context: Context | None = None
) -> tuple[ExecutionRow, Completion | None]:
    """Record a new execution and launch it here -> (row, completion).

    With a key that exists already, the existing one is the answer, launched
    here if it is abandoned. Born running if there is room, so that the
    whole of a flow costs one commit more than its checkpoints and its end.
    """
    runner.ownership.number()
    room = False
    try:
        room = runner.reserve(flow, new.parent_exec_id)
        row, completion = _record_new(runner, flow, new, context, room=room)
    finally:
        if room:
            runner.started()
        # A suspect may have stood back because of this start.
        runner.dispatch()
    if completion is None:
        return row, take_by_key(runner, flow, row, new, context)
    return row, completion


def enqueue(
    runner: Runner, flow: FlowSpec, new: Start, within: Within | None = None
) -> tuple[ExecutionRow, None]:
    """Record a new execution for a worker to run; with a key, find the one that has it."""
    runner.events.look()
    new = new._replace(owner=None, home=None)
    started: Started = runner.store.apply(new) if within is None else within.start(new)
    if not started.created:
        check_same_inputs(flow, started.row, new)
    elif within is None:  # else nobody may hear of it before the commit
        runner.events.written(started.row, new, started)
    return started.row, None


def take_by_key(
    runner: Runner, flow: FlowSpec, row: ExecutionRow, new: Start, context: Context | None = None
) -> Completion | None:
    """Run the execution that has the key, if nobody does; refuse other inputs."""
    check_same_inputs(flow, row, new)
    return runner.take(flow, row, context)


def _record_new(
    runner: Runner, flow: FlowSpec, new: Start, context: Context | None, *, room: bool
) -> tuple[ExecutionRow, Completion | None]:
    """Record it, and launch or queue it; no completion if its key existed."""
    runner.events.look()
    # Known before it is committed: another thread with the same key must find
    # who runs it here, and not take it for something that was dropped.
    completion = Completion(new.exec_id)
    runner.expect(completion)

    def run_it(row: ExecutionRow) -> None:
        runner.run_new(Candidate(row, flow, context or copy_context(), completion))

    try:
        started = _apply_start(runner, new, room=room)
    except BaseException as error:
        # Ctrl-C may come after the commit: it then means what it means right
        # after run() has returned, or nobody would ever run what is ours.
        row = None if isinstance(error, Exception) else runner.store.find_execution(new.exec_id)
        if row is not None:
            run_it(row)
        else:
            runner.forget(completion)
        raise
    if not started.created:
        runner.forget(completion)
        return started.row, None
    runner.events.written(started.row, new, started)
    run_it(started.row)
    return started.row, completion


def _apply_start(runner: Runner, new: Start, *, room: bool) -> Started:
    owner = runner.ownership.number()
    try:
        started: Started = runner.store.apply(
            new._replace(owner=owner if room else None, home=owner)
        )
    except Fenced as refusal:
        if not runner.ownership.goes_on(refusal, owner):
            raise
        owner = runner.ownership.number()
        started = runner.store.apply(new._replace(owner=owner if room else None, home=owner))
    return started


def check_same_inputs(flow: FlowSpec, row: ExecutionRow, new: Start) -> None:
    if row.inputs_digest != new.inputs_digest:
        raise KitaruStateError(
            f"key {new.key!r} of flow {flow.name!r} belongs to execution {row.exec_id}, which "
            "was started with other inputs: use another key, or the same inputs",
            code="key-used-with-other-inputs",
        )
