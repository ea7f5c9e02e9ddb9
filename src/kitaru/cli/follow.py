"""Watching an execution run in this process, to its end or to the signal that ends us.

Ctrl-C and SIGTERM: nothing new starts, bodies get 5 s to finish and record,
the rest is handed back at once and the command that continues it is shown. A
second signal ends at once; the lock that the kernel drops is the hand-back.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

from kitaru import app as _app
from kitaru._engine.awaited import describe
from kitaru._engine.draining import drain
from kitaru._engine.host import DRAIN_SECONDS
from kitaru._engine.outage import is_away
from kitaru.cli.live import View
from kitaru.cli.output import Session
from kitaru.cli.style import start_of_line
from kitaru.errors import (
    KitaruBackendError,
    KitaruExecutionError,
    KitaruStateError,
    KitaruTimeoutError,
)
from kitaru.handles import FlowHandle
from kitaru.status import ExecutionStatus

FIRST_NEWS_SECONDS = 2.0
NEWS_SECONDS = 10.0
LOOK_SECONDS = 0.1
"""How often it is looked whether an execution that is to be left has parked."""

_PAGE = 1000


class Terminated(KeyboardInterrupt):
    """SIGTERM: treated as Ctrl-C, but for the exit status."""

    number = signal.SIGTERM


def catch_sigterm() -> None:
    """From here on SIGTERM unwinds the command instead of ending the process."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    try:
        signal.signal(signal.SIGTERM, terminate)
    except ValueError:
        return  # not in the main thread: somebody embeds us, and owns the signals


def follow(
    session: Session, handle: FlowHandle[Any], view: View, *, detach: bool = False
) -> KitaruExecutionError | None:
    """Wait for the end, showing it -> the error that it ended with, or None.

    ``detach``: wait no longer than until nothing of it runs here, because it waits itself.
    """
    view.follow(handle.exec_id)
    elsewhere = Elsewhere(session, handle)
    pause_seconds = LOOK_SECONDS if detach else FIRST_NEWS_SECONDS
    try:
        while True:
            try:
                handle.wait(timeout=pause_seconds)
                view.close("completed")
                return None
            except KitaruTimeoutError:
                if detach:
                    if _only_waits(handle):
                        view.close("waiting")
                        return None
                    continue
                if not view.heard_anything:
                    elsewhere.tell()
                pause_seconds = NEWS_SECONDS
    except KitaruExecutionError as error:
        view.close("cancelled" if error.status is ExecutionStatus.CANCELLED else "failed")
        return error
    except KeyboardInterrupt as stop:
        hand_back(session, handle, status_of(stop), view)


def status_of(stop: BaseException) -> int:
    """The exit status of a command that this signal ended."""
    number: int = getattr(stop, "number", signal.SIGINT)
    return 128 + number


def _only_waits(handle: FlowHandle[Any]) -> bool:
    """Whether it is parked, and nothing that it may wait for (a child) runs in this process."""
    return handle.status is ExecutionStatus.WAITING and not _app.current().runner.busy


class Elsewhere:
    """A line now and then on an execution that another process runs: its events are told there."""

    def __init__(self, session: Session, handle: FlowHandle[Any]) -> None:
        self._session = session
        self._store = _app.current().store
        row = self._store.find_execution(handle.exec_id)
        self._execution = None if row is None else row.id
        self._handle, self._exec_id = handle, handle.exec_id
        self._seen = 0
        self._calls = 0
        self._last = ""

    def tell(self) -> None:
        if self._session.as_json or self._execution is None:
            return
        try:
            status = self._count()
        except KitaruBackendError as error:
            if not is_away(error):
                raise
            return  # whoever waits says that the store is away, once
        self._session.progress(
            f"execution {self._exec_id} is {status}: {self._calls} outcomes recorded{self._last}"
        )

    def _count(self) -> ExecutionStatus:
        assert self._execution is not None
        while page := self._store.list_calls(self._execution, after=self._seen, limit=_PAGE):
            self._seen = page[-1].id
            self._calls += len(page)
            self._last = f", the last of {page[-1].row.checkpoint}"
        return self._handle.status


def hand_back(
    session: Session, handle: FlowHandle[Any], status: int, view: View | None = None
) -> NoReturn:
    """Let bodies finish, hand back what runs here, and say how it goes on."""
    goes_on = f"go on with: kitaru executions resume {handle.exec_id}"
    last_words = start_of_line() + session.error_line(
        KitaruStateError(
            f"ended at once; execution {handle.exec_id} is interrupted; {goes_on}",
            code="process-interrupted",
        )
    )

    def end_at_once(number: int, frame: FrameType | None) -> NoReturn:
        # In the middle of anything: no stream, no lock and no store may be touched here.
        try:
            os.write(2, last_words.encode("utf-8", "backslashreplace"))
        finally:
            os._exit(status)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_at_once)
    if view is not None:
        view.close("stopped")  # not interrupted: handed back, it will be pending
    runner = _app.current().runner
    runner.services.draining = True  # before it is said: who reads it relies on it
    session.progress(
        f"stopping: bodies get {DRAIN_SECONDS:.0f} s to finish and record (again: at once)"
    )
    runs_here = view is None or view.heard_anything
    drain(runner, DRAIN_SECONDS)
    _end(session, handle, status, runs_here)


def _waiting(handle: FlowHandle[Any]) -> str:
    store = _app.current().store
    row = store.find_execution(handle.exec_id)
    return f"execution {handle.exec_id} waits" if row is None else describe(store, row)


def _end(session: Session, handle: FlowHandle[Any], status: int, runs_here: bool) -> NoReturn:
    """Say where it stands and leave without waiting for anything that still runs."""
    try:
        stands = handle.status
    except Exception:
        stands = None  # the store is away: then the lock that we drop is the hand-back
    if stands is ExecutionStatus.WAITING:
        said = f"left: {_waiting(handle)}"
    elif stands is not None and stands.is_finished:
        said = (
            f"execution {handle.exec_id} is {stands}: it came to its end while it was stopped; "
            f"see: kitaru executions get {handle.exec_id}"
        )
    elif not runs_here and stands is not None:
        said = (
            f"left: execution {handle.exec_id} is {stands}, and needs nothing of this command; "
            f"see: kitaru executions get {handle.exec_id}"
        )
    else:
        said = (
            f"execution {handle.exec_id} is handed back; go on with: "
            f"kitaru executions resume {handle.exec_id}"
        )
    if session.as_json:
        session.fail(KitaruStateError(said, code="process-interrupted"))
    else:
        session.say(said)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status)
