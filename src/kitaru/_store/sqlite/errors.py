"""What SQLite's errors mean, and what to do about each."""

from __future__ import annotations

import apsw

from kitaru.errors import KitaruBackendError

NOTHING_WRITTEN = "Nothing of this write was recorded"

_REMEDIES: tuple[tuple[type[apsw.Error], str, str], ...] = (
    (
        apsw.BusyError,
        "store-locked",
        (
            "another process holds the write lock for too long. Look for one that is stopped (a "
            "debugger, Ctrl-Z) or for a tool that has a transaction open, then run again"
        ),
    ),
    (apsw.FullError, "disk-full", "the disk is full. Free some space and run again"),
    (
        apsw.ReadOnlyError,
        "store-may-not-be-used",
        ("it may not be written. Check who owns the folder and how it is mounted"),
    ),
    (
        apsw.PermissionsError,
        "store-may-not-be-used",
        ("it may not be opened. Check who owns the folder and its files"),
    ),
    (
        apsw.CantOpenError,
        "store-may-not-be-used",
        (
            "it cannot be opened. Check that the folder exists, belongs to you and is local, and "
            "that this process may open more files (ulimit -n)"
        ),
    ),
    (
        apsw.CorruptError,
        "store-damaged",
        (
            "the file is damaged. Stop what uses it, keep a copy of the whole folder, and put back "
            "the newest file from its folder `backups`, or move the folder away to begin anew"
        ),
    ),
    (
        apsw.NotADBError,
        "store-foreign",
        (
            "the file is no SQLite database, or a damaged one. Put back the newest file from its "
            "folder `backups`, or choose another folder"
        ),
    ),
    (
        apsw.IOError,
        "disk-failed",
        ("the disk did not do what it was asked. Check it, and whether it is full; then run again"),
    ),
    (
        apsw.TooBigError,
        "value-too-large",
        "a value is too large for one row. Return less, or in several checkpoints",
    ),
)


def backend_error(error: apsw.Error, path: str, note: str = NOTHING_WRITTEN) -> KitaruBackendError:
    """The typed error for ``error``; raise it ``from`` that."""
    missing = isinstance(error, apsw.SQLError) and str(error).startswith("no such ")
    for kind, code, remedy in _REMEDIES:
        # Our own statements fit our schema: without a table of it the file is not as we made it.
        if isinstance(error, kind) or (missing and kind is apsw.CorruptError):
            return KitaruBackendError(
                f"the store {path} failed ({error}): {remedy}. {note}", code=code
            )
    return KitaruBackendError(
        f"the store {path} failed with {type(error).__name__}: {error}. Run again; if it comes "
        f"back, please report it with this text. {note}",
        code="store-failed",
    )


def descriptors_lost(path: str) -> KitaruBackendError:
    return KitaruBackendError(
        f"the store {path} cannot be used by this process any more: something in it closed the "
        "file descriptors by which the store is open (os.closerange?), and their numbers may be "
        "other files now. What was recorded before is kept, and this process writes no more. Start "
        "the program again, and let code close only what it opened",
        code="store-descriptors-closed",
    )


def foreign(path: str, why: str) -> KitaruBackendError:
    return KitaruBackendError(
        f"{path} is not a Kitaru store: {why}. Move it away, put back a file from the folder "
        "`backups` beside it if there is one, or choose another folder (KITARU_STORE)",
        code="store-foreign",
    )


def unreadable_text(path: str) -> KitaruBackendError:
    """A text that is no UTF-8: SQLite hands out whatever bytes stand in a row."""
    return KitaruBackendError(
        f"the store {path} is damaged: a text in it is no UTF-8. Keep a copy of the whole folder, "
        "and put back the newest file from its folder `backups`, or move the folder away to begin "
        "anew. Nothing was changed",
        code="store-damaged",
    )
