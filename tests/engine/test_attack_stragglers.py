"""What outlives its place: tasks, threads, futures, loops and callbacks that were left behind."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import kitaru
from kitaru import app, checkpoint, flow
from kitaru._engine.draining import drain
from kitaru._store.protocol import Record
from kitaru.errors import KitaruBackendError, KitaruError, KitaruUserCodeError

from .looking import PATIENCE_SECONDS, Gate, execution, retry

RAN: list[Any] = []
PLAN: dict[str, Any] = {}

SHORT_SECONDS = 0.05


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()
    PLAN.clear()


@checkpoint(cache=False)
async def leaves_the_program() -> None:
    raise SystemExit(3)


@checkpoint(cache=False)
async def echo(what: Any) -> Any:
    RAN.append(what)
    return what


@checkpoint(cache=False)
def gated(what: Any) -> Any:
    gate: Gate = PLAN["gate"]
    gate.pass_through()
    RAN.append((what, execution(PLAN["handle"].exec_id).status.value))
    return what


# --- the loop ----------------------------------------------------------------------------


def test_a_task_that_raises_system_exit_does_not_take_the_loop_with_it() -> None:
    @flow
    async def one() -> str:
        try:
            await asyncio.gather(leaves_the_program(), echo(1))
        except SystemExit as error:
            return f"asked to leave with {error.code}"
        return "stayed"

    @flow
    async def another() -> int:
        return int(await echo(2))

    assert one.run().wait(PATIENCE_SECONDS) == "asked to leave with 3"
    assert another.run().wait(PATIENCE_SECONDS) == 2


def test_a_handle_awaited_in_a_loop_that_is_closed_keeps_nobody_else_waiting() -> None:
    gate = PLAN["gate"] = Gate()

    @flow
    def held() -> int:
        gate.pass_through()
        return 1

    handle = held.run()

    async def give_up() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(handle, SHORT_SECONDS)

    asyncio.run(give_up())
    answers: list[int] = []
    waiting = threading.Event()

    async def stay() -> None:
        waiting.set()
        answers.append(await asyncio.wait_for(handle, PATIENCE_SECONDS))

    thread = threading.Thread(target=lambda: asyncio.run(stay()))
    thread.start()
    assert waiting.wait(PATIENCE_SECONDS)
    gate.open()
    thread.join(PATIENCE_SECONDS)
    assert answers == [1]
    assert app.current().runner.wait_idle(PATIENCE_SECONDS)
    assert held.run().wait(PATIENCE_SECONDS) == 1


# --- attempts that are over -----------------------------------------------------------------


async def echo_later(what: int, others_failed: asyncio.Event) -> int:
    await others_failed.wait()
    return int(await echo(what))


async def fail_once() -> None:
    PLAN["tries"] = PLAN.get("tries", 0) + 1
    if PLAN["tries"] == 1:
        raise OSError("the first try fails")


@checkpoint(cache=False, retries=kitaru.Retry(max_attempts=2, initial_seconds=0))
async def parent_with_siblings() -> list[Any]:
    event = asyncio.Event()
    # gather does not cancel what else it runs when one fails.
    asyncio.get_running_loop().call_later(SHORT_SECONDS, event.set)
    return list(await asyncio.gather(echo_later(1, event), echo_later(2, event), fail_once()))


def test_what_a_failed_attempt_left_running_is_not_taken_for_the_next_attempts() -> None:
    @flow
    async def siblings() -> list[Any]:
        return await parent_with_siblings()

    assert siblings.run().wait(PATIENCE_SECONDS) == [1, 2, None]
    assert sorted(RAN) == [1, 2]


@checkpoint(cache=False)
def in_a_thread(what: int) -> int:
    RAN.append(what)
    return what


def test_a_thread_of_a_failed_attempt_of_the_flow_starts_nothing_in_the_next() -> None:
    failed = threading.Event()

    def work() -> list[int]:
        assert failed.wait(PATIENCE_SECONDS)
        return [in_a_thread(1), in_a_thread(2)]

    async def fail() -> None:
        PLAN["tries"] = PLAN.get("tries", 0) + 1
        if PLAN["tries"] == 1:
            asyncio.get_running_loop().call_later(SHORT_SECONDS, failed.set)
            raise OSError("the first try fails")

    @flow(retries=1)
    async def threads() -> list[int]:
        found, _ = await asyncio.gather(asyncio.to_thread(work), fail())
        return list(found)

    assert threads.run().wait(PATIENCE_SECONDS) == [1, 2]
    assert RAN == [1, 2]


@checkpoint(cache=False)
def beat(number: int) -> int:
    time.sleep(0.02)  # longer than the beats are apart: there is always one more
    return number


def test_a_task_that_keeps_submitting_does_not_keep_the_flow_from_ending() -> None:
    @flow
    async def with_a_heart() -> str:
        async def heart() -> None:
            number = 0
            while True:
                number += 1
                beat.submit(number)
                await asyncio.sleep(0.002)

        PLAN["task"] = asyncio.create_task(heart())
        await asyncio.sleep(0.01)
        return "done"

    assert with_a_heart.run().wait(PATIENCE_SECONDS) == "done"


# --- bodies ----------------------------------------------------------------------------------


@checkpoint(cache=False)
def failing_child() -> None:
    raise OSError("the child fails")


@checkpoint(cache=False)
def careless_parent() -> int:
    failing_child.submit()
    return 7


def test_a_failed_child_that_nobody_looked_at_fails_its_parent_in_every_life() -> None:
    @flow
    def careless() -> int:
        return careless_parent()

    handle = careless.run()
    with pytest.raises(KitaruUserCodeError, match="the child fails"):
        handle.wait(PATIENCE_SECONDS)
    with pytest.raises(KitaruUserCodeError, match="the child fails"):
        retry(careless, handle.exec_id).wait(PATIENCE_SECONDS)


class Client:
    """A connection with a task that reads, as those of many services have."""

    def __init__(self) -> None:
        self.questions: asyncio.Queue[tuple[asyncio.Future[int], int]] = asyncio.Queue()
        self.reader = asyncio.create_task(self.read())

    async def read(self) -> None:
        while True:
            answer, question = await self.questions.get()
            answer.set_result(question * 2)

    async def ask(self, question: int) -> int:
        answer = asyncio.get_running_loop().create_future()
        await self.questions.put((answer, question))
        return int(await asyncio.wait_for(answer, PATIENCE_SECONDS / 4))


@checkpoint(cache=False)
async def ask(question: int) -> int:
    client = PLAN.setdefault("client", None) or Client()
    PLAN["client"] = client
    return int(await client.ask(question))


def test_a_client_made_in_one_body_serves_the_next() -> None:
    @flow
    async def questions() -> list[int]:
        return [await ask(1), await ask(2), await ask(3)]

    assert questions.run().wait(PATIENCE_SECONDS) == [2, 4, 6]


@checkpoint(cache=False)
async def begins_much() -> None:
    gated.submit("submitted")
    PLAN["task"] = asyncio.create_task(calls_later())
    await asyncio.to_thread(PLAN["gate"].wait_until_reached)
    PLAN["scope"].reschedule(asyncio.get_running_loop().time())
    await asyncio.sleep(PATIENCE_SECONDS)


async def calls_later() -> None:
    await asyncio.sleep(PATIENCE_SECONDS)
    await echo("too late")


def test_what_a_cancelled_body_began_has_ended_before_the_end_is_recorded() -> None:
    gate = PLAN["gate"] = Gate()
    began = threading.Event()

    @flow
    async def gives_up() -> str:
        began.wait(PATIENCE_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as PLAN["scope"]:
                await begins_much()
        asyncio.get_running_loop().call_later(SHORT_SECONDS, gate.open)
        return "timed out"

    PLAN["handle"] = handle = gives_up.run()
    began.set()
    assert handle.wait(PATIENCE_SECONDS) == "timed out"
    assert gate.reached.is_set()
    assert RAN == [("submitted", "running")]
    assert PLAN["task"].done()


@checkpoint(cache=False)
def submits_to_a_thread() -> str:
    in_a_thread.submit(1)
    return "submitted"


def test_a_plain_body_on_the_loop_may_submit_and_return() -> None:
    @flow
    async def inline() -> str:
        return submits_to_a_thread()

    assert inline.run().wait(PATIENCE_SECONDS) == "submitted"
    assert RAN == [1]


# --- writes whose caller has gone ------------------------------------------------------------


def test_a_refused_write_ends_the_execution_even_if_its_caller_was_cancelled() -> None:
    store = app.current().store
    post: Callable[..., None] = store.post
    refused: list[Any] = []

    def post_and_refuse_the_first_fact(write: Any, done: Callable[..., None]) -> None:
        if type(write) is Record and write.facts.learnt and not refused:
            refused.append(write)
            answer = (None, KitaruBackendError("the disk is full"))
            threading.Timer(3 * SHORT_SECONDS, done, answer).start()
        else:
            post(write, done)

    store.post = post_and_refuse_the_first_fact  # type: ignore[method-assign]

    @flow
    async def learns() -> int:
        kitaru.now()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(echo(1), SHORT_SECONDS)
        await asyncio.sleep(6 * SHORT_SECONDS)
        return int(await echo(2))

    with pytest.raises(KitaruBackendError, match="the disk is full"):
        learns.run().wait(PATIENCE_SECONDS)
    assert RAN == []


# --- one execution, one life ------------------------------------------------------------------


def test_threads_that_run_one_key_at_once_get_one_life() -> None:
    @flow
    def keyed(number: int) -> int:
        RAN.append(number)
        return number

    threads, keys = 8, 40
    together = threading.Barrier(threads)
    wrong: list[Any] = []

    def run_all() -> None:
        for number in range(keys):
            together.wait(PATIENCE_SECONDS)
            try:
                answer: object = (
                    keyed.options(key=f"key-{number}").run(number).wait(PATIENCE_SECONDS)
                )
            except KitaruError as error:
                answer = error
            if answer != number:
                wrong.append(answer)

    running = [threading.Thread(target=run_all) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(10 * PATIENCE_SECONDS)
    assert wrong == []
    assert sorted(RAN) == list(range(keys))


# --- leaving ------------------------------------------------------------------------------------


def test_cleanup_that_awaits_is_not_cancelled_while_the_execution_leaves() -> None:
    cleaned: list[str] = []
    began = threading.Event()

    @flow
    async def with_cleanup() -> None:
        try:
            for number in range(100_000):
                await echo(number)
                began.set()
        finally:
            for _ in range(3):
                try:
                    await asyncio.sleep(SHORT_SECONDS)
                    cleaned.append("cleaned")
                except asyncio.CancelledError:
                    cleaned.append("cancelled")

    handle = with_cleanup.run()
    assert began.wait(PATIENCE_SECONDS)
    drain(app.current().runner, PATIENCE_SECONDS)
    assert cleaned == ["cleaned"] * 3
    assert execution(handle.exec_id).status.value == "pending"
