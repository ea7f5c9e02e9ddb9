"""A process of a fleet, for tests: it runs executions in turns, and adopts those of the dead.

Each checkpoint returns who recorded it: the process, and the epoch under which it did.
``python -m tests.leases.program NAME [hold | adopt | enqueue TURN …]``; a file `stop` in the
folder that FLEET_FOLDER names ends it. `kitaru worker` serves its flows, too.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import kitaru
from kitaru import checkpoint, flow
from kitaru._engine.context import here

# Whoever looks for doctests here imports it without words.
NAME, WORDS = "".join(sys.argv[1:2]), sys.argv[2:]
FOLDER = Path(os.environ.get("FLEET_FOLDER", ""))
STEP_SECONDS = 0.05

faulthandler.register(signal.SIGUSR1, all_threads=True)  # for one that does not end


def is_over(turn: int | None = None) -> bool:
    return (FOLDER / "stop").exists() or (FOLDER / f"over-{turn}").exists()


def who() -> list[int]:
    place = here.get()
    assert place is not None
    return [os.getpid(), place.run.epoch]


@checkpoint(cache=False)
def step(number: int) -> list[int]:
    threading.Event().wait(STEP_SECONDS)
    return who()


@flow
def counts(name: str, turn: int) -> int:
    for number in range(1_000_000):
        step(number)
        if is_over(turn):
            return number
    raise AssertionError("nobody stopped it")


@checkpoint(cache=False)
def outlasts() -> list[int]:
    """In the process that comes first it ends when it is told to."""
    if not (FOLDER / "begun").exists():
        (FOLDER / "begun").touch()
        while not (FOLDER / "healed").exists():
            threading.Event().wait(STEP_SECONDS)
    return who()


@flow
def lasts() -> list[int]:
    return outlasts()


@checkpoint(cache=False)
def holds_the_interpreter(seconds: int) -> list[int]:
    """C code that lets no other thread run, in the process that comes first."""
    if not (FOLDER / "held").exists():
        (FOLDER / "held").touch()
        ctypes.PyDLL(None).sleep(seconds)
    return who()


@flow
def calls_c(seconds: int) -> list[int]:
    return holds_the_interpreter(seconds)


def main() -> None:
    if WORDS[:1] == ["enqueue"]:
        for name in WORDS[1:]:
            if name == "lasts":
                lasts.options(key=name).enqueue()
            else:
                counts.options(key=name).enqueue(name, int(name))
        return
    kitaru.recover()
    pause = threading.Event()
    handle: Any = calls_c.run(5) if WORDS == ["hold"] else None
    print("begun", flush=True)
    turn = 0
    while not is_over():
        if not WORDS:
            handle = counts.options(key=f"{NAME} {turn}").run(NAME, turn)
        while handle is None and not is_over():
            pause.wait(0.05)
        if handle is not None:
            handle.wait(timeout=120)
            handle, turn = None, turn + 1


if __name__ == "__main__":
    main()
