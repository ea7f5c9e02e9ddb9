"""Until what was written is on the medium: files, and the names in folders.

SQLite syncs its own files (``database.py`` says how); this is for what lies
beside them, and for the folders that hold them.
"""

from __future__ import annotations

import fcntl
import os

# macOS: fsync() hands the data to the drive and leaves it in the drive's cache.
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


def sync(descriptor: int) -> None:
    """Return when what was written through this descriptor survives a power cut."""
    if _FULL_SYNC is not None:
        try:
            fcntl.fcntl(descriptor, _FULL_SYNC)
            return
        except OSError:
            pass  # a file system that knows no such thing: as good as it gets
    os.fsync(descriptor)


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable: of files that were made, renamed or removed there."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
