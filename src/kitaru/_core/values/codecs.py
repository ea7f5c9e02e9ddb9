"""Which codec a class or a tag has: those of libraries, and those that programs register.

A codec writes the values of one exact class and reads what bears its tag. The
codecs of a library live in a file of ours that is loaded when a value of the
library's turns up; the library itself is only ever taken from ``sys.modules``.
Knows nothing of bytes, digests or stores.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kitaru._core.values import registered
from kitaru._core.values.classes import meet
from kitaru._core.values.paths import Path, module_of, problem
from kitaru._core.values.text import TAG

if TYPE_CHECKING:
    from kitaru._core.values.reader import Reader
    from kitaru._core.values.writer import Writer

Write = Callable[["Writer", Any, Path, int], Any]
Read = Callable[["Reader", dict[str, Any], Path, int], Any]

_HOMES = {
    "numpy": "arrays",
    "pandas": "pandas_frames",
    "PIL": "images",
    "polars": "polars_frames",
    "pyarrow": "arrow",
}
"""Library -> our file with its codecs. The tags of a library begin with its name and a dot."""

_NEEDED = {"PIL": "PIL.Image"}
"""Libraries of which another module has to be in use than the one of their name."""

_written: dict[type, Write] = {}

ARRAYS: set[type] = set()
"""numpy's class of arrays, once one was met: a body may change them in place."""


def write_of(cls: type) -> Write | None:
    """How values of exactly this class are written, if a codec does it."""
    return registered.write_of(cls) or library_write_of(cls)


def library_write_of(cls: type) -> Write | None:
    """How values of exactly this class are written, if it is a library's and has a codec."""
    found = _written.get(cls)
    if found is not None:
        return found
    library = module_of(cls).partition(".")[0]
    if library not in _HOMES or sys.modules.get(library) is None:
        return None
    made: Write | None = _home(library).write_of(cls)
    if made is not None:
        _written[cls] = made
        meet(cls)
        if library == "numpy" and cls.__name__ == "ndarray":
            ARRAYS.add(cls)
    return made


def module_to_import(cls: type) -> str:
    """What a program imports to have this class: of a library, not the file it is made in."""
    if cls in _written:
        library = module_of(cls).partition(".")[0]
        return _NEEDED.get(library, library)
    return module_of(cls)


def read_of(tag: str, reader: Reader, path: Path) -> Read | None:
    """How what bears ``tag`` is read; ``KitaruValueError`` if its library is not in use."""
    if tag == registered.MARK:
        return registered.read
    library = tag.partition(".")[0]
    if library not in _HOMES:
        return None
    read: Read | None = _home(library).READERS.get(tag)
    needed = _NEEDED.get(library, library)
    if read is not None and sys.modules.get(needed) is None:
        raise problem(
            reader.what,
            path,
            f"it was recorded as a {tag}, and this program has not imported {needed}: put "
            f"`import {needed}` at the top of the program that reads it. The recorded value is "
            "kept as it is",
            code="library-not-imported",
        )
    return read


def has_codecs(tree: Any) -> bool:
    """Whether all that a tree needs to be read is registered and in use, as far as tags tell."""
    if type(tree) is list:
        return all(map(has_codecs, tree))
    if type(tree) is not dict:
        return True
    tag = tree.get(TAG)
    if type(tag) is not str:
        tag = ""
    name = tree.get("codec")
    if tag == registered.MARK and (type(name) is not str or name not in registered.by_name):
        return False
    library = tag.partition(".")[0]
    if library in _HOMES and sys.modules.get(_NEEDED.get(library, library)) is None:
        return False
    return all(map(has_codecs, tree.values()))


def _home(library: str) -> Any:
    return import_module(f"kitaru._core.values.{_HOMES[library]}")
