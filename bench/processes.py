"""Real processes: started, timed, killed.

``time.monotonic`` counts from the boot of the machine, so that a parent and
its children can compare their clocks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

Program = subprocess.Popen[str]
PROGRAMS = Path(__file__).parent / "programs"


def environment(store: Path, **more: str) -> dict[str, str]:
    """Ours, with the store, and with compiled modules kept as an installation keeps them.

    Where compiling is switched off, each start would compile the whole library.
    """
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    cache = str(store.parent / "pycache")
    return {**kept, "PYTHONPYCACHEPREFIX": cache, "KITARU_STORE": str(store), **more}


def start(name: str, store: Path, **more: str) -> Program:
    """A program of ours whose output is read line by line."""
    return subprocess.Popen(
        [sys.executable, str(PROGRAMS / name)],
        env=environment(store, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


def read_line(process: Program) -> str:
    """The next line; raises with the program's own words if it ended instead."""
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    if not line:
        process.wait()
        raise RuntimeError(f"{process.args!r} ended: {process.stderr.read()}")
    return line.strip()


def seconds_of(arguments: list[str], store: Path) -> float:
    """From the start of a Python program to its exit."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        env=environment(store),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def read_to_end(process: Program) -> None:
    """Wait for its end, whatever it still writes."""
    process.communicate()


def end(process: Program) -> None:
    process.kill()
    process.communicate()
