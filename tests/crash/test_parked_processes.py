"""Waits and sleeps across real processes: who goes on with what was parked, and what is said."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .programs import PATIENCE_SECONDS, World

ASKS = """
from tests.crash import clock

@flow
def asks():
    before = work("before")
    return [before[0], kitaru.wait(name="ok", schema=int, question="How many?"), work("after")[0]]

@flow
def naps():
    work("before")
    if sys.argv[1] == "naps":
        clock.stand()  # until it has parked: else the nap might be over before
    kitaru.sleep(1.2)
    return work("after")[0]

@flow
async def asks_hot():
    return await kitaru.wait(name="ok", schema=int, timeout=600)

@flow
def sleeps_long():
    kitaru.sleep(3600)

def shown(handle):
    print(json.dumps([handle.exec_id, handle.wait()]))

if __name__ == "__main__":
    what = sys.argv[1]
    if what == "asks":
        shown(asks.options(key="one").run())
    elif what == "leaves":
        for each in (asks, asks_hot, sleeps_long):
            each.options(key="one").run()
        handle = asks.options(key="two").run()
        while str(handle.status) != "waiting":
            time.sleep(0.01)
        note("left", handle.exec_id)
    elif what == "naps":
        handle = naps.options(key="one").run()
        while str(handle.status) != "waiting":
            time.sleep(0.01)
        clock.go()
        note("asleep", handle.exec_id)
        if "leave" not in sys.argv:
            shown(handle)
    elif what == "wakes":
        shown(naps.options(key="one").run())
    elif what == "answer":
        executions = kitaru.KitaruClient().executions
        executions.input(sys.argv[2], wait="ok", value=int(sys.argv[3]), by="a test")
    elif what == "recovers":
        kitaru.recover()
        note("recovers")
        shown({"asks": asks, "naps": naps}[sys.argv[2]].handle(sys.argv[3]))
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, ASKS)
    yield world
    world.end()


def _wait_until(world: World, status: str) -> str:
    """-> the id of the one execution, once it shows this status."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        rows = world.rows()
        if rows and rows[0]["status"] == status:
            exec_id: str = rows[0]["exec_id"]
            return exec_id
    raise AssertionError(f"never {status}: {world.rows()}")


@pytest.mark.slow
def test_a_process_that_parked_goes_on_by_itself_when_another_one_answers(world: World) -> None:
    first = world.start("asks")
    exec_id = _wait_until(world, "waiting")
    world.run("answer", exec_id, "7")
    said, complained = first.communicate(timeout=PATIENCE_SECONDS)
    assert json.loads(said) == [exec_id, ["before", 7, "after"]]
    assert world.starts() == ["before", "after"]
    command = f"kitaru executions input {exec_id} --wait ok --interactive"
    assert complained.count(command) == 1
    assert "waits for input 'ok' (How many?)" in complained


@pytest.mark.slow
def test_whoever_has_the_key_goes_on_with_what_a_dead_process_had_parked(world: World) -> None:
    first = world.start("asks")
    exec_id = _wait_until(world, "waiting")
    first.kill()
    first.wait()
    second = world.start("asks")
    world.run("answer", exec_id, "8")
    assert world.result(second) == [exec_id, ["before", 8, "after"]]
    assert world.starts() == ["before", "after"]


@pytest.mark.slow
@pytest.mark.parametrize("answered", ["before", "after"])
def test_a_process_that_recovers_goes_on_with_what_was_answered_for_a_dead_one(
    world: World, answered: str
) -> None:
    first = world.start("asks")
    exec_id = _wait_until(world, "waiting")
    first.kill()
    first.wait()
    if answered == "before":
        world.run("answer", exec_id, "9")
    second = world.start("recovers", "asks", exec_id)
    if answered == "after":
        world.wait_until_noted("recovers")
        world.run("answer", exec_id, "9")
    assert world.result(second) == [exec_id, ["before", 9, "after"]]


@pytest.mark.slow
@pytest.mark.parametrize("words", [["wakes"], ["recovers", "naps"]], ids=["key", "recover"])
def test_a_sleep_goes_on_in_another_process_at_the_instant_that_was_recorded(
    world: World, words: list[str]
) -> None:
    world.run("naps", "leave")
    (_, _, _, exec_id), *_ = [line for line in world.journal() if line[2] == "asleep"]
    began = next(line[0] for line in world.journal() if line[2:4] == ["start", "before"])
    rest = [exec_id] if words[0] == "recovers" else []
    assert world.run(*words, *rest) == [exec_id, "after"]
    again = next(line[0] for line in world.journal() if line[2:4] == ["start", "after"])
    assert again - began >= 1.2
    assert world.starts() == ["before", "after"]


@pytest.mark.slow
def test_a_program_that_ends_parks_what_waits_at_once_and_says_how_it_goes_on(
    world: World,
) -> None:
    process = world.start("leaves")
    # No wait of theirs is over by then.
    _, complained = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, complained
    assert [row["status"] for row in world.rows()] == ["waiting"] * 4
    assert {row["owner"] for row in world.rows()} == {None}
    assert "4 executions wait" in complained
    assert "kitaru executions list --status waiting" in complained


@pytest.mark.slow
def test_resuming_by_hand_what_waits_says_what_it_waits_for(world: World) -> None:
    first = world.start("asks")
    exec_id = _wait_until(world, "waiting")
    first.kill()
    first.wait()
    resumed = _kitaru(world, "executions", "resume", exec_id)
    assert resumed.returncode == 1
    assert "waits for input 'ok' (How many?)" in resumed.stderr
    assert f"kitaru executions input {exec_id} --wait ok" in resumed.stderr


def _kitaru(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "kitaru", *words],
        capture_output=True,
        text=True,
        cwd=world.folder,
        env={**os.environ, "KITARU_STORE": str(world.folder / "store")},
        timeout=PATIENCE_SECONDS,
    )
