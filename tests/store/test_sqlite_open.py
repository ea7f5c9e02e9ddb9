"""Making, recognising, refusing and upgrading the SQLite file."""

from __future__ import annotations

import gzip
import itertools
import os
import stat
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from kitaru._store.migrations import Migration, load_migrations
from kitaru._store.sqlite import database, migrate
from kitaru._store.sqlite.database import APPLICATION_ID, check_library
from kitaru._store.sqlite.store import SqliteStore
from kitaru.errors import KitaruBackendError

from .worlds import Died, StillEnv, new_owner, run_sql, started

FIRST = load_migrations(os.path.join(os.path.dirname(migrate.__file__), "migrations"))
TODAY = FIRST[-1].version
SECOND = Migration(TODAY + 1, "alter table notes add column colour text;")
THIRD = Migration(TODAY + 2, "create table colours (name text) strict;")


def open_store(folder: Path, env: StillEnv | None = None, **options: object) -> SqliteStore:
    options.setdefault("project", "demo")
    return SqliteStore.open(str(folder), env=env or StillEnv(), **options)  # type: ignore[arg-type]


def test_files_and_folders_are_for_their_owner_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    started(store, new_owner(store).id)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"kitaru.db", "kitaru.db-wal", "kitaru.db-shm"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    store.close()


def test_every_connection_is_durable(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert run_sql(store, "pragma synchronous") == [(2,)]
    assert run_sql(store, "pragma journal_mode") == [("wal",)]
    assert run_sql(store, "pragma mmap_size") == [(0,)]
    assert run_sql(store, "pragma application_id") == [(APPLICATION_ID,)]
    assert store._database.read("pragma synchronous", ()) == [(2,)]
    assert store._database.read("pragma query_only", ()) == [(1,)]
    store.close()


def test_a_check_of_a_store_reads_its_settings_back_and_finds_damage(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for number in range(40):
        started(store, new_owner(store, f"lock-{number}").id, f"e-{number}")
    found = store.examine(seconds=None)
    assert (found["journal_mode"], found["synchronous"], found["problems"]) == ("wal", 2, [])
    store.close()
    connection = apsw.Connection(str(tmp_path / "kitaru.db"))
    root = connection.execute(
        "select rootpage from sqlite_schema where name = 'sqlite_autoindex_owners_1'"
    ).fetchall()[0][0]
    connection.close()
    with open(tmp_path / "kitaru.db", "r+b") as file:
        file.seek((root - 1) * database.PAGE_BYTES)
        file.write(b"\xa5" * database.PAGE_BYTES)
    store = open_store(tmp_path)
    assert store.examine(seconds=None)["problems"] != []
    store.close()


def test_a_check_that_takes_too_long_stops_and_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    run_sql(store, "create table many (x)")
    run_sql(
        store,
        "with recursive c (x) as (select 1 union all select x + 1 from c where x < 100000)"
        " insert into many select x from c",
    )
    ticks = itertools.count(step=10_000_000)
    store._database._now = lambda: next(ticks)
    found = store.examine(seconds=1)
    assert (found["problems"], found["complete"]) == ([], False)
    store.close()


def test_a_library_that_can_corrupt_a_file_is_refused() -> None:
    check_library("3.51.3")
    check_library("4.0.0")
    with pytest.raises(KitaruBackendError, match="upgrade apsw"):
        check_library("3.51.2")


def test_the_project_is_recorded_when_the_store_is_made(tmp_path: Path) -> None:
    first = open_store(tmp_path, project="alpha")
    first.close()
    second = open_store(tmp_path, StillEnv(5), project="beta")
    assert second.project == "alpha"
    assert second.info()["store_id"] == first.info()["store_id"]
    second.close()


def test_without_a_project_the_folder_above_gives_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "rivers" / ".kitaru"
    folder.mkdir(parents=True)
    store = open_store(folder, project=None)
    assert store.project == "rivers"
    store.close()


def refused(folder: Path) -> str:
    with pytest.raises(KitaruBackendError) as caught:
        open_store(folder)
    assert str(folder / "kitaru.db") in str(caught.value)
    return str(caught.value)


def test_a_directory_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kitaru.db").mkdir()
    assert "not a file" in refused(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kitaru.db").touch()
    assert "empty" in refused(tmp_path)


def test_a_text_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kitaru.db").write_text("dear diary, " * 900)
    assert "no SQLite database" in refused(tmp_path)
    assert (tmp_path / "kitaru.db").read_text().startswith("dear diary")


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    foreign = apsw.Connection(str(tmp_path / "kitaru.db"))
    foreign.execute("create table songs (name text); insert into songs values ('a')")
    foreign.close()
    assert "another program" in refused(tmp_path)
    foreign = apsw.Connection(str(tmp_path / "kitaru.db"))
    assert foreign.execute("select * from songs").fetchall() == [("a",)]
    foreign.close()


def test_a_store_without_its_tables_is_refused(tmp_path: Path) -> None:
    foreign = apsw.Connection(str(tmp_path / "kitaru.db"))
    foreign.pragma("application_id", APPLICATION_ID)
    foreign.execute("create table songs (name text)")
    foreign.close()
    assert "`meta` is missing" in refused(tmp_path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    path = tmp_path / "kitaru.db"
    os.truncate(path, path.stat().st_size - 3 * database.PAGE_BYTES)
    assert "damaged" in refused(tmp_path)


def test_a_file_with_overwritten_pages_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    path = tmp_path / "kitaru.db"
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(b"\xa5" * (2 * database.PAGE_BYTES))
    assert "damaged" in refused(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "cannot be opened" in refused(tmp_path / "nowhere")


def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    open_store(tmp_path, migrations=[*FIRST, SECOND]).close()
    message = refused(tmp_path)
    assert "newer Kitaru" in message
    assert "Upgrade" in message


def test_an_older_store_is_upgraded_after_a_backup(tmp_path: Path) -> None:
    old = open_store(tmp_path)
    row = started(old, new_owner(old).id).row
    old.close()
    new = open_store(tmp_path, migrations=[*FIRST, SECOND, THIRD])
    assert new.info()["schema_version"] == TODAY + 2
    assert new.find_execution("e-1") == row
    new.close()
    (backup,) = (tmp_path / "backups").iterdir()
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    restored = tmp_path / "restored"
    restored.mkdir()
    os.rename(backup, restored / "kitaru.db")
    again = open_store(restored)
    assert (again.info()["schema_version"], again.find_execution("e-1")) == (TODAY, row)
    again.close()


@pytest.mark.parametrize(
    "point", ["backup_written", "before_migration", "before_migration_commit", "after_migration"]
)
def test_a_death_while_upgrading_leaves_a_store_that_upgrades(tmp_path: Path, point: str) -> None:
    old = open_store(tmp_path)
    row = started(old, new_owner(old).id).row
    old.close()
    env = StillEnv(1)
    env.die_at = point
    with pytest.raises(Died):
        open_store(tmp_path, env, migrations=[*FIRST, SECOND])
    store = open_store(tmp_path, StillEnv(2), migrations=[*FIRST, SECOND])
    assert (store.info()["schema_version"], store.find_execution("e-1")) == (TODAY + 1, row)
    store.close()


@pytest.fixture
def made_by_schema_1(tmp_path: Path) -> Path:
    """A store that the first schema's Kitaru made: two runs with a changed helper between them,
    one that failed, one that was killed."""
    folder = tmp_path / "schema1"
    folder.mkdir()
    packed = Path(__file__).parents[1] / "data" / "store-schema1.db.gz"
    (folder / "kitaru.db").write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


def test_a_real_store_of_schema_1_is_upgraded_with_all_that_is_in_it(
    made_by_schema_1: Path,
) -> None:
    before = apsw.Connection(str(made_by_schema_1 / "kitaru.db"))
    recorded = before.execute("select * from calls order by id").fetchall()
    before.close()
    store = open_store(made_by_schema_1, root="/somewhere/else")
    info = store.info()
    assert (info["schema_version"], info["project"], info["root"]) == (TODAY, "demo", None)
    assert run_sql(store, "select * from calls order by id") == recorded
    shown = [(row.flow_name, row.status.value) for row in
             store.list_executions(project="demo", limit=9)]  # fmt: skip
    assert shown == [
        ("lost", "running"),
        ("buy", "completed"),
        ("buy", "failed"),
        ("buy", "completed"),
    ]
    versions = store.list_codes(project="demo", checkpoint="shop.price", limit=9)
    assert [code.files for code in versions] == [None, None]
    assert run_sql(store, "pragma integrity_check") == [("ok",)]
    store.close()
    (backup,) = (made_by_schema_1 / "backups").iterdir()
    assert backup.name.startswith("kitaru-schema1-")


def test_a_migrated_store_has_the_schema_of_a_new_one(
    made_by_schema_1: Path, tmp_path: Path
) -> None:
    old, new = open_store(made_by_schema_1), open_store(tmp_path)
    for kind in ("table", "index", "view"):
        columns = (
            'select m.name, c.name, c.type, c."notnull" from sqlite_schema as m,'
            " pragma_table_info(m.name) as c where m.type = ?1 order by m.name, c.name"
        )
        assert run_sql(old, columns, (kind,)) == run_sql(new, columns, (kind,))
    old.close()
    new.close()


def test_the_project_root_is_recorded_when_the_store_is_made(tmp_path: Path) -> None:
    open_store(tmp_path, root="/home/ada/demo").close()
    store = open_store(tmp_path, root="/elsewhere")
    assert store.info()["root"] == "/home/ada/demo"
    store.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    broken = Migration(
        TODAY + 1, "create table good (a int) strict; create table bad (a colour) strict;"
    )
    with pytest.raises(KitaruBackendError):
        open_store(tmp_path, StillEnv(1), migrations=[*FIRST, broken])
    store = open_store(tmp_path)
    assert store.info()["schema_version"] == TODAY
    assert run_sql(store, "select count(*) from sqlite_schema where name = 'good'") == [(0,)]
    store.close()


OPEN = """
import sys
from kitaru._store.sqlite.store import SqliteStore
from kitaru.env import SystemEnv
store = SqliteStore.open(sys.argv[1], env=SystemEnv(), project="demo")
print(store.info()["store_id"])
store.close()
"""


def test_processes_that_make_the_store_at_once_get_the_same_one(tmp_path: Path) -> None:
    makers = [
        subprocess.Popen([sys.executable, "-c", OPEN, str(tmp_path)], stdout=subprocess.PIPE)
        for _ in range(6)
    ]
    ids = {maker.communicate(timeout=60)[0] for maker in makers}
    assert [maker.returncode for maker in makers] == [0] * 6
    assert len(ids) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".new")] == []
