"""Transactions of PostgreSQL that stand in each other's way: made again, whoever lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import Fenced, Record, Release

from .test_postgres_queries import TAKE_OVER, Later, wait_for_a_lock
from .worlds import StillEnv, call_row, facts, new_owner, started


@pytest.fixture
def quick(postgres_url: str, env: StillEnv) -> Iterator[PostgresStore]:
    """A store whose connections look for deadlocks at once: it is the one that loses."""
    url = make_conninfo(postgres_url, options="-c deadlock_timeout=10ms")
    store = PostgresStore.open(url, env=env, project="demo")
    yield store
    store.close()


LOCK = "select 1 from kitaru.executions where id = %s for update"


def test_a_group_that_lost_in_a_deadlock_is_made_again(
    quick: PostgresStore, postgres_url: str
) -> None:
    owner = new_owner(quick)
    first, second, third = (started(quick, owner.id, exec_id=f"e-{n}").row for n in range(3))
    answers: list[Any] = []
    for row in (first, second, third):
        write = Record(row.id, row.epoch, facts(call_row(b"1" * 16)))
        quick.post(write, lambda answer, error: answers.append((answer, error)))
    slow = make_conninfo(postgres_url, options="-c deadlock_timeout=600s")
    with (
        psycopg.connect(postgres_url) as door,
        psycopg.connect(slow) as other,
        psycopg.connect(postgres_url, autocommit=True) as looker,
    ):
        door.execute(LOCK, (second.id,))
        other.execute(LOCK, (third.id,))
        flushing = threading.Thread(target=lambda: quick.flush(wait=True))
        flushing.start()
        wait_for_a_lock(looker)  # it has the first one, and waits for the second
        crossing = threading.Thread(target=lambda: other.execute(LOCK, (first.id,)))
        crossing.start()
        wait_for_a_lock(looker, count=2)
        door.commit()  # on to the third, which waits for the first: a deadlock
        crossing.join(60)
        assert not crossing.is_alive(), "the group has not given way"
        other.commit()
        flushing.join(60)
        assert not flushing.is_alive()
    assert answers == [(None, None)] * 3
    assert [len(quick.load_outcomes(row.id)) for row in (first, second, third)] == [1, 1, 1]


def test_a_database_whose_transactions_are_serializable_by_default_does_no_harm(
    postgres_url: str, env: StillEnv
) -> None:
    options = "-c default_transaction_isolation=serializable"
    store = PostgresStore.open(make_conninfo(postgres_url, options=options), env=env, project="d")
    try:
        row = started(store, new_owner(store).id).row
        other = new_owner(store, "lock-2")
        record = Record(row.id, row.epoch, facts(call_row(b"1" * 16)))
        release = Release(row.id, row.epoch, facts(call_row(b"2" * 16)), 5)
        for write in (record, release):
            with (
                psycopg.connect(postgres_url) as taker,
                psycopg.connect(postgres_url, autocommit=True) as looker,
            ):
                taker.execute(TAKE_OVER, (other.id, row.id))
                late = Later(store, write)
                wait_for_a_lock(looker)
                taker.commit()
                assert isinstance(late.result(), Fenced)
    finally:
        store.close()
