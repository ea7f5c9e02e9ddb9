"""Programs that are killed at random: no order without its execution, and none the other way."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

import kitaru

from .kit import PATIENCE_SECONDS, asked, ship

ROOT = Path(__file__).parents[2]
ROUNDS, SELLERS = 5, 2

SOLD = """
select coalesce((select array_agg(number order by number) from orders), '{}'),
    coalesce((select array_agg(key::bigint order by key::bigint)
        from kitaru.executions where key is not null), '{}')"""
"""In one statement: what was on its way when its program died may be committed any time."""


def seller(first: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.within.selling", str(first)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def kill_after(process: subprocess.Popen[str], steps: int) -> str:
    """Kill it right after so many steps -> what the last of them was."""
    assert process.stdout is not None
    last = ""
    for _ in range(steps):
        last = process.stdout.readline().strip()
        assert last, "it ended by itself"
    process.kill()
    process.communicate()
    return last


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_order_is_without_its_execution_and_none_the_other_way(database: str) -> None:
    ship.enqueue(0).cancel()  # the store is there
    seed = random.randrange(2**32)
    chance, killed = random.Random(seed), []
    for n in range(0, ROUNDS * SELLERS, SELLERS):
        sellers = [(k, seller(1 + 10_000 * k)) for k in range(n, n + SELLERS)]
        for k, process in sellers:
            killed.append(kill_after(process, 1 + k % 3 + 3 * chance.randint(0, 12)))
        ((ordered, started),) = asked(database, SOLD)
        assert ordered == started, f"seed {seed}, after {n + SELLERS}"
        assert not [number for number in ordered if number % 5 == 0], f"seed {seed}"
    assert set(killed) == {"ordered", "enqueued", "ended"}
    kitaru.recover()
    number = ordered[-1]
    inputs = {"order": number, "text": "large " * 10_000 * (number % 3 == 0)}
    shipped = ship.options(key=str(number)).enqueue(inputs)
    assert shipped.wait(timeout=PATIENCE_SECONDS) == inputs
