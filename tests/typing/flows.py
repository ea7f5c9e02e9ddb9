# pyright: strict, reportUnnecessaryTypeIgnoreComment=error, reportUnusedFunction=false
"""Types survive `@flow`, `.run`, `.options` and the handle: checked, never run.

A wrong call carries `# type: ignore[…]`: both checkers complain here if it stops
being an error.
"""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

import kitaru
from kitaru import Execution, ExecutionStatus, Flow, FlowHandle, KitaruClient, Plan, flow


@flow
def order(number: int, *, gift: bool = False) -> str:
    return f"{number} {gift}"


@flow(name="order-later", cache=False, retries=2, strict=True, aliases=("old.name",))
async def order_async(number: int, note: str = "") -> list[str]:
    return [note] * number


@flow()
def nothing() -> None:
    return None


def run_takes_the_arguments_of_the_flow() -> None:
    assert_type(order.run(1), FlowHandle[str])
    assert_type(order.replay("0192", "charge", number=2), FlowHandle[str])
    assert_type(order.run(number=1, gift=True), FlowHandle[str])
    assert_type(order.run(1).wait(), str)
    assert_type(order.run(1).wait(timeout=2.5), str)
    assert_type(order.run(1).get(), str)
    assert_type(nothing.run().wait(), None)
    order.run("1")  # type: ignore[call-overload]
    order.run()  # type: ignore[call-overload]
    order.run(1, True)  # type: ignore[call-overload]
    order.run(1, gift="yes")  # type: ignore[call-overload]


def run_takes_cache_and_retries_beside_them() -> None:
    assert_type(order.run(1, cache=False), FlowHandle[str])
    assert_type(order.run(1, cache="refresh", retries=2), FlowHandle[str])
    assert_type(order_async.run(2, retries=1), FlowHandle[list[str]])
    order.run(1, cache="sometimes")  # type: ignore[call-overload]
    order.run(1, retries="2")  # type: ignore[call-overload]


def enqueue_takes_what_run_takes() -> None:
    assert_type(order.enqueue(1, gift=True), FlowHandle[str])
    assert_type(order.enqueue(1, cache=False), FlowHandle[str])
    queued = order.options(queue="q", priority=1, limit_key="k", delay=timedelta(hours=1))
    assert_type(queued.enqueue(1).wait(), str)
    order.enqueue("1")  # type: ignore[call-overload]


async def enqueue_async_takes_what_enqueue_takes() -> None:
    assert_type(await order.enqueue_async(1, gift=True), FlowHandle[str])
    assert_type(await order.options(connection=object()).enqueue_async(1), FlowHandle[str])
    await order.enqueue_async("1")  # type: ignore[call-overload]


async def an_async_flow_has_a_handle_like_any_other() -> None:
    assert_type(order_async.run(2), FlowHandle[list[str]])
    assert_type(order_async.run(2, note="x").wait(), list[str])
    assert_type(await order_async.run(2), list[str])
    assert_type(await order.run(1), str)
    order_async.run(2, note=1)  # type: ignore[call-overload]


def options_keep_the_types() -> None:
    assert_type(order.options(key="order-42").run(1), FlowHandle[str])
    assert_type(order.options(tags=["a"], cache="refresh", retries=2).run(1).wait(), str)
    assert_type(order_async.options(cache=False).run(2), FlowHandle[list[str]])
    order.options(key="order-42").run("1")  # type: ignore[call-overload]
    order.options(key=42)  # type: ignore[arg-type]
    order.options(cache="sometimes")  # type: ignore[arg-type]
    order.options(colour="red")  # type: ignore[arg-type]


def a_handle_tells_its_status() -> None:
    handle = order.run(1)
    assert_type(handle.exec_id, str)
    assert_type(handle.status, ExecutionStatus)
    assert_type(handle.status.is_finished, bool)
    assert_type(order.handle("0192"), FlowHandle[str])


def the_flow_is_nameable() -> None:
    typed: Flow[[int], list[str]] | None = None
    assert typed is None
    order.func(1, gift=True)
    order.func("1")  # type: ignore[arg-type]


def the_client_returns_records() -> None:
    client = KitaruClient()
    assert_type(client.executions.get("0192"), Execution)
    assert_type(client.executions.latest(flow="order"), Execution)
    assert_type(client.executions.list(flow="order", limit=3), list[Execution])
    assert_type(client.executions.plan("0192", from_="charge"), Plan)
    client.executions.get(1)  # type: ignore[arg-type]


@flow(retries="2")  # type: ignore[call-overload, untyped-decorator]
def wrong_retries() -> None: ...


# --- waits ----------------------------------------------------------------------------


@flow
def asks() -> bool:
    # No type says "a bool, or what you await to get one": annotate what you ask for.
    approved: bool = kitaru.wait(schema=bool, expires=timedelta(days=1), on_expire=False)
    kitaru.sleep(timedelta(hours=1))
    return approved


@flow
async def asks_async() -> str:
    assert_type(await kitaru.sleep(1.5), None)
    answer: str = await kitaru.wait(name="who", question="Who are you?", schema=str)
    return answer


kitaru.wait(bool)  # type: ignore[call-arg]
