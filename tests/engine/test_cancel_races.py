"""A cancel, or a deadline, against what else may happen to an execution: the first write counts.

Each race is forced both ways: what comes first is done before the other begins, or between
its reading and its writing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from tests.conftest import end_app

import kitaru
from kitaru import ExecutionStatus, KitaruClient, app, checkpoint, flow
from kitaru._core.lifecycle import State, WaitState
from kitaru._core.values import encode
from kitaru._store.protocol import Cancel, Claim, Expire, Fenced, RegisterOwner, Start
from kitaru.env import SystemEnv
from kitaru.errors import KitaruCancelledError, KitaruExecutionError, KitaruStateError

from .cancel_kit import cancel_but_first, wait_cancelled
from .looking import PATIENCE_SECONDS, Gate, calls, execution
from .waits_kit import SetEnv, answer, parked, waits

PLAN: dict[str, Any] = {}
SEEN: list[Any] = []
HOUR = 3600.0


@pytest.fixture(autouse=True)
def _nothing_planned() -> None:
    PLAN.clear()
    SEEN.clear()


@pytest.fixture
def clock() -> Iterator[SetEnv]:
    clock = SetEnv()
    app.use_env(clock)
    yield clock
    end_app()
    app.use_env(SystemEnv())


@checkpoint(cache=False)
def note(what: Any) -> Any:
    SEEN.append(what)
    return what


@flow
def asks() -> Any:
    return note(kitaru.wait(name="ok", schema=str))


@flow
def asks_for_an_hour() -> Any:
    return note(kitaru.wait(name="ok", schema=str, expires=timedelta(hours=1), on_expire="expired"))


# --- a cancel against an answer ---------------------------------------------------------------


def test_a_parked_execution_is_cancelled_at_once_and_its_wait_is_aborted() -> None:
    handle = asks.run()
    parked(handle)

    handle.cancel(reason="not needed")

    assert handle.status is ExecutionStatus.CANCELLED
    assert "not needed" in str(wait_cancelled(handle))
    (wait,) = waits(handle)
    assert wait.state is WaitState.ABORTED
    assert "@" in str(wait.closed_by)
    with pytest.raises(KitaruStateError):
        answer(handle, "ok", "too late")
    assert SEEN == []


def test_whoever_waits_for_a_parked_execution_is_told_of_its_cancel() -> None:
    handle = asks.run()
    parked(handle)
    told: list[BaseException] = []

    def follow() -> None:
        try:
            handle.wait(PATIENCE_SECONDS)
        except BaseException as error:
            told.append(error)

    follower = threading.Thread(target=follow)
    follower.start()
    asks.handle(handle.exec_id).cancel()
    follower.join(PATIENCE_SECONDS)

    assert [type(error) for error in told] == [KitaruCancelledError]


def test_a_cancel_by_another_process_of_what_is_parked_here_is_told_too() -> None:
    handle = asks.run()
    row = parked(handle)
    app.current().store.apply(Cancel(row.id, row.epoch, "them", "cancelled by them", 1))

    assert "cancelled by them" in str(wait_cancelled(handle))


def test_the_answer_was_quicker_and_the_cancel_stops_what_it_woke() -> None:
    PLAN["gate"] = gate = Gate()

    @checkpoint(cache=False)
    def after(what: str) -> str:
        gate.pass_through()
        return what

    @flow
    def goes_on() -> Any:
        after(kitaru.wait(name="ok", schema=str))
        return note("never")

    handle = goes_on.run()
    parked(handle)

    def answers() -> None:
        answer(handle, "ok", "yes")
        gate.wait_until_reached()

    row = cancel_but_first(handle.exec_id, answers)

    assert row.status is State.CANCELLING
    gate.open()
    wait_cancelled(handle)
    assert [wait.state for wait in waits(handle)] == [WaitState.ANSWERED]
    assert [call.payload.data for call in calls(handle.exec_id)] == [b'"yes"']
    assert SEEN == []


# --- a cancel against an expiry ---------------------------------------------------------------


def test_an_expiry_after_the_cancel_changes_nothing(clock: SetEnv) -> None:
    handle = asks_for_an_hour.run()
    row = parked(handle)
    handle.cancel()
    clock.ahead_seconds = HOUR
    (wait,) = waits(handle)

    expired = app.current().store.apply(Expire(row.id, wait.row.identity, clock.now()))

    assert expired.state is WaitState.ABORTED
    wait_cancelled(handle)
    assert SEEN == []


def test_the_expiry_was_quicker_than_the_cancel(clock: SetEnv) -> None:
    handle = asks_for_an_hour.run()
    parked(handle)
    clock.ahead_seconds = HOUR

    with pytest.raises(KitaruStateError, match="is completed"):
        cancel_but_first(handle.exec_id, lambda: handle.wait(PATIENCE_SECONDS))

    assert handle.get() == "expired"
    assert SEEN == ["expired"]


# --- a cancel against a takeover --------------------------------------------------------------


@pytest.fixture
def interrupted() -> str:
    """An execution whose owner is dead."""
    running = app.current()
    start = Start(
        exec_id=running.env.new_id(),
        project=running.project,
        flow_id=holds.spec.id,
        flow_name="holds",
        key=None,
        inputs_digest=b"0" * 16,
        inputs=encode({}, what="inputs"),
        seed=b"0" * 16,
        spec="{}",
        tags="[]",
        code_folder=None,
        code_module=None,
        owner=running.store.apply(RegisterOwner(os.urandom(16).hex(), 1, "elsewhere", 1)).id,
        home=None,
        at=1,
    )
    running.store.apply(start)
    return start.exec_id


@flow
def holds() -> str:
    PLAN["gate"].pass_through()
    return note("never")


def test_a_takeover_after_the_cancel_is_refused(interrupted: str) -> None:
    running = app.current()
    row = execution(interrupted)
    running.store.apply(Cancel(row.id, row.epoch, "them", "cancelled by them", 1))

    with pytest.raises(Fenced):
        running.store.apply(
            Claim(row.id, row.epoch, running.runner.ownership.number(), row.owner, 2)
        )


def test_a_cancel_after_the_takeover_stops_the_new_owner(interrupted: str) -> None:
    PLAN["gate"] = gate = Gate()
    handles: list[Any] = []

    def takes_over() -> None:
        handles.append(KitaruClient().executions.resume(interrupted))
        gate.wait_until_reached()

    row = cancel_but_first(interrupted, takes_over)

    assert (row.status, row.epoch) == (State.CANCELLING, 2)
    gate.open()
    wait_cancelled(handles[0])
    assert SEEN == []


# --- deadlines of what waits ------------------------------------------------------------------


@flow(timeout=HOUR)
def asks_in_time() -> Any:
    return note(kitaru.wait(name="ok", schema=str))


def test_a_parked_execution_fails_at_its_deadline(clock: SetEnv) -> None:
    handle = asks_in_time.run()
    row = parked(handle)
    assert row.due_at == row.deadline_at
    clock.ahead_seconds = HOUR

    with pytest.raises(KitaruExecutionError) as failed:
        handle.wait(PATIENCE_SECONDS)

    assert failed.value.code == "flow-timed-out"
    with pytest.raises(KitaruStateError):
        answer(handle, "ok", "too late")
    assert SEEN == []


def test_the_answer_was_quicker_than_the_deadline(clock: SetEnv) -> None:
    handle = asks_in_time.run()
    parked(handle)
    answer(handle, "ok", "in time")

    assert handle.wait(PATIENCE_SECONDS) == "in time"
    clock.ahead_seconds = HOUR
    app.current().runner.tick()
    assert handle.status is ExecutionStatus.COMPLETED


@flow(timeout=HOUR)
def sleeps_too_long() -> None:
    kitaru.sleep(timedelta(hours=2))
    note("never")


def test_a_sleep_beyond_the_deadline_ends_with_it(clock: SetEnv) -> None:
    handle = sleeps_too_long.run()
    parked(handle)
    clock.ahead_seconds = HOUR

    with pytest.raises(KitaruExecutionError, match="did not end within 3600 s"):
        handle.wait(PATIENCE_SECONDS)
    assert SEEN == []


def test_a_clock_that_is_set_back_while_it_waits_gives_more_time(clock: SetEnv) -> None:
    handle = asks_in_time.run()
    parked(handle)
    clock.ahead_seconds = -24 * HOUR
    app.current().runner.tick()
    answer(handle, "ok", "in time")
    assert handle.wait(PATIENCE_SECONDS) == "in time"


# --- aborting a wait is a cancel --------------------------------------------------------------


def test_an_aborted_wait_says_so_to_whoever_waits() -> None:
    handle = asks.run()
    parked(handle)
    KitaruClient().executions.abort_wait(handle.exec_id, wait="ok", by="ada")

    error = wait_cancelled(handle)
    assert "was cancelled: wait 'ok' was aborted by ada" in str(error)


# --- children: a cancel goes down the tree -----------------------------------------------------


@flow
def child() -> str:
    try:
        PLAN["child"].pass_through()
        return note("never")
    finally:
        SEEN.append("child stops")


@flow
def parent() -> Any:
    try:
        handle = child.run()
        PLAN["ids"].append(handle.exec_id)
        return note(handle.wait())
    finally:
        SEEN.append("parent stops")


@flow
def parent_that_goes_on() -> str:
    handle = child.run()
    PLAN["ids"].append(handle.exec_id)
    try:
        handle.wait()
    except KitaruCancelledError:
        return str(note("went on"))
    return "no"


def test_a_cancel_of_the_parent_cancels_the_child_that_runs() -> None:
    PLAN.update(child=Gate(), ids=[])
    handle = parent.run()
    PLAN["child"].wait_until_reached()
    (child_id,) = PLAN["ids"]

    handle.cancel(reason="all of it")

    assert execution(child_id).status is State.CANCELLING
    PLAN["child"].open()
    wait_cancelled(handle)
    assert "all of it" in str(wait_cancelled(child.handle(child_id)))
    assert sorted(SEEN) == ["child stops", "parent stops"]


def test_a_parked_parent_is_cancelled_at_once_and_its_child_when_it_has_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kitaru._engine.children.HOT_SECONDS", 0.0)
    PLAN.update(child=Gate(), ids=[])
    handle = parent.run()
    PLAN["child"].wait_until_reached()
    until(lambda: execution(handle.exec_id).status is State.WAITING)
    (child_id,) = PLAN["ids"]

    handle.cancel()

    assert execution(handle.exec_id).status is State.CANCELLED
    assert execution(child_id).status is State.CANCELLING
    PLAN["child"].open()
    wait_cancelled(child.handle(child_id))
    wait_cancelled(handle)


def test_a_cancel_of_the_child_alone_is_told_to_its_parent() -> None:
    PLAN.update(child=Gate(), ids=[])
    handle = parent_that_goes_on.run()
    PLAN["child"].wait_until_reached()
    child.handle(PLAN["ids"][0]).cancel()
    PLAN["child"].open()

    assert handle.wait(PATIENCE_SECONDS) == "went on"


def test_the_childs_end_was_quicker_than_the_cancel_of_its_parent() -> None:
    PLAN.update(child=Gate(), ids=[], after=Gate())

    @flow
    def parent_of_a_quick_one() -> Any:
        handle = child.run()
        PLAN["ids"].append(handle.exec_id)
        handle.wait()
        PLAN["after"].pass_through()
        return note("after")

    PLAN["child"].open()
    handle = parent_of_a_quick_one.run()
    PLAN["after"].wait_until_reached()
    handle.cancel()
    PLAN["after"].open()
    wait_cancelled(handle)

    assert child.handle(PLAN["ids"][0]).status is ExecutionStatus.COMPLETED
    assert "after" not in SEEN


def test_a_child_is_not_born_of_a_parent_that_is_being_cancelled() -> None:
    PLAN.update(child=Gate(), ids=[], before=Gate())
    PLAN["child"].open()

    @flow
    def parent_of_none() -> None:
        PLAN["before"].pass_through()
        child.run()

    handle = parent_of_none.run()
    PLAN["before"].wait_until_reached()
    row = execution(handle.exec_id)
    app.current().store.apply(Cancel(row.id, row.epoch, "them", "cancelled by them", 1))
    PLAN["before"].open()

    assert "cancelled by them" in str(wait_cancelled(handle))
    assert app.current().store.list_children(handle.exec_id, limit=10) == []
    assert SEEN == []


def until(holds: Callable[[], bool]) -> None:
    """Wait, looking at the store, for what must happen."""
    for _ in range(int(PATIENCE_SECONDS / 0.01)):
        if holds():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen")
