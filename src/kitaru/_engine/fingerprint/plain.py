"""Immutable values as canonical bytes: constants, defaults, captured values.

Every value is tagged with its type and every string is preceded by its length,
so that two different values never encode alike, and sets are ordered by their
encoding, so that hash seeds do not count. This file knows nothing of functions,
classes or modules: what it cannot encode it answers with None, and it never
runs the code of a user's class.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

_module_of_type = type.__dict__["__module__"].__get__
_qualname_of_type = type.__dict__["__qualname__"].__get__

_DOUBLE = struct.Struct(">d")


def frame(tag: bytes, *pieces: bytes) -> bytes:
    """Tag and pieces as bytes that no other list of pieces gives.

    >>> frame(b"t", b"ab", b"c")
    b't2:2:ab1:c'
    """
    return b"%s%d:%s" % (tag, len(pieces), b"".join([b"%d:%s" % (len(p), p) for p in pieces]))


def text(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _int(value: int) -> bytes:
    # Not decimal digits: their number is limited by sys.set_int_max_str_digits.
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _float(value: float) -> bytes:
    return b"nan" if value != value else _DOUBLE.pack(value)


def _datetime(value: Any) -> bytes:
    zone = value.tzinfo
    naive = value.replace(tzinfo=None).isoformat()
    # The name of a zone, never its offset: asking for that runs the zone's code.
    known = type(zone).__module__ in ("datetime", "zoneinfo")
    return text(f"{naive} {value.fold} {type(zone).__qualname__} {zone if known else ''}")


def _slotted(*names: str) -> Callable[[Any], bytes | None]:
    def encode(value: Any) -> bytes | None:
        pieces = [plain(getattr(value, name)) for name in names]
        return None if None in pieces else frame(b"", *[p for p in pieces if p is not None])

    return encode


_SCALARS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"N",
    type(...): lambda value: b"E",
    type(NotImplemented): lambda value: b"I",
    bool: lambda value: b"T" if value else b"F",
    int: lambda value: b"i" + _int(value),
    float: lambda value: b"f" + _float(value),
    complex: lambda value: b"c" + frame(b"", _float(value.real), _float(value.imag)),
    str: lambda value: b"s" + text(value),
    bytes: lambda value: b"b" + value,
}

# By name, so that nothing is imported for a type that the program does not use.
_BY_NAME: dict[tuple[str, str], Callable[[Any], bytes | None]] = {
    ("builtins", "range"): _slotted("start", "stop", "step"),
    ("builtins", "slice"): _slotted("start", "stop", "step"),
    ("decimal", "Decimal"): lambda value: text(str(value)),
    ("fractions", "Fraction"): _slotted("numerator", "denominator"),
    ("uuid", "UUID"): lambda value: text(value.hex),
    ("datetime", "datetime"): _datetime,
    ("datetime", "date"): lambda value: text(value.isoformat()),
    ("datetime", "timedelta"): _slotted("days", "seconds", "microseconds"),
    ("datetime", "timezone"): lambda value: text(str(value)),
    ("re", "Pattern"): _slotted("pattern", "flags"),
    ("pathlib", "PosixPath"): lambda value: text(str(value)),
    ("pathlib", "WindowsPath"): lambda value: text(str(value)),
    ("pathlib", "PurePosixPath"): lambda value: text(str(value)),
    ("pathlib", "PureWindowsPath"): lambda value: text(str(value)),
}


def plain(value: Any) -> bytes | None:
    """The canonical bytes of an immutable value; None if it is anything else.

    Tuples and frozensets are immutable if their items are; nested ones count by
    a digest, so that a tuple that holds the same tuple twice, and so on, stays
    small. Subclasses are not plain: their behaviour is code.
    """
    scalar = _SCALARS.get(type(value))
    return scalar(value) if scalar is not None else _plain(value, {})


def _plain(value: Any, known: dict[int, bytes]) -> bytes | None:
    kind = type(value)
    scalar = _SCALARS.get(kind)
    if scalar is not None:
        return scalar(value)
    if kind is tuple or kind is frozenset:
        return _items(value, known)
    qualname = _qualname_of_type(kind)
    encode = _BY_NAME.get((module_of(kind), qualname))
    body = encode(value) if encode is not None else None
    return None if body is None else frame(b"o", text(qualname), body)


def _items(values: Any, known: dict[int, bytes]) -> bytes | None:
    found = known.get(id(values))
    if found is not None:
        return found
    pieces: list[bytes] = []
    for value in values:
        piece = _plain(value, known)
        if piece is None:
            return None
        if len(piece) > 64 and type(value) in (tuple, frozenset):
            piece = b"#" + blake2b(piece, digest_size=32).digest()
        pieces.append(piece)
    ordered = type(values) is tuple
    found = known[id(values)] = frame(b"t", *pieces) if ordered else frame(b"z", *sorted(pieces))
    return found


def module_of(kind: type) -> str:
    # `kind.__module__` would ask the metaclass, which may be the user's code.
    found = _module_of_type(kind)
    return found if type(found) is str else ""
