"""Cancelling: nothing new starts, bodies under way are recorded, the code stops, then it shows."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import kitaru
from kitaru import ExecutionStatus, KitaruClient, app, checkpoint, flow
from kitaru._core.lifecycle import State
from kitaru._core.values import encode
from kitaru._engine import cancelling
from kitaru._store.protocol import Cancel, RegisterOwner, Start
from kitaru.errors import (
    KitaruCancelledError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
)

from .cancel_kit import cancel_but_first, wait_cancelled
from .looking import PATIENCE_SECONDS, Gate, calls, execution

PLAN: dict[str, Any] = {}
SEEN: list[Any] = []
FOR_EVER = PATIENCE_SECONDS * 10


@pytest.fixture(autouse=True)
def _nothing_planned() -> None:
    PLAN.clear()
    SEEN.clear()


def be_patient(seconds: float) -> None:
    """How long async bodies may take to end once their execution is to stop."""
    app.current().services.grace_seconds = seconds


# --- sync flows ---------------------------------------------------------------------------------


@checkpoint(cache=False)
def charge(name: str) -> str:
    SEEN.append(f"{name} began")
    PLAN[name].pass_through()
    SEEN.append(f"{name} ended")
    return f"charged {name}"


@flow
def shop() -> None:
    try:
        charge("first")
        SEEN.append("between")
        charge("second")
    finally:
        SEEN.append("finally")
        with suppress(Exception):
            charge("third")
        SEEN.append("not reached")


def test_a_body_that_runs_is_recorded_and_nothing_starts_after_it() -> None:
    PLAN["first"] = gate = Gate()
    handle = shop.run()
    gate.wait_until_reached()

    handle.cancel()

    assert handle.status is ExecutionStatus.CANCELLING
    gate.open()
    wait_cancelled(handle)
    assert [row.payload.data for row in calls(handle.exec_id)] == [b'"charged first"']
    assert SEEN == ["first began", "first ended", "between", "finally"]


def test_whoever_waits_is_told_who_cancelled_and_why() -> None:
    PLAN["first"] = gate = Gate()
    handle = shop.run()
    gate.wait_until_reached()
    handle.cancel(reason="the customer left")
    gate.open()

    error = wait_cancelled(handle)

    assert error.code == "execution-cancelled"
    assert "the customer left" in str(error)
    assert "@" in str(error)
    assert error.exec_id == handle.exec_id
    assert error.status is ExecutionStatus.CANCELLED
    assert "the customer left" in str(KitaruClient().executions.get(handle.exec_id).status_reason)


@flow
def returns_without_asking() -> str:
    PLAN["flow"].pass_through()
    return "a result that lost"


def test_what_the_code_returns_after_the_cancel_has_lost() -> None:
    PLAN["flow"] = gate = Gate()
    handle = returns_without_asking.run()
    gate.wait_until_reached()
    handle.cancel()
    gate.open()

    wait_cancelled(handle)

    assert execution(handle.exec_id).result is None


@flow
def raises_after_the_cancel() -> None:
    PLAN["flow"].pass_through()
    raise LookupError("lost as well")


def test_what_the_code_raises_after_the_cancel_has_lost() -> None:
    PLAN["flow"] = gate = Gate()
    handle = raises_after_the_cancel.run()
    gate.wait_until_reached()
    handle.cancel()
    gate.open()

    wait_cancelled(handle)


@flow(retries=5)
def fails_and_is_tried_again() -> None:
    PLAN["flow"].pass_through()
    raise LookupError("again")


def test_a_flow_that_is_cancelled_is_not_tried_again() -> None:
    PLAN["flow"] = gate = Gate()
    handle = fails_and_is_tried_again.run()
    gate.wait_until_reached()
    handle.cancel()
    gate.open()

    wait_cancelled(handle)

    assert execution(handle.exec_id).attempt == 1


@checkpoint(cache=False)
def asks_itself() -> None:
    PLAN["ready"].set()
    while not kitaru.current().cancelled:
        threading.Event().wait(0.005)
    SEEN.append("told")
    kitaru.check()
    SEEN.append("not reached")


@flow
def long_loop() -> None:
    asks_itself()


def test_a_long_body_can_ask_and_end_itself() -> None:
    PLAN["ready"] = threading.Event()
    handle = long_loop.run()
    assert PLAN["ready"].wait(PATIENCE_SECONDS)

    handle.cancel()
    wait_cancelled(handle)

    assert SEEN == ["told"]
    assert calls(handle.exec_id) == []


@checkpoint(cache=False, retries=kitaru.Retry(3, initial_seconds=FOR_EVER, jitter=False))
def fails() -> None:
    PLAN["failed"].set()
    raise ConnectionError


@flow
def backs_off() -> None:
    fails()


def test_a_backoff_is_left_at_once() -> None:
    PLAN["failed"] = threading.Event()
    handle = backs_off.run()
    assert PLAN["failed"].wait(PATIENCE_SECONDS)

    handle.cancel()
    wait_cancelled(handle)


@flow
def maps() -> list[str]:
    return charge.map(["first", "second"]).results()


def test_submitted_bodies_finish_and_are_recorded() -> None:
    PLAN["first"], PLAN["second"] = Gate(), Gate()
    handle = maps.run()
    PLAN["first"].wait_until_reached()
    PLAN["second"].wait_until_reached()
    handle.cancel()
    PLAN["second"].open()
    PLAN["first"].open()

    wait_cancelled(handle)

    recorded = sorted(row.payload.data for row in calls(handle.exec_id))
    assert recorded == [b'"charged first"', b'"charged second"']


# --- async flows ----------------------------------------------------------------------------------


@checkpoint(cache=False)
async def charge_async(name: str) -> str:
    SEEN.append(f"{name} began")
    PLAN[name].set()
    try:
        await asyncio.wait_for(PLAN[f"{name} may end"].wait(), FOR_EVER)
    except asyncio.CancelledError:
        SEEN.append(f"{name} cancelled")
        raise
    SEEN.append(f"{name} ended")
    return f"charged {name}"


@flow
async def shop_async() -> None:
    PLAN["first may end"] = asyncio.Event()
    try:
        await charge_async("first")
        await charge_async("second")
    finally:
        SEEN.append("finally")


@flow
async def shop_submitting() -> None:
    PLAN["first may end"] = asyncio.Event()
    try:
        await charge_async.submit("first")
        await charge_async("second")
    finally:
        SEEN.append("finally")


@flow
def shop_submitting_from_a_thread() -> None:
    PLAN["first may end"] = asyncio.Event()
    try:
        charge_async.submit("first").result()
        charge_async.submit("second").result()
    finally:
        SEEN.append("finally")


def let(event: str) -> None:
    """Set an event of the loop, from this thread."""
    app.current().services.loop.loop.call_soon_threadsafe(PLAN[event].set)


FLOWS = [shop_async, shop_submitting, shop_submitting_from_a_thread]


@pytest.mark.parametrize("made", FLOWS)
def test_an_async_body_that_ends_soon_is_recorded(made: Any) -> None:
    be_patient(PATIENCE_SECONDS)
    PLAN["first"] = threading.Event()
    handle = made.run()
    assert PLAN["first"].wait(PATIENCE_SECONDS)

    handle.cancel()
    let("first may end")
    wait_cancelled(handle)

    assert [row.payload.data for row in calls(handle.exec_id)] == [b'"charged first"']
    assert "second began" not in SEEN
    assert "finally" in SEEN


@pytest.mark.parametrize("made", FLOWS)
def test_an_async_body_that_does_not_end_is_cancelled(made: Any) -> None:
    be_patient(0.05)
    PLAN["first"] = threading.Event()
    handle = made.run()
    assert PLAN["first"].wait(PATIENCE_SECONDS)

    handle.cancel()
    wait_cancelled(handle)

    assert calls(handle.exec_id) == []
    assert sorted(SEEN) == ["finally", "first began", "first cancelled"]


@flow
async def sleeps_in_the_flow() -> None:
    PLAN["asleep"].set()
    try:
        await asyncio.gather(asyncio.sleep(FOR_EVER), _sleeper())
    except asyncio.CancelledError:
        SEEN.append("cancelled")
        raise
    finally:
        SEEN.append("finally")


async def _sleeper() -> None:
    try:
        await asyncio.sleep(FOR_EVER)
    finally:
        SEEN.append("task ended")


def test_the_code_of_an_async_flow_is_cancelled_at_once_as_asyncio_does_it() -> None:
    PLAN["asleep"] = threading.Event()
    handle = sleeps_in_the_flow.run()
    assert PLAN["asleep"].wait(PATIENCE_SECONDS)

    handle.cancel()
    wait_cancelled(handle)

    assert sorted(SEEN) == ["cancelled", "finally", "task ended"]


@flow
async def swallows_it() -> str:
    PLAN["asleep"].set()
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(FOR_EVER)
    return "swallowed"


def test_a_flow_that_swallows_its_cancellation_is_cancelled_all_the_same() -> None:
    PLAN["asleep"] = threading.Event()
    handle = swallows_it.run()
    assert PLAN["asleep"].wait(PATIENCE_SECONDS)
    handle.cancel()
    wait_cancelled(handle)


@flow
async def awaits_threads() -> None:
    try:
        await charge.submit("first")
    finally:
        SEEN.append("finally")


def test_bodies_in_threads_of_an_async_flow_finish_and_are_recorded() -> None:
    PLAN["first"] = gate = Gate()
    handle = awaits_threads.run()
    gate.wait_until_reached()
    handle.cancel()
    gate.open()

    wait_cancelled(handle)

    assert [row.payload.data for row in calls(handle.exec_id)] == [b'"charged first"']
    assert "finally" in SEEN


@flow
async def cancels_itself(how: str) -> None:
    exec_id = str(kitaru.current_execution_id())
    if how == "in a task":
        await asyncio.create_task(_cancel_in_a_task(exec_id))
    else:
        KitaruClient().executions.cancel(exec_id)
    try:
        await asyncio.sleep(FOR_EVER)
    finally:
        SEEN.append("finally")


async def _cancel_in_a_task(exec_id: str) -> None:
    KitaruClient().executions.cancel(exec_id)


@pytest.mark.parametrize("how", ["in a task", "in the flow"])
def test_a_flow_that_cancels_itself_is_cancelled_where_it_awaits_next(how: str) -> None:
    handle = cancels_itself.run(how)
    wait_cancelled(handle)
    assert SEEN in (["finally"], [])


# --- who and what may be cancelled --------------------------------------------------------------


def test_what_is_finished_cannot_be_cancelled() -> None:
    @flow
    def done() -> int:
        return 1

    handle = done.run()
    handle.wait()
    with pytest.raises(KitaruStateError, match="is completed") as refused:
        handle.cancel()
    assert refused.value.code == "nothing-to-cancel"
    assert handle.get() == 1


def test_a_cancel_of_what_is_being_cancelled_changes_nothing() -> None:
    PLAN["first"] = gate = Gate()
    handle = shop.run()
    gate.wait_until_reached()
    handle.cancel(reason="the first")
    handle.cancel(reason="the second")
    gate.open()

    assert "the first" in str(wait_cancelled(handle))
    with pytest.raises(KitaruStateError, match="is cancelled"):
        handle.cancel()


def test_what_waits_for_its_turn_is_cancelled_at_once() -> None:
    kitaru.configure(max_concurrency=1)
    PLAN["flow"], PLAN["first"] = Gate(), Gate()
    running = returns_without_asking.run()
    PLAN["flow"].wait_until_reached()
    queued = shop.run()
    assert queued.status is ExecutionStatus.PENDING

    queued.cancel()

    wait_cancelled(queued)
    PLAN["flow"].open()
    assert running.wait(PATIENCE_SECONDS) == "a result that lost"
    assert SEEN == []


def test_the_client_and_the_record_cancel_too() -> None:
    PLAN["flow"] = gate = Gate()
    first, second = returns_without_asking.run(), returns_without_asking.run()
    gate.wait_until_reached()
    executions = KitaruClient().executions

    assert executions.cancel(first.exec_id, reason="x").status is ExecutionStatus.CANCELLING
    assert executions.get(second.exec_id).cancel().status is ExecutionStatus.CANCELLING

    gate.open()
    wait_cancelled(first)
    wait_cancelled(second)


def test_a_cancel_of_nothing_says_so() -> None:
    with pytest.raises(KitaruNotFoundError):
        KitaruClient().executions.cancel("ffffffff")


@pytest.mark.parametrize("reason", [3, "two\nlines", "x" * 501, b"x"])
def test_a_reason_is_one_line_of_text(reason: Any) -> None:
    PLAN["flow"] = gate = Gate()
    handle = returns_without_asking.run()
    with pytest.raises(KitaruUsageError, match="reason="):
        handle.cancel(reason=reason)
    gate.open()
    assert handle.wait() == "a result that lost"


def test_a_cancelled_execution_can_be_neither_resumed_nor_retried() -> None:
    PLAN["flow"] = gate = Gate()
    handle = returns_without_asking.run()
    gate.wait_until_reached()
    handle.cancel()
    gate.open()
    wait_cancelled(handle)
    executions = KitaruClient().executions
    with pytest.raises(KitaruStateError, match="is cancelled"):
        executions.resume(handle.exec_id)
    with pytest.raises(KitaruStateError, match="is cancelled"):
        executions.retry(handle.exec_id)


# --- races, each forced both ways ---------------------------------------------------------------


def test_the_outcome_was_quicker_than_the_cancel() -> None:
    PLAN["flow"] = gate = Gate()
    handle = returns_without_asking.run()
    gate.wait_until_reached()

    def ends() -> None:
        gate.open()
        assert handle.wait(PATIENCE_SECONDS) == "a result that lost"

    with pytest.raises(KitaruStateError, match="is completed"):
        cancel_but_first(handle.exec_id, ends)
    assert handle.get() == "a result that lost"


def test_of_two_cancels_the_first_is_on_record_and_both_are_told() -> None:
    PLAN["flow"] = gate = Gate()
    handle = returns_without_asking.run()
    gate.wait_until_reached()

    row = cancel_but_first(handle.exec_id, lambda: handle.cancel(reason="quicker"))

    assert row.status is State.CANCELLING
    gate.open()
    assert "quicker" in str(wait_cancelled(handle))


# --- from another process -----------------------------------------------------------------------


def cancel_from_elsewhere(exec_id: str) -> None:
    """The write alone, as another process commits it."""
    row = execution(exec_id)
    app.current().store.apply(Cancel(row.id, row.epoch, "them", "cancelled by them", 1))


def test_a_cancel_by_another_process_is_seen_by_looking() -> None:
    PLAN["ready"] = threading.Event()
    handle = long_loop.run()
    assert PLAN["ready"].wait(PATIENCE_SECONDS)
    cancel_from_elsewhere(handle.exec_id)
    assert handle.status is ExecutionStatus.CANCELLING

    cancelling.look(app.current().runner)

    assert "cancelled by them" in str(wait_cancelled(handle))
    assert SEEN == ["told"]


def test_what_waits_for_its_turn_is_seen_to_be_cancelled_by_another_process() -> None:
    kitaru.configure(max_concurrency=1)
    PLAN["flow"] = Gate()
    running = returns_without_asking.run()
    PLAN["flow"].wait_until_reached()
    queued = shop.run()
    cancel_from_elsewhere(queued.exec_id)

    cancelling.look(app.current().runner)

    wait_cancelled(queued)
    PLAN["flow"].open()
    assert running.wait(PATIENCE_SECONDS) == "a result that lost"


def test_a_cancel_before_the_code_has_begun_is_not_missed() -> None:
    runner = app.current().runner
    begin = runner.launching.begin

    def cancelled_meanwhile(life: Any) -> None:
        cancelling.cancel(runner, life.row, by="a test", reason="")
        begin(life)

    runner.launching.begin = cancelled_meanwhile  # type: ignore[method-assign]
    handle = shop.run()

    wait_cancelled(handle)
    assert SEEN == []


# --- owners that die ----------------------------------------------------------------------------


@pytest.fixture
def interrupted() -> str:
    """An execution whose owner is dead."""
    start = Start(
        exec_id=app.current().env.new_id(),
        project=app.current().project,
        flow_id=shop.spec.id,
        flow_name="shop",
        key=None,
        inputs_digest=b"0" * 16,
        inputs=encode({}, what="inputs"),
        seed=b"0" * 16,
        spec="{}",
        tags="[]",
        code_folder=None,
        code_module=None,
        owner=app.current().store.apply(RegisterOwner(os.urandom(16).hex(), 1, "elsewhere", 1)).id,
        home=None,
        at=1,
    )
    app.current().store.apply(start)
    return start.exec_id


@pytest.fixture
def orphan(interrupted: str) -> str:
    """One that is being cancelled, too."""
    cancel_from_elsewhere(interrupted)
    return interrupted


def by_a_handle(exec_id: str) -> None:
    with pytest.raises(KitaruCancelledError):
        shop.handle(exec_id).wait(PATIENCE_SECONDS)


def by_cancelling_again(exec_id: str) -> None:
    assert KitaruClient().executions.cancel(exec_id).status is ExecutionStatus.CANCELLED


def by_resuming(exec_id: str) -> None:
    with pytest.raises(KitaruStateError, match="is cancelled"):
        KitaruClient().executions.resume(exec_id)


def by_recovering(exec_id: str) -> None:
    runner = app.current().runner
    runner.adopting = lambda: {shop.spec.id: shop.spec}
    runner.tick()


@pytest.mark.parametrize("how", [by_a_handle, by_cancelling_again, by_resuming, by_recovering])
def test_a_cancelling_execution_whose_owner_died_is_cancelled_by_whoever_comes_by(
    orphan: str, how: Callable[[str], None]
) -> None:
    assert shop.handle(orphan).status is ExecutionStatus.CANCELLING

    how(orphan)

    row = execution(orphan)
    assert (row.status, row.owner) == (State.CANCELLED, None)
    assert row.status_reason == "cancelled by them"
    assert SEEN == []


def test_a_cancel_of_an_interrupted_execution_is_complete_at_once(interrupted: str) -> None:
    assert shop.handle(interrupted).status is ExecutionStatus.INTERRUPTED

    shop.handle(interrupted).cancel()

    assert execution(interrupted).status is State.CANCELLED


def test_a_cancel_is_told_to_the_logger_once_with_who_and_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    PLAN["first"] = gate = Gate()
    with caplog.at_level("WARNING", logger="kitaru"):
        handle = shop.run()
        gate.wait_until_reached()
        handle.cancel(reason="too dear")
        handle.cancel(reason="again")
        gate.open()
        wait_cancelled(handle)

    said = [record.getMessage() for record in caplog.records if handle.exec_id in record.message]
    stopping, stopped = said
    assert "is told to stop: cancelled by" in stopping
    assert stopping.endswith(": too dear")
    assert stopped.endswith("cancelled")


def test_a_resume_of_what_is_being_cancelled_says_that_it_is() -> None:
    PLAN["first"] = gate = Gate()
    handle = shop.run()
    gate.wait_until_reached()
    handle.cancel()
    row = execution(handle.exec_id)
    with pytest.raises(KitaruStateError) as refused:
        KitaruClient().executions.resume(row.exec_id)
    assert refused.value.code in ("already-running", "nothing-to-resume")
    gate.open()
    wait_cancelled(handle)


def test_one_whose_process_is_gone_shows_how_to_end_it(orphan: str) -> None:
    shown = KitaruClient().executions.get(orphan)
    assert shown.status is ExecutionStatus.CANCELLING
    assert f"kitaru executions cancel {orphan} ends it" in str(shown.status_reason)
