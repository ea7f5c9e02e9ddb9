"""Values of the standard library that consist of a few others: slices, patterns, namespaces.

Each kind is a function that writes and one that reads; ``writer.py`` and
``reader.py`` only list them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kitaru._core.values.paths import Path
from kitaru._core.values.text import TAG

if TYPE_CHECKING:
    from kitaru._core.values.reader import Reader
    from kitaru._core.values.writer import Writer

MAX_PATTERN_CHARACTERS = 1000
"""Compiling takes milliseconds a class of characters: what a store holds must not cost minutes."""


def _write_slice(writer: Writer, value: slice, path: Path, depth: int) -> dict[str, Any]:
    ends = (value.start, value.stop, value.step)
    return {TAG: "slice", "v": writer.items(ends, 3, path, depth)}


def _read_slice(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> slice:
    start, stop, step = reader.items(tree, path, depth)
    return slice(start, stop, step)


def _write_pattern(writer: Writer, value: re.Pattern[Any], path: Path, depth: int) -> Any:
    if value.flags & re.DEBUG:
        return writer.refuse(value, path, "re.DEBUG prints when it is compiled: compile without it")
    if len(value.pattern) > MAX_PATTERN_CHARACTERS:
        limit = f"{MAX_PATTERN_CHARACTERS:,} characters"
        return writer.refuse(value, path, f"it has more than {limit}: store its `.pattern`")
    parts = (value.pattern, value.flags)
    return {TAG: "pattern", "v": writer.items(parts, 2, path, depth)}


def _read_pattern(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    pattern, flags = reader.items(tree, path, depth)
    known = type(pattern) in (str, bytes) and type(flags) is int and not flags & re.DEBUG
    if not known or len(pattern) > MAX_PATTERN_CHARACTERS:
        raise reader.malformed(path, "not a pattern and its flags")
    return re.compile(pattern, flags)


def _write_namespace(writer: Writer, value: SimpleNamespace, path: Path, depth: int) -> Any:
    writer.enter(1, path, depth)
    return {TAG: "namespace", "v": writer.tree(value.__dict__, path, depth + 1)}


def _read_namespace(reader: Reader, tree: Any, path: Path, depth: int) -> SimpleNamespace:
    attributes = reader.value(tree["v"], path, depth)
    if type(attributes) is not dict or not all(type(name) is str for name in attributes):
        raise reader.malformed(path, "not a dict of attributes")
    made = SimpleNamespace()
    made.__dict__.update(attributes)
    return made


WRITERS: dict[type, Callable[[Writer, Any, Path, int], Any]] = {
    slice: _write_slice,
    re.Pattern: _write_pattern,
    SimpleNamespace: _write_namespace,
}
READERS: dict[str, Callable[[Reader, dict[str, Any], Path, int], Any]] = {
    "slice": _read_slice,
    "pattern": _read_pattern,
    "namespace": _read_namespace,
}
