"""What of a call's arguments is kept for looking at: all if small, else sizes and heads."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from kitaru._core.values.text import TAG, dump

_HEAD_CHARACTERS = 120

_WITH_DATA = ("codec", "large-bytes", "large-bytearray", "numpy.ndarray")
_LIBRARIES_WITH_DATA = ("polars.", "pyarrow.", "PIL.")


def without_data(tree: Any) -> Any:
    """The tree with the sizes of arrays, tables, images and the like in place of their data.

    >>> without_data({"$kitaru": "numpy.ndarray", "dtype": "|i1", "shape": [1], "v": "AQ=="})
    {'$kitaru': 'numpy.ndarray', 'dtype': '|i1', 'shape': [1], 'v': {'bytes': 1}}
    """
    if type(tree) is list:
        return [without_data(item) for item in tree]
    if type(tree) is not dict:
        return tree
    shown = {name: without_data(part) for name, part in tree.items()}
    tag = tree.get(TAG)
    if type(tag) is str and (tag in _WITH_DATA or tag.startswith(_LIBRARIES_WITH_DATA)):
        size_bytes = _size_bytes(tree.get("v"))
        if size_bytes is not None:
            shown["v"] = {"bytes": size_bytes}
    return shown


def _size_bytes(node: Any) -> int | None:
    """How much data stands behind a node; None if it is no data but a value."""
    if type(node) is str:
        return len(node) // 4 * 3 - node[-2:].count("=")
    if type(node) is list and len(node) == 2 and all(type(part) is int for part in node):
        length: int = node[1]
        return length
    return None


def preview(tree: Any, max_bytes: int = 4096) -> str:
    """JSON text of a tree (of arguments: name -> tree), at most ``max_bytes`` of UTF-8.

    What does not fit is replaced, the largest arguments first and then the
    whole, by its size, its digest and its beginning.

    >>> preview({"topic": "rivers"})
    '{"topic":"rivers"}'
    """
    data = dump(tree, sort=False)
    if len(data) <= max_bytes:
        return data.decode()
    if type(tree) is dict and TAG not in tree:
        shortened = _shorten_largest(tree, max_bytes)
        if shortened is not None:
            return shortened
    summary = dump(_summary(data, _HEAD_CHARACTERS), sort=False)
    if len(summary) > max_bytes:
        summary = dump(_summary(data, 0), sort=False)
    return summary.decode()


def _shorten_largest(tree: dict[str, Any], max_bytes: int) -> str | None:
    written = {name: dump(item, sort=False) for name, item in tree.items()}
    room = max_bytes - sum(len(dump(name, sort=False)) + 2 for name in written) - 2
    total = sum(map(len, written.values()))
    shown = dict(tree)
    for name in sorted(written, key=lambda name: len(written[name]), reverse=True):
        summary = _summary(written[name], _HEAD_CHARACTERS)
        total += len(dump(summary, sort=False)) - len(written[name])
        shown[name] = summary
        if total <= room:
            return dump(shown, sort=False).decode()
    return None


def _summary(data: bytes, head_characters: int) -> dict[str, Any]:
    head = data[: 4 * head_characters].decode("utf-8", "ignore")[:head_characters]
    digest = blake2b(data, digest_size=32).hexdigest()
    return {TAG: "preview", "bytes": len(data), "digest": digest, "head": head}
