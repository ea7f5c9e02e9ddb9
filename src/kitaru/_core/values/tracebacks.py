"""The text of an exception: message, name and traceback, bounded and safe to ask for.

Never raises, whatever an exception's ``__str__`` or ``__repr__`` does, and
never shows more than a person can read.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from kitaru._core.values.paths import type_name
from kitaru._core.values.shapes import namespace_of_object
from kitaru.masking import NEEDLES, mask

MAX_MESSAGE_BYTES = 8 * 1024
MAX_TRACEBACK_BYTES = 32 * 1024
MAX_REPR_CHARACTERS = 1000
MAX_EXCEPTIONS = 20
_EDGE_FRAMES = 60

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"

JOINTS = (_CAUSE, _CONTEXT)
"""What stands between the exceptions of a chain."""


def message_of(error: BaseException) -> str:
    """``str(error)``, at most 8 KiB, or a note that it cannot be told."""
    try:
        text = str.__str__(str(error))
    except BaseException as raised:
        # Even SystemExit: a message must not decide how the recording ends.
        return f"<no message: its __str__ raised {type_name(type(raised))}>"
    return clip(text, MAX_MESSAGE_BYTES)


def safe_repr(value: object) -> str:
    """``repr(value)``, at most 1,000 characters, or the type's name if that raises."""
    if type(value) is str or type(value) is bytes:
        # Not cut through the middle of a secret, which nobody would know again then.
        value = value[: MAX_REPR_CHARACTERS if not NEEDLES else MAX_TRACEBACK_BYTES]
    try:
        text = str.__str__(repr(value))
    except BaseException:
        return f"<{type_name(type(value))}, whose __repr__ raises>"
    if NEEDLES:
        text = mask(text)
    return text if len(text) <= MAX_REPR_CHARACTERS else text[:MAX_REPR_CHARACTERS] + "…"


def clip(text: str, max_bytes: int) -> str:
    """The text if it is small, else its head and tail around a note of what is left out.

    >>> len(clip("x" * 100_000, 8192).encode()) <= 8192
    True
    """
    if NEEDLES:
        text = mask(text)
    # Four bytes a character at most: most texts need no count.
    if len(text) * 4 <= max_bytes or len(text.encode("utf-8", "surrogatepass")) <= max_bytes:
        return text
    keep = (max_bytes - 80) // 2
    head = text[:keep].encode("utf-8", "replace")[:keep].decode("utf-8", "ignore")
    tail = text[-keep:].encode("utf-8", "replace")[-keep:].decode("utf-8", "ignore")
    left_out = len(text) - len(head) - len(tail)
    return f"{head}\n… {left_out:,} characters left out …\n{tail}"


def traceback_of(error: BaseException, drop_frames_of: str | None) -> str:
    """The traceback as Python would print it, with what it came from; at most 32 KiB.

    Frames of files whose path begins with ``drop_frames_of`` are left out.
    """
    try:
        chain = list(_chain(error))
        return clip("".join(_blocks(chain, drop_frames_of)), MAX_TRACEBACK_BYTES)
    except Exception:
        return f"{type_name(type(error))}: {message_of(error)}\n"


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """The exception and what it came from, oldest last, each with the words that join them."""
    joined, seen = "", set[int]()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < MAX_EXCEPTIONS:
        seen.add(id(current))
        yield current, joined
        if current.__cause__ is not None:
            current, joined = current.__cause__, _CAUSE
        else:
            current = None if current.__suppress_context__ else current.__context__
            joined = _CONTEXT


def _blocks(chain: list[tuple[BaseException, str]], drop_frames_of: str | None) -> Iterator[str]:
    for error, joined in reversed(chain):
        yield from _block(error, drop_frames_of, "")
        yield joined


def _block(error: BaseException, drop_frames_of: str | None, indent: str) -> Iterator[str]:
    lines = _frame_lines(error.__traceback__, drop_frames_of)
    if lines:
        yield f"{indent}Traceback (most recent call last):\n"
        yield from (indent + line for line in lines)
    message = message_of(error)
    name = type_name(type(error))
    yield f"{indent}{name}: {message}\n" if message else f"{indent}{name}\n"
    notes = (namespace_of_object(error) or {}).get("__notes__")
    for note in notes if type(notes) is list else ():
        yield f"{indent}{note if type(note) is str else safe_repr(note)}\n"
    if isinstance(error, BaseExceptionGroup) and len(indent) < 2 * MAX_EXCEPTIONS:
        for member in error.exceptions[:MAX_EXCEPTIONS]:
            yield f"{indent}  ---\n"
            yield from _block(member, drop_frames_of, indent + "  ")


def _frame_lines(trace: TracebackType | None, drop_frames_of: str | None) -> list[str]:
    import traceback  # heavy, and only failures need it

    frames = [
        place for place in _walk(trace) if not _is_in(drop_frames_of, place[0].f_code.co_filename)
    ]
    left_out = len(frames) - 2 * _EDGE_FRAMES
    if left_out <= 0:
        return traceback.StackSummary.extract(iter(frames)).format()
    head = traceback.StackSummary.extract(iter(frames[:_EDGE_FRAMES])).format()
    tail = traceback.StackSummary.extract(iter(frames[-_EDGE_FRAMES:])).format()
    return [*head, f"  … {left_out:,} frames left out …\n", *tail]


def _walk(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _is_in(folder: str | None, file: Any) -> bool:
    return folder is not None and str(file).startswith(folder)
