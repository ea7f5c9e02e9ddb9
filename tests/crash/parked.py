"""Flows of the corpus that park: answered before, during and after it, by several at once, or
by nobody in time.

Whoever plays one answers what stands open, in each life anew, so that an answer comes at
another moment wherever the last life died.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any

import pydantic

import kitaru
from kitaru import Retry, app, checkpoint, flow
from kitaru._core.values import encode
from kitaru._engine import standing
from kitaru._store.protocol import Answer, Refused
from kitaru.status import ExecutionStatus

from . import clock
from .corpus import KEY, SCENARIOS, Refusal, Scenario, work, work_async
from .journal import body, dawdle, got


def _answer_what_is_open(exec_id: str, value: Callable[[Any], Any]) -> None:
    executions = kitaru.KitaruClient().executions
    for wait in executions.pending_waits(exec_id):
        try:
            executions.input(exec_id, wait=wait.wait_id, value=value(wait))
        except (kitaru.KitaruStateError, kitaru.KitaruNotFoundError):
            continue  # somebody else was first


def _keep_answering(handle: Any, value: Callable[[Any], Any]) -> None:
    while not handle.status.is_finished:
        _answer_what_is_open(handle.exec_id, value)
        time.sleep(0.001)


def _enter(played: Any, play: Callable[[], Any], **options: Any) -> None:
    def parks_soon() -> Any:
        standing.HOT_SECONDS = -1.0  # however short: what parks is what is tried here
        return play()

    SCENARIOS[played.spec.name] = Scenario(played.spec.name, parks_soon, **options)


def _answered(played: Any, *args: Any, also: tuple[Any, ...] = (), sequential: bool = True) -> None:
    def play() -> Any:
        handle = played.options(key=KEY).run(*args)
        _keep_answering(handle, lambda wait: f"{wait.question} says yes")
        return handle.wait()

    _enter(played, play, also=also, sequential=sequential)


def _undisturbed(played: Any) -> None:
    def play() -> Any:
        clock.stand()  # or its time would be over before it has parked
        handle = played.options(key=KEY).run()
        parked_or_over(handle)
        clock.go()
        return handle.wait()

    _enter(played, play)


def parked_or_over(handle: Any) -> None:
    """Wait for it."""
    while not (handle.status is ExecutionStatus.WAITING or handle.status.is_finished):
        time.sleep(0.001)


# --- one after another --------------------------------------------------------------------


@flow
def waits() -> Any:
    before = got("before", work("before"))
    first = got("first", kitaru.wait(name="ok", schema=str, question="first"))
    second = got("second", kitaru.wait(name="ok", schema=str, question="second"))
    return [before, first, second, got("after", work("after"))]


_answered(waits)


@flow
async def waits_async() -> Any:
    before = got("before", await work_async("before"))
    first = got("first", await kitaru.wait(name="ok", schema=str, question="first"))
    return [before, first, got("after", await work_async("after"))]


_answered(waits_async)


# --- side by side -------------------------------------------------------------------------


async def _asks(who: str) -> list[Any]:
    await dawdle(f"before {who}")
    first = got(f"{who} first", await kitaru.wait(schema=str, question=who))
    made = got(f"{who} made", await work_async(who))
    await dawdle(f"after {who}")
    return [first, made, got(f"{who} second", await kitaru.wait(schema=str, question=who))]


@flow
async def waits_in_branches() -> Any:
    """Equal waits of branches that are quicker or slower in each life."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_asks(who)) for who in ("ann", "bob")]
    return [task.result() for task in tasks]


_answered(waits_in_branches, sequential=False)


@flow
def waits_beside_bodies() -> Any:
    futures = [work.submit(f"beside {i}") for i in range(2)]
    answer = got("answer", kitaru.wait(schema=str, question="sync"))
    return [answer, *[got(f"future {i}", each.result()) for i, each in enumerate(futures)]]


_answered(waits_beside_bodies, sequential=False)


# --- an answer that only the class refuses -----------------------------------------------------


def _insists(text: str) -> str:
    if text == "no":
        raise ValueError("not that")
    return text


@flow
def answered_again() -> Any:
    asked = Annotated[str, pydantic.AfterValidator(_insists)]
    found = got("answer", kitaru.wait(name="ok", schema=asked))
    return [found, got("after", work(found))]


def refused_first() -> Any:
    handle = answered_again.options(key=KEY).run()
    store, env = app.current().store, app.current().env
    row = store.find_execution(handle.exec_id)
    assert row is not None
    while not handle.status.is_finished:
        for wait in store.list_waits(row.id)[:1]:
            payload = encode("no", what="answer")
            with contextlib.suppress(Refused):
                # As a process that has only the schema answers.
                store.apply(Answer(row.id, wait.row.identity, payload, "ann", env.now()))
                app.current().runner.look(handle.exec_id)
        if len(store.list_waits(row.id)) > 1:
            _answer_what_is_open(handle.exec_id, lambda wait: "yes")
        time.sleep(0.001)
    return handle.wait()


_enter(answered_again, refused_first)


# --- two answers at once, and an answer against the clock ------------------------------------


@flow
def answered_by_two() -> Any:
    found = got("answer", kitaru.wait(name="ok", schema=str))
    return [found, got("after", work(found))]


def two_at_once() -> Any:
    handle = answered_by_two.options(key=KEY).run()
    others = [
        threading.Thread(target=_keep_answering, args=(handle, lambda wait, who=who: who))
        for who in ("ann", "bob")
    ]
    for other in others:
        other.start()
    result = handle.wait()
    for other in others:
        other.join()
    return result


_enter(
    answered_by_two,
    two_at_once,
    also=(["ann", "ann~"], ["bob", "bob~"]),
)


@flow
def answered_or_late() -> Any:
    found = got("answer", kitaru.wait(name="ok", schema=str, expires=0.02, on_expire="late"))
    return [found, got("after", work("after"))]


def against_the_clock() -> Any:
    handle = answered_or_late.options(key=KEY).run()
    time.sleep(0.015)
    _keep_answering(handle, lambda wait: "in time")
    return handle.wait()


_enter(
    answered_or_late,
    against_the_clock,
    also=(["in time", "after~"], ["late", "after~"]),
)


# --- the clock alone ---------------------------------------------------------------------------


@flow
async def sleeps_in_branches() -> Any:
    async def one(seconds: float) -> Any:
        await kitaru.sleep(seconds)
        return got(f"after {seconds}", await work_async(seconds))

    return await asyncio.gather(one(0.005), one(0.01))


_undisturbed(sleeps_in_branches)


@checkpoint(cache=False, retries=Retry(max_attempts=2, initial_seconds=0.01, jitter=False))
def second_time_later(what: str) -> str:
    with body(f"second_time_later({what})") as mark:
        if kitaru.current().attempt < 2:
            raise Refusal(f"{what} not yet")
        return f"{what}{mark}"


@flow
def backs_off() -> Any:
    return [got("first", second_time_later("called")), got("then", work("then"))]


_undisturbed(backs_off)


@flow
def answered_by_nobody() -> Any:
    found = got("answer", kitaru.wait(name="ok", schema=str, expires=0.01, on_expire="late"))
    return [found, got("after", work("after"))]


_undisturbed(answered_by_nobody)
