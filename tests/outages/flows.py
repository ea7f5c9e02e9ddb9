"""Flows that live through outages, in the tests' process and in others.

Bodies write a line each into a file, and stop at gates that a test opens, both of them where
any process sees them. ``python -m tests.outages.flows`` is a process that takes over what
nobody runs any more; with a word it runs a flow of its own.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path
from typing import Any

import kitaru
from kitaru import Retry, checkpoint, flow

HANG_SECONDS = 120.0


def folder() -> Path:
    return Path(os.environ["OUTAGE_FOLDER"])


def note(word: str) -> None:
    with open(folder() / "journal", "a") as journal:
        journal.write(f"{os.getpid()} {word}\n")


def noted(word: str) -> list[int]:
    """The processes in which that was noted."""
    try:
        lines = (folder() / "journal").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [int(pid) for pid, found in (line.split(" ", 1) for line in lines) if found == word]


def until(what: Any) -> None:
    """Wait until it holds: a bound, never a pace."""
    pause = threading.Event()
    for _ in range(int(HANG_SECONDS / 0.01)):
        if what():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come to pass")


def gate(name: str) -> None:
    until((folder() / name).exists)


def open_gate(name: str) -> None:
    (folder() / name).touch()


@checkpoint(cache=False)
def held(name: str) -> str:
    note(f"begun {name}")
    gate(name)
    note(f"ended {name}")
    return f"{name} in {os.getpid()}"


@checkpoint(cache=False)
async def held_async(name: str) -> str:
    note(f"begun {name}")
    await asyncio.to_thread(gate, name)
    note(f"ended {name}")
    return f"{name} in {os.getpid()}"


@checkpoint(cache=False)
def after(name: str) -> str:
    note(f"after {name}")
    return f"after {name}"


@checkpoint(cache=False, retries=Retry(max_attempts=2, initial_seconds=0.01, jitter=False))
def fails_once(name: str) -> str:
    note(f"begun {name}")
    gate(name)
    if kitaru.current().attempt == 1:
        raise ConnectionError("not this time")
    return name


@flow
def plain(name: str) -> list[str]:
    return [held(name), after(name)]


@flow
async def on_the_loop(name: str) -> list[str]:
    first, second = await asyncio.gather(held_async(name), held.submit(name))
    return [first, second, await after.submit(name)]


@flow
def maps(name: str) -> int:
    return len([found.result() for found in held.map([f"{name} {n}" for n in range(50)])])


@flow
def tries_again(name: str) -> str:
    return fails_once(name)


@flow
def ends(name: str) -> str:
    note(f"begun {name}")
    gate(name)
    return name


@flow
def fails(name: str) -> str:
    note(f"begun {name}")
    gate(name)
    raise ValueError(name)


@flow
def asks(name: str) -> list[Any]:
    return [after(name), kitaru.wait(name="answer", schema=int), after("the answer")]


@flow
async def asks_on_the_loop(name: str) -> list[Any]:
    found = await kitaru.wait(name="answer", schema=int)
    return [found, await after.submit(name)]


@flow
def sleeps(name: str, seconds: float) -> str:
    kitaru.sleep(seconds)
    return after(name)


@flow
async def sleeps_on_the_loop(name: str, seconds: float) -> str:
    await kitaru.sleep(seconds)
    return await after.submit(name)


@checkpoint(cache=False)
def keeps(name: str) -> str:
    note(f"kept {name}")
    kitaru.log(name=name)
    kitaru.save("kept", [name])
    return name


@flow
def asks_of_everything(name: str) -> list[Any]:
    note(f"begun {name}")
    gate(name)
    instant, number = kitaru.now(), kitaru.uuid4()
    kitaru.memory.set(name, [1])
    remembered = kitaru.memory.get(name)
    kitaru.log(seen=str(number))
    born = ends.run("born").wait()
    kitaru.sleep(0.01)
    return [remembered, born, keeps(f"{instant.year > 2000}"), after(name)]


@flow
async def awaits_everything(name: str) -> list[Any]:
    note(f"begun {name}")
    await asyncio.to_thread(gate, name)
    instant = await asyncio.to_thread(kitaru.now)
    await asyncio.to_thread(kitaru.memory.set, name, [1])
    remembered = await asyncio.to_thread(kitaru.memory.get, name)
    handle = await asyncio.to_thread(ends.run, "born")
    born = await handle
    await kitaru.sleep(0.01)
    kept = await keeps.submit(f"{instant.year > 2000}")
    return [remembered, born, kept, await after.submit(name)]


def main() -> None:
    kitaru.recover()
    if sys.argv[1:]:
        plain.options(key="theirs").run(sys.argv[1])
    print("begun", flush=True)
    sys.stdin.read()  # until the test lets go


if __name__ == "__main__":
    main()
