"""The process between an owner and the body that it wants run: it ends what must end.

It forks the body into a process group of its own and runs no code of users, so that
nothing can keep it from two things: if the owner goes, however it went, it kills the
group; if the body goes, it kills what that left behind, and says how it went. It loads
nothing but what a bare interpreter has.
"""

from __future__ import annotations

import _thread
import os
import signal
import struct


def main(socket: int, life: int, status: int, form: str) -> None:
    """``life`` ends when the owner does; ``status`` is where the end of the body is told."""
    body = os.fork()
    if body == 0:
        os.setpgid(0, 0)
        os.close(life)
        os.close(status)
        from kitaru._process.child import run_body

        run_body(socket)
        return
    try:
        os.setpgid(body, body)  # whoever comes first: the group is there before either goes on
    except OSError:
        pass  # it has ended already
    os.close(socket)
    nobody = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nobody, standard)  # its pipes end with the body and not with us
    _thread.start_new_thread(_watch, (life, body))
    _, ended, usage = os.wait4(body, 0)
    _kill(body)
    os.write(status, struct.pack(form, ended, usage.ru_maxrss))
    os._exit(0)


def _watch(life: int, body: int) -> None:
    while True:
        try:
            if not os.read(life, 1):
                break
        except InterruptedError:
            continue
    _kill(body)


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass  # nobody is left
