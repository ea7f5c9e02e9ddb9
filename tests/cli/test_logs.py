"""`kitaru executions logs`: for people and for programs, as it grows, and after a kill."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from kitaru.cli.canvas import Screen, painted
from kitaru.cli.logs import entry_lines
from kitaru.model import LogEntry
from kitaru.records import instant

from .programs import MAX_SECONDS, Project


def newest(project: Project) -> str:
    found: str = project.ask("executions", "list")["items"][0]["exec_id"]
    return found


def events_of(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        found: dict[str, Any] = json.loads(line)
        assert found["command"] == "executions.logs"
        yield found


def ended(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=MAX_SECONDS)
    return process.returncode


def test_logs_are_columns_in_a_pipe_and_items_in_json(project: Project) -> None:
    assert project.run("run", "shop.py:total", "--", "--count", "2").returncode == 0
    lines = project.run("executions", "logs", newest(project)).stdout.splitlines()
    assert [line.split("\t")[1:] for line in lines] == [
        ["INFO", "price", "pricing 0"],
        ["INFO", "price", "pricing 1"],
    ]
    found = project.ask("executions", "logs", newest(project), "--limit", "1")
    assert found["count"] == 1
    assert found["items"][0]["message"] == "pricing 1"
    assert found["items"][0]["checkpoint_name"] == "price"


def test_what_was_not_printed_is_told_and_what_cannot_be_is_refused(project: Project) -> None:
    assert project.run("run", "shop.py:total", "--", "--count", "1").returncode == 0
    none = project.run("executions", "logs", newest(project), "--level", "error")
    assert (none.returncode, none.stdout) == (0, "")
    assert "nothing like that was printed or logged" in none.stderr
    for words, said in (
        (["--checkpoint", "prise"], "Did you mean 'price'?"),
        (["--level", "warn"], "'warn' is not one of"),
        (["--limit", "0"], "pass a number from 1"),
    ):
        done = project.run("executions", "logs", newest(project), *words)
        assert done.returncode != 0
        assert said in done.stderr


@pytest.mark.slow
def test_following_shows_lines_as_they_come_and_ends_with_the_execution(project: Project) -> None:
    runs = project.run_to_the_gate()
    follower = project.start("executions", "logs", newest(project), "--follow", "-o", "json")
    events = events_of(follower)
    said = [next(events) for _ in range(4)]
    assert [event["item"]["message"] for event in said] == [
        "pricing 0",
        "pricing 1",
        "pricing 2",
        "at the gate",
    ]
    assert follower.poll() is None
    with open(project.folder / "gate", "w"):
        pass  # whoever waits at the gate may pass
    (end,) = list(events)
    assert (end["event"], end["item"]["status"]) == ("terminal", "completed")
    assert ended(follower) == 0
    assert ended(runs) == 0


@pytest.mark.slow
def test_what_a_killed_process_had_printed_is_there_and_the_next_life_adds_to_it(
    project: Project,
) -> None:
    runs = project.run_to_the_gate()
    exec_id = newest(project)
    follower = project.start("executions", "logs", exec_id, "--follow", "-o", "json")
    events = events_of(follower)
    while next(events)["item"]["message"] != "at the gate":
        pass
    runs.kill()
    ended(runs)
    (end,) = list(events)
    assert (end["event"], end["item"]["status"]) == ("interrupted", "interrupted")
    assert ended(follower) == 1
    # A line that was torn by the kill, which a reader leaves out.
    (path,) = (project.store / "logs").glob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"at":1,"sour')
    project.open_gate()
    assert project.run("executions", "resume", exec_id).returncode == 0
    found = project.ask("executions", "logs", exec_id)["items"]
    assert [item["message"] for item in found] == [
        "pricing 0",
        "pricing 1",
        "pricing 2",
        "at the gate",
        "at the gate",
    ]


def entry(message: str, **changed: Any) -> LogEntry:
    known: dict[str, Any] = {
        "level": "INFO",
        "timestamp": instant(1_000_000_123_000),
        "source": "stdout",
        "checkpoint_name": "fetch",
        "module": None,
        "filename": None,
        "lineno": None,
    }
    return LogEntry(message=message, **{**known, **changed})


def test_a_terminal_obeys_nothing_that_was_printed() -> None:
    screen = Screen(columns=80, drawn=True, colour=False)
    shown = entry_lines(entry("\x1b[31mred\x1b[0m\x07 \x1b]0;title\x07end"), screen)
    assert [painted(line, screen) for line in shown] == ["13:46:40.123 fetch red\\x07 end"]
    record = entry("one\ntwo", source="logging", level="ERROR", checkpoint_name=None)
    shown = entry_lines(record, screen)
    assert [painted(line, screen) for line in shown] == ["13:46:40.123 ERROR one", "  two"]


ASKS = """
import kitaru
from kitaru import flow

@flow
def asks() -> str:
    print("before")
    answer = kitaru.wait(name="go", schema=str)
    print("after", answer)
    return answer
"""


@pytest.mark.slow
def test_a_follower_is_told_that_the_execution_waits_and_goes_on_with_it(project: Project) -> None:
    (project.folder / "asks.py").write_text(ASKS)
    runs = project.start("run", "asks.py:asks")
    assert runs.stderr is not None
    while not runs.stderr.readline().startswith("kitaru: execution "):
        assert runs.poll() is None
    exec_id = newest(project)
    follower = project.start("executions", "logs", exec_id, "--follow", "-o", "json")
    events = events_of(follower)
    said = [next(events) for _ in range(2)]
    assert [event["event"] for event in said] == ["log", "waiting"]
    assert said[1]["item"]["pending_wait"]["name"] == "go"
    project.ask("executions", "input", exec_id, "--wait", "go", "--value", "yes")
    after = [event for event in events if event["item"].get("message") != "before"]
    assert [event["event"] for event in after] == ["log", "terminal"]
    assert after[0]["item"]["message"] == "after yes"
    assert ended(follower) == 0
    assert ended(runs) == 0
