"""A program of the user's own, started in a terminal: its flows ask there, too, where they may."""

from __future__ import annotations

import pytest

from .desk import make_desk, standing
from .programs import Project
from .terminal import Terminal

WAITS = """
from desk import approve, review
print("result:", approve.run().wait())
"""
LEAVES = """
from desk import approve
approve.run()
"""
BOTH_AT_ONCE = """
from desk import approve, review
handles = [approve.run("1.0"), approve.run("2.0")]
print("results:", sorted(handle.wait() for handle in handles))
"""
TESTED = """
import os
os.environ["PYTEST_CURRENT_TEST"] = "somebody watches"
from desk import approve
handle = approve.run()
try:
    handle.wait(timeout=1)
except TimeoutError:
    print("not asked")
"""


@pytest.fixture
def desk(project: Project) -> Project:
    return make_desk(project)


def script(desk: Project, text: str, *options: str) -> Terminal:
    (desk.folder / "script.py").write_text(text)
    return Terminal(desk, "script.py", program=options)


def only_one(desk: Project) -> str:
    (item,) = desk.ask("executions", "list")["items"]
    exec_id: str = item["exec_id"]
    return exec_id


def test_a_script_asks_in_its_terminal(desk: Project) -> None:
    terminal = script(desk, WAITS)
    terminal.wait_for("(y/n) ")
    terminal.send("n\n")
    assert terminal.finish() == 0
    assert "result: notes of 1.0: False" in terminal.raw


def test_two_executions_ask_one_after_another(desk: Project) -> None:
    terminal = script(desk, BOTH_AT_ONCE)
    terminal.wait_for("(y/n) ")
    terminal.send("y\n")
    terminal.wait_for("(y/n) ", times=2)
    terminal.send("y\n")
    assert terminal.finish() == 0
    assert "results: ['notes of 1.0: True', 'notes of 2.0: True']" in terminal.raw


def test_ctrl_c_ends_the_script_and_the_execution_waits(desk: Project) -> None:
    terminal = script(desk, WAITS)
    terminal.wait_for("(y/n) ")
    terminal.send("\x03")
    assert terminal.finish() != 0
    exec_id = only_one(desk)
    assert standing(desk, exec_id)["status"] == "waiting"
    assert f"kitaru executions input {exec_id}" in terminal.raw
    done = desk.run("executions", "input", exec_id, "--value", "true", "--resume")
    assert done.stdout.splitlines() == ["notes of 1.0: True"]


def test_a_script_that_ends_leaves_the_question_and_says_how_to_answer(desk: Project) -> None:
    terminal = script(desk, LEAVES)
    assert terminal.finish() == 0
    exec_id = only_one(desk)
    assert standing(desk, exec_id)["status"] == "waiting"
    assert f"kitaru executions input {exec_id}" in terminal.raw


@pytest.mark.parametrize("text", [TESTED])
def test_a_test_is_not_asked(desk: Project, text: str) -> None:
    terminal = script(desk, text)
    assert terminal.finish() == 0
    assert "not asked" in terminal.raw
    assert "(y/n)" not in terminal.raw


def test_at_the_prompt_of_python_nothing_is_asked(desk: Project) -> None:
    terminal = script(desk, LEAVES, "-i", "-q")
    terminal.wait_for(">>> ")
    terminal.send("print('stil' + 'l mine')\n")
    terminal.wait_for("still mine")
    terminal.send("exit()\n")
    terminal.finish()
    assert "(y/n)" not in terminal.raw
