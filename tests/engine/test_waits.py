"""``kitaru.wait``: what is asked is on record, the answer belongs to its asking, in every life."""

from __future__ import annotations

import asyncio
import enum
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import pydantic
import pytest

import kitaru
from kitaru import checkpoint, errors, flow
from kitaru._core.lifecycle import WaitState

from .looking import PATIENCE_SECONDS, execution
from .waits_kit import answer, open_waits, parked, result, waits

BODIES: list[Any] = []


@pytest.fixture(autouse=True)
def no_bodies() -> None:
    BODIES.clear()


@checkpoint(cache=False)
def work(what: Any) -> Any:
    BODIES.append(what)
    return what


@dataclass
class Verdict:
    approved: bool
    note: str = ""


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Form(pydantic.BaseModel):
    title: str
    copies: int = 1


def test_a_sync_flow_parks_at_a_wait_and_an_answer_resumes_it_by_itself() -> None:
    @flow
    def asks() -> Any:
        before = work("before")
        return [before, kitaru.wait(name="ok", schema=bool, question="Shall we?"), work("after")]

    handle = asks.run()
    row = parked(handle)
    assert row.status_reason == "waits for input 'ok' (Shall we?)"
    assert row.owner is None
    assert BODIES == ["before"]
    answer(handle, "ok", True)
    assert result(handle) == ["before", True, "after"]
    assert BODIES == ["before", "after"]


def test_an_async_flow_parks_at_a_wait_and_an_answer_resumes_it_by_itself() -> None:
    @flow
    async def asks() -> Any:
        before = work("before")
        return [before, await kitaru.wait(name="ok", schema=bool), work("after")]

    handle = asks.run()
    parked(handle)
    answer(handle, "ok", False)
    assert result(handle) == ["before", False, "after"]
    assert BODIES == ["before", "after"]


@pytest.mark.parametrize(
    ("schema", "given", "received"),
    [
        (bool, True, True),
        (str, "yes", "yes"),
        (int, 7, 7),
        (Literal["a", "b"], "b", "b"),
        (Level, "high", Level.HIGH),
        (Verdict, {"approved": True, "note": "go"}, Verdict(True, "go")),
        (Form, Form(title="t", copies=2), Form(title="t", copies=2)),
        (dict, {"a": [1, None]}, {"a": [1, None]}),
        (list[int], [1, 2], [1, 2]),
        (None, None, None),
    ],
    ids=str,
)
def test_the_flow_gets_a_value_of_the_type_that_it_asked_for(
    schema: Any, given: Any, received: Any
) -> None:
    got: list[Any] = []

    @flow
    def asks() -> None:
        got.append(kitaru.wait(name="it", schema=schema))

    handle = asks.run()
    parked(handle)
    answer(handle, "it", given)
    result(handle)
    assert got == [received]
    assert type(got[0]) is type(received)


def test_what_is_asked_is_on_record_before_anybody_waits() -> None:
    @flow
    def asks() -> Any:
        return kitaru.wait(
            schema=int, question="How many?", metadata={"draft": [1, "é"]}, expires=3600
        )

    handle = asks.run()
    parked(handle)
    (wait,) = waits(handle)
    assert wait.row.label == "wait_condition:0"
    assert (wait.row.name, wait.row.question) == (None, "How many?")
    assert wait.row.schema == '{"type":"integer"}'
    assert wait.row.metadata == '{"draft": [1, "\\u00e9"]}'
    assert wait.row.expires_at == wait.row.opened_at + 3_600_000_000
    answer(handle, "wait_condition:0", 3)
    assert result(handle) == 3


def test_a_second_wait_of_one_name_in_a_loop_is_a_new_wait() -> None:
    @flow
    def asks() -> list[int]:
        return [kitaru.wait(name="more", schema=int) for _ in range(3)]

    handle = asks.run()
    for number in (10, 20, 30):
        parked(handle)
        answer(handle, "more", number)
    assert result(handle) == [10, 20, 30]
    assert [wait.state for wait in waits(handle)] == [WaitState.ANSWERED] * 3


def test_unnamed_waits_are_numbered_and_told_apart_by_what_they_say() -> None:
    @flow
    def asks() -> list[Any]:
        return [
            kitaru.wait(schema=int),
            kitaru.wait(schema=int),
            kitaru.wait(schema=int, question="Really?"),
        ]

    handle = asks.run()
    for number in range(3):
        parked(handle)
        answer(handle, f"wait_condition:{number}", number)
    assert result(handle) == [0, 1, 2]


ORDER: list[str] = []


async def branch(name: str) -> list[Any]:
    """Two equal waits, opened later or earlier than those of other branches in each life."""
    for _ in range(ORDER.index(name)):
        await asyncio.sleep(0)
    return [name, await kitaru.wait(schema=str), await kitaru.wait(schema=str)]


def test_a_resume_in_another_order_gives_every_branch_its_own_answer() -> None:
    ORDER[:] = "abcd"

    @flow
    async def asks() -> Any:
        return await asyncio.gather(*[branch(name) for name in "abcd"])

    handle = asks.run()
    given: dict[str, list[str]] = {}
    for turn in range(8):
        parked(handle)
        ORDER.append(ORDER.pop(0))
        if turn % 3 == 0:
            ORDER.reverse()
        wait = open_waits(handle)[-1 if turn % 2 else 0]
        text = f"answer {turn} for {wait.row.branch}"
        given.setdefault(wait.row.branch, []).append(text)
        answer(handle, wait, text)
    got = result(handle)
    assert [name for name, _, _ in got] == list("abcd")
    assert sorted([first, second] for _, first, second in got) == sorted(given.values())
    assert all(len(set(texts)) == 2 for texts in given.values())


def test_several_waits_are_open_at_once_in_branches() -> None:
    async def review(who: str) -> tuple[str, bool]:
        return who, await kitaru.wait(name="review", schema=bool, question=who)

    @flow
    async def asks() -> Any:
        return await asyncio.gather(*[review(who) for who in ("ann", "bob")])

    handle = asks.run()
    row = parked(handle)
    assert row.status_reason == "waits for input 'review' (ann); waits for input 'review' (bob)"
    by_question = {wait.row.question: wait for wait in open_waits(handle)}
    answer(handle, by_question["bob"], False)
    parked(handle)
    answer(handle, by_question["ann"], True)
    assert result(handle) == [("ann", True), ("bob", False)]


def test_one_name_open_twice_in_a_branch_is_refused() -> None:
    @flow
    async def asks() -> Any:
        first = kitaru.wait(name="ok")
        try:
            return await asyncio.gather(first, kitaru.wait(name="ok"))
        finally:
            first.close()

    with pytest.raises(errors.KitaruUserCodeError, match="'ok' is open in this branch already"):
        result(asks.run())


def test_a_name_is_free_again_once_its_wait_was_cancelled() -> None:
    @flow
    async def asks() -> Any:
        first = asyncio.ensure_future(kitaru.wait(name="ok", schema=int))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        return await kitaru.wait(name="ok", schema=int)

    handle = asks.run()
    parked(handle)
    assert [wait.row.name for wait in open_waits(handle)] == ["ok", "ok"]
    answer(handle, open_waits(handle)[1], 2)
    assert result(handle) == 2


def test_a_wait_inside_a_checkpoint_is_refused_and_names_the_right_place() -> None:
    @checkpoint(cache=False)
    def asks_inside() -> Any:
        return kitaru.wait(name="ok")

    @flow
    def asks() -> Any:
        return asks_inside()

    with pytest.raises(errors.KitaruUserCodeError) as found:
        result(asks.run())
    assert isinstance(found.value.__cause__, errors.KitaruContextError)
    assert found.value.__cause__.code == "wait-in-checkpoint"
    assert "wait in the flow that called it" in str(found.value.__cause__)


def test_a_wait_outside_a_flow_is_refused() -> None:
    for ask in (kitaru.wait, lambda: kitaru.sleep(1)):
        with pytest.raises(errors.KitaruContextError) as found:
            ask()
        assert found.value.code == "outside-flow"


def test_a_wait_in_an_event_loop_of_ones_own_is_refused() -> None:
    @flow
    def asks() -> Any:
        async def inner() -> Any:
            return await kitaru.wait(name="ok")

        return asyncio.run(inner())

    with pytest.raises(errors.KitaruUserCodeError, match="an event loop of your own"):
        result(asks.run())


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": -1},
        {"timeout": "soon"},
        {"expires": -1},
        {"expires": True},
        {"expires": float("nan")},
        {"expires": 1e300},
        {"expires": "tomorrow"},
        {"on_expire": True},
        {"question": 7},
        {"question": "\ud800"},
        {"name": ""},
        {"name": "x" * 201},
        {"name": "a\x1b[31m"},
        {"metadata": [1]},
        {"schema": 42},
        {"schema": int, "expires": 1, "on_expire": "seven"},
    ],
    ids=repr,
)
def test_what_a_wait_cannot_be_told_is_refused_and_opens_nothing(options: dict[str, Any]) -> None:
    @flow
    def asks() -> Any:
        try:
            kitaru.wait(**options)
        except errors.KitaruUsageError as error:
            return error.code
        return None

    handle = asks.run()
    assert result(handle) in (
        "option-invalid",
        "name-invalid",
        "wait-schema-invalid",
        "wait-answer-invalid",
    )
    assert waits(handle) == []


@pytest.mark.parametrize("seconds", [-1, True, "1", float("nan"), float("inf"), 1e300, None])
def test_what_is_no_time_to_sleep_is_refused(seconds: Any) -> None:
    @flow
    def sleeps() -> Any:
        with pytest.raises(errors.KitaruUsageError):
            kitaru.sleep(seconds)
        return "awake"

    assert result(sleeps.run()) == "awake"


def test_a_forgotten_await_approves_nothing() -> None:
    @flow
    async def asks() -> Any:
        promised = kitaru.wait(name="ok", schema=bool)
        try:
            return "approved" if promised else "refused"
        finally:
            promised.close()

    with pytest.raises(errors.KitaruUserCodeError, match="has to be awaited"):
        result(asks.run())


# --- expiry -------------------------------------------------------------------------


def test_a_wait_that_expires_comes_to_what_on_expire_says() -> None:
    @flow
    def asks() -> Any:
        return kitaru.wait(name="ok", schema=bool, expires=timedelta(0), on_expire=False)

    handle = asks.run()
    assert result(handle) is False
    assert [wait.state for wait in waits(handle)] == [WaitState.EXPIRED]


def test_what_a_wait_comes_to_was_recorded_when_it_was_opened() -> None:
    defaults = iter(["first life", "second life"])

    @flow
    def asks() -> Any:
        got = kitaru.wait(name="ok", schema=str, expires=0, on_expire=next(defaults))
        kitaru.wait(name="go")
        return got

    handle = asks.run()
    parked(handle)
    answer(handle, "go", None)
    assert result(handle) == "first life"


def test_a_wait_that_expires_without_a_value_raises() -> None:
    @flow
    def asks() -> Any:
        try:
            kitaru.wait(name="ok", schema=bool, expires=0)
        except errors.KitaruTimeoutError as error:
            return [error.code, error.timeout_seconds, error.exec_id]

    handle = asks.run()
    assert result(handle) == ["wait-expired", 0.0, handle.exec_id]


def test_a_wait_may_expire_with_an_exception_of_ones_own() -> None:
    class TooLate(Exception):
        pass

    @flow
    def asks() -> Any:
        found = []
        for late in (TooLate, TooLate("so late")):
            try:
                kitaru.wait(name="ok", schema=bool, expires=0, on_expire=late)
            except TooLate as error:
                found.append(str(error)[:12])
        return found

    assert result(asks.run()) == ["wait 'ok' of", "so late"]


def test_an_expired_wait_that_nobody_catches_fails_the_flow_by_timeout() -> None:
    @flow
    def asks() -> None:
        kitaru.wait(name="ok", expires=0)

    with pytest.raises(errors.KitaruExecutionError) as found:
        result(asks.run())
    assert found.value.failure_origin is kitaru.FailureOrigin.TIMEOUT


# --- hot ------------------------------------------------------------------------------


def test_while_it_is_hot_an_answer_wakes_a_wait_in_place() -> None:
    lives: list[int] = []
    opened = threading.Event()

    @flow
    def asks() -> Any:
        lives.append(1)
        opened.set()
        return kitaru.wait(name="ok", schema=bool, timeout=600)

    handle = asks.run()
    _until_open(handle, opened)
    answer(handle, "ok", True)
    assert result(handle) is True
    assert lives == [1]


def test_while_it_is_hot_an_answer_wakes_an_async_wait_in_place() -> None:
    lives: list[int] = []
    opened = threading.Event()

    @flow
    async def asks() -> Any:
        lives.append(1)
        opened.set()
        return await kitaru.wait(name="ok", schema=bool, timeout=600)

    handle = asks.run()
    _until_open(handle, opened)
    answer(handle, "ok", True)
    assert result(handle) is True
    assert lives == [1]


def _until_open(handle: Any, opened: threading.Event) -> None:
    assert opened.wait(PATIENCE_SECONDS)
    pause = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / 0.005)):
        if open_waits(handle):
            return
        pause.wait(0.005)
    raise AssertionError("the wait was not opened")


def test_an_answer_is_recalled_by_every_later_life_and_a_retry() -> None:
    raises = [True]

    @flow(retries=1)
    def asks() -> Any:
        got = kitaru.wait(name="ok", schema=int)
        if raises.pop() if raises else False:
            raise ValueError("once")
        return got

    handle = asks.run()
    parked(handle)
    answer(handle, "ok", 5)
    assert result(handle) == 5
    assert len(waits(handle)) == 1
    assert execution(handle.exec_id).attempt == 2


def test_a_wait_whose_expiry_failed_the_flow_is_asked_anew_by_a_retry() -> None:
    seconds = [0, 3600]

    @flow
    def asks() -> Any:
        return kitaru.wait(name="ok", schema=int, expires=seconds.pop(0) if seconds[1:] else 3600)

    handle = asks.run()
    with pytest.raises(errors.KitaruExecutionError):
        result(handle)
    again = kitaru.KitaruClient().executions.retry(handle.exec_id)
    row = parked(again)
    assert row.due_at is not None
    answer(again, "ok", 3)
    assert result(again) == 3
    assert [wait.state for wait in waits(handle)] == [WaitState.ANSWERED]


def test_a_wait_that_was_open_when_the_flow_failed_is_asked_anew_by_a_retry() -> None:
    fails = [True]

    @flow
    async def asks() -> Any:
        async def fail() -> None:
            await asyncio.sleep(0)
            if fails:
                raise ValueError(fails.pop())

        return (await asyncio.gather(kitaru.wait(name="ok", schema=int), fail()))[0]

    handle = asks.run()
    with pytest.raises(errors.KitaruExecutionError):
        result(handle)
    again = kitaru.KitaruClient().executions.retry(handle.exec_id)
    parked(again)
    answer(again, "ok", 3)
    assert result(again) == 3
