"""The values of secrets that this process has resolved, and texts without them.

Nothing is known, and nothing costs, until a :class:`kitaru.Secret` is resolved:
callers ask ``if NEEDLES`` first. Knows nothing of where secrets come from, nor of
how values are encoded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NamedTuple

MIN_CHARACTERS = 8
"""Shorter values stand in too many texts by chance to be masked or refused."""


class Needle(NamedTuple):
    """One form in which a secret's value may stand in a text."""

    text: str
    name: str
    raw: bytes
    """The same as bytes."""

    @property
    def shown(self) -> str:
        return f"<secret {self.name}>"


NEEDLES: list[Needle] = []
"""Longest first, so that a secret that contains another is masked as a whole."""

_lock = threading.Lock()


def remember(value: str, name: str) -> None:
    """Mask this value from now on, as it is and as it is quoted in JSON, ``repr`` and URLs."""
    if len(value) < MIN_CHARACTERS or any(each.text == value for each in NEEDLES):
        return
    new = [Needle(form, name, form.encode("utf-8", "surrogatepass")) for form in _forms(value)]
    with _lock:
        NEEDLES[:] = sorted({*NEEDLES, *new}, key=lambda needle: (-len(needle.text), needle))


def _forms(value: str) -> set[str]:
    """How the value looks where it is quoted, and where that is quoted once more."""
    from urllib.parse import quote, quote_plus

    once = {value, *_quoted(value)}
    forms = {twice for form in once for twice in _quoted(form)} | once
    data = value.encode("utf-8", "surrogatepass")
    return {*forms, quote(data, safe=""), quote_plus(data)}


def _quoted(text: str) -> Iterator[str]:
    import json

    yield repr(text)[1:-1]
    yield repr(text.encode("utf-8", "surrogatepass"))[2:-1]
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]


def mask(text: str) -> str:
    """The text with the name of each secret in place of its value.

    >>> mask("nothing is known of this")
    'nothing is known of this'
    """
    for needle in NEEDLES:
        if needle.text in text:
            text = text.replace(needle.text, needle.shown)
    return text


def mask_bytes(data: bytes) -> bytes:
    """The bytes with the name of each secret in place of its value."""
    for needle in NEEDLES:
        if needle.raw in data:
            data = data.replace(needle.raw, needle.shown.encode("utf-8", "replace"))
    return data


def secret_in(text: str | bytes) -> str | None:
    """The name of a secret whose value stands in the text."""
    for needle in NEEDLES:
        if (needle.text in text) if isinstance(text, str) else (needle.raw in text):
            return needle.name
    return None


def secret_in_wide(data: bytes) -> str | None:
    """The name of a secret that stands in the data with four bytes a character, as in numpy."""
    for needle in NEEDLES:
        for order in ("utf-32-le", "utf-32-be"):
            if needle.text.encode(order, "surrogatepass") in data:
                return needle.name
    return None
