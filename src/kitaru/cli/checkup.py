"""``kitaru doctor`` at work: looks at everything it can, whatever else is broken.

Changes nothing but what opening a store does, and makes none.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence

import kitaru as package
from kitaru import settings
from kitaru._store import filesystems
from kitaru.cli.canvas import Piece, screen_of, write
from kitaru.cli.findings import (
    Finding,
    about_database,
    about_file_system,
    about_interrupted,
    about_owners,
    about_room,
    about_size,
    as_item,
    finding_lines,
    growth_text,
    has_problem,
    setting_lines,
)
from kitaru.cli.output import Session
from kitaru.cli.place import Place, existing, find
from kitaru.cli.standing import Standing, gather
from kitaru.errors import KitaruError
from kitaru.opening import is_made

CHECK_SECONDS = 10.0

_UNSAID = {"store": "found", "project": "the root's name", "at_exit_seconds": "no bound"}
"""What it means that nobody set these."""


def run_doctor(session: Session, *, thorough: bool) -> int:
    """Check everything, print it -> 1 if something is a problem."""
    findings = list(_findings(None if thorough else CHECK_SECONDS))
    rows = _settings()
    if session.as_json:
        session.items(
            [as_item(finding) for finding in findings],
            problems=sum(finding.level == "problem" for finding in findings),
            settings={name: {"value": value, "set_by": who} for name, value, who in rows},
        )
    else:
        screen = screen_of(sys.stdout)
        write(finding_lines(findings, screen), screen)
        if rows:
            write([[], [Piece("settings", "bold")], *setting_lines(rows, screen)], screen)
    return 1 if has_problem(findings) else 0


def _findings(check_seconds: float | None) -> Iterator[Finding]:
    yield from _about_program()
    try:
        settings.resolve()
        location = find()
    except KitaruError as error:
        yield Finding("settings", "problem", str(error))
        return
    for unknown in settings.unknown_names():
        yield Finding("settings", "warning", unknown, ("take it out, or write the right name",))
    try:
        made = is_made(location)
    except KitaruError as error:
        yield Finding("store", "problem", str(error))
        return
    if not made:
        text = f"none yet: {location.place} ({location.found_by})"
        yield Finding("store", "ok", text, ("it is made by the first flow that runs",))
    if location.address is None:
        yield from _about_disk(_nearest_there(location.folder))
    if not made:
        return
    try:
        place = existing()
        standing = gather(place)
    except KitaruError as error:
        yield Finding("store", "problem", str(error))
        return
    text = f"{location.place} ({location.found_by}), project {standing.project!r}"
    yield Finding("store", "ok", text)
    yield from _about_store(place, standing, check_seconds)


def _about_store(
    place: Place, standing: Standing, check_seconds: float | None
) -> Iterator[Finding]:
    yield about_size(standing)
    growth = growth_text(standing.growth, standing.bytes_per_day)
    yield Finding("growth", "ok", growth)
    try:
        examined = place.store.examine(seconds=check_seconds)
    except KitaruError as error:
        yield Finding("integrity", "problem", str(error))
    else:
        yield from about_database(standing.info, examined)
    yield from about_owners(standing, _stopped(standing))
    yield about_interrupted(standing)


def _about_program() -> Iterator[Finding]:
    yield Finding("kitaru", "ok", f"{package.__version__} in {os.path.dirname(package.__file__)}")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield Finding("python", "ok", f"{python} at {sys.executable}")
    yield Finding("platform", "ok", platform.platform())


def _about_disk(folder: str) -> Iterator[Finding]:
    kind = filesystems.kind_here(folder)
    yield about_file_system(
        kind,
        network=kind is not None and filesystems.is_network(kind),
        passing=None if kind is None else filesystems.why_ephemeral(kind),
    )
    try:
        yield about_room(shutil.disk_usage(folder).free)
    except OSError as error:
        yield Finding("disk", "problem", f"cannot be looked at: {error.strerror or error}")


def _nearest_there(folder: str) -> str:
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def _stopped(standing: Standing) -> Sequence[int]:
    """Processes of this host that a signal has stopped (Linux says so; elsewhere nobody)."""
    here = socket.gethostname()
    return [o.pid for o in standing.alive if o.host == here and _is_stopped(o.pid)]


def _is_stopped(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            # The name before it may hold anything, brackets too.
            return file.read().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


def _settings() -> list[tuple[str, str, str]]:
    try:
        chosen = settings.resolve()
    except KitaruError:
        return []
    return [
        (name, _shown(name, getattr(chosen, name)), chosen.origin[name])
        for name in settings.BUILT_IN
    ]


def _shown(name: str, value: object) -> str:
    return _UNSAID.get(name, "none") if value is None else str(value)
