"""``kitaru executions decide``, families on the command line, and a person at the terminal."""

from __future__ import annotations

import json
import shlex

import pytest

from .programs import Project
from .terminal import Terminal

TILL = """
import os
import signal
import sys

from kitaru import checkpoint, flow

HERE = os.path.dirname(os.path.abspath(__file__))


def there(name: str) -> bool:
    return os.path.exists(os.path.join(HERE, name))


@checkpoint(effect="once")
def charge(cents: int) -> str:
    if there("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    return f"receipt for {cents}"


@checkpoint(cache=False)
def note(what: str) -> str:
    return what


@flow
def sell(cents: int) -> str:
    return charge(cents)


@flow(strict=True)
def strictly() -> str:
    found = note("new" if there("changed") else "old")
    if not there("changed"):
        os.kill(os.getpid(), signal.SIGKILL)
    return found


@flow
def family(count: int) -> list[str]:
    return [handle.wait() for handle in [sell.run(cents) for cents in range(count)]]
"""


@pytest.fixture
def till(project: Project) -> Project:
    (project.folder / "till.py").write_text(TILL)
    return project


def uncertain(till: Project) -> str:
    """An execution whose process died in the body, resumed until it waits for a person."""
    (till.folder / "dies").touch()
    assert till.run("run", "till.py:sell", "--key", "k", "--", "--cents", "5").returncode == -9
    (till.folder / "dies").unlink()
    parked = till.run("run", "till.py:sell", "--key", "k", "--detach", "--", "--cents", "5")
    assert parked.returncode == 0, parked.stderr
    assert "kitaru executions decide" in parked.stderr
    return str(till.ask("executions", "list")["items"][0]["exec_id"])


def test_adopt_takes_a_value_and_goes_on_here(till: Project) -> None:
    exec_id = uncertain(till)
    shown = till.run("executions", "get", exec_id).stdout
    assert "charge" in shown
    assert f"kitaru executions decide {exec_id}" in shown
    wrong = till.run("executions", "decide", exec_id, "charge", "adopt")
    assert wrong.returncode == 2
    assert "--value JSON" in wrong.stderr
    done = till.run(
        "executions", "decide", exec_id, "charge", "adopt", "--value", '"by hand"', "--resume"
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, ["by hand"]), done.stderr
    late = till.run("executions", "decide", exec_id, "charge", "run")
    assert late.returncode == 1
    assert "already" in late.stderr


def test_the_command_that_is_advised_decides_nothing_when_it_is_pasted(till: Project) -> None:
    exec_id = uncertain(till)
    shown = till.run("executions", "get", exec_id).stdout.splitlines()[-1]
    status = till.run("status").stdout.splitlines()[-1]
    for line in (shown.removeprefix("decide: "), status.removeprefix("decide with")):
        words = shlex.split(line, comments=True)
        assert words[:4] == ["kitaru", "executions", "decide", exec_id]
        pasted = till.run(*words[1:])
        assert pasted.returncode == 2
        assert all(choice in pasted.stderr for choice in ("run", "adopt", "abort"))
        assert "No such" not in pasted.stderr
    assert till.ask("executions", "get", exec_id)["item"]["status"] == "waiting"


def test_run_says_who_goes_on_and_abort_cancels(till: Project) -> None:
    exec_id = uncertain(till)
    done = till.run("executions", "decide", exec_id, "charge", "run")
    assert done.returncode == 0, done.stderr
    assert f"kitaru executions resume {exec_id}" in done.stderr
    assert till.run("executions", "resume", exec_id).stdout.splitlines() == ["receipt for 5"]


def test_abort_cancels_and_says_so_to_programs(till: Project) -> None:
    exec_id = uncertain(till)
    item = till.ask("executions", "decide", exec_id, "charge", "abort")["item"]
    assert (item["decision"], item["status"]) == ("abort", "cancelled")


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "result"), [("run", "new"), ("adopt", "old")])
def test_in_a_strict_flow_the_person_at_the_terminal_is_asked(
    till: Project, answer: str, result: str
) -> None:
    assert till.run("run", "till.py:strictly", "--key", "k").returncode == -9
    (till.folder / "changed").touch()
    terminal = Terminal(till, "run", "till.py:strictly", "--key", "k", stdout_is_pipe=True)
    terminal.wait_for("recorded with other inputs")
    terminal.wait_for("wanted")
    terminal.send(f"{answer}\r")
    assert terminal.finish() == 0, terminal.raw
    assert terminal.out().splitlines() == [result]


def test_without_a_terminal_a_strict_flow_diverges(till: Project) -> None:
    assert till.run("run", "till.py:strictly", "--key", "k").returncode == -9
    (till.folder / "changed").touch()
    done = till.run("run", "till.py:strictly", "--key", "k")
    assert done.returncode == 1
    assert "strict flow" in done.stderr


def test_a_family_is_shown_as_a_tree_by_get_and_in_json(till: Project) -> None:
    done = till.run("run", "till.py:family", "--", "--count", "3")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [f"receipt for {cents}" for cents in range(3)]
    assert "flow sell" in done.stderr
    (parent,) = till.ask("executions", "list", "--flow", "family")["items"]
    shown = till.run("executions", "get", parent["exec_id"]).stdout
    assert [line.split()[2:4] for line in shown.splitlines() if " sell" in line] == [
        ["sell", "completed"]
    ] * 3
    item = till.ask("executions", "get", parent["exec_id"])["item"]
    assert [child["flow_name"] for child in item["children"]] == ["sell"] * 3
    listed = till.ask("executions", "list")["items"]
    assert {each["parent_exec_id"] for each in listed} == {None, parent["exec_id"]}
