"""docs/fleet/postgres.md tells the truth: its statements run, roles suffice, restores fence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.postgres import database

from kitaru._core.lifecycle import State
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import Cancel, Claim, Fenced, Record, RegisterOwner
from kitaru.errors import KitaruBackendError

from .worlds import StillEnv, call_row, facts, new_owner, started

PAGE = (Path(__file__).parents[2] / "docs" / "fleet" / "postgres.md").read_text(encoding="utf-8")
STATEMENTS = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
ROLES = ("kitaru_owner", "kitaru_worker", "kitaru_reader")


@pytest.fixture
def granted(postgres_server: str, env: StillEnv) -> Any:
    """An empty database where the page's roles have been made."""
    with database(postgres_server) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            for statements in STATEMENTS:
                if "create role" in statements:
                    connection.execute(statements)
        try:
            yield url
        finally:
            with psycopg.connect(url, autocommit=True) as connection:
                for role in ROLES:
                    connection.execute(f"drop owned by {role} cascade")
                    connection.execute(f"drop role {role}")


def as_role(url: str, role: str) -> str:
    return make_conninfo(url, options=f"-c role={role}")


def test_the_roles_of_the_page_suffice(granted: str, env: StillEnv) -> None:
    with pytest.raises(KitaruBackendError, match="has no tables of Kitaru's yet") as early:
        PostgresStore.open(as_role(granted, "kitaru_worker"), env=env, project="demo")
    assert early.value.code == "store-may-not-be-used"
    PostgresStore.open(as_role(granted, "kitaru_owner"), env=env, project="demo").close()
    worker = PostgresStore.open(as_role(granted, "kitaru_worker"), env=env, project="demo")
    row = started(worker, new_owner(worker).id).row
    worker.apply(Record(row.id, row.epoch, facts(call_row(b"1" * 16))))
    worker.close()
    with psycopg.connect(as_role(granted, "kitaru_reader")) as reader:
        found = reader.execute("select flow, state from kitaru.checkpoints_view").fetchall()
        assert found == [("agent", "completed")]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("delete from kitaru.calls")


@pytest.mark.parametrize(
    "sql", [each for each in STATEMENTS if each.startswith("select") and "kitaru.new" not in each]
)
def test_a_query_of_the_page_finds_something(postgres_url: str, sql: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute(sql).fetchall()


def test_after_a_restore_nobody_of_before_writes_anything(postgres_url: str, env: StillEnv) -> None:
    assert "select kitaru.new_generation();\n" in STATEMENTS
    before = PostgresStore.open(postgres_url, env=env, project="demo")
    owner = new_owner(before)
    row = started(before, owner.id).row
    stopping = started(before, owner.id, "e-2").row
    before.apply(Cancel(stopping.id, stopping.epoch, "ada", "no use", 5))
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        assert connection.execute("select kitaru.new_generation();").fetchone() == (2,)
    assert before.get_status(row.id)[0] is State.PENDING
    assert before.get_status(stopping.id)[0] is State.CANCELLED
    with pytest.raises(Fenced):
        before.apply(Record(row.id, row.epoch, facts(call_row(b"1" * 16))))
    with pytest.raises(Fenced):
        before.apply(Claim(row.id, before.get_status(row.id)[1], owner.id, None, 9))
    after = PostgresStore.open(postgres_url, env=env, project="demo")
    assert after.info()["generation"] == 2
    new = after.apply(RegisterOwner("lock-2", 2, "there", 2))
    taken = after.apply(Claim(row.id, after.get_status(row.id)[1], new.id, None, 9))
    assert taken.epoch > 1_000_000
    for store in (before, after):
        store.close()
