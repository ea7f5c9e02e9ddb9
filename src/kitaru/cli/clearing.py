"""``kitaru gc`` and ``kitaru executions delete`` at work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import click

from kitaru._store.protocol import ExecutionRow
from kitaru.cli.output import Session, print_text
from kitaru.cli.place import Place, existing
from kitaru.cli.shown import size
from kitaru.cli.style import is_terminal
from kitaru.errors import KitaruUsageError
from kitaru.housekeeping import Collected, Housekeeper
from kitaru.lookup import find_row

_SECONDS_BETWEEN_LINES = 2.0


def collect(session: Session, *, dry_run: bool, grace_seconds: float) -> None:
    place = existing()
    found = place.housekeeper.collect(
        dry_run=dry_run, grace_seconds=grace_seconds, progress=now_and_then(session, place)
    )
    if session.as_json:
        item = {**found._asdict(), "executions": list(found.executions)}
        item["dry_run"] = item.pop("is_dry_run")
        session.item(item)
        return
    print_text(_said(found))
    if found.is_dry_run:
        for exec_id in found.executions:
            print_text(f"  {exec_id}")


def _said(found: Collected) -> str:
    verb = "would remove" if found.is_dry_run else "removed"
    said = (
        f"{verb} {_count(len(found.executions), 'execution')} and "
        f"{_count(found.blobs, 'large value')} ({size(found.bytes)})"
    )
    if found.kept:
        said += f"; {found.kept:,} past their time are needed and stay"
    return said


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def now_and_then(session: Session, place: Place) -> Callable[[str], None]:
    """Progress of long work: a line every two seconds, none of what is quickly done."""
    next_at = place.env.monotonic() + _SECONDS_BETWEEN_LINES

    def say(text: str) -> None:
        nonlocal next_at
        now = place.env.monotonic()
        if now >= next_at:
            next_at = now + _SECONDS_BETWEEN_LINES
            session.progress(text)

    return say


def delete(session: Session, parts: Sequence[str], *, sure: bool) -> None:
    place = existing()
    # All are found before one is deleted: a misspelt one changes nothing.
    rows = list({row.id: row for row in (_find(place, part) for part in parts)}.values())
    if not sure:
        _ask(session, [f"{row.exec_id}  {row.flow_name}  {row.status}" for row in rows])
    keeper: Housekeeper = place.housekeeper
    gone: list[str] = []
    for row in rows:
        if row.exec_id not in gone:  # a child of one before it
            gone += keeper.delete(row)
    if session.as_json:
        session.items([{"exec_id": exec_id} for exec_id in gone])
        return
    for exec_id in gone:
        print_text(f"deleted {exec_id}")


def _find(place: Place, part: str) -> ExecutionRow:
    return find_row(place.store, place.project, part)


def _ask(session: Session, lines: Sequence[str]) -> None:
    if session.as_json or not is_terminal(sys.stdin):
        raise KitaruUsageError(
            "deleting is for ever and nobody is here to be asked: add --yes", code="option-invalid"
        )
    for line in lines:
        session.say(line)
    click.confirm("Delete for ever, with its children?", abort=True, err=True)
