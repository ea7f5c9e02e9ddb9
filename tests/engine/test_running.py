"""Defining and running: what `.run()`, handles and options promise (API.md, first section)."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import threading
from typing import Any

import pytest

import kitaru
from kitaru import app, checkpoint, flow
from kitaru._store.protocol import Start
from kitaru.errors import (
    KitaruContextError,
    KitaruFeatureNotAvailableError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruTimeoutError,
    KitaruUsageError,
    KitaruUserCodeError,
)
from kitaru.status import ExecutionStatus

from .looking import PATIENCE_SECONDS, Gate, calls, execution, retry

RAN: list[Any] = []
"""Of this module, because what a checkpoint captures belongs to its identity."""


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@checkpoint(cache=False)
def double(x: int) -> int:
    return 2 * x


@flow
def doubled(x: int) -> int:
    return double(x)


@flow
async def doubled_async(x: int) -> int:
    return await double_async(x)


@checkpoint(cache=False)
async def double_async(x: int) -> int:
    return 2 * x


# --- handles ----------------------------------------------------------------------------


def test_a_handle_gives_what_the_flow_returned() -> None:
    handle = doubled.run(4)
    assert handle.wait() == 8
    assert handle.get() == 8
    assert handle.status is ExecutionStatus.COMPLETED
    assert doubled.handle(handle.exec_id).wait() == 8


def test_an_async_flow_gives_what_it_returned() -> None:
    assert doubled_async.run(x=4).wait() == 8


def test_a_handle_is_awaitable() -> None:
    async def main() -> list[int]:
        return [await doubled.run(1), await doubled_async.run(2)]

    assert asyncio.run(main()) == [2, 4]


def test_waiting_on_a_running_loop_is_refused() -> None:
    async def main() -> None:
        handle = doubled.run(1)
        with pytest.raises(KitaruContextError, match="await handle"):
            handle.wait()
        assert await handle == 2

    asyncio.run(main())


def test_run_returns_before_the_flow_has_ended() -> None:
    gate = Gate()

    @flow
    def slow() -> str:
        gate.pass_through()
        return "done"

    handle = slow.run()
    gate.wait_until_reached()
    assert handle.status is ExecutionStatus.RUNNING
    with pytest.raises(KitaruStateError, match="running"):
        handle.get()
    with pytest.raises(KitaruTimeoutError) as caught:
        handle.wait(timeout=0.01)
    assert caught.value.exec_id == handle.exec_id
    assert caught.value.last_status is ExecutionStatus.RUNNING
    assert caught.value.timeout_seconds == 0.01
    gate.open()
    assert handle.wait() == "done"


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, (), 0.0])
def test_a_value_that_looks_like_nothing_is_a_result(value: Any) -> None:
    @checkpoint(cache=False)
    def give() -> Any:
        return value

    @flow
    def gives() -> Any:
        found = give()
        assert found == value
        assert type(found) is type(value)
        return found

    handle = gives.run()
    assert handle.wait() == value
    assert type(handle.wait()) is type(value)
    assert len(calls(handle.exec_id)) == 1


def test_a_negative_or_senseless_timeout_is_refused() -> None:
    handle = doubled.run(1)
    for wrong in (-1, "soon", True):
        with pytest.raises(KitaruUsageError, match="timeout"):
            handle.wait(timeout=wrong)  # type: ignore[arg-type]
    handle.wait()


def test_a_handle_of_another_flow_or_of_none_is_refused() -> None:
    handle = doubled.run(1)
    handle.wait()
    with pytest.raises(KitaruStateError, match="doubled"):
        doubled_async.handle(handle.exec_id)
    with pytest.raises(KitaruNotFoundError, match="no execution"):
        doubled.handle("01-nothing")


# --- inputs -----------------------------------------------------------------------------


def test_a_flow_is_not_called_directly() -> None:
    with pytest.raises(KitaruUsageError, match=r"doubled\.run"):
        doubled(1)
    assert doubled.func is not None


def test_inputs_that_do_not_fit_are_refused_before_an_execution_exists() -> None:
    @flow
    def typed(count: int, *, name: str = "n") -> None: ...

    from kitaru import app

    wrong: list[tuple[Any, dict[str, Any]]] = [
        ((), {}),
        (("x",), {}),
        ((1, 2), {}),
        ((1,), {"nome": "x"}),
        ((1,), {"name": 3}),
    ]
    for args, kwargs in wrong:
        with pytest.raises((KitaruUsageError, TypeError)):
            typed.run(*args, **kwargs)
    store = app.current().store
    assert store.list_executions(project=app.current().project, limit=10) == []


def test_an_input_that_cannot_be_stored_is_refused_before_an_execution_exists() -> None:
    from kitaru import app
    from kitaru.errors import KitaruValueError

    @flow
    def anything(thing: Any) -> None: ...

    with pytest.raises(KitaruValueError, match="thing"):
        anything.run(threading.Lock())
    running = app.current()
    assert running.store.list_executions(project=running.project, limit=10) == []


def test_defaults_keyword_only_and_rest_arguments_arrive() -> None:
    @flow
    def all_kinds(a: int, b: int = 2, *rest: int, c: int = 3, **more: int) -> list[Any]:
        return [a, b, rest, c, more]

    assert all_kinds.run(1).wait() == [1, 2, (), 3, {}]
    assert all_kinds.run(1, 5, 6, 7, c=8, d=9).wait() == [1, 5, (6, 7), 8, {"d": 9}]


def test_the_flow_works_on_a_copy_of_its_inputs() -> None:
    @flow
    def spoils(xs: list[int]) -> list[int]:
        xs.append(3)
        return xs

    mine = [1]
    assert spoils.run(mine).wait() == [1, 3]
    assert mine == [1]


def test_a_sync_flow_runs_in_a_copy_of_the_callers_context() -> None:
    who = contextvars.ContextVar("who", default="nobody")

    @flow
    def asks() -> str:
        found = who.get()
        who.set("the flow")
        return found

    @flow
    async def asks_async() -> str:
        return who.get()

    token = who.set("caller")
    try:
        assert asks.run().wait() == "caller"
        assert asks_async.run().wait() == "caller"
        assert who.get() == "caller"
    finally:
        who.reset(token)


# --- decoration -------------------------------------------------------------------------


def test_generator_functions_are_refused() -> None:
    with pytest.raises(KitaruUsageError, match="generator"):

        @flow
        def yields() -> Any:
            yield 1

    with pytest.raises(KitaruUsageError, match="generator"):

        @checkpoint
        def yields_too() -> Any:
            yield 1


def test_options_that_make_no_sense_are_refused_at_decoration() -> None:
    def fn() -> None: ...

    choices: list[Any] = [{"retries": -1}, {"retries": True}, {"cache": "yes"}, {"nmae": "x"}]
    for wrong in choices:
        with pytest.raises(KitaruUsageError):
            flow(**wrong)(fn)
        with pytest.raises(KitaruUsageError):
            checkpoint(**wrong)(fn)
    with pytest.raises(KitaruUsageError, match="runtime"):
        checkpoint(runtime="cloud")(fn)
    with pytest.raises(KitaruFeatureNotAvailableError):
        checkpoint(runtime="RAY")(fn)


def test_a_flow_parameter_that_run_takes_for_itself_is_refused() -> None:
    for name in ("cache", "retries"):
        namespace: dict[str, Any] = {}
        exec(f"def fn({name}): ...", namespace)
        with pytest.raises(KitaruUsageError, match=name):
            flow(namespace["fn"])


def test_two_functions_with_one_explicit_name_are_refused() -> None:
    @checkpoint(name="only one of this name")
    def one() -> None: ...

    with pytest.raises(KitaruUsageError, match="only one of this name"):

        @checkpoint(name="only one of this name")
        def two() -> None: ...


# --- where a checkpoint may be called ---------------------------------------------------


def test_a_checkpoint_outside_a_flow_is_refused() -> None:
    for call in (lambda: double(1), lambda: double.submit(1), lambda: double.map([1])):
        with pytest.raises(KitaruContextError, match="outside a flow"):
            call()
    assert double.func(2) == 4


def test_an_async_checkpoint_in_a_sync_flow_shows_submit() -> None:
    @flow
    def wrong() -> Any:
        return double_async(1)

    with pytest.raises(kitaru.KitaruExecutionError, match=r"\.submit") as caught:
        wrong.run().wait()
    assert isinstance(caught.value.__cause__, KitaruContextError)


def test_an_async_checkpoint_submitted_in_a_sync_flow_gives_its_value() -> None:
    @flow
    def right() -> int:
        return double_async.submit(3).result()

    assert right.run().wait() == 6


def test_a_thread_without_context_is_refused() -> None:
    found: list[BaseException] = []

    @flow
    def threads() -> None:
        def work() -> None:
            try:
                double(1)
            except KitaruContextError as error:
                found.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    threads.run().wait()
    assert len(found) == 1


def test_a_loop_of_the_users_own_is_refused() -> None:
    @flow
    def own_loop() -> Any:
        async def main() -> Any:
            return await double_async(1)

        return asyncio.run(main())

    with pytest.raises(kitaru.KitaruExecutionError, match="loop of your own"):
        own_loop.run().wait()


def test_the_scope_functions_name_the_right_place() -> None:
    for call in (kitaru.now, kitaru.uuid4, kitaru.random, kitaru.log, kitaru.current):
        with pytest.raises(KitaruContextError, match="flow"):
            call()
    assert kitaru.current_execution_id() is None


# --- what may be a checkpoint -----------------------------------------------------------


class Account:
    def __init__(self, name: str) -> None:
        self.name = name

    def __kitaru_key__(self) -> str:
        return self.name

    @checkpoint(cache=False)
    def charge(self, amount: int) -> str:
        return f"{self.name} {amount}"


def test_methods_are_checkpoints_of_their_object() -> None:
    @flow
    def charges() -> list[str]:
        a, b = Account("a"), Account("b")
        mapped = a.charge.map([3, 4]).results()
        return [a.charge(1), b.charge(1), a.charge.submit(2).result(), *mapped]

    assert charges.run().wait() == ["a 1", "b 1", "a 2", "a 3", "a 4"]


def test_closures_count_by_what_they_capture() -> None:
    def adder(n: int) -> Any:
        @checkpoint(cache=False)
        def add(x: int) -> int:
            RAN.append(n)
            return x + n

        return add

    @flow(retries=1)
    def adds() -> list[int]:
        found = [adder(1)(10), adder(2)(10)]
        if kitaru.current().attempt == 1:
            raise ValueError
        return found

    assert adds.run().wait() == [11, 12]
    assert RAN == [1, 2]


def test_partials_are_checkpoints() -> None:
    add = checkpoint(cache=False)(functools.partial(lambda a, b: a + b, 1))

    @flow
    def adds() -> int:
        return int(add(2))

    assert adds.run().wait() == 3


def test_any_callable_can_be_a_step() -> None:
    def shout(text: str) -> str:
        RAN.append(text)
        return text.upper()

    @flow(retries=1)
    def steps() -> list[Any]:
        found = [kitaru.step("shout", shout, "a"), kitaru.step("length", len, "abc")]
        if kitaru.current().attempt == 1:
            raise ValueError
        return found

    handle = steps.run(cache=False)
    assert handle.wait() == ["A", 3]
    assert RAN == ["a"]
    assert [call.checkpoint for call in calls(handle.exec_id)] == ["shout", "length"]


# --- options(key=) ----------------------------------------------------------------------


def test_the_same_key_and_inputs_are_the_same_execution() -> None:
    first = doubled.options(key="k").run(4)
    assert first.wait() == 8
    second = doubled.options(key="k").run(4)
    assert second.exec_id == first.exec_id
    assert second.wait() == 8
    assert len(calls(first.exec_id)) == 1


def test_a_key_with_other_inputs_is_refused() -> None:
    doubled.options(key="k").run(4).wait()
    with pytest.raises(KitaruStateError, match="'k'"):
        doubled.options(key="k").run(5)


def test_a_key_belongs_to_one_flow() -> None:
    assert doubled.options(key="k").run(4).wait() == 8
    assert doubled_async.options(key="k").run(5).wait() == 10


def test_a_failed_execution_with_that_key_shows_the_retry_command() -> None:
    @flow
    def fails() -> None:
        raise ValueError("no")

    handle = fails.options(key="k").run()
    for _ in range(2):
        with pytest.raises(KitaruUserCodeError, match=f"executions retry {handle.exec_id}"):
            fails.options(key="k").run().wait()


def test_a_key_while_it_runs_gives_the_running_one() -> None:
    gate = Gate()

    @flow
    def slow() -> str:
        gate.pass_through()
        return kitaru.current().exec_id

    first = slow.options(key="k").run()
    gate.wait_until_reached()
    second = slow.options(key="k").run()
    gate.open()
    assert first.wait() == second.wait() == first.exec_id


# --- where code finds itself ------------------------------------------------------------


def test_current_says_where_the_code_runs() -> None:
    @checkpoint(cache=False, retries=kitaru.Retry(max_attempts=2, initial_seconds=0))
    def look() -> list[Any]:
        here = kitaru.current()
        if here.attempt == 1:
            raise ValueError(here.idempotency_key)
        return [here.exec_id, here.flow_name, here.checkpoint, here.attempt, here.idempotency_key]

    @flow
    def looks() -> list[Any]:
        here = kitaru.current()
        assert kitaru.current_execution_id() == here.exec_id
        return [look(), [here.exec_id, here.flow_name, here.checkpoint, here.attempt]]

    handle = looks.run()
    inside, outside = handle.wait()
    assert inside[:4] == [handle.exec_id, "looks", "look", 2]
    assert outside == [handle.exec_id, "looks", None, 1]
    failed = calls(handle.exec_id)[0]
    assert inside[4] in failed.payload.data.decode()


def test_the_idempotency_key_is_the_same_when_the_parent_is_tried_again() -> None:
    @checkpoint(cache=False)
    def child() -> None:
        RAN.append(kitaru.current().idempotency_key)

    @checkpoint(cache=False, retries=kitaru.Retry(max_attempts=3, initial_seconds=0))
    def parent() -> None:
        child()
        if kitaru.current().attempt < 3:
            raise ValueError

    @flow
    def family() -> None:
        parent()

    family.run().wait()
    assert len(RAN) == 3
    assert len(set(RAN)) == 1


def test_logged_metadata_merges_dicts_and_keeps_the_last_scalar() -> None:
    import json

    @checkpoint(cache=False)
    def work() -> None:
        kitaru.log(cost={"in": 1}, model="a")
        kitaru.log(cost={"out": 2}, model="b")

    @flow
    def logs() -> None:
        kitaru.log(stage={"one": 1}, last=1)
        work()
        kitaru.log(stage={"two": 2}, last=2)

    handle = logs.run()
    handle.wait()
    assert json.loads(calls(handle.exec_id)[0].metadata) == {
        "cost": {"in": 1, "out": 2},
        "model": "b",
    }
    assert json.loads(execution(handle.exec_id).metadata) == {
        "stage": {"one": 1, "two": 2},
        "last": 2,
    }


def test_what_is_not_json_cannot_be_logged() -> None:
    @flow
    def logs() -> None:
        kitaru.log(thing=object())

    with pytest.raises(kitaru.KitaruExecutionError, match=r"kitaru\.log"):
        logs.run().wait()


def test_durable_facts_are_the_same_in_a_retry() -> None:
    seen: list[Any] = []

    @flow
    def asks() -> None:
        seen.append(
            [kitaru.now(), kitaru.uuid4(), kitaru.random(), kitaru.now(), kitaru.uuid4(name="x")]
        )
        if len(seen) == 1:
            raise ValueError

    handle = asks.run()
    with pytest.raises(KitaruUserCodeError):
        handle.wait()
    retry(asks, handle.exec_id).wait()
    assert seen[0] == seen[1]
    assert len(set(map(str, seen[0]))) == 5


def test_a_key_is_found_under_a_former_name_of_the_flow() -> None:
    @flow(name="before the rename")
    def first(n: int) -> int:
        return n

    @flow(name="after the rename", aliases=["before the rename"])
    def second(n: int) -> int:
        return n + 1

    before = first.options(key="k").run(1)
    assert before.wait(timeout=PATIENCE_SECONDS) == 1
    after = second.options(key="k").run(1)
    assert after.exec_id == before.exec_id
    assert after.wait(timeout=PATIENCE_SECONDS) == 1
    with pytest.raises(KitaruStateError, match="other inputs"):
        second.options(key="k").run(2)


def test_an_execution_nobody_runs_is_not_begun_by_a_run_with_other_inputs() -> None:
    begun: list[int] = []

    @flow
    def once(n: int) -> int:
        begun.append(n)
        return n

    handle = once.options(key="done").run(1)
    assert handle.wait(timeout=PATIENCE_SECONDS) == 1
    done = execution(handle.exec_id)
    assert done.inputs is not None
    app.current().store.apply(
        Start(
            "01a00000-0000-7000-8000-000000000000",
            done.project,
            done.flow_id,
            done.flow_name,
            "abandoned",
            done.inputs_digest,
            done.inputs,
            done.seed,
            done.spec,
            "[]",
            None,
            None,
            owner=None,
            home=None,
            at=1,
        )
    )
    with pytest.raises(KitaruStateError, match="other inputs"):
        once.options(key="abandoned").run(2)
    assert begun == [1]
    assert once.options(key="abandoned").run(1).wait(timeout=PATIENCE_SECONDS) == 1
    assert begun == [1, 1]


def test_a_key_means_the_same_inputs_however_they_are_written() -> None:
    @flow
    def many(a: int, b: int = 5, *, c: dict[str, int] | None = None) -> int:
        return a + b

    first = many.options(key="same").run(1, c={"x": 1, "y": 2})
    assert many.options(key="same").run(a=1, b=5, c={"y": 2, "x": 1}).exec_id == first.exec_id
    with pytest.raises(KitaruStateError, match="other inputs"):
        many.options(key="same").run(1, 6)
    assert first.wait(timeout=PATIENCE_SECONDS) == 6


def test_metadata_is_bounded_in_all() -> None:
    @flow
    def noisy() -> None:
        for number in range(10):
            kitaru.log(**{f"part{number}": "x" * 10_000})

    with pytest.raises(kitaru.KitaruUserCodeError, match="65,536 in all") as caught:
        noisy.run().wait(timeout=PATIENCE_SECONDS)
    assert isinstance(caught.value.__cause__, kitaru.KitaruUsageError)


def test_a_misuse_in_a_flow_is_the_fault_of_its_code() -> None:
    @flow
    def inner(number: int) -> None: ...

    @flow
    def outer() -> None:
        inner.run("not a number")  # type: ignore[call-overload]

    with pytest.raises(kitaru.KitaruUserCodeError, match="Nothing was started") as caught:
        outer.run().wait(timeout=PATIENCE_SECONDS)
    assert caught.value.failure_origin == "user_code"


def test_futures_that_are_returned_are_told_apart_from_their_results() -> None:
    @checkpoint
    def double(n: int) -> int:
        return 2 * n

    @flow
    def forgets() -> Any:
        return double.map([1, 2])

    with pytest.raises(kitaru.KitaruUserCodeError, match=r"\.results\(\)"):
        forgets.run().wait(timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize("wrong", [int, type("Own", (), {})])
def test_a_class_is_no_flow_and_no_checkpoint(wrong: type) -> None:
    for decorate in (flow, checkpoint):
        with pytest.raises(kitaru.KitaruUsageError, match="needs a function"):
            decorate(wrong)  # type: ignore[operator]


def test_an_unknown_option_of_a_call_is_named_with_its_nearest() -> None:
    @checkpoint
    def plain() -> None: ...

    with pytest.raises(kitaru.KitaruUsageError, match="did you mean 'retries'"):
        plain.options(retry=2)  # type: ignore[arg-type]


BODIES: list[int] = []


def work(n: int) -> int:
    BODIES.append(n)
    return n


def test_what_a_checkpoint_recorded_under_a_former_name_is_reused() -> None:
    BODIES.clear()
    old = checkpoint(name="former name", version="1")(work)
    new = checkpoint(name="new name", version="1", aliases=["former name"])(work)

    @flow
    def first() -> int:
        return old(7)

    @flow
    def second() -> int:
        return new(7)

    assert first.run().wait(timeout=PATIENCE_SECONDS) == 7
    assert second.run().wait(timeout=PATIENCE_SECONDS) == 7
    assert BODIES == [7]


@dataclasses.dataclass
class Shop:
    name: str

    @flow
    def open_at(self, hour: int) -> str:
        return f"{self.name} opens at {hour}"

    @flow
    async def close_at(self, hour: int) -> str:
        return f"{self.name} closes at {hour}"


class Unstorable:
    @flow
    def work(self) -> None: ...


def test_a_flow_may_be_a_method_of_what_can_be_stored() -> None:
    shop = Shop("Kita")
    assert shop.open_at.run(8).wait(timeout=PATIENCE_SECONDS) == "Kita opens at 8"
    assert shop.close_at.run(hour=20).wait(timeout=PATIENCE_SECONDS) == "Kita closes at 20"
    one = shop.open_at.options(key="k").run(8)
    assert Shop("Kita").open_at.options(key="k").run(8).exec_id == one.exec_id
    with pytest.raises(KitaruStateError, match="other inputs"):
        Shop("Other").open_at.options(key="k").run(8)
    assert shop.open_at.func(9) == "Kita opens at 9"
    one.wait(timeout=PATIENCE_SECONDS)


def test_a_flow_on_what_cannot_be_stored_says_so() -> None:
    with pytest.raises(kitaru.KitaruValueError, match="Unstorable"):
        Unstorable().work.run()


def test_clearing_up_after_a_dead_owner_never_fails_whoever_took_over() -> None:
    @flow
    def one() -> int:
        return 1

    assert one.run().wait(PATIENCE_SECONDS) == 1
    running = app.current()
    other = running.runner.ownership.number() + 1
    running.store.close()  # as unreadable as a store gets
    running.runner.ownership.forget(other)


def test_a_loop_that_died_leaves_no_flush_to_be_waited_for_on_the_next() -> None:
    @checkpoint
    async def double(x: int) -> int:
        return 2 * x

    @flow
    async def doubled() -> int:
        async def keep_the_loop_busy() -> None:
            while not over.is_set():
                await asyncio.sleep(0)

        over = asyncio.Event()
        busy = asyncio.create_task(keep_the_loop_busy())
        await asyncio.sleep(0)
        found = await double(2)
        over.set()
        await busy
        return found

    loop = app.current().services.loop
    dead = asyncio.new_event_loop()
    try:
        loop._flush_scheduled = True  # on the loop that dies now
        loop._died(dead, OSError("its descriptors were closed"))
        assert doubled.run().wait(PATIENCE_SECONDS) == 4
    finally:
        dead.close()
