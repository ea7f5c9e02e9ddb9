"""``kitaru workers`` and ``kitaru limits`` at work."""

from __future__ import annotations

from kitaru.cli import style
from kitaru.cli.output import Session, print_text
from kitaru.cli.place import existing
from kitaru.cli.shown import as_data
from kitaru.cli.tables import Row, print_table
from kitaru.cli.times import full
from kitaru.fleet import Limits, LiveWorker, QueueLimit, Workers

_WORKERS = (
    "name",
    "host",
    "pid",
    "flows",
    "queues",
    "concurrency",
    "running",
    "state",
    "since",
    "lease_until",
)
_WORKERS_DRAWN = ("name", "host", "pid", "runs", "state", "since", "queues", "flows")
_LIMITS = ("name", "max", "taken")


def list_workers(session: Session) -> None:
    place = existing()
    found = Workers(place.store, place.project, place.is_alive).list()
    if session.as_json:
        session.items([as_data(each) for each in found])
        return
    if not found:
        session.progress("no worker lives: start one with kitaru worker MODULE")
        return
    looks = [style.look_of("waiting" if each.draining else "running").style for each in found]
    rows = [_worker_row(each) for each in found]
    print_table(rows, head=_WORKERS, drawn=_WORKERS_DRAWN, looks=looks)


def _worker_row(each: LiveWorker) -> Row:
    return {
        "name": each.name,
        "host": each.host,
        "pid": str(each.pid),
        "flows": ",".join(each.flows),
        "queues": ",".join(each.queues) or "all",
        "concurrency": str(each.concurrency),
        "running": str(each.running),
        "runs": f"{each.running} of {each.concurrency}",
        "state": "draining" if each.draining else "serving",
        "since": full(each.started_at),
        "lease_until": "" if each.lease_until is None else full(each.lease_until),
    }


def _limits() -> Limits:
    place = existing()
    return Limits(place.store, place.project)


def list_limits(session: Session) -> None:
    found = _limits().list()
    if session.as_json:
        session.items([as_data(each) for each in found])
        return
    if not found:
        session.progress("nothing is limited: as many executions run at once as workers have room")
        return
    looks = ["" if each.taken < each.max else style.look_of("waiting").style for each in found]
    rows = [{"name": e.name, "max": str(e.max), "taken": str(e.taken)} for e in found]
    print_table(rows, head=_LIMITS, drawn=_LIMITS, looks=looks)


def set_limit(session: Session, name: str, most: int) -> None:
    _tell(session, _limits().set(name, most), "at most {max} at once ({taken} run now)")


def remove_limit(session: Session, name: str) -> None:
    _tell(session, _limits().remove(name), "no limit any more (it was {max})")


def _tell(session: Session, limit: QueueLimit, text: str) -> None:
    if session.as_json:
        session.item(as_data(limit))
        return
    print_text(f"{limit.name}: {text.format(max=limit.max, taken=limit.taken)}")
