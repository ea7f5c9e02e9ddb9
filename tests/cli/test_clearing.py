"""`kitaru gc` and `kitaru executions delete`: what they print, refuse and ask."""

from __future__ import annotations

import json

from .programs import Project


def newest(project: Project) -> str:
    found: str = project.ask("executions", "list")["items"][0]["exec_id"]
    return found


def test_a_deleted_execution_is_told_from_one_that_never_was(project: Project) -> None:
    assert project.run("run", "shop.py:total", "--", "--count", "2").returncode == 0
    exec_id = newest(project)
    done = project.run("executions", "delete", exec_id[-8:], "--yes")
    assert (done.returncode, done.stdout) == (0, f"deleted {exec_id}\n")
    asked = project.run("executions", "get", exec_id)
    assert asked.returncode == 1
    assert "was deleted on" in asked.stderr
    assert "it was completed" in asked.stderr
    assert project.ask("executions", "list")["items"] == []
    never = project.run("executions", "delete", exec_id.replace("0", "1"), "--yes")
    assert "no execution" in never.stderr


def test_deleting_is_for_ever_so_somebody_has_to_say_yes(project: Project) -> None:
    project.run("run", "shop.py:total", "--", "--count", "2")
    for words in ([], ["-o", "json"]):
        refused = project.run("executions", "delete", newest(project), *words)
        assert refused.returncode == 2
        assert "--yes" in refused.stderr
    assert len(project.ask("executions", "list")["items"]) == 1


def test_one_misspelt_id_deletes_none(project: Project) -> None:
    project.run("run", "shop.py:total", "--", "--count", "2")
    exec_id = newest(project)
    assert project.run("executions", "delete", exec_id, "ffffffff", "--yes").returncode == 1
    assert newest(project) == exec_id


def test_deleting_answers_in_json_too(project: Project) -> None:
    project.run("run", "shop.py:total", "--", "--count", "2")
    exec_id = newest(project)
    done = project.run("executions", "delete", exec_id, exec_id, "--yes", "-o", "json")
    assert json.loads(done.stdout) == {
        "command": "executions.delete",
        "items": [{"exec_id": exec_id}],
        "count": 1,
    }


FLOW = """
from kitaru import checkpoint, flow

@checkpoint
def draw(size: int) -> str:
    return "x" * size

@flow(retention=0.001)
def passing(size: int) -> int:
    return len(draw(size))
"""


def test_gc_tells_removes_and_says_so(project: Project) -> None:
    (project.folder / "passing.py").write_text(FLOW)
    project.run("run", "shop.py:total", "--", "--count", "2")
    stays = newest(project)
    assert project.run("run", "passing.py:passing", "--", "--size", "50000").returncode == 0
    goes = newest(project)
    # Kept for one second at least, in which it is not found to be past its time.
    database = project.folder / ".kitaru"
    planned = project.ask("gc", "--dry-run", "--grace", "0")["item"]
    assert set(planned) == {"executions", "kept", "rows", "blobs", "bytes", "dry_run"}
    assert planned["dry_run"] is True
    assert database.is_dir()
    while not planned["executions"]:
        planned = project.ask("gc", "--dry-run", "--grace", "0")["item"]
    assert planned["executions"] == [goes]
    done = project.run("gc", "--grace", "0")
    assert (done.returncode, done.stdout.startswith("removed 1 execution and 1 large value")) == (
        0,
        True,
    )
    assert newest(project) == stays
    assert project.run("gc", "--grace", "0").stdout == (
        "removed 0 executions and 0 large values (0 B)\n"
    )
    assert project.run("gc", "--grace", "-1").returncode == 2
