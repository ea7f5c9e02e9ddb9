"""The only colour in the engine: perform a procedure's effects here, or on the event loop.

Each effect passes a crash point named after it, so that a test can die before
the k-th effect of any procedure, for every k.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from kitaru._engine.effects import Effect, Steps
from kitaru.env import Env

T = TypeVar("T")


def drive(steps: Steps[T], env: Env, perform: Callable[[Effect], Any] | None = None) -> T:
    """Run a procedure to its end on this thread; ``perform`` where the store is remote."""
    answer = None
    try:
        while True:
            try:
                effect = steps.send(answer)
            except StopIteration as stop:
                value: T = stop.value
                return value
            env.crash_point(effect.name)
            answer = effect.perform() if perform is None else perform(effect)
    finally:
        steps.close()


async def drive_async(
    steps: Steps[T], env: Env, perform: Callable[[Effect], Awaitable[Any]] | None = None
) -> T:
    """Run a procedure to its end in a task of the event loop; ``perform`` as in :func:`drive`."""
    answer = None
    try:
        while True:
            try:
                effect = steps.send(answer)
            except StopIteration as stop:
                value: T = stop.value
                return value
            env.crash_point(effect.name)
            if perform is not None:
                answer = await perform(effect)
            else:
                answer = await effect.perform_async() if effect.waits else effect.perform()
    finally:
        steps.close()
