"""Named queries, read from the ``.sql`` files of one backend.

A query begins with ``-- name: foo`` and ends where the next one begins;
comments below the name belong to it. This file knows nothing of databases: it
hands out text, always the same object for a name, so that a driver's
statement cache finds it.
"""

from __future__ import annotations

import os


class Queries:
    """The queries of one folder as attributes.

    An unknown name is an ``AttributeError`` that says where it was looked for.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        for file in sorted(os.listdir(folder)):
            if file.endswith(".sql"):
                with open(os.path.join(folder, file), encoding="utf-8") as source:
                    self.__dict__.update(parse(source.read()))

    def __getattr__(self, name: str) -> str:
        raise AttributeError(f"no query is named {name!r} in {self._folder}")


def parse(text: str) -> dict[str, str]:
    """Name -> statement, without its comments, each line without its indentation.

    A driver's cache of statements reads the text at every use, so it is kept short.

    >>> parse("-- name: one\\n-- why\\nselect 1\\n    where true -- and why")
    {'one': 'select 1\\nwhere true -- and why'}
    """
    queries: dict[str, str] = {}
    for block in text.split("-- name: ")[1:]:
        name, _, body = block.partition("\n")
        lines = [line.strip() for line in body.splitlines()]
        queries[name.strip()] = "\n".join(line for line in lines if line[:2] not in ("--", ""))
    return queries
