"""Executions that are started inside another one: named, waited for, failed, tried again."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import kitaru
from kitaru import app, checkpoint, flow
from kitaru._engine.draining import drain
from kitaru.errors import (
    FailureOrigin,
    KitaruContextError,
    KitaruExecutionError,
    KitaruStateError,
    KitaruTimeoutError,
    KitaruUserCodeError,
    KitaruValueError,
)
from kitaru.status import ExecutionStatus

from .looking import PATIENCE_SECONDS

RAN: list[Any] = []
PLAN: dict[str, Any] = {}
GATE = threading.Event()


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()
    PLAN.clear()
    GATE.clear()


def client() -> Any:
    return kitaru.KitaruClient().executions


@checkpoint(cache=False)
def work(what: Any) -> Any:
    RAN.append(what)
    return what


@checkpoint(cache=False)
def fragile(what: str) -> str:
    RAN.append(what)
    if PLAN.get(what, "raise") == "raise":
        raise ValueError(what)
    return what


@flow
def double(x: int) -> int:
    return 2 * int(work(x))


@flow
async def double_async(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * int(work(x))


@flow
def failing(what: str) -> str:
    work(f"before {what}")
    return str(fragile(what))


@flow
def gated() -> str:
    GATE.wait(PATIENCE_SECONDS)
    return "through"


# --- started and waited for --------------------------------------------------------------


def test_a_flow_that_is_run_inside_a_flow_is_a_child_of_it() -> None:
    @flow
    def outer() -> int:
        handle = double.run(4)
        PLAN["child"] = handle.exec_id
        return handle.wait() + 1

    handle = outer.run()
    assert handle.wait() == 9
    child = client().get(PLAN["child"])
    assert child.parent_exec_id == handle.exec_id
    assert child.status is ExecutionStatus.COMPLETED
    assert child.result() == 8
    assert client().get(handle.exec_id).parent_exec_id is None
    assert [each.exec_id for each in client().list_children(handle.exec_id)] == [child.exec_id]


def test_a_child_is_awaited_in_an_async_flow_and_may_be_sync_or_async() -> None:
    @flow
    async def outer() -> list[int]:
        return await asyncio.gather(
            *[each.run(i) for i in range(3) for each in (double, double_async)]
        )

    assert outer.run().wait() == [0, 0, 2, 2, 4, 4]


def test_equal_children_are_several_and_each_is_its_own() -> None:
    @flow
    def outer() -> list[str]:
        handles = [double.run(1) for _ in range(3)]
        assert [handle.wait() for handle in handles] == [2, 2, 2]
        return [handle.exec_id for handle in handles]

    assert len(set(outer.run().wait())) == 3


@pytest.mark.parametrize("made", ["sync", "async"])
def test_nested_waits_do_not_deadlock_a_pool_of_one(made: str) -> None:
    kitaru.configure(max_concurrency=1)

    @flow
    def deep(n: int) -> int:
        return 0 if n == 0 else 1 + int(deep.run(n - 1).wait())

    @flow
    async def deep_async(n: int) -> int:
        return 0 if n == 0 else 1 + int(await deep_async.run(n - 1))

    assert (deep if made == "sync" else deep_async).run(12).wait(timeout=PATIENCE_SECONDS) == 12


def test_a_child_in_a_submitted_checkpoint_does_not_deadlock_pools_of_one() -> None:
    kitaru.configure(max_concurrency=1)

    @checkpoint(cache=False)
    def inside(x: int) -> int:
        return int(with_submits.run(x).wait())

    @flow
    def with_submits(x: int) -> int:
        return sum(work.map(range(x)).results())

    @flow
    def outer() -> int:
        return sum(inside.map([2, 3]).results())

    assert outer.run().wait(timeout=PATIENCE_SECONDS) == 4


def test_many_children_run_beside_each_other_while_their_parent_waits() -> None:
    kitaru.configure(max_concurrency=2)
    both = threading.Barrier(2, timeout=PATIENCE_SECONDS)

    @flow
    def meets(i: int) -> int:
        both.wait()
        return i

    @flow
    def outer() -> list[int]:
        handles = [meets.run(i) for i in range(2)]
        return [handle.wait() for handle in handles]

    assert outer.run().wait(timeout=PATIENCE_SECONDS) == [0, 1]


def test_a_child_of_a_checkpoint_belongs_to_that_attempt_of_it() -> None:
    @checkpoint(cache=False, retries=1)
    def inside() -> str:
        handle = double.run(3)
        handle.wait()
        RAN.append(handle.exec_id)
        if kitaru.current().attempt == 1:
            raise ValueError("once")
        return handle.exec_id

    @flow
    def outer() -> str:
        return str(inside())

    handle = outer.run()
    second = handle.wait()
    children = [each.exec_id for each in client().list_children(handle.exec_id)]
    assert len(children) == 2
    assert children[1] == second


def test_a_parent_that_returns_leaves_its_children_running_and_shows_them() -> None:
    @flow
    def outer() -> str:
        return gated.run().exec_id

    handle = outer.run()
    child = handle.wait()
    assert client().get(child).status is ExecutionStatus.RUNNING
    assert [each.exec_id for each in client().list_children(handle.exec_id)] == [child]
    GATE.set()
    assert client().handle(child).wait() == "through"


def test_a_child_runs_outside_the_context_of_its_parent() -> None:
    @flow
    def inner() -> list[Any]:
        here = kitaru.current()
        return [here.exec_id, here.checkpoint, kitaru.current_execution_id()]

    @checkpoint(cache=False)
    def inside() -> list[Any]:
        handle = inner.run()
        return [handle.exec_id, *handle.wait()]

    @flow
    def outer() -> list[Any]:
        return list(inside())

    exec_id, *seen = outer.run().wait()
    assert seen == [exec_id, None, exec_id]


# --- options -----------------------------------------------------------------------------


def test_a_child_takes_over_what_was_said_of_caching_for_the_run_of_its_parent() -> None:
    @flow(retries=2)
    def outer() -> list[str]:
        inherits, says = double.run(1), double.run(2, cache=True)
        inherits.wait(), says.wait()
        return [inherits.exec_id, says.exec_id]

    first, second = outer.run(cache=False).wait()
    assert client().get(first).frozen_execution_spec["cache_of_run"] is False
    assert client().get(second).frozen_execution_spec["cache_of_run"] is True
    assert client().get(first).frozen_execution_spec["retries"] == 0
    (third, _) = outer.run().wait()
    assert "cache_of_run" not in client().get(third).frozen_execution_spec


def test_with_a_key_a_child_is_the_execution_that_has_that_key() -> None:
    @flow
    def outer() -> list[str]:
        one, two = double.options(key="k").run(5), double.options(key="k").run(5)
        assert one.wait() == two.wait() == 10
        return [one.exec_id, two.exec_id]

    one, two = outer.run().wait()
    assert one == two
    assert double.options(key="k").run(5).exec_id == one
    before = double.options(key="elsewhere").run(7)
    before.wait()

    @flow
    def asks() -> str:
        handle = double.options(key="elsewhere").run(7)
        assert handle.wait() == 14
        return handle.exec_id

    handle = asks.run()
    assert handle.wait() == before.exec_id
    assert client().get(before.exec_id).parent_exec_id is None
    assert client().list_children(handle.exec_id) == []


def test_a_key_that_was_used_with_other_inputs_is_refused_inside_a_flow_too() -> None:
    double.options(key="used").run(1).wait()

    @flow
    def outer() -> None:
        double.options(key="used").run(2)

    with pytest.raises(KitaruUserCodeError, match="other inputs"):
        outer.run().wait()


def test_an_execution_that_waits_for_itself_is_told_so() -> None:
    @flow
    def outer() -> str:
        with pytest.raises(KitaruStateError, match="waits for") as caught:
            outer.options(key="me").run().wait()
        return str(caught.value.code)

    assert outer.options(key="me").run().wait(timeout=PATIENCE_SECONDS) == "waits-for-itself"


# --- failures ----------------------------------------------------------------------------


def test_the_failure_of_a_child_is_raised_in_its_parent_with_the_childs_id() -> None:
    @flow
    def outer() -> list[Any]:
        handle = failing.run("a")
        try:
            handle.wait()
        except KitaruUserCodeError as error:
            return [error.exec_id == handle.exec_id, str(error.__cause__), error.checkpoint]
        raise AssertionError

    assert outer.run().wait() == [True, "a", "fragile"]


def test_a_child_whose_failure_left_its_parent_is_retried_with_it() -> None:
    @flow
    def outer() -> str:
        work("first")
        return failing.run("a").wait()

    handle = outer.run()
    with pytest.raises(KitaruUserCodeError) as caught:
        handle.wait()
    assert caught.value.failure_origin is FailureOrigin.USER_CODE
    PLAN["a"] = "return"
    assert client().retry(handle.exec_id).wait() == "a"
    (child,) = client().list_children(handle.exec_id)
    assert child.attempts == 2
    assert RAN == ["first", "before a", "a", "a"]


def test_the_retries_of_a_flow_retry_its_failed_children_each_time() -> None:
    @flow(retries=2)
    def outer() -> str:
        if kitaru.current().attempt == 3:
            PLAN["a"] = "return"
        return failing.run("a").wait()

    handle = outer.run()
    assert handle.wait() == "a"
    (child,) = client().list_children(handle.exec_id)
    assert child.attempts == 3
    assert RAN == ["before a", "a", "a", "a"]


def test_a_child_whose_failure_was_caught_is_not_retried() -> None:
    @flow
    def outer() -> str:
        try:
            failing.run("caught").wait()
        except KitaruExecutionError:
            RAN.append("handled")
        return str(fragile("other"))

    handle = outer.run()
    with pytest.raises(KitaruUserCodeError, match="other"):
        handle.wait()
    PLAN.update(other="return", caught="return")
    assert client().retry(handle.exec_id).wait() == "other"
    (child,) = client().list_children(handle.exec_id)
    assert (child.attempts, child.status) == (1, ExecutionStatus.FAILED)
    assert RAN.count("caught") == 1
    assert RAN.count("handled") == 2


def test_a_child_that_somebody_retried_meanwhile_is_not_retried_again() -> None:
    @flow
    def outer() -> str:
        return failing.run("a").wait()

    handle = outer.run()
    with pytest.raises(KitaruUserCodeError):
        handle.wait()
    PLAN["a"] = "return"
    (child,) = client().list_children(handle.exec_id)
    assert client().retry(child.exec_id).wait() == "a"
    assert client().retry(handle.exec_id).wait() == "a"
    assert client().get(child.exec_id).attempts == 2


def test_what_a_parent_has_seen_of_a_failed_child_stays_in_this_attempt() -> None:
    """It is handed back after it caught the failure; the child is retried meanwhile."""
    caught = threading.Event()

    @flow
    def outer() -> str:
        try:
            seen = failing.run("a").wait()
        except KitaruExecutionError as error:
            seen = f"failed {error.__cause__}"
        work(seen)
        caught.set()
        if not PLAN.get("through"):
            GATE.wait(PATIENCE_SECONDS)
            kitaru.check()
        return seen

    handle = outer.run()
    assert caught.wait(PATIENCE_SECONDS)
    running = app.current()
    GATE.set()
    drain(running.runner, 0.0)
    (child,) = client().list_children(handle.exec_id)
    app.close(5)
    app.use(None)
    PLAN.update(a="return", through=True)
    assert client().retry(child.exec_id).wait() == "a"
    resumed = client().resume(handle.exec_id)
    assert resumed.wait(timeout=PATIENCE_SECONDS) == "failed a"
    assert RAN.count("failed a") == 1


# --- refused -----------------------------------------------------------------------------


def test_a_handle_cannot_be_stored_and_says_what_to_pass() -> None:
    @flow
    def outer() -> Any:
        return double.run(1)

    with pytest.raises(KitaruExecutionError, match="exec_id") as caught:
        outer.run().wait()
    assert isinstance(caught.value.__cause__, KitaruValueError)


def test_a_handle_as_an_argument_counts_by_its_execution() -> None:
    @checkpoint(cache=False)
    def follow(handle: Any) -> int:
        RAN.append(handle.exec_id)
        return int(handle.wait())

    @flow
    def outer() -> list[int]:
        return [follow(double.run(i)) for i in range(2)]

    assert outer.run().wait() == [0, 2]


def test_waiting_for_a_child_blocks_no_event_loop() -> None:
    @flow
    async def outer() -> str:
        with pytest.raises(KitaruContextError, match="await handle"):
            double.run(1).wait()
        return "refused"

    assert outer.run().wait() == "refused"


def test_a_wait_with_a_timeout_ends_after_it_and_the_child_goes_on() -> None:
    @flow
    def outer() -> str:
        handle = gated.run()
        with pytest.raises(KitaruTimeoutError) as caught:
            handle.wait(timeout=0.01)
        assert caught.value.exec_id == handle.exec_id
        GATE.set()
        return handle.wait()

    assert outer.run().wait(timeout=PATIENCE_SECONDS) == "through"


def test_a_child_cannot_be_started_by_what_an_attempt_left_running() -> None:
    errors: list[str] = []
    done = threading.Event()

    @checkpoint(cache=False)
    async def leaves() -> None:
        async def late() -> None:
            try:
                while True:
                    await asyncio.sleep(0.001)
                    double.run(1)
            except KitaruContextError as error:
                errors.append(error.code)
            finally:
                done.set()

        PLAN["task"] = asyncio.ensure_future(late())

    @flow
    async def outer() -> None:
        await leaves()
        await asyncio.to_thread(done.wait, 10)

    outer.run().wait(timeout=PATIENCE_SECONDS)
    assert errors == ["attempt-is-over"]


# --- parents that park -------------------------------------------------------------------


@flow
def waits_long() -> list[str]:
    work("before")
    return [gated.run().wait(), str(work("after"))]


def until(what: Any) -> None:
    """Wait for something that another thread brings about."""
    patience = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / 0.01)):
        if what():
            return
        patience.wait(0.01)
    raise AssertionError("it did not come about")


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a child may park at once."""
    monkeypatch.setattr("kitaru._engine.children.HOT_SECONDS", 0.0)


@pytest.mark.usefixtures("cold")
def test_a_parent_parks_while_its_child_runs_and_is_woken_by_its_end() -> None:
    handle = waits_long.run()
    until(lambda: client().get(handle.exec_id).status is ExecutionStatus.WAITING)
    parked = client().get(handle.exec_id)
    (child,) = client().list_children(handle.exec_id)
    assert child.exec_id in (parked.status_reason or "")
    GATE.set()
    assert handle.wait(timeout=PATIENCE_SECONDS) == ["through", "after"]
    assert RAN == ["before", "after"]


@pytest.mark.usefixtures("cold")
def test_an_async_parent_parks_while_several_children_run() -> None:
    @flow
    async def outer() -> list[str]:
        return await asyncio.gather(gated.run(), gated.run(), _nested())

    async def _nested() -> str:
        return str(await gated.run()) + "!"

    handle = outer.run()
    until(lambda: client().get(handle.exec_id).status is ExecutionStatus.WAITING)
    GATE.set()
    assert handle.wait(timeout=PATIENCE_SECONDS) == ["through", "through", "through!"]
    assert len(client().list_children(handle.exec_id)) == 3


@pytest.mark.usefixtures("cold")
def test_who_goes_on_with_a_parked_parent_goes_on_with_its_abandoned_children_too() -> None:
    @flow
    def middle() -> list[str]:
        return list(waits_long.run().wait())

    @flow
    def top() -> list[str]:
        return list(middle.run().wait())

    handle = top.options(key="k").run()
    until(lambda: client().get(handle.exec_id).status is ExecutionStatus.WAITING)
    until(lambda: client().list(status="running") and len(client().list(status="waiting")) == 3)
    running = app.current()
    drain(running.runner, 0.0)
    GATE.set()
    app.close(5)
    app.use(None)
    assert top.options(key="k").run().wait(timeout=PATIENCE_SECONDS) == ["through", "after"]
    assert RAN == ["before", "after"]
