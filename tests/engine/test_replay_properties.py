"""Replays of random flows: like their source, but for what depends on what was changed.

A program is a tree of steps that a flow interprets: calls, calls inside calls, maps,
concurrent branches, failures that are caught, tries, and choices by what a call returned. Each body
puts a mark into its value that no other has, so that whatever runs again shows in every
value that depends on it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import KitaruError

from .looking import calls

MARKS = itertools.count()
RAN: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


def mark(what: str) -> str:
    RAN.append(what)
    return f"~{next(MARKS)}"


@checkpoint(cache=False)
def one(what: str) -> str:
    return f"one{mark(what)}[{what[-40:]}]"


@checkpoint(cache=False)
def two(what: str, more: int = 0) -> str:
    return f"two{mark(what)}[{what[-40:]}]"


@checkpoint(cache=False)
def fails(what: str) -> str:
    raise ValueError(f"fails{mark(what)}[{what[-40:]}]")


@checkpoint(cache=False, retries=kitaru.Retry(max_attempts=3, initial_seconds=0))
def tries(what: str) -> str:
    if kitaru.current().attempt < 2:
        raise ValueError("not yet")
    return f"tries{mark(what)}[{one(what)[-20:]}]"


@checkpoint(cache=False)
def nest(what: str, steps: list[Any]) -> str:
    return f"nest{mark(what)}[{run_steps(steps, what)[-40:]}]"


@checkpoint(cache=False)
async def later(what: str) -> str:
    for _ in range(len(what) % 3):
        await asyncio.sleep(0)
    return f"later{mark(what)}[{what[-40:]}]"


SIMPLE = {"one": one, "two": two, "tries": tries}


def run_steps(steps: list[Any], value: str) -> str:
    for kind, *details in steps:
        if kind in SIMPLE:
            (uses,) = details
            value = SIMPLE[kind](value if uses else "same")
        elif kind == "fails":
            try:
                fails(value)
            except ValueError as error:
                value = str(error)
        elif kind == "map":
            name, count = details
            value = "".join(SIMPLE[name].map([f"{value[-9:]}{i}" for i in range(count)]).results())
        elif kind == "nest":
            value = nest(value[-20:], details[0])
        elif kind == "fact":
            value += one(f"{kitaru.now()}{kitaru.random()}")
        elif kind == "choice":
            yes, no = details
            value = run_steps(yes if sum(value.encode()) % 2 else no, value)
    return value


@flow
def sync_program(steps: list[Any]) -> str:
    return run_steps(steps, "start")


@flow
async def async_program(branches: list[Any]) -> list[str]:
    async def branch(number: int, steps: list[Any]) -> str:
        value = f"b{number}"
        for kind, *details in steps:
            if kind == "one":
                value = one(value)
            elif kind == "fact":
                value = await later(f"{value[-9:]}{kitaru.uuid4()}")
            else:
                value = await later(value if details and details[0] else "same")
        return value

    return await asyncio.gather(*(branch(n, steps) for n, steps in enumerate(branches)))


def random_steps(dice: random.Random, depth: int = 0) -> list[Any]:
    steps: list[Any] = []
    for _ in range(dice.randint(1, 5)):
        kind = dice.choice(["one", "one", "two", "tries", "fails", "map", "nest", "fact", "choice"])
        if kind in SIMPLE:
            steps.append([kind, dice.random() < 0.7])
        elif kind == "map":
            steps.append(["map", dice.choice(["one", "two"]), dice.randint(1, 4)])
        elif kind == "nest" and depth < 2:
            steps.append(["nest", random_steps(dice, depth + 1)])
        elif kind == "choice" and depth < 2:
            steps.append(["choice", random_steps(dice, 2), random_steps(dice, 2)])
        elif kind in ("fails", "fact"):
            steps.append([kind])
    return steps


def random_run(seed: int) -> tuple[Any, str, Any]:
    """(flow, execution, result) of a program of that seed."""
    dice = random.Random(seed)
    if dice.random() < 0.7:
        program: Any = sync_program
        handle = program.run(random_steps(dice))
    else:
        program = async_program
        kinds = ["one", "fact", "later"]
        branches = [
            [[dice.choice(kinds), dice.random() < 0.7] for _ in range(dice.randint(1, 4))]
            for _ in range(dice.randint(2, 4))
        ]
        handle = program.run(branches)
    return program, handle.exec_id, handle.wait()


def shape(exec_id: str) -> Counter[Any]:
    """Every attempt of every call, with its value, whatever the order of recording."""
    return Counter(
        (row.identity, row.attempt, row.state, row.parent, row.place, row.payload)
        for row in calls(exec_id)
    )


def order(exec_id: str) -> list[str]:
    return [c.name for c in KitaruClient().executions.list_checkpoints(exec_id)]


def ends(handle: Any) -> Any:
    """The result, or the failure's words."""
    try:
        return handle.wait(timeout=60)
    except KitaruError as error:
        return str(error.__cause__)


SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replay_without_overrides_is_identical_to_its_source(seed: int) -> None:
    program, source, result = random_run(seed)
    RAN.clear()
    once = program.replay(source)
    assert once.wait() == result
    twice = program.replay(once.exec_id)
    assert twice.wait() == result
    assert RAN == []
    assert shape(once.exec_id) == shape(source) == shape(twice.exec_id)
    if program is sync_program:
        assert order(once.exec_id) == order(source) == order(twice.exec_id)


def holders(exec_id: str, identity: bytes) -> set[bytes]:
    parents = {row.identity: row.parent for row in calls(exec_id)}
    found = set()
    above = parents.get(identity)
    while above is not None:
        found.add(above)
        above = parents.get(above)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_with_one_override_only_what_depends_on_it_runs(seed: int) -> None:
    program, source, _ = random_run(seed)
    known = {row.identity for row in calls(source)}
    chosen = random.Random(seed).choice(KitaruClient().executions.list_checkpoints(source))
    meant = next(
        row.identity
        for row in calls(source)
        if row.identity.hex().startswith(chosen.call_id.rpartition(":")[2])
    )
    handle = program.replay(source, overrides={f"checkpoint.{chosen.call_id}": "GIVEN"})
    ends(handle)
    above = holders(source, meant)
    given = [row for row in calls(handle.exec_id) if row.source.value == "override"]
    assert [row.identity for row in given] == [meant]
    for row in calls(handle.exec_id):
        if row.identity == meant:
            continue
        depends = row.identity not in known or row.identity in above
        expected = "ran" if depends else "carried"
        attempt_before = row.source.value == "carried" and row.state.value == "failed"
        assert row.source.value == expected or (row.identity in above and attempt_before), row
    assert all(row.source.value == "ran" for row in calls(source))


@pytest.mark.parametrize("seed", SEEDS)
def test_from_a_call_on_it_and_what_comes_after_it_run_anew(seed: int) -> None:
    program, source, _ = random_run(seed)
    listed = KitaruClient().executions.list_checkpoints(source)
    chosen = random.Random(seed + 1).choice(listed)
    rows = calls(source)
    first = {row.identity: row for row in reversed(rows)}
    last = {row.identity: row for row in rows}
    meant = next(
        identity
        for identity in first
        if identity.hex().startswith(chosen.call_id.rpartition(":")[2])
    )
    above = holders(source, meant)
    handle = program.replay(source, chosen.call_id)
    ends(handle)
    started_at = first[meant].started_at
    recorded = {row.identity: number for number, row in enumerate(rows)}
    until = rows.index(first[meant])
    for row in calls(handle.exec_id):
        # Over a network one may have ended before it, and be recorded behind it.
        before = (
            row.identity in last
            and last[row.identity].ended_at < started_at
            and recorded[row.identity] < until
        )
        if row.identity in above:
            continue
        if row.identity == meant or not before:
            equal = row.identity in last and last[row.identity].ended_at == started_at
            assert row.source.value == "ran" or equal, row
        else:
            assert row.source.value == "carried", row
