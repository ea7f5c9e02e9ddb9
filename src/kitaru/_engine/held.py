"""Who waits for a remote store on the thread of an event loop, and what may be written instead.

What is called without ``await`` has its answer when it returns, so it holds the loop for a
round trip, and all along an outage. That is said, once for each line of code. What is
awaited asks from threads (``remote.py``): if that ever waits on the loop, it is a fault of
ours, and a test finds it here.
"""

from __future__ import annotations

import inspect
import os
import sys
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kitaru._engine.services import Services

_US = __name__.partition(".")[0]
_PASSED_OVER = sys.stdlib_module_names | {"psycopg"}
_AWAITED = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def say_who_holds(services: Services) -> None:
    """The running event loop waits for the store right now."""
    found = who_holds(sys._getframe())
    if found is None:
        return
    frame, through = found
    code, line = frame.f_code, frame.f_lineno
    remedy = "call it as `await asyncio.to_thread(...)`"
    if through in ("kitaru.checkpoints", "kitaru.futures"):
        remedy = "write `await checkpoint.submit(...)`"
    services.say(
        f"{os.path.basename(code.co_filename)}:{line} (in {code.co_name}) waits for the store on "
        f"the event loop, where all else stands still meanwhile: {remedy}",
        once=("held", code.co_filename, line),
    )


def who_holds(frame: FrameType | None) -> tuple[FrameType, str] | None:
    """The user's frame, and the module of ours that it called without ``await``; None: nobody
    has called us, or what did was awaited."""
    through = ""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        top = module.partition(".")[0]
        if top == _US:
            if frame.f_code.co_flags & _AWAITED:
                return None
            through = module
        elif top not in _PASSED_OVER:
            return frame, through
        frame = frame.f_back
    return None
