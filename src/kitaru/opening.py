"""The store of this program, opened: settings, place and database put together.

What :mod:`kitaru.app` composes a running Kitaru on, and all that looking needs.
"""

from __future__ import annotations

from typing import NamedTuple

from kitaru import settings as _settings
from kitaru._core.limits import use as use_limits
from kitaru._store.location import Location, find_store, prepare, project_name
from kitaru._store.logfiles import LogFiles
from kitaru._store.project import main_file
from kitaru._store.sqlite.store import SqliteStore
from kitaru.env import Env


def logs_beside(location: Location, settings: _settings.Settings) -> LogFiles:
    """Where the logs of executions in that store are, whether or not any are kept now."""
    return LogFiles(
        location.folder,
        max_bytes=settings.max_log_bytes,
        max_folder_bytes=settings.max_log_folder_bytes,
    )


class Opened(NamedTuple):
    settings: _settings.Settings
    location: Location
    store: SqliteStore


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
    prepare(location)
    project = project_name(settings.project, location)
    store = SqliteStore.open(location.folder, env=env, project=project, root=location.root)
    return Opened(settings, location, store)
