"""An answer against an answer, against the clock, against a cancel: the first commit wins."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

import kitaru
from kitaru import app, errors, flow
from kitaru._core.lifecycle import WaitState
from kitaru.env import SystemEnv

from .leased import eventually
from .looking import PATIENCE_SECONDS
from .waits_kit import SetEnv, answer, open_waits, parked, result, waits


@pytest.fixture
def env() -> Iterator[SetEnv]:
    env = SetEnv()
    app.use_env(env)
    yield env
    app.use_env(SystemEnv())


@flow
def asks_for_an_hour() -> Any:
    return kitaru.wait(name="ok", schema=str, expires=3600, on_expire="late")


def test_of_two_answers_at_once_one_wins_and_the_other_is_told() -> None:
    @flow
    def asks() -> Any:
        return kitaru.wait(name="ok", schema=str)

    handle = asks.run()
    parked(handle)
    together = threading.Barrier(4)
    said: list[str] = []

    def give(value: str) -> None:
        together.wait(PATIENCE_SECONDS)
        try:
            answer(handle, "ok", value)
            said.append(value)
        except errors.KitaruStateError as error:
            said.append(str(error.code))

    givers = [threading.Thread(target=give, args=(value,)) for value in "abcd"]
    for giver in givers:
        giver.start()
    for giver in givers:
        giver.join(PATIENCE_SECONDS)
    (winner,) = [value for value in said if value in "abcd"]
    assert sorted(said) == sorted([winner, *["wait-closed"] * 3])
    assert result(handle) == winner


def test_an_answer_that_came_first_stands_although_its_time_is_over_before_it_is_seen(
    env: SetEnv,
) -> None:
    handle = asks_for_an_hour.run()
    parked(handle)
    # Nobody looks meanwhile: the answer is written past this process, then the clock is set.
    (wait,) = waits(handle)
    store = app.current().store
    from kitaru._engine import schemas
    from kitaru._store.protocol import Answer

    payload = schemas.sealed_answer("in time", schema=wait.row.schema, wait="ok")
    store.apply(Answer(_row_id(handle), wait.row.identity, payload, "a test", env.now()))
    env.ahead_seconds = 3601
    assert result(handle) == "in time"


def test_an_answer_that_comes_after_its_time_is_refused_whoever_has_noticed(env: SetEnv) -> None:
    handle = asks_for_an_hour.run()
    parked(handle)
    env.ahead_seconds = 3601
    with pytest.raises(errors.KitaruStateError) as found:
        answer(handle, "ok", "too late")
    assert found.value.code == "wait-closed"
    assert result(handle) == "late"
    assert [wait.state for wait in waits(handle)] == [WaitState.EXPIRED]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_answer_between_the_park_and_its_being_known_here_is_not_lost(kind: str) -> None:
    """Told to nobody, and seen by a tick that did not know yet whom it was for."""

    @flow
    def asks() -> Any:
        return kitaru.wait(name="ok", schema=str)

    @flow
    async def asks_async() -> Any:
        return await kitaru.wait(name="ok", schema=str)

    running = app.current()

    def listen(event: Any) -> None:
        if event.name == "execution.waiting":
            kitaru.KitaruClient().executions.input(event.exec_id, wait="ok", value="just now")
            running.runner.tick()

    end = running.services.events.listen(listen)
    try:
        handle = {"sync": asks, "async": asks_async}[kind].run()
        # Nobody waits for it with a handle, which would look for itself.
        assert _is_finished_by_itself(handle)
        assert result(handle) == "just now"
    finally:
        end()


def _is_finished_by_itself(handle: Any) -> bool:
    pause = threading.Event()
    until = time.monotonic() + PATIENCE_SECONDS
    while not handle.status.is_finished and time.monotonic() < until:
        pause.wait(0.01)
    return bool(handle.status.is_finished)


def test_aborting_the_wait_of_a_parked_execution_cancels_it_at_once() -> None:
    handle = asks_for_an_hour.run()
    parked(handle)
    waiting = threading.Thread(target=_swallow, args=(handle,))
    waiting.start()
    kitaru.KitaruClient().executions.abort_wait(handle.exec_id, wait="ok")
    waiting.join(PATIENCE_SECONDS)
    assert not waiting.is_alive()
    assert str(handle.status) == "cancelled"
    with pytest.raises(errors.KitaruCancelledError):
        result(handle)


def _swallow(handle: Any) -> None:
    with pytest.raises(errors.KitaruCancelledError):
        result(handle)


def _row_id(handle: Any) -> int:
    row = app.current().store.find_execution(handle.exec_id)
    assert row is not None
    return row.id


# --- the clocks of people -----------------------------------------------------------------

_SPRING = 1_774_735_200  # 2026-03-28 22:00 UTC: the night before clocks go forward in Europe
_AUTUMN = 1_792_882_800  # 2026-10-24 23:00 UTC: the night in which they go back


@pytest.mark.parametrize("night", [_SPRING, _AUTUMN], ids=["spring", "autumn"])
def test_a_sleep_over_the_night_in_which_the_clocks_change_is_as_long_as_it_says(
    env: SetEnv, night: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        env.ahead_seconds = night - time.time()

        @flow
        def sleeps() -> str:
            kitaru.sleep(timedelta(hours=8))
            return "rested"

        handle = sleeps.run()
        due_at = parked(handle).due_at
        assert abs(due_at / 1e6 - (night + 8 * 3600)) < 60
        env.ahead_seconds += 8 * 3600 - 60
        app.current().runner.tick()
        parked(handle)
        env.ahead_seconds += 61
        assert result(handle) == "rested"
    finally:
        monkeypatch.undo()
        os.environ.pop("TZ", None)
        time.tzset()


def test_a_clock_that_jumps_ahead_by_hours_expires_a_hot_wait(env: SetEnv) -> None:
    @flow
    def asks() -> Any:
        return kitaru.wait(name="ok", schema=str, timeout=36_000, expires=7200, on_expire="late")

    handle = asks.run()
    # Its two hours begin when it is recorded.
    eventually(lambda: bool(open_waits(handle)))
    env.ahead_seconds = 7201
    assert result(handle) == "late"
