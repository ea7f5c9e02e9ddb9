"""What the command line's tests share: a project in a folder, and commands run in it for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

MAX_SECONDS = 240

FLEET_TIMES = {"KITARU_LEASE_SECONDS": "4", "KITARU_POLL_SECONDS": "0.5"}
"""On PostgreSQL a death is noticed by a lease: a short one, for tests that kill."""

SHOP = '''
import os
import sys
import time

import kitaru
from kitaru import checkpoint, flow

HERE = os.path.dirname(os.path.abspath(__file__))


def journal(line: str) -> None:
    with open(os.path.join(HERE, "journal"), "a") as file:
        file.write(line + "\\n")


@checkpoint
def price(number: int) -> int:
    journal(f"price {number}")
    print("pricing", number)
    return number * 10


@checkpoint
def gate(number: int) -> int:
    """Says that it is here, then waits until somebody opens the gate (or we are killed)."""
    journal(f"gate {number}")
    print("at the gate", flush=True)
    with open(os.path.join(HERE, "gate")) as pipe:
        pipe.read()
    return number


@checkpoint
def charge(total: int) -> int:
    journal(f"charge {total}")
    if os.path.exists(os.path.join(HERE, "declined")):
        raise ValueError("card declined")
    return total


@flow
def total(count: int) -> int:
    return sum(price(number) for number in range(count))


@flow
def gated(count: int) -> int:
    return sum(price(number) for number in range(count)) + gate(count)


@flow
def gated_then_charged(count: int) -> int:
    return charge(sum(price(number) for number in range(count)) + gate(count))


@flow
def endless(count: int) -> int:
    """Leaves only when it is told to."""
    total = sum(price(number) for number in range(count))
    print("at the gate", flush=True)
    while True:
        kitaru.check()
        time.sleep(0.01)


@flow
def buy(count: int = 2) -> int:
    return charge(sum(price(number) for number in range(count)))


@flow
def everything(
    name: str,
    count: int = 1,
    ratio: float = 1.0,
    loud: bool = False,
    tags: list[str] | None = None,
    anything=None,
) -> list[object]:
    return [name, count, ratio, loud, tags, anything]


def not_a_flow() -> None:
    pass
'''


class Project:
    """A folder with a pyproject.toml and the module `shop`, and the commands run there.

    ``url``: a PostgreSQL database that has the store, instead of the folder.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self.url = url
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_text('[project]\nname = "demo"\n')
        (folder / "shop.py").write_text(SHOP)

    def copy(self, folder: Path) -> Project:
        """This project elsewhere: what has run here has run there."""
        made = Project(folder)
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return made

    @property
    def store(self) -> Path:
        return self.folder / ".kitaru"

    def environment(self) -> dict[str, str]:
        ours = ("KITARU_", "PYTHON", "PYTEST_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        kept |= {"PYTHONDONTWRITEBYTECODE": "1", "HOME": str(self.folder.parent / "home")}
        if self.url is not None:
            kept |= {"KITARU_STORE": self.url, "KITARU_PROJECT": "demo"} | FLEET_TIMES
        return kept

    def start(self, *words: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "kitaru", *words],
            cwd=cwd or self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, cwd=cwd)
        out, err = process.communicate(timeout=MAX_SECONDS)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def ask(self, *words: str, cwd: Path | None = None) -> dict[str, Any]:
        """The envelope on stdout of a command that succeeds."""
        done = self.run(*words[:1], *words[1:], "-o", "json", cwd=cwd)
        assert done.returncode == 0, done.stderr
        return one_line(done.stdout)

    def run_to_the_gate(
        self, *words: str, target: str = "shop.py:gated", prints: bool = True
    ) -> subprocess.Popen[str]:
        """Start `gated`, or another flow with a gate, and return once it waits there.

        ``prints``: what it prints comes on stdout (else on stderr).
        """
        gate = self.folder / "gate"
        if not gate.exists():
            os.mkfifo(gate)
        process = self.start("run", target, *words, "--", "--count", "3")
        stream = process.stdout if prints else process.stderr
        assert stream is not None
        while (line := stream.readline()) != "at the gate\n":
            assert line, f"it ended early: {process.communicate()[1]}"
        return process

    def open_gate(self) -> None:
        """Let whoever waits at the gate pass; now, or as soon as somebody comes."""
        (self.folder / "gate").unlink()
        (self.folder / "gate").write_text("")

    def journal(self) -> list[str]:
        path = self.folder / "journal"
        return path.read_text().splitlines() if path.exists() else []


def one_line(text: str) -> dict[str, Any]:
    """The JSON of a text that is exactly one line."""
    assert text.endswith("\n"), text
    assert text.count("\n") == 1, text
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def last_line(text: str) -> dict[str, Any]:
    """The JSON envelope that ends a text which others write to as well."""
    found = json.loads(text.splitlines()[-1])
    assert isinstance(found, dict)
    return found
