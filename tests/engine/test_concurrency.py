"""Much at once: waiting never deadlocks, unwinding survives user code, the store may fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

import kitaru
from kitaru import app, checkpoint, configure, flow
from kitaru._engine.draining import drain
from kitaru.errors import KitaruBackendError, KitaruExecutionError, KitaruTimeoutError

from .looking import PATIENCE_SECONDS, Gate, calls, execution

RAN: list[Any] = []
PLAN: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()
    PLAN.clear()


@checkpoint(cache=False)
def work(what: Any) -> Any:
    RAN.append(what)
    return what


@checkpoint(cache=False)
async def work_async(what: Any) -> Any:
    await asyncio.sleep(0)
    return what


# --- waiting ----------------------------------------------------------------------------


@checkpoint(cache=False)
def deeper(depth: int) -> int:
    if depth == 0:
        return 0
    return deeper.submit(depth - 1).result() + 1


@checkpoint(cache=False)
def wider(depth: int) -> int:
    if depth == 0:
        return 1
    futures = [wider.submit(depth - 1), wider.submit(depth - 1)]
    return sum(future.result() for future in futures)


@checkpoint(cache=False)
async def deeper_async(depth: int) -> int:
    if depth == 0:
        return 0
    return int(await deeper_async.submit(depth - 1)) + 1


@checkpoint(cache=False)
def capped(depth: int) -> int:
    if depth == 0:
        return 1
    return sum(capped.map([depth - 1] * 3, concurrency=1).results())


@pytest.mark.parametrize("threads", [1, 2])
def test_deep_waiting_never_deadlocks_the_pool(threads: int) -> None:
    configure(max_concurrency=threads)

    @flow
    def deep() -> Any:
        futures = [deeper.submit(5) for _ in range(4)]
        return [future.result() for future in futures] + [wider(4), capped(3)]

    assert deep.run().wait(timeout=PATIENCE_SECONDS) == [5, 5, 5, 5, 16, 27]


def test_waiting_with_a_timeout_never_deadlocks_the_pool() -> None:
    configure(max_concurrency=1)

    @flow
    def patient() -> Any:
        return outer.submit().result(timeout=PATIENCE_SECONDS)

    assert patient.run().wait(timeout=PATIENCE_SECONDS) == "inner"


@checkpoint(cache=False)
def outer() -> str:
    return str(work.submit("inner").result(timeout=PATIENCE_SECONDS))


def test_deep_waiting_on_the_loop() -> None:
    @flow
    async def deep() -> Any:
        return await asyncio.gather(*[deeper_async(5) for _ in range(10)])

    assert deep.run().wait(timeout=PATIENCE_SECONDS) == [5] * 10


def test_more_flows_than_threads_all_finish() -> None:
    configure(max_concurrency=2)

    @flow
    def small(n: int) -> int:
        return int(work.submit(n).result())

    handles = [small.run(n) for n in range(20)]
    assert [handle.wait(timeout=PATIENCE_SECONDS) for handle in handles] == list(range(20))


def test_five_hundred_async_checkpoints_at_once() -> None:
    @flow
    async def many() -> int:
        return sum(await asyncio.gather(*[work_async(n) for n in range(500)]))

    handle = many.run()
    assert handle.wait(timeout=PATIENCE_SECONDS) == sum(range(500))
    assert len(calls(handle.exec_id)) == 500


def test_five_hundred_threads_worth_of_a_map() -> None:
    @flow
    def many() -> int:
        return sum(work.map(range(500)).results())

    handle = many.run()
    assert handle.wait(timeout=PATIENCE_SECONDS) == sum(range(500))
    assert sorted(RAN) == list(range(500))


def test_a_result_that_does_not_come_in_time_says_so_and_comes_later() -> None:
    gate = PLAN["gate"] = Gate()

    @checkpoint(cache=False)
    def slow() -> str:
        PLAN["gate"].pass_through()
        return "late"

    @flow
    def waits() -> str:
        future = slow.submit()
        gate.wait_until_reached()
        with pytest.raises(KitaruTimeoutError):
            future.result(timeout=0.01)
        assert not future.done()
        gate.open()
        return future.result()

    assert waits.run().wait() == "late"


def test_a_future_on_the_loop_is_awaited_and_not_waited_for() -> None:
    gate = PLAN["gate"] = Gate()

    @checkpoint(cache=False)
    def slow() -> str:
        PLAN["gate"].pass_through()
        return "late"

    @flow
    async def waits() -> str:
        future = slow.submit()
        with pytest.raises(kitaru.KitaruContextError, match="await"):
            future.result()
        gate.open()
        return await future

    assert waits.run().wait() == "late"


# --- tasks ------------------------------------------------------------------------------


def test_an_async_timeout_cancels_a_body_and_the_flow_goes_on() -> None:
    @checkpoint(cache=False)
    async def endless() -> None:
        RAN.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            RAN.append("cleaned")

    @flow
    async def impatient() -> str:
        try:
            async with asyncio.timeout(0.02):
                await endless()
        except TimeoutError:
            return str(await work_async("gave up"))
        return "?"

    handle = impatient.run()
    assert handle.wait(timeout=PATIENCE_SECONDS) == "gave up"
    assert RAN == ["begun", "cleaned"]
    assert [call.checkpoint.rpartition(".")[2] for call in calls(handle.exec_id)] == ["work_async"]


def test_tasks_that_a_flow_leaves_running_are_ended_with_it() -> None:
    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            RAN.append("ended")

    @flow
    async def leaves() -> str:
        PLAN["task"] = asyncio.create_task(background())
        await asyncio.sleep(0)
        return "left"

    assert leaves.run().wait(timeout=PATIENCE_SECONDS) == "left"
    assert RAN == ["ended"]


def test_a_coroutine_of_a_call_may_be_awaited_later_and_in_another_order() -> None:
    @flow
    async def later() -> Any:
        first, second = work_async("a"), work_async("b")
        return [await second, await first]

    assert later.run().wait() == ["b", "a"]


def test_a_coroutine_of_a_call_that_is_never_awaited_does_not_hang_the_flow() -> None:
    @flow
    async def forgets() -> str:
        coroutine = work_async("never")
        coroutine.close()
        return "done"

    assert forgets.run().wait(timeout=PATIENCE_SECONDS) == "done"


def test_futures_among_the_arguments_are_resolved_on_the_loop() -> None:
    @flow
    async def chain() -> Any:
        one = work_async.submit("x")
        two = work_async(one)
        three = work_async([one, "y"])
        return await asyncio.gather(two, three)

    assert chain.run().wait(timeout=PATIENCE_SECONDS) == ["x", ["x", "y"]]


def test_the_failure_of_a_future_among_the_arguments_is_the_callers() -> None:
    @checkpoint(cache=False)
    def fails() -> None:
        raise ValueError("upstream")

    @flow
    def chain() -> Any:
        return work(fails.submit())

    with pytest.raises(KitaruExecutionError, match="upstream"):
        chain.run().wait(timeout=PATIENCE_SECONDS)
    assert RAN == []


# --- handed back ------------------------------------------------------------------------


def _hand_back(handle: Any) -> None:
    """What a process does that must end: everything leaves it, and is pending."""
    running = app.current()
    thread = threading.Thread(target=drain, args=(running.runner, 5.0))
    thread.start()
    PLAN["gate"].open()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert execution(handle.exec_id).status.value == "pending"


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_bare_except_cannot_swallow_that_the_execution_leaves(colour: str) -> None:
    gate = PLAN["gate"] = Gate()

    @flow
    def stubborn() -> str:
        while True:
            try:
                gate.pass_through()
                work("after")
            except:  # noqa: E722  (what this test is about)
                RAN.append("swallowed")
                if len(RAN) > 3:
                    return "as if nothing had happened"

    @flow
    async def stubborn_async() -> str:
        while True:
            try:
                await asyncio.to_thread(gate.pass_through)
                await work_async("after")
            except BaseException:
                RAN.append("swallowed")
                if len(RAN) > 3:
                    return "as if nothing had happened"

    handle = (stubborn if colour == "sync" else stubborn_async).run()
    gate.wait_until_reached()
    _hand_back(handle)
    assert execution(handle.exec_id).result is None
    assert "after" not in RAN or len(calls(handle.exec_id)) == RAN.count("after")


def test_finally_runs_and_can_see_that_the_execution_leaves() -> None:
    gate = PLAN["gate"] = Gate()

    @flow
    def tidy() -> None:
        try:
            gate.pass_through()
            work("never")
        finally:
            RAN.append(kitaru.current().parking)

    handle = tidy.run()
    gate.wait_until_reached()
    _hand_back(handle)
    assert RAN == [True]


def test_a_body_that_runs_while_the_process_ends_is_recorded() -> None:
    gate = PLAN["gate"] = Gate()

    @checkpoint(cache=False)
    def slow() -> str:
        PLAN["gate"].pass_through()
        return "done"

    @flow
    def waits() -> str:
        found = slow()
        work("never")
        return found

    handle = waits.run()
    gate.wait_until_reached()
    _hand_back(handle)
    assert [call.state.value for call in calls(handle.exec_id)] == ["completed"]
    assert RAN == []


# --- the store fails --------------------------------------------------------------------


@contextlib.contextmanager
def locked(store: Path) -> Iterator[None]:
    """Another program holds the write lock. (In this process, by the same library.)"""
    connection = apsw.Connection(str(store / "kitaru.db"))
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@pytest.mark.sqlite
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_store_that_stays_locked_is_a_typed_error_and_the_execution_goes_on_later(
    store: Path, colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = PLAN["gate"] = Gate()

    @flow
    def waits() -> Any:
        first = work("first")
        if not gate.opened.is_set():
            gate.pass_through()
        return [first, work("second")]

    @flow
    async def waits_async() -> Any:
        first = await work_async("first")
        if not gate.opened.is_set():
            await asyncio.to_thread(gate.pass_through)
        return [first, await work_async("second")]

    chosen = waits if colour == "sync" else waits_async
    handle = chosen.options(key="k").run()
    gate.wait_until_reached()
    app.current().store._database._connection.set_busy_timeout(50)  # type: ignore[attr-defined]
    monkeypatch.setattr("kitaru._store.sqlite.database.BUSY_MS", 50)
    with locked(store):
        gate.open()
        with pytest.raises(KitaruBackendError, match="kitaru executions resume"):
            handle.wait(timeout=PATIENCE_SECONDS)
    assert chosen.options(key="k").run().wait(timeout=PATIENCE_SECONDS) == ["first", "second"]
    if colour == "sync":
        assert RAN == ["first", "second", "second"]


@pytest.mark.sqlite
def test_a_full_disk_is_a_typed_error_and_the_execution_goes_on_later(store: Path) -> None:
    @checkpoint(cache=False)
    def large(what: str) -> str:
        RAN.append(what)
        return what * 3_000

    @flow
    def fills() -> Any:
        found = [len(large(str(n) * 5)) for n in range(6)]
        if "limit" not in PLAN:
            PLAN["limit"] = resource.getrlimit(resource.RLIMIT_FSIZE)
            size = os.stat(store / "kitaru.db-wal").st_size + 20_000
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, PLAN["limit"][1]))
        return [*found, *(len(large(str(n) * 5)) for n in range(6, 30))]

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    handle = fills.options(key="k").run()
    try:
        with pytest.raises(KitaruBackendError):
            handle.wait(timeout=PATIENCE_SECONDS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, PLAN["limit"])
        signal.signal(signal.SIGXFSZ, before)
    recorded = len(calls(handle.exec_id))
    assert 6 <= recorded < 30
    assert (
        fills.options(key="k").run().wait(timeout=PATIENCE_SECONDS) == [15_000] * 10 + [30_000] * 20
    )
    assert len(set(RAN)) == 30
    assert all(RAN.count(str(n) * 5) == 1 for n in range(recorded))


@pytest.mark.parametrize("depth_of_frames", [0, 20, 40, 60])
def test_endless_recursion_around_checkpoints_does_not_stop_other_commits(
    depth_of_frames: int,
) -> None:
    """A stack that is full inside the commit must not keep the lead of it."""

    @checkpoint(cache=False)
    def leaf(number: int) -> int:
        return number

    def down(frames: int, number: int) -> int:
        if frames:
            return down(frames - 1, number)
        leaf(number)
        return down(0, number + 1)

    @flow
    def endless() -> int:
        return down(depth_of_frames, 0)

    @flow
    def plain() -> int:
        return leaf(5)

    for _ in range(3):
        with pytest.raises(kitaru.KitaruExecutionError, match="RecursionError"):
            endless.run().wait(timeout=PATIENCE_SECONDS)
        assert plain.run().wait(timeout=PATIENCE_SECONDS) == 5
