"""Encoded values: bytes, how they were encoded, and their digest."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple


class Payload(NamedTuple):
    """An encoded value. ``digest`` is BLAKE2b (32 bytes) of ``data`` before any compression."""

    codec: str
    data: bytes
    digest: bytes


def seal(codec: str, data: bytes) -> Payload:
    """``data`` with its digest.

    >>> len(seal("json", b"1").digest)
    32
    """
    return Payload(codec, data, blake2b(data, digest_size=32).digest())


def is_intact(payload: Payload) -> bool:
    """Whether the bytes are those that were sealed."""
    return blake2b(payload.data, digest_size=32).digest() == payload.digest
