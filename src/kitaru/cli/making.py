"""``kitaru init`` at work: the store of the project here, made if it is not there."""

from __future__ import annotations

import os

from kitaru import app as _app
from kitaru._store.location import FOLDER_NAME, Location
from kitaru._store.project import home_folder
from kitaru.cli.output import Session, print_fields
from kitaru.cli.place import find
from kitaru.errors import KitaruUsageError
from kitaru.opening import is_made


def make_store(session: Session) -> None:
    location = find()
    if location.kind == "user":
        # A folder without any mark of a project becomes one by its .kitaru.
        session.choose_store(_folder_here(location))
        location = find()
    made = not is_made(location)
    app = _app.current()
    if session.as_json:
        session.item({"store": location.place, "project": app.project, "made": made})
        return
    print_fields(
        [
            ("store", location.place),
            ("project", app.project),
            ("", "made just now" if made else "it was there already; nothing changed"),
        ]
    )


def _folder_here(location: Location) -> str:
    home = home_folder()
    if home is not None and os.path.join(os.path.realpath(home), "").startswith(
        os.path.join(location.root, "")
    ):
        raise KitaruUsageError(
            f"{location.root!r} is the home folder or above it, where no project can be: "
            "make a folder for your project and run `kitaru init` there",
            code="store-folder-taken",
        )
    return os.path.join(location.root, FOLDER_NAME)
