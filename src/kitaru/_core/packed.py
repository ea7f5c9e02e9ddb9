"""A payload inside a learnt fact: what was read stays readable, whatever becomes of its source.

Facts are JSON text; a payload is bytes with a digest. Text that a person can read
stays text. Knows nothing of what is read, nor of how values are encoded.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from kitaru._core.payload import Payload

MAX_PACKED_BYTES = 32 * 1024
"""Larger values are not copied into facts but found again where they are, by version."""


def pack(payload: Payload) -> dict[str, str]:
    """The payload as JSON data.

    >>> from kitaru._core.payload import seal
    >>> pack(seal("json", b"[1]"))["text"]
    '[1]'
    """
    packed = {"codec": payload.codec, "digest": payload.digest.hex()}
    try:
        return {**packed, "text": payload.data.decode()}
    except UnicodeDecodeError:
        return {**packed, "base64": base64.b64encode(payload.data).decode()}


def unpack(packed: Any) -> Payload | None:
    """The payload again; None if this is none. Its digest is checked by whoever decodes it.

    >>> from kitaru._core.payload import seal
    >>> unpack(pack(seal("raw", b"\\xff"))) == seal("raw", b"\\xff")
    True
    """
    try:
        text = packed.get("text")
        data = base64.b64decode(packed["base64"]) if text is None else text.encode()
        return Payload(packed["codec"], data, bytes.fromhex(packed["digest"]))
    except (AttributeError, KeyError, TypeError, ValueError, binascii.Error):
        return None
