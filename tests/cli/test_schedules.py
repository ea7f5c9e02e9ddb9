"""`kitaru schedules`: what it prints and does; the fire time in `executions get`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .programs import Project

TIMER = """
import kitaru
from kitaru import app, flow
from kitaru._engine.schedules import Schedules

@flow(schedule="0 7 1 1 *", timezone="Europe/Berlin")
def report(topic: str = "rivers") -> str:
    return topic

if __name__ == "__main__":  # what a worker does when it starts
    Schedules(app.current().runner).register(app.known_flows())
"""


@pytest.fixture
def timed(project: Project) -> Project:
    (project.folder / "timer.py").write_text(TIMER)
    done = subprocess.run(
        [sys.executable, "timer.py"], cwd=project.folder, env=project.environment(), check=False,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return project


def test_a_project_without_schedules_says_so(project: Project) -> None:
    project.run("init")
    done = project.run("schedules", "list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no flow starts by itself" in done.stderr


def test_schedules_are_listed_for_people_and_programs(timed: Project) -> None:
    head, line = timed.run("schedules", "list").stdout.splitlines()
    assert head.split("\t")[:6] == ["flow", "schedule", "timezone", "missed", "state", "next"]
    cells = line.split("\t")
    assert cells[:5] == ["report", "0 7 1 1 *", "Europe/Berlin", "last", "unserved"]
    assert cells[5].endswith("-01-01 06:00:00Z")
    assert cells[8] == "no live worker has this flow: start one with kitaru worker timer"
    (item,) = timed.ask("schedules", "list")["items"]
    assert (item["flow_id"], item["state"], item["skipped"]) == ("timer.report", "unserved", 0)


def test_a_schedule_is_paused_and_resumed(timed: Project) -> None:
    assert "Europe/Berlin) is paused since 2" in timed.run("schedules", "pause", "report").stdout
    (item,) = timed.ask("schedules", "list")["items"]
    assert (item["state"], item["due_at"]) == ("paused", None)
    assert timed.ask("schedules", "resume", "report")["item"]["state"] == "unserved"


def test_firing_prints_the_id_and_the_execution_says_its_fire_time(timed: Project) -> None:
    fired = timed.run("schedules", "fire", "report", "--at", "2026-01-01T06:00")
    exec_id = fired.stdout.strip()
    assert fired.returncode == 0, fired.stderr
    shown = timed.run("executions", "get", exec_id).stdout
    assert "for 2026-01-01 06:00:00Z by '0 7 1 1 *' (Europe/Berlin)" in shown
    again = timed.ask("schedules", "fire", "report", "--at", "2026-01-01T06:00")
    assert again["item"]["exec_id"] == exec_id
    resumed = timed.run("executions", "resume", exec_id)
    assert resumed.returncode == 0, resumed.stderr
    assert timed.run("executions", "get", exec_id, "--result").stdout.strip() == "rivers"


def test_a_flow_that_has_none_is_not_found(timed: Project) -> None:
    refused = timed.run("schedules", "pause", "reprot")
    assert refused.returncode == 1
    assert "did you mean 'report'?" in refused.stderr
