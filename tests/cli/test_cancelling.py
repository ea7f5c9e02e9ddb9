"""``kitaru executions cancel``, from a second process, as people use it."""

from __future__ import annotations

import os
import signal

import pytest

from .programs import MAX_SECONDS, Project, last_line


def the_only(project: Project) -> dict[str, object]:
    (item,) = project.ask("executions", "list")["items"]
    found: dict[str, object] = item
    return found


@pytest.mark.slow
def test_a_cancel_from_another_process_stops_what_runs_once_its_body_has_ended(
    project: Project,
) -> None:
    running = project.run_to_the_gate()
    exec_id = str(the_only(project)["exec_id"])

    told = project.run("executions", "cancel", exec_id[-12:], "--no-wait", "--reason", "too dear")
    assert told.returncode == 0, told.stderr
    assert told.stdout == f"execution {exec_id} of flow 'gated' is cancelling\n"
    assert the_only(project)["status"] == "cancelling"
    shown = project.run("executions", "get", exec_id).stdout
    assert "cancelling" in shown
    assert "too dear" in shown

    waiting = project.start("executions", "cancel", exec_id)
    assert waiting.stderr is not None
    assert "has not stopped yet" in waiting.stderr.readline()
    os.close(os.open(project.folder / "gate", os.O_WRONLY))
    out, err = waiting.communicate(timeout=MAX_SECONDS)
    assert (waiting.returncode, out) == (0, f"execution {exec_id} of flow 'gated' is cancelled\n")
    _, err = running.communicate(timeout=MAX_SECONDS)
    assert running.returncode == 1
    assert "too dear" in err
    assert "execution-cancelled" in err
    item = project.ask("executions", "get", exec_id)["item"]
    assert item["status"] == "cancelled"
    assert "too dear" in item["status_reason"]
    assert [call["name"] for call in item["checkpoints"]] == ["price"] * 3 + ["gate"]


def test_what_is_interrupted_is_cancelled_at_once(project: Project) -> None:
    running = project.run_to_the_gate()
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=MAX_SECONDS)
    exec_id = the_only(project)["exec_id"]

    (item,) = project.ask("executions", "cancel", str(exec_id))["items"]

    assert item["status"] == "cancelled"
    assert the_only(project)["status"] == "cancelled"


def test_one_that_has_ended_is_told_and_the_others_are_cancelled(project: Project) -> None:
    project.run("run", "shop.py:total", "--", "--count", "1")
    ended = str(the_only(project)["exec_id"])
    running = project.run_to_the_gate()
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=MAX_SECONDS)
    other = str(project.ask("executions", "list")["items"][0]["exec_id"])

    done = project.run("executions", "cancel", ended, other)

    assert done.returncode == 1
    assert done.stdout == f"execution {other} of flow 'gated' is cancelled\n"
    assert "there is nothing to cancel" in done.stderr


def test_a_mistyped_id_cancels_nothing(project: Project) -> None:
    running = project.run_to_the_gate()
    exec_id = str(the_only(project)["exec_id"])

    done = project.run("executions", "cancel", exec_id, "ffffffff", "-o", "json")

    assert done.returncode == 1
    assert last_line(done.stderr)["error"]["type"] == "KitaruNotFoundError"
    assert the_only(project)["status"] == "running"
    running.kill()
    running.communicate(timeout=MAX_SECONDS)


def test_without_an_id_it_is_wrong_usage(project: Project) -> None:
    assert project.run("executions", "cancel").returncode == 2
