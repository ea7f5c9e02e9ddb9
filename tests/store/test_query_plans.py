"""No query over the tables that grow reads more of them than it has to."""

from __future__ import annotations

import re

import pytest

from kitaru._store.sqlite.store import SqliteStore

WHOLE_BLOBS = "SCAN calls USING INDEX blobs_of_calls"
"""Who collects blobs reads all names of theirs, and no row."""


INDEX_OF = {
    "reopen_call": "calls_by_identity",
    "find_checkpoint": "calls_by_identity",
    "load_outcomes": "calls_by_identity",
    "list_calls": "calls_by_identity",
    "list_past": "calls_by_identity",
    "list_places": "calls_by_identity",
    "sample_arguments": "calls_by_identity",
    "list_samples": "calls_by_identity",
    "count_outcomes": "COVERING INDEX calls_by_identity",
    "count_recorded": "COVERING INDEX calls_by_identity",
    "first_from": "COVERING INDEX sqlite_autoindex_executions",
    "find_reusable": "calls_by_reuse_key",
    "list_unfinished": "executions_unfinished",
    "execution_by_key": "executions_by_key",
    "list_due": "executions_waiting (project=? AND due_at<?)",
    "next_due": "executions_waiting (project=? AND due_at>?)",
    "list_owned": "executions_owned (owner=?)",
    "list_served": "executions_served (home=?)",
    "list_open_waits": "SCAN w USING INDEX waits_by_opening",
    "list_children": "executions_by_parent (parent_exec_id=?)",
    "child_by_call": "executions_by_parent (parent_exec_id=? AND parent_call=?)",
    "family": "executions_by_parent (parent_exec_id=?)",
    "waiting_epoch": "sqlite_autoindex_executions",
    "child_is_finished": "sqlite_autoindex_executions",
    "abort_waits": "waits_open (execution=?)",
    "complete": "waits_open (execution=?)",
    "wait_is_closed": "sqlite_autoindex_waits",
    "answer_wait": "sqlite_autoindex_waits",
    "list_waits": "(execution=?)",
    "list_intents": "(execution=?)",
    "list_artifacts": "(execution=?)",
    "list_lent_artifacts": "sqlite_autoindex_artifacts_1 (execution=? AND call=? AND attempt=?",
    "remember": "(project=? AND scope_type=? AND scope=? AND key=?)",
    "add_memory": "(project=? AND scope_type=? AND scope=? AND key=?)",
    "find_memory": "(project=? AND scope_type=? AND scope=? AND key=?)",
    "list_memories": "(project=? AND scope_type=? AND scope=?)",
    "list_versions": "(project=? AND scope_type=? AND scope=? AND key=?)",
    "list_scopes": "(project=?)",
    "list_expired": "executions_kept",
    "list_claimable": "INDEX executions_queued (project=? AND flow_id=? AND queue=? "
    "AND priority=? AND <expr><?)",
    "oldest_suspect": "executions_suspect (project=? AND flow_id=?)",
    "count_owned": "executions_owned",
    "list_queues": "COVERING INDEX executions_queued (project=?)",
    "count_executions": "COVERING INDEX executions_by_status (project=?)",
    "list_by_status": "INDEX executions_by_status (project=? AND status=?",
    "signs": "INDEX executions_queued (project=? AND flow_id=? AND queue=? AND priority=?)",
    "list_interrupted": "executions_unfinished (project=? AND flow_id=? AND status=?)",
    "take_slots": "(project=? AND name=?)",
    "give_back_slots": "slots_by_execution (execution=?)",
    "list_limits": "(project=? AND name=?)",
    "claim_pending": "(project=? AND name=?)",
    "is_needed": "executions_by_original (original_exec_id=?)",
    "pick_calls": "calls_by_identity (execution=?)",
    "keep_sources": "calls_by_source (reused_from=?)",
    "sweep_nobodys_calls": "calls_by_identity (execution=?)",
    "list_unswept": "tombstones_unswept",
    "reap": "owners_alive",
    "list_named_blobs": WHOLE_BLOBS,
}


def plan(store: SqliteStore, name: str) -> str:
    sql = getattr(store._queries, name)
    count = max((int(number) for number in re.findall(r"\?(\d+)", sql)), default=0)
    rows = store._database.read("explain query plan " + sql, (None,) * count)
    return "\n".join(str(row[3]) for row in rows)


def test_what_every_process_asks_at_each_poll_scans_no_table(sqlite_store: SqliteStore) -> None:
    lines = plan(sqlite_store, "signs").splitlines()
    scans = {line for line in lines if line.startswith("SCAN") and "VIRTUAL" not in line}
    # Of the owners those that live, which are few.
    owners = "SCAN owners USING INDEX owners_alive"
    assert scans <= {"SCAN queues", "SCAN lanes", "SCAN CONSTANT ROW", owners}
    assert any("executions_owned (owner=?)" in line for line in lines)
    assert any("executions_served (home=?)" in line for line in lines)
    assert any("executions_suspect (project=? AND flow_id=?)" in line for line in lines)


@pytest.mark.parametrize("name", sorted(INDEX_OF))
def test_a_query_uses_its_index(sqlite_store: SqliteStore, name: str) -> None:
    assert INDEX_OF[name] in plan(sqlite_store, name)


def test_no_query_scans_the_calls(sqlite_store: SqliteStore) -> None:
    names = [name for name in vars(sqlite_store._queries) if not name.startswith("_")]
    about_calls = [name for name in names if "calls" in getattr(sqlite_store._queries, name)]
    assert len(about_calls) >= 10
    for name in about_calls:
        lines = plan(sqlite_store, name).replace(WHOLE_BLOBS, "")
        assert not re.search(r"SCAN (calls|c)\b", lines), name


def test_calls_are_read_in_the_order_of_their_ids_without_sorting(
    sqlite_store: SqliteStore,
) -> None:
    reads = ("load_outcomes", "load_payloads", "load_seconds", "list_samples", "list_past")
    for name in (*reads, "find_reusable"):
        assert "TEMP B-TREE" not in plan(sqlite_store, name), name


def test_a_page_of_calls_sorts_ids_and_not_rows(sqlite_store: SqliteStore) -> None:
    lines = plan(sqlite_store, "list_calls").splitlines()
    assert sum("TEMP B-TREE" in line for line in lines) == 1
    assert lines[lines.index("USE TEMP B-TREE FOR ORDER BY") - 1].startswith(
        "SEARCH calls USING COVERING INDEX"
    )
