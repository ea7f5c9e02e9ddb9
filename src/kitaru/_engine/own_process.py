"""The process of one body, as its owner holds it: started, listened to, asked to end, killed.

Passes on what the body says, prints and logs, and remembers what it came to. What that
means for its call is the business of ``processes.py``.
"""

from __future__ import annotations

import codecs
import fcntl
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kitaru._engine.unwind import Unwind, Why
from kitaru._engine.wire import STATUS, Order, Wire
from kitaru._store.protocol import LearntRow
from kitaru.masking import remember

if TYPE_CHECKING:
    from kitaru._engine.context import Place

START_SECONDS = 60.0
"""How long a process may take until its body begins: to start, and to import its module."""

EXIT_SECONDS = 5.0
"""How long it may take to end once the outcome is known: then it is killed."""

_MAX_WAIT_SECONDS = 60.0
_READ_BYTES = 1 << 16


class Child:
    """The process of one body, from its start to its end."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._env = place.run.env
        self._wire: Wire | None = None
        self._life = -1
        self._status = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._outputs: dict[int, tuple[str, Any]] = {}
        self._group: int | None = None
        self._lock = threading.Lock()
        self._killed_at: float | None = None
        self._began_at: float | None = None
        self._done_at: float | None = None
        self._outcome: tuple[Any, ...] | None = None
        self.seconds = 0.0
        self.ended: tuple[int, int] | None = None
        """(status as ``wait`` has it, most memory) once it has ended."""

    def start(self, order: Order) -> None:
        ours, theirs = (socket.socket(fileno=_above(s.detach())) for s in socket.socketpair())
        life_read, self._life = map(_above, os.pipe())
        self._status, status_write = map(_above, os.pipe())
        # What we hold must not live on in forks of ours: it would keep the process alive.
        _held.update((ours.fileno(), self._life))
        given = (theirs.fileno(), life_read, status_write)
        try:
            self._process = subprocess.Popen(
                _command(*given),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=given,
                start_new_session=True,  # Ctrl-C in the terminal is the owner's matter
            )
        finally:
            theirs.close()
            os.close(life_read)
            os.close(status_write)
        self._wire = Wire(ours)
        if self._killed_at is not None:
            self.kill()  # somebody was quicker
        for source in ("stdout", "stderr"):
            pipe = getattr(self._process, source)
            os.set_blocking(pipe.fileno(), False)
            decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
            self._outputs[pipe.fileno()] = (source, decoder)
        with suppress(OSError):  # it died: that is seen below
            ours.settimeout(START_SECONDS)
            self._wire.send(order)
        ours.settimeout(None)

    def ask_to_end(self, ended: Unwind | None) -> None:
        """The execution is told to end: what the body asks of Kitaru raises from now on.

        If its time is over, so is that of the body.
        """
        if ended is not None and ended.why is Why.TIMED_OUT:
            self.kill()
        elif self._wire is not None and ended is not None:
            with suppress(OSError):
                self._wire.send("ended", ended.why.name, str(ended))

    def kill(self) -> None:
        """End it and all that it has started, now."""
        with self._lock:
            self._killed_at = self._killed_at or self._env.monotonic()
            if self._life >= 0:
                _held.discard(self._life)
                os.close(self._life)  # the guard sees it, and kills the group
                self._life = -1

    # --- while it runs ---------------------------------------------------------------------------

    def supervise(self, timeout_seconds: float | None) -> tuple[Any, ...]:
        """Pass on what it says until it has ended -> its outcome, or why there is none."""
        assert self._wire is not None
        poll = select.poll()
        for descriptor in (self._wire.socket.fileno(), self._status, *self._outputs):
            poll.register(descriptor, select.POLLIN)
        clock = self._env.monotonic
        started = clock()
        while self.ended is None:
            left = self._until(started, timeout_seconds) - clock()
            if left <= 0:
                if self._killed_at is not None:
                    break  # not even the guard ends: end() sees to it
                self._outcome = self._outcome or ("late" if self._began_at else "died",)
                self.kill()
                continue
            for descriptor, _ in poll.poll(1000 * min(left, _MAX_WAIT_SECONDS)):
                try:
                    self._read(descriptor)
                except (EOFError, OSError):
                    poll.unregister(descriptor)
        self.seconds = clock() - (self._began_at or started)
        self._read_what_is_left()
        return self._outcome or ("died",)

    def _until(self, started: float, timeout_seconds: float | None) -> float:
        """When its patience ends: to begin, to come to an outcome, to end."""
        if self._killed_at is not None or self._done_at is not None:
            return (self._killed_at or self._done_at or 0.0) + EXIT_SECONDS
        if self._began_at is None:
            return started + START_SECONDS
        return self._began_at + (timeout_seconds or float("inf"))

    def _read(self, descriptor: int) -> None:
        """What is there, passed on; ``EOFError`` at the end."""
        assert self._wire is not None
        if descriptor == self._status:
            data = os.read(descriptor, STATUS.size)
            # None: the guard was killed. What it guarded is killed by end().
            self.ended = STATUS.unpack(data) if data else (-1, 0)
        elif descriptor in self._outputs:
            self._pass_on(descriptor)
        else:
            for message in self._wire.receive():
                self._take(*message)

    def _pass_on(self, descriptor: int) -> None:
        """What went past Python's streams, printed by C code or by programs that it started."""
        source, decoder = self._outputs[descriptor]
        data = os.read(descriptor, _READ_BYTES)
        if not data:
            raise EOFError
        _print(source, decoder.decode(data))

    def _read_what_is_left(self) -> None:
        assert self._wire is not None
        self._wire.socket.setblocking(False)
        for descriptor in (self._wire.socket.fileno(), *self._outputs):
            with suppress(EOFError, OSError):
                while True:
                    self._read(descriptor)

    def _take(self, kind: str, *parts: Any) -> None:
        run, call = self._place.run, self._place.call
        assert call is not None
        match kind:
            case "text":
                _print(*parts)
            case "record":
                record = logging.makeLogRecord(parts[0])
                logger = logging.getLogger(record.name)
                if logger.isEnabledFor(record.levelno):
                    logger.handle(record)
            case "needles":
                for text, name in parts[0]:
                    remember(text, name)
            case "metadata":
                call.metadata = parts[0]
            case "saved":
                call.keep(self._place.attempt, parts[0])
            case "facts":
                for fact in parts[0]:
                    if type(fact) is LearntRow:
                        run.learnt[fact.identity] = fact.value
                run.queue(*parts[0])
            case "note":
                run.note(*parts)
            case "hello":
                self._group = parts[0]
            case "begun":
                self._began_at = self._env.monotonic()
            case _:
                self._done_at = self._env.monotonic()
                self._outcome = self._outcome or (kind, *parts)

    # --- afterwards ------------------------------------------------------------------------------

    def end(self) -> None:
        """Leave nothing of it: no process, no descriptor."""
        self.kill()
        process = self._process
        if process is not None:
            try:
                process.wait(EXIT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()  # the guard itself hangs: somebody stopped it
                process.wait()
            if (self.ended is None or self.ended[0] < 0) and self._group is not None:
                with suppress(OSError):  # the guard was killed, and could kill nobody
                    os.killpg(self._group, signal.SIGKILL)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        if self._wire is not None:
            _held.discard(self._wire.socket.fileno())
            self._wire.socket.close()
        if self._status >= 0:
            os.close(self._status)
            self._status = -1


def _above(descriptor: int) -> int:
    """The descriptor, off the places of the standard streams, which a daemon may have closed."""
    if descriptor > 2:
        return descriptor
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return moved


def _command(*descriptors: int) -> list[str]:
    """An interpreter like this one, which runs nothing of the user's before it is told to."""
    flags: list[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()
    path = json.dumps([each for each in sys.path if isinstance(each, str)])
    numbers = ", ".join(map(str, descriptors))
    program = (
        f"import json, sys; sys.path[:] = json.loads({path!r}); "
        f"from kitaru._process.guard import main; main({numbers}, {STATUS.format!r})"
    )
    return [sys.executable, *flags, "-c", program]


def _print(source: str, text: str) -> None:
    """As if the body had printed it here: it stands in its context, so its log hears it."""
    stream = getattr(sys, source)
    if stream is None or not text:
        return
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        return  # nobody looks


_held: set[int] = set()
"""Descriptors whose end tells a process that we are gone."""


def _let_go_in_child() -> None:
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
