"""A program on a terminal of its own, and what a person would see and type there."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

PATIENCE_SECONDS = 120

# A session's terminal is what it takes for its own: only then does Ctrl-C reach it.
LAUNCH = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
CTRL_C = "\x03"
CTRL_D = "\x04"


class Terminal:
    """Starts Python with these arguments; ``see`` waits for text, ``type`` sends a line."""

    def __init__(self, *arguments: str, folder: Path, **environment: str) -> None:
        self._near, self._far = pty.openpty()
        self.modes_before = self.modes()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("KITARU_", "PYTHONBREAK"))}
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, *arguments],
            cwd=folder,
            env={**kept, "TERM": "dumb", "HOME": str(folder.parent), **environment},
            stdin=self._far,
            stdout=self._far,
            stderr=self._far,
            start_new_session=True,
        )
        self._unread = ""
        self.shown = ""

    def modes(self) -> list[object]:
        """Whether it echoes, edits lines, and the like."""
        return termios.tcgetattr(self._far)[:4]

    def see(self, pattern: str) -> str:
        """Wait until this is shown after what was seen before -> all up to its end."""
        until = time.monotonic() + PATIENCE_SECONDS
        while (found := re.search(pattern, self._unread)) is None:
            if not self._read(until):
                raise AssertionError(f"{pattern!r} never came; the terminal shows:\n{self.shown}")
        seen, self._unread = self._unread[: found.end()], self._unread[found.end() :]
        return seen

    def type(self, line: str) -> None:
        os.write(self._near, line.encode() + b"\n")

    def press(self, key: str) -> None:
        os.write(self._near, key.encode())

    def end(self) -> int:
        """Wait for the program's end -> its exit status, negative for a signal."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            if time.monotonic() > until:
                raise AssertionError(f"it does not end; the terminal shows:\n{self.shown}")
            self._read(time.monotonic() + 0.05)
        while self._read(time.monotonic()):
            pass
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._near)
        os.close(self._far)

    def _read(self, until: float) -> bool:
        ready, _, _ = select.select([self._near], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return False
        text = os.read(self._near, 65536).decode(errors="replace").replace("\r\n", "\n")
        self._unread += ESCAPES.sub("", text)
        self.shown += text
        return True
