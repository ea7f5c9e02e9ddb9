"""One command from its words to its exit status: every error becomes a message here.

Exit statuses: 0 done, 1 a handled error or a failed execution, 2 wrong usage,
128 + n ended by signal n, as shells have it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from kitaru.cli.commands import Group, ReaderLeft
from kitaru.cli.output import Session, wants_json
from kitaru.cli.root import GROUPS, kitaru
from kitaru.errors import KitaruError, KitaruStateError, KitaruUsageError

if TYPE_CHECKING:
    from kitaru.app import Kitaru


def perform(words: Sequence[str]) -> int:
    """Run the command that the words say -> its exit status."""
    try:
        return _perform(words)
    finally:
        _drop_stderr()


def _perform(words: Sequence[str]) -> int:
    session = Session(as_json=wants_json(words), command=named_command(words))
    try:
        status = _run(words, session)
        sys.stdout.flush()
        return status
    except (ReaderLeft, BrokenPipeError):
        return _reader_left()
    except OSError as error:
        _drop_stdout()
        session.fail(error, type_name="KitaruBackendError", code="disk-failed")
        return 1


def _run(words: Sequence[str], session: Session) -> int:
    try:
        found = kitaru.main(list(words), prog_name="kitaru", standalone_mode=False, obj=session)
        return found if isinstance(found, int) else 0
    except click.UsageError as error:
        session.fail_usage(error)
        return 2
    except click.ClickException as error:
        message = error.format_message()
        session.fail(
            error, type_name="KitaruUsageError", message=message, code="command-line-invalid"
        )
        return 1
    except (click.Abort, KeyboardInterrupt) as error:
        return _interrupted(session, error)
    except KitaruUsageError as error:
        session.fail(error)
        return 2
    except KitaruError as error:
        session.fail(error)
        return 1
    except (OSError, ReaderLeft):
        raise
    except Exception as error:
        session.fail_inside(error)
        return 1


def _interrupted(session: Session, error: BaseException) -> int:
    """A signal came while nothing was followed; what runs is handed back when we exit."""
    app = sys.modules.get("kitaru.app")
    running = app._app if app is not None else None
    stop = error.__cause__ or error
    if running is not None:
        _hand_back_what_had_just_begun(session, running, stop)
        running.host.interrupted = True
    session.fail(
        KitaruStateError(
            "interrupted: nothing more was started; see `kitaru executions list`",
            code="process-interrupted",
        )
    )
    number: int = getattr(stop, "number", signal.SIGINT)
    return 128 + number


def _hand_back_what_had_just_begun(session: Session, app: Kitaru, stop: BaseException) -> None:
    """If the command had started an execution, and was about to follow it: as if it did."""
    begun = [life.row for life in app.runner.launched() if life.row.parent_exec_id is None]
    if len(begun) != 1:
        return
    # Loaded already, where something has begun; not at the top, for commands that only look.
    from kitaru.cli.follow import hand_back, status_of
    from kitaru.client import KitaruClient

    with contextlib.suppress(KitaruError):  # the store is away: then our lock is the hand-back
        handle = KitaruClient().executions.handle(begun[0].exec_id)
        hand_back(session, handle, status_of(stop))


def _drop_stderr() -> None:
    """If nobody takes what we say (a full disk), that is not the command's failure."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _reader_left() -> int:
    """Whoever read our output has gone (``| head``): that is no error, and nobody to tell."""
    _drop_stdout()
    return 0


def _drop_stdout() -> None:
    """What could not be written must not be tried again at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError:
        return


def named_command(words: Sequence[str]) -> str:
    """Which command the words begin with, as envelopes name it: ``executions.get``.

    >>> named_command(["--store", "x", "executions", "get", "01ab"])
    'executions.get'
    """
    names: list[str] = []
    known: Group | None = kitaru
    skip = False
    for word in words:
        if skip or word.startswith("-"):
            skip = not skip and word in ("--store", "--output", "-o")
            continue
        if known is None or word not in known.lazy:
            break
        names.append(word)
        known = GROUPS.get(word)
    return ".".join(names) or "kitaru"
