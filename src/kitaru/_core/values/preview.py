"""What of a call's arguments is kept for looking at: all if small, else sizes and heads."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from kitaru._core.values.text import TAG, dump

_HEAD_CHARACTERS = 120


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
