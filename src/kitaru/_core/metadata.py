"""Metadata of ``kitaru.log``: plain JSON values, kept exactly or refused.

It is shown and queried as JSON by people and by SQL, so it has no tags: what JSON
would change on the way (a tuple, a key that is no text, a subclass) is refused
rather than changed. Knows nothing of whose metadata it is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from kitaru._core.values.paths import Path, problem, type_name
from kitaru.errors import KitaruValueError

MAX_METADATA_BYTES = 64 * 1024
"""Of one scope in all: it is read and written as a whole."""

_MAX_DEPTH = 100
_MAX_INT_BITS = 13_000
"""Some 3,900 digits: Python reads back no int of more than 4,300 from a text."""

_REMEDIES: dict[type, str] = {
    tuple: "log list(…) of it",
    set: "log sorted(…) of it",
    frozenset: "log sorted(…) of it",
    bytes: "log its .hex() or its length",
}


def checked_metadata(name: str, value: Any) -> Any:
    """A copy of ``value``, all of it exact JSON types, or ``KitaruValueError`` with its path.

    >>> checked_metadata("cost", {"tokens": [3, None]})
    {'tokens': [3, None]}
    """
    return _Walk(f"kitaru.log({name}=...)").copy(value, "$", 0)


class _Walk:
    __slots__ = ("left", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        self.left = MAX_METADATA_BYTES

    def copy(self, value: Any, path: Path, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            self._spend(len(value), path)
            return self._text(value, path)
        if value is None or kind is bool:
            return value
        if kind is int:
            if value.bit_length() > _MAX_INT_BITS:
                raise self._refused(path, "an int of so many digits: log str(…) of it")
            return value
        if kind is float:
            if value - value != 0:
                raise self._refused(path, f"{value} is no JSON number: log str(…) of it")
            return value
        if kind is not list and kind is not dict:
            raise self._refused(path, f"a {type_name(kind)}: {_remedy(kind)}")
        if depth >= _MAX_DEPTH:
            raise self._refused(
                path, f"nested more than {_MAX_DEPTH} deep, or inside itself: flatten it"
            )
        self._spend(2 * len(value), path)
        if kind is list:
            return [self.copy(item, (path, i), depth + 1) for i, item in enumerate(value)]
        return {
            self._key(key, path): self.copy(item, (path, key), depth + 1)
            for key, item in value.items()
        }

    def _key(self, key: Any, path: Path) -> str:
        if type(key) is not str:
            raise self._refused(
                path, f"a key that is a {type_name(type(key))}: make the keys texts, str(key)"
            )
        self._spend(len(key), path)
        return self._text(key, path)

    def _text(self, text: str, path: Path) -> str:
        # JSON takes two surrogates side by side for the one character they stand for.
        if not text.isascii() and _has_surrogate_pair(text):
            raise self._refused(path, "a text with a pair of surrogates: join it to a character")
        return text

    def _spend(self, size: int, path: Path) -> None:
        self.left -= size
        if self.left < 0:
            raise self._refused(
                path,
                f"more than {MAX_METADATA_BYTES:,} bytes, the most that the metadata of one scope "
                "may have: return large values from a checkpoint instead",
            )

    def _refused(self, path: Path, text: str) -> KitaruValueError:
        return problem(
            self.what,
            path,
            f"metadata holds plain JSON values, and this is {text}",
            code="metadata-refused",
        )


def _remedy(kind: type) -> str:
    for known, remedy in _REMEDIES.items():
        if kind is known:
            return remedy
    return "log str(…) of it, or the parts that you need"


def _has_surrogate_pair(text: str) -> bool:
    return any(
        "\ud800" <= first < "\udc00" <= second < "\ue000" for first, second in pairwise(text)
    )
