"""A command on a real pseudo-terminal, and what a person would see there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

from .programs import MAX_SECONDS, Project

_PIECE = re.compile(r"\x1b\[(?P<number>\d*)(?P<command>[A-Za-z])|\x1b\[[0-9;]*m|(?P<text>[^\x1b])")


class Terminal:
    """``kitaru`` with a terminal as stdin and stderr, and as stdout unless that is a pipe."""

    def __init__(
        self,
        project: Project,
        *words: str,
        columns: int = 80,
        rows: int = 24,
        stdout_is_pipe: bool = False,
        program: tuple[str, ...] = ("-m", "kitaru"),
        **environment: str,
    ) -> None:
        self.raw = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, *program, *words],
            cwd=project.folder,
            env={**project.environment(), "TERM": "xterm-256color", **environment},
            stdin=slave,
            stdout=subprocess.PIPE if stdout_is_pipe else slave,
            stderr=slave,
            # A session of its own, whose terminal this is: Ctrl-C then is a signal.
            preexec_fn=_own_terminal,
        )
        os.close(slave)

    def _read(self, until: float) -> bool:
        """Take in what there is; False at the end."""
        ready, _, _ = select.select([self._master], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            raise AssertionError(f"nothing more came after:\n{self.raw}")
        try:
            data = os.read(self._master, 65_536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False  # Linux: the other side is closed
        self.raw += data.decode()
        return bool(data)

    def wait_for(self, text: str, *, times: int = 1) -> None:
        until = time.monotonic() + MAX_SECONDS
        while self.raw.count(text) < times:
            assert self._read(until), f"{text!r} did not come:\n{self.raw}"

    def send(self, text: str) -> None:
        os.write(self._master, text.encode())

    def finish(self) -> int:
        """Read to the end -> the exit status."""
        until = time.monotonic() + MAX_SECONDS
        while self._read(until):
            pass
        os.close(self._master)
        return self.process.wait(MAX_SECONDS)

    def out(self) -> str:
        """What came on the pipe that stdout is."""
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            return pipe.read().decode()

    @property
    def screen(self) -> list[str]:
        return screen_of(self.raw)


def _own_terminal() -> None:
    os.setsid()
    # Whoever runs the tests may ignore it (nohup); a terminal's programs do not.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def screen_of(raw: str) -> list[str]:
    """The lines that stand on a terminal, however high, after all of this.

    >>> screen_of("one\\r\\ntwo\\r\\n\\x1b[1A\\x1b[Jthree\\r\\n")
    ['one', 'three']
    """
    lines: list[str] = [""]
    row = column = 0
    for piece in _PIECE.finditer(raw):
        text, command = piece["text"], piece["command"]
        if command == "A":
            row = max(0, row - int(piece["number"] or 1))
        elif command == "J":
            lines[row] = lines[row][:column]
            del lines[row + 1 :]
        elif text == "\r":
            column = 0
        elif text == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif text is not None:
            lines[row] = f"{lines[row]:<{column}}"[:column] + text + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines if line.strip()]


def make_gate(project: Project) -> None:
    """A gate that a body will wait at."""
    os.mkfifo(project.folder / "gate")


def let_pass(project: Project) -> None:
    """Open the gate for the one who waits there, or is about to."""
    os.close(os.open(project.folder / "gate", os.O_WRONLY))
