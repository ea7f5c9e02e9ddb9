"""The store that a command means: found and looked at, made only where that was asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from kitaru import settings
from kitaru._engine.liveness import LockFiles
from kitaru._engine.ownership import Ownership
from kitaru._engine.store_time import StoreTime
from kitaru._store.location import FOLDER_NAME, Location, find_store
from kitaru._store.project import find_root, home_folder, main_file
from kitaru._store.protocol import Store
from kitaru.env import Env, SystemEnv
from kitaru.errors import KitaruNotFoundError
from kitaru.housekeeping import Housekeeper
from kitaru.looking import Looking
from kitaru.opening import is_made, logs_of, open_store
from kitaru.records import instant


def find() -> Location:
    """Where the store of the project here is, or the one that was named; perhaps not made yet."""
    chosen = settings.resolve()
    return find_store(
        chosen.store,
        cwd=settings.current_folder(),
        main_file=main_file(),
        said_by=chosen.origin["store"],
    )


class Place(NamedTuple):
    """A store that is there, opened, and what looking at it takes. No engine is loaded for it."""

    store: Store
    project: str
    env: Env
    is_alive: Callable[[int | None], bool]
    executions: Looking
    housekeeper: Housekeeper

    @property
    def now(self) -> datetime:
        return instant(self.env.now())


def insist_on_store() -> None:
    """Refuse to look where no store is: looking must not make one in the wrong folder."""
    location = find()
    if not is_made(location):
        elsewhere = (
            "go to the folder of your project, name a store with --store FOLDER, or run a flow "
            "first"
            if location.address is None
            else "name another database, or run a flow or `kitaru init` first"
        )
        raise KitaruNotFoundError(
            f"there is no store at {location.place!r} ({location.found_by}): {elsewhere}",
            code="store-not-found",
        )


def existing() -> Place:
    """The store that is there, to look at."""
    insist_on_store()
    env: Env = SystemEnv()
    opened = open_store(env)
    _, location, store = opened
    if location.address is not None:
        env = StoreTime(env)
        env.measure(store)
    # Where owners have leases, their rows say who lives: no lock file is asked.
    liveness = LockFiles(location.folder, env=env)
    # It registers nothing, so it needs no name of its own (and no socket library for it).
    others = Ownership(store, liveness, env, host="", pid=os.getpid())
    logs = logs_of(opened)
    looking = Looking(
        store,
        project=store.project,
        root=location.root,
        is_alive=others.is_alive,
        logs=logs,
    )
    keeper = Housekeeper(store, logs, env)
    return Place(store, store.project, env, others.is_alive, looking, keeper)


def root_of_project(store: Store) -> str | None:
    """The project root of the store in use: below it a recorded folder is believed.

    The folder in which its ``.kitaru`` lies. A store that was named and is no
    ``.kitaru`` may be anybody's, and what it says of itself proves nothing. Two
    have to agree: it was made for the very project in which the person stands now.
    Else it belongs to no project that we could know: None.
    """
    location = find()
    if location.address is not None:
        # Whoever may write to the database runs what they like on its workers as it is.
        here = find_root(cwd=settings.current_folder(), main_file=main_file())
        return here.folder if here.marked else None
    if os.path.basename(location.folder) == FOLDER_NAME:
        return os.path.dirname(location.folder)
    if location.kind == "said":
        return location.root if _was_made_for(location, store) else None
    home = home_folder()
    above_home = home is not None and os.path.join(home, "").startswith(
        os.path.join(location.root, "")
    )
    return None if above_home else location.root


def _was_made_for(location: Location, store: Store) -> bool:
    """Whether the store says that it is this project's, and this is a project."""
    recorded = store.info().get("root")
    here = find_root(cwd=settings.current_folder(), main_file=main_file())
    return here.marked and here.folder == location.root == recorded
