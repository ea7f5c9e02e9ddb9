"""Completion by the shells' own protocol: words of the command line, and names from the store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .programs import MAX_SECONDS, Project


def completed(project: Project, *words: str) -> list[str]:
    """What a shell is offered for the last of these words."""
    done = subprocess.run(
        [sys.executable, "-m", "kitaru"],
        cwd=project.folder,
        env={
            **project.environment(),
            "_KITARU_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("kitaru", *words)),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        timeout=MAX_SECONDS,
        check=False,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.fixture
def used(project: Project) -> Project:
    assert project.run("run", "shop.py:total", "--", "--count", "1").returncode == 0
    return project


def test_commands_options_and_statuses_complete(project: Project) -> None:
    assert completed(project, "exe") == ["executions"]
    assert completed(project, "executions", "re") == ["resume", "retry", "replay"]
    assert "--status" in completed(project, "executions", "list", "--s")
    assert completed(project, "executions", "list", "--status", "int") == ["interrupted"]
    assert completed(project, "completion", "z") == ["zsh"]
    assert not project.store.exists()


def test_executions_flows_and_checkpoints_complete_from_the_store(used: Project) -> None:
    exec_id = used.ask("executions", "list")["items"][0]["exec_id"]
    assert completed(used, "executions", "get", "") == [exec_id]
    assert completed(used, "executions", "retry", exec_id[:4]) == [exec_id]
    assert completed(used, "executions", "get", exec_id[-6:]) == [exec_id]
    assert completed(used, "executions", "get", "zz") == []
    assert completed(used, "executions", "list", "--flow", "to") == ["total"]
    assert completed(used, "executions", "why", exec_id, "pr") == ["price"]


def test_without_a_store_there_is_nothing_to_offer_and_none_is_made(project: Project) -> None:
    assert completed(project, "executions", "get", "") == []
    assert not project.store.exists()
    project.store.mkdir()
    (project.store / "kitaru.db").write_text("dear diary")
    assert completed(project, "executions", "get", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_calls_us_back_and_is_a_script(project: Project, shell: str) -> None:
    done = project.run("completion", shell)
    assert done.returncode == 0, done.stderr
    assert f"_KITARU_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell):
        checked = subprocess.run(
            [shell, "-n"], input=done.stdout, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="this system has no bash")
def test_bash_itself_completes_a_flow_and_the_tail_of_an_id(used: Project) -> None:
    exec_id = used.ask("executions", "list")["items"][0]["exec_id"]
    bin_folder = Path(sys.executable).parent
    script = """
        eval "$(kitaru completion bash)"
        ask() { COMPREPLY=(); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _kitaru_completion kitaru
                echo "${COMPREPLY[@]}"; }
        complete -p kitaru
        ask kitaru executions list --flow t
        ask kitaru executions get "$TAIL"
    """
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=used.folder,
        env={
            **used.environment(),
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "TAIL": exec_id[-6:],
        },
        capture_output=True,
        text=True,
        timeout=MAX_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    registered, flow, found = done.stdout.splitlines()
    assert registered.endswith("_kitaru_completion kitaru")
    assert (flow, found) == ("total", exec_id)
