"""What lies beside the database reaches the medium on every system."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from kitaru._store import syncing


def test_a_file_and_a_folder_are_synced(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.write(b"x")
        file.flush()
        syncing.sync(file.fileno())
    syncing.sync_folder(str(tmp_path))


def test_a_file_system_without_the_full_sync_of_macos_is_synced_as_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = 9_999  # to the kernel here: it answers as one does that knows no F_FULLFSYNC
    with (tmp_path / "a").open("wb") as file:
        with pytest.raises(OSError):
            fcntl.fcntl(file.fileno(), unknown)
        monkeypatch.setattr(syncing, "_FULL_SYNC", unknown)
        syncing.sync(file.fileno())
        syncing.sync_folder(str(tmp_path))


def test_what_cannot_be_synced_is_an_error(tmp_path: Path) -> None:
    near, far = os.pipe()
    try:
        with pytest.raises(OSError):
            syncing.sync(far)
    finally:
        os.close(near)
        os.close(far)
