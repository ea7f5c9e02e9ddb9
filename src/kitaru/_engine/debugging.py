"""A person with a debugger in a flow: what quitting it means, and whom Ctrl-C is for.

Debuggers run in whichever thread hit the breakpoint, and read the terminal from
there. Ctrl-C reaches the main thread only, which waits for the execution. Knows
debuggers only by `bdb` and `pdb`, from which those of IPython derive, and only
once the program has loaded them.
"""

from __future__ import annotations

import sys
from types import CodeType, FrameType

AGAIN_SECONDS = 5.0
"""Within which a second Ctrl-C at a debugger's prompt is meant for the program."""


def was_quit(exc: BaseException | None) -> bool:
    """Whether this is a person leaving a debugger: no outcome of the code that it stood in.

    A breakpoint that was forgotten in a program without a terminal quits too,
    at the end of its input; that is a failure like any other, or it would be
    tried again for ever.
    """
    bdb = sys.modules.get("bdb")
    return bdb is not None and isinstance(exc, bdb.BdbQuit) and _is_somebody_there()


def _is_somebody_there() -> bool:
    if "ipykernel" in sys.modules:
        return True  # a notebook asks in the browser
    try:
        return sys.stdin.isatty()
    except (AttributeError, ValueError):
        return False  # None, or closed


def prompt_is_open() -> bool:
    """Whether a debugger asks for a command in some thread of this process."""
    prompts = _prompt_loops()
    return bool(prompts) and any(
        _is_inside(frame, prompts) for frame in sys._current_frames().values()
    )


def _prompt_loops() -> set[CodeType]:
    debugger = getattr(sys.modules.get("pdb"), "Pdb", None)
    loop = getattr(debugger, "_cmdloop", None) or getattr(debugger, "cmdloop", None)
    code = getattr(loop, "__code__", None)
    return set() if code is None else {code}


def _is_inside(frame: FrameType | None, codes: set[CodeType]) -> bool:
    while frame is not None:
        if frame.f_code in codes:
            return True
        frame = frame.f_back
    return False


def restore_terminal() -> None:
    """Let the terminal echo and edit lines again: a prompt that is never left cannot."""
    if not prompt_is_open():
        return
    import termios

    try:
        terminal = sys.stdin.fileno()
        modes = termios.tcgetattr(terminal)
        modes[0] |= termios.ICRNL
        modes[3] |= termios.ECHO | termios.ICANON | termios.ISIG
        termios.tcsetattr(terminal, termios.TCSANOW, modes)
    except (AttributeError, OSError, ValueError, termios.error):
        return  # no terminal, or none that can be set
