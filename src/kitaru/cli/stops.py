"""The signals that tell a long-running command to stop.

The first one is only noticed, by whoever waits for it here; a second one ends the
process wherever it stands, and the lock that the kernel drops is the hand-back. Works
as process 1 of a container, too, for which the kernel has no default action.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""SIGHUP too: whoever closes the terminal has gone. Under ``nohup`` it stays ignored."""


class Stops:
    """Catches them from when it is made."""

    def __init__(self, last_words: str) -> None:
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        self._last_words = last_words.encode("utf-8", "backslashreplace")
        self.first: signal.Signals | None = None
        for number in STOPS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            signal.signal(number, self._caught)
        # The kernel may hand a signal to any thread, and then nothing interrupts the one that
        # waits here: the byte that comes with it does.
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        # In the middle of anything: no stream, no lock and no store may be touched here.
        if self.first is not None:
            with contextlib.suppress(OSError):
                os.write(2, self._last_words)
            os._exit(128 + number)
        self.first = signal.Signals(number)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the first of them -> whether it has come."""
        while self.first is None:
            if not select.select([self._read], [], [], seconds)[0]:
                break
            with contextlib.suppress(OSError):
                os.read(self._read, 512)  # of another signal, perhaps
        return self.first is not None
