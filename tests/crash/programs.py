"""Programs as people write them, started as processes that tests stop, race and kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kitaru

PATIENCE_SECONDS = 120.0
"""How long a test waits for what must happen; only a broken program makes it wait so long."""

PRELUDE = '''
import asyncio, json, multiprocessing, os, signal, sys, time
import kitaru
from kitaru import checkpoint, flow

FOLDER = os.path.dirname(os.path.abspath(__file__))

def note(*words):
    line = json.dumps([time.monotonic(), os.getpid(), *words]) + "\\n"
    file = os.open(os.path.join(FOLDER, "journal"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line.encode())
    os.close(file)

def gate(name):
    """Wait until the test makes a file of that name."""
    note("at gate", name)
    while not os.path.exists(os.path.join(FOLDER, name)):
        time.sleep(0.005)

@checkpoint(cache=False)
def work(what):
    note("start", what)
    token = os.urandom(6).hex()
    note("end", what, token)
    return [what, token]

@checkpoint(cache=False)
def gated(what):
    note("start", what)
    gate(f"gate-{what}")
    token = os.urandom(6).hex()
    note("end", what, token)
    return [what, token]

'''


def interpreters() -> list[str]:
    """This interpreter, and every other Python of the checkout or PATH with what Kitaru needs."""
    found = [sys.executable]
    root = Path(__file__).resolve().parents[2]
    for minor in (11, 12, 13, 14):
        made = root / f".venv-3.{minor}" / "bin" / "python"
        path = str(made) if made.exists() else shutil.which(f"python3.{minor}")
        if minor == sys.version_info.minor or path is None:
            continue
        asked = [path, "-c", "import apsw, pydantic"]
        if subprocess.run(asked, capture_output=True, timeout=PATIENCE_SECONDS).returncode == 0:
            found.append(path)
    return found


class World:
    """A folder with a program, its store and its journal; ends what it started."""

    def __init__(self, folder: Path, program: str, python: str = sys.executable) -> None:
        self.folder = folder
        self.python = python
        self.program = folder / "app.py"
        self.program.write_text(PRELUDE + program)
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *words: str) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
        environment["KITARU_STORE"] = str(self.folder / "store")
        places = (Path(kitaru.__file__).parents[1], Path(__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(map(str, places))
        process = subprocess.Popen(
            [self.python, str(self.program), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=self.folder,
        )
        self._started.append(process)
        return process

    def run(self, *words: str) -> Any:
        """Run the program to its end -> what it printed, as JSON."""
        return self.result(self.start(*words))

    def result(self, process: subprocess.Popen[str]) -> Any:
        said, complained = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, f"exit {process.returncode}\n{complained}"
        return json.loads(said) if said.strip() else None

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    # --- the journal --------------------------------------------------------------------

    def journal(self) -> list[list[Any]]:
        path = self.folder / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def starts(self, what: Any = None) -> list[Any]:
        found = [line[3] for line in self.journal() if line[2] == "start"]
        return found if what is None else [one for one in found if one == what]

    def noted(self, *words: Any) -> bool:
        return any(line[2:] == list(words) for line in self.journal())

    def wait_until_noted(self, *words: Any, times: int = 1) -> float:
        """-> when (monotonic seconds), for the last of so many times."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            found = [line for line in self.journal() if line[2 : 2 + len(words)] == list(words)]
            if len(found) >= times:
                at: float = found[times - 1][0]
                return at
            time.sleep(0.005)
        raise AssertionError(f"never noted: {words}; the journal: {self.journal()}")

    def open_gate(self, what: str) -> None:
        (self.folder / f"gate-{what}").touch()

    def rows(self) -> list[dict[str, Any]]:
        """Every execution as another process reads it from the store."""
        code = (
            "import json\nfrom kitaru import app\na = app.current()\n"
            "rows = a.store.list_executions(project=a.project, limit=100)\n"
            "print(json.dumps([dict(exec_id=r.exec_id, status=r.status.value, epoch=r.epoch,"
            " deaths=r.deaths, key=r.key, reason=r.status_reason, attempt=r.attempt,"
            " owner=r.owner, flow=r.flow_name) for r in rows]))"
        )
        environment = {**os.environ, "KITARU_STORE": str(self.folder / "store")}
        said = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            cwd=self.folder,
            timeout=PATIENCE_SECONDS,
        ).stdout
        found: list[dict[str, Any]] = json.loads(said)
        return found
