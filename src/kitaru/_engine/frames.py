"""Tracebacks as the owners of the code read them: their frames, not ours.

Nothing is hooked: an exception loses our frames when its execution has ended
and somebody waits for it, and one that was recorded elsewhere gets the text
of its frames as a note. ``KITARU_FULL_TRACEBACK=1`` leaves all as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import TracebackType

from kitaru import settings
from kitaru._core.values.tracebacks import JOINTS, MAX_EXCEPTIONS
from kitaru._engine.procedures import OUR_FOLDER
from kitaru.errors import KitaruError

_HEAD = "Traceback (most recent call last):\n"
_RECORDED = "Recorded where it was raised (most recent call last):\n"


def folded(error: KitaruError) -> KitaruError:
    """The same error, ready to be raised by what the user called: nothing of ours below it.

    What it came from, its chain and its groups keep the user's frames only.
    """
    if settings.current().full_traceback:
        return error
    for each in _all_behind(error):
        each.__traceback__ = _without_ours(each.__traceback__)
    return error.with_traceback(None)


def show_recorded_frames(error: BaseException, text: str) -> None:
    """Give a rebuilt exception, which has no frames, the recorded text of them as notes."""
    blocks = re.split("|".join(map(re.escape, JOINTS)), text)
    for each, block in zip(_chain(error), reversed(blocks), strict=False):
        _, head, frames = block.partition(_HEAD)
        lines = [line for line in frames.splitlines() if line.startswith("  ")]
        if head and lines:
            each.add_note(_RECORDED + "\n".join(lines))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what Python would print above it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen and len(seen) < MAX_EXCEPTIONS:
        seen.add(id(error))
        yield error
        hidden = error.__cause__ is None and error.__suppress_context__
        error = None if hidden else error.__cause__ or error.__context__


def _all_behind(error: BaseException) -> list[BaseException]:
    """Everything that is printed with an error but itself, members of groups included."""
    found: dict[int, BaseException] = {id(error): error}
    todo = [error]
    while todo and len(found) < 1000:
        one = todo.pop()
        next_ones = [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            next_ones += one.exceptions
        for each in next_ones:
            if each is not None and id(each) not in found:
                found[id(each)] = each
                todo.append(each)
    return list(found.values())[1:]


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without our frames; as it is if it has no others (then it is our matter)."""
    kept = []
    walked = trace
    while walked is not None:
        if not walked.tb_frame.f_code.co_filename.startswith(OUR_FOLDER):
            kept.append(walked)
        walked = walked.tb_next
    if not kept:
        return trace
    made = None
    for each in reversed(kept):
        made = TracebackType(made, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return made
