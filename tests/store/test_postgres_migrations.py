"""How a store in PostgreSQL is made and brought up to date, while others use it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests import postgres

from kitaru._store.migrations import Migration, load_migrations
from kitaru._store.postgres import migrate
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import Finish, Record
from kitaru.errors import KitaruBackendError

from .test_postgres_queries import HANG_SECONDS, finish, wait_for_a_lock
from .worlds import Died, StillEnv, call_row, facts, new_owner, run_sql, started

FOLDER = os.path.join(os.path.dirname(str(migrate.__file__)), "migrations")
ALL = load_migrations(FOLDER)
TODAY = ALL[-1].version

# What a later release may do: expand. The view that programs read gets a column at its end.
NEXT = Migration(
    TODAY + 1,
    """
    alter table kitaru.executions add column colour text not null default 'red';
    alter table kitaru.calls add column weight bigint;
    create table kitaru.colours (name text primary key);
    do $$ begin
        execute 'create or replace view kitaru.execution_rows as ' || regexp_replace(
            pg_get_viewdef('kitaru.execution_rows'::regclass), 'FROM', ', e.colour FROM');
    end $$;
    """,
)


@pytest.fixture
def empty_url(postgres_server: str) -> Iterator[str]:
    """The URL of a fresh database with nothing in it."""
    with postgres.database(postgres_server) as place:
        yield place


def open_store(url: str, env: StillEnv | None = None, *more: Migration) -> PostgresStore:
    return PostgresStore.open(url, env=env or StillEnv(1), project="demo", migrations=[*ALL, *more])


def test_a_newer_store_is_refused_and_left_alone(postgres_url: str) -> None:
    open_store(postgres_url, None, NEXT).close()
    with pytest.raises(KitaruBackendError, match=r"newer Kitaru.*Upgrade") as raised:
        open_store(postgres_url)
    assert raised.value.code == "store-of-later-release"


def test_an_older_store_is_upgraded_with_all_that_is_in_it(postgres_url: str) -> None:
    old = open_store(postgres_url)
    row = started(old, new_owner(old).id).row
    old.close()
    new = open_store(postgres_url, None, NEXT)
    info = new.info()
    assert (info["schema_version"], info["upgraded_from"]) == (TODAY + 1, TODAY)
    assert new.find_execution("e-1") == row
    new.close()
    again = open_store(postgres_url, None, NEXT)
    assert again.info()["upgraded_from"] is None
    again.close()


def test_a_worker_that_is_running_goes_on_while_another_upgrades(postgres_url: str) -> None:
    """Its statements are prepared by then, and read what they read before."""
    old = open_store(postgres_url)
    row = started(old, new_owner(old).id).row

    def work(number: int) -> None:
        call = call_row(bytes([number]) * 16)
        old.apply(Record(row.id, row.epoch, facts(call)))
        assert old.find_execution("e-1") == row
        assert old.list_calls(row.id, limit=99)[-1].row == call

    for number in range(12):
        work(number)
    new = open_store(postgres_url, None, NEXT)
    for number in range(12, 24):
        work(number)
    old.apply(finish(row))
    assert new.find_execution("e-1") == old.find_execution("e-1")
    assert len(new.load_outcomes(row.id)) == 24
    new.close()
    old.close()


@pytest.mark.parametrize("point", migrate.CRASH_POINTS)
def test_a_death_while_upgrading_leaves_a_store_that_upgrades(
    postgres_url: str, point: str
) -> None:
    old = open_store(postgres_url)
    row = started(old, new_owner(old).id).row
    old.close()
    env = StillEnv(1)
    env.die_at = point
    with pytest.raises(Died):
        open_store(postgres_url, env, NEXT)
    store = open_store(postgres_url, StillEnv(2), NEXT)
    assert (store.info()["schema_version"], store.find_execution("e-1")) == (TODAY + 1, row)
    store.close()


def test_a_migration_that_fails_changes_nothing(postgres_url: str) -> None:
    open_store(postgres_url).close()
    broken = "create table kitaru.good (a bigint); create table kitaru.bad (a colour);"
    with pytest.raises(KitaruBackendError):
        open_store(postgres_url, None, Migration(TODAY + 1, broken))
    store = open_store(postgres_url)
    assert store.info()["schema_version"] == TODAY
    assert run_sql(store, "select to_regclass('kitaru.good') is null") == [(True,)]
    store.close()


OPEN = """
import sys
from kitaru._store.postgres.store import PostgresStore
from kitaru.env import SystemEnv
store = PostgresStore.open(sys.argv[1], env=SystemEnv(), project="demo")
print(store.info()["store_id"])
store.close()
"""


def test_processes_that_make_the_store_at_once_get_the_same_one(empty_url: str) -> None:
    makers = [
        subprocess.Popen([sys.executable, "-c", OPEN, empty_url], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    answers = {maker.communicate(timeout=300)[0] for maker in makers}
    assert [maker.returncode for maker in makers] == [0] * 4
    assert len(answers) == 1


def test_who_finds_another_upgrading_waits_for_it_and_not_for_ever(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(postgres_url).close()
    with psycopg.connect(postgres_url) as other:
        other.execute("select pg_advisory_xact_lock(%s)", (migrate._LOCK,))
        with monkeypatch.context() as patch:
            patch.setattr(migrate, "TRIES", 3)
            patch.setattr(migrate, "PAUSE_SECONDS", 0.01)
            with pytest.raises(KitaruBackendError, match="brought up to date by another") as told:
                open_store(postgres_url, None, NEXT)
            assert told.value.code == "store-locked"
        late = Opening(postgres_url)
        other.rollback()
    assert late.version() == TODAY + 1


class Opening:
    """Somebody who opens and upgrades the store in a thread."""

    def __init__(self, url: str) -> None:
        self._found: list[int] = []
        self._url = url
        self._thread = threading.Thread(target=self._open)
        self._thread.start()

    def _open(self) -> None:
        store = open_store(self._url, None, NEXT)
        self._found.append(store.info()["schema_version"])
        store.close()

    def version(self) -> int:
        self._thread.join(HANG_SECONDS)
        assert self._found, "it does not come to an end"
        return self._found[0]


def test_an_upgrade_gives_way_to_a_long_transaction_and_is_tried_again(
    postgres_url: str,
) -> None:
    """Its lock would else stop everybody who comes after it."""
    store = open_store(postgres_url)
    row = started(store, new_owner(store).id).row
    with (
        psycopg.connect(postgres_url) as long,
        psycopg.connect(postgres_url, autocommit=True) as looker,
    ):
        long.execute("select count(*) from kitaru.executions")
        late = Opening(postgres_url)
        wait_for_a_lock(looker)
        store.apply(finish(row))  # done while the long one stands there still
        long.rollback()
    assert late.version() == TODAY + 1
    assert store.get_status(row.id)[0].value == "completed"
    store.close()


# --- roles, as docs/fleet/postgres.md makes them ---------------------------------------------

ROLES = """
create role {owner} nologin;
create role {worker} nologin;
create role {reader} nologin;
create schema kitaru authorization {owner};
grant usage on schema kitaru to {worker}, {reader};
alter default privileges for role {owner} in schema kitaru
    grant select, insert, update, delete on tables to {worker};
alter default privileges for role {owner} in schema kitaru
    grant usage on sequences to {worker};
alter default privileges for role {owner} in schema kitaru
    grant select on tables to {reader};
"""


def as_role(url: str, role: str) -> str:
    return make_conninfo(url, options=f"-c role={role}")


def test_a_worker_needs_no_more_than_to_read_and_write(empty_url: str) -> None:
    database = conninfo_to_dict(empty_url)["dbname"]
    names = {who: f"{database}_{who}" for who in ("owner", "worker", "reader")}
    roles = {who: sql.Identifier(name) for who, name in names.items()}
    with psycopg.connect(empty_url, autocommit=True) as admin:
        admin.execute(sql.SQL(ROLES).format(**roles))
        try:
            with pytest.raises(KitaruBackendError) as raised:
                open_store(as_role(empty_url, names["worker"]))
            assert raised.value.code == "store-may-not-be-used"
            open_store(as_role(empty_url, names["owner"])).close()
            live_through(as_role(empty_url, names["worker"]))
            look_only(as_role(empty_url, names["reader"]))
        finally:
            for role in roles.values():
                admin.execute(sql.SQL("drop owned by {} cascade").format(role))
                admin.execute(sql.SQL("drop role {}").format(role))


def live_through(url: str) -> None:
    store = open_store(url)
    row = started(store, new_owner(store).id).row
    store.apply(Record(row.id, row.epoch, facts(call_row(b"1" * 16))))
    end: Finish = finish(row)
    store.apply(end)
    assert store.get_status(row.id)[0].value == "completed"
    store.close()


def look_only(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as people:
        found: Any = people.execute("select exec_id, status from kitaru.executions_view")
        assert found.fetchall() == [("e-1", "completed")]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            people.execute("delete from kitaru.calls")
