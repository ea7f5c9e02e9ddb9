"""A few lines at the bottom of a terminal that are drawn again and again.

What the program prints meanwhile goes above them: ``sys.stdout`` and ``sys.stderr``
are stood in for while the region is there. Nothing about the terminal itself is
changed (no hidden cursor, no modes), so that even a killed program leaves it clean.
Not rich's live display: that prints what the program writes itself, anew formatted.

Programs that ours starts write to the terminal themselves. From the first one on the
cursor rests above the region and not below it, so that what they write comes before it
and is erased by nobody, though the rest of a line of ours may stand behind it.

The lock is held for a write to the terminal and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from kitaru.cli.canvas import Line, clipped, length, painted, screen_of
from kitaru.cli.style import is_terminal

_DEFAULT_SIZE = (80, 24)
_MAX_HELD = 8_192
"""Characters of an unfinished line that are kept back, at most."""

_MAX_REDRAWN = 3

_STARTS = frozenset(
    ("subprocess.Popen", "os.system", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty")
)

ESCAPES = re.compile(r"\x1b(\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\-_])")


class Region:
    """The region, on the terminal that ``stream`` is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._screen = screen_of(stream)
        self._frame: list[tuple[str, int]] = []
        """The lines that stand there now, and how wide they are."""
        self._held_lines = 0
        self._stands = False
        self._redrawn = 0
        """How often it was put back since the last frame, because somebody printed."""
        self._others_write = False
        self._cursor_is_above = False
        self._guests: list[Guest] = []
        self._stdin: Any = None
        self.passes = False
        """What is printed goes straight through: there is no region, and will be none."""
        self._over = False
        self._aside = False
        """A question stands in the terminal: the region comes back after it."""

    def size(self) -> tuple[int, int]:
        """(columns, rows), asked anew each time: people resize their windows."""
        try:
            found = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError, AttributeError):
            return _DEFAULT_SIZE
        return found.columns or _DEFAULT_SIZE[0], found.lines or _DEFAULT_SIZE[1]

    # --- drawing -----------------------------------------------------------------------------

    def draw(self, lines: Sequence[Line]) -> None:
        """Make these the region."""
        frame = self._painted(lines)
        with self._lock:
            if not self.passes and not self._aside:
                text = self._erasing()
                self._frame = frame
                self._redrawn = 0
                self._write(text + self._drawing())

    def close(self, lines: Sequence[Line] = ()) -> None:
        """Take the region away, write these lines for good, and stand in for nothing any more."""
        last = self._painted(lines)
        with self._lock:
            if self._over:
                return
            self._write(self._erasing())
            self._let_go("\n")
            self._over = self.passes = True
            self._write("".join(text + "\n" for text, _ in last))
            self._restore()

    def stand_back(self) -> None:
        """Take the region away for good: the terminal is somebody else's until the end."""
        with self._lock:
            if not self.passes:
                self._write(self._erasing())
                self._let_go("")
                self.passes = True

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Without the region: somebody asks a question, and reads the terminal's lines."""
        with self._lock:
            if not self.passes:
                self._write(self._erasing())
            self._aside = True
        try:
            yield
        finally:
            with self._lock:
                self._aside = False

    def _let_go(self, end: str) -> None:
        for guest in self._guests:
            held, guest.held = guest.held, ""
            if held:
                self._write(held + end)

    def _painted(self, lines: Sequence[Line]) -> list[tuple[str, int]]:
        columns = self.size()[0] - 1
        screen = self._screen
        fitting = [clipped(line, columns, ellipsis=screen.ellipsis) for line in lines]
        return [(painted(line, screen), length(line)) for line in fitting]

    def _drawing(self) -> str:
        """The region as it is to stand there, with the unfinished lines of others on top."""
        held = [guest.tail(self.size()[0] - 1) for guest in self._guests if guest.held]
        self._held_lines = len(held)
        lines = [*held, *(text for text, _ in self._frame)]
        self._stands = bool(lines)
        self._cursor_is_above = self._others_write
        if self._others_write and lines:
            # An empty line first, for theirs.
            return "".join("\n" + line for line in lines) + f"\r\x1b[{len(lines)}A"
        return "".join(line + "\n" for line in lines)

    def _erasing(self) -> str:
        if not self._stands:
            return ""
        self._stands = False
        if self._cursor_is_above:
            return "\x1b[J"
        columns, rows = self.size()
        # A window that was made narrower has wrapped what stood there.
        lines = self._held_lines + sum(max(1, -(-width // columns)) for _, width in self._frame)
        return f"\r\x1b[{min(lines, rows)}A\x1b[J"

    def _write(self, text: str) -> None:
        if not text:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError, AttributeError):
            self._over = self.passes = True  # closed: nobody looks

    # --- what others print ---------------------------------------------------------------------

    def receive(self) -> None:
        """Stand in for the streams of the program that are this very terminal."""
        here = _device(self._stream)
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if is_terminal(stream) and _device(stream) == here:
                guest = Guest(self, name, stream)
                self._guests.append(guest)
                setattr(sys, name, guest)
        sys.addaudithook(self._see)
        os.register_at_fork(after_in_child=self._leave_in_child)

    def _see(self, event: str, arguments: object) -> None:
        """An audit hook, the one way to learn that a program is about to be started."""
        if event in _STARTS and not self.passes:
            self.make_way()
            self._others_write = True

    def guard_input(self, asked: Callable[[], None]) -> None:
        """Call ``asked`` once before somebody reads from stdin: a question, a debugger."""
        if is_terminal(sys.stdin):
            self._stdin = sys.stdin
            sys.stdin = _Guard(sys.stdin, asked)

    def _restore(self) -> None:
        for guest in self._guests:
            if getattr(sys, guest.name) is guest:
                setattr(sys, guest.name, guest.stream)
        if self._stdin is not None and isinstance(sys.stdin, _Guard):
            sys.stdin = self._stdin

    def above(self, stream: TextIO, text: str) -> None:
        """Write somebody's finished lines above the region. Called with the lock held."""
        self._write(self._erasing())
        try:
            stream.write(text)
            stream.flush()
        finally:
            self.redraw()

    def redraw(self) -> None:
        """Put the region back, unless so much is printed that the next frame will do."""
        self._redrawn += 1
        if self._redrawn <= _MAX_REDRAWN and not self.passes and not self._aside:
            self._write(self._erasing() + self._drawing())

    def make_way(self) -> None:
        """Erase the region until it is drawn again: somebody writes past us."""
        with self._lock:
            if not self.passes:
                self._write(self._erasing())

    def _leave_in_child(self) -> None:
        """In a fork the region is its parent's, and so may be whoever holds the lock."""
        self._over = self.passes = True
        for guest in self._guests:
            guest.held = ""


class Guest:
    """What stands in for a stream of the program while the region is there."""

    def __init__(self, region: Region, name: str, stream: TextIO) -> None:
        self.name = name
        self.stream = stream
        self.held = ""
        """The beginning of a line whose end has not come."""
        self._region = region

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @property
    def buffer(self) -> Any:
        self._region.make_way()
        return self.stream.buffer

    def write(self, text: str) -> int:
        region = self._region
        if region.passes or not isinstance(text, str):
            return self.stream.write(text)
        with region._lock:
            finished, newline, rest = (self.held + text).rpartition("\n")
            self.held = rest
            if newline:
                region.above(self.stream, finished + newline)
            elif len(rest) > _MAX_HELD:
                self.held = ""
                region.above(self.stream, rest + "\n")
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Show the beginning of a line, too: somebody wants it to be seen (a progress bar)."""
        region = self._region
        with region._lock:
            if self.held and region._frame:
                region.redraw()
        if region.passes:
            self.stream.flush()

    def tail(self, columns: int) -> str:
        """The unfinished line as it would stand there: plain, and after its last return."""
        text = ESCAPES.sub("", self.held).rstrip("\r").rpartition("\r")[2]
        return "".join(c for c in text if c.isprintable())[:columns]

    def __iter__(self) -> Any:
        return iter(self.stream)


class _Guard:
    """stdin, until somebody reads from it."""

    _READING = frozenset(
        ("buffer", "detach", "fileno", "read", "readable", "readline", "readlines")
    )

    def __init__(self, stream: TextIO, asked: Callable[[], None]) -> None:
        self._stream = stream
        self._asked = asked

    def __getattr__(self, name: str) -> Any:
        if name in self._READING:
            self._asked()
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        self._asked()
        return iter(self._stream)


def _device(stream: TextIO) -> object:
    """What tells terminals apart; something of its own if it cannot be told."""
    try:
        return os.fstat(stream.fileno()).st_rdev
    except (OSError, ValueError, AttributeError):
        return object()
