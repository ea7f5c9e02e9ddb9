"""The two databases side by side: the same names, guards and columns; and what PostgreSQL locks."""

from __future__ import annotations

import os
import re
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

import kitaru._store.postgres as postgres
import kitaru._store.sqlite as sqlite
from kitaru._core.lifecycle import State
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import (
    NO_FACTS,
    Claim,
    ClaimNext,
    Delete,
    DropBlobs,
    ExecutionRow,
    Fenced,
    Finish,
    Park,
    Record,
    RegisterOwner,
    SetLimits,
    Start,
    Sweep,
)
from kitaru._store.queries import parse
from kitaru._store.reference.tables import OWNED
from kitaru._store.sqlite.store import SqliteStore

from .test_guards import GUARD, TARGET, event_of, states_in
from .worlds import (
    StillEnv,
    call_row,
    facts,
    json_payload,
    new_owner,
    run_sql,
    start_write,
    started,
)

HANG_SECONDS = 240
ONLY_POSTGRES = {"blobs.sql", "claims.sql", "locks.sql", "logs.sql", "receipts.sql"}
ONLY_POSTGRES |= {"within.sql"}
ONLY_SQLITE = ["set_root", "read_root"]
"""A database belongs to no folder."""


def files(module: Any) -> dict[str, str]:
    folder = Path(module.__file__).parent / "queries"
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql"))}


def blocks(text: str) -> dict[str, str]:
    return {
        block.split("\n", 1)[0].strip(): block.replace("kitaru.", "")
        for block in text.split("-- name: ")[1:]
    }


SQLITE, POSTGRES = files(sqlite), files(postgres)


def test_both_have_the_same_queries_in_the_same_order() -> None:
    assert set(POSTGRES) - set(SQLITE) == ONLY_POSTGRES
    assert set(SQLITE) <= set(POSTGRES)
    for name, text in SQLITE.items():
        wanted = [query for query in parse(text) if query not in ONLY_SQLITE]
        assert list(parse(POSTGRES[name])) == wanted, name


def test_both_change_a_status_under_the_same_guard() -> None:
    compared = 0
    for file, text in SQLITE.items():
        theirs = blocks(POSTGRES[file])
        for name, block in blocks(text).items():
            if not TARGET.search(block):
                continue
            other = theirs[name]
            assert TARGET.findall(other) == TARGET.findall(block), name
            assert [states_in(guard) for guard in GUARD.findall(other)] == [
                states_in(guard) for guard in GUARD.findall(block)
            ], name
            assert event_of(other) == event_of(block), name
            assert "epoch = $2" in other, name
            compared += 1
    assert compared >= 15


def test_what_an_owner_adds_locks_the_row_of_its_execution_in_the_same_statement() -> None:
    checked = 0
    for text in POSTGRES.values():
        for name, block in blocks(text).items():
            if event_of(block) != "none (owned)" or "insert into" not in block:
                continue
            held = block[block.index("with held as materialized (") : block.index("for share")]
            assert "epoch = $2" in held, name
            assert [states_in(guard) for guard in GUARD.findall(held)] == [OWNED], name
            checked += 1
    assert checked == 9


def test_nothing_is_named_without_its_schema() -> None:
    tables = re.findall(r"^create (?:table|view) kitaru\.(\w+)", schema(), re.MULTILINE)
    bare = re.compile(rf"\b(?:from|join|into|update|delete from) ({'|'.join(tables)})\b")
    for file, text in POSTGRES.items():
        for name, statement in parse(text).items():
            assert not bare.findall(statement), f"{file}: {name}"


def schema() -> str:
    folder = os.path.join(os.path.dirname(str(postgres.__file__)), "migrations")
    return "\n".join(Path(folder, name).read_text() for name in sorted(os.listdir(folder)))


def test_both_have_the_same_tables_and_columns(
    sqlite_store: SqliteStore, postgres_url: str
) -> None:
    ours: dict[str, set[str]] = {}
    for table, column in sqlite_store._read(
        "select m.name, c.name from sqlite_schema as m, pragma_table_info(m.name) as c"
        " where m.type in ('table', 'view') and m.name not like 'sqlite_%'",
        (),
    ):
        ours.setdefault(table, set()).add(column)
    theirs: dict[str, set[str]] = {}
    with psycopg.connect(postgres_url) as connection:
        for table, column in connection.execute(
            "select table_name, column_name from information_schema.columns"
            " where table_schema = 'kitaru'"
        ):
            theirs.setdefault(table, set()).add(column)
    for known in (ours, theirs):
        known.pop("meta")
    theirs.pop("blobs")
    theirs.pop("receipts")
    theirs.pop("logs")
    assert theirs == ours


# --- who waits for whom ------------------------------------------------------------------------


@pytest.fixture
def pg(postgres_url: str, env: StillEnv) -> Any:
    store = PostgresStore.open(postgres_url, env=env, project="demo")
    yield store
    store.close()


class Later:
    """A write in a thread of its own, which may have to wait for a lock."""

    def __init__(self, store: PostgresStore, write: Any) -> None:
        self._store, self._write = store, write
        self.answer: Any = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.answer = self._store.apply(self._write)
        except Exception as error:
            self.answer = error

    def is_over_within(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(HANG_SECONDS)
        assert not self._thread.is_alive(), "it waits for ever"
        return self.answer


def wait_for_a_lock(connection: psycopg.Connection[Any], *, count: int = 1) -> None:
    """Until so many other connections of this database wait for a lock."""
    waiting = (
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and wait_event_type = 'Lock'"
    )
    pause = threading.Event()
    for _ in range(HANG_SECONDS * 50):
        found = connection.execute(waiting).fetchone()
        if found is not None and found[0] >= count:
            return
        pause.wait(0.02)
    raise AssertionError("nobody waits for a lock")


def running(store: PostgresStore) -> ExecutionRow:
    return started(store, new_owner(store).id).row


TAKE_OVER = "update kitaru.executions set epoch = epoch + 1, owner = %s where id = %s"


def test_a_stale_owners_insert_that_waits_for_the_takeover_is_refused(
    pg: PostgresStore, postgres_url: str
) -> None:
    row = running(pg)
    other = pg.apply(RegisterOwner("lock-2", 2, "there", 2))
    with (
        psycopg.connect(postgres_url) as taker,
        psycopg.connect(postgres_url, autocommit=True) as looker,
    ):
        taker.execute(TAKE_OVER, (other.id, row.id))
        late = Later(pg, Record(row.id, row.epoch, facts(call_row(b"1" * 16))))
        wait_for_a_lock(looker)
        taker.commit()
        assert isinstance(late.result(), Fenced)
    assert pg.load_outcomes(row.id) == []


def test_without_its_lock_that_insert_would_be_accepted(
    pg: PostgresStore, postgres_url: str
) -> None:
    """Why it is there: the guard alone looks at what was committed when it began."""
    row = running(pg)
    other = pg.apply(RegisterOwner("lock-2", 2, "there", 2))
    unlocked = pg._queries.add_call.replace("for share)", ")")
    assert unlocked != pg._queries.add_call
    call = call_row(b"1" * 16)
    codec, data, checksum = call.payload
    values = (row.id, row.epoch, *call[:-1], codec, data, checksum)
    with psycopg.connect(postgres_url) as taker:
        taker.execute(TAKE_OVER, (other.id, row.id))
        assert pg._database.change(unlocked, values) == 1
        taker.commit()
    assert len(pg.load_outcomes(row.id)) == 1


def parent_and_child(store: PostgresStore) -> tuple[ExecutionRow, ExecutionRow]:
    parent = running(store)
    write: Start = start_write("e-2", parent.owner, parent_exec_id="e-1", parent_call=b"c")
    return parent, store.apply(write._replace(parent_epoch=parent.epoch)).row


def park(row: ExecutionRow) -> Park:
    return Park(row.id, row.epoch, (), ("e-2",), None, "waits", row.home, NO_FACTS, 5)


def finish(row: ExecutionRow) -> Finish:
    return Finish(row.id, row.epoch, json_payload("1"), None, (), None, NO_FACTS, 9)


@pytest.mark.parametrize("first", ["parent", "child"])
def test_a_parent_that_parks_and_a_child_that_ends_at_once_do_not_miss_each_other(
    pg: PostgresStore, postgres_url: str, env: StillEnv, first: str
) -> None:
    """Whoever comes second waits for the first one's commit, and sees it."""
    parent, child = parent_and_child(pg)
    other = PostgresStore.open(postgres_url, env=env, project="demo")
    writes = {"parent": park(parent), "child": finish(child)}
    second = "child" if first == "parent" else "parent"
    try:
        with psycopg.connect(postgres_url, autocommit=True) as looker:
            # The first one has done all but commit.
            pg._database.begin(wait=True)
            pg._commits._perform(writes[first])
            late = Later(other, writes[second])
            wait_for_a_lock(looker)
            pg._database.commit()
            late.result()
    finally:
        other.close()
    assert pg.get_status(child.id)[0] is State.COMPLETED
    assert pg.get_status(parent.id)[0] is State.PENDING, "nobody would ever wake it"


def test_a_claim_and_the_death_of_its_claimer_have_an_order(
    pg: PostgresStore, postgres_url: str
) -> None:
    row = started(pg, None).row
    owner = new_owner(pg)
    with (
        psycopg.connect(postgres_url) as undertaker,
        psycopg.connect(postgres_url, autocommit=True) as looker,
    ):
        dead = psycopg.RawCursor(undertaker).execute(
            parse(POSTGRES["owners.sql"])["declare_dead"], (owner.id, 5, 1)
        )
        assert dead.rowcount == 1
        late = Later(pg, Claim(row.id, row.epoch, owner.id, None, 9))
        wait_for_a_lock(looker)
        undertaker.commit()
        assert isinstance(late.result(), Fenced)
    assert pg.get_status(row.id)[0] is State.PENDING


def test_a_heartbeat_waits_for_no_claim_of_its_own_process(
    pg: PostgresStore, postgres_url: str
) -> None:
    owner = pg.apply(RegisterOwner("leased", 1, "here", 5, 15.0))
    row = started(pg, None).row
    with psycopg.connect(postgres_url, autocommit=True) as heart:
        heart.execute("set lock_timeout = '1ms'")
        pg._database.begin(wait=True)
        pg._database._begin_now()
        pg._commits._perform(Claim(row.id, row.epoch, owner.id, None, 9))
        beat = psycopg.RawCursor(heart).execute(
            parse(POSTGRES["owners.sql"])["beat"], (owner.id, 15_000_000, 9)
        )
        assert beat.fetchone() is not None
        pg._database.commit()


def test_two_starts_with_one_key_are_one_execution(
    pg: PostgresStore, postgres_url: str, env: StillEnv
) -> None:
    other = PostgresStore.open(postgres_url, env=env, project="demo")
    try:
        with psycopg.connect(postgres_url, autocommit=True) as looker:
            pg._database.begin(wait=True)
            pg._database._begin_now()
            first = pg._commits._perform(start_write("e-1", None, key="k"))
            late = Later(other, start_write("e-2", None, key="k"))
            wait_for_a_lock(looker)
            pg._database.commit()
            second = late.result()
    finally:
        other.close()
    assert first.created
    assert not second.created
    assert second.row.exec_id == "e-1"


def test_versions_of_memory_that_are_written_at_once_follow_each_other(
    pg: PostgresStore, postgres_url: str, env: StillEnv
) -> None:
    from kitaru._store.protocol import MemoryRow, Remember

    others = [PostgresStore.open(postgres_url, env=env, project="demo") for _ in range(6)]
    row = MemoryRow("namespace", "team", "k", None, 1, json_payload("1"))
    try:
        for _ in range(5):
            late = [Later(store, Remember("demo", row)) for store in others]
            assert all(isinstance(each.result(), int) for each in late)
        found = pg.list_versions(
            project="demo", scope_type="namespace", scope="team", key="k", limit=99
        )
        assert [each.version for each in found] == list(range(30, 0, -1))
    finally:
        for store in others:
            store.close()


# --- what is judged is locked first --------------------------------------------------------------


LARGE = json_payload('"' + "x" * 100_000 + '"')


@pytest.mark.parametrize("write", ["record", "start"])
def test_a_large_value_that_is_dropped_while_it_is_about_to_be_named_is_there(
    pg: PostgresStore, postgres_url: str, env: StillEnv, write: str
) -> None:
    row = running(pg)
    waited, late_write = {
        "record": (
            "select 1 from kitaru.executions where id = %s for update",
            Record(row.id, row.epoch, facts(call_row(b"1" * 16, payload=LARGE))),
        ),
        "start": (
            "select 1 from kitaru.owners where id = %s for update",
            start_write("e-9", row.owner, inputs=LARGE),
        ),
    }[write]
    other = PostgresStore.open(postgres_url, env=env, project="demo")
    with (
        psycopg.connect(postgres_url) as door,
        psycopg.connect(postgres_url, autocommit=True) as looker,
    ):
        door.execute(waited, (row.id if write == "record" else row.owner,))
        writing = Later(pg, late_write)
        wait_for_a_lock(looker)
        dropping = Later(other, DropBlobs([LARGE.digest]))
        if not dropping.is_over_within(1):
            door.commit()
        dropping.result()
        door.commit()
        writing.result()
    other.close()
    if write == "record":
        assert pg.list_calls(row.id, limit=9)[0].row.payload == LARGE
    else:
        found = pg.find_execution("e-9")
        assert found is not None
        assert found.inputs == LARGE


def test_two_that_sweep_one_execution_count_its_rows_once(
    pg: PostgresStore, postgres_url: str, env: StillEnv
) -> None:
    row = running(pg)
    pg.apply(Record(row.id, row.epoch, facts(call_row(b"1" * 16), call_row(b"2" * 16))))
    pg.apply(finish(row))
    pg.apply(Delete(row.id, row.epoch, 9))
    other = PostgresStore.open(postgres_url, env=env, project="demo")
    with (
        psycopg.connect(postgres_url) as door,
        psycopg.connect(postgres_url, autocommit=True) as looker,
    ):
        door.execute("select 1 from kitaru.meta for update")
        sweeping = [Later(store, Sweep(row.exec_id, 9)) for store in (pg, other)]
        wait_for_a_lock(looker, count=2)
        door.commit()
        assert sorted(each.result() for each in sweeping) == [0, 2]
    other.close()
    assert run_sql(pg, "select calls_deleted from kitaru.meta") == [(2,)]


def sent(store: PostgresStore, path: Path, write: ClaimNext) -> tuple[list[str], int]:
    """The executions that were claimed, and how many statements went to the server for it."""
    writer = store._database._writer
    assert writer is not None
    with path.open("w+") as file:
        writer.pgconn.trace(file.fileno())
        try:
            rows = store.apply(write)
        finally:
            writer.pgconn.untrace()
        text = path.read_text(encoding="utf-8")
    return [row.exec_id for row in rows], len(re.findall(r"\tF\t\d+\t(?:Bind|Query)\b", text))


def test_a_claim_takes_as_many_statements_for_a_hundred_as_for_one(
    postgres_url: str, env: StillEnv, tmp_path: Path
) -> None:
    with closing(PostgresStore.open(postgres_url, env=env, project="demo")) as store:
        owner = new_owner(store).id
        for number in range(220):
            started(store, None, f"e-{number:03}")
        one = ClaimNext("demo", ["demo.agent"], [], owner, 1, 10_000)
        many = one._replace(limit=100)
        free = [sent(store, tmp_path / "trace", write) for write in (one, many)]
        assert [len(rows) for rows, _ in free] == [1, 100]
        # What begins it and the receipt, in one message with the claim; and the commit.
        assert [statements for _, statements in free] == [4, 4]
        store.apply(SetLimits("demo", {"default": 1_000}))
        limited = [sent(store, tmp_path / "trace", write) for write in (one, many)]
        assert [len(rows) for rows, _ in limited] == [1, 100]
        assert len({statements for _, statements in limited}) == 1


def in_flight(store: PostgresStore, door: psycopg.Connection[Any], what: str) -> None:
    """Something that no commit has ended yet, as far as other transactions can see."""
    queries = store._queries
    cursor = psycopg.RawCursor(door)
    (row,) = (row for row in store.list_executions(project="demo", limit=1))
    if what == "a claim":
        values = ("demo", '["demo.agent"]', None, 10_000, 1, 1, False)
        cursor.execute(queries.claim_next.encode(), values)
        assert len(cursor.fetchall()) == 1
    else:
        cursor.execute(queries.lock_execution.encode(), (row.id,))
        values = (row.id, row.epoch, 5, None, "json", b"1", b"c")
        cursor.execute(queries.complete.encode(), values)
        assert cursor.rowcount == 1


@pytest.mark.parametrize("what", ["a claim", "an end"])
def test_a_new_limit_waits_for_what_begins_and_ends_under_none(
    pg: PostgresStore, postgres_url: str, what: str
) -> None:
    owner = new_owner(pg).id
    started(pg, None if what == "a claim" else owner, "e-1")
    with (
        psycopg.connect(postgres_url) as door,
        psycopg.connect(postgres_url, autocommit=True) as looker,
    ):
        in_flight(pg, door, what)
        limiting = Later(pg, SetLimits("demo", {"default": 1}))
        wait_for_a_lock(looker)
        door.commit()
        assert limiting.result() is True
    slots = [("default", 1, "e-1")] if what == "a claim" else []
    assert pg.list_slots(project="demo") == slots


def test_a_start_of_before_a_new_limit_has_its_slot(pg: PostgresStore, postgres_url: str) -> None:
    owner = new_owner(pg).id
    for number in range(12):  # by then it is prepared, and has a plan for whatever values
        row = started(pg, owner, f"e-{number}").row
        pg.apply(finish(row))
    with (
        closing(PostgresStore.open(postgres_url, env=StillEnv(2), project="demo")) as other,
        psycopg.connect(postgres_url) as door,
        psycopg.connect(postgres_url, autocommit=True) as looker,
    ):
        door.execute("select 1 from kitaru.owners where id = %s for update", (owner,))
        starting = Later(pg, start_write("e-99", owner))
        wait_for_a_lock(looker)
        limiting = Later(other, SetLimits("demo", {"default": 1}))
        wait_for_a_lock(looker, count=2)
        late = Later(pg, start_write("e-100", owner))
        door.commit()
        assert starting.result().row.status is State.RUNNING
        assert limiting.result() is True
        assert late.result().row.status is State.PENDING
    assert pg.list_slots(project="demo") == [("default", 1, "e-99")]
