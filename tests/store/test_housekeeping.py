"""Executions are deleted, swept and collected; nothing that is needed goes, whenever it dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kitaru._core.lifecycle import CallSource, State
from kitaru._store.logfiles import LogFiles
from kitaru._store.logs import STDOUT, Chunk
from kitaru._store.protocol import (
    NO_FACTS,
    ArtifactRow,
    Delete,
    DropBlobs,
    ExecutionRow,
    Facts,
    Fenced,
    Finish,
    IntentRow,
    LearntRow,
    MemoryRow,
    Missing,
    NoteRow,
    NotInState,
    Park,
    Record,
    Refused,
    Remember,
    Sweep,
    Write,
)
from kitaru._store.sqlite.store import SqliteStore
from kitaru.housekeeping import Housekeeper

from .worlds import (
    AnyStore,
    Died,
    StillEnv,
    call_row,
    json_payload,
    new_owner,
    opened,
    start_write,
    started,
    wait_row,
)

ONE, TWO = b"1" * 16, b"2" * 16
HOUR = 3_600_000_000


def large(letter: str) -> Any:
    return json_payload('"' + letter * 50_000 + '"')


def everything(letter: str = "a") -> Facts:
    return Facts(
        calls=[call_row(ONE, payload=large(letter)), call_row(TWO)],
        learnt=[LearntRow(ONE, "now", "1")],
        notes=[NoteRow("drift", "changed", 5)],
        waits=[wait_row(ONE, default=large(letter + "w"))],
        intents=[IntentRow(ONE, 1, 0, 0, 0, "c", None, None, None, 0, "", "{}", None, b"i", 1)],
        artifacts=[ArtifactRow(ONE, 1, "draft", "output", "[]", 1, large(letter + "d"))],
    )


def finished(store: AnyStore, exec_id: str, facts: Facts = NO_FACTS, **changes: Any) -> Any:
    owner = new_owner(store, f"lock-{exec_id}").id
    row = started(store, owner, exec_id, **changes).row
    end = Finish(row.id, row.epoch, json_payload("1"), None, (), None, facts, 9_000)
    assert store.apply(end) is State.COMPLETED
    return store.find_execution(exec_id)


def refusal(store: AnyStore, write: Write, kind: type[Refused]) -> None:
    with pytest.raises(Refused) as caught:
        store.apply(write)
    assert type(caught.value) is kind


# --- deleting ---


def test_a_deleted_execution_is_gone_but_for_its_tombstone(store: AnyStore) -> None:
    row = finished(store, "e-1", everything(), key="k")
    assert store.apply(Delete(row.id, row.epoch, 10_000)) == ["e-1"]
    assert store.find_execution("e-1") is None
    assert store.find_by_key(project="demo", flow_id="demo.agent", key="k") is None
    assert store.list_executions(project="demo", limit=9) == []
    assert store.list_artifacts(row.id, limit=9) == []
    stone = store.find_tombstone("e-1")
    assert stone is not None
    assert (stone.status, stone.flow_name, stone.project) == (State.COMPLETED, "agent", "demo")
    assert (stone.created_at, stone.ended_at, stone.deleted_at) == (1_000, 9_000, 10_000)
    assert store.find_tombstone("e-2") is None
    refusal(store, Delete(row.id, row.epoch, 10_000), Missing)


def test_what_is_not_finished_is_not_deleted(store: AnyStore) -> None:
    pending = started(store, None, "e-1").row
    running = started(store, new_owner(store).id, "e-2").row
    parked = started(store, new_owner(store, "p").id, "e-3").row
    store.apply(Park(parked.id, 1, (ONE,), (), None, "input", None, opened(wait_row(ONE)), 5))
    for row in (pending, running, parked._replace(epoch=2)):
        refusal(store, Delete(row.id, row.epoch, 9), NotInState)
        refusal(store, Delete(row.id, row.epoch + 1, 9), Fenced)
        assert store.find_execution(row.exec_id) is not None


def test_children_go_with_the_execution_and_keep_it_while_they_are_unfinished(
    store: AnyStore,
) -> None:
    parent = started(store, new_owner(store).id, "e-1").row
    kin = {"parent_exec_id": "e-1", "parent_call": ONE}
    child = started(store, new_owner(store, "c").id, "c-1", **kin).row
    store.apply(Finish(parent.id, 1, json_payload("1"), None, (), None, NO_FACTS, 9))
    refusal(store, Delete(parent.id, 1, 10), NotInState)
    store.apply(Finish(child.id, 1, json_payload("1"), None, (), None, NO_FACTS, 9))
    assert store.apply(Delete(parent.id, 1, 10)) == ["e-1", "c-1"]


def test_a_child_is_kept_while_its_parent_may_ask_for_it(store: AnyStore) -> None:
    parent = started(store, new_owner(store).id, "e-1").row
    child = finished(store, "c-1", parent_exec_id="e-1", parent_call=ONE)
    refusal(store, Delete(child.id, child.epoch, 10), NotInState)
    store.apply(Finish(parent.id, 1, json_payload("1"), None, (), None, NO_FACTS, 9))
    assert store.apply(Delete(child.id, child.epoch, 10)) == ["c-1"]


def test_the_source_of_a_replay_is_kept_while_the_replay_runs(store: AnyStore) -> None:
    source = finished(store, "e-1")
    replay = started(store, new_owner(store).id, "e-2", original_exec_id="e-1").row
    refusal(store, Delete(source.id, source.epoch, 10), NotInState)
    store.apply(Finish(replay.id, 1, json_payload("1"), None, (), None, NO_FACTS, 9))
    assert store.apply(Delete(source.id, source.epoch, 10)) == ["e-1"]


def test_memory_of_its_own_scope_goes_and_other_memory_stays(store: AnyStore) -> None:
    row = finished(store, "e-1")
    for scope_type, scope in (("execution", "e-1"), ("execution", "e-2"), ("flow", "demo.agent")):
        memory = MemoryRow(scope_type, scope, "a", None, 5, json_payload("1"))
        store.apply(Remember("demo", memory))
    store.apply(Delete(row.id, row.epoch, 10))
    left = [("execution", "e-2"), ("flow", "demo.agent")]
    assert store.list_scopes(project="demo", limit=9) == left


# --- sweeping ---


def test_rows_are_removed_little_by_little_until_none_is_left(store: AnyStore) -> None:
    row = finished(store, "e-1", everything())
    finished(store, "e-2", everything("b"))
    assert store.apply(Sweep("e-1", 9)) == 0, "it is not deleted"
    store.apply(Delete(row.id, row.epoch, 10))
    assert store.list_unswept(limit=9) == ["e-1"]
    assert [store.apply(Sweep("e-1", 3)) for _ in range(4)] == [3, 3, 1, 0]
    assert store.list_unswept(limit=9) == []
    assert store.list_calls(row.id, limit=9) == []
    assert store.list_waits(row.id) == []
    other = store.find_execution("e-2")
    assert other is not None
    assert len(store.list_calls(other.id, limit=9)) == 2
    assert store.count_recorded(since=0) == (1, 2, 1, 2)


def test_numbers_are_never_given_again(store: AnyStore) -> None:
    row = finished(store, "e-1", everything())
    calls = [call.id for call in store.list_calls(row.id, limit=9)]
    (artifact,) = store.list_artifacts(row.id, limit=9)
    store.apply(Delete(row.id, row.epoch, 10))
    store.apply(Sweep("e-1", 99))
    again = finished(store, "e-2", everything("b"))
    assert again.id == row.id + 1
    assert min(call.id for call in store.list_calls(again.id, limit=9)) > max(calls)
    assert store.list_artifacts(again.id, limit=9)[0].id > artifact.id
    assert store.find_artifact(artifact.id) is None
    assert store.count_recorded(since=0) == (1, 2, 1, 2)


def test_a_writer_from_before_meets_nothing_under_its_old_number(store: AnyStore) -> None:
    row = finished(store, "e-1")
    store.apply(Delete(row.id, row.epoch, 10))
    started(store, new_owner(store).id, "e-2")
    refusal(store, Record(row.id, row.epoch, Facts(calls=[call_row(ONE)])), Missing)


def test_a_source_of_reuse_stays_readable_when_it_is_gone(store: AnyStore) -> None:
    row = finished(store, "e-1", everything())
    source = store.list_calls(row.id, limit=9)[0]
    reused = call_row(ONE, source=CallSource.REUSED, reused_from=source.id)
    other = finished(store, "e-2", Facts(calls=[reused]))
    named = f"e-1:{ONE.hex()}"
    assert store.list_calls(other.id, limit=9)[0].reused_from == named
    store.apply(Delete(row.id, row.epoch, 10))
    assert store.list_calls(other.id, limit=9)[0].reused_from == named
    store.apply(Sweep("e-1", 99))
    (call,) = store.list_calls(other.id, limit=9)
    assert (call.reused_from, call.row.payload) == (named, reused.payload)


def test_what_was_deleted_is_not_reused(store: AnyStore) -> None:
    row = finished(store, "e-1", Facts(calls=[call_row(ONE, reuse_key=b"key")]))
    store.apply(Delete(row.id, row.epoch, 10))
    assert store.find_reusable(b"key", execution=99, before=None, since=None) is None


def test_of_the_newest_call_only_its_number_is_kept(sqlite_store: SqliteStore) -> None:
    row = finished(sqlite_store, "e-1", everything())
    sqlite_store.apply(Delete(row.id, row.epoch, 10))
    sqlite_store.apply(Sweep("e-1", 99))
    rows = sqlite_store._database.read("select execution, data, inputs from calls", ())
    assert rows == [(0, b"", None)]
    finished(sqlite_store, "e-2", everything("b"))
    third = finished(sqlite_store, "e-3", everything("c"))
    sqlite_store.apply(Delete(third.id, third.epoch, 10))
    sqlite_store.apply(Sweep("e-3", 99))
    rows = sqlite_store._database.read("select execution from calls order by id", ())
    assert rows == [(2,), (2,), (0,)]


# --- retention ---


def test_what_was_kept_long_enough_is_listed_in_the_order_of_its_end(store: AnyStore) -> None:
    for name, seconds in (("e-1", 60), ("e-2", None), ("e-3", 30), ("e-4", 30)):
        finished(store, name, keep_seconds=seconds)
    finished(store, "c-1", keep_seconds=1, parent_exec_id="e-2", parent_call=ONE)
    finished(store, "c-2", keep_seconds=1, parent_exec_id="gone", parent_call=ONE)
    started(store, None, "e-5", keep_seconds=1)

    def expired(at: int, **more: Any) -> list[str]:
        return [row.exec_id for row in store.list_expired(at=at, limit=9, **more)]

    assert expired(30_008_999) == ["c-2"]
    assert expired(30_009_000) == ["c-2", "e-3", "e-4"]
    assert expired(90_000_000) == ["c-2", "e-3", "e-4", "e-1"]
    assert expired(90_000_000, after=(30_009_000, 3)) == ["e-4", "e-1"]
    assert len(store.list_expired(at=90_000_000, limit=1)) == 1


# --- large values ---


def names_of_blobs(folder: Path) -> set[str]:
    return {a.name + b.name for a in (folder / "blobs").iterdir() for b in a.iterdir()}


def age_blobs(folder: Path, at: int) -> None:
    for path in (folder / "blobs").rglob("*"):
        os.utime(path, ns=(at * 1000, at * 1000))


def test_only_what_no_row_names_and_is_old_enough_is_stray(
    sqlite_store: SqliteStore, tmp_path: Path, env: StillEnv
) -> None:
    row = finished(sqlite_store, "e-1", everything())
    finished(sqlite_store, "e-2", Facts(calls=[call_row(ONE, payload=large("a"))]))
    sqlite_store.apply(Delete(row.id, row.epoch, 10))
    sqlite_store.apply(Sweep("e-1", 99))
    age_blobs(tmp_path, env.at)
    assert sqlite_store.list_stray_blobs(before=env.at) == []
    stray = dict(sqlite_store.list_stray_blobs(before=env.at + 1))
    gone = {large("aw").digest, large("ad").digest}
    assert set(stray) == gone
    assert min(stray.values()) > 0
    named = large("a").digest
    assert set(sqlite_store.apply(DropBlobs((*stray, named)))) == gone
    assert names_of_blobs(tmp_path) == {named.hex()}


@pytest.mark.parametrize(
    "name", ["inputs", "result", "failure", "call", "default", "answer", "artifact", "memory"]
)
def test_a_value_is_kept_wherever_it_is_named(
    sqlite_store: SqliteStore, tmp_path: Path, name: str
) -> None:
    from kitaru._store.protocol import Answer

    value = large("v")
    row = started(
        sqlite_store, new_owner(sqlite_store).id, inputs=value if name == "inputs" else large("i")
    ).row
    facts = {
        "call": Facts(calls=[call_row(ONE, payload=value)]),
        "default": opened(wait_row(TWO, default=value)),
        "artifact": Facts(artifacts=[ArtifactRow(ONE, 1, "draft", "output", "[]", 1, value)]),
        "memory": Facts(memories=[MemoryRow("flow", "f", "a", ONE, 1, value)]),
        "answer": opened(wait_row(ONE)),
    }.get(name, NO_FACTS)
    sqlite_store.apply(Record(row.id, 1, facts))
    if name == "answer":
        sqlite_store.apply(Answer(row.id, ONE, value, "ada", 5))
    if name in ("result", "failure"):
        ends = {"result": None, "failure": None, name: value}
        sqlite_store.apply(
            Finish(row.id, 1, ends["result"], ends["failure"], (), None, NO_FACTS, 9)
        )
    assert sqlite_store.list_stray_blobs(before=1 << 60) == []
    assert sqlite_store.apply(DropBlobs((value.digest,))) == []
    assert value.digest.hex() in names_of_blobs(tmp_path)


class Between(StillEnv):
    """Does something between the file of a large value and the transaction that names it."""

    do: Any = None

    def crash_point(self, name: str) -> None:
        super().crash_point(name)
        if name == "before_begin" and self.do is not None:
            do, self.do = self.do, None
            do()


@pytest.mark.parametrize("what", ["call", "artifact", "start"])
def test_a_writer_never_names_a_file_that_was_dropped_meanwhile(tmp_path: Path, what: str) -> None:
    env = Between()
    store = SqliteStore.open(str(tmp_path), env=env, project="demo")
    other = SqliteStore.open(str(tmp_path), env=StillEnv(1), project="demo")
    row = started(store, new_owner(store).id).row
    value = large("v")
    write: Write = {
        "call": Record(row.id, 1, Facts(calls=[call_row(ONE, payload=value)])),
        "artifact": Record(row.id, 1, everything("v")),
        "start": start_write("e-2", None, inputs=value),
    }[what]
    # The file is there already, old and named by nobody: the writer leaves it as it is.
    store._blobs.keep(value)
    dropped: list[bytes] = []
    env.do = lambda: dropped.extend(other.apply(DropBlobs((value.digest,))))
    store.apply(write)
    assert dropped == [value.digest]
    assert other._blobs.find(value.digest) == value.data
    assert other.apply(DropBlobs((value.digest,))) == []
    store.close()
    other.close()


def test_what_somebody_died_writing_is_removed_once_it_is_old(
    sqlite_store: SqliteStore, tmp_path: Path, env: StillEnv
) -> None:
    finished(sqlite_store, "e-1", everything())
    left = next((tmp_path / "blobs").iterdir()) / ".0123.tmp"
    left.write_bytes(b"half")
    age_blobs(tmp_path, env.at)
    assert sqlite_store.drop_leftovers(before=env.at) == 0
    assert sqlite_store.drop_leftovers(before=env.at + 1) == 1
    assert not left.exists()


# --- collecting, killed anywhere ---


class Mortal(StillEnv):
    """Dies at the n-th crash point that it comes to."""

    left = 1 << 60

    def crash_point(self, name: str) -> None:
        super().crash_point(name)
        self.left -= 1
        if not self.left:
            raise Died(name)


def fill(store: SqliteStore, folder: Path, env: StillEnv) -> None:
    """Two past their time, one of them with a child; others that must stay."""
    finished(store, "old", everything("a"), keep_seconds=60)
    parent = started(store, new_owner(store, "p").id, "parent", keep_seconds=60).row
    finished(store, "child", everything("b"), parent_exec_id="parent", parent_call=ONE)
    store.apply(Finish(parent.id, 1, json_payload("1"), None, (), None, NO_FACTS, 9_000))
    finished(store, "young", everything("c"), keep_seconds=1 << 40)
    finished(store, "kept", everything("d"))
    busy = started(store, new_owner(store, "r").id, "busy", keep_seconds=1).row
    store.apply(Record(busy.id, 1, everything("e")))
    logs = logs_of(folder)
    for exec_id in ("old", "child", "young"):
        logs.append(exec_id, 1, [Chunk(1, STDOUT, "said")])
        logs.close(exec_id)
    age_blobs(folder, env.at - 2 * HOUR)


def logs_of(folder: Path) -> LogFiles:
    return LogFiles(str(folder), max_bytes=1 << 20, max_folder_bytes=1 << 24)


def state_of(store: SqliteStore, folder: Path) -> dict[str, Any]:
    ids = ["old", "parent", "child", "young", "kept", "busy"]
    rows = {exec_id: store.find_execution(exec_id) for exec_id in ids}
    return {
        "there": [exec_id for exec_id, row in rows.items() if row is not None],
        "calls": {e: store.list_calls(r.id, limit=9) for e, r in rows.items() if r is not None},
        "stones": [exec_id for exec_id in ids if store.find_tombstone(exec_id)],
        "unswept": store.list_unswept(limit=9),
        "blobs": names_of_blobs(folder),
        "logs": sorted(name.partition(".")[0] for name in os.listdir(folder / "logs")),
    }


def collected(folder: Path, env: StillEnv) -> tuple[SqliteStore, Any]:
    store = SqliteStore.open(str(folder), env=env, project="demo")
    keeper = Housekeeper(store, logs_of(folder), env)
    return store, keeper.collect()


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    env = StillEnv()
    store = SqliteStore.open(str(tmp_path), env=env, project="demo")
    fill(store, tmp_path, env)
    store.close()
    return tmp_path


def test_a_collection_removes_what_is_past_its_time_and_nothing_else(filled: Path) -> None:
    store, found = collected(filled, StillEnv())
    assert (found.executions, found.kept) == (("old", "parent", "child"), 0)
    assert found.blobs == 6
    assert found.bytes > 0
    state = state_of(store, filled)
    assert state["there"] == ["young", "kept", "busy"]
    assert state["stones"] == ["old", "parent", "child"]
    assert (state["unswept"], state["logs"]) == ([], ["young"])
    assert all(len(calls) == 2 for calls in state["calls"].values())
    again = Housekeeper(store, logs_of(filled), StillEnv()).collect()
    assert again == ((), 0, 0, 0, 0, False)
    store.close()


def test_a_dry_run_tells_what_would_go_and_removes_nothing(filled: Path) -> None:
    store = SqliteStore.open(str(filled), env=StillEnv(), project="demo")
    before = state_of(store, filled)
    found = Housekeeper(store, logs_of(filled), StillEnv()).collect(dry_run=True)
    assert found.executions == ("old", "parent", "child")
    assert found.is_dry_run
    assert state_of(store, filled) == before
    store.close()


def test_a_collection_may_be_killed_anywhere_and_the_next_one_ends_it(tmp_path: Path) -> None:
    def fresh(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        store = SqliteStore.open(str(folder), env=StillEnv(), project="demo")
        fill(store, folder, StillEnv())
        store.close()
        return folder

    whole = fresh("whole")
    env = StillEnv()
    store, _ = collected(whole, env)
    expected = state_of(store, whole)
    store.close()
    points = len(env.crash_points)
    assert points > 20
    for number in range(1, points + 1):
        folder = fresh(f"cut-{number}")
        mortal = Mortal()
        mortal.left = number
        with pytest.raises(Died):
            collected(folder, mortal)
        store = SqliteStore.open(str(folder), env=StillEnv(), project="demo")
        busy = state_of(store, folder)
        assert {"young", "kept", "busy"} <= set(busy["there"])
        assert all(len(busy["calls"][name]) == 2 for name in ("young", "kept", "busy"))
        store.close()
        store, _ = collected(folder, StillEnv())
        assert state_of(store, folder) == expected, f"killed at {mortal.crash_points[-1]}"
        store.close()


def test_what_is_retried_meanwhile_is_kept(sqlite_store: SqliteStore, env: StillEnv) -> None:
    row: ExecutionRow = finished(sqlite_store, "e-1", keep_seconds=1)

    class Late(Housekeeper):
        def _expired(self) -> Iterator[ExecutionRow]:
            yield row._replace(epoch=row.epoch - 1)

    found = Late(sqlite_store, None, env).collect()
    assert (found.executions, found.kept) == ((), 1)
    assert sqlite_store.find_execution("e-1") == row
