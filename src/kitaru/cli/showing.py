"""``executions get`` as lines: what an execution is, how it stands, and its calls as a tree.

Bars are as long as calls took, the longest as long as its column; what was not
run anew has none. Pure functions of records.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from kitaru._core.queueing import DEFAULT_QUEUE
from kitaru._engine.forms import described
from kitaru.cli import style
from kitaru.cli.canvas import (
    Line,
    Piece,
    Screen,
    clipped,
    columns_of,
    cut,
    fields,
    folded,
    length,
    one_line,
    padded,
)
from kitaru.cli.families import Relative, family_lines
from kitaru.cli.output import cleaned, without_our_frames
from kitaru.cli.shown import shell_word
from kitaru.cli.times import ago, full, lasted, took
from kitaru.cli.tree import Node, build
from kitaru.codes import kind_of
from kitaru.model import CheckpointCall, Execution, PendingWait
from kitaru.status import ExecutionStatus

MAX_LINES = 200
MAX_PREVIEW = 300
MAX_SAVED = 5
"""So many of the names that a call saved are shown."""
MAX_WAITS = 20
LEAST_BAR = 10
NO_BARS_BELOW = 60
"""Columns below which names need all the room that there is."""
PLAIN_COLUMNS = 160
"""What a program that reads gets, whatever the terminal beside it."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def execution_lines(
    execution: Execution,
    calls: Sequence[CheckpointCall],
    result: Any,
    screen: Screen,
    now: datetime,
    waits: Sequence[PendingWait] = (),
    children: Sequence[Relative] = (),
) -> list[Line]:
    """``result`` is a preview, or None where there is none; ``waits`` are open."""
    if not screen.drawn:
        screen = screen._replace(columns=PLAIN_COLUMNS)
    title = clipped(_title(execution, screen), screen.columns, ellipsis=screen.ellipsis)
    lines = [title, *fields(_about(execution, result, screen, now), screen)]
    for wait in waits[:MAX_WAITS]:
        lines += [[], *wait_lines(wait, screen, now)]
    if len(waits) > MAX_WAITS:
        lines.append([Piece(f"and {len(waits) - MAX_WAITS:,} more waits", style.DIM)])
    if execution.failure is not None:
        text = cleaned(without_our_frames(execution.failure.traceback).rstrip())
        last = len(text.splitlines()) - 1
        lines.append([])
        lines += [
            [Piece(line, style.look_of("failed").style if number == last else style.DIM)]
            for number, line in enumerate(text.splitlines())
        ]
    if calls:
        totals = [Piece("calls  ", style.DIM), *_totals(calls, screen)]
        lines += [[], *folded(totals, screen.columns)]
        lines += tree_lines(build(calls), screen)
    if children:
        lines += [[], *family_lines(children, screen)]
    advice = _advice(execution, waits)
    # Not folded: the terminal's own wrapping leaves a command that can be copied.
    return [*lines, [], [Piece(advice, style.DIM)]] if advice else lines


# --- what it is ---------------------------------------------------------------------------


def _title(execution: Execution, screen: Screen) -> Line:
    word = execution.status.value
    return [
        Piece(f"{screen.symbol(word)} {word}", style.look_of(word).style),
        Piece("  "),
        Piece(one_line(execution.flow_name), style.HEADING),
    ]


def _about(
    execution: Execution, result: Any, screen: Screen, now: datetime
) -> Iterator[tuple[str, Line]]:
    def said(text: object) -> Line:
        return [] if text in (None, "") else [Piece(cleaned(str(text)))]

    yield "execution", said(execution.exec_id)
    if execution.flow_id != execution.flow_name:
        yield "flow", said(execution.flow_id)
    yield "reason", said(execution.status_reason)
    if execution.failure is not None:
        code = execution.failure.code
        where, look = style.KINDS[kind_of(code)]
        more = f"  kitaru explain {code}" if code is not None else ""
        yield "error", [Piece(where, look), Piece(more, style.DIM)]
    when = f"  ({ago(execution.created_at, now)})" if screen.drawn else ""
    yield "created", [Piece(full(execution.created_at)), Piece(when, style.DIM)]
    yield "took", said(_took(execution, now))
    if execution.attempts > 1:
        yield "attempts", said(execution.attempts)
    yield "key", said(execution.key)
    yield "queue", said(_queue(execution))
    yield "scheduled", said(_scheduled(execution))
    yield "tags", said(" ".join(f"#{tag}" for tag in execution.tags))
    yield "parent", said(execution.parent_exec_id)
    yield "replay of", said(execution.original_exec_id)
    yield "inputs", said(_preview(execution.inputs))
    if execution.metadata:
        yield "metadata", said(_preview(execution.metadata))
    if execution.status is ExecutionStatus.COMPLETED:
        yield "result", said(_preview(result))
    for note in execution.notes:
        at = f"{full(note.at)}  "
        yield "note", [Piece(at, style.DIM), Piece(cleaned(note.message), style.WARNING)]


def _queue(execution: Execution) -> str:
    """Where it stands, if that was said."""
    queue = "" if execution.queue == DEFAULT_QUEUE else execution.queue
    priority = f"priority {execution.priority}" if execution.priority else ""
    key = "" if execution.limit_key is None else f"limit key {execution.limit_key}"
    is_delayed = execution.status is ExecutionStatus.PENDING and execution.due_at is not None
    due = f"not before {full(execution.due_at)}" if is_delayed and execution.due_at else ""
    return ", ".join(part for part in (queue, priority, key, due) if part)


def _scheduled(execution: Execution) -> str:
    """For which fire time it was started, and what was skipped before it."""
    at = execution.scheduled_at
    if at is None:
        return ""
    fired = execution.frozen_execution_spec["schedule"]
    skipped = fired.get("skipped", 0)
    more = f", {skipped:,} skipped before it" if skipped else ""
    return f"for {full(at)} by {fired['cron']!r} ({fired['timezone']}){more}"


def _took(execution: Execution, now: datetime) -> str:
    if execution.status is ExecutionStatus.RUNNING and execution.started_at is not None:
        return f"{lasted((now - execution.started_at).total_seconds())} so far"
    return took(execution.started_at, execution.ended_at)


def _preview(value: Any) -> str:
    """A recorded value as JSON, its end left out where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= MAX_PREVIEW:
        return text
    return f"{text[:MAX_PREVIEW]}… (all of it: -o json)"


def wait_lines(wait: PendingWait, screen: Screen, now: datetime) -> list[Line]:
    """What is waited for, since when and until when."""
    since = f"  ({ago(wait.entered_waiting_at, now)})" if screen.drawn else ""
    name = [Piece(one_line(wait.name), style.look_of("waiting").style)]
    pairs: list[tuple[str, Line]] = [
        ("waits for", name),
        ("question", [Piece(cleaned(wait.question))] if wait.question else []),
        ("wanted", [] if wait.kind != "input" else [Piece(one_line(described(wait.schema)))]),
        ("about", [Piece(cleaned(_preview(dict(wait.metadata))))] if wait.metadata else []),
        ("since", [Piece(full(wait.entered_waiting_at)), Piece(since, style.DIM)]),
        ("until", [] if wait.expires_at is None else [Piece(full(wait.expires_at))]),
    ]
    return fields(pairs, screen)


def _advice(execution: Execution, waits: Sequence[PendingWait] = ()) -> str:
    exec_id = execution.exec_id
    asked = [wait for wait in waits if wait.kind == "input"]
    if asked:
        which = f" --wait {shell_word(asked[0].name)}" if len(waits) > 1 else ""
        command = f"kitaru executions input {exec_id}{which} --interactive"
        return f"answer it: {command}   # or --value JSON"
    if waits:
        call = str(waits[0].metadata.get("call", "")).rpartition(":")[2]
        return f"decide: kitaru executions decide {exec_id} {call}   # run, adopt or abort"
    if execution.status is ExecutionStatus.WAITING:  # for a clock, or for a child
        command = f"kitaru executions resume {exec_id}"
        return f"it then goes on by itself; if no process serves it: {command}"
    if execution.status is ExecutionStatus.FAILED:
        return f"run what failed again: kitaru executions retry {exec_id}"
    if execution.status in (ExecutionStatus.INTERRUPTED, ExecutionStatus.PENDING):
        return f"go on with it: kitaru executions resume {exec_id}"
    return ""


# --- its calls ------------------------------------------------------------------------------


def _totals(calls: Sequence[CheckpointCall], screen: Screen) -> Line:
    line: Line = [Piece(f"{len(calls):,}", style.HEADING)]
    for word, count in _words(calls):
        line += [Piece("  "), Piece(f"{screen.symbol(word)} {count:,} {word}", _style(word))]
    return line


def _words(calls: Sequence[CheckpointCall]) -> list[tuple[str, int]]:
    return Counter(_word(call) for call in calls).most_common()


def _word(call: CheckpointCall) -> str:
    """What became of a call, as the glossary has it."""
    if call.status in ("backoff", "reopened"):
        return "retrying"
    return call.source if call.status == "completed" else call.status


def _style(word: str) -> str:
    return style.look_of(word).style


class _Row(NamedTuple):
    left: Line
    seconds: float | None
    """What the bar shows; None: it cost nothing now."""
    took: str
    note: Line


def tree_lines(nodes: Sequence[Node], screen: Screen) -> list[Line]:
    rows = [row for _, row in zip(range(MAX_LINES + 1), _rows(nodes, "", screen), strict=False)]
    lines = _laid_out(rows[:MAX_LINES], screen)
    if len(rows) > MAX_LINES:
        lines.append([Piece(f"{screen.ellipsis} and more calls: all of them with -o json")])
    return lines


def _rows(nodes: Sequence[Node], indent: str, screen: Screen) -> Iterator[_Row]:
    fork, last_fork, pipe = ("├─ ", "└─ ", "│  ") if screen.unicode else ("|- ", "`- ", "|  ")
    for number, node in enumerate(nodes):
        is_last = number == len(nodes) - 1
        prefix = Piece(indent + (last_fork if is_last else fork), style.DIM)
        yield _row(node, prefix, screen)
        yield from _rows(node.children, indent + ("   " if is_last else pipe), screen)


def _row(node: Node, prefix: Piece, screen: Screen) -> _Row:
    if node.branches:
        times = f" ×{node.branches:,}" if node.branches > 1 else ""
        note = [Piece("branches" if node.branches > 1 else "a branch", style.DIM)]
        return _Row([prefix, Piece(one_line(node.name) + times, style.DIM)], None, "", note)
    return _folded_row(node, prefix, screen) if node.folded else _call_row(node, prefix, screen)


def _call_row(node: Node, prefix: Piece, screen: Screen) -> _Row:
    (call,) = node.calls
    word = _word(call)
    left = [
        prefix,
        Piece(f"{screen.symbol(word)} ", _style(word)),
        Piece(one_line(node.name), style.HEADING if node.children else ""),
        Piece(_arguments(call), style.DIM),
    ]
    ran = call.source == "ran"
    seconds = _seconds(call) if ran else None
    return _Row(left, seconds, took(call.started_at, call.ended_at) if ran else "", _note(call))


def _arguments(call: CheckpointCall) -> str:
    if not isinstance(call.inputs, dict) or not call.inputs:
        return ""
    shown = (
        f"{one_line(str(name))}={cut(one_line(json.dumps(value, ensure_ascii=False)), 24)}"
        for name, value in call.inputs.items()
    )
    return f"({', '.join(shown)})"


def _note(call: CheckpointCall) -> Line:
    word = _word(call)
    parts: Line = []
    if call.source == "reused":
        whom = call.reused_from or "an execution that is gone"
        parts.append(Piece(f"reused from {whom[-12:]}", _style("reused")))
    elif call.source in ("carried", "override"):
        parts.append(Piece(one_line(_briefly(call)), _style(call.source)))
    elif call.status != "completed":
        parts.append(Piece(word, _style(word)))
    if len(call.attempts) > 1:
        parts.append(Piece(f"{len(call.attempts)} tries", _style("retrying")))
    if call.failure is not None:
        said = f"{call.failure.exception_type}: {call.failure.message}"
        parts.append(Piece(one_line(said), _style("failed")))
    elif call.source == "ran":
        parts.append(Piece(one_line(call.reason), style.DIM))
    saved = list(dict.fromkeys(each.name for each in call.artifacts if each.kind == "saved"))
    if saved:
        more = "" if len(saved) <= MAX_SAVED else f" and {len(saved) - MAX_SAVED:,} more"
        names = ", ".join(one_line(name) for name in saved[:MAX_SAVED])
        parts.append(Piece(f"saved {names}{more}", style.DIM))
    if call.checkpoint_type:
        parts.append(Piece(f"[{one_line(call.checkpoint_type)}]", style.DIM))
    return [part for each in parts if each.text for part in (Piece("  "), each)][1:]


def _briefly(call: CheckpointCall) -> str:
    """The reason, with no more of another execution's id than people need."""
    whose = (call.original_call_id or "").rpartition(":")[0]
    return call.reason.replace(whose, whose[-12:]) if whose else call.reason


def _folded_row(node: Node, prefix: Piece, screen: Screen) -> _Row:
    words = _words(node.calls)
    symbol = next((word for word, _ in words if word not in ("ran", "reused")), words[0][0])
    left = [
        prefix,
        Piece(f"{screen.symbol(symbol)} ", _style(symbol)),
        Piece(one_line(node.name)),
        Piece(f" ×{len(node.calls):,}", style.HEADING),
    ]
    ran = sorted(_seconds(call) for call in node.calls if call.source == "ran")
    note: Line = []
    for word, count in words:
        note += [Piece(f"{count:,} {word}", _style(word)), Piece("  ")]
    tries = sum(len(call.attempts) - 1 for call in node.calls)
    if tries:
        note += [Piece(f"{tries:,} more tries", _style("retrying")), Piece("  ")]
    if ran:
        least, most = lasted(ran[0]), lasted(ran[-1])
        note.append(Piece(f"{least} each" if least == most else f"{least} to {most}", style.DIM))
    return _Row(left, sum(ran) if ran else None, lasted(sum(ran)) if ran else "", note)


def _seconds(call: CheckpointCall) -> float:
    if call.ended_at is None:
        return 0.0
    return max(0.0, (call.ended_at - call.started_at).total_seconds())


# --- rows into columns ------------------------------------------------------------------------


def _laid_out(rows: Sequence[_Row], screen: Screen) -> list[Line]:
    if not rows:
        return []
    if screen.columns < NO_BARS_BELOW:
        return [line for row in rows for line in _narrow(row, screen)]
    name_width = min(max(length(row.left) for row in rows), screen.columns * 2 // 5)
    took_width = max(columns_of(row.took) for row in rows)
    bar_width = max(LEAST_BAR, screen.columns // 8) if screen.drawn else 0
    longest = max((row.seconds or 0.0 for row in rows), default=0.0)
    lines = []
    for row in rows:
        left = clipped(row.left, name_width, ellipsis=screen.ellipsis)
        line = [*left, Piece(" " * (name_width - length(left) + 1))]
        if bar_width:
            line += [*_bar(row.seconds, longest, bar_width, screen), Piece(" ")]
        line += [Piece(padded(row.took, took_width, right=True)), Piece("  ")]
        lines.append(clipped([*line, *row.note], screen.columns, ellipsis=screen.ellipsis))
    return lines


def _narrow(row: _Row, screen: Screen) -> Iterator[Line]:
    """The name on a line; below it, set in, how long it took and what there is to say."""
    yield clipped(row.left, screen.columns, ellipsis=screen.ellipsis)
    below = [Piece(f"{row.took}  "), *row.note] if row.took else row.note
    if below:
        yield clipped([Piece("     "), *below], screen.columns, ellipsis=screen.ellipsis)


def _bar(seconds: float | None, longest: float, width: int, screen: Screen) -> Line:
    if seconds is None or longest <= 0:
        return [Piece(" " * width)]
    share = seconds / longest * width
    if not screen.unicode:
        return [Piece(padded("=" * max(1, round(share)), width), _style("running"))]
    eighths = max(1, round(share * 8))
    whole, part = divmod(eighths, 8)
    bar = "█" * whole + (_EIGHTHS[part] if part else "")
    return [Piece(padded(bar, width), _style("running"))]
