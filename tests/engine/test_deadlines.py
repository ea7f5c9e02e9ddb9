"""``@flow(timeout=)``: an absolute deadline that holds wherever the execution stands."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from tests.conftest import end_app

import kitaru
from kitaru import ExecutionStatus, FailureOrigin, KitaruClient, app, checkpoint, flow
from kitaru._core.lifecycle import State
from kitaru._core.values import encode
from kitaru._engine import deadlines
from kitaru._store.protocol import Cancel, RegisterOwner, Start
from kitaru.env import SystemEnv
from kitaru.errors import KitaruExecutionError, KitaruTimeoutError

from .looking import PATIENCE_SECONDS, Gate, calls, execution

PLAN: dict[str, Any] = {}
SEEN: list[Any] = []
FOR_EVER = PATIENCE_SECONDS * 10
HOUR = 3600.0


@pytest.fixture(autouse=True)
def _nothing_planned() -> None:
    PLAN.clear()
    SEEN.clear()


class Later(SystemEnv):
    """The real environment, with a wall clock that can be set."""

    shift_seconds = 0.0

    def now(self) -> int:
        return super().now() + int(self.shift_seconds * 1e6)


@pytest.fixture
def clock() -> Iterator[Later]:
    """The clock of this process's Kitaru."""
    clock = Later()
    app.use_env(clock)
    yield clock
    end_app()
    app.use_env(SystemEnv())


def look() -> None:
    """What the host does a few times a second."""
    deadlines.enforce(app.current().runner)


def failed(handle: Any) -> KitaruExecutionError:
    with pytest.raises(KitaruExecutionError) as raised:
        handle.wait(PATIENCE_SECONDS)
    error = raised.value
    assert error.failure_origin is FailureOrigin.TIMEOUT
    assert error.code == "flow-timed-out"
    assert handle.status is ExecutionStatus.FAILED
    return error


@checkpoint(cache=False)
def slow(name: str) -> str:
    PLAN[name].pass_through()
    return name


@flow(timeout=HOUR)
def in_an_hour() -> str:
    try:
        slow("first")
        slow("second")
    finally:
        SEEN.append("finally")
    return "done"


def test_a_deadline_is_recorded_as_an_instant() -> None:
    PLAN["first"], PLAN["second"] = Gate(), Gate()
    PLAN["first"].open()
    PLAN["second"].open()
    handle = in_an_hour.run()
    assert handle.wait(PATIENCE_SECONDS) == "done"

    row = execution(handle.exec_id)
    assert row.deadline_at == row.created_at + int(HOUR * 1e6)


def test_a_running_execution_fails_once_its_code_has_stopped(clock: Later) -> None:
    PLAN["first"] = gate = Gate()
    handle = in_an_hour.run()
    gate.wait_until_reached()
    look()
    assert not KitaruClient().executions.get(handle.exec_id).status.is_finished

    clock.shift_seconds = HOUR
    look()
    gate.open()
    error = failed(handle)

    assert "within 3600 s" in str(error)
    assert isinstance(error.__cause__, KitaruTimeoutError)
    assert error.__cause__.timeout_seconds == HOUR
    assert SEEN == ["finally"]
    # The body that was running is recorded, and nothing started after it.
    assert [row.payload.data for row in calls(handle.exec_id)] == [b'"first"']


@flow
async def waits_for_ever() -> None:
    PLAN["asleep"].set()
    try:
        await asyncio.sleep(FOR_EVER)
    finally:
        SEEN.append("finally")


def test_an_async_flow_is_cancelled_at_its_deadline(clock: Later) -> None:
    PLAN["asleep"] = threading.Event()
    handle = waits_for_ever.options(timeout=timedelta(hours=2)).run()
    assert PLAN["asleep"].wait(PATIENCE_SECONDS)
    clock.shift_seconds = HOUR
    look()
    assert SEEN == []
    clock.shift_seconds = 2 * HOUR
    look()

    assert "within 7200 s" in str(failed(handle))
    assert SEEN == ["finally"]


@flow(timeout=HOUR, retries=3)
def asks() -> None:
    PLAN["asked"].set()
    while True:
        SEEN.append(kitaru.current().cancelled)
        kitaru.check()
        threading.Event().wait(0.005)


def test_code_that_asks_is_told_and_is_not_tried_again(clock: Later) -> None:
    PLAN["asked"] = threading.Event()
    handle = asks.run()
    assert PLAN["asked"].wait(PATIENCE_SECONDS)
    clock.shift_seconds = HOUR
    look()

    failed(handle)
    assert SEEN[-1] is True
    assert execution(handle.exec_id).attempt == 1


def test_options_win_over_the_decorator_and_no_timeout_is_none() -> None:
    seconds = {}
    for name, made in {"decorator": in_an_hour, "options": in_an_hour.options(timeout=7)}.items():
        PLAN["first"], PLAN["second"] = Gate(), Gate()
        PLAN["first"].open()
        PLAN["second"].open()
        handle = made.options(tags=["x"]).run(retries=1)
        handle.wait(PATIENCE_SECONDS)
        seconds[name] = json.loads(execution(handle.exec_id).spec)["timeout_seconds"]
    assert seconds == {"decorator": HOUR, "options": 7.0}

    @flow
    def free() -> None:
        return None

    handle = free.run()
    handle.wait()
    assert execution(handle.exec_id).deadline_at is None


def test_a_retry_has_a_deadline_of_its_own(clock: Later) -> None:
    PLAN["first"] = gate = Gate()
    handle = in_an_hour.run()
    gate.wait_until_reached()
    clock.shift_seconds = HOUR
    look()
    gate.open()
    failed(handle)

    PLAN["second"] = Gate()
    PLAN["second"].open()
    again = KitaruClient().executions.retry(handle.exec_id)

    assert again.wait(PATIENCE_SECONDS) == "done"
    row = execution(handle.exec_id)
    assert row.deadline_at is not None
    assert row.deadline_at >= row.created_at + int(2 * HOUR * 1e6)


def test_the_outcome_was_quicker_than_the_deadline(clock: Later) -> None:
    PLAN["first"], PLAN["second"] = Gate(), Gate()
    PLAN["first"].open()
    PLAN["second"].open()
    handle = in_an_hour.run()
    handle.wait(PATIENCE_SECONDS)
    clock.shift_seconds = HOUR
    look()
    assert handle.get() == "done"


def test_of_a_cancel_and_a_deadline_the_cancel_counts_if_it_was_recorded(clock: Later) -> None:
    PLAN["first"] = gate = Gate()
    handle = in_an_hour.run()
    gate.wait_until_reached()
    clock.shift_seconds = HOUR
    look()
    row = execution(handle.exec_id)
    app.current().store.apply(Cancel(row.id, row.epoch, "them", "cancelled by them", 1))
    gate.open()

    with pytest.raises(kitaru.KitaruCancelledError, match="cancelled by them"):
        handle.wait(PATIENCE_SECONDS)


def test_a_cancel_after_the_deadline_was_recorded_is_told_so(clock: Later) -> None:
    PLAN["first"] = gate = Gate()
    handle = in_an_hour.run()
    gate.wait_until_reached()
    clock.shift_seconds = HOUR
    look()
    gate.open()
    failed(handle)
    with pytest.raises(kitaru.KitaruStateError, match="is failed"):
        handle.cancel()


def test_a_clock_that_is_set_back_gives_more_time(clock: Later) -> None:
    PLAN["first"], PLAN["second"] = Gate(), Gate()
    handle = in_an_hour.run()
    PLAN["first"].wait_until_reached()
    clock.shift_seconds = -24 * HOUR
    look()
    PLAN["first"].open()
    PLAN["second"].open()
    assert handle.wait(PATIENCE_SECONDS) == "done"


# --- where nobody runs it ------------------------------------------------------------------------


def test_what_waits_for_its_turn_fails_without_having_begun(clock: Later) -> None:
    kitaru.configure(max_concurrency=1)
    PLAN["first"] = gate = Gate()
    running = _holds_the_thread.run()
    gate.wait_until_reached()
    queued = in_an_hour.run()
    clock.shift_seconds = HOUR
    look()

    failed(queued)
    assert SEEN == []
    gate.open()
    assert running.wait(PATIENCE_SECONDS) == "first"


@flow
def _holds_the_thread() -> str:
    return slow("first")


def begun_elsewhere(*, state: State, deadline_at: int) -> str:
    """An execution of another process, which is dead."""
    running = app.current()
    dead = running.store.apply(RegisterOwner(os.urandom(16).hex(), 1, "elsewhere", 1)).id
    start = Start(
        exec_id=running.env.new_id(),
        project=running.project,
        flow_id=in_an_hour.spec.id,
        flow_name="in_an_hour",
        key=None,
        inputs_digest=b"0" * 16,
        inputs=encode({}, what="inputs"),
        seed=b"0" * 16,
        spec='{"timeout_seconds": 3600}',
        tags="[]",
        code_folder=None,
        code_module=None,
        owner=dead if state is State.RUNNING else None,
        home=dead,
        at=1,
        deadline_at=deadline_at,
    )
    running.store.apply(start)
    return start.exec_id


def by_recovering(exec_id: str) -> None:
    runner = app.current().runner
    runner.adopting = lambda: {in_an_hour.spec.id: in_an_hour.spec}
    runner.tick()


def by_resuming(exec_id: str) -> None:
    KitaruClient().executions.resume(exec_id)


@pytest.mark.parametrize("state", [State.RUNNING, State.PENDING])
@pytest.mark.parametrize("how", [by_recovering, by_resuming])
def test_one_whose_process_died_fails_when_somebody_takes_it_up_too_late(
    state: State, how: Callable[[str], None]
) -> None:
    exec_id = begun_elsewhere(state=state, deadline_at=2)

    how(exec_id)

    failed(in_an_hour.handle(exec_id))
    assert SEEN == []
    assert execution(exec_id).owner is None


def test_one_whose_process_died_goes_on_if_there_is_time_left() -> None:
    PLAN["first"], PLAN["second"] = Gate(), Gate()
    PLAN["first"].open()
    PLAN["second"].open()
    soon = app.current().env.now() + int(HOUR * 1e6)
    exec_id = begun_elsewhere(state=State.RUNNING, deadline_at=soon)

    assert KitaruClient().executions.resume(exec_id).wait(PATIENCE_SECONDS) == "done"
    assert execution(exec_id).deadline_at == soon
