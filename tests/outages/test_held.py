"""An event loop waits for PostgreSQL only where it is called without ``await``, which is said."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import pytest

import kitaru
from kitaru import app, checkpoint, flow
from kitaru.client import KitaruClient

from .flows import HANG_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("line")]


@checkpoint(cache=False)
def double(x: int) -> int:
    return 2 * x


@checkpoint
async def shout(text: str) -> str:
    return text.upper()


@flow
async def child(x: int) -> int:
    return await double.submit(x)


@flow
async def awaits_everything() -> list[Any]:
    """Whatever an async flow does with its store without holding the loop."""
    first = await asyncio.gather(*(double.submit(n) for n in range(5)))
    texts = [await shout("a"), await shout("a")]
    handle = await asyncio.to_thread(child.run, 3)
    born = await handle
    await asyncio.to_thread(kitaru.memory.set, "key", [1, 2])
    remembered = await asyncio.to_thread(kitaru.memory.get, "key")
    await kitaru.sleep(0.01)
    return [first, texts, born, remembered, await kitaru.wait(name="go", schema=int)]


@pytest.fixture
def held() -> list[str]:
    """Where an event loop has waited for the store, from now on."""
    found: list[str] = []
    app.current().store.when_held(  # type: ignore[attr-defined]
        lambda: found.append("".join(traceback.format_stack()))
    )
    return found


def test_nothing_that_is_awaited_waits_for_the_database_on_the_loop(held: list[str]) -> None:
    handle = awaits_everything.run()
    assert app.current().runner.wait_idle(HANG_SECONDS)
    KitaruClient().executions.input(handle.exec_id, wait="go", value=3)

    async def main() -> Any:
        return await handle

    expected = [[0, 2, 4, 6, 8], ["A", "A"], 6, [1, 2], 3]
    assert asyncio.run(main()) == expected
    assert held == []


@flow
async def holds_the_loop(times: int) -> list[int]:
    found = []
    for n in range(times):
        found.append(double(n))
    handle = child.run(7)
    return [*found, await handle]


def test_what_is_called_without_await_is_told_once_with_what_to_write_instead(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert holds_the_loop.run(3).wait(timeout=HANG_SECONDS) == [0, 2, 4, 14]
    lines = [line for line in capsys.readouterr().err.splitlines() if "waits for the store" in line]
    line = holds_the_loop.func.__code__.co_firstlineno
    stands = (
        "(in holds_the_loop) waits for the store on the event loop, where all else stands still"
    )
    assert [each.partition(" meanwhile: ")[0] for each in lines] == [
        f"kitaru: test_held.py:{line + 4} {stands}",
        f"kitaru: test_held.py:{line + 5} {stands}",
    ]
    assert [each.partition(" meanwhile: ")[2] for each in lines] == [
        "write `await checkpoint.submit(...)`",
        "call it as `await asyncio.to_thread(...)`",
    ]


def test_in_a_loop_of_the_users_it_is_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> Any:
        return await child.run(4)

    assert asyncio.run(main()) == 8
    told = capsys.readouterr().err
    assert "(in main) waits for the store on the event loop" in told
