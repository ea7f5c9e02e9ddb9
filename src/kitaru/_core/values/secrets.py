"""Values of resolved secrets in what is to be recorded: found with their path, or masked.

Asked only once a secret was resolved in this process. Works on trees, so that no
object is looked at a second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kitaru._core.values import attachments
from kitaru._core.values.paths import Path, problem
from kitaru._core.values.text import TAG, dump, parse
from kitaru.masking import NEEDLES, mask, mask_bytes, secret_in, secret_in_wide

_BYTES = ("bytes", "bytearray", "large-bytes", "large-bytearray", "codec")
_LIBRARIES = ("numpy.", "pyarrow.", "polars.", "PIL.")
_ENCODED = (*(f'"{tag}"' for tag in (*_BYTES, "array", "str")), *(f'"{tag}' for tag in _LIBRARIES))
_QUOTED_TAGS = tuple(tag.encode() for tag in _ENCODED)
"""What shows that there is data in base64 or hexadecimal, where no value is seen as it is."""
_PAIRS = ("dict", "ordered-dict", "counter", "defaultdict")
_NO_TEXT = (TAG, "of", "shape", "set")
"""Members of tagged values that hold names of ours and of code, no text of the user's."""


def refuse_secrets(codec: str, data: bytes, what: str) -> None:
    """``KitaruValueError`` with the path, if a secret's value stands in this payload."""
    if not _may_hold(data):
        return
    text, attached = attachments.split(data) if codec == attachments.CODEC else (data, None)
    found = _Search(attached).find(parse(text), "$")
    if found is None and attached is not None:
        name = secret_in(data)  # in an array of characters, say
        found = None if name is None else ("$", name)
    if found is not None:
        path, name = found
        raise problem(
            what,
            path,
            f"the value of the secret {name} would stand in the store in clear: leave it out, or "
            "hand on the kitaru.Secret itself and call .get() where the value is needed",
            code="secret-in-value",
        )


def masked(data: bytes) -> bytes:
    """The same JSON with the names of secrets in place of their values."""
    return dump(masked_tree(parse(data)), sort=False) if _may_hold(data) else data


def _may_hold(data: bytes) -> bool:
    if any(needle.raw in data for needle in NEEDLES):
        return True
    return any(tag in data for tag in _QUOTED_TAGS)


def masked_tree(tree: Any) -> Any:
    """The tree with the names of secrets in place of their values."""
    kind = type(tree)
    if kind is str:
        return mask(tree)
    if kind is list:
        return [masked_tree(item) for item in tree]
    if kind is not dict:
        return tree
    if type(tree.get(TAG)) is not str:  # in metadata it may be anything
        return {mask(key): masked_tree(item) for key, item in tree.items()}
    raw = _bytes_of(tree, None)
    if raw is not None:
        shows = {"shows": mask(tree["shows"])} if type(tree.get("shows")) is str else {}
        return {**tree, **shows, "v": attachments.inline(mask_bytes(bytes(raw)))}
    hidden = _secret_behind(tree, None)
    if hidden is not None:
        return f"<secret {hidden}>"  # with other data it would be no array any more
    return {name: part if name in _NO_TEXT else masked_tree(part) for name, part in tree.items()}


def _bytes_of(tree: dict[str, Any], attached: memoryview | None) -> attachments.Data | None:
    if tree[TAG] not in _BYTES:
        return None
    try:
        return attachments.find(tree["v"], attached)
    except (KeyError, TypeError, ValueError):
        return None  # of a digest, which holds no data


def _secret_behind(tree: dict[str, Any], attached: memoryview | None) -> str | None:
    """The name of a secret in the data of an array, a table, an image or an odd text."""
    tag: str = tree[TAG]
    node: Any = tree.get("v")
    try:
        if tag == "str":
            return secret_in(bytes.fromhex(node))
        if tag != "array" and not tag.startswith(_LIBRARIES):
            return None
        data = bytes(attachments.find(node[3] if tag == "array" else node, attached))
    except (IndexError, TypeError, ValueError):
        return None  # of a digest, or no data but other values
    return secret_in(data) or (secret_in_wide(data) if tag.startswith("numpy.") else None)


class _Search:
    """One walk over a tree of what would be recorded."""

    def __init__(self, attached: memoryview | None) -> None:
        self._attached = attached

    def find(self, tree: Any, path: Path) -> tuple[Path, str] | None:
        """Where the first secret stands, and its name."""
        kind = type(tree)
        if kind is str:
            name = secret_in(tree)
            return None if name is None else (path, name)
        if kind is list:
            return self._first((item, (path, index)) for index, item in enumerate(tree))
        if kind is not dict:
            return None
        if type(tree.get(TAG)) is str:
            return self._tagged(tree, path)
        keys = ((key, (path, "<key>")) for key in tree)
        items = ((item, (path, key)) for key, item in tree.items())
        return self._first(keys) or self._first(items)

    def _tagged(self, tree: dict[str, Any], path: Path) -> tuple[Path, str] | None:
        raw = _bytes_of(tree, self._attached)
        if raw is not None:
            name = secret_in(bytes(raw)) or secret_in(tree.get("shows") or "")
            return None if name is None else (path, name)
        hidden = _secret_behind(tree, self._attached)
        if hidden is not None:
            return path, hidden
        if tree[TAG] in _PAIRS and type(tree.get("v")) is list:
            return self._first(_pair_parts(tree["v"], path))
        return self._first((part, path) for name, part in tree.items() if name not in _NO_TEXT)

    def _first(self, parts: Iterable[tuple[Any, Path]]) -> tuple[Path, str] | None:
        for part, path in parts:
            found = self.find(part, path)
            if found is not None:
                return found
        return None


def _pair_parts(pairs: list[Any], path: Path) -> Iterator[tuple[Any, Path]]:
    for key, item in pairs:
        yield key, (path, "<key>")
        yield item, (path, key if type(key) in (str, int) else "<item>")
