"""From what code prints to the log of its execution: a queue, and a thread that empties it.

Whoever prints pays for an entry in a list. Joining the pieces of lines, masking,
encoding and writing is done ten times a second, or when an execution ends. Nothing
here may fail or hold up a body: what cannot be kept is counted, and told in the log.
"""

from __future__ import annotations

import select
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kitaru._store.logs import LOGGING, MAX_LINE_CHARACTERS, Chunk, LogStore, note
from kitaru.env import Env, nanoseconds_of, process
from kitaru.masking import NEEDLES, mask
from kitaru.notices import notice_once

if TYPE_CHECKING:
    from kitaru._engine.context import Place
    from kitaru._engine.run import Run

WRITE_SECONDS = 0.1
"""How long what was printed may stand in memory only: a kill loses that much."""

CLOSE_SECONDS = 15.0
"""How long the end of a program waits for the thread that is writing."""

SHORT = 1000
"""A piece of up to so many characters is taken without counting them."""

MAX_PIECES = 50_000
"""That may wait in a row. Who prints faster than can be written loses the rest, visibly."""

MAX_CHARACTERS = 8 * 1024 * 1024
"""That may wait in pieces that are not short."""

_CHUNK_LINES = 200
_CALL_DIGITS = 24


class Printed:
    """What is printed in a row at one place; queued until it was looked at.

    The printing thread appends and then looks whether it is queued; the writing one
    says first that it is not, and then takes: nothing is left behind.
    """

    __slots__ = ("clock", "heard_by", "is_queued", "last", "place", "source", "texts", "times")

    def __init__(
        self, place: Place, source: str, heard_by: object, clock: Callable[[], int]
    ) -> None:
        self.place = place
        self.clock = clock
        self.source = source
        self.heard_by = heard_by
        """Who may append without asking anybody: one stream."""
        self.last = clock()
        """When something of it was finished last; at first when it began."""
        self.is_queued = False
        self.texts: list[str] = []
        self.times: list[int] = []
        """Of each piece that ends a line, in nanoseconds; appended before the piece is."""

    def take(self, now: int) -> tuple[str, Sequence[int]]:
        """All that is here -> the text, and when each of its lines was finished."""
        count = len(self.texts)
        pieces = self.texts[:count]
        del self.texts[:count]
        text = "".join(pieces)
        ends = text.count("\n")
        timed = ends
        if len(self.times) < ends:
            timed = sum(piece.endswith("\n") for piece in pieces)
        times = self.times[:timed]
        del self.times[:timed]
        self.last = times[-1] if times else self.last
        return text, times if timed == ends else list(_times_of_lines(pieces, times, now))


def _times_of_lines(pieces: Sequence[str], times: Sequence[int], now: int) -> Iterator[int]:
    """For pieces that hold several lines: each was finished when its piece came, or soon after."""
    left = iter(times)
    at = now
    for piece in pieces:
        if piece.endswith("\n"):
            at = next(left, now)
        yield from [at] * piece.count("\n")


class LogRecord(NamedTuple):
    """A record of ``logging``, formatted where it was made: its arguments may change later."""

    place: Place
    at: int
    """In microseconds, as in all records."""
    message: str
    level: str
    logger: str
    module: str
    filename: str
    lineno: int


class LogWriter:
    """The logs of all executions of this process on their way to the store of logs."""

    def __init__(self, logs: LogStore, env: Env) -> None:
        self.now = nanoseconds_of(env)
        self._logs = logs
        self._pid = process.id
        self._waiting: deque[Printed | LogRecord] = deque()
        self._is_awake = False
        self._characters = 0
        """About how many wait in long pieces: threads may miscount each other's."""
        self._lock = threading.Lock()
        """Held while the queue is emptied: by the thread, or by an execution that ends."""
        self._begun: dict[tuple[Place, str], _Begun] = {}
        """Lines whose ends have not come."""
        self._lost: dict[Run, int] = {}
        """Characters that were not kept, to be told in the log."""
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._closed = threading.Event()

    # --- on the thread of whoever prints ---------------------------------------------------------
    #
    # capture.py appends short pieces to `place.printed` itself. Nothing here raises, or waits.

    def take(self, place: Place, source: str, text: str, heard_by: object = None) -> None:
        """Take a piece that begins a row, or is long."""
        if process.id != self._pid:
            return  # a fork: thread, lock and files are its parent's, so this is not kept
        printed = place.printed
        if printed is None or printed.heard_by is not heard_by or printed.source is not source:
            place.printed = printed = Printed(place, source, heard_by, self.now)
            place.run.has_printed = True
        is_plain = len(text) <= SHORT and len(printed.texts) < MAX_PIECES
        if not (is_plain or self._has_room(printed, text)):
            return
        if text[-1:] == "\n":
            printed.times.append(self.now())
        printed.texts.append(text)
        if not printed.is_queued:
            self.queue(printed)

    def _has_room(self, printed: Printed, text: str) -> bool:
        size = len(text) if len(text) > SHORT else 0
        if len(printed.texts) < MAX_PIECES and self._characters + size <= MAX_CHARACTERS:
            self._characters += size
            return True
        self._lose(printed.place.run, len(text))
        return False

    def queue(self, printed: Printed) -> None:
        """Have the thread look at it, soon."""
        printed.is_queued = True
        self._waiting.append(printed)
        if not self._is_awake:
            self._wake_thread()

    def take_record(self, record: LogRecord) -> None:
        if process.id != self._pid:
            return
        record.place.printed = None  # what is printed next comes after it
        record.place.run.has_printed = True
        if len(self._waiting) >= MAX_PIECES:
            self._lose(record.place.run, len(record.message))
            return
        self._waiting.append(record)
        if not self._is_awake:
            self._wake_thread()

    def _wake_thread(self) -> None:
        if process.id != self._pid:
            self._waiting.clear()
            return
        self._is_awake = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="kitaru-logs", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                self._thread = None  # too late in the life of the interpreter: flush() keeps it
        self._wake.set()

    def _lose(self, run: Run, characters: int) -> None:
        self._lost[run] = self._lost.get(run, 0) + characters

    # --- on the thread that writes ---------------------------------------------------------------

    def _work(self) -> None:
        while not self._closed.is_set():
            self._wake.wait()
            self._wake.clear()
            while self._waiting:
                self._closed.wait(WRITE_SECONDS)
                self._empty()
                self._tidy()
            self._is_awake = False
            if self._waiting:
                self._wake.set()  # it came after we had looked
            elif self._logs.is_written_by_tidy:
                self._tidy()  # what an execution that ended has taken out of the queue

    def _tidy(self) -> None:
        try:
            self._logs.tidy()
        except Exception as error:
            _say(error)

    def flush(self, run: Run) -> None:
        """Write all that this execution has printed, beginnings of lines included."""
        if process.id == self._pid and (self._waiting or self._begun or self._lost):
            self._empty(ending=run)
            if self._logs.is_written_by_tidy and self._thread is not None:
                self._wake.set()

    def ended(self, run: Run) -> None:
        """The execution has left this process."""
        if process.id == self._pid:
            self.flush(run)
            self._lost.pop(run, None)
            self._logs.close(run.exec_id)

    def close(self) -> None:
        """Write what is left, and let the thread go."""
        if process.id == self._pid:
            self._closed.set()
            self._wake.set()
            self._empty()
            if self._logs.is_written_by_tidy:
                self._finish()

    def _finish(self) -> None:
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_SECONDS)
        if thread is None or not thread.is_alive():
            self._tidy()

    def _empty(self, *, ending: Run | None = None) -> None:
        try:
            self._write_what_waits(ending)
        except Exception as error:
            # Whatever it is, it is no matter of the execution's.
            _say(error)

    def _write_what_waits(self, ending: Run | None) -> None:
        with self._lock:
            self._characters = 0
            found: dict[Run, list[Chunk]] = {}
            for _ in range(len(self._waiting)):
                item = self._waiting.popleft()
                found.setdefault(item.place.run, []).extend(self._chunks(item))
                if ending is None:
                    # Whoever comes back from a sync gets the interpreter at once, and
                    # not after all of this: that would be what logs cost.
                    select.select((), (), (), 0)
            for (place, source), begun in tuple(self._begun.items()) if self._begun else ():
                if place.run is ending or place.attempt.is_closed:
                    del self._begun[place, source]
                    of_run = found.setdefault(place.run, [])
                    of_run.extend(_of_text(place, source, begun.text, [begun.at]))
                    of_run.sort(key=_at)
            for run in (*found, *self._lost):
                self._keep(run, found.pop(run, []))

    def _keep(self, run: Run, chunks: list[Chunk]) -> None:
        lost = self._lost.pop(run, 0)
        if lost:
            chunks.append(note(self.now() // 1000, _told(lost)))
        if not chunks:
            return
        try:
            self._logs.append(run.exec_id, run.epoch, chunks)
        except Exception as error:
            self._lose(run, lost + sum(len(chunk.text) for chunk in chunks))
            _say(error)

    def _chunks(self, item: Printed | LogRecord) -> Iterator[Chunk]:
        """The lines that are whole; a beginning stays until its end comes."""
        if type(item) is LogRecord:
            yield _of_record(item)
            return
        assert type(item) is Printed
        item.is_queued = False
        text, times = item.take(self.now())
        place, source = item.place, item.source
        begun = self._begun.pop((place, source), None) if self._begun else None
        if begun is not None:
            text = begun.text + text
        lines, end, rest = text.rpartition("\n")
        if end:
            yield from _of_text(place, source, lines, times)
        if len(rest) > MAX_LINE_CHARACTERS:
            yield from _of_text(place, source, rest, [self.now()])
        elif rest:
            self._begun[place, source] = _Begun(
                rest, item.last if begun is None or end else begun.at
            )


class _Begun(NamedTuple):
    text: str
    at: int


def _at(chunk: Chunk) -> int:
    return chunk.at


def _of_text(place: Place, source: str, text: str, times: Sequence[int]) -> Iterator[Chunk]:
    """The lines as chunks, each with when it was finished."""
    if NEEDLES:
        text = mask(text)
    if len(times) <= _CHUNK_LINES and len(text) <= MAX_LINE_CHARACTERS and "\r" not in text:
        yield _chunk(place, source, text, times)
        return
    lines = text.split("\n")
    if "\r" in text:
        # What a progress bar showed last.
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
    for start in range(0, len(lines), _CHUNK_LINES):
        part = "\n".join(map(_cut, lines[start : start + _CHUNK_LINES]))
        # Masking may have taken ends of lines away.
        yield _chunk(place, source, part, times[start : start + _CHUNK_LINES] or times[-1:])


def _chunk(place: Place, source: str, text: str, times: Sequence[int]) -> Chunk:
    at = times[0] // 1000
    offsets = [time // 1000 - at for time in times] if len(times) > 1 else ()
    return Chunk(at, source, text, *_whose(place), offsets)


def _of_record(record: LogRecord) -> Chunk:
    message = _cut(mask(record.message) if NEEDLES else record.message)
    return Chunk(
        record.at,
        LOGGING,
        message,
        *_whose(record.place),
        level=record.level,
        logger=record.logger,
        module=record.module,
        filename=record.filename,
        lineno=record.lineno,
    )


def _whose(place: Place) -> tuple[str | None, str | None, int]:
    """(checkpoint, call, attempt) of the code that stands there."""
    call = place.attempt.call
    if call is None:
        return None, None, place.run.attempt
    return call.spec.id, call.identity.hex()[:_CALL_DIGITS], place.attempt.number


def _cut(line: str) -> str:
    if len(line) <= MAX_LINE_CHARACTERS:
        return line
    return f"{line[:MAX_LINE_CHARACTERS]}… ({len(line) - MAX_LINE_CHARACTERS:,} more characters)"


def _told(lost: int) -> str:
    return (
        f"about {lost:,} characters were not kept here: they came faster than they could be "
        "written, or the disk did not take them"
    )


def _say(error: Exception) -> None:
    notice_once(
        f"logs cannot be kept ({type(error).__name__}: {error}): executions go on without them"
    )
