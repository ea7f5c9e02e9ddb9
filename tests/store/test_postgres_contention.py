"""Transactions of PostgreSQL that stand in each other's way: made again, whoever lost."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import ExecutionRow, Facts, Fenced, Record, Release, Start

from .test_postgres_queries import TAKE_OVER, Later, wait_for_a_lock
from .worlds import StillEnv, call_row, facts, new_owner, start_write, started

ROUNDS = 15


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


def write_in_any_order(
    store: PostgresStore, rows: list[ExecutionRow], seed: int, answers: list[Any], starts: float
) -> None:
    """Groups of writes that lock all of these executions, each time in another order."""
    order = random.Random(seed)
    for number in range(ROUNDS):
        order.shuffle(rows)
        for row in rows:
            # A child's write locks its parent too, and so does the start of a child.
            write: Record | Start = Record(
                row.id, row.epoch, Facts(metadata=f'{{"{seed}": {number}}}')
            )
            if order.random() < starts:
                write = start_write(
                    f"{row.exec_id}-{seed}-{number}",
                    row.owner,
                    parent_exec_id=row.exec_id,
                    parent_call=f"{seed:4}{number:12}".encode(),
                    parent_epoch=row.epoch,
                )
            store.post(write, lambda answer, error: answers.append(error))
        store.flush(wait=True)


@pytest.mark.parametrize("starts", [0, 0.5], ids=["records", "starts"])
def test_groups_that_overlap_in_any_order_do_not_wait_for_each_other_in_a_circle(
    postgres_url: str, starts: float
) -> None:
    stores = [
        PostgresStore.open(postgres_url, env=StillEnv(seed), project="demo") for seed in (1, 2)
    ]
    owner = new_owner(stores[0]).id
    parents = [started(stores[0], owner, f"e-{number}").row for number in range(4)]
    children = [
        started(
            stores[0],
            owner,
            f"{parent.exec_id}-child-{number}",
            parent_exec_id=parent.exec_id,
            parent_call=bytes([number]) * 16,
            parent_epoch=parent.epoch,
        ).row
        for parent in reversed(parents)
        for number in range(2)
    ]
    rows = [*parents, *children]
    answers: list[list[Any]] = [[], []]
    threads = [
        threading.Thread(
            target=write_in_any_order, args=(store, [*rows], seed, answers[seed], starts)
        )
        for seed, store in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
        assert not thread.is_alive()
    assert answers == [[None] * (ROUNDS * len(rows))] * 2
    for store in stores:
        store.close()
    with psycopg.connect(postgres_url, autocommit=True) as looker:
        wait_until_alone(looker)
        ((deadlocks,),) = looker.execute(
            "select deadlocks from pg_stat_database where datname = current_database()"
        ).fetchall()
    assert deadlocks == 0


def wait_until_alone(looker: psycopg.Connection[Any]) -> None:
    """Whoever has left has handed in what it counted."""
    until = time.monotonic() + 240
    others = (
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    while looker.execute(others).fetchall() != [(0,)]:
        assert time.monotonic() < until
