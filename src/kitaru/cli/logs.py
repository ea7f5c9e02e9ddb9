"""``kitaru executions logs`` at work: what was printed until now, or also what is printed next."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import NamedTuple

from kitaru._store.protocol import ExecutionRow
from kitaru.cli.canvas import Line, Piece, Screen, screen_of, write
from kitaru.cli.output import Session, cleaned
from kitaru.cli.place import Place, existing
from kitaru.cli.region import ESCAPES
from kitaru.cli.shown import as_data
from kitaru.cli.style import DIM, ERROR, WARNING
from kitaru.lookup import checked_limit
from kitaru.model import LogEntry
from kitaru.records import status_of
from kitaru.settings import resolve
from kitaru.status import ExecutionStatus

POLL_SECONDS = 0.25

_LEVEL_STYLES = {"WARNING": WARNING, "ERROR": ERROR, "CRITICAL": ERROR}


class Asked(NamedTuple):
    """Which lines a person asked for."""

    checkpoint: str | None
    level: str | None
    limit: int | None


def show_logs(session: Session, exec_id: str, asked: Asked) -> None:
    place = existing()
    executions = place.executions
    reader = executions.read_logs(
        executions.find_row(exec_id), checkpoint=asked.checkpoint, level=asked.level
    )
    found = list(reader.last(_limit(asked)))
    if asked.checkpoint is not None and not found:
        # Says so if there is no such checkpoint.
        executions.logs(exec_id, checkpoint=asked.checkpoint, limit=1)
    if session.as_json:
        session.items([as_data(entry) for entry in found])
        return
    _print(found)
    if not found:
        kept = "" if resolve().logs else "; the setting `logs` is off"
        but = "nothing like that" if reader.found_any else "nothing"
        session.progress(f"{but} was printed or logged, or it is kept no more{kept}")


def follow_logs(session: Session, exec_id: str, asked: Asked) -> int:
    """Show what was printed, and go on until the execution ends -> the exit status."""
    place = existing()
    row = place.executions.find_row(exec_id)
    reader = place.executions.read_logs(row, checkpoint=asked.checkpoint, level=asked.level)
    before: ExecutionStatus | None = None
    entries: Iterable[LogEntry] | None = None
    pause = threading.Event()
    while True:
        # First how it stands, then what was printed: the log is whole before an end is recorded.
        status = _status(place, row)
        entries = reader.new() if entries is not None else reader.last(_limit(asked))
        _show(session, entries)
        if status is not before:
            _tell(session, place, row, status)
        if status.is_finished or status is ExecutionStatus.INTERRUPTED:
            return 0 if status.is_successful else 1
        before = status
        pause.wait(POLL_SECONDS)


def _limit(asked: Asked) -> int | None:
    return None if asked.limit is None else checked_limit(asked.limit)


def _status(place: Place, row: ExecutionRow) -> ExecutionStatus:
    return status_of(place.executions.find_row(row.exec_id), place.is_alive)


def _show(session: Session, entries: Iterable[LogEntry]) -> None:
    if session.as_json:
        for entry in entries:
            session.event("log", as_data(entry))
    else:
        _print(entries)


def _tell(session: Session, place: Place, row: ExecutionRow, status: ExecutionStatus) -> None:
    """Say that it waits, has ended, or was interrupted."""
    if status.is_finished:
        event, hint = "terminal", ""
    elif status is ExecutionStatus.WAITING:
        event, hint = "waiting", ""
    elif status is ExecutionStatus.INTERRUPTED:
        event, hint = "interrupted", f"; go on with: kitaru executions resume {row.exec_id}"
    else:
        return
    if session.as_json:
        execution = place.executions.get(row.exec_id)
        names = ("exec_id", "status", "status_reason", "ended_at", "failure", "pending_wait")
        session.event(event, {name: as_data(getattr(execution, name)) for name in names})
        return
    session.progress(f"execution {row.exec_id} is {status}{hint}")


# --- lines -----------------------------------------------------------------------------------


def _print(entries: Iterable[LogEntry]) -> None:
    screen = screen_of(sys.stdout)
    lines = [line for entry in entries for line in entry_lines(entry, screen)]
    if lines:
        write(lines, screen)


def entry_lines(entry: LogEntry, screen: Screen) -> list[Line]:
    """For people the time, the checkpoint and what it said; for programs columns with tabs."""
    if not screen.drawn:
        at = entry.timestamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        head = f"{at}\t{entry.level or ''}\t{entry.checkpoint_name or ''}\t"
        return [[Piece(head + line)] for line in entry.message.split("\n")]
    first, *others = (cleaned(ESCAPES.sub("", line)) for line in entry.message.split("\n"))
    line = [Piece(entry.timestamp.strftime("%H:%M:%S.%f")[:-3] + " ", DIM)]
    if entry.checkpoint_name is not None:
        line.append(Piece(cleaned(entry.checkpoint_name) + " ", "cyan"))
    if entry.source not in ("stdout", "stderr"):
        line.append(Piece(f"{entry.level} ", _LEVEL_STYLES.get(entry.level or "", DIM)))
    line.append(Piece(first))
    return [line, *([Piece("  " + other)] for other in others)]
