"""The store of this program, opened: settings, place and database put together.

What :mod:`kitaru.app` composes a running Kitaru on, and all that looking needs. Which of
the two databases it is, is decided here and nowhere else.
"""

from __future__ import annotations

import contextlib
import os
from types import ModuleType
from typing import Any, NamedTuple

from kitaru import settings as _settings
from kitaru._core.limits import use as use_limits
from kitaru._store.address import Address
from kitaru._store.location import Location, find_store, prepare, project_name
from kitaru._store.logfiles import LogFiles
from kitaru._store.logs import LogStore
from kitaru._store.objects import Objects
from kitaru._store.objects import Place as ObjectPlace
from kitaru._store.project import main_file
from kitaru._store.protocol import Store
from kitaru._store.sqlite.store import SqliteStore
from kitaru.env import Env
from kitaru.errors import KitaruFeatureNotAvailableError, KitaruUsageError


class Opened(NamedTuple):
    settings: _settings.Settings
    location: Location
    store: Store


def logs_of(opened: Opened) -> LogStore:
    """Where the logs of executions in that store are, whether or not any are kept now."""
    settings, location, store = opened
    max_bytes, max_all_bytes = settings.max_log_bytes, settings.max_log_folder_bytes
    if location.address is not None:
        table: LogStore = store.logs(max_bytes=max_bytes, max_total_bytes=max_all_bytes)  # type: ignore[attr-defined]
        return table
    return LogFiles(location.folder, max_bytes=max_bytes, max_folder_bytes=max_all_bytes)


def open_store(env: Env) -> Opened:
    """Find the store and open it; made or upgraded if need be."""
    settings = _settings.resolve()
    use_limits(settings.limits)
    location = find_store(
        settings.store,
        cwd=_settings.current_folder(),
        main_file=main_file(),
        said_by=settings.origin["store"],
    )
    if location.address is not None:
        return Opened(settings, location, _on_server(location, location.address, settings, env))
    if settings.objects is not None:
        raise KitaruUsageError(
            f"{settings.origin['objects']} is {settings.objects!r}, and the store is the folder "
            f"{location.folder!r}: large values of a SQLite store lie in files beside it, where a "
            "backup takes them along. Name a PostgreSQL database as the store, or leave it out",
            code="option-invalid",
        )
    prepare(location)
    project = project_name(settings.project, location)
    store = SqliteStore.open(location.folder, env=env, project=project, root=location.root)
    return Opened(settings, location, store)


def _on_server(
    location: Location, address: Address, settings: _settings.Settings, env: Env
) -> Store:
    project = project_name(settings.project, location)
    objects = None
    if settings.objects is not None:
        objects = Objects(ObjectPlace.parse(settings.objects, settings.origin["objects"]))
    store: Store = _postgres(location).PostgresStore.open(
        address, env=env, project=project, objects=objects
    )
    # For what this machine alone keeps; where it cannot be made, whoever needs it says so.
    with contextlib.suppress(OSError):
        os.makedirs(location.folder, mode=0o700, exist_ok=True)
    return store


def bring_up_to_date(location: Location, env: Env) -> dict[str, Any]:
    """Make the tables in a database, or bring them up to date -> what they say of themselves.

    They belong to no project, so none has to be said.
    """
    store = _postgres(location).PostgresStore.open(location.address, env=env, project="")
    try:
        info: dict[str, Any] = store.info()
        return info
    finally:
        store.close()


def is_made(location: Location) -> bool:
    """Whether a store is there; looking makes none. Asks the server, if it lies on one."""
    if location.address is not None:
        return bool(_postgres(location).is_made(location.address))
    return os.path.exists(os.path.join(location.folder, "kitaru.db"))


def _postgres(location: Location) -> ModuleType:
    try:
        # Only here: whoever uses SQLite needs no driver of PostgreSQL.
        from kitaru._store.postgres import store
    except ImportError as error:
        if (error.name or "").startswith("kitaru"):
            raise
        raise KitaruFeatureNotAvailableError(
            f"{location.found_by} is {location.place}, and the driver of PostgreSQL cannot be "
            f"loaded ({error}): run `pip install 'psycopg[binary]>=3.3'` in this environment",
            code="driver-not-installed",
        ) from None
    return store
