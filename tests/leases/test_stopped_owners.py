"""Real processes on PostgreSQL: owners that stand still beyond their lease, and come back."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from .kit import LEASE_SECONDS, Fleet, check, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROUNDS = int(os.environ.get("KITARU_STOP_ROUNDS", "50"))
"""Owners that are stopped in all, several at once."""
PROCESSES = 6
AT_ONCE = 5


@pytest.fixture
def fleet(postgres_url: str, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(postgres_url, tmp_path) as fleet:
        yield fleet


def test_no_stale_write_of_a_stopped_owner_is_ever_accepted(fleet: Fleet) -> None:
    chance = random.Random(5)
    for number in range(PROCESSES):
        fleet.join(f"member-{number}")
    for member in fleet.members:
        member.begin()
    turns = -(-ROUNDS // AT_ONCE)
    for turn in range(turns):
        names = {f"member-{number} {turn}" for number in range(PROCESSES)}
        until(fleet.runs_just(names))
        victims = chance.sample(fleet.members, AT_ONCE)
        for member in victims:
            member.stop()
        # Everything that they own is owned by the one that is left.
        until(fleet.owned_by_none_of(victims))
        for member in victims:
            member.go_on()
        until(fleet.have_all_got_on)
        (fleet.folder / f"over-{turn}").touch()
        until(fleet.runs_none_of(names))
    fleet.end()
    entries = fleet.audit()
    check(entries)
    assert len({entry.exec_id for entry in entries if entry.epoch > 1}) >= turns * AT_ONCE
    states = fleet.ask("select distinct status from kitaru.executions")
    assert states == [("completed",)]
    # Who was declared dead went on as another owner, and never again as the one that it was.
    ((registered, dead),) = fleet.ask("select count(*), count(died_at) from kitaru.owners")
    assert registered == dead > PROCESSES


def test_c_code_that_holds_the_interpreter_beyond_the_lease_loses_it_and_hears_why(
    fleet: Fleet,
) -> None:
    fleet.join("heir", "adopt").begin()
    holder = fleet.join("holder", "hold")
    until(lambda: fleet.ask("select 1 from kitaru.executions where status = 'completed'") != [])
    holder.begin()
    until(lambda: "was declared dead by another one" in holder.said())
    assert f"and it holds for {LEASE_SECONDS} s" in holder.said()
    assert "C code held the interpreter's lock" in holder.said()
    fleet.end()
    entries = fleet.audit()
    check(entries)
    assert [(entry.epoch, entry.pid == holder.pid) for entry in entries] == [(2, False)]
