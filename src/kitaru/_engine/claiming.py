"""One candidate becomes this process's own: claimed, or given up, or failed as a killer (O5)."""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, NamedTuple

from kitaru._core.lifecycle import MAX_DEATHS, SUSPECT_DEATHS, State
from kitaru._core.values import encode_failure
from kitaru._engine.children import dies_with_child
from kitaru._engine.deadlines import fail_late, is_over
from kitaru._engine.execution import Completion, FlowSpec
from kitaru._engine.noticing import Parked
from kitaru._engine.unwind import Unwind, Why
from kitaru._store.protocol import NO_FACTS, Claim, ExecutionRow, Fenced, Finish, NoRoom, Refused
from kitaru.errors import FailureOrigin, KitaruBackendError, KitaruRuntimeError

if TYPE_CHECKING:
    from kitaru._engine.runner import Runner

DECLARED_DEAD = (
    "this process was declared dead by another one (its lock file in the store's folder was "
    "removed): it may not own executions any more; start the program again"
)


class Candidate(NamedTuple):
    """An execution that this process is to claim when it may."""

    row: ExecutionRow
    flow: FlowSpec
    context: Context
    completion: Completion
    parked: Parked | None = None
    """As what it was parked here."""
    not_before: float = 0.0
    """By the monotonic clock: its queue or its key had no slot left, or it is not due."""


def claim(runner: Runner, candidate: Candidate) -> None:
    """Commit its claim and launch it; what somebody else was quicker to claim is forgotten."""
    try:
        _claim_and_launch(runner, candidate)
    except BaseException:
        _launch_all_the_same(runner, candidate)
        raise


def _launch_all_the_same(runner: Runner, candidate: Candidate) -> None:
    """Ctrl-C while claiming: what is ours by then must run, or nobody would ever run it."""
    row = runner.store.find_execution(candidate.row.exec_id)
    with runner.lock:
        if candidate.completion.is_over or candidate.row.exec_id in runner.places.active:
            return
        if row is not None and row.status is State.RUNNING and runner.ownership.is_own(row):
            runner.launch(candidate, row)
            return
        runner.places.no_suspect(candidate.row.exec_id)
        runner.first(candidate)


def _claim_and_launch(runner: Runner, candidate: Candidate) -> None:
    try:
        if is_over(candidate.row, runner.services.env.now()):
            fail_late(runner, candidate.row)
            runner.forget(candidate.completion)
            return
        write, row = _commit_claim(runner, candidate.row)
    except NoRoom:
        runner.hold(candidate)
        return
    except (Refused, KitaruBackendError) as error:
        _give_up(runner, candidate, error)
        return
    runner.events.look()
    runner.events.written(row, write, row)
    if candidate.row.status is State.RUNNING and candidate.row.owner is not None:
        runner.ownership.forget(candidate.row.owner)
    _launch(runner, candidate, row)


def begin_claimed(runner: Runner, candidate: Candidate) -> None:
    """Begin what was claimed from the queues: it is this process's own already."""
    row = candidate.row
    runner.accept(candidate)
    try:
        if is_over(row, runner.services.env.now()):
            fail_late(runner, row)
            runner.forget(candidate.completion)
            return
    except (Refused, KitaruBackendError) as error:
        _give_up(runner, candidate, error)
        return
    runner.events.look()
    runner.events.claimed(row)
    _launch(runner, candidate, row)


def _launch(runner: Runner, candidate: Candidate, row: ExecutionRow) -> None:
    if row.deaths >= MAX_DEATHS and not dies_with_child(runner.store, row):
        _fail_poisoned(runner, candidate, row)
        return
    with runner.lock:
        places = runner.places
        if row.deaths < SUSPECT_DEATHS:
            # It had recorded something since the last death: no suspect after all.
            places.no_suspect(row.exec_id)
        stands_back = row.deaths >= SUSPECT_DEATHS and not places.take_all(row)
        if not stands_back:
            runner.launch(candidate, row)
    if stands_back:
        _stand_back(runner, candidate, row)


def _stand_back(runner: Runner, candidate: Candidate, row: ExecutionRow) -> None:
    """Hand back what has turned out to be a suspect beside others: it is claimed again alone.

    Whether anything was recorded since the last death, only the claim could tell.
    """
    try:
        # Through an outage, or it would stay this process's own and be run by nobody. One that
        # was handed back although the answer was lost is refused then, and is as it should be.
        runner.services.outage.through(lambda: runner.release(row, row.epoch))
        pending = runner.store.find_execution(row.exec_id)
    except (Refused, KitaruBackendError) as error:
        _give_up(runner, candidate, error)
        return
    if runner.serving is not None or pending is None or pending.status is not State.PENDING:
        # A worker finds it among the suspects, or another one does that runs nothing.
        why = f"execution {row.exec_id} has to run alone, and others run here"
        candidate.completion.unwound = Unwind(Why.LOST, why, None)
        runner.forget(candidate.completion)
        return
    runner.hold(candidate._replace(row=pending))


def _commit_claim(runner: Runner, row: ExecutionRow) -> tuple[Claim, ExecutionRow]:
    through = runner.services.outage.through
    write = _claim_of(runner, row)
    try:
        return write, through(lambda: runner.store.apply(write))
    except Fenced as refusal:
        if not runner.ownership.goes_on(refusal, write.owner):
            raise
    again = _claim_of(runner, row)
    return again, through(lambda: runner.store.apply(again))


def _claim_of(runner: Runner, row: ExecutionRow) -> Claim:
    owner = runner.ownership.number()
    now = runner.services.env.now()
    if row.status is State.PENDING:
        return Claim(row.id, row.epoch, owner, None, now)
    if row.owner == owner:
        # Given up here before: hand it back first, so that the epoch tells the lives apart.
        runner.release(row, row.epoch)
        return Claim(row.id, row.epoch + 1, owner, None, now)
    return Claim(row.id, row.epoch, owner, row.owner, now)


def _give_up(runner: Runner, candidate: Candidate, error: Exception) -> None:
    """Somebody else was quicker, or the store is gone: waiters look at the store again."""
    if isinstance(error, Fenced) and runner.ownership.is_declared_dead():
        candidate.completion.unwound = Unwind(Why.STORE_FAILED, DECLARED_DEAD, error)
    else:
        why = Why.LOST if isinstance(error, Refused) else Why.STORE_FAILED
        candidate.completion.unwound = Unwind(why, str(error), error)
        if why is Why.STORE_FAILED and candidate.parked is not None:
            runner.noticing.put_back(candidate.parked)
    runner.forget(candidate.completion)


def _fail_poisoned(runner: Runner, candidate: Candidate, row: ExecutionRow) -> None:
    reason = (
        f"the process that ran it died {row.deaths} times without recording anything new; "
        "the call after the last recorded one is the likely killer. "
        f"Mend it, then: kitaru executions retry {row.exec_id}"
    )
    failure = encode_failure(
        KitaruRuntimeError(reason, code="process-died-repeatedly"), origin=FailureOrigin.RUNTIME
    )
    now = runner.services.env.now()
    finish = Finish(row.id, row.epoch, None, failure, (), reason, NO_FACTS, now)
    try:
        runner.finish(row, finish)
    except (Refused, KitaruBackendError) as error:
        _give_up(runner, candidate, error)
        return
    runner.forget(candidate.completion)
