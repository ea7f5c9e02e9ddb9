"""``kitaru memory`` at work: values shown as they are recorded, so that no class is needed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from kitaru._core.memory import check_key
from kitaru.cli import style
from kitaru.cli.canvas import Piece, Screen, columns_of, cut, one_line, padded, screen_of, write
from kitaru.cli.output import Session, print_text
from kitaru.cli.place import existing
from kitaru.cli.shown import as_data, print_result
from kitaru.cli.style import is_terminal
from kitaru.cli.times import ago
from kitaru.errors import KitaruError, KitaruUsageError
from kitaru.memories import Memories
from kitaru.model import MemoryEntry
from kitaru.records import result_tree

_BEGINS_JSON = ("{", "[", '"')
_LEAST_VALUE = 12


def _memories() -> Memories:
    place = existing()
    return Memories(place.store, place.project, place.env)


def list_keys(session: Session, scope: str, scope_type: str, limit: int) -> None:
    found = _memories().list(scope=scope, scope_type=scope_type, limit=limit)
    _show(session, found, f"nothing is remembered in {scope_type} {scope!r}")


def show_history(session: Session, key: str, scope: str, scope_type: str, limit: int) -> None:
    found = _memories().history(key, scope=scope, scope_type=scope_type, limit=limit)
    _show(session, found, f"{key!r} was never written in {scope_type} {scope!r}")


def show_value(
    session: Session, key: str, scope: str, scope_type: str, version: int | None
) -> None:
    entry = _memories().get(key, scope=scope, scope_type=scope_type, version=version)
    if session.as_json:
        session.item(_item(entry))
    elif entry.deleted:
        session.progress(f"version {entry.version} of {key!r} is a tombstone: it has no value")
    else:
        print_result(_tree(entry))


def write_value(session: Session, key: str, text: str, scope: str, scope_type: str) -> None:
    entry = _memories().set(key, _parsed(text), scope=scope, scope_type=scope_type)
    _tell(session, entry, "is now version")


def delete_key(session: Session, key: str, scope: str, scope_type: str) -> None:
    entry = _memories().delete(key, scope=scope, scope_type=scope_type)
    _tell(session, entry, "is deleted, by version")


def purge(session: Session, key: str | None, scope: str, scope_type: str, *, yes: bool) -> None:
    memories = _memories()
    what = f"all keys of {scope_type} {scope!r}" if key is None else f"{check_key(key)!r}"
    if not yes:
        if session.as_json or not is_terminal(sys.stdin):
            raise KitaruUsageError(
                f"purging {what} is for ever: say so with --yes", code="command-line-invalid"
            )
        click.confirm(f"Remove every version of {what} for ever?", abort=True, err=True)
    if key is None:
        removed = memories.purge_scope(scope, scope_type=scope_type)
    else:
        removed = memories.purge(key, scope=scope, scope_type=scope_type)
    if session.as_json:
        session.item({"scope_type": scope_type, "scope": scope, "key": key, "versions": removed})
    else:
        print_text(f"removed {removed:,} version{'' if removed == 1 else 's'} of {what}")


def list_scopes(session: Session, limit: int) -> None:
    found = _memories().scopes(limit=limit)
    if session.as_json:
        session.items([as_data(each) for each in found])
        return
    rows = [(each.scope_type, one_line(each.scope)) for each in found]
    screen = screen_of(sys.stdout)
    if rows:
        _table(("TYPE", "SCOPE"), rows, screen)
    else:
        session.progress("nothing is remembered yet")


# --- how it is shown --------------------------------------------------------------------------


def _tell(session: Session, entry: MemoryEntry, what: str) -> None:
    if session.as_json:
        session.item(_item(entry))
    else:
        print_text(f"{entry.key} of {entry.scope_type} {entry.scope} {what} {entry.version}")


def _item(entry: MemoryEntry) -> dict[str, Any]:
    item: dict[str, Any] = as_data(entry)
    return item | {"value": None if entry.deleted else _shown(entry)}


def _shown(entry: MemoryEntry) -> Any:
    """The value as plain data; one that cannot be read must not hide the others."""
    try:
        return _tree(entry)
    except KitaruError as error:
        return {"(not shown)": str(error)}


def _tree(entry: MemoryEntry) -> Any:
    return result_tree(entry._read(), f"memory {entry.key!r}, version {entry.version}")


def _show(session: Session, found: Sequence[MemoryEntry], nothing: str) -> None:
    if session.as_json:
        session.items([_item(entry) for entry in found])
        return
    if not found:
        session.progress(nothing)
        return
    screen, now = screen_of(sys.stdout), existing().now
    rows = []
    for entry in found:
        at = entry.written_at
        when = ago(at, now) if screen.drawn else at.strftime("%Y-%m-%dT%H:%M:%SZ")
        who = (entry.exec_id or "")[-12 if screen.drawn else 0 :]
        value = "deleted" if entry.deleted else json.dumps(_shown(entry), ensure_ascii=False)
        rows.append((one_line(entry.key), str(entry.version), when, who, one_line(value)))
    _table(("KEY", "VERSION", "WRITTEN", "BY", "VALUE"), rows, screen)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], screen: Screen) -> None:
    """Columns with a head on a terminal, the last as wide as there is room; else tabs."""
    if not screen.drawn:
        lines = [tuple(head.lower() for head in heads), *rows]
        write([[Piece("\t".join(line))] for line in lines], screen)
        return
    widths = [max(columns_of(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    before = sum(widths[:-1]) + 2 * len(widths[:-1])
    widths[-1] = min(widths[-1], max(_LEAST_VALUE, screen.columns - before))
    for number, row in enumerate((heads, *rows)):
        cells = [
            padded(cut(cell, width, ellipsis=screen.ellipsis), width)
            for cell, width in zip(row, widths, strict=True)
        ]
        write([[Piece("  ".join(cells).rstrip(), style.DIM if number == 0 else "")]], screen)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        if not text.lstrip().startswith(_BEGINS_JSON):
            return text
        raise KitaruUsageError(
            f"VALUE begins like JSON and is none ({error}): check its quotes and brackets, or "
            "write it as a JSON text",
            code="command-line-invalid",
        ) from None
