"""Hearing what code prints and logs, where it stands in a flow; everybody else hears it as before.

The streams stay the very objects that they are: only their ``write`` is one of ours,
which hands on to theirs, so that terminals, notebooks, debuggers, test runners and
whoever holds a stream since long ago see no difference. Nothing is added to the root
logger: a handler there would turn off ``basicConfig`` and logging's handler of last resort.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any, cast

from kitaru._engine.context import Place, here
from kitaru._engine.logs import MAX_PIECES, SHORT, LogRecord
from kitaru._store.logs import STDERR, STDOUT
from kitaru.notices import notice_once


class _Guard(threading.local):
    """Whether this thread is inside something that was heard already.

    What a handler of ``logging`` prints is its record's, and a stream may hand on to
    another one that we hear, too.
    """

    busy = False


_guard = _Guard()


def listen() -> None:
    """Hear the streams that are ``sys.stdout`` and ``sys.stderr`` now, and ``logging``.

    Called where an execution begins: they may have been replaced since the last one.
    """
    for source, stream in ((STDOUT, sys.stdout), (STDERR, sys.stderr)):
        if stream is not None and not _is_ours(getattr(stream, "write", None)):
            _hear(source, stream)
    if not _is_ours(logging.Logger.callHandlers):
        logging.Logger.callHandlers = _heard_records(logging.Logger.callHandlers)  # type: ignore[method-assign]


def _is_ours(function: Any) -> bool:
    return getattr(function, "is_kitarus", None) is True


def _hear(source: str, stream: Any) -> None:
    try:
        heard = _heard(source, stream)
        stream.write = heard
        if vars(stream).get("write") is heard:
            return
        del stream.write
    except (AttributeError, TypeError):
        pass
    notice_once(
        f"sys.{source} is a {type(stream).__name__}, to which nobody can listen: what is printed "
        "there stands in no execution's log"
    )


def _heard(source: str, stream: Any) -> Callable[..., Any]:
    """The stream's ``write``, which queues what stands in a flow's context for the log, too."""
    # Such a stream hands on to no other, and takes one argument: the way of nearly everybody.
    write = _plain if type(stream) is io.TextIOWrapper else _careful
    heard: Any = write(source, stream.write)
    heard.is_kitarus = True
    return cast("Callable[..., Any]", heard)


def _plain(source: str, original: Callable[[str], int]) -> Any:
    place_here, me = here.get, object()

    def write(text: str, /) -> int:
        count = original(text)
        place = place_here()
        if place is not None:
            printed = place.printed
            if (
                printed is None
                or printed.heard_by is not me
                or len(text) > SHORT
                or len(texts := printed.texts) > MAX_PIECES
            ):
                _take(place, source, text, me)
            else:
                if text[-1:] == "\n":
                    printed.times.append(printed.clock())
                texts.append(text)
                if not printed.is_queued:
                    place.run.log.queue(printed)  # type: ignore[union-attr]
        return count

    return write


def _careful(source: str, original: Callable[..., Any]) -> Any:
    place_here, guard, me = here.get, _guard, object()

    def write(text: Any, *rest: Any, **named: Any) -> Any:
        place = place_here()
        if place is None or guard.busy:
            return original(text, *rest, **named)
        _take(place, source, text, me)
        guard.busy = True
        try:
            return original(text, *rest, **named)
        finally:
            guard.busy = False

    return write


def _take(place: Place, source: str, text: Any, heard_by: object) -> None:
    log = place.run.log
    if log is not None and not _guard.busy and isinstance(text, str) and text:
        log.take(place, source, str(text), heard_by)


def _heard_records(original: Callable[..., None]) -> Callable[..., None]:
    """``Logger.callHandlers``, which has every record once, whoever handles it, or nobody."""
    place_here, guard = here.get, _guard

    def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
        if guard.busy or (place := place_here()) is None or (log := place.run.log) is None:
            original(logger, record)
            return
        if logger.name != "kitaru":  # what that says is on the record anyway
            log.take_record(_taken(record, place, log.now() // 1000))
        guard.busy = True
        try:
            original(logger, record)
        finally:
            guard.busy = False

    call_handlers.is_kitarus = True  # type: ignore[attr-defined]
    return call_handlers


def _taken(record: logging.LogRecord, place: Place, at: int) -> LogRecord:
    return LogRecord(
        place,
        at,
        formatted(record),
        record.levelname,
        record.name,
        record.module,
        record.filename,
        record.lineno,
    )


def formatted(record: logging.LogRecord) -> str:
    """What the record says, with its traceback."""
    try:
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            import traceback

            lines = traceback.format_exception(*record.exc_info)
            message = f"{message}\n{''.join(lines)}".rstrip("\n")
        if record.stack_info:
            message = f"{message}\n{record.stack_info}"
    except Exception as error:  # code of the user's: logging itself tells of it
        message = f"a record of {record.name} could not be formatted: {type(error).__name__}"
    return message
