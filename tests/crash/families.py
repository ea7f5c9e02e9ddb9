"""Flows that run flows inside them: parents and children die together, and go on."""

from __future__ import annotations

import asyncio
from typing import Any

import kitaru
from kitaru import checkpoint, flow

from .corpus import Refusal, refuse, scenario, work
from .journal import body, dawdle, got, learnt, life, variant


@flow
def one_work(what: str) -> str:
    return str(got(f"in {what}", work(what)))


@flow
async def one_work_async(what: str) -> str:
    await dawdle(what)
    return str(got(f"in {kitaru.current_execution_id()}", work(what)))


@flow
def has_child() -> Any:
    now = learnt("now", int(kitaru.now().timestamp() * 1e6))
    first = got("first", work("first"))
    child = got("child", one_work.run("child").wait())
    return [first, child, got("last", work("last")), now > 0]


@flow
def has_grandchildren() -> Any:
    @flow
    def between(what: str) -> Any:
        return [got(f"below {what}", one_work.run(what).wait()), work(f"between {what}")]

    return [got(what, between.run(what).wait()) for what in ("a",)]


@flow
def has_children_at_once() -> Any:
    handles = [one_work.run(f"child {i}") for i in range(2)]
    handles.append(one_work.options(key="by key").run("child by key"))
    beside = got("beside", work("beside"))
    return [beside, *[got(f"child {i}", each.wait()) for i, each in enumerate(handles)]]


@flow
async def gathers_children() -> Any:
    async def one(what: str) -> Any:
        await dawdle(what)
        return got(what, await one_work_async.run("the same"))

    return await asyncio.gather(one("a"), one("b"))


@checkpoint(cache=False)
def work_of_a_child(what: str) -> str:
    with body(f"work_of_a_child({what})") as mark:
        child = got(f"of the child of {what}", one_work.run(f"child {what}").wait())
        return f"{child}{mark}"


@flow
def child_of_a_checkpoint() -> Any:
    return [got("one", work_of_a_child("one")), got("last", work("last"))]


@flow
def refuses(what: str) -> Any:
    got(f"before {what}", work(f"before {what}"))
    refuse(what)


@flow
def catches_a_child() -> Any:
    try:
        refuses.run("card").wait()
    except kitaru.KitaruUserCodeError as error:
        found = got("caught", [type(error.__cause__).__name__, str(error.__cause__)])
    return [found[0], got("instead", work("instead"))]


@flow
def second_time(what: str) -> Any:
    first = got(f"first {what}", work(f"first {what}"))
    if kitaru.current().attempt < 2:
        raise Refusal(f"{what} not yet")
    return [first, got(f"second {what}", work(f"second {what}"))]


@flow(retries=1)
def retries_with_its_child() -> Any:
    first = got("first", work("first"))
    return [first, got("child", second_time.run("child").wait())]


@flow
def child_drifts() -> Any:
    changed = got(f"changed {variant()}", one_work.run(f"changed {variant()}").wait())
    return [changed, got("last", work("last")), life() > 0]


for _flow in (has_child, has_grandchildren, child_of_a_checkpoint, catches_a_child):
    scenario(_flow)
scenario(retries_with_its_child)
scenario(has_children_at_once, sequential=False)
scenario(gathers_children, sequential=False)
scenario(child_drifts, variants=("old", "new"))
