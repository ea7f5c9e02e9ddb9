"""`kitaru executions plan --all-live`: for people, for pipelines, against a folder of new code."""

from __future__ import annotations

from pathlib import Path

import pytest

from .programs import Project

DESK = """
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def price(goods: str) -> int:
    return len(goods)

@flow(strict=True)
def order(goods: str) -> int:
    total = price(goods)
    kitaru.wait(name="pay", schema=bool)
    return total
"""


@pytest.fixture
def desk(project: Project) -> Project:
    (project.folder / "desk.py").write_text(DESK)
    for goods in ("pen", "ink"):
        done = project.run("run", "desk.py:order", "--detach", "--", "--goods", goods)
        assert done.returncode == 0, done.stderr
    return project


def new_code(project: Project, old: str, new: str) -> Path:
    folder = project.folder.parent / "next"
    folder.mkdir()
    assert old in DESK
    (folder / "desk.py").write_text(DESK.replace(old, new))
    return folder


def test_the_code_that_is_there_goes_on_with_everything(desk: Project) -> None:
    done = desk.run("executions", "plan", "--all-live")
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(cells[0], *cells[2:]) for cells in lines] == [
        ("fine", "order", "waiting", "1", "0", "0", "0")
    ] * 2
    assert "2 unfinished executions: 2 fine" in done.stderr


def test_code_under_which_one_would_stop_fails_the_pipeline(desk: Project) -> None:
    folder = new_code(desk, "def price(goods: str)", "def price(goods: str, currency: str)")
    words = ("executions", "plan", "--all-live", "--code", str(folder))
    done = desk.run(*words)
    assert done.returncode == 1
    said = "price #0 is another call in this code: it needs 'currency'; the flow is strict, and"
    assert done.stdout.count(said) == 2
    assert "2 unfinished executions: 2 stops" in done.stderr
    as_json = desk.run(*words, "-o", "json")
    assert as_json.returncode == 1
    assert '"verdict": "stops", "counts": {"drift": 1}' in as_json.stdout


def test_code_without_the_flow_fails_the_pipeline(desk: Project) -> None:
    folder = new_code(desk, "def order(", "def purchase(")
    done = desk.run("executions", "plan", "--all-live", "--code", str(folder))
    assert done.returncode == 1
    assert "its flow is not in this code: " in done.stdout


def test_where_nothing_is_unfinished_there_is_nothing_to_say(project: Project) -> None:
    project.run("init")
    done = project.run("executions", "plan", "--all-live")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no execution is unfinished" in done.stderr


def test_a_folder_that_is_not_there_fails_the_pipeline_whatever_is_unfinished(
    project: Project,
) -> None:
    project.run("init")
    done = project.run("executions", "plan", "--all-live", "--code", "nowhere")
    assert done.returncode == 2
    assert "--code 'nowhere' is no folder" in done.stderr


@pytest.mark.parametrize(
    "words", [(), ("01a2", "--all-live"), ("--all-live", "--from", "x"), ("01a2", "--flow", "x")]
)
def test_words_that_do_not_go_together_are_wrong_usage(
    desk: Project, words: tuple[str, ...]
) -> None:
    assert desk.run("executions", "plan", *words).returncode == 2
