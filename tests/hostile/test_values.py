"""Every value of the table through every door: it comes back as it went in, or is refused."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, KitaruError, KitaruExecutionError, checkpoint, flow
from kitaru.cli.shown import as_data

from . import doors
from .doors import PATIENCE_SECONDS, Kept, Refused, Verdict
from .same import difference
from .values import HUGE, KEPT, LARGE, METADATA, OPAQUE, READ_ONCE, REFUSED, SLOW, Liar

pytestmark = [pytest.mark.usefixtures("shared_store"), pytest.mark.timeout(600)]

Door = Callable[[doors.Make], Verdict]

EVERYWHERE = doors.INPUT | doors.ARGUMENT | doors.RESULT


def check_kept(verdict: Verdict, went_in: Any) -> None:
    assert isinstance(verdict, Kept), verdict
    assert difference(went_in, verdict.value) is None


def check_refused(verdict: Verdict, before: list[str]) -> None:
    """A typed error that says where and what to do, before anything, or a recorded failure."""
    assert isinstance(verdict, Refused), verdict
    error: BaseException | None = verdict.error
    if verdict.exec_id is None:
        assert newest() == before, "it was refused, and recorded all the same"
    else:
        assert isinstance(error, KitaruExecutionError)
        execution = look_at(verdict.exec_id)
        assert execution.status.value == "failed"
        assert execution.failure.origin == "user_code"
        for call in execution.checkpoints:
            assert call.status == "failed", "a value that was refused is recorded as an outcome"
        error = error.__cause__
    assert isinstance(error, KitaruError), repr(error)
    message = str(error)
    assert len(message) < 1000
    assert message.count(":") >= 1, "what happened, and what to do about it"


def newest() -> list[str]:
    return [execution.exec_id for execution in KitaruClient().executions.list(limit=1)]


def look_at(exec_id: str | None) -> Any:
    """All that a surface shows of an execution; showing it must not fail, whatever is in it."""
    assert exec_id is not None
    execution = KitaruClient().executions.get(exec_id)
    shown = as_data(execution) | {"calls": as_data(execution.list_checkpoints())}
    json.dumps(shown).encode()
    return execution


@pytest.mark.parametrize("name", KEPT)
def test_it_comes_back_as_it_went_in(name: str) -> None:
    make = KEPT[name]
    for door in EVERYWHERE.values():
        check_kept(door(make), make())
    verdict = doors.RESULT["result"](make)
    assert isinstance(verdict, Kept)
    (call,) = look_at(verdict.exec_id).list_checkpoints()
    assert difference(make(), call.result()) is None, "the store gives back something else"


@pytest.mark.parametrize("name", KEPT)
def test_as_metadata_it_is_kept_exactly_or_refused(name: str) -> None:
    make = KEPT[name]
    for door in doors.METADATA.values():
        if name in METADATA:
            check_kept(door(make), make())
        else:
            check_refused(door(make), newest())


@pytest.mark.parametrize("name", [*KEPT, *OPAQUE, *READ_ONCE])
def test_as_a_name_it_is_a_text_that_can_be_shown_or_refused(name: str) -> None:
    make = {**KEPT, **OPAQUE, **READ_ONCE}[name]
    for door in doors.OPTION.values():
        before = newest()
        verdict = door(make)
        if isinstance(verdict, Kept):
            value = make()
            assert value is None or _one_spelling(value) == _one_spelling(verdict.value)
        else:
            check_refused(verdict, before)


def _one_spelling(text: Any) -> str:
    assert type(text) is str
    return unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("name", OPAQUE)
def test_what_has_no_encoding_may_be_handed_to_a_body_and_nothing_else(name: str) -> None:
    make = OPAQUE[name]
    for door in doors.ARGUMENT.values():
        verdict = door(make)
        assert isinstance(verdict, Kept), verdict
        assert verdict.value is not doors.NOTHING
    for door in (doors.INPUT | doors.RESULT | doors.METADATA).values():
        check_refused(door(make), newest())


@pytest.mark.parametrize("name", READ_ONCE)
def test_what_can_be_read_only_once_is_refused_everywhere(name: str) -> None:
    make = READ_ONCE[name]
    for door in (EVERYWHERE | doors.METADATA).values():
        check_refused(door(make), newest())


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_too_deep_or_inside_itself_is_refused_everywhere(name: str) -> None:
    make = REFUSED[name]
    for door in (EVERYWHERE | doors.METADATA).values():
        check_refused(door(make), newest())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in HUGE]
)
def test_what_is_too_large_is_refused_before_it_is_copied(name: str) -> None:
    make = HUGE[name]
    for door in ("input", "result", "metadata"):
        check_refused((EVERYWHERE | doors.METADATA)[door](make), newest())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", LARGE)
def test_what_is_large_takes_time_in_proportion_and_comes_back(name: str) -> None:
    make = LARGE[name]
    for door in ("input", "argument", "result", "result of the flow, async"):
        check_kept(EVERYWHERE[door](make), make())


@checkpoint(cache=False)
def spoil(items: list[Any]) -> str:
    items.append(iter(()))
    items.append(items)
    items.append(Liar(1))
    return "done"


@flow
def spoils() -> str:
    return spoil([1])


def test_a_body_that_fills_its_argument_with_what_cannot_be_stored_keeps_its_result() -> None:
    assert spoils.run().wait(timeout=PATIENCE_SECONDS) == "done"


@flow
def logs_many_names() -> None:
    for name in ("", " ", "a\nb", "x" * 201, "\x1b[31m", "\ud800"):
        try:
            kitaru.log(**{name: 1})
        except kitaru.KitaruUsageError:
            continue
        raise AssertionError(f"{name!r} was taken")
    kitaru.log(**{"__class__": 1, "$kitaru": 2, "=cmd()": 3, "<script>": 4})


def test_names_of_metadata_are_names() -> None:
    handle = logs_many_names.run()
    handle.wait(timeout=PATIENCE_SECONDS)
    assert look_at(handle.exec_id).metadata == {
        "__class__": 1,
        "$kitaru": 2,
        "=cmd()": 3,
        "<script>": 4,
    }
