"""Values of users to bytes and back: the only place that serialises them.

``encode`` and ``decode`` are for outcomes and inputs, ``to_tree`` and ``dump``
for digests, ``encode_failure`` and ``decode_failure`` for exceptions. The
format is described in ``docs/decisions/0003-the-value-format.md``.
"""

from kitaru._core.limits import DEFAULT_LIMITS, Limits
from kitaru._core.values.classes import classes_in, find_class
from kitaru._core.values.codec import decode, encode, is_exact
from kitaru._core.values.failures import (
    Failure,
    NotStored,
    decode_failure,
    encode_failure,
    failure_info,
)
from kitaru._core.values.pickled import PICKLED, decode_pickled, encode_pickled
from kitaru._core.values.preview import preview
from kitaru._core.values.text import dump
from kitaru._core.values.tracebacks import message_of
from kitaru._core.values.writer import to_tree

__all__ = [
    "DEFAULT_LIMITS",
    "PICKLED",
    "Failure",
    "Limits",
    "NotStored",
    "classes_in",
    "decode",
    "decode_failure",
    "decode_pickled",
    "dump",
    "encode",
    "encode_failure",
    "encode_pickled",
    "failure_info",
    "find_class",
    "is_exact",
    "message_of",
    "preview",
    "to_tree",
]
