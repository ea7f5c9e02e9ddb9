"""The store that a command means: found and looked at, made only where that was asked for."""

from __future__ import annotations

import os

from kitaru import app as _app
from kitaru import settings
from kitaru._store.location import FOLDER_NAME, Location, find_store
from kitaru._store.project import find_root, home_folder, main_file
from kitaru.client import KitaruClient
from kitaru.errors import KitaruNotFoundError


def find() -> Location:
    """Where the store of the project here is, or the one that was named; perhaps not made yet."""
    chosen = settings.resolve()
    return find_store(
        chosen.store,
        cwd=settings.current_folder(),
        main_file=main_file(),
        said_by=chosen.origin["store"],
    )


def is_made(folder: str) -> bool:
    return os.path.exists(os.path.join(folder, "kitaru.db"))


def existing_client() -> KitaruClient:
    """A client of a store that is there: looking must not make one in the wrong folder."""
    location = find()
    if not is_made(location.folder):
        raise KitaruNotFoundError(
            f"there is no store at {location.folder!r} ({location.found_by}): go to the folder of "
            "your project, name a store with --store FOLDER, or run a flow first",
            code="store-not-found",
        )
    return KitaruClient()


def root_of_project() -> str | None:
    """The project root of the store in use: below it a recorded folder is believed.

    The folder in which its ``.kitaru`` lies. A store that was named and is no
    ``.kitaru`` may be anybody's, and what it says of itself proves nothing. Two
    have to agree: it was made for the very project in which the person stands now.
    Else it belongs to no project that we could know: None.
    """
    location = find()
    if os.path.basename(location.folder) == FOLDER_NAME:
        return os.path.dirname(location.folder)
    if location.kind == "said":
        return location.root if _was_made_for(location) else None
    home = home_folder()
    above_home = home is not None and os.path.join(home, "").startswith(
        os.path.join(location.root, "")
    )
    return None if above_home else location.root


def _was_made_for(location: Location) -> bool:
    """Whether the store says that it is this project's, and this is a project."""
    recorded = _app.current().store.info().get("root")
    here = find_root(cwd=settings.current_folder(), main_file=main_file())
    return here.marked and here.folder == location.root == recorded
