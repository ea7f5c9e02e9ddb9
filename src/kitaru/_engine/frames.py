"""Tracebacks as the owners of the code read them: their frames, not ours.

Nothing is hooked: an exception loses our frames where it leaves us for code of
the user's, and one that was recorded elsewhere gets the text of its frames as
a note. ``KITARU_FULL_TRACEBACK=1`` leaves all as it is.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import ParamSpec, TypeVar

from kitaru import settings
from kitaru._core.values.shapes import namespace_of_object
from kitaru._core.values.tracebacks import JOINTS, MAX_EXCEPTIONS
from kitaru.errors import KitaruError

P = ParamSpec("P")
R = TypeVar("R")

OUR_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
"""With a separator at its end: ``kitaru_shop`` beside us is somebody else's."""

# A class of the user's may hide these, or let nothing be set (a frozen data class).
_get_frames = BaseException.__dict__["__traceback__"].__get__
_set_frames = BaseException.__dict__["__traceback__"].__set__
_get_cause = BaseException.__dict__["__cause__"].__get__
_get_context = BaseException.__dict__["__context__"].__get__
_is_suppressed = BaseException.__dict__["__suppress_context__"].__get__
_get_members = BaseExceptionGroup.__dict__["exceptions"].__get__

_HEAD = "Traceback (most recent call last):\n"
_RECORDED = "Recorded where it was raised (most recent call last):\n"


def fold(error: BaseException) -> None:
    """Take our frames out of an error, and out of its chain and groups; then a bare ``raise``.

    A bare ``raise`` adds no frame for the function it stands in, so that nothing
    of ours is left of what the user called.
    """
    if _shows_everything():
        return
    _set_frames(error, _without_ours(_get_frames(error)))
    for each in _all_behind(error):
        # What has no other frames came from within: they are all there is to go by.
        frames = _get_frames(each)
        _set_frames(each, _without_ours(frames) or frames)


def folding(function: Callable[P, R]) -> Callable[P, R]:
    """A function of ours that people call, and whose refusals show their frames only.

    For what is called now and then: it costs a call.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except KitaruError as error:
            fold(error)
            raise

    return wrapper


def lend_frames(raised: BaseException, rebuilt: BaseException) -> None:
    """Give an exception that was read back the frames of the one that was recorded.

    And those of all that it came from and of its groups' members, as far as the
    record has them.
    """
    everything = _shows_everything()
    todo, seen = [(raised, rebuilt)], set[int]()
    while todo and len(seen) < 1000:
        one, other = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        frames = _get_frames(one)
        _set_frames(other, frames if everything else _without_ours(frames))
        todo += [
            (a, b)
            for a, b in zip(_relatives(one), _relatives(other), strict=False)
            if a is not None and b is not None
        ]


def _shows_everything() -> bool:
    try:
        return settings.current().full_traceback
    except KitaruError:
        return False  # the settings cannot be read, which may be what the error is about


def show_recorded_frames(error: BaseException, text: str) -> None:
    """Give a rebuilt exception, which has no frames, the recorded text of them as notes."""
    blocks = re.split("|".join(map(re.escape, JOINTS)), text)
    for each, block in zip(_chain(error), reversed(blocks), strict=False):
        _, head, frames = block.partition(_HEAD)
        lines = [line for line in frames.splitlines() if line.startswith("  ")]
        if head and lines:
            _add_note(each, _RECORDED + "\n".join(lines))


def _add_note(error: BaseException, note: str) -> None:
    namespace = namespace_of_object(error)
    notes = None if namespace is None else namespace.setdefault("__notes__", [])
    if type(notes) is list:
        notes.append(note)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what Python would print above it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen and len(seen) < MAX_EXCEPTIONS:
        seen.add(id(error))
        yield error
        cause = _get_cause(error)
        context = None if _is_suppressed(error) else _get_context(error)
        error = context if cause is None else cause


def _relatives(error: BaseException) -> list[BaseException | None]:
    """What an exception came from, and the members of a group."""
    found = [_get_cause(error), _get_context(error)]
    if issubclass(type(error), BaseExceptionGroup):
        found += _get_members(error)
    return found


def _all_behind(error: BaseException) -> list[BaseException]:
    """Everything that is printed with an error but itself, members of groups included."""
    found: dict[int, BaseException] = {id(error): error}
    todo = [error]
    while todo and len(found) < 1000:
        for each in _relatives(todo.pop()):
            if each is not None and id(each) not in found:
                found[id(each)] = each
                todo.append(each)
    return list(found.values())[1:]


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    kept = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(OUR_FOLDER):
            kept.append(trace)
        trace = trace.tb_next
    made = None
    for each in reversed(kept):
        made = TracebackType(made, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return made
