"""Many claim at once, some die: never one too many runs, and no slot is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from kitaru._core.lifecycle import State
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import (
    NO_FACTS,
    Claim,
    ClaimNext,
    DeclareDead,
    ExecutionRow,
    Finish,
    Refused,
    Release,
    SetLimits,
    Signs,
    Store,
)
from kitaru._store.sqlite.store import SqliteStore

from .worlds import AnyStore, StillEnv, json_payload, new_owner, run_sql, started

HANG_SECONDS = 240
FLOWS = ["demo.agent", "demo.other"]
LIMITS = {"gpu": 3, "tenant": 2}


def owned(store: AnyStore) -> list[ExecutionRow]:
    """What somebody owns, oldest first; one query is one instant."""
    states = (State.RUNNING, State.CANCELLING)
    return store.list_executions(project="demo", statuses=states, limit=1000)[::-1]


class Claimer:
    """One process's worth of claiming, with a store of its own; it dies and begins anew."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.lives = 0
        self.seed = seed
        self.owner = self.be_born()
        self.most: Counter[str] = Counter()

    def be_born(self) -> int:
        self.lives += 1
        return new_owner(self.store, f"claimer-{self.seed}-{self.lives}").id  # type: ignore[arg-type]

    def work(self) -> None:
        """Until nothing is left that is not finished."""
        while True:
            write = ClaimNext("demo", FLOWS, [], self.owner, self.random.choice([1, 2, 4]), 5_000)
            for row in self.store.apply(write):
                self.let_go(row)
            self.count()
            if self.take_over() == 0 and self.signs().queued_at is None:
                return

    def signs(self) -> Signs:
        return self.store.signs(self.owner, project="demo", flow_ids=FLOWS, queues=[], at=5_000)

    def let_go(self, row: ExecutionRow) -> None:
        chance = self.random.random()
        if chance < 0.2 and row.deaths == 0:
            # It dies with what it has: the execution stays as it is until somebody takes it.
            self.store.apply(DeclareDead(self.owner, 6_000))
            self.owner = self.be_born()
        elif chance < 0.4:
            self.attempt(Release(row.id, row.epoch, NO_FACTS, 6_000))
        else:
            self.finish(row)

    def finish(self, row: ExecutionRow) -> None:
        result = json_payload("1")
        self.attempt(Finish(row.id, row.epoch, result, None, (), None, NO_FACTS, 7_000))

    def attempt(self, write: Finish | Release) -> None:
        try:
            self.store.apply(write)
        except Refused:
            return  # this owner died before it came to this one, and another has it

    def take_over(self) -> int:
        """Finish what the dead have left -> how many executions somebody still has."""
        left = owned(self.store)
        alive = {owner.id for owner in self.store.list_owners()}
        for row in left:
            if row.owner in alive:
                continue
            try:
                taken = self.store.apply(Claim(row.id, row.epoch, self.owner, row.owner, 6_500))
            except Refused:
                continue
            self.finish(taken)
        return len(left)

    def count(self) -> None:
        """One query is one instant: what runs under each limit in it."""
        rows = owned(self.store)
        at_once = Counter(name for row in rows for name in {row.queue, row.limit_key} - {None})
        for name, running in at_once.items():
            self.most[name] = max(self.most[name], running)


def work_at_once(
    opened: Callable[[], Store], claimers: int, executions: int, limits: dict[str, int] = LIMITS
) -> None:
    first = opened()
    first.apply(SetLimits("demo", dict(limits)))
    chosen = random.Random(1)
    for number in range(executions):
        started(
            first,  # type: ignore[arg-type]
            None,
            f"e-{number}",
            flow_id=chosen.choice(FLOWS),
            queue=chosen.choice(["default", "gpu"]),
            limit_key=chosen.choice([None, "tenant"]),
            priority=chosen.choice([0, 5]),
        )
    all_of_them = [Claimer(opened(), seed) for seed in range(claimers)]
    failures: list[BaseException] = []

    def work(claimer: Claimer) -> None:
        try:
            claimer.work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(one,), daemon=True) for one in all_of_them]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_SECONDS)
    assert not failures, failures
    assert not any(thread.is_alive() for thread in threads)
    for name, limit in limits.items():
        assert max(one.most[name] for one in all_of_them) <= limit
    assert sum(one.lives for one in all_of_them) > claimers, "nobody died: this proves nothing"
    rows = first.list_executions(project="demo", limit=1000)
    assert Counter(row.status.value for row in rows) == {"completed": executions}
    assert first.list_slots(project="demo") == []
    for one in all_of_them:
        one.store.close()
    first.close()


@pytest.mark.slow
@pytest.mark.timeout(HANG_SECONDS * 2)
def test_on_sqlite_never_one_too_many_runs_and_no_slot_is_lost(tmp_path: Path) -> None:
    def opened() -> Store:
        return SqliteStore.open(str(tmp_path), env=StillEnv(), project="demo")

    work_at_once(opened, claimers=4, executions=100)


@pytest.mark.slow
@pytest.mark.timeout(HANG_SECONDS * 2)
@pytest.mark.parametrize("limits", [LIMITS, {}], ids=["limited", "by one statement"])
def test_on_postgresql_never_one_too_many_runs_and_no_slot_is_lost(
    postgres_url: str, limits: dict[str, int]
) -> None:
    seeds = count()

    def opened() -> Store:
        # Each another one: what a process is known by is random.
        return PostgresStore.open(postgres_url, env=StillEnv(next(seeds)), project="demo")

    work_at_once(opened, claimers=8, executions=100, limits=limits)


# --- a death at the commit ---

CHILD = """
import os, sys
from kitaru._store.protocol import ClaimNext
from kitaru._store.sqlite.store import SqliteStore
from store.worlds import StillEnv, new_owner

folder, point = sys.argv[1:]

class Mortal(StillEnv):
    def crash_point(self, name):
        if name == point:
            os.kill(os.getpid(), 9)

store = SqliteStore.open(folder, env=Mortal(), project="demo")
owner = new_owner(store, "mortal").id
store.apply(ClaimNext("demo", ["demo.agent"], [], owner, 5, 5_000))
"""


@pytest.mark.parametrize("point", ["before_commit:ClaimNext", "after_commit:ClaimNext"])
def test_a_kill_at_the_commit_of_a_claim_leaves_both_or_neither(tmp_path: Path, point: str) -> None:
    store = SqliteStore.open(str(tmp_path), env=StillEnv(), project="demo")
    store.apply(SetLimits("demo", {"default": 2}))
    for number in range(3):
        started(store, None, f"e-{number}", at=number)
    died = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), point],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        timeout=HANG_SECONDS,
        check=False,
    )
    assert died.returncode == -9, died.stderr.decode()
    running = owned(store)
    expected = ["e-0", "e-1"] if point.startswith("after") else []
    assert [row.exec_id for row in running] == expected
    assert [exec_id for _, _, exec_id in store.list_slots(project="demo")] == expected
    owner = new_owner(store, "next").id
    for row in running:
        store.apply(Claim(row.id, row.epoch, owner, row.owner, 6_000))
    assert len(store.list_slots(project="demo")) == len(expected)
    store.close()


# --- fairness ---


def test_ten_thousand_of_one_flow_do_not_starve_the_one_of_another(tmp_path: Path) -> None:
    store = SqliteStore.open(str(tmp_path), env=StillEnv(), project="demo")
    owner = new_owner(store).id
    started(store, None, "many", at=1)
    columns = ", ".join(
        name
        for (name,) in run_sql(store, "select name from pragma_table_info('executions')")
        if name not in ("id", "exec_id")
    )
    run_sql(
        store,
        "with recursive n (i) as (select 1 union all select i + 1 from n where i < 10000) "
        f"insert into executions (exec_id, {columns}) "
        f"select 'many-' || i, {columns} from n, executions where exec_id = 'many'",
    )
    started(store, None, "one", flow_id="demo.other", at=4_000)
    turns = FLOWS
    claimed = []
    for _ in range(2):
        (row,) = store.apply(ClaimNext("demo", turns, [], owner, 1, 5_000))
        claimed.append(row.exec_id)
        turns = [flow for flow in turns if flow != row.flow_id] + [row.flow_id]
    assert claimed == ["many", "one"]
    store.close()
