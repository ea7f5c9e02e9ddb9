"""What an execution has learnt is durable before any body starts (R4), whoever commits it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

import kitaru
from kitaru import app, checkpoint, flow
from kitaru.env import SystemEnv

from .looking import PATIENCE_SECONDS, Gate, execution

SEEN: list[Any] = []
STARTED = threading.Event()


class HoldingEnv(SystemEnv):
    """Holds back the first commit of an effect until the test lets it go."""

    def __init__(self) -> None:
        self.gate = Gate()

    def crash_point(self, name: str) -> None:
        if name == "commit" and not self.gate.reached.is_set():
            self.gate.pass_through()


@pytest.fixture
def env(store: Any) -> Iterator[HoldingEnv]:
    SEEN.clear()
    STARTED.clear()
    holding = HoldingEnv()
    app.use_env(holding)
    yield holding
    app.use_env(SystemEnv())


def _learnt() -> int:
    exec_id = kitaru.current_execution_id()
    assert exec_id is not None
    return len(app.current().store.load_learnt(execution(exec_id).id))


@checkpoint(cache=False)
def looks(which: str, at: datetime) -> int:
    SEEN.append([which, _learnt()])
    STARTED.set()
    return len(SEEN)


def test_a_body_does_not_start_while_another_thread_still_carries_what_it_depends_on(
    env: HoldingEnv,
) -> None:
    @flow
    def learns() -> list[int]:
        at = kitaru.now()
        futures = [looks.submit("a", at), looks.submit("b", at)]
        env.gate.wait_until_reached()
        # One thread stands before the commit of the fact; the other must not overtake it.
        STARTED.wait(0.2)
        env.gate.open()
        return [future.result() for future in futures]

    assert sorted(learns.run().wait(timeout=PATIENCE_SECONDS)) == [1, 2]
    assert [durable for _, durable in SEEN] == [1, 1]


@checkpoint(cache=False)
async def looks_async(which: str, at: datetime) -> int:
    SEEN.append([which, _learnt()])
    return len(SEEN)


def test_branches_of_the_loop_start_no_body_before_the_fact_is_durable(store: Any) -> None:
    SEEN.clear()

    @flow
    async def learns() -> Any:
        at = kitaru.now()
        return await asyncio.gather(*[looks_async(str(n), at) for n in range(5)])

    assert sorted(learns.run().wait(timeout=PATIENCE_SECONDS)) == [1, 2, 3, 4, 5]
    assert {durable for _, durable in SEEN} == {1}


def test_a_cancelled_branch_does_not_pass_its_fact_off_as_durable(store: Path) -> None:
    """The branch that carries the fact is cancelled in its commit; another one goes on."""
    SEEN.clear()

    @flow
    async def learns() -> Any:
        await looks_async("before", kitaru.now(name="first"))
        at = kitaru.now()
        other = apsw.Connection(str(store / "kitaru.db"))
        other.execute("BEGIN IMMEDIATE")
        first = asyncio.ensure_future(looks_async("cancelled", at))
        for _ in range(5):
            await asyncio.sleep(0)
        first.cancel()
        second = asyncio.ensure_future(looks_async("second", at))
        for _ in range(5):
            await asyncio.sleep(0)
        other.execute("ROLLBACK")
        other.close()
        return await second

    learns.run().wait(timeout=PATIENCE_SECONDS)
    assert SEEN == [["before", 1], ["second", 2]]
