"""Answers that the schema let in and only the class refuses: asked anew, nothing lost."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pydantic
import pytest

import kitaru
from kitaru import app, flow
from kitaru._core.lifecycle import WaitState
from kitaru._core.values import encode
from kitaru._store.protocol import Answer
from kitaru.errors import KitaruWaitValidationError

from .looking import execution
from .waits_kit import answer, open_waits, parked, result, waits

pytestmark = pytest.mark.usefixtures("own_store")

shouting_is_fine = False


def calm(text: str) -> str:
    if text.isupper() and not shouting_is_fine:
        raise ValueError("no shouting")
    return text


class Note(pydantic.BaseModel):
    text: Annotated[str, pydantic.AfterValidator(calm)]


def answer_without_the_class(handle: Any, value: Any, *, which: int = 0, by: str = "ada") -> None:
    """As a process answers that has only the schema."""
    kitaru_app = app.current()
    row, wait = execution(handle.exec_id), open_waits(handle)[which]
    payload = encode(value, what="answer")
    kitaru_app.store.apply(Answer(row.id, wait.row.identity, payload, by, kitaru_app.env.now()))
    kitaru_app.runner.look(handle.exec_id)


@flow
def noted() -> str:
    found = kitaru.wait(name="note", schema=Note, expires=3600)
    return found.text


def test_what_the_class_refuses_is_on_record_and_asked_anew(
    capsys: pytest.CaptureFixture[str],
) -> None:
    handle = noted.run()
    parked(handle)
    answer_without_the_class(handle, {"text": "LOUD"})
    parked(handle)
    refused, again = waits(handle)
    assert (refused.state, refused.closed_by) == (WaitState.ANSWERED, "ada")
    assert (again.state, again.row.label) == (WaitState.OPEN, "note")
    assert again.row.expires_at == refused.row.expires_at
    note = kitaru.KitaruClient().executions.get(handle.exec_id).notes[-1]
    assert note.kind == "answer_refused"
    assert "ada" in note.message
    assert "text: Value error, no shouting" in note.message
    assert "no shouting" in capsys.readouterr().err
    answer(handle, "note", {"text": "quiet"})
    assert result(handle) == "quiet"
    assert len(waits(handle)) == 2


def test_where_the_class_is_known_it_refuses_at_once() -> None:
    handle = noted.run()
    parked(handle)
    with pytest.raises(KitaruWaitValidationError, match="no shouting"):
        answer(handle, "note", {"text": "LOUD"})
    assert len(waits(handle)) == 1
    answer(handle, "note", Note(text="quiet"))
    assert result(handle) == "quiet"


def test_mending_the_validator_does_not_change_what_was_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handle = two_notes.run()
    parked(handle)
    answer_without_the_class(handle, {"text": "LOUD"})
    parked(handle)
    answer(handle, "note", {"text": "quiet"})
    parked(handle)
    monkeypatch.setattr(f"{__name__}.shouting_is_fine", True)
    answer(handle, "second", "x")
    assert result(handle) == ["quiet", "x"]


@flow
def two_notes() -> list[str]:
    first = kitaru.wait(name="note", schema=Note)
    return [first.text, kitaru.wait(name="second", schema=str)]


def test_it_may_be_refused_again_and_again() -> None:
    handle = noted.run()
    for number in range(4):
        parked(handle)
        answer_without_the_class(handle, {"text": "LOUD" * (number + 1)})
    parked(handle)
    assert len(waits(handle)) == 5
    answer(handle, "note", {"text": "quiet"})
    assert result(handle) == "quiet"


@flow
async def in_branches() -> list[str]:
    async def ask(who: str) -> str:
        found = await kitaru.wait(name="note", question=who, schema=Note)
        return f"{who} {found.text}"

    return await asyncio.gather(ask("ann"), ask("bob"))


def test_a_refused_answer_stays_in_its_branch() -> None:
    handle = in_branches.run()
    parked(handle)
    answer_without_the_class(handle, {"text": "LOUD"}, which=1)
    parked(handle)
    ann, bob = open_waits(handle)
    assert (ann.row.question, bob.row.question) == ("ann", "bob")
    answer(handle, bob, {"text": "b"})
    parked(handle)
    answer(handle, ann, {"text": "a"})
    assert result(handle) == ["ann a", "bob b"]
