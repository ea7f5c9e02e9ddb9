"""Numbered migrations, as files of one folder: oldest first, never changed once released."""

from __future__ import annotations

import os
from typing import NamedTuple


class Migration(NamedTuple):
    version: int
    sql: str


def load_migrations(folder: str) -> list[Migration]:
    """The numbered files of ``folder``, oldest first."""
    found = []
    for file in sorted(os.listdir(folder)):
        if file.endswith(".sql"):
            with open(os.path.join(folder, file), encoding="utf-8") as source:
                found.append(Migration(int(file[:4]), source.read()))
    return found
