"""The release desk: its README as a reader follows it, a person at a terminal, a second process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import test_docs
from tests.cli.programs import Project
from tests.cli.terminal import Terminal

from .conftest import EXAMPLES

pexpect = pytest.importorskip("pexpect")
fdpexpect = pytest.importorskip("pexpect.fdpexpect")
pytestmark = pytest.mark.slow

README = EXAMPLES / "release_desk" / "README.md"
SECONDS = 60
RELEASE = ("run", "desk.py:release", "--", "--version", "1.0", "--embargo-seconds", "0.1")


def git(folder: Path, *words: str) -> None:
    config = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", folder, *config, *words], check=True, capture_output=True)


def make_repository(folder: Path) -> None:
    """A history with three components."""
    git(folder, "init", "-q")
    for path, subject in (
        ("engine/core.py", "Add an engine"),
        ("engine/fix.py", "Fix the engine"),
        ("docs/page.md", "Say what the engine does"),
        ("README.md", "Begin"),
    ):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(subject)
        git(folder, "add", path)
        git(folder, "commit", "-q", "-m", subject)


class Desk(Project):
    """The example in a repository, and the commands given in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = None

    def environment(self) -> dict[str, str]:
        home = self.folder.parent.parent / "home"
        return {**super().environment(), "HOME": str(home), "COLUMNS": "100"}

    def releases(self) -> list[dict[str, Any]]:
        found = self.ask("executions", "list", "--flow", "release")["items"]
        assert isinstance(found, list)
        return found

    @property
    def published(self) -> str:
        path = self.folder / "RELEASES.md"
        return path.read_text() if path.exists() else ""


def make_desk(folder: Path) -> Desk:
    folder.mkdir(exist_ok=True)
    (folder / "pyproject.toml").write_text('[project]\nname = "mine"\nversion = "0"\n')
    shutil.copytree(EXAMPLES / "release_desk", folder / "desk")
    return Desk(folder / "desk")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = make_desk(tmp_path / "project")
    make_repository(tmp_path / "project")
    return desk


@pytest.fixture
def at_terminal(desk: Desk) -> Iterator[Callable[..., Person]]:
    people: list[Person] = []

    def sits_down(*words: str) -> Person:
        people.append(Person(desk, *words))
        return people[-1]

    yield sits_down
    for person in people:
        person.terminal.process.kill()
        person.terminal.process.wait(SECONDS)


class Person:
    """Somebody at a terminal: pexpect on the pseudo-terminal of a command."""

    def __init__(self, desk: Desk, *words: str) -> None:
        self.terminal = Terminal(desk, *words, columns=100)
        self.sees = fdpexpect.fdspawn(self.terminal._master, timeout=SECONDS, encoding="utf-8")

    def answers(self, prompt: str, text: str) -> None:
        self.sees.expect_exact(prompt)
        self.sees.sendline(text)

    def leaves(self) -> int:
        """Read to the end -> the exit status."""
        try:
            self.sees.expect(pexpect.EOF)
        except OSError:
            pass  # Linux says so when the other side of a terminal is closed
        return self.terminal.process.wait(SECONDS)


def test_the_readme_works_as_shown(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = test_docs.environment
    monkeypatch.setattr(
        test_docs, "environment", lambda folder: {**usual(folder), "HOME": str(tmp_path / "home")}
    )
    monkeypatch.setattr(test_docs, "newest_execution", lambda folder: desk.releases()[0]["exec_id"])
    for block in test_docs.read_blocks(README, "examples/release_desk/README.md"):
        test_docs.follow(block, desk.folder)


def test_a_person_is_asked_in_the_terminal_and_publishes(
    desk: Desk, at_terminal: Callable[..., Person]
) -> None:
    person = at_terminal(*RELEASE)
    person.sees.expect_exact("Publish the notes of 1.0?")
    person.sees.expect_exact("Add an engine")
    person.answers("verdict: ", "perhaps")
    person.sees.expect_exact("none of them")
    person.answers("verdict: ", "1")
    person.answers("headline (stands above the notes)", "An engine")
    person.answers("reason", "")
    person.sees.expect_exact("published in")
    assert person.leaves() == 0
    assert desk.published.startswith("<!-- 1.0 -->\n# 1.0\n\n*An engine*\n")
    assert "## engine\n\n**Added**\n\n- Add an engine" in desk.published


def test_a_second_process_answers_while_the_first_one_asks(
    desk: Desk, at_terminal: Callable[..., Person]
) -> None:
    person = at_terminal(*RELEASE)
    person.sees.expect_exact("verdict: ")
    exec_id = desk.releases()[0]["exec_id"]
    answer = json.dumps({"verdict": "publish"})
    item = desk.ask("executions", "input", exec_id, "--wait", "approve", "--value", answer)["item"]
    assert item["served_by"]["pid"] == person.terminal.process.pid
    person.sees.expect_exact("meanwhile")
    person.sees.expect_exact("published in")
    assert person.leaves() == 0
    assert desk.published.startswith("<!-- 1.0 -->")


def test_it_works_in_a_shallow_clone(tmp_path: Path, desk: Desk) -> None:
    origin = desk.folder.parent
    shutil.rmtree(origin / ".kitaru", ignore_errors=True)
    clone = tmp_path / "clone"
    subprocess.run(
        ["git", "clone", "-q", "--depth", "1", f"file://{origin}", clone],
        check=True,
        capture_output=True,
    )
    shallow = make_desk(clone)
    item = shallow.ask("run", "desk.py:release", "--detach", "--args", '{"version": "1.0"}')["item"]
    assert item["status"] == "waiting"
    draft = item["pending_wait"]["metadata"]["draft"]
    assert "Begin" in draft
    assert "Add an engine" not in draft


@pytest.mark.parametrize("path", ["", "/nowhere"])
def test_without_git_it_says_what_is_missing(tmp_path: Path, path: str) -> None:
    desk = make_desk(tmp_path / "plain")
    environment = desk.environment()
    if path:
        environment["PATH"] = path
    words = ["run", "desk.py:release", "-o", "json", "--", "--version", "1.0"]
    done = desk.run(*words) if not path else _run(desk, words, environment)
    assert done.returncode == 1
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert error["type"] == "KitaruUserCodeError"
    said = "git is not installed" if path else "there is no git history in"
    assert said in error["message"]
    assert "kitaru executions retry" in error["message"]


def _run(
    desk: Desk, words: list[str], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    import sys

    return subprocess.run(
        [sys.executable, "-m", "kitaru", *words],
        cwd=desk.folder,
        env={**environment, "GIT_CEILING_DIRECTORIES": os.sep},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
