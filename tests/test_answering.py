"""Answering waits: which one is meant, what fits, who was first; nothing changes otherwise."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.waits_kit import Asks, waiting

import kitaru
from kitaru import KitaruClient, app
from kitaru._core.lifecycle import State, WaitKind, WaitState
from kitaru._core.values import decode
from kitaru._store.protocol import ExecutionRow, RecordedWait
from kitaru.errors import (
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
    KitaruWaitValidationError,
)

pytestmark = pytest.mark.usefixtures("own_store")


@dataclasses.dataclass
class Review:
    verdict: Literal["publish", "reject"]
    score: int = 3


def executions() -> Any:
    return KitaruClient().executions


def waits_of(row: ExecutionRow) -> list[RecordedWait]:
    return app.current().store.list_waits(row.id)


def state_of(row: ExecutionRow) -> State:
    return app.current().store.get_status(row.id)[0]


# --- answering ------------------------------------------------------------------------------


def test_an_answer_closes_the_wait_and_says_who_and_when() -> None:
    row = waiting(Asks())
    executions().input(row.exec_id, wait="approve", value=True, by="ada")
    (found,) = waits_of(row)
    assert (found.state, found.closed_by) == (WaitState.ANSWERED, "ada")
    assert found.closed_at is not None
    assert found.payload is not None
    assert decode(found.payload, what="answer") is True
    assert state_of(row) is State.PENDING
    assert executions().pending_waits(row.exec_id) == []


def test_who_answered_and_what_stays_to_be_seen_on_the_execution() -> None:
    row = waiting(Asks())
    executions().input(row.exec_id, wait="approve", value=True, by="ada")
    (note,) = executions().get(row.exec_id).notes
    assert (note.kind, note.message) == ("answered", "approve was answered by ada with true")
    other = waiting(Asks())
    executions().abort_wait(other.exec_id, wait="approve", by="bob")
    (note,) = executions().get(other.exec_id).notes
    assert (note.kind, note.message) == ("aborted", "approve was aborted by bob")


def test_without_a_name_the_user_of_this_machine_has_answered() -> None:
    row = waiting(Asks())
    executions().input(row.exec_id, wait="approve", value=False)
    (found,) = waits_of(row)
    user, _, host = (found.closed_by or "").partition("@")
    assert user
    assert host


@pytest.mark.parametrize("value", ["yes", 1, None, {}, [True]])
def test_an_answer_that_does_not_fit_changes_nothing(value: Any) -> None:
    row = waiting(Asks())
    with pytest.raises(KitaruWaitValidationError, match="still open") as caught:
        executions().input(row.exec_id, wait="approve", value=value)
    assert caught.value.code == "wait-answer-invalid"
    assert waits_of(row)[0].state is WaitState.OPEN
    assert state_of(row) is State.WAITING
    executions().input(row.exec_id, wait="approve", value=True)
    assert state_of(row) is State.PENDING


def test_each_field_that_is_wrong_is_named() -> None:
    row = waiting(Asks(asked=Review))
    with pytest.raises(KitaruWaitValidationError) as caught:
        executions().input(row.exec_id, wait="approve", value={"verdict": "no", "score": "x"})
    assert "verdict" in str(caught.value)
    assert "score" in str(caught.value)


def test_an_object_of_the_type_is_an_answer() -> None:
    row = waiting(Asks(asked=Review))
    executions().input(row.exec_id, wait="approve", value=Review("publish"))
    payload = waits_of(row)[0].payload
    assert payload is not None
    assert decode(payload, what="answer") == {"verdict": "publish", "score": 3}


def test_the_first_answer_wins_and_the_second_is_told_who_was_first() -> None:
    row = waiting(Asks())
    executions().input(row.exec_id, wait="approve", value=True, by="ada")
    with pytest.raises(KitaruStateError, match="was answered by ada at") as caught:
        executions().input(row.exec_id, wait="approve", value=False, by="bob")
    assert caught.value.code == "wait-closed"
    assert waits_of(row)[0].closed_by == "ada"


def test_of_two_answers_at_once_one_wins() -> None:
    row = waiting(Asks(asked=int))
    ready = threading.Barrier(8)
    said: list[object] = []

    def answer(number: int) -> None:
        client = executions()
        ready.wait(10)
        try:
            client.input(row.exec_id, wait="approve", value=number, by=f"p{number}")
            said.append(number)
        except KitaruStateError as error:
            said.append(error)

    threads = [threading.Thread(target=answer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    (winner,) = [each for each in said if isinstance(each, int)]
    assert len(said) == 8
    (found,) = waits_of(row)
    assert found.payload is not None
    assert (decode(found.payload, what="a"), found.closed_by) == (winner, f"p{winner}")


def test_an_expired_wait_takes_no_answer() -> None:
    row = waiting(Asks(expires_at=app.current().env.now() - 1))
    with pytest.raises(KitaruStateError, match="has expired"):
        executions().input(row.exec_id, wait="approve", value=True)
    assert waits_of(row)[0].payload is None


def test_a_hot_wait_is_answered_while_its_execution_runs() -> None:
    row = waiting(Asks(), parked=False)
    executions().input(row.exec_id, wait="approve", value=True)
    assert waits_of(row)[0].state is WaitState.ANSWERED
    assert state_of(row) is State.RUNNING


def test_a_gate_goes_on_without_a_value() -> None:
    row = waiting(Asks(asked=None))
    with pytest.raises(KitaruWaitValidationError, match="answer null"):
        executions().input(row.exec_id, wait="approve", value="later")
    executions().input(row.exec_id, wait="approve", value=None)
    assert state_of(row) is State.PENDING


def test_a_decision_is_no_input() -> None:
    row = waiting(Asks(name="charge", asked=None, kind=WaitKind.DECISION))
    with pytest.raises(KitaruStateError, match="decide"):
        executions().input(row.exec_id, wait="charge", value=None)
    assert waits_of(row)[0].state is WaitState.OPEN


# --- which one ------------------------------------------------------------------------------


def test_a_wait_goes_by_its_name_its_label_and_parts_of_its_id() -> None:
    row = waiting(Asks(name=None), Asks(name="notes"), Asks(name="tag"))
    by_name = {each.name: each for each in executions().pending_waits(row.exec_id)}
    assert list(by_name) == ["wait_condition:0", "notes", "tag"]
    executions().input(row.exec_id, wait="wait_condition:0", value=True)
    executions().input(row.exec_id, wait=by_name["notes"].wait_id, value=True)
    executions().input(row.exec_id, wait=by_name["tag"].wait_id.rpartition(":")[2][:8], value=True)
    assert {each.state for each in waits_of(row)} == {WaitState.ANSWERED}


def test_a_name_that_fits_several_gets_the_list() -> None:
    row = waiting(Asks(branch="a", question="the notes?"), Asks(branch="b"))
    waits = executions().pending_waits(row.exec_id)
    with pytest.raises(KitaruStateError) as caught:
        executions().input(row.exec_id, wait="approve", value=True)
    assert caught.value.code == "wait-ambiguous"
    assert all(each.wait_id in str(caught.value) for each in waits)
    assert "the notes?" in str(caught.value)
    executions().input(row.exec_id, wait=waits[1].wait_id, value=True)
    executions().input(row.exec_id, wait="approve", value=True)  # the only one left


def test_a_name_that_there_is_not_gets_the_nearest_and_the_list() -> None:
    row = waiting(Asks(), Asks(name="tag"))
    with pytest.raises(KitaruNotFoundError, match="Did you mean 'approve'") as caught:
        executions().input(row.exec_id, wait="aprove", value=True)
    assert caught.value.code == "wait-not-found"
    assert "tag" in str(caught.value)


@pytest.mark.parametrize("wait", ["", "  ", None, 3, "x" * 10_000, "%", "'; drop table waits; --",
                                  "\x1b[2J", "\ud800"])  # fmt: skip
def test_hostile_names_are_refused_and_change_nothing(wait: Any) -> None:
    row = waiting(Asks())
    with pytest.raises((KitaruUsageError, KitaruNotFoundError)) as caught:
        executions().input(row.exec_id, wait=wait, value=True)
    assert len(str(caught.value)) < 1_000
    assert waits_of(row)[0].state is WaitState.OPEN


# --- aborting ---------------------------------------------------------------------------------


def test_an_aborted_wait_cancels_its_execution_and_says_who() -> None:
    row = waiting(Asks(), Asks(name="tag"))
    executions().abort_wait(row.exec_id, wait="approve", by="ada")
    approve, tag = waits_of(row)
    assert (approve.state, approve.closed_by) == (WaitState.ABORTED, "ada")
    assert tag.state is WaitState.ABORTED
    assert state_of(row) is State.CANCELLED
    assert "approve" in (executions().get(row.exec_id).status_reason or "")
    with pytest.raises(KitaruStateError, match="was aborted"):
        executions().input(row.exec_id, wait="approve", value=True)
    with pytest.raises(KitaruStateError):
        executions().abort_wait(row.exec_id, wait="approve")


def test_answer_against_abort_has_one_winner() -> None:
    row = waiting(Asks())
    executions().input(row.exec_id, wait="approve", value=True)
    with pytest.raises(KitaruStateError, match="was answered"):
        executions().abort_wait(row.exec_id, wait="approve")
    assert state_of(row) is State.PENDING


# --- looking ------------------------------------------------------------------------------------


def test_what_an_execution_waits_for_is_a_record(own_store: Path) -> None:
    row = waiting(Asks(question="Publish?", metadata='{"draft": "x"}', asked=Review))
    (wait,) = executions().pending_waits(row.exec_id)
    assert isinstance(wait, kitaru.PendingWait)
    assert (wait.name, wait.question, dict(wait.metadata)) == (
        "approve",
        "Publish?",
        {"draft": "x"},
    )
    assert wait.schema is not None
    assert wait.schema["required"] == ["verdict"]
    assert wait.wait_id.startswith(row.exec_id)
    assert (wait.kind, wait.exec_id, wait.flow_name) == ("input", row.exec_id, "release")
    shown = executions().get(row.exec_id)
    assert shown.pending_wait == wait
    assert shown.status == "waiting"
    assert executions().list(status="waiting")[0].pending_wait == wait


def test_all_that_waits_is_listed_oldest_first() -> None:
    rows = [waiting(Asks(name=f"w{number}")) for number in range(3)]
    executions().input(rows[1].exec_id, wait="w1", value=True)
    found = executions().all_pending_waits(limit=10)
    assert [each.exec_id for each in found] == [rows[0].exec_id, rows[2].exec_id]
