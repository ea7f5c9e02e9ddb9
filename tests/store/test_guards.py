"""The guards in the SQL and the table of transitions say the same."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import kitaru._store.sqlite as sqlite
from kitaru._core.lifecycle import (
    SUSPECT_DEATHS,
    TRANSITIONS,
    CallSource,
    CallState,
    Event,
    State,
    WaitKind,
    WaitState,
    states_before,
)
from kitaru._store.queries import parse
from kitaru._store.reference.tables import OWNED

FOLDER = os.path.dirname(sqlite.__file__)
GUARD = re.compile(r"status in \(([^)]*)\)")
TARGET = re.compile(r"set status = '(\w+)'")


def read(*parts: str) -> str:
    with open(os.path.join(FOLDER, *parts), encoding="utf-8") as file:
        return file.read()


def blocks() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in sorted(os.listdir(os.path.join(FOLDER, "queries"))):
        for block in read("queries", file).split("-- name: ")[1:]:
            found[block.split("\n", 1)[0].strip()] = block
    return found


def states_in(text: str) -> frozenset[State]:
    return frozenset(State(word) for word in re.findall(r"'(\w+)'", text))


def event_of(block: str) -> str | None:
    found = re.search(r"^-- event: (.+)$", block, re.MULTILINE)
    return found[1] if found else None


TRANSITION_BLOCKS = {name: block for name, block in blocks().items() if TARGET.search(block)}


def test_every_query_that_sets_a_status_names_its_event() -> None:
    assert len(TRANSITION_BLOCKS) == 15
    for name, block in TRANSITION_BLOCKS.items():
        assert event_of(block) in {event.value for event in Event}, name


@pytest.mark.parametrize("name", sorted(TRANSITION_BLOCKS))
def test_a_transition_leads_where_the_table_says_from_where_it_says(name: str) -> None:
    block = TRANSITION_BLOCKS[name]
    event = Event(event_of(block) or "none")
    (guard,) = GUARD.findall(block)
    (target,) = TARGET.findall(block)
    assert states_in(guard) <= states_before(event), name
    for state in states_in(guard):
        assert TRANSITIONS[state][event] == target, name
    assert "epoch = ?2" in block, f"{name} is not conditioned on the epoch"


@pytest.mark.parametrize("event", list(Event))
def test_every_state_that_an_event_may_come_in_is_guarded_for_by_some_query(event: Event) -> None:
    guarded: set[State] = set()
    for block in TRANSITION_BLOCKS.values():
        if event_of(block) == event.value:
            guarded |= states_in(GUARD.findall(block)[0])
    assert guarded == states_before(event)


def test_every_write_of_an_owner_is_guarded_by_the_states_that_have_one() -> None:
    owned = {name: block for name, block in blocks().items() if event_of(block) == "none (owned)"}
    adding = {name for name in blocks() if name.startswith("add_")} - {"add_attempt"}
    assert len(adding) == 9
    assert adding | {"set_metadata", "is_owned"} == set(owned)
    for name, block in owned.items():
        (guard,) = GUARD.findall(block)
        assert states_in(guard) == OWNED, name
        assert "epoch = ?2" in block, name


def test_every_statement_that_changes_an_execution_is_guarded() -> None:
    # What stands here needs no epoch of its own: it follows a guarded
    # statement in its transaction, or concerns owners alone.
    unguarded = {"add_attempt", "reopen_call", "register_owner", "declare_dead", "create_meta"}
    unguarded |= {"beat", "reap"}
    # Of no execution: what moves a schedule on is held by test_schedules.
    unguarded |= set(parse(read("queries", "schedules.sql")))
    unguarded |= {"set_schema_version", "set_root", "start_execution"}
    # Of no execution, or of one that is deleted.
    unguarded |= {"remember", "forget", "forget_execution", "count_deleted", "keep_sources"}
    unguarded |= {name for name in blocks() if name.startswith("sweep_")}
    unguarded |= {"empty_call", "mark_swept"}
    # Slots follow the guarded statement that takes or lets go of their execution.
    unguarded |= {"take_slots", "give_back_slots", "drop_slots"}
    # Of no execution.
    unguarded |= {"set_limit", "drop_limit", "enlist", "mark_draining", "strike_off"}
    # They come with their execution.
    unguarded |= {name for name in blocks() if name.startswith("import_")}
    for name, block in blocks().items():
        statement = block.split("\n", 1)[1]
        if re.search(r"^(insert|update|delete)", statement, re.MULTILINE) and name not in unguarded:
            assert GUARD.search(statement) or closes_a_wait(statement), name


def closes_a_wait(statement: str) -> bool:
    """Guarded by the wait's own state: the first one wins, whoever owns the execution."""
    return bool(re.search(r"^update waits\nset state = '\w+'", statement, re.MULTILINE)) and bool(
        re.search(r"execution = \?1 .*state = '(open|expired)'", statement, re.DOTALL)
    )


def test_a_wait_is_closed_only_while_it_is_open() -> None:
    closing = {
        name: re.search(r"set state = '(\w+)'", block)
        for name, block in blocks().items()
        if block.find("update waits") >= 0 and name != "reopen_wait"
    }
    closed = {name: found[1] for name, found in closing.items() if found}
    assert closed == {
        "answer_wait": WaitState.ANSWERED,
        "expire_wait": WaitState.EXPIRED,
        "abort_waits": WaitState.ABORTED,
    }
    for name in closed:
        assert "state = 'open'" in blocks()[name].split("where", 1)[1], name


def test_the_unfinished_index_and_its_query_list_the_same_states() -> None:
    schema = read("migrations", "0009_queues.sql")
    indexes = schema[schema.index("create index executions_unfinished") :]
    index = re.findall(r"where (status in \([^)]*\))", indexes)[0]
    assert index in blocks()["list_unfinished"]
    assert states_in(index) == {State.PENDING, State.RUNNING, State.CANCELLING}


def test_the_checks_of_the_schema_list_what_the_tables_in_code_list() -> None:
    schema = read("migrations", "0001_initial.sql")
    (statuses,) = re.findall(r"status text not null check \(status in \(([^)]*)\)\)", schema)
    assert states_in(statuses) == frozenset(State)
    (owned,) = re.findall(r"\(owner is not null\) = \(status in \(([^)]*)\)\)", schema)
    assert states_in(owned) == OWNED
    (states,) = re.findall(r"check \(state in \(([^)]*)\)\)", schema)
    assert set(re.findall(r"'(\w+)'", states)) == {state.value for state in CallState}
    control = read("migrations", "0005_control.sql")
    (waits,) = re.findall(r"state text not null check \(state in \(([^)]*)\)\)", control)
    assert set(re.findall(r"'(\w+)'", waits)) == {state.value for state in WaitState}
    (kinds,) = re.findall(r"check \(kind in \(([^)]*)\)\)", control)
    assert set(re.findall(r"'(\w+)'", kinds)) == {kind.value for kind in WaitKind}
    (sources,) = re.findall(r"check \(source in \(([^)]*)\)\)", schema)
    assert set(re.findall(r"'(\w+)'", sources)) == {source.value for source in CallSource}


def test_the_queries_of_queues_part_suspects_where_the_lifecycle_does() -> None:
    for folder in ("sqlite", "postgres"):
        text = (Path(FOLDER).parent / folder / "queries" / "queues.sql").read_text()
        said = set(re.findall(r"deaths (<|>=) (\d+)", text))
        assert said == {("<", str(SUSPECT_DEATHS)), (">=", str(SUSPECT_DEATHS))}, folder
