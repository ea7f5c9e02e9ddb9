"""A copy of a store in use is whole, read back, and a kill leaves none that looks it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import apsw
import pytest

import kitaru._store.sqlite.store as module
from kitaru._core.lifecycle import State
from kitaru._store.migrations import Migration, load_migrations
from kitaru._store.protocol import Delete, DropBlobs, Facts, Record, Sweep
from kitaru._store.sqlite.backup import copy_database
from kitaru._store.sqlite.database import connect
from kitaru._store.sqlite.store import SqliteStore
from kitaru.errors import KitaruUsageError

from .test_housekeeping import ONE, TWO, Mortal, everything, finished, large
from .worlds import Died, StillEnv, call_row, new_owner, run_sql, started


def opened_copy(folder: Path) -> SqliteStore:
    return SqliteStore.open(str(folder), env=StillEnv(5), project="other")


def test_a_backup_is_a_store_with_everything_in_it(
    sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    row = finished(sqlite_store, "e-1", everything())
    made = sqlite_store.back_up(str(tmp_path / "copies" / "one"))
    assert (made.values, made.damaged) == (3, ())
    assert made.bytes > 0
    assert stat.S_IMODE(os.stat(made.folder).st_mode) == 0o700
    assert sorted(os.listdir(made.folder)) == ["blobs", "kitaru.db"]
    copy = opened_copy(Path(made.folder))
    assert copy.project == "demo"
    assert copy.find_execution("e-1") == row
    assert copy.list_calls(row.id, limit=9) == sqlite_store.list_calls(row.id, limit=9)
    assert copy.list_waits(row.id) == sqlite_store.list_waits(row.id)
    assert copy.examine(seconds=None)["problems"] == []
    copy.close()


def test_a_folder_that_is_there_is_not_written_to(
    sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(KitaruUsageError, match="is there already"):
        sqlite_store.back_up(str(tmp_path / "there"))
    assert os.listdir(tmp_path / "there") == []


class Busy(StillEnv):
    """Lets somebody do something at a point of the backup."""

    def __init__(self, point: str) -> None:
        super().__init__()
        self.point = point
        self.do: Any = None

    def crash_point(self, name: str) -> None:
        super().crash_point(name)
        if name == self.point and self.do is not None:
            do, self.do = self.do, None
            do()


@pytest.mark.parametrize("point", ["copy_begun", "value_copied", "database_copied"])
def test_a_backup_is_whole_whatever_is_written_and_removed_meanwhile(
    tmp_path: Path, point: str
) -> None:
    env = Busy(point)
    (tmp_path / "store").mkdir()
    store = SqliteStore.open(str(tmp_path / "store"), env=env, project="demo")
    old = finished(store, "old", everything("a"))
    running = started(store, new_owner(store, "r").id, "busy").row

    def meanwhile() -> None:
        new = Facts(calls=[call_row(TWO, payload=large("new"))])
        store.apply(Record(running.id, 1, new))
        store.apply(Delete(old.id, old.epoch, 5))
        store.apply(Sweep("old", 99))
        digests = [large(name).digest for name in ("a", "aw", "ad")]
        assert len(store.apply(DropBlobs(digests))) == 3

    env.do = meanwhile
    made = store.back_up(str(tmp_path / "copy"))
    assert env.do is None
    assert made.damaged == ()
    copy = opened_copy(Path(made.folder))
    for exec_id in ("old", "busy"):
        row = copy.find_execution(exec_id)
        for call in copy.list_calls(row.id, limit=9) if row is not None else ():
            assert copy.load_payload(call.id) == call.row.payload
    # What came after the snapshot is not in it, what went after it is.
    assert (copy.find_execution("old") is not None) == (point == "database_copied")
    copy.close()
    store.close()


def test_a_snapshot_is_held_while_others_go_on_writing(
    sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    for number in range(30):
        finished(sqlite_store, f"e-{number}", Facts(calls=[call_row(ONE)]))
    more = iter(range(100))
    connection = connect(str(tmp_path / "kitaru.db"), cache_kib=64)
    copy_database(
        connection,
        str(tmp_path / "copy.db"),
        lambda _: finished(sqlite_store, f"late-{next(more)}") and None,
    )
    connection.close()
    copy = apsw.Connection(str(tmp_path / "copy.db"), flags=apsw.SQLITE_OPEN_READONLY)
    assert copy.execute("select count(*) from executions").fetchall() == [(30,)]
    assert copy.execute("pragma integrity_check").fetchall() == [("ok",)]
    copy.close()
    assert sqlite_store.count_executions(project="demo")[State.COMPLETED] > 30


def test_values_that_were_lost_before_are_told_and_the_rest_is_copied(
    sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    finished(sqlite_store, "e-1", everything())
    lost, damaged = large("a").digest, large("aw").digest
    os.unlink(sqlite_store._blobs.path(lost))
    Path(sqlite_store._blobs.path(damaged)).write_bytes(b"x")
    made = sqlite_store.back_up(str(tmp_path / "copy"))
    assert set(made.damaged) == {lost.hex(), damaged.hex()}
    assert made.values == 1


def test_a_backup_that_is_killed_anywhere_leaves_no_folder_that_looks_whole(
    tmp_path: Path,
) -> None:
    (tmp_path / "store").mkdir()
    mortal = Mortal()
    store = SqliteStore.open(str(tmp_path / "store"), env=mortal, project="demo")
    row = finished(store, "e-1", everything())
    for number in range(1, 99):
        target = tmp_path / f"copy-{number}"
        mortal.left = number
        try:
            store.back_up(str(target))
            break
        except Died as died:
            where = str(died)
        assert target.exists() == (where == "copy_in_place")
    assert number == 3 + 5, "three values and four more points"
    copies = [path for path in tmp_path.iterdir() if path.suffix != ".partial"]
    for path in copies:
        if path.name != "store":
            copy = opened_copy(path)
            assert copy.find_execution("e-1") == row
            copy.close()
    mortal.left = 1 << 60
    assert store.back_up(str(tmp_path / "at last")).values == 3
    assert run_sql(store, "pragma integrity_check") == [("ok",)]
    store.close()


def test_an_upgrade_says_what_it_came_from_and_where_the_copy_is(
    sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    assert sqlite_store.info()["upgraded_from"] is None
    sqlite_store.close()
    today = load_migrations(os.path.join(os.path.dirname(module.__file__), "migrations"))
    newer = [*today, Migration(today[-1].version + 1, "create table more (one integer)")]
    again = SqliteStore.open(str(tmp_path), env=StillEnv(), project="demo", migrations=newer)
    info = again.info()
    assert info["upgraded_from"] == today[-1].version
    assert os.path.exists(info["backup"])
    again.close()
