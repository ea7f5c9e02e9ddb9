"""docs/store.md tells the truth: its queries run, its tables and views are all there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kitaru._store.protocol import Finish, NoteRow, Park, Record, TryAgain
from kitaru._store.sqlite.store import SqliteStore

from .worlds import (
    call_row,
    facts,
    failed_call,
    json_payload,
    new_owner,
    opened,
    started,
    wait_row,
)

PAGE = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def filled(sqlite_store: SqliteStore) -> SqliteStore:
    owner = new_owner(sqlite_store).id
    row = started(sqlite_store, owner).row
    started(sqlite_store, owner, "e-2")
    asking = started(sqlite_store, owner, "e-3").row
    sqlite_store.apply(Park(asking.id, 1, (), (), None, "input", None, opened(wait_row(b"w")), 9))
    recorded = facts(failed_call(b"1"), call_row(b"2", kind="llm_call"))
    recorded = recorded._replace(notes=[NoteRow("drift", "topic changed", 5)])
    sqlite_store.apply(Record(row.id, 1, recorded))
    failure = json_payload('{"type":"ValueError"}')
    sqlite_store.apply(TryAgain(row.id, 1, failure, [b"1"], facts(), 2_000_000))
    end = Finish(row.id, 1, json_payload('"done"'), None, (), None, facts(), 3_500_000)
    sqlite_store.apply(end)
    return sqlite_store


@pytest.mark.parametrize("sql", EXAMPLES)
def test_an_example_runs_and_finds_something(filled: SqliteStore, sql: str) -> None:
    assert filled._database.read(sql, ()) != []


def test_the_page_names_every_table_and_view_and_no_other(filled: SqliteStore) -> None:
    rows = filled._database.read(
        "select name from sqlite_schema where type in ('table', 'view')"
        " and name not like 'sqlite_%'",
        (),
    )
    there = {name for (name,) in rows}
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == there - {"execution_rows"}
    assert "`execution_rows`" in PAGE


def test_the_page_names_columns_that_the_views_have(filled: SqliteStore) -> None:
    listed = re.findall(r"^\| `(\w+_view)` \|[^|]*\| `([^`]*)` \|", PAGE, re.MULTILINE)
    assert len(listed) == 9
    for view, columns in listed:
        rows = filled._database.read("select name from pragma_table_info(?1)", (view,))
        assert set(columns.split(", ")) <= {name for (name,) in rows}, view


def test_a_person_reads_times_values_and_states(filled: SqliteStore) -> None:
    rows = filled._database.read(
        "select status, started_at, ended_at, seconds, inputs, result from executions_view"
        " where exec_id = 'e-1'",
        (),
    )
    assert rows == [
        (
            "completed",
            "1970-01-01T00:00:00.001Z",
            "1970-01-01T00:00:03.500Z",
            3.499,
            '{"topic":"rivers"}',
            '"done"',
        )
    ]
    states = filled._database.read("select state from checkpoints_view order by call", ())
    assert states == [("reopened",), ("completed",)]
