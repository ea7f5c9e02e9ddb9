"""``kitaru schedules`` at work."""

from __future__ import annotations

from datetime import datetime

from kitaru.cli.output import Session, print_text
from kitaru.cli.place import existing
from kitaru.cli.shown import as_data
from kitaru.cli.tables import Row, print_table
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
    rows: list[Row] = [dict(zip(_HEAD, _cells(each), strict=True)) for each in found]
    print_table(rows, head=_HEAD, drawn=_DRAWN, below="reason")


def _cells(each: FlowSchedule) -> tuple[str, ...]:
    return (
        each.flow_name,
        each.cron,
        each.timezone,
        each.missed,
        each.state,
        _time(each.due_at),
        _time(each.fired_at),
        str(each.skipped),
        each.reason or "",
    )


def _time(at: datetime | None) -> str:
    return "" if at is None else full(at)


def pause_schedule(session: Session, flow: str) -> None:
    _tell(session, _schedules().pause(flow))


def resume_schedule(session: Session, flow: str) -> None:
    _tell(session, _schedules().resume(flow))


def remove_schedule(session: Session, flow: str) -> None:
    found = _schedules().remove(flow)
    if session.as_json:
        session.item(as_data(found))
    else:
        print_text(f"{found.flow_name} ({found.cron}, {found.timezone}) is removed")


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
    stands = f"{found.state}{when}"
    if found.reason is not None:
        # That of a paused one begins with the word itself.
        stands = found.reason if found.state == "paused" else f"{stands}: {found.reason}"
    print_text(f"{found.flow_name} ({found.cron}, {found.timezone}) is {stands}")
