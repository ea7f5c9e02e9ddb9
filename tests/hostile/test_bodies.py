"""Bodies that do to their process what bodies must not do, as processes of their own.

What a process survives, the execution survives; what fails is recorded as the user's; what ends
the process is gone on with; and what takes the store away stops the process and leaves the store.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .programs import (
    ASYNC,
    COMPLETES,
    DIES,
    FAILS,
    STOPS,
    Program,
    alone,
    together,
)

QUICK = {"kills itself", "becomes another program", "closes them and opens files of its own"}
"""One process each; the others take no other way and are tried in the slow tests."""


def quickly(names: dict[str, Any]) -> list[Any]:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


def executions(program: Program) -> list[dict[str, Any]]:
    listed = program.kitaru("executions", "list", "-o", "json")
    assert listed.returncode == 0, listed.stderr
    items: list[dict[str, Any]] = json.loads(listed.stdout)["items"]
    return items


def calls(program: Program, exec_id: str) -> list[dict[str, Any]]:
    shown = program.kitaru("executions", "get", exec_id, "-o", "json")
    assert shown.returncode == 0, shown.stderr
    found: list[dict[str, Any]] = json.loads(shown.stdout)["item"]["checkpoints"]
    return found


def test_what_a_process_survives_costs_the_execution_nothing(tmp_path: Path) -> None:
    """One after the other in one process, each in the ruins of those before it."""
    program = Program(tmp_path, together(list(COMPLETES.values())))
    done = program.run()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == list(range(len(COMPLETES)))
    assert program.journal() == ["before", "after"]


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPLETES)
def test_a_body_that_shakes_its_process_completes(name: str, tmp_path: Path) -> None:
    program = Program(tmp_path, alone(COMPLETES[name]))
    done = program.run()
    assert (done.returncode, done.stdout) == (0, '["before", "done", "after"]\n'), done.stderr
    (execution,) = executions(program)
    assert execution["status"] == "completed"


def test_what_a_body_raises_is_recorded_and_raised_to_the_flow(tmp_path: Path) -> None:
    program = Program(tmp_path, together([body for body, _ in FAILS.values()]))
    done = program.run()
    assert done.returncode == 0, done.stderr
    kinds = [kind for _, kind in FAILS.values()]
    assert json.loads(done.stdout) == kinds
    (execution,) = executions(program)
    failed = [call for call in calls(program, execution["exec_id"]) if call["status"] == "failed"]
    assert [call["failure"]["exception_type"].split(".")[-1] for call in failed] == kinds
    assert {call["failure"]["origin"] for call in failed} == {"user_code"}
    assert all(len(call["failure"]["message"]) < 100_000 for call in failed)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAILS)
def test_a_body_that_raises_fails_the_flow_that_does_not_catch_it(
    name: str, tmp_path: Path
) -> None:
    body, kind = FAILS[name]
    program = Program(tmp_path, alone(body))
    done = program.run()
    assert done.returncode == 1
    assert "KitaruUserCodeError" in done.stderr
    assert kind in done.stderr
    assert len(done.stderr) < 100_000
    (execution,) = executions(program)
    assert (execution["status"], execution["failure"]["origin"]) == ("failed", "user_code")


@pytest.mark.parametrize("name", quickly(DIES))
def test_a_body_that_ends_its_process_costs_only_itself(name: str, tmp_path: Path) -> None:
    program = Program(tmp_path, alone(DIES[name]))
    assert program.run().stdout == ""
    (execution,) = executions(program)
    assert execution["status"] in ("interrupted", "pending")
    program.calm()
    again = program.run()
    assert (again.returncode, again.stdout) == (0, '["before", "calm", "after"]\n'), again.stderr
    assert program.journal() == ["before", "hostile", "hostile", "after"]
    assert [one["exec_id"] for one in executions(program)] == [execution["exec_id"]]


@pytest.mark.parametrize("name", quickly(STOPS))
def test_a_body_that_takes_the_store_away_stops_its_process(name: str, tmp_path: Path) -> None:
    program = Program(tmp_path, alone(STOPS[name]))
    done = program.run()
    assert done.returncode == 1
    # A body that may open no file may be the first to want one.
    first = "Too many open files" if name == "may open no file any more" else "KitaruBackendError"
    assert "KitaruBackendError" in done.stderr or first in done.stderr, done.stderr
    assert "after" not in program.journal()
    for victim in tmp_path.glob("victim-*"):
        assert victim.read_bytes() == b"mine", "the store was written into a file of the user's"
    program.calm()
    again = program.run()
    if name == "may open no file any more":  # then the body's own file failed it first
        assert "Too many open files" in again.stderr
        return
    assert (again.returncode, again.stdout) == (0, '["before", "calm", "after"]\n'), again.stderr
    if name != "deletes the store":
        assert program.journal() == ["before", "hostile", "hostile", "after"]


def test_an_async_flow_whose_descriptors_are_closed_does_not_hang(tmp_path: Path) -> None:
    program = Program(tmp_path, ASYNC)
    done = program.run()
    assert done.returncode == 1
    assert "KitaruBackendError" in done.stderr, done.stderr
    program.calm()
    again = program.run()
    assert (again.returncode, again.stdout) == (0, '["before", "calm"]\n'), again.stderr
