"""Large binary data beside the JSON of a value: one payload, one digest, no base64.

A payload of codec ``attachments`` is its JSON text, a NUL byte, and then the attached
data, one after another. Where data stands in a tree, it is base64 (a text) up to
``MAX_INLINE_BYTES``, and beyond it ``[offset, length]`` in what is attached. A digest
needs neither: there data is its own length and digest.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

CODEC = "attachments"

MAX_INLINE_BYTES = 32 * 1024
"""Data up to this size stands in the JSON. As no larger payload stands in a row, every
payload that does is JSON that a person and a database can read."""

Data = bytes | memoryview
"""Contiguous bytes; a view may lend the memory of the value itself until it is joined."""


def digested(data: Data) -> dict[str, Any]:
    """What data counts as in a digest, and shows as in a preview."""
    return {"bytes": len(data), "digest": blake2b(data, digest_size=32).hexdigest()}


def inline(data: Data) -> str:
    return b64encode(data).decode("ascii")


def join(text: bytes, attached: Sequence[Data]) -> bytes:
    """The payload's bytes. JSON holds no NUL, so that the first one ends it."""
    return b"".join((text, b"\0", *attached))


def split(data: bytes) -> tuple[bytes, memoryview]:
    """The JSON of a payload and what is attached; ``ValueError`` if there is no end of the JSON."""
    end = data.index(b"\0")
    return data[:end], memoryview(data)[end + 1 :]


def are(attached: Sequence[Data], these: memoryview | None) -> bool:
    """Whether ``attached`` would be stored as ``these`` bytes, without joining them."""
    start = 0
    for data in attached:
        if these is None or these[start : start + len(data)] != data:
            return False
        start += len(data)
    return start == (0 if these is None else len(these))


def find(node: Any, attached: memoryview | None) -> Data:
    """The data behind a node of a tree; ``ValueError`` for what no writer made."""
    if type(node) is str:
        return b64decode(node, validate=True)
    if type(node) is not list or attached is None:
        raise ValueError("not binary data")
    start, length = node
    if type(start) is not int or type(length) is not int or start < 0 or length < 0:
        raise ValueError("not a place in what is attached")
    if start + length > len(attached):
        raise ValueError("beyond what is attached")
    return attached[start : start + length]
