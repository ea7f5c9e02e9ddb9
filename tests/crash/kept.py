"""Flows of the corpus that remember and save: what they read stays read, what they write is
written once, and what a body saved is there exactly if its outcome is.

Each life finds another world: whoever plays writes before it begins.
"""

from __future__ import annotations

import asyncio
from typing import Any

import kitaru
from kitaru import Retry, checkpoint, flow

from .corpus import KEY, SCENARIOS, Refusal, Scenario, work, work_async
from .journal import body, got, learnt, life


def _enter(played: Any, key: str, written: list[Any], *, sequential: bool = True) -> None:
    def play() -> Any:
        kitaru.memory.configure(scope="world")
        kitaru.memory.set("life", life())
        handle = played.options(key=KEY).run()
        result = handle.wait()
        client = kitaru.KitaruClient()
        history = client.memories.history(key, scope=played.spec.id, scope_type="flow")
        found = [entry.load() for entry in history]
        assert sorted(found) == written, f"written more or less than once: {found}"
        for call in client.executions.list_checkpoints(handle.exec_id):
            saved = [ref.attempt for ref in call.artifacts if ref.kind == "saved"]
            tries = [int(each.attempt_id.rpartition("#")[2]) for each in call.attempts]
            assert saved in ([], tries), f"saved in {saved}, tried {tries}"
        return result

    SCENARIOS[played.spec.name] = Scenario(played.spec.name, play, sequential=sequential)


@checkpoint(cache=False, retries=Retry(max_attempts=2, initial_seconds=0))
def saves(what: str) -> str:
    with body(f"saves({what})") as mark:
        kitaru.save("note", f"{what}{kitaru.current().attempt}")
        if kitaru.current().attempt == 1:
            raise Refusal("not yet")
        return f"{what}{mark}"


def _life_seen() -> int:
    kitaru.memory.configure(scope="world")
    seen: int = kitaru.memory.get("life")
    listed = [entry.load() for entry in kitaru.memory.list()]
    kitaru.memory.configure()
    assert listed == [seen]
    return seen


@flow
def remembers() -> Any:
    seen = learnt("life", _life_seen())
    found = [got("first", work(f"in life {seen}"))[:7]]
    kitaru.memory.set("count", 1)
    found.append(got("read", kitaru.memory.get("count")))
    found.append(got("saved", saves("a")))
    kitaru.memory.set("count", 2)
    exec_id = kitaru.current_execution_id()
    assert exec_id is not None
    found.append(got("loaded", kitaru.load(exec_id, "note")))
    kitaru.memory.set("count", 3)
    found.append(got("history", [entry.version for entry in kitaru.memory.history("count")]))
    return [*found, got("last", work("last"))]


_enter(remembers, "count", [1, 2, 3])


@flow
async def remembers_in_branches() -> Any:
    async def branch(name: str) -> Any:
        kitaru.memory.set("who", name)
        own = got(f"{name} first", await work_async(name))
        kitaru.memory.set("who", name * 2)
        return [own, got(f"{name} saved", await saves.submit(name))]

    return await asyncio.gather(branch("a"), branch("b"))


_enter(remembers_in_branches, "who", ["a", "aa", "b", "bb"], sequential=False)
