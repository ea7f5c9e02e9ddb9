"""`kitaru workers`, `limits` and `schedules remove`; queues in `status`, reasons in a list."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .programs import Project
from .terminal import Terminal

SHOP = """
import kitaru
from kitaru import flow

@flow
def report(year: int = 2025) -> int:
    return year

@flow(schedule="0 7 1 1 *")
def yearly() -> None: ...

if __name__ == "__main__":
    kitaru.configure(limits={"slow": 0})
    report.options(queue="slow").enqueue()
    report.options(delay=10_000_000).enqueue()
"""


@pytest.fixture
def queued(project: Project) -> Project:
    (project.folder / "desk.py").write_text(SHOP)
    done = subprocess.run(
        [sys.executable, "desk.py"], cwd=project.folder, env=project.environment(),
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return project


def test_who_works_is_listed_and_what_they_leave_alone_has_a_reason(queued: Project) -> None:
    nobody = queued.run("workers")
    assert (nobody.returncode, nobody.stdout) == (0, "")
    assert "no worker lives: start one with kitaru worker MODULE" in nobody.stderr
    lines = queued.run("executions", "list").stdout.splitlines()
    assert lines[0].endswith("\treason")
    assert all(
        line.endswith("no live worker: start one with: kitaru worker desk") for line in lines[1:]
    )

    words = ("desk.py", "--flows", "yearly", "--name", "clock", "--queue", "default", "-o", "json")
    worker = queued.start("worker", *words)
    assert worker.stdout is not None
    assert '"serving"' in worker.stdout.readline()
    try:
        head, line = queued.run("workers").stdout.splitlines()
        cells = dict(zip(head.split("\t"), line.split("\t"), strict=True))
        assert (cells["name"], cells["pid"]) == ("clock", str(worker.pid))
        assert (cells["flows"], cells["queues"], cells["state"]) == (
            "desk.yearly",
            "default",
            "serving",
        )
        (item,) = queued.ask("workers", "list")["items"]
        assert (item["name"], item["running"], item["draining"]) == ("clock", 0, False)
        for each in queued.ask("executions", "list")["items"]:
            reason = "no live worker knows flow 'report' (clock serve others): start one with"
            assert each["status_reason"].startswith(reason)
        refused = queued.run("schedules", "remove", "yearly")
        assert refused.returncode == 1
        assert "a live worker has flow desk.yearly" in refused.stderr
    finally:
        worker.terminate()
        worker.communicate(timeout=60)
    removed = queued.run("schedules", "remove", "yearly")
    assert removed.stdout == "yearly (0 7 1 1 *, UTC) is removed\n"
    assert queued.ask("schedules", "list")["items"] == []


def test_a_limit_is_listed_set_and_removed(queued: Project) -> None:
    assert queued.run("limits", "list").stdout == "name\tmax\ttaken\nslow\t0\t0\n"
    assert (
        queued.run("limits", "set", "mail", "2").stdout == "mail: at most 2 at once (0 run now)\n"
    )
    assert queued.ask("limits", "remove", "slow")["item"] == {"name": "slow", "max": 0, "taken": 0}
    assert queued.run("limits", "remove", "mail").stdout == "mail: no limit any more (it was 2)\n"
    nothing = queued.run("limits", "list")
    assert (nothing.stdout, "nothing is limited" in nothing.stderr) == ("", True)


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("set", "slow"), 2, "Missing argument 'MAX'"),
        (("set", "slow", "many"), 2, "'many' is not a valid integer"),
        (("set", "slow", "10001"), 2, "from 0 to 10,000"),
        (("set", "max_depth", "50"), 2, "is a limit of values"),
        (("remove", "slwo"), 1, "did you mean 'slow'?"),
    ],
)
def test_a_limit_that_cannot_be_says_why(
    queued: Project, words: tuple[str, ...], status: int, says: str
) -> None:
    refused = queued.run("limits", *words)
    assert (refused.returncode, refused.stdout) == (status, "")
    assert says in refused.stderr


def test_the_status_shows_what_stands_in_the_queues(queued: Project) -> None:
    shown = queued.run("status").stdout
    assert "default: 0 ready, 1 delayed, 0 running\n" in shown
    assert "slow: 1 ready, 0 of 0 running, the oldest from " in shown
    queues = queued.ask("status")["item"]["queues"]
    assert [(q["name"], q["ready"], q["delayed"], q["limit"]) for q in queues] == [
        ("default", 0, 1, None),
        ("slow", 1, 0, 0),
    ]


def test_a_person_sees_the_reason_below_what_is_queued(queued: Project) -> None:
    terminal = Terminal(queued, "executions", "list", columns=100)
    assert terminal.finish() == 0
    assert terminal.screen.count("  no live worker: start one with: kitaru worker desk") == 2
    terminal = Terminal(queued, "limits", "list")
    assert terminal.finish() == 0
    assert terminal.screen == ["NAME  MAX  TAKEN", "slow  0    0"]
