"""A copy of an example in a project of its own, started as its reader would start it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PATIENCE_SECONDS = 240


class Workbench:
    """A project with a copy of one example; ends the processes that it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def copy(self, name: str) -> Path:
        """The example (a file or a folder of `examples/`) -> its copy, which a test may edit."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "pyproject.toml").write_text('[project]\nname = "mine"\nversion = "0"\n')
        source, target = EXAMPLES / name, self.folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
        return target

    def start(self, *command: object, **environment: str) -> subprocess.Popen[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=self.folder,
            env={**kept, "HOME": str(self.folder.parent / "home"), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def run(self, *command: object, status: int = 0) -> str:
        """Run a program to its end, which must be `status` -> what it printed."""
        process = self.start(*command)
        said, complained = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == status, f"exit {process.returncode}\n{said}\n{complained}"
        return said

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    bench = Workbench(tmp_path / "project")
    yield bench
    bench.end()
