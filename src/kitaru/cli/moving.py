"""``kitaru executions export`` and ``import`` at work."""

from __future__ import annotations

from kitaru.cli.output import Session, print_text
from kitaru.cli.place import existing, find
from kitaru.cli.shown import size
from kitaru.env import SystemEnv
from kitaru.lookup import find_row
from kitaru.opening import is_made, open_store


def export(session: Session, exec_id: str, to: str | None) -> None:
    place = existing()
    row = find_row(place.store, place.project, exec_id)
    done = place.housekeeper.export(row, to or f"{row.exec_id}.kitaru")
    if session.as_json:
        session.item({"path": done.path, "exec_ids": list(done.exec_ids), "bytes": done.bytes})
        return
    children = len(done.exec_ids) - 1
    more = f" and {children:,} of its children" if children else ""
    print_text(f"exported {row.exec_id}{more} to {done.path} ({size(done.bytes)})")


def import_(session: Session, file: str) -> None:
    if not is_made(find()):
        open_store(SystemEnv()).store.close()  # an execution may be the first thing in a store
    place = existing()
    rows = place.housekeeper.import_(file, place.project)
    if session.as_json:
        session.items(
            [{"exec_id": row.exec_id, "original_exec_id": row.original_exec_id} for row in rows]
        )
        return
    for row in rows:
        was = f" (it was {row.original_exec_id})" if row.original_exec_id else ""
        print_text(f"imported {row.exec_id}{was}: flow {row.flow_name}, {row.status}")
