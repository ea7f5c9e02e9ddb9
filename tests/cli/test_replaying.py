"""Replays and plans from the command line, as real processes."""

from __future__ import annotations

import pytest

from .programs import Project, one_line

DESK = """
from dataclasses import dataclass

from kitaru import checkpoint, flow, log


@dataclass
class Draft:
    text: str
    pages: int


@checkpoint
def draft(topic: str) -> Draft:
    print("drafting", topic)
    log(cost=0.25)
    return Draft(topic, len(topic))


@checkpoint
def publish(work: Draft) -> str:
    print("publishing", work.text)
    return f"{work.text} ({work.pages})"


@flow
def desk(topic: str) -> str:
    return publish(draft(topic))
"""


@pytest.fixture
def desk(project: Project) -> str:
    (project.folder / "desk.py").write_text(DESK)
    item = project.ask("run", "desk.py:desk", "--args", '{"topic": "rivers"}')["item"]
    assert item["result"] == "rivers (6)"
    exec_id: str = item["exec_id"]
    return exec_id


def test_an_outcome_is_given_as_json_of_what_the_checkpoint_returns(
    project: Project, desk: str
) -> None:
    given = '{"checkpoint.draft": {"text": "mine", "pages": 2}}'
    done = project.run("executions", "replay", desk, "--overrides", given)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["publishing mine", "mine (2)"]
    assert f"replays {desk}" in done.stderr
    item = project.ask("executions", "replay", desk, "--from", "publish")["item"]
    assert (item["result"], item["original_exec_id"]) == ("rivers (6)", desk)
    item = project.ask("executions", "replay", desk, "--args", '{"topic": "lakes"}')["item"]
    assert item["result"] == "lakes (5)"


def test_a_plan_is_told_and_nothing_runs(project: Project, desk: str) -> None:
    item = project.ask("executions", "plan", desk, "--from", "draft")["item"]
    assert (item["verb"], item["counts"]) == ("replay", {"run": 2})
    assert item["costs"] == {"run": {"cost": 0.25}}
    assert [call["code"] for call in item["calls"]] == ["same", "same"]
    changed = DESK.replace("return f", "return '~' + f")
    (project.folder / "desk.py").write_text(changed)
    done = project.run("executions", "plan", desk)
    assert done.returncode == 0, done.stderr
    assert "publish #1  is carried over" in done.stdout
    assert "code changed: desk.publish" in done.stdout
    assert len(project.ask("executions", "list")["items"]) == 1


NONSENSE = [
    (["replay", "--overrides", "{"], "--overrides is not JSON"),
    (["replay", "--overrides", "[1]"], "--overrides is the JSON of a list"),
    (["replay", "--overrides", '{"draft": 1}'], "a key is checkpoint.NAME"),
    (["replay", "--args", "[1]"], "a replay changes inputs by name"),
    (["replay", "--args", '{"tpoic": 1}'], "unexpected keyword argument"),
    (["replay", "--from", "drift"], "is no recorded call"),
    (["plan", "--for", "retry"], "only a failed one"),
    (["plan", "--for", "resume"], "nothing to resume"),
]


def test_what_makes_no_sense_is_a_typed_error(project: Project, desk: str) -> None:
    for (verb, *words), says in NONSENSE:
        done = project.run("executions", verb, desk, *words, "-o", "json")
        assert done.returncode in (1, 2), words
        assert says in one_line(done.stderr)["error"]["message"], words
