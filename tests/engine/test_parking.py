"""Parking: at quiescence and not before, unwound as Python code expects, holding nothing."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

import kitaru
from kitaru import Retry, app, checkpoint, flow

from .looking import PATIENCE_SECONDS, Gate, execution
from .waits_kit import SetEnv, answer, open_waits, parked, result

SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    SEEN.clear()


# --- unwinding ------------------------------------------------------------------------


def test_finally_and_with_run_at_a_park_and_can_tell_it() -> None:
    @flow
    def asks() -> Any:
        try:
            return kitaru.wait(name="ok", schema=bool)
        finally:
            SEEN.append(kitaru.current().parking)

    handle = asks.run()
    parked(handle)
    answer(handle, "ok", True)
    assert result(handle) is True
    assert SEEN == [True, False]


def test_finally_of_an_async_flow_runs_at_a_park_and_can_tell_it() -> None:
    @flow
    async def asks() -> Any:
        try:
            return await kitaru.wait(name="ok", schema=bool)
        except asyncio.CancelledError:
            SEEN.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            SEEN.append(kitaru.current().parking)

    handle = asks.run()
    parked(handle)
    answer(handle, "ok", True)
    assert result(handle) is True
    assert SEEN == ["cancelled", True, False]


def test_except_exception_does_not_swallow_a_park() -> None:
    @flow
    def asks() -> Any:
        try:
            return kitaru.wait(name="ok", schema=bool)
        except Exception:
            return "swallowed"

    handle = asks.run()
    parked(handle)
    answer(handle, "ok", True)
    assert result(handle) is True


def test_a_body_that_returns_while_it_is_unwound_is_parked_and_not_completed() -> None:
    @flow
    def asks() -> Any:
        try:
            return kitaru.wait(name="ok", schema=bool)
        except BaseException:
            return "swallowed"

    handle = asks.run()
    parked(handle)
    answer(handle, "ok", True)
    assert result(handle) is True


def test_an_async_body_that_returns_while_it_is_unwound_is_parked_and_not_completed() -> None:
    @flow
    async def asks() -> Any:
        try:
            return await kitaru.wait(name="ok", schema=bool)
        except asyncio.CancelledError:
            return "swallowed"

    handle = asks.run()
    parked(handle)
    answer(handle, "ok", True)
    assert result(handle) is True


@checkpoint(cache=False)
def note(what: str) -> None:
    SEEN.append(what)


def test_a_swallowed_park_is_raised_again_at_the_next_call() -> None:
    @flow
    def asks() -> Any:
        try:
            kitaru.wait(name="ok", schema=bool)
        except BaseException:
            pass
        note("after")
        return "done"

    handle = asks.run()
    parked(handle)
    assert SEEN == []
    answer(handle, "ok", True)
    assert result(handle) == "done"
    assert SEEN == ["after"]


def test_an_exception_raised_while_it_is_unwound_is_no_failure() -> None:
    @flow
    def asks() -> Any:
        try:
            return kitaru.wait(name="ok", schema=bool)
        finally:
            if kitaru.current().parking:
                raise ValueError("in a finally")

    handle = asks.run()
    parked(handle)
    answer(handle, "ok", True)
    assert result(handle) is True


WHO = contextvars.ContextVar("who", default="nobody")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_every_life_begins_with_the_context_of_whoever_started_the_flow(kind: str) -> None:
    @flow
    def asks() -> Any:
        SEEN.append(WHO.get())
        WHO.set("the flow")
        return kitaru.wait(name="a", schema=int)

    @flow
    async def asks_async() -> Any:
        SEEN.append(WHO.get())
        WHO.set("the flow")
        return await kitaru.wait(name="a", schema=int)

    token = WHO.set("the caller")
    try:
        handle = {"sync": asks, "async": asks_async}[kind].run()
    finally:
        WHO.reset(token)
    parked(handle)
    answer(handle, "a", 1)
    assert result(handle) == 1
    assert SEEN == ["the caller"] * 2


# --- at quiescence, in every form of waiting for tasks ----------------------------------


async def ask(name: str) -> Any:
    return await kitaru.wait(name=name, schema=int)


async def by_gather() -> Any:
    return await asyncio.gather(ask("a"), ask("b"))


async def by_gather_with_exceptions() -> Any:
    return await asyncio.gather(ask("a"), ask("b"), return_exceptions=True)


async def by_bare_gather() -> Any:
    return await asyncio.gather(
        kitaru.wait(name="a", schema=int), kitaru.wait(name="b", schema=int)
    )


async def by_nested_gather() -> Any:
    async def inner(name: str) -> Any:
        return (await asyncio.gather(ask(name), return_exceptions=True))[0]

    return await asyncio.gather(asyncio.gather(inner("a")), inner("b"))


async def by_task_group() -> Any:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask("a")), group.create_task(ask("b"))]
    return [task.result() for task in tasks]


async def by_task_group_of_bare_waits() -> Any:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(kitaru.wait(name="a", schema=int)),
            group.create_task(kitaru.wait(name="b", schema=int)),
        ]
    return [task.result() for task in tasks]


async def by_wait() -> Any:
    tasks = [asyncio.create_task(ask("a")), asyncio.create_task(ask("b"))]
    await asyncio.wait(tasks)
    return [task.result() for task in tasks]


async def by_tasks() -> Any:
    tasks = [asyncio.create_task(ask("a")), asyncio.create_task(ask("b"))]
    return [await task for task in tasks]


async def by_task_of_a_task() -> Any:
    async def outer(name: str) -> Any:
        return await asyncio.create_task(ask(name))

    return [await each for each in [asyncio.create_task(outer(name)) for name in "ab"]]


async def by_as_completed() -> Any:
    return sorted([await each for each in asyncio.as_completed([ask("a"), ask("b")])])


async def by_shield() -> Any:
    tasks = [asyncio.create_task(ask("a")), asyncio.create_task(ask("b"))]
    return [await asyncio.shield(task) for task in tasks]


async def by_a_task_that_nobody_awaits_yet() -> Any:
    left = asyncio.create_task(ask("a"))
    second = await ask("b")
    return [await left, second]


FORMS: list[Callable[[], Any]] = [
    by_gather,
    by_gather_with_exceptions,
    by_bare_gather,
    by_nested_gather,
    by_task_group,
    by_task_group_of_bare_waits,
    by_wait,
    by_tasks,
    by_task_of_a_task,
    by_as_completed,
    by_shield,
    by_a_task_that_nobody_awaits_yet,
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_flow_whose_tasks_only_wait_for_waits_is_parked(form: Callable[[], Any]) -> None:
    @flow
    async def asks() -> Any:
        SEEN.append("life")
        return await form()

    handle = asks.run()
    parked(handle)
    assert sorted(str(wait.row.name) for wait in open_waits(handle)) == ["a", "b"]
    answer(handle, "b", 2)
    parked(handle)
    answer(handle, "a", 1)
    got = result(handle)
    assert [item[0] if isinstance(item, list) else item for item in got] == [1, 2]
    assert SEEN == ["life"] * 3


def _all_stand() -> bool:
    """Whether every task of the one execution that runs here has come to a stop."""
    (life,) = app.current().runner.lives() or (None,)
    return life is not None and bool(life.run.standing)


def _looks_a_few_times(handle: Any) -> None:
    """Every chance to park: the runner ticks, and the loop goes round between."""
    runner = app.current().runner
    pause = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / 0.005)):
        if _all_stand():
            break
        pause.wait(0.005)
    for _ in range(5):
        runner.tick()
        gone_round = threading.Event()
        loop = app.current().services.loop.loop
        for _ in range(3):
            gone_round.clear()
            loop.call_soon_threadsafe(gone_round.set)
            assert gone_round.wait(PATIENCE_SECONDS)
    assert str(handle.status) == "running"


async def beside_a_sleep(go_on: asyncio.Event) -> Any:
    return (await asyncio.gather(ask("a"), asyncio.sleep(3600)))[0]


async def beside_an_event(go_on: asyncio.Event) -> Any:
    return (await asyncio.gather(ask("a"), go_on.wait()))[0]


async def beside_a_queue(go_on: asyncio.Event) -> Any:
    queue: asyncio.Queue[int] = asyncio.Queue()
    return (await asyncio.gather(ask("a"), queue.get()))[0]


async def beside_a_forgotten_task(go_on: asyncio.Event) -> Any:
    forgotten = asyncio.create_task(go_on.wait())
    assert not forgotten.done()
    return await ask("a")


async def in_a_timeout(go_on: asyncio.Event) -> Any:
    async with asyncio.timeout(3600):
        return await ask("a")


async def in_wait_for(go_on: asyncio.Event) -> Any:
    return await asyncio.wait_for(ask("a"), 3600)


async def in_wait_with_a_timeout(go_on: asyncio.Event) -> Any:
    task = asyncio.create_task(ask("a"))
    await asyncio.wait([task], timeout=3600)
    return task.result()


async def in_wait_with_something_else(go_on: asyncio.Event) -> Any:
    task = asyncio.create_task(ask("a"))
    await asyncio.wait([task, asyncio.create_task(go_on.wait())])
    return task.result()


async def beside_a_thread(go_on: asyncio.Event) -> Any:
    return (await asyncio.gather(ask("a"), asyncio.to_thread(THREAD.pass_through)))[0]


THREAD = Gate()

HOT: list[Callable[[asyncio.Event], Any]] = [
    beside_a_sleep,
    beside_an_event,
    beside_a_queue,
    beside_a_forgotten_task,
    in_a_timeout,
    in_wait_for,
    in_wait_with_a_timeout,
    in_wait_with_something_else,
    beside_a_thread,
]


@pytest.mark.parametrize("form", HOT, ids=lambda form: form.__name__)
def test_a_task_that_waits_for_anything_else_keeps_the_execution_hot(
    form: Callable[[asyncio.Event], Any],
) -> None:
    @flow
    async def asks() -> Any:
        task = asyncio.current_task()
        assert task is not None
        LEAVE.append((task.get_loop(), task))
        return await form(asyncio.Event())

    LEAVE.clear()
    THREAD.opened.clear()
    handle = asks.run()
    _looks_a_few_times(handle)
    THREAD.open()
    loop, task = LEAVE[0]
    loop.call_soon_threadsafe(task.cancel)
    with pytest.raises(kitaru.KitaruExecutionError):
        result(handle)


LEAVE: list[Any] = []


def test_a_body_in_flight_keeps_the_execution_hot_and_its_outcome_is_recorded() -> None:
    gate = Gate()

    @checkpoint(cache=False)
    def slow() -> str:
        gate.pass_through()
        return "slow"

    @flow
    async def asks() -> Any:
        return await asyncio.gather(ask("a"), slow.submit())

    handle = asks.run()
    gate.wait_until_reached()
    _looks_a_few_times(handle)
    gate.open()
    parked(handle)
    answer(handle, "a", 1)
    assert result(handle) == [1, "slow"]


def test_a_sync_flow_waits_for_its_submitted_bodies_before_it_parks() -> None:
    gate = Gate()

    @checkpoint(cache=False)
    def slow() -> str:
        gate.pass_through()
        SEEN.append("body")
        return "slow"

    @flow
    def asks() -> Any:
        future = slow.submit()
        return [kitaru.wait(name="a", schema=int), future.result()]

    handle = asks.run()
    gate.wait_until_reached()
    _looks_a_few_times(handle)
    gate.open()
    parked(handle)
    answer(handle, "a", 1)
    assert result(handle) == [1, "slow"]
    assert SEEN == ["body"]


def test_a_wait_in_a_thread_of_an_async_flow_is_answered_in_place() -> None:
    @flow
    async def asks() -> Any:
        return await asyncio.to_thread(kitaru.wait, name="a", schema=int)

    handle = asks.run()
    _looks_a_few_times(handle)
    answer(handle, "a", 1)
    assert result(handle) == 1


def test_a_race_of_waits_is_decided_the_same_in_the_next_life() -> None:
    @flow
    async def asks() -> Any:
        tasks = [asyncio.create_task(ask("a")), asyncio.create_task(ask("b"))]
        done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        return [task.result() for task in tasks if task in done]

    handle = asks.run()
    parked(handle)
    answer(handle, "b", 2)
    assert result(handle) == [2]


# --- what is held ----------------------------------------------------------------------


def test_a_parked_execution_holds_no_thread_and_no_task() -> None:
    @flow
    async def asks() -> Any:
        return await asyncio.gather(*[ask(str(n)) for n in range(5)])

    @flow
    def asks_too() -> Any:
        return kitaru.wait(name="a", schema=int)

    handles = [each.run() for each in [asks, asks_too] * 5]
    assert app.current().runner.wait_idle(PATIENCE_SECONDS)
    assert {str(handle.status) for handle in handles} == {"waiting"}
    assert app.current().runner.busy == 0
    left, loop = threading.Event(), app.current().services.loop.loop

    def look() -> None:
        # A task may still have to leave: where the store is far, threads tell it that it may.
        if asyncio.all_tasks():
            loop.call_soon(look)
        else:
            left.set()

    loop.call_soon_threadsafe(look)
    assert left.wait(PATIENCE_SECONDS), asyncio.all_tasks(loop)
    flows = [thread for thread in threading.enumerate() if "kitaru-flow" in thread.name]
    assert len(flows) <= 5  # idle ones of the pool, whose number does not grow with what is parked
    assert all(execution(handle.exec_id).owner is None for handle in handles)


def test_a_flow_pool_of_one_thread_parks_many() -> None:
    kitaru.configure(max_concurrency=1)

    @flow
    def asks(n: int) -> Any:
        return [n, kitaru.wait(name="a", schema=int)]

    handles = [asks.run(n) for n in range(20)]
    for handle in handles:
        parked(handle)
    for n, handle in enumerate(reversed(handles)):
        answer(handle, "a", n)
    assert [result(handle) for handle in handles] == [[n, 19 - n] for n in range(20)]


# --- sleeping and backing off ---------------------------------------------------------------


@pytest.fixture
def env() -> Any:
    from kitaru.env import SystemEnv

    env = SetEnv()
    app.use_env(env)
    yield env
    app.use_env(SystemEnv())


@pytest.mark.parametrize("hours", [5, 24 * 400])
def test_a_sleep_ends_when_the_wall_clock_says_so(env: SetEnv, hours: int) -> None:
    from datetime import timedelta

    @flow
    def sleeps() -> str:
        SEEN.append("life")
        kitaru.sleep(timedelta(hours=hours))
        return "rested"

    handle = sleeps.run()
    row = parked(handle)
    assert row.status_reason.startswith("sleeps until ")
    assert row.due_at is not None
    env.ahead_seconds = hours * 3600 - 60
    app.current().runner.tick()
    parked(handle)
    env.ahead_seconds = hours * 3600 + 1
    assert result(handle) == "rested"
    assert SEEN == ["life", "life"]


def test_a_clock_that_is_set_back_makes_a_sleep_longer_and_no_shorter(env: SetEnv) -> None:
    @flow
    async def sleeps() -> str:
        await kitaru.sleep(3600)
        return "rested"

    handle = sleeps.run()
    due_at = parked(handle).due_at
    env.ahead_seconds = -7200
    app.current().runner.tick()
    assert parked(handle).due_at == due_at
    env.ahead_seconds = 3601
    assert result(handle) == "rested"


def test_a_hot_sleep_sees_that_the_clock_was_set(env: SetEnv) -> None:
    """Beside a task that keeps it hot, the sleep itself must not count real seconds."""
    woken = threading.Event()

    @flow
    async def sleeps() -> str:
        async def rest() -> None:
            await kitaru.sleep(3600)
            woken.set()

        task = asyncio.create_task(asyncio.to_thread(woken.wait, PATIENCE_SECONDS))
        await rest()
        await task
        return "rested"

    handle = sleeps.run()
    _looks_a_few_times(handle)
    env.ahead_seconds = 3601
    assert result(handle) == "rested"


def test_a_long_backoff_parks_and_the_next_attempt_comes_when_it_is_due(env: SetEnv) -> None:
    @checkpoint(cache=False, retries=Retry(max_attempts=3, initial_seconds=3600, jitter=False))
    def fragile() -> str:
        SEEN.append(kitaru.current().attempt)
        if len(SEEN) < 3:
            raise ConnectionError("away")
        return "reached"

    @flow
    def tries() -> str:
        return fragile()

    handle = tries.run()
    row = parked(handle)
    assert row.status_reason.startswith("tries checkpoint 'fragile' again at ")
    env.ahead_seconds = 3601
    app.current().runner.tick()
    assert app.current().runner.wait_idle(PATIENCE_SECONDS)
    parked(handle)
    env.ahead_seconds = 3601 + 7201
    assert result(handle) == "reached"
    assert SEEN == [1, 2, 3]


@pytest.mark.parametrize("how", ["submit", "await", "gather", "settle"])
def test_a_long_backoff_of_a_submitted_call_parks(env: SetEnv, how: str) -> None:
    @checkpoint(cache=False, retries=Retry(max_attempts=2, initial_seconds=3600, jitter=False))
    def fragile(n: int) -> str:
        SEEN.append(kitaru.current().attempt)
        if kitaru.current().attempt == 1:
            raise ConnectionError("away")
        return f"reached {n}"

    @checkpoint(cache=False, retries=Retry(max_attempts=2, initial_seconds=3600, jitter=False))
    async def fragile_async(n: int) -> str:
        return str(fragile.func(n))

    @flow
    def submits() -> Any:
        return fragile.map(range(2)).results()

    @flow
    async def awaits() -> Any:
        return [await fragile.submit(0), await fragile_async(1)]

    @flow
    async def gathers() -> Any:
        return await asyncio.gather(fragile_async(0), fragile_async.submit(1), fragile.submit(2))

    @flow
    def leaves() -> Any:
        fragile.submit(0)
        return "left"

    flows = {"submit": submits, "await": awaits, "gather": gathers, "settle": leaves}
    handle = flows[how].run()
    for _ in range(4):
        parked(handle)
        env.ahead_seconds += 3601
        app.current().runner.tick()
        assert app.current().runner.wait_idle(PATIENCE_SECONDS)
        if str(handle.status) != "waiting":
            break
    expected = {
        "submit": ["reached 0", "reached 1"],
        "await": ["reached 0", "reached 1"],
        "gather": ["reached 0", "reached 1", "reached 2"],
        "settle": "left",
    }
    assert result(handle) == expected[how]


def test_a_short_backoff_and_a_short_sleep_do_not_park() -> None:
    @checkpoint(cache=False, retries=Retry(max_attempts=2, initial_seconds=0.01, jitter=False))
    def fragile() -> str:
        if kitaru.current().attempt == 1:
            raise ConnectionError("away")
        return "reached"

    @flow
    def tries() -> str:
        SEEN.append("life")
        kitaru.sleep(0.01)
        return fragile()

    assert result(tries.run()) == "reached"
    assert SEEN == ["life"]


def test_a_wait_that_expires_while_it_is_parked_goes_on_by_itself(env: SetEnv) -> None:
    @flow
    def asks() -> Any:
        return kitaru.wait(name="ok", schema=str, expires=3600, on_expire="nobody came")

    handle = asks.run()
    parked(handle)
    env.ahead_seconds = 3601
    assert result(handle) == "nobody came"
