"""Where the store is, and a folder that is fit to hold it.

Finds and makes the folder; knows nothing of the database in it. Refuses, before
anything is written, a place where a store would be lost, shared with another
user, or corrupted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
from collections.abc import Callable
from typing import NamedTuple

from kitaru._core.names import check_name
from kitaru._store import filesystems
from kitaru._store.address import Address, is_address, masked
from kitaru._store.project import find_root, home_folder
from kitaru._store.syncing import sync_folder
from kitaru.errors import KitaruBackendError, KitaruFeatureNotAvailableError, KitaruUsageError
from kitaru.notices import notice

FOLDER_NAME = ".kitaru"

_GITIGNORE = b"# Made by Kitaru: this folder is its store and belongs in no repository.\n*\n"

_ELSEWHERE = "choose another folder with KITARU_STORE or kitaru.configure(store=...)"


class Location(NamedTuple):
    """A place for a store: found, perhaps not made yet.

    ``kind`` is ``said`` (somebody named it), ``project`` (in the project's
    root) or ``user`` (in the user's data folder, for programs outside every
    project). ``found_by`` says the same in words. ``root`` is the project's
    root folder, or where an unmarked program lies. ``address`` is the database
    of a store on a server; ``folder`` then holds what this machine keeps beside it.
    """

    folder: str
    kind: str
    found_by: str
    root: str
    address: Address | None = None

    @property
    def place(self) -> str:
        """The store in a message: its folder, or its address without a password."""
        return self.folder if self.address is None else str(self.address)


def find_store(
    settings_store: str | None,
    *,
    cwd: str,
    main_file: str | None,
    said_by: str = "the setting `store`",
) -> Location:
    """Where the store of this program is; looks, and makes nothing.

    ``settings_store`` is a folder, relative to ``cwd``, a PostgreSQL URL or
    keyword string, or None; ``said_by`` who named it. Raises
    ``KitaruFeatureNotAvailableError`` on Windows, ``KitaruUsageError`` for what
    can be neither.
    """
    if sys.platform == "win32":
        raise KitaruFeatureNotAvailableError(
            "Kitaru does not run on Windows yet: use it inside WSL 2, on Linux or on macOS",
            code="platform-unsupported",
        )
    root, marked = find_root(cwd=cwd, main_file=main_file)
    if settings_store is not None and is_address(settings_store):
        address = settings_store
        if not isinstance(address, Address):
            address = Address(address)
        return Location(_folder_beside(address), "said", said_by, root, address)
    if settings_store is not None:
        folder = os.path.join(cwd, os.path.expanduser(_checked(settings_store, said_by)))
        return Location(os.path.abspath(folder), "said", said_by, root)
    if marked:
        return Location(os.path.join(root, FOLDER_NAME), "project", f"the project {root}", root)
    folder = os.path.join(_user_data_folder(), "kitaru", _folder_key(root))
    return Location(folder, "user", f"no project at or above {root}", root)


def prepare(
    location: Location, *, kind_here: Callable[[str], str | None] = filesystems.kind_here
) -> bool:
    """Make the store's folder if it is not there, and refuse one that is not fit.

    Returns whether it was made; then one line on stderr says where. It is
    private (0700 whatever the umask) and ignored by git. Raises
    ``KitaruUsageError`` for a folder of another user, a file, a folder of
    other things and a network file system, ``KitaruBackendError`` if the
    system refuses. ``kind_here`` tells a folder's file system type.
    """
    folder = location.folder
    kind = kind_here(folder)
    if kind is not None and filesystems.is_network(kind):
        raise KitaruUsageError(
            f"the store {folder!r} would lie on a {kind} file system, on which a database "
            f"gets corrupted: {_ELSEWHERE} on a local disk",
            code="store-on-network-drive",
        )
    try:
        made = _make(folder)
        _check_owner(folder)
        if not made:
            _check_content(folder)
        _make_private(folder)
    except OSError as error:
        raise KitaruBackendError(
            f"cannot make or use the store {folder!r} ({error.strerror}): "
            f"make it writable for you, or {_ELSEWHERE}",
            code="store-may-not-be-used",
        ) from error
    if made:
        passing = filesystems.why_ephemeral(kind) if kind is not None else None
        notice(
            f"made the store {folder}, where executions are recorded"
            + (f"; careful, it lies in {passing}: KITARU_STORE chooses a disk" if passing else "")
        )
    return made


def project_name(said: str | None, location: Location) -> str:
    """The project's name: what was said (``project`` of the settings), else its root folder's name.

    Raises ``KitaruUsageError`` if the folder's name can be no name, and for a store on a
    server if nothing was said: there the name alone keeps projects apart, on all machines.

    >>> place = Location("/srv/weather/.kitaru", "project", "…", root="/srv/weather")
    >>> project_name(None, place)
    'weather'
    """
    if said is not None:
        return check_name("project", said)
    if location.address is not None:
        raise KitaruUsageError(
            f"the store {location.place} may hold several projects, and which one is this? Say "
            'it: KITARU_PROJECT, kitaru.configure(project="..."), or [tool.kitaru] project in '
            "pyproject.toml; the same on every machine",
            code="project-not-said",
        )
    name = os.path.basename(os.path.abspath(location.root)) or "root"
    try:
        return check_name("project", name)
    except KitaruUsageError as error:
        raise KitaruUsageError(
            f"{error}; or name the project: [tool.kitaru] project in pyproject.toml, "
            "or KITARU_PROJECT",
            code="name-invalid",
        ) from None


def _checked(store: str, said_by: str) -> str:
    scheme, separator, _ = store.partition("://")
    if separator and re.fullmatch(r"\w[\w+.-]*", scheme):
        raise KitaruUsageError(
            f"{said_by} is {masked(store)!r}: name a folder on a local disk, or a PostgreSQL "
            "database as postgresql://HOST/DATABASE",
            code="store-place-invalid",
        )
    if not store.strip() or "\0" in store:
        raise KitaruUsageError(
            f"{said_by} is {store!r}, which can be no folder: name one", code="store-place-invalid"
        )
    return store


def _user_data_folder() -> str:
    said = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(said):  # the XDG base directory specification ignores relative ones
        return said
    home = home_folder()
    if home is None:
        raise KitaruUsageError(
            "this program lies in no project and its user has no home folder: "
            "name a folder for the store with KITARU_STORE",
            code="store-place-unknown",
        )
    if sys.platform == "darwin":
        return os.path.join(home, "Library", "Application Support")
    return os.path.join(home, ".local", "share")


def _folder_key(root: str) -> str:
    """Programs outside every project share a store only with those beside them.

    Two scripts of one name in two folders would else be one flow to us.
    """
    digest = hashlib.blake2b(os.fsencode(root), digest_size=6).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", os.path.basename(root))[:40].strip(".-")
    return f"{readable}-{digest}" if readable else digest


def _folder_beside(address: Address) -> str:
    """What this machine keeps beside that database, whatever password it is used with.

    Nothing that is promised lies there (logs do), so a machine without a home will do.
    """
    digest = hashlib.blake2b(address.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    try:
        above = _user_data_folder()
    except KitaruUsageError:
        import tempfile  # not at the top: for few, and not light

        above = os.path.join(tempfile.gettempdir(), f"kitaru-of-{os.geteuid()}")
    return os.path.join(above, "kitaru", f"postgresql-{digest}")


def _make(folder: str) -> bool:
    """Make the folder and those above it that are missing; False if it stands there already."""
    missing = []
    above = os.path.dirname(folder)
    while not os.path.lexists(above):
        missing.append(above)
        above = os.path.dirname(above)
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process is as quick
            os.mkdir(path, 0o700)
        sync_folder(os.path.dirname(path))
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        return False
    # Its name too, or a power cut may take the whole store with it.
    sync_folder(os.path.dirname(folder))
    return True


def _check_owner(folder: str) -> None:
    user = os.geteuid()
    try:
        entry, target = os.lstat(folder), os.stat(folder)
    except FileNotFoundError:
        raise KitaruUsageError(
            f"the store {folder!r} is a link to nothing: remove it or {_ELSEWHERE}",
            code="store-place-invalid",
        ) from None
    if not stat.S_ISDIR(target.st_mode):
        raise KitaruUsageError(
            f"the store {folder!r} is a file, not a folder: move it away or {_ELSEWHERE}",
            code="store-place-invalid",
        )
    if {entry.st_uid, target.st_uid} != {user}:
        other = next(uid for uid in (target.st_uid, entry.st_uid) if uid != user)
        raise KitaruUsageError(
            f"the store {folder!r} belongs to user {other}, and you are user {user}: what is "
            f"recorded there decides what runs here, so it is not used; {_ELSEWHERE}",
            code="store-of-another-user",
        )


def _check_content(folder: str) -> None:
    """Never turn a folder of other things into a private one that git ignores."""
    if os.path.basename(folder) == FOLDER_NAME or _is_marked(folder):
        return
    if os.path.lexists(os.path.join(folder, "kitaru.db")):
        return  # a store whose .gitignore was not copied along
    others = [name for name in os.listdir(folder) if name != ".gitignore"]
    # Asked again: another process may have marked and filled it since.
    if others and not _is_marked(folder):
        raise KitaruUsageError(
            f"the folder {folder!r} holds other things than a store: "
            f"name a folder of its own, for example {os.path.join(folder, FOLDER_NAME)!r}",
            code="store-folder-taken",
        )


def _is_marked(folder: str) -> bool:
    try:
        with open(os.path.join(folder, ".gitignore"), "rb") as file:
            return file.read(len(_GITIGNORE) + 1) == _GITIGNORE
    except FileNotFoundError:
        return False


def _make_private(folder: str) -> None:
    # The mode given to mkdir is cut by the umask; an older folder may be open to others.
    if stat.S_IMODE(os.stat(folder).st_mode) != 0o700:
        os.chmod(folder, 0o700)
    if _is_marked(folder):
        return
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(os.path.join(folder, ".gitignore"), flags, 0o600), "r+b") as file:
        # Left half-written by a process that died here, or being written by
        # another one: the same bytes at the same place do no harm. What a
        # person wrote into it stays.
        if _GITIGNORE.startswith(file.read(len(_GITIGNORE) + 1)):
            os.fchmod(file.fileno(), 0o600)
            file.seek(0)
            file.write(_GITIGNORE)
