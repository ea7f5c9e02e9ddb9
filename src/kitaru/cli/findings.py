"""What ``kitaru doctor`` finds: each check with its verdict and the remedy, and how it is drawn.

Decides from facts that are handed in; looks at nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from kitaru.cli import style
from kitaru.cli.canvas import Line, Piece, Screen, fields, folded, one_line, padded
from kitaru.cli.shown import size
from kitaru.cli.standing import MAX_WAITS, Growth, Standing, engine_of
from kitaru.cli.times import ago, full

Level = Literal["ok", "warning", "problem"]

MAX_LISTED = 5
MAX_VALUE_COLUMNS = 24
LITTLE_ROOM_BYTES = 1_000_000_000
NO_ROOM_BYTES = 50_000_000

_LOOKS: Mapping[Level, tuple[str, str, str]] = {
    "ok": ("✔", "+", style.look_of("completed").style),
    "warning": ("!", "!", style.WARNING),
    "problem": ("✘", "x", style.ERROR),
}


class Finding(NamedTuple):
    """One line of the doctor's: ``remedy`` says what to do, as commands where there are some."""

    check: str
    level: Level
    text: str
    remedy: Sequence[str] = ()


def as_item(finding: Finding) -> dict[str, Any]:
    return {**finding._asdict(), "remedy": list(finding.remedy)}


def has_problem(findings: Iterable[Finding]) -> bool:
    return any(finding.level == "problem" for finding in findings)


# --- verdicts ----------------------------------------------------------------------------------


def about_room(free_bytes: int) -> Finding:
    if free_bytes >= LITTLE_ROOM_BYTES:
        return Finding("disk", "ok", f"{size(free_bytes)} free")
    level: Level = "problem" if free_bytes < NO_ROOM_BYTES else "warning"
    return Finding("disk", level, f"only {size(free_bytes)} free", ("free some space",))


def about_file_system(kind: str | None, *, network: bool, passing: str | None) -> Finding:
    elsewhere = ("choose a folder on a local disk with KITARU_STORE, and move the store there",)
    if kind is None:
        return Finding("file system", "ok", "unknown; a network drive would not do")
    if network:
        text = f"{kind}, a network file system: a database gets corrupted there"
        return Finding("file system", "problem", text, elsewhere)
    if passing:
        return Finding("file system", "warning", f"{kind}: {passing}", elsewhere)
    return Finding("file system", "ok", kind)


def about_size(standing: Standing) -> Finding:
    parts = [size(standing.size.total)]
    if standing.size.blobs:
        parts.append(f"{size(standing.size.blobs)} of it large values")
    if standing.size.backups:
        parts.append(f"{size(standing.size.backups)} backups")
    if not standing.size.complete:
        parts.append("and more: only the first files were measured")
    recorded = standing.recorded
    executions, outcomes = _counted(recorded.executions, recorded.calls)
    whose = " in all projects" if standing.info["backend"] == "postgresql" else ""
    return Finding("size", "ok", f"{', '.join(parts)}; {executions}, {outcomes} of calls{whose}")


def _counted(executions: int, outcomes: int) -> tuple[str, str]:
    """Both in words: ``("1 execution", "3 outcomes")``."""
    return (
        f"{executions:,} execution{'s' * (executions != 1)}",
        f"{outcomes:,} outcome{'s' * (outcomes != 1)}",
    )


def growth_text(growth: Growth, bytes_per_day: int | None) -> str:
    """What came to it lately: per day, once there are days."""
    if growth.days < 1 or bytes_per_day is None:
        return " and ".join(_counted(growth.executions, growth.calls)) + " in its first day"
    executions, calls = (growth.per_day(n) for n in (growth.executions, growth.calls))
    return (
        f"about {executions:,.1f} executions, {calls:,.0f} outcomes and {size(bytes_per_day)} a "
        f"day over {growth.days:.0f} days"
    )


def about_database(info: Mapping[str, Any], examined: Mapping[str, Any]) -> Iterator[Finding]:
    if "postgresql_version" in info:
        yield from _about_server(info, examined)
        return
    mode, synchronous = examined["journal_mode"], examined["synchronous"]
    durable = mode == "wal" and synchronous == 2
    names = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
    text = f"journal mode {mode}, synchronous {names.get(synchronous, synchronous)}, read back"
    remedy = () if durable else ("close other programs that use the file; it must be wal and FULL",)
    yield Finding("durability", "ok" if durable else "problem", text, remedy)
    library = f"SQLite {info['sqlite_version']} ({examined['library']})"
    yield Finding("database", "ok", f"{library}, schema {info['schema_version']}")
    if examined["problems"]:
        yield Finding(
            "integrity",
            "problem",
            "damaged: " + "; ".join(examined["problems"][:MAX_LISTED]),
            (
                (
                    "keep a copy of the whole folder; then put back the newest file of its folder "
                    "`backups`, or recover what is left with sqlite3's .recover"
                ),
            ),
        )
    elif not examined["complete"]:
        text = "no damage found so far; the check was not done to its end"
        yield Finding("integrity", "ok", text, ("all of it: kitaru doctor --thorough",))
    else:
        yield Finding("integrity", "ok", "SQLite's quick check found no damage")


def _about_server(info: Mapping[str, Any], examined: Mapping[str, Any]) -> Iterator[Finding]:
    names = ("synchronous_commit", "fsync", "full_page_writes")
    off = [name for name in names if examined[name] == "off"]
    text = ", ".join(f"{name} {examined[name]}" for name in names) + ", read back"
    if not off:
        yield Finding("durability", "ok", text)
    else:
        # A file system that never tears a page needs no full pages in the log.
        level: Level = "warning" if off == ["full_page_writes"] else "problem"
        remedy = f"turn on in postgresql.conf: {', '.join(off)}"
        yield Finding("durability", level, text, (remedy,))
    library = f"{engine_of(info)} ({examined['library']})"
    yield Finding("database", "ok", f"{library}, schema {info['schema_version']}")
    yield Finding("connection", "ok", examined["connection"])
    for problem in examined["problems"]:
        yield Finding("server", "warning", problem)


def about_owners(standing: Standing, stopped: Sequence[int]) -> Iterator[Finding]:
    for pid in stopped:
        yield Finding(
            "processes",
            "warning",
            f"process {pid} is stopped, and keeps what it owns",
            (f"let it go on: kill -CONT {pid}", f"or end it: kill -KILL {pid}"),
        )
    alive = [f"process {o.pid} on {o.host} since {full_at(o.started_at)}" for o in standing.alive]
    shown = ", ".join(alive[:MAX_LISTED]) + (f" and {len(alive) - MAX_LISTED} more"
                                             if len(alive) > MAX_LISTED else "")  # fmt: skip
    ended = f"; {len(standing.dead)} ended" if standing.dead else ""
    yield Finding("processes", "ok", (f"alive: {shown}" if alive else "none alive") + ended)


_PENDING = "see: kitaru executions list --status pending; go on: kitaru executions resume ID"


def about_interrupted(standing: Standing) -> Finding:
    rows = standing.interrupted
    pending = standing.executions.get("pending", 0)
    if not rows and not pending:
        return Finding("interrupted", "ok", "no execution waits to be gone on with")
    if not rows:
        # Handed back by a program that was stopped, or about to begin in one that lives.
        text = f"nothing was; {pending:,} pending"
        return Finding("interrupted", "ok", text, (_PENDING,))
    names = "an execution was" if len(rows) == 1 else f"{len(rows):,} executions were"
    remedy = [
        f"kitaru executions resume {row.exec_id}  ({row.flow_name})" for row in rows[:MAX_LISTED]
    ]
    if len(rows) > MAX_LISTED:
        remedy.append("the others: kitaru executions list --status interrupted")
    return Finding("interrupted", "warning", f"{names} interrupted", remedy)


def full_at(at: int) -> str:
    from kitaru.records import instant

    return full(instant(at))


# --- drawing -----------------------------------------------------------------------------------


def finding_lines(findings: Sequence[Finding], screen: Screen) -> list[Line]:
    width = max((len(finding.check) for finding in findings), default=0) + 2
    lines: list[Line] = []
    for finding in findings:
        symbol, plain, look = _LOOKS[finding.level]
        mark = Piece(f"{symbol if screen.unicode else plain} ", look)
        text = Piece(one_line(finding.text), look if finding.level != "ok" else "")
        if not screen.drawn or screen.columns < 2 * width + 20:
            lines += _folded([mark, Piece(f"{finding.check}: ", style.DIM), text], screen)
        else:
            first, *rest = folded([text], screen.columns - width - 2)
            lines.append([mark, Piece(padded(finding.check, width), style.DIM), *first])
            lines += [[Piece(" " * (width + 2)), *line] for line in rest]
        for each in finding.remedy:
            lines += [[Piece("  "), *line] for line in _folded(
                [Piece(one_line(each), "cyan")], screen, margin=2)]  # fmt: skip
    return lines


def _folded(line: Line, screen: Screen, margin: int = 0) -> list[Line]:
    return folded(line, screen.columns - margin) if screen.drawn else [line]


def status_lines(standing: Standing, screen: Screen) -> list[Line]:
    """``kitaru status``: the same facts in short."""
    executions: Line = []
    for name, count in standing.executions.items():
        look = style.look_of(name)
        executions += [Piece("  ")] if executions else []
        executions.append(Piece(f"{screen.symbol(name)} {count:,} {name}", look.style))
    running = [f"process {owner.pid} on {owner.host}" for owner in standing.alive]
    database = f"{standing.info['schema_version']} ({engine_of(standing.info)})"
    pairs: list[tuple[str, Line]] = [
        ("store", [Piece(one_line(standing.info["location"]))]),
        ("project", [Piece(one_line(standing.project))]),
        ("size", [Piece(about_size(standing).text)]),
        ("growth", [Piece(growth_text(standing.growth, standing.bytes_per_day))]),
        ("schema", [Piece(database)]),
        ("executions", executions or [Piece("none yet")]),
        ("running in", [Piece(", ".join(running) or "no process")]),
    ]
    pairs += [("queues" if not n else "", line) for n, line in enumerate(_queues(standing))]
    if standing.waits:
        pairs.append(("waiting for", _waiting(standing)))
        pairs += _answering(standing)
    if standing.interrupted:
        pairs.append(("go on with", [Piece(
            f"kitaru executions resume {standing.interrupted[0].exec_id}", "cyan")]))  # fmt: skip
    return fields(pairs, screen if screen.drawn else screen._replace(columns=10_000))


def _queues(standing: Standing) -> Iterator[Line]:
    """Each queue in which something stands: how much, since when, and under which limit."""
    for queue in standing.queues:
        if not queue.ready and not queue.delayed:
            continue
        limit = "" if queue.limit is None else f" of {queue.limit}"
        text = f"{one_line(queue.name)}: {queue.ready:,} ready"
        text += f", {queue.delayed:,} delayed" if queue.delayed else ""
        oldest = ""
        if queue.oldest_at is not None:
            oldest = f", the oldest from {ago(queue.oldest_at, standing.now)}"
        yield [Piece(f"{text}, {queue.running:,}{limit} running"), Piece(oldest, style.DIM)]


def _answering(standing: Standing) -> Iterator[tuple[str, Line]]:
    """The command for each kind of wait: what asks for answers does not ask for decisions."""
    if any(wait.kind == "input" for wait in standing.waits):
        yield "answer with", [Piece("kitaru executions input --interactive", "cyan")]
    for wait in standing.waits:
        if wait.kind != "input":
            call = str(wait.metadata.get("call", "")).rpartition(":")[2]
            yield "decide with", [Piece(f"kitaru executions decide {wait.exec_id} {call}", "cyan")]
            return


def _waiting(standing: Standing) -> Line:
    """How many answers are waited for, and the oldest."""
    first, count = standing.waits[0], len(standing.waits)
    many = f"{count:,} answers" if count > 1 else "an answer"
    more = " or more" if count == MAX_WAITS else ""
    oldest = f": {one_line(first.flow_name)} for {one_line(first.name)}"
    since = f", since {ago(first.entered_waiting_at, standing.now).removesuffix(' ago')}"
    return [Piece(many + more + oldest), Piece(since, style.DIM)]


def setting_lines(rows: Sequence[tuple[str, str, str]], screen: Screen) -> list[Line]:
    """Settings with their values and who set each."""
    names = max((len(name) for name, _, _ in rows), default=0) + 2
    values = max((len(v) for _, v, _ in rows if len(v) <= MAX_VALUE_COLUMNS), default=0) + 2
    roomy = not screen.drawn or names + values + MAX_VALUE_COLUMNS // 2 <= screen.columns
    lines: list[Line] = []
    for name, value, who in rows:
        value, said_by = one_line(value), Piece(one_line(who), style.DIM)
        look = style.DIM if who == "built-in" else ""
        if roomy and len(value) <= values:
            cells = [Piece(padded(name, names), look), Piece(padded(value, values))]
            lines += _folded([*cells, said_by], screen)
            continue
        if roomy:
            margin, first, *rest = names, *_folded([Piece(value)], screen, margin=names)
            lines.append([Piece(padded(name, names), look), *first])
        else:
            margin, rest = 2, []
            lines += _folded([Piece(f"{name} = {value}", look)], screen)
        rest += _folded([said_by], screen, margin=margin)
        lines += [[Piece(" " * margin), *line] for line in rest]
    return lines
