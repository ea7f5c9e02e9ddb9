"""``kitaru store backup|info|migrate`` at work."""

from __future__ import annotations

import os
from typing import Any

from kitaru import opening
from kitaru._store.sqlite.store import SqliteStore
from kitaru.cli.clearing import now_and_then
from kitaru.cli.output import Session, print_fields, print_text
from kitaru.cli.place import Place, existing, find
from kitaru.cli.shown import size
from kitaru.cli.standing import Standing, engine_item, engine_of, gather
from kitaru.env import SystemEnv
from kitaru.errors import KitaruUsageError
from kitaru.housekeeping import Collected
from kitaru.opening import is_made

MAX_LISTED = 1_000


def _store_of(place: Place) -> SqliteStore:
    if isinstance(place.store, SqliteStore):
        return place.store
    raise KitaruUsageError(
        f"the store {place.store.info()['location']} is a database on a server, which has its own "
        "backups: `pg_dump --schema kitaru` copies what is Kitaru's, and a base backup with "
        "archived logs gets back every instant",
        code="command-line-invalid",
    )


def back_up(session: Session, folder: str | None) -> None:
    place = existing()
    store = _store_of(place)
    if folder is None:
        at = f"{place.now:%Y-%m-%dT%H-%M-%SZ}"
        folder = os.path.join(store.folder, "backups", f"store-{at}")
    made = store.back_up(folder, now_and_then(session, place))
    if session.as_json:
        session.item({**made._asdict(), "damaged": list(made.damaged)})
        return
    print_text(f"backed up to {made.folder}: {size(made.bytes)}, {made.values:,} large values")
    if made.damaged:
        session.say(
            f"{len(made.damaged):,} large values of the store are lost or damaged and are not in "
            f"the backup, the first {made.damaged[0][:16]}…: kitaru doctor tells more"
        )


def show_info(session: Session) -> None:
    place = existing()
    standing = gather(place)
    due = place.housekeeper.collect(dry_run=True)
    waits = len(place.store.list_open_waits(project=place.project, limit=MAX_LISTED))
    item = _as_item(standing, due, waits)
    if session.as_json:
        session.item(item)
        return
    bytes_of = item["bytes"]
    print_fields(
        [
            ("store", item["store"]),
            ("project", item["project"]),
            ("schema", f"{item['schema_version']} ({engine_of(standing.info)})"),
            ("executions", f"{item['executions']:,}"),
            ("outcomes", f"{item['outcomes']:,} of calls"),
            ("open waits", f"{waits:,}" + ("+" if waits == MAX_LISTED else "")),
            ("database", size(bytes_of["database"])),
            ("values", f"{size(bytes_of['values'])} of large values"),
            ("backups", size(bytes_of["backups"])),
            ("in all", size(bytes_of["all"])),
            ("to remove", _due(due)),
        ]
    )


def _as_item(standing: Standing, due: Collected, waits: int) -> dict[str, Any]:
    info = standing.info
    return {
        "store": info["location"],
        "project": standing.project,
        "store_id": info["store_id"],
        "schema_version": info["schema_version"],
        **engine_item(info),
        "executions": standing.recorded.executions,
        "outcomes": standing.recorded.calls,
        "open_waits": waits,
        "bytes": {
            "database": info["bytes"],
            "values": standing.size.blobs,
            "backups": standing.size.backups,
            "all": standing.size.total,
        },
        "past_retention": len(due.executions),
        "unnamed_values": due.blobs,
        "unnamed_bytes": due.bytes,
    }


def _due(due: Collected) -> str:
    if not due.executions and not due.blobs:
        return "nothing"
    return (
        f"{len(due.executions):,} executions, and {size(due.bytes)} that nothing names: "
        "kitaru gc removes them"
    )


def bring_up_to_date(session: Session) -> None:
    location = find()
    made = location.address is not None and not is_made(location)
    info = (
        existing().store.info()
        if location.address is None
        else opening.bring_up_to_date(location, SystemEnv())
    )
    came_from = info["upgraded_from"]
    if session.as_json:
        item = {name: info[name] for name in ("schema_version", "upgraded_from", "backup")}
        session.item({"store": info["location"], "made": made, **item})
    elif made:
        print_text(f"made the tables, schema {info['schema_version']}, in {info['location']}")
    elif came_from is None:
        print_text(f"the store has schema {info['schema_version']} already: nothing to do")
    else:
        was = info["backup"] or "in the backups that you make of the server"
        print_text(
            f"upgraded from schema {came_from} to {info['schema_version']}; "
            f"the database as it was: {was}"
        )
