"""A store that is reached over a network: the event loop never waits for it, and it may be away.

``far.py`` is that network. The other suites of this folder run over it too, and over
PostgreSQL: ``ENGINE_STORE=far`` or ``ENGINE_STORE=postgres``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import kitaru
from kitaru import app, checkpoint, flow
from kitaru._core.lifecycle import State
from kitaru._store.protocol import NO_FACTS, Claim, Finish, Park, Record, Release
from kitaru.client import KitaruClient
from kitaru.errors import KitaruBackendError, KitaruUserCodeError

from .far import FarStore
from .looking import PATIENCE_SECONDS, Gate, calls, execution

Far = Callable[[], FarStore]

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def far(far_store: Far) -> Far:
    RAN.clear()
    return far_store


@checkpoint(cache=False)
async def double_async(x: int) -> int:
    RAN.append(x)
    return 2 * x


@checkpoint(cache=False)
def double(x: int) -> int:
    RAN.append(x)
    return 2 * x


@checkpoint
async def shout(text: str) -> str:
    RAN.append(text)
    return text.upper()


@checkpoint(cache=False, retries=1)
async def stumbles(x: int) -> int:
    RAN.append(x)
    if RAN.count(x) == 1:
        raise ConnectionError("once")
    return x


# --- the loop ----------------------------------------------------------------------------


@flow
async def much() -> Any:
    """Whatever an async flow does with the store, but for what is called without ``await``."""
    first = await asyncio.gather(*(double_async(n) for n in range(5)))
    submitted = [double.submit(n) for n in range(3)]
    texts = [await shout("a"), await shout("a"), await stumbles(7)]
    await kitaru.sleep(0.01)
    answer = await kitaru.wait(name="go", schema=int)
    return [first, [await each for each in submitted], texts, answer]


def test_the_event_loop_asks_nothing_of_a_store_behind_a_network(far: Far) -> None:
    handle = much.run()
    assert app.current().runner.wait_idle(PATIENCE_SECONDS)
    KitaruClient().executions.input(handle.exec_id, wait="go", value=3)
    expected = [[0, 2, 4, 6, 8], [0, 2, 4], ["A", "A", 7], 3]
    assert handle.wait(timeout=PATIENCE_SECONDS) == expected
    assert RAN.count(0) == 2  # once each, though it was parked and resumed
    again = much.run()  # what can be reused is
    assert app.current().runner.wait_idle(PATIENCE_SECONDS)
    KitaruClient().executions.input(again.exec_id, wait="go", value=4)
    assert again.wait(timeout=PATIENCE_SECONDS)[3] == 4
    assert RAN.count("a") == 1 + 1
    assert far().held_the_loop == []


def test_a_store_that_takes_its_time_does_not_hold_the_loop(far: Far) -> None:
    @checkpoint(cache=False)
    async def slow_to_record(x: int) -> int:
        return x

    @flow
    async def ticks_meanwhile() -> int:
        ticked, looked = 0, asyncio.Event()

        async def tick() -> None:
            nonlocal ticked
            while not looked.is_set():
                ticked += 1
                await asyncio.sleep(0)
                if ticked == 100:
                    taken.set()

        ticking = asyncio.ensure_future(tick())
        await slow_to_record(1)
        looked.set()
        await ticking
        return ticked

    taken = threading.Event()

    def takes_until_the_loop_has_ticked(write: Any) -> bool:
        if isinstance(write, Record):
            assert taken.wait(PATIENCE_SECONDS), "the loop stood still"
        return False

    handle_of = ticks_meanwhile.run
    app.current()
    far().loses = takes_until_the_loop_has_ticked
    assert handle_of().wait(timeout=PATIENCE_SECONDS) >= 100


def test_a_handle_awaited_on_a_loop_of_the_users_asks_nothing_there(far: Far) -> None:
    @flow
    def fails() -> None:
        raise ValueError("no")

    handles = [much_less.run(2), fails.run()]
    assert app.current().runner.wait_idle(PATIENCE_SECONDS)

    async def main() -> list[Any]:
        return await asyncio.gather(*handles, return_exceptions=True)

    value, error = asyncio.run(main())
    assert value == 4
    assert isinstance(error, KitaruUserCodeError)
    assert far().held_the_loop == []


@flow
def much_less(x: int) -> int:
    return double(x)


@flow
async def much_less_async(x: int) -> int:
    return await double_async(x)


# --- away ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
def test_what_ran_when_the_store_went_is_recorded_when_it_is_back(
    far: Far, is_async: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = Gate()

    @checkpoint(cache=False)
    def body(x: int) -> int:
        RAN.append(x)
        inside.pass_through()
        return x + 1

    @flow
    def plain() -> int:
        return double(body(1))

    @flow
    async def on_the_loop() -> int:
        return await double_async(await body.submit(1))

    handle = (on_the_loop if is_async else plain).run()
    inside.wait_until_reached()
    with far().away():
        inside.open()
        assert far().asked_while_away.wait(PATIENCE_SECONDS)
        outage = app.current().services.outage
        assert outage.latch is not None
        assert outage.since is not None
        assert RAN == [1]
    assert handle.wait(timeout=PATIENCE_SECONDS) == 4
    assert RAN == [1, 2]
    said = capsys.readouterr().err
    assert said.count("the store is away since") == 1
    assert said.count("the store is back after") == 1
    assert outage.since is None


@pytest.mark.parametrize("is_async", [False, True])
def test_nothing_new_starts_while_the_store_is_away(far: Far, is_async: bool) -> None:
    inside, other = Gate(), Gate()

    @checkpoint(cache=False)
    def first() -> int:
        inside.pass_through()
        return 1

    @checkpoint(cache=False)
    def begins_late() -> int:
        RAN.append("late")
        return 2

    @flow
    def plain() -> int:
        return first()

    @flow
    def another() -> int:
        other.pass_through()
        return begins_late()

    @flow
    async def another_async() -> int:
        await asyncio.to_thread(other.pass_through)
        return await begins_late.submit()

    handles = [plain.run(), (another_async if is_async else another).run()]
    inside.wait_until_reached()
    other.wait_until_reached()
    with far().away():
        inside.open()
        assert far().asked_while_away.wait(PATIENCE_SECONDS)
        other.open()
        assert RAN == []
    assert [each.wait(timeout=PATIENCE_SECONDS) for each in handles] == [1, 2]
    assert RAN == ["late"]


def test_whoever_waits_for_an_execution_of_others_goes_on_waiting(
    far: Far, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = much_less.run(1)
    assert handle.wait(timeout=PATIENCE_SECONDS) == 2
    found = much_less.handle(handle.exec_id)
    came: list[int] = []
    with far().away():
        waiting = threading.Thread(target=lambda: came.append(found.wait(PATIENCE_SECONDS)))
        waiting.start()
        assert far().asked_while_away.wait(PATIENCE_SECONDS)
    waiting.join(PATIENCE_SECONDS)
    assert came == [2]
    assert capsys.readouterr().err.count("the store is away since") == 1


def test_to_start_while_the_store_is_away_is_refused_at_once(far: Far) -> None:
    much_less.run(1).wait(timeout=PATIENCE_SECONDS)
    with far().away(), pytest.raises(KitaruBackendError) as refused:
        much_less.run(2)
    assert refused.value.code == "store-away"
    assert RAN == [1]


LOST = {
    "record": Record,
    "finish": Finish,
    "park": Park,
    "claim": Claim,
}


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("kind", sorted(LOST))
def test_a_write_whose_answer_was_lost_is_not_done_twice(
    far: Far, kind: str, is_async: bool
) -> None:
    @flow
    def plain() -> int:
        return double(kitaru.wait(name="a", schema=int) + double(1))

    @flow
    async def on_the_loop() -> int:
        before = await double_async(1)
        return await double_async(await kitaru.wait(name="a", schema=int) + before)

    lost: list[Any] = []

    def loses(write: Any) -> bool:
        if type(write) is LOST[kind] and not lost:
            lost.append(write)
            return True
        return False

    app.current()
    far().loses = loses
    handle = (on_the_loop if is_async else plain).run()
    assert app.current().runner.wait_idle(PATIENCE_SECONDS)
    KitaruClient().executions.input(handle.exec_id, wait="a", value=3)
    assert handle.wait(timeout=PATIENCE_SECONDS) in (10, 12)
    assert len(lost) == 1
    assert len(RAN) == len(set(RAN))
    recorded = [each.identity for each in calls(handle.exec_id)]
    assert len(recorded) == len(set(recorded)) == len(RAN)


def held_in_a_body() -> tuple[Gate, kitaru.FlowHandle[int]]:
    """An execution whose only body has begun, and the gate that it stands at."""
    inside = Gate()

    @checkpoint(cache=False)
    def body() -> int:
        inside.pass_through()
        return 1

    @flow
    def plain() -> int:
        return body()

    handle = plain.run()
    inside.wait_until_reached()
    return inside, handle


def test_what_another_owner_has_taken_meanwhile_is_refused_and_says_why(
    far: Far, capsys: pytest.CaptureFixture[str]
) -> None:
    inside, handle = held_in_a_body()
    row = execution(handle.exec_id)
    with far().away():
        inside.open()
        assert far().asked_while_away.wait(PATIENCE_SECONDS)
        # Behind its back, as another process does that reaches the store.
        behind = far()._store
        behind.apply(Release(row.id, row.epoch, NO_FACTS, app.current().env.now()))
    assert app.current().runner.wait_idle(PATIENCE_SECONDS)
    assert execution(handle.exec_id).status is State.PENDING
    assert calls(handle.exec_id) == []
    assert "was taken over by another process" in capsys.readouterr().err


def test_a_process_that_ends_while_the_store_is_away_says_that_it_hands_nothing_back(
    far: Far, capsys: pytest.CaptureFixture[str]
) -> None:
    inside, handle = held_in_a_body()
    row = execution(handle.exec_id)
    with far().away():
        inside.open()
        assert far().asked_while_away.wait(PATIENCE_SECONDS)
        assert app.close(0) == 1
    said = capsys.readouterr().err
    assert f"execution {row.exec_id} could not be handed back" in said
