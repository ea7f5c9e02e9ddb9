"""`kitaru.testing.in_memory`: time that obeys, answers that were prepared, lives that end."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import kitaru
from kitaru import (
    KitaruClient,
    KitaruStateError,
    KitaruTimeoutError,
    KitaruUsageError,
    KitaruWaitValidationError,
    Retry,
    app,
    checkpoint,
    flow,
)
from kitaru.model import PendingWait
from kitaru.testing import in_memory
from kitaru.testing.world import LEAVE_OPEN

PATIENCE_SECONDS = 120
START = datetime(2024, 2, 28, 23, 59, tzinfo=UTC)


@checkpoint
def double(number: int) -> int:
    return 2 * number


RAN: list[int] = []


@checkpoint
def noted(number: int) -> int:
    RAN.append(number)
    return number


FAILURES: list[Exception] = []


@checkpoint(retries=Retry(max_attempts=3, initial_seconds=3600, max_seconds=86400, jitter=False))
def shaky() -> str:
    if FAILURES:
        raise FAILURES.pop()
    return "done"


@flow
def tries() -> str:
    return shaky()


@flow
def sleeper(seconds: float) -> str:
    kitaru.sleep(seconds)
    return kitaru.now().isoformat(timespec="seconds")


@flow
async def both(first: float, second: float) -> list[str]:
    async def one(seconds: float) -> str:
        await kitaru.sleep(seconds)
        return kitaru.now().isoformat(timespec="seconds")

    return list(await asyncio.gather(one(first), one(second)))


@flow
def asks(name: str) -> Any:
    return kitaru.wait(name=name, schema=int, expires=3600, on_expire=-1)


@flow
def asks_for_ever() -> int:
    answer: int = kitaru.wait(name="number", schema=int)
    return double(answer)


def test_long_sleeps_pass_at_once_and_the_clock_says_when() -> None:
    with in_memory(now=START) as world:
        assert sleeper.run(2 * 86400).wait(PATIENCE_SECONDS) == "2024-03-01T23:59:00+00:00"
        assert world.now - START < timedelta(days=2, seconds=1)


def test_sleeps_side_by_side_end_in_their_order() -> None:
    with in_memory(now=START):
        ended = both.run(7200, 3600).wait(PATIENCE_SECONDS)
    assert ended == ["2024-02-29T01:59:00+00:00", "2024-02-29T00:59:00+00:00"]


def test_backoffs_of_hours_pass_at_once() -> None:
    FAILURES[:] = [ValueError("second"), ValueError("first")]
    with in_memory(now=START) as world:
        assert tries.run().wait(PATIENCE_SECONDS) == "done"
        assert world.now - START >= timedelta(hours=3)


def test_a_wait_that_nobody_answers_expires_at_once() -> None:
    with in_memory(now=START) as world:
        assert asks.run("anything").wait(PATIENCE_SECONDS) == -1
        assert world.now - START >= timedelta(hours=1)


def test_answers_are_given_by_name_by_function_and_by_one_function_for_all() -> None:
    asked: list[PendingWait] = []

    def answer(wait: PendingWait) -> Any:
        asked.append(wait)
        return 7 if wait.name == "known" else LEAVE_OPEN

    with in_memory(answers={"plain": 5, "computed": lambda wait: len(wait.name)}):
        assert asks.run("plain").wait(PATIENCE_SECONDS) == 5
        assert asks.run("computed").wait(PATIENCE_SECONDS) == 8
    with in_memory(answers=answer):
        assert asks.run("known").wait(PATIENCE_SECONDS) == 7
        assert asks.run("unknown").wait(PATIENCE_SECONDS) == -1
    assert [wait.name for wait in asked] == ["known", "unknown"]


def test_an_answer_that_does_not_fit_is_raised_to_the_test() -> None:
    def test() -> None:
        with in_memory(answers={"number": "seven"}) as world:
            asks_for_ever.run()
            world.settle()

    with pytest.raises(KitaruWaitValidationError):
        test()


def test_time_stands_still_until_it_is_moved() -> None:
    with in_memory(now=START, clock="manual") as world:
        handle = sleeper.run(3600)
        world.settle()
        assert handle.status.value == "waiting"
        world.advance(3599)
        assert handle.status.value == "waiting"
        world.advance(timedelta(seconds=2))
        assert handle.get() == "2024-02-29T00:59:00+00:00"
        assert world.now == START + timedelta(seconds=3601, milliseconds=1)


def test_waits_are_seen_and_answered_by_hand() -> None:
    with in_memory() as world:
        handle = asks_for_ever.run()
        world.settle()
        (wait,) = world.waits()
        assert (wait.name, wait.exec_id) == ("number", handle.exec_id)
        world.answer(handle, "number", 4)
        assert handle.wait(PATIENCE_SECONDS) == 8
        assert world.waits() == []


def test_a_crash_loses_nothing_and_the_next_life_goes_on_by_itself() -> None:
    RAN.clear()

    @flow
    def journey() -> int:
        first = noted(1)
        kitaru.sleep(60)
        return first + noted(2)

    with in_memory(clock="manual") as world:
        handle = journey.run()
        world.settle()
        world.crash()
        world.advance(61)
        assert handle.wait(PATIENCE_SECONDS) == 3
    assert RAN == [1, 2]


def test_what_a_killed_life_still_does_is_not_recorded() -> None:
    inside, go_on = threading.Event(), threading.Event()
    lives: list[str] = []

    @checkpoint
    def slow() -> str:
        lives.append("life")
        if len(lives) == 1:
            inside.set()
            assert go_on.wait(PATIENCE_SECONDS)
            return "of the dead"
        return "of the living"

    @flow
    def one() -> str:
        return slow()

    with in_memory() as world:
        handle = one.run()
        assert inside.wait(PATIENCE_SECONDS)
        world.crash()
        assert handle.wait(PATIENCE_SECONDS) == "of the living"
        go_on.set()
        (call,) = KitaruClient().executions.list_checkpoints(handle.exec_id)
        assert call.result() == "of the living"


def test_two_worlds_know_nothing_of_each_other_or_of_the_store_outside() -> None:
    outside = app.current()
    for _ in range(2):
        with in_memory():
            assert KitaruClient().executions.list() == []
            assert double_it.run(2).wait(PATIENCE_SECONDS) == 4
    assert app.current() is outside
    assert KitaruClient().executions.list() == []


@flow
def double_it(number: int) -> int:
    return double(number)


def test_the_same_world_makes_the_same_ids() -> None:
    ids = []
    for _ in range(2):
        with in_memory(now=START):
            ids.append(double_it.run(2).exec_id)
    assert ids[0] == ids[1]


def test_a_flow_that_does_not_end_is_named() -> None:
    go_on = threading.Event()

    @checkpoint
    def stuck() -> None:
        go_on.wait(PATIENCE_SECONDS)

    @flow
    def never() -> None:
        stuck()

    def test() -> None:
        with in_memory(timeout=0.05) as world:
            never.run()
            with pytest.raises(KitaruStateError, match="never"):
                world.settle(timeout=0.05)

    with pytest.raises(KitaruStateError, match="1 execution"):
        test()
    go_on.set()


@pytest.mark.parametrize(
    "options", [{"answers": 5}, {"now": datetime(2024, 1, 1)}, {"clock": "fast"}]
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(KitaruUsageError), in_memory(**options):
        pass


@pytest.mark.parametrize("by", [-1, "an hour", True])
def test_time_does_not_go_back_or_by_words(by: Any) -> None:
    with in_memory() as world, pytest.raises(KitaruUsageError):
        world.advance(by)


def test_a_wait_without_an_answer_times_out_for_the_waiter_alone() -> None:
    with in_memory() as world:
        handle = asks_for_ever.run()
        world.settle()
        with pytest.raises(KitaruTimeoutError):
            handle.wait(0.05)
        assert handle.status.value == "waiting"
