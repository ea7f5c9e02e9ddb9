"""``executions list`` as lines: a table as wide as there is room, cards where there is none.

A program that reads gets tab-separated columns with times in full: they stay as
they are within a major version.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from kitaru.cli import style
from kitaru.cli.canvas import Line, Piece, Screen, columns_of, cut, one_line, padded
from kitaru.cli.times import ago, full, lasted, took
from kitaru.model import Execution
from kitaru.status import ExecutionStatus

FULL_ID_COLUMNS = 104
SHRUNK_COLUMNS = 9
"""What shrinks keeps so many columns."""
SHORT_ID = 12
"""The end of an id is random: so much of it is as good as all of it."""

PLAIN_HEAD = (
    "id",
    "flow",
    "status",
    "created",
    "seconds",
    "calls",
    "failed",
    "key",
    "tags",
    "waits_for",
    "parent",
    "reason",
)


_HELD_UP = (ExecutionStatus.PENDING, ExecutionStatus.INTERRUPTED)


class Listed(NamedTuple):
    """An execution and what its calls came to: succeeded ones, failed attempts."""

    execution: Execution
    completed: int
    failed: int
    capped: bool = False
    """There are more than were counted."""
    depth: int = 0
    """How far below the top of its family it is shown."""
    hidden_children: int = 0


def plain_lines(found: Sequence[Listed]) -> list[Line]:
    rows = [PLAIN_HEAD, *(_plain(each) for each in found)]
    return [[Piece("\t".join(row))] for row in rows]


def _plain(each: Listed) -> tuple[str, ...]:
    execution = each.execution
    start, end = execution.started_at, execution.ended_at
    seconds = f"{(end - start).total_seconds():.3f}" if start and end else ""
    created = execution.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        execution.exec_id,
        one_line(execution.flow_name),
        execution.status.value,
        created,
        seconds,
        str(each.completed),
        str(each.failed),
        one_line(execution.key or ""),
        one_line(",".join(execution.tags)),
        one_line(execution.pending_wait.name) if execution.pending_wait is not None else "",
        execution.parent_exec_id or "",
        one_line(execution.status_reason or ""),
    )


def drawn_lines(
    found: Sequence[Listed], screen: Screen, now: datetime, *, absolute: bool
) -> list[Line]:
    columns = _columns(found, screen, now, absolute)
    widths = _widths(columns, screen.columns)
    if widths is None:
        return [line for each in found for line in _card(each, screen, now, absolute)]
    return _table(columns, widths, screen, [_below(each, now) for each in found])


def _below(each: Listed, now: datetime) -> list[Line]:
    waits = _waits_for(each.execution, now) or _held_up_by(each.execution)
    return [*([waits] if waits is not None else []), *hidden_lines(each)]


def hidden_lines(each: Listed) -> list[Line]:
    """What is said below a parent whose children are not all listed."""
    if not each.hidden_children:
        return []
    text = f"{'  ' * (each.depth + 1)}and {each.hidden_children:,} more children: "
    return [[Piece(f"{text}kitaru executions get {each.execution.exec_id[-SHORT_ID:]}", style.DIM)]]


def _waits_for(execution: Execution, now: datetime) -> Line | None:
    """What it waits for, since when and until when, and how to answer: a line below its own."""
    wait = execution.pending_wait
    if wait is None:
        return None
    until = "" if wait.expires_at is None else f", until {full(wait.expires_at)}"
    since = ago(wait.entered_waiting_at, now)
    verb = "input" if wait.kind == "input" else "decide"
    answer = f"kitaru executions {verb} {execution.exec_id[-SHORT_ID:]}"
    return [
        Piece(f"  waits for {one_line(wait.name)}", style.look_of("waiting").style),
        Piece(f" ({since}{until})  {answer}", style.DIM),
    ]


def _held_up_by(execution: Execution) -> Line | None:
    """Why it does not go on by itself, for what is queued or was left behind."""
    if execution.status not in _HELD_UP or execution.status_reason is None:
        return None
    return [Piece(f"  {one_line(execution.status_reason)}", style.DIM)]


# --- a table -------------------------------------------------------------------------------


class _Column(NamedTuple):
    head: str
    cells: list[Piece]
    right: bool = False
    may_shrink: bool = False

    @property
    def width(self) -> int:
        return max(columns_of(self.head), *(columns_of(cell.text) for cell in self.cells))


def _table(
    columns: Sequence[_Column],
    widths: Sequence[int],
    screen: Screen,
    below: Sequence[list[Line]],
) -> list[Line]:
    head = [
        Piece(padded(cut(c.head, w), w, right=c.right), style.DIM)
        for c, w in zip(columns, widths, strict=True)
    ]
    lines = [_joined(head)]
    for number in range(len(columns[0].cells)):
        row = []
        for column, width in zip(columns, widths, strict=True):
            text, look = column.cells[number]
            text = cut(text, width, ellipsis=screen.ellipsis)
            row.append(Piece(padded(text, width, right=column.right), look))
        lines.append(_joined(row))
        lines += below[number]
    return lines


def _joined(cells: Line) -> Line:
    return [part for cell in cells for part in (cell, Piece("  "))][:-1]


def _columns(
    found: Sequence[Listed], screen: Screen, now: datetime, absolute: bool
) -> list[_Column]:
    executions = [each.execution for each in found]
    columns = [
        _Column("ID", [Piece(_id(e, screen)) for e in executions]),
        _Column(
            "FLOW",
            [Piece(_flow(each, screen), style.HEADING) for each in found],
            may_shrink=True,
        ),
        _Column("STATUS", [_status(e, screen) for e in executions]),
        _Column("WHEN", [Piece(_when(e, now, absolute), style.DIM) for e in executions]),
        _Column("TOOK", [Piece(_took(e, now)) for e in executions], right=True),
        _Column("CALLS", [_calls(each, screen) for each in found], right=True),
    ]
    labels = [Piece(_labels(e)) for e in executions]
    if any(label.text for label in labels):
        columns.append(_Column("KEY, TAGS", labels, may_shrink=True))
    return columns


def _widths(columns: Sequence[_Column], room: int) -> list[int] | None:
    """As wide as their contents; what may shrink gives way, the widest first; None: no room."""
    widths = [column.width for column in columns]
    over = sum(widths) + 2 * (len(widths) - 1) - room
    while over > 0:
        may = [i for i, c in enumerate(columns) if c.may_shrink and widths[i] > SHRUNK_COLUMNS]
        if not may:
            return None
        widths[max(may, key=lambda i: widths[i])] -= 1
        over -= 1
    return widths


def _flow(each: Listed, screen: Screen) -> str:
    name = one_line(each.execution.flow_name)
    if not each.depth:
        return name
    return f"{'  ' * (each.depth - 1)}{'└' if screen.unicode else '`'} {name}"


# --- its cells -------------------------------------------------------------------------------


def _id(execution: Execution, screen: Screen) -> str:
    if screen.columns >= FULL_ID_COLUMNS:
        return execution.exec_id
    return execution.exec_id[-SHORT_ID:]


def _status(execution: Execution, screen: Screen) -> Piece:
    word = execution.status.value
    return Piece(f"{screen.symbol(word)} {word}", style.look_of(word).style)


def _when(execution: Execution, now: datetime, absolute: bool) -> str:
    return full(execution.created_at) if absolute else ago(execution.created_at, now)


def _took(execution: Execution, now: datetime) -> str:
    if execution.ended_at is None and execution.started_at and execution.status.value == "running":
        return f"{lasted((now - execution.started_at).total_seconds())}…"
    return took(execution.started_at, execution.ended_at)


def _calls(each: Listed, screen: Screen) -> Piece:
    text = f"{each.completed:,}" + ("+" if each.capped else "")
    if not each.failed:
        return Piece(text)
    return Piece(f"{text} {screen.symbol('failed')}{each.failed:,}", style.look_of("failed").style)


def _labels(execution: Execution) -> str:
    tags = " ".join(f"#{tag}" for tag in execution.tags)
    return one_line("  ".join(part for part in (execution.key, tags) if part))


# --- cards, where a table has no room ------------------------------------------------------------


def _card(each: Listed, screen: Screen, now: datetime, absolute: bool) -> list[Line]:
    execution = each.execution
    width = screen.columns
    status = _status(execution, screen)
    calls = _calls(each, screen)
    lines: list[Line] = [
        [Piece(cut(status.text, width), status.style)],
        [Piece(cut(f"  {one_line(execution.flow_name)}", width), style.HEADING)],
        [Piece(cut(f"  {execution.exec_id[-SHORT_ID:]}", width))],
        [Piece(cut(f"  {_when(execution, now, absolute)}", width), style.DIM)],
    ]
    took_ = _took(execution, now)
    counts = f"  {calls.text} calls" + (f", {took_}" if took_ else "")
    lines.append([Piece(cut(counts, width), calls.style)])
    if labels := _labels(execution):
        lines.append([Piece(cut(f"  {labels}", width))])
    if (waits := _waits_for(execution, now) or _held_up_by(execution)) is not None:
        lines.append(waits)
    return lines
