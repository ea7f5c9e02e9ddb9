"""``kitaru schedules`` at work."""

from __future__ import annotations

import sys
from datetime import datetime

from kitaru.cli import style
from kitaru.cli.canvas import Line, Piece, columns_of, cut, one_line, padded, screen_of, write
from kitaru.cli.output import Session, print_text
from kitaru.cli.place import existing
from kitaru.cli.shown import as_data
from kitaru.cli.times import full, parse_time
from kitaru.model import FlowSchedule
from kitaru.schedules import Schedules

_HEAD = ("flow", "schedule", "timezone", "missed", "state", "next", "last", "skipped", "reason")
_DRAWN = ("flow", "schedule", "timezone", "state", "next", "last")


def _schedules() -> Schedules:
    place = existing()
    return Schedules(place.store, place.project, place.env, place.is_alive)


def list_schedules(session: Session) -> None:
    found = _schedules().list()
    if session.as_json:
        session.items([as_data(each) for each in found])
        return
    if not found:
        session.progress("no flow starts by itself: workers register those with a schedule=")
        return
    screen = screen_of(sys.stdout)
    rows = [dict(zip(_HEAD, _cells(each), strict=True)) for each in found]
    if not screen.drawn:
        lines = ["\t".join(_HEAD), *("\t".join(row.values()) for row in rows)]
        write([[Piece(line)] for line in lines], screen)
        return
    table = [tuple(name.upper() for name in _DRAWN)]
    table += [tuple(row[name] for name in _DRAWN) for row in rows]
    widths = [max(columns_of(row[place]) for row in table) for place in range(len(_DRAWN))]
    lines_drawn: list[Line] = []
    for number, row in enumerate(table):
        text = "  ".join(padded(cell, width) for cell, width in zip(row, widths, strict=True))
        look = style.DIM if number == 0 else ""
        lines_drawn.append(
            [Piece(cut(text.rstrip(), screen.columns, ellipsis=screen.ellipsis), look)]
        )
        reason = found[number - 1].reason if number else None
        if reason is not None:
            lines_drawn.append([Piece(f"  {one_line(reason)}", style.DIM)])
    write(lines_drawn, screen)


def _cells(each: FlowSchedule) -> tuple[str, ...]:
    return (
        one_line(each.flow_name),
        one_line(each.cron),
        one_line(each.timezone),
        each.missed,
        each.state,
        _time(each.due_at),
        _time(each.fired_at),
        str(each.skipped),
        one_line(each.reason or ""),
    )


def _time(at: datetime | None) -> str:
    return "" if at is None else full(at)


def pause_schedule(session: Session, flow: str) -> None:
    _tell(session, _schedules().pause(flow))


def resume_schedule(session: Session, flow: str) -> None:
    _tell(session, _schedules().resume(flow))


def fire_schedule(session: Session, flow: str, at: str | None) -> None:
    place = existing()
    when = None if at is None else parse_time(at, place.now, option="--at")
    schedules = Schedules(place.store, place.project, place.env, place.is_alive)
    exec_id = schedules.fire(flow, at=when)
    if session.as_json:
        session.item({"exec_id": exec_id})
    else:
        print_text(exec_id)


def _tell(session: Session, found: FlowSchedule) -> None:
    if session.as_json:
        session.item(as_data(found))
        return
    when = "" if found.due_at is None else f", next at {full(found.due_at)}"
    reason = "" if found.reason is None else f": {found.reason}"
    print_text(f"{found.flow_name} ({found.cron}, {found.timezone}) is {found.state}{when}{reason}")
