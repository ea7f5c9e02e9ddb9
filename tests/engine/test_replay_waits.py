"""Waits of a replay are asked again, unless their answers are given."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import KitaruStateError, KitaruUsageError

from .looking import PATIENCE_SECONDS, calls, notes

RAN: list[Any] = []


@checkpoint
def draft(topic: str) -> str:
    RAN.append(topic)
    return f"about {topic}"


@checkpoint
def publish(text: str, approved: bool) -> str:
    RAN.append((text, approved))
    return f"{text}: {approved}"


@flow
def release(topic: str) -> str:
    text = draft(topic)
    approved = kitaru.wait(schema=bool, name="approve", timeout=PATIENCE_SECONDS)
    return publish(text, approved)


@flow
def unnamed(topic: str) -> str:
    text = draft(topic)
    answer: str = kitaru.wait(schema=str, question=f"{text}?", timeout=PATIENCE_SECONDS)
    return answer


def answered(handle: Any, value: Any) -> Any:
    """The result of an execution, once its wait is open and answered."""
    executions = KitaruClient().executions
    waiter = kitaru.app.current().env
    until = waiter.monotonic() + PATIENCE_SECONDS
    while not (waits := executions.pending_waits(handle.exec_id)):
        assert waiter.monotonic() < until, "nothing was asked"
        threading.Event().wait(0.01)
    executions.input(handle.exec_id, wait=waits[0].wait_id, value=value)
    return handle.wait(timeout=PATIENCE_SECONDS)


def test_a_wait_is_asked_again_and_the_same_answer_gives_the_same_execution() -> None:
    first = release.run("rivers")
    value = answered(first, True)
    RAN.clear()
    second = release.replay(first.exec_id)
    assert answered(second, True) == value
    assert RAN == []
    third = release.replay(first.exec_id)
    assert answered(third, False) == "about rivers: False"
    assert RAN == [("about rivers", False)]


def test_an_answer_may_be_given() -> None:
    first = release.run("rivers")
    answered(first, True)
    RAN.clear()
    second = release.replay(first.exec_id, overrides={"wait.approve": False})
    assert second.wait(timeout=PATIENCE_SECONDS) == "about rivers: False"
    assert RAN == [("about rivers", False)]
    (wait,) = kitaru.app.current().store.list_waits(second._row_id)
    assert wait.closed_by == f"the replay of {first.exec_id}"
    assert [row.source.value for row in calls(second.exec_id)] == ["carried", "ran"]
    assert notes(second.exec_id) == []


def test_an_unnamed_wait_that_says_something_else_now_is_known_by_its_label() -> None:
    first = unnamed.run("rivers")
    answered(first, "yes")
    given = {"checkpoint.draft": "mine", "wait.wait_condition:0": "no"}
    second = unnamed.replay(first.exec_id, overrides=given)
    assert second.wait(timeout=PATIENCE_SECONDS) == "no"


def test_an_answer_that_does_not_fit_or_belongs_to_no_wait_is_refused_at_once() -> None:
    first = release.run("rivers")
    answered(first, True)
    with pytest.raises(KitaruUsageError, match="does not fit what the wait asks for"):
        release.replay(first.exec_id, overrides={"wait.approve": "perhaps"})
    with pytest.raises(KitaruStateError, match=r"no recorded wait.*There are\n  approve"):
        release.replay(first.exec_id, overrides={"wait.aprove": True})
    assert len(KitaruClient().executions.list()) == 1
