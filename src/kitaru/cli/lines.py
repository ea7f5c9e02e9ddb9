"""How far an execution has come, as lines of the canvas.

Pure: the same progress, width and moment give the same lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kitaru.cli.canvas import Line, Piece, columns_of, cut, one_line, padded
from kitaru.cli.progress import Group, Progress, Totals
from kitaru.cli.style import DIM, look_of, symbol_of
from kitaru.cli.times import lasted

MAX_COLUMNS = 120
"""Beyond this the eye loses the line."""

_BAR_COLUMNS = 24
_MIN_BAR_COLUMNS = 6
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_SPINNER = "|/-\\"
_TURNS_A_SECOND = 10

_TAKEN = ("recalled", "reused", "carried", "override")
_SOURCES = ("ran", *_TAKEN, "failed")


def lines_of(
    progress: Progress, *, columns: int, rows: int, now: float, unicode: bool = True
) -> list[Line]:
    """A line for each checkpoint, at most ``rows``: what is at work, and the newest of the rest."""
    columns = min(columns, MAX_COLUMNS)
    groups = list(progress.groups())
    shown = _fitting(groups, rows)
    widest = max((_indent(group) + columns_of(group.name) for group in shown), default=0)
    name_columns = min(widest, max(10, columns // 3))
    times = [_time(group, progress, now) for group in shown]
    time_columns = max(map(len, times), default=0)
    lines: list[Line] = []
    if len(shown) < len(groups):
        more = f"{'…' if unicode else '...'} {len(groups) - len(shown):,} more checkpoints"
        lines.append([Piece(f"  {more}", DIM)])
    for group, time in zip(shown, times, strict=True):
        word = _word(group, progress)
        line = _head(group, word, name_columns, now, unicode)
        line.append(Piece(f"  {padded(time, time_columns, right=True)}", DIM))
        room = columns - name_columns - time_columns - 6
        details = _details(group, word, room, now, unicode)
        if details:
            line += [Piece("  "), *details]
        lines.append(line)
    return lines


def _fitting(groups: Sequence[Group], rows: int) -> list[Group]:
    if len(groups) <= rows:
        return list(groups)
    room = max(1, rows - 1)
    at_work = [group for group in groups if group.is_active][-room:]
    rest = [group for group in groups if not group.is_active]
    newest = rest[len(rest) - (room - len(at_work)) :]
    kept = {id(group) for group in (*at_work, *newest)}
    return [group for group in groups if id(group) in kept]


def _indent(group: Group) -> int:
    return 2 * group.depth


def _word(group: Group, progress: Progress) -> str:
    """The one status that a group has for the eye."""
    if group.is_active:
        if progress.ended is not None:
            return "interrupted"
        return "retrying" if group.retrying and not group.running else "running"
    if group.failed:
        return "failed"
    if group.ran:
        return "ran"
    if taken := _taken(group):
        return taken
    return "not started" if group.not_started else "cancelled"


def _taken(group: Group) -> str:
    """Where most of its outcomes were taken from; empty if none was."""
    most = max(_TAKEN, key=lambda word: getattr(group, word))
    return most if getattr(group, most) else ""


def _head(group: Group, word: str, columns: int, now: float, unicode: bool) -> Line:
    look = look_of(word)
    symbol = _spinner(now, unicode) if word == "running" else symbol_of(word, unicode=unicode)
    room = max(1, columns - _indent(group))
    name = cut(one_line(group.name), room, ellipsis="…" if unicode else "...")
    return [
        Piece(" " * _indent(group)),
        Piece(symbol, look.style),
        Piece(f" {padded(name, room)}", "bold" if word == "running" else ""),
    ]


def _time(group: Group, progress: Progress, now: float) -> str:
    if group.is_active and progress.ended is None:
        return lasted(now - group.began_at())
    nothing_ran = not (group.ran or group.failed or group.cut)
    if group.total == 1 or nothing_ran:
        return lasted(group.spent_seconds + group.saved_seconds)
    return lasted(group.last_at - group.first_at)


def _details(group: Group, word: str, room: int, now: float, unicode: bool) -> Line:
    parts: list[Line] = []
    if word in ("running", "retrying") and group.submitted > 1:
        parts.append(_bar(group, room, now, unicode))
        parts += _counts(group, (*_TAKEN, "failed"))
    elif group.total > 1:
        parts += _counts(group, _SOURCES)
        if word == "running":
            parts.append([Piece(f"{len(group.running):,} running", look_of(word).style)])
    elif word := _taken(group):
        parts.append([Piece(group.source or word, look_of(word).style)])
    if group.cut:
        text = f"{group.cut:,} cancelled" if group.total > 1 else "cancelled by its caller"
        parts.append([Piece(text, look_of("cancelled").style)])
    if group.not_started:
        parts.append([Piece(f"{group.not_started:,} not started", DIM)])
    if group.retrying:
        parts.append([Piece(_again(group, now), look_of("retrying").style)])
    elif group.attempt > 1:
        parts.append([Piece(f"attempt {group.attempt}", look_of("retrying").style)])
    if group.drift:
        parts.append([Piece(f"drifted: {one_line(group.drift)}", look_of("drifted").style)])
    if group.failed or group.retrying:
        style = look_of("failed" if group.failed else "retrying").style
        parts.append([Piece(one_line(group.why), style)])
    return _joined(parts, unicode)


def _counts(group: Group | Totals, words: Iterable[str]) -> list[Line]:
    """How many of each; what ran is what one expects, so it has no colour."""
    found: list[Line] = []
    for word in words:
        count = getattr(group, word)
        if count:
            source = getattr(group, "source", "") if word == "reused" else ""
            style = "" if word == "ran" else look_of(word).style
            found.append([Piece(f"{count:,} {source or word}", style)])
    return found


def _bar(group: Group, room: int, now: float, unicode: bool) -> Line:
    done, total = group.done, group.total
    rate = group.rate(now)
    text = f"{done:,}/{total:,}"
    if rate >= 0.05 and done < total:
        text += f"  {rate:,.0f}/s" if rate >= 10 else f"  {rate:.1f}/s"
        left_seconds = (total - done) / rate
        if left_seconds >= 1:
            text += f"  {lasted(round(left_seconds))} left"
    columns = min(_BAR_COLUMNS, room - len(text) - 2)
    if columns < _MIN_BAR_COLUMNS:
        return [Piece(text)]
    full, empty = ("━", "─") if unicode else ("#", ".")
    filled = columns * done // total
    return [
        Piece(full * filled, look_of("running").style),
        Piece(empty * (columns - filled), DIM),
        Piece(f"  {text}"),
    ]


def _again(group: Group, now: float) -> str:
    due = min(group.retrying.values())
    what = f"{len(group.retrying):,} again" if group.total > 1 else f"attempt {group.attempt}"
    return f"{what} in {max(0.0, due - now):.1f} s"


def _joined(parts: Iterable[Line], unicode: bool) -> Line:
    between = Piece(" · " if unicode else ", ", DIM)
    line: Line = []
    for part in parts:
        line += [between, *part] if line else part
    return line


# --- the execution itself ----------------------------------------------------------------------


def footer(progress: Progress, *, now: float, unicode: bool = True) -> Line:
    """The line under the others while it runs, or is parked."""
    if progress.waits_for is not None:
        return _parked(progress, now, unicode)
    if progress.stopping is not None:
        look = look_of("cancelling")
        parts: list[Line] = [[Piece(one_line(f"stopping: {progress.stopping}"), look.style)]]
        parts += _totals(progress.totals)
        return [
            Piece(symbol_of("cancelling", unicode=unicode), look.style),
            Piece(" "),
            *_joined(parts, unicode),
        ]
    attempt = f", attempt {progress.attempt}" if progress.attempt > 1 else ""
    head: Line = [Piece(f"running{attempt} for {lasted(now - progress.began_at)}", DIM)]
    return [
        Piece(_spinner(now, unicode), look_of("running").style),
        Piece(" "),
        *_joined([head, *_totals(progress.totals)], unicode),
    ]


def _parked(progress: Progress, now: float, unicode: bool) -> Line:
    """It takes nothing now: what for, and since when."""
    look = look_of("waiting")
    since = f"for {lasted(now - progress.waits_since)}"
    return [
        Piece(symbol_of("waiting", unicode=unicode), look.style),
        Piece(" "),
        *_joined([[Piece(one_line(progress.waits_for or ""), look.style)], [Piece(since, DIM)],
                  *_totals(progress.totals)], unicode),
    ]  # fmt: skip


def summary(progress: Progress, word: str, *, now: float, unicode: bool = True) -> Line:
    """What it came to: the last line. ``word``: completed, failed, stopped …"""
    look, totals = look_of(word), progress.totals
    head: Line = [
        Piece(word, f"bold {look.style}".strip()),
        Piece(f" in {lasted(now - progress.began_at)}"),
    ]
    saved = totals.saved_seconds
    parts = [head, *_totals(totals)]
    if saved >= 0.0005:
        parts.append([Piece(f"{lasted(saved)} saved", "bold green")])
    return [
        Piece(symbol_of(word, unicode=unicode), look.style),
        Piece(" "),
        *_joined(parts, unicode),
    ]


def _totals(totals: Totals) -> list[Line]:
    parts = _counts(totals, _SOURCES)
    if totals.not_started:
        parts.append([Piece(f"{totals.not_started:,} not started", DIM)])
    if totals.drifted:
        parts.append([Piece(f"{totals.drifted:,} drifted", look_of("drifted").style)])
    return parts


def plain(line: Line) -> str:
    """The text of a line, without its styles.

    >>> plain([Piece("+", "green"), Piece(" fetch")])
    '+ fetch'
    """
    return "".join(piece.text for piece in line).rstrip()


def _spinner(now: float, unicode: bool) -> str:
    frames = _SPINNER if unicode else _PLAIN_SPINNER
    return frames[int(now * _TURNS_A_SECOND) % len(frames)]
