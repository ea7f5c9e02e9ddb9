"""Telling a run from outside to stop: it was cancelled, or its time is over.

Nothing new starts from that moment on. What runs in threads cannot be stopped and ends
by itself; async bodies get some seconds to end and be recorded, because a finished
charge is never thrown away, and are cancelled after that, as asyncio does it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kitaru._engine.unwind import Unwind, Why

if TYPE_CHECKING:
    from kitaru._engine.run import Run

STOPPED = frozenset({Why.CANCELLED, Why.TIMED_OUT})
"""Why an execution ends for good although its code had not come to its end."""

_POLL_SECONDS = 0.02


def stop(run: Run, unwind: Unwind) -> None:
    """End the run; bodies that are under way may finish and are recorded."""
    # First: whoever is woken by the end asks how long bodies on the loop may take.
    run.patient_until = run.env.monotonic() + run.services.grace_seconds
    run.end(unwind.why, str(unwind), unwind.error)
    if asyncio._get_running_loop() is not None:
        # Whoever tells may be a task of this very run: it goes on, and has yet to be stopped.
        run.told.discard(asyncio.current_task())
    run.services.loop.call_if_running(_cancel_what_is_left, run, set())


def is_patient(run: Run) -> bool:
    """Whether async bodies are under way that may still finish."""
    if run.env.monotonic() >= run.patient_until:
        return False
    return any(call.spec.is_async for call in tuple(run.bodies))


def _cancel_what_is_left(run: Run, told: set[asyncio.Task[Any]]) -> None:
    """On the loop, now and then: cancel submitted bodies once patience is over.

    Those that they had submitted follow: a body that is cancelled hands them to its caller.
    """
    if run.top.is_over:
        return
    if run.env.monotonic() >= run.patient_until:
        tasks = {future.task for future in run.top.futures if future.task is not None}
        for task in tasks - told:
            task.cancel()
        told |= tasks
    loop = asyncio.get_running_loop()
    loop.call_later(_POLL_SECONDS, _cancel_what_is_left, run, told)
