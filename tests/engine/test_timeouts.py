"""``@checkpoint(timeout=)``: a call fails in time, and its execution goes on without the body."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import FailureOrigin, app, checkpoint, flow
from kitaru._core.lifecycle import CallState
from kitaru._core.values import failure_info
from kitaru._engine import timeouts
from kitaru.env import SystemEnv
from kitaru.errors import KitaruContextError, KitaruTimeoutError, KitaruUsageError

from .looking import PATIENCE_SECONDS, Gate, calls
from .waits_kit import Hurried

SOON = 0.05
HOUR = 3600.0
PLAN: dict[str, Any] = {}
SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_planned() -> None:
    PLAN.clear()
    SEEN.clear()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hurried]:
    """Time is up when a body says so, and not before it has come that far."""
    PLAN["clock"] = clock = Hurried()
    app.use_env(clock)
    monkeypatch.setattr(timeouts, "_MAX_WAIT_SECONDS", 0.01)
    yield clock
    app.use_env(SystemEnv())


def time_is_up() -> None:
    PLAN["clock"].ahead_seconds += HOUR


def be_patient(seconds: float) -> None:
    """How long async code that is told to stop is waited for."""
    app.current().services.grace_seconds = seconds


def last_failure(exec_id: str) -> Any:
    return failure_info(
        [row for row in calls(exec_id) if row.state is CallState.FAILED][-1].payload
    )


# --- a plain function -------------------------------------------------------------------------


@checkpoint(timeout=SOON, cache=False)
def stuck(gate: str) -> str:
    PLAN[gate].pass_through()
    return "too late"


@flow
def goes_on_without() -> str:
    try:
        return stuck("gate")
    except KitaruTimeoutError as error:
        SEEN.append((error.timeout_seconds, error.elapsed_seconds))
        return f"{type(error).__name__} {error.code}"


def test_a_body_that_does_not_end_in_time_fails_its_call_and_the_flow_goes_on() -> None:
    PLAN["gate"] = gate = Gate()
    handle = goes_on_without.run()

    assert handle.wait(PATIENCE_SECONDS) == "KitaruTimeoutError checkpoint-timed-out"

    ((asked, passed),) = SEEN
    assert asked == SOON
    assert passed >= SOON
    (row,) = calls(handle.exec_id)
    assert row.state is CallState.FAILED
    assert failure_info(row.payload).origin is FailureOrigin.TIMEOUT
    gate.open()


def test_what_a_lost_body_returns_later_is_ignored() -> None:
    PLAN["gate"] = gate = Gate()
    handle = goes_on_without.run()
    handle.wait(PATIENCE_SECONDS)
    gate.open()
    for thread in threading.enumerate():
        if thread.name == "kitaru-timed-stuck":
            thread.join(PATIENCE_SECONDS)

    assert [row.state for row in calls(handle.exec_id)] == [CallState.FAILED]
    assert handle.get() == "KitaruTimeoutError checkpoint-timed-out"


@checkpoint(timeout=PATIENCE_SECONDS, cache=False)
def quick(what: Any) -> Any:
    if what == "raise":
        raise LookupError("as it came")
    return what


@flow
def in_time(what: Any) -> Any:
    try:
        return quick(what)
    except LookupError as error:
        return str(error)


def test_a_body_that_ends_in_time_is_as_without_a_timeout() -> None:
    assert in_time.run(7).wait() == 7
    assert in_time.run(None).wait() is None
    assert in_time.run("raise").wait() == "as it came"


@checkpoint(timeout=HOUR, retries=kitaru.Retry(2, initial_seconds=0), cache=False)
def second_time_lucky() -> int:
    attempt = kitaru.current().attempt
    if attempt == 1:
        time_is_up()
        PLAN["gate"].pass_through()
    return attempt


@flow
def tries() -> int:
    return second_time_lucky()


def test_a_timeout_is_a_recorded_attempt_and_counts_for_retries(clock: Hurried) -> None:
    PLAN["gate"] = gate = Gate()
    handle = tries.run()

    assert handle.wait() == 2

    assert [row.state for row in calls(handle.exec_id)] == [CallState.FAILED, CallState.COMPLETED]
    assert last_failure(handle.exec_id).origin is FailureOrigin.TIMEOUT
    gate.open()


@flow
def times_out() -> str:
    return stuck("gate")


def test_an_execution_that_fails_by_it_says_so_as_its_origin() -> None:
    PLAN["gate"] = gate = Gate()
    with pytest.raises(kitaru.KitaruExecutionError) as failed:
        times_out.run().wait(PATIENCE_SECONDS)

    assert failed.value.failure_origin is FailureOrigin.TIMEOUT
    assert failed.value.code == "checkpoint-timed-out"
    assert isinstance(failed.value.__cause__, KitaruTimeoutError)
    assert "stuck" in str(failed.value)
    gate.open()


def test_the_error_is_whole_when_it_comes_from_a_record() -> None:
    PLAN["gate"] = gate = Gate()
    handle = times_out.run()
    with pytest.raises(kitaru.KitaruExecutionError):
        handle.wait(PATIENCE_SECONDS)
    gate.open()
    with pytest.raises(kitaru.KitaruExecutionError) as failed:
        times_out.handle(handle.exec_id).wait(PATIENCE_SECONDS)

    cause = failed.value.__cause__
    assert isinstance(cause, KitaruTimeoutError)
    for error in (cause, copy.copy(cause), pickle.loads(pickle.dumps(cause))):
        assert (error.exec_id, error.timeout_seconds) == (handle.exec_id, SOON)


@checkpoint(timeout=HOUR, cache=False)
def watches_itself() -> None:
    gate: Gate = PLAN["gate"]
    SEEN.append(kitaru.current().cancelled)
    time_is_up()
    gate.pass_through()
    SEEN.append(kitaru.current().cancelled)
    try:
        kitaru.check()
    except Exception:
        SEEN.append("caught")
    except BaseException as end:
        SEEN.append(type(end).__name__)
    try:
        quick("after the end")
    except BaseException as end:
        SEEN.append(type(end).__name__)
    try:
        kitaru.log(late=True)
    except BaseException as end:
        SEEN.append(type(end).__name__)
    PLAN["ended"].set()


@flow
def watched() -> str:
    try:
        watches_itself()
    except KitaruTimeoutError:
        return "went on"
    return "did not"


def test_a_lost_body_is_told_and_what_it_asks_for_is_refused(clock: Hurried) -> None:
    PLAN["gate"], PLAN["ended"] = Gate(), threading.Event()
    handle = watched.run()
    assert handle.wait() == "went on"
    PLAN["gate"].open()
    assert PLAN["ended"].wait(PATIENCE_SECONDS)

    assert SEEN == [False, True, "Unwind", "Unwind", "Unwind"]
    assert len(calls(handle.exec_id)) == 1


@checkpoint(cache=False)
def inner(name: str) -> str:
    PLAN[name].pass_through()
    SEEN.append((name, kitaru.current().cancelled))
    return name


@checkpoint(timeout=SOON, cache=False)
def outer(submitted: bool) -> str:
    if submitted:
        return inner.submit("inner").result()
    return inner("inner")


@flow
def nested(submitted: bool) -> str:
    try:
        return outer(submitted)
    except KitaruTimeoutError as error:
        return str(error)


@pytest.mark.parametrize("submitted", [False, True])
def test_calls_inside_a_lost_body_are_lost_with_it(submitted: bool) -> None:
    PLAN["inner"] = gate = Gate()
    handle = nested.run(submitted)

    assert "'outer' did not end" in handle.wait(PATIENCE_SECONDS)

    gate.open()


@checkpoint(timeout=SOON, cache=False)
def submits_and_waits() -> list[str]:
    futures = [inner.submit(name) for name in ("inner", "other")]
    PLAN["submitted"].set()
    return [future.result() for future in futures]


@flow
def submits() -> str:
    try:
        submits_and_waits()
    except KitaruTimeoutError:
        return "went on"
    return "did not"


def test_the_end_of_the_flow_does_not_wait_for_what_a_lost_body_submitted() -> None:
    PLAN.update(inner=Gate(), other=Gate(), submitted=threading.Event())

    assert submits.run().wait(PATIENCE_SECONDS) == "went on"

    PLAN["inner"].open()
    PLAN["other"].open()


@flow
def under_a_cap() -> list[str]:
    return capped.map(["a", "b"], concurrency=1).results()


@checkpoint(timeout=PATIENCE_SECONDS, cache=False)
def capped(name: str) -> str:
    return name + "".join(quick.map([name], concurrency=1).results())


def test_a_timed_body_that_waits_lends_the_slot_of_whoever_waits_for_it() -> None:
    kitaru.configure(max_concurrency=1)

    assert under_a_cap.run().wait(PATIENCE_SECONDS) == ["aa", "bb"]


# --- an async function --------------------------------------------------------------------------


@checkpoint(timeout=HOUR, cache=False)
async def sleeps_for_ever() -> str:
    time_is_up()
    try:
        await asyncio.sleep(PATIENCE_SECONDS * 10)
    except asyncio.CancelledError:
        SEEN.append("cancelled")
        raise
    finally:
        SEEN.append("cleaned up")
    return "too late"


@flow
async def awaits() -> str:
    try:
        return await sleeps_for_ever()
    except KitaruTimeoutError as error:
        return type(error).__name__


@flow
def submits_async() -> str:
    try:
        return sleeps_for_ever.submit().result()
    except KitaruTimeoutError as error:
        return type(error).__name__


@pytest.mark.parametrize("made", [awaits, submits_async])
def test_an_async_body_is_cancelled(made: Any, clock: Hurried) -> None:
    handle = made.run()

    assert handle.wait() == "KitaruTimeoutError"

    assert SEEN == ["cancelled", "cleaned up"]
    assert last_failure(handle.exec_id).origin is FailureOrigin.TIMEOUT


@checkpoint(timeout=HOUR, cache=False)
async def swallows() -> str:
    time_is_up()
    while not PLAN["give up"].is_set():
        try:
            await asyncio.sleep(SOON / 5)
        except asyncio.CancelledError:
            SEEN.append("swallowed")
    SEEN.append("ended")
    PLAN["ended"].set()
    return "too late"


@flow
async def goes_on_beside() -> str:
    try:
        return await swallows()
    except KitaruTimeoutError as error:
        return type(error).__name__


def test_an_async_body_that_swallows_its_cancel_is_left_after_a_while(clock: Hurried) -> None:
    be_patient(SOON)
    PLAN["give up"], PLAN["ended"] = threading.Event(), threading.Event()
    handle = goes_on_beside.run()

    assert handle.wait() == "KitaruTimeoutError"

    assert SEEN == ["swallowed"]
    PLAN["give up"].set()
    assert PLAN["ended"].wait(PATIENCE_SECONDS)
    assert [row.state for row in calls(handle.exec_id)] == [CallState.FAILED]


@checkpoint(cache=False)
async def deep() -> str:
    SEEN.append("deep began")
    if SEEN == ["deep began"] * 3:
        time_is_up()
    try:
        await asyncio.sleep(PATIENCE_SECONDS * 10)
    finally:
        SEEN.append("deep ended")
    return "deep"


@checkpoint(timeout=HOUR, cache=False)
async def fans_out() -> list[str]:
    task = asyncio.create_task(_deep_in_a_task())
    return [*await asyncio.gather(deep(), deep.submit()), await task]


async def _deep_in_a_task() -> str:
    return await deep()


@flow
async def around() -> str:
    try:
        return str(await fans_out())
    except KitaruTimeoutError as error:
        return str(error)


def test_what_a_timed_out_async_body_began_is_cancelled_with_it(clock: Hurried) -> None:
    be_patient(PATIENCE_SECONDS)
    handle = around.run()

    assert "'fans_out' did not end" in handle.wait()

    assert SEEN == ["deep began"] * 3 + ["deep ended"] * 3


@checkpoint(timeout=PATIENCE_SECONDS, cache=False)
async def timed_but_cancelled() -> str:
    SEEN.append("began")
    PLAN["scope"].reschedule(asyncio.get_running_loop().time())
    try:
        await asyncio.sleep(PATIENCE_SECONDS * 10)
    finally:
        SEEN.append("ended")
    return "too late"


@flow
async def cancels_it_itself() -> str:
    try:
        async with asyncio.timeout(None) as PLAN["scope"]:
            return await timed_but_cancelled()
    except TimeoutError:
        return "the flow's own timeout"


def test_a_cancel_by_the_flow_itself_reaches_a_timed_body() -> None:
    handle = cancels_it_itself.run()

    assert handle.wait(PATIENCE_SECONDS) == "the flow's own timeout"

    assert SEEN == ["began", "ended"]
    assert calls(handle.exec_id) == []


@checkpoint(timeout=PATIENCE_SECONDS, cache=False)
async def finishes_all_the_same() -> str:
    PLAN["began"].set()
    try:
        await asyncio.sleep(PATIENCE_SECONDS * 10)
    except asyncio.CancelledError:
        return "finished"
    return "too late"


@flow
async def asks_twice() -> str:
    PLAN["began"] = asyncio.Event()
    task = asyncio.ensure_future(finishes_all_the_same())
    await PLAN["began"].wait()
    task.cancel()
    return await task


def test_a_body_that_answers_a_cancel_with_a_value_has_that_value_recorded() -> None:
    handle = asks_twice.run()

    assert handle.wait(PATIENCE_SECONDS) == "finished"
    assert [row.state for row in calls(handle.exec_id)] == [CallState.COMPLETED]


# --- a plain function on the loop -----------------------------------------------------------------


@flow
async def plain_on_the_loop() -> str:
    try:
        return stuck("gate")
    except KitaruTimeoutError as error:
        return type(error).__name__


def test_a_plain_body_that_was_called_on_the_event_loop_is_lost_in_time_too() -> None:
    PLAN["gate"] = gate = Gate()
    assert plain_on_the_loop.run().wait(PATIENCE_SECONDS) == "KitaruTimeoutError"
    gate.open()


# --- check, and what is refused ----------------------------------------------------------------


@flow
def checks_in_the_flow() -> bool:
    kitaru.check()
    return kitaru.current().cancelled


def test_a_check_says_nothing_where_nothing_is_to_stop() -> None:
    assert checks_in_the_flow.run().wait() is False


def test_a_check_outside_a_flow_names_the_right_place() -> None:
    with pytest.raises(KitaruContextError, match="inside a function decorated"):
        kitaru.check()


@pytest.mark.parametrize("timeout", [0, -1, True, "5", float("nan"), float("inf"), timedelta(0)])
def test_a_timeout_that_is_no_time_is_refused(timeout: Any) -> None:
    with pytest.raises(KitaruUsageError, match="timeout="):
        checkpoint(timeout=timeout)(lambda: None)


def test_a_timeout_may_be_a_timedelta() -> None:
    assert checkpoint(timeout=timedelta(minutes=1))(lambda: None).spec.timeout_seconds == 60.0


ENDS = """
import threading
from kitaru import KitaruTimeoutError, checkpoint, flow

@checkpoint(timeout=0.05)
def stuck() -> None:
    threading.Event().wait()

@flow
def goes_on() -> str:
    try:
        stuck()
    except KitaruTimeoutError:
        return "went on"

print(goes_on.run().wait())
"""


def test_a_program_ends_although_a_lost_body_never_does(tmp_path: Path) -> None:
    script = tmp_path / "ends.py"
    script.write_text(ENDS)
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )

    assert (ended.stdout, ended.returncode) == ("went on\n", 0), ended.stderr
