"""Values of the standard library that are one short text or number: a table.

Each kind is found by its exact type and written without looking into other
values. Modules such as ``decimal`` are touched only once a value of theirs
turns up: a class is recognised by name and then proved to be that very class.
"""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, NamedTuple

from kitaru._core.values.paths import module_of, qualname_of

MAX_PLAIN_INT = 1 << 2000
"""Integers beyond are written in hexadecimal: ``sys.set_int_max_str_digits`` allows
640 digits at least, so that no setting of it can make a value unreadable."""

MAX_FRACTION_DIGITS = 10_000
"""In hexadecimal, of each part. To make a fraction takes time with their square: what a
store holds must not cost minutes."""


class Leaf(NamedTuple):
    """How values of one exact type are written and read.

    ``write`` gives a plain JSON value, or None if this one has no encoding.
    ``read`` may raise anything on input that ``write`` did not make.
    """

    tag: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def write_float(value: float) -> str:
    return "nan" if value != value else "inf" if value > 0 else "-inf"


def _read_float(text: str) -> float:
    return {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}[text]


def _read_int(text: str) -> int:
    if len(text) > 2 and text.lstrip("-").startswith("0x"):
        return int(text, 16)
    raise ValueError(text)


def write_paired_surrogates(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").hex()


def _read_paired_surrogates(text: str) -> str:
    # One surrogate at a time: a decoder that sees both makes one character of them.
    return bytes.fromhex(text).decode("utf-8", "surrogatepass")


def _write_bytes(value: bytes | bytearray) -> str:
    return b64encode(value).decode("ascii")


def _read_bytes(text: str) -> bytes:
    return b64decode(text, validate=True)


def _read_bytearray(text: str) -> bytearray:
    return bytearray(b64decode(text, validate=True))


def _write_part(value: float) -> Any:
    return value if value - value == 0 else write_float(value)


def _write_complex(value: complex) -> list[Any]:
    return [_write_part(value.real), _write_part(value.imag)]


def _read_complex(parts: list[Any]) -> complex:
    real, imaginary = (p if type(p) is float else _read_float(p) for p in parts)
    return complex(real, imaginary)


def _write_range(value: range) -> list[str]:
    return [hex(value.start), hex(value.stop), hex(value.step)] if _is_huge(value) else _ends(value)


def _is_huge(value: range) -> bool:
    return any(abs(end) >= MAX_PLAIN_INT for end in _ends(value))


def _ends(value: range) -> list[Any]:
    return [value.start, value.stop, value.step]


def _read_range(ends: list[Any]) -> range:
    start, stop, step = (end if type(end) is int else _read_int(end) for end in ends)
    return range(start, stop, step)


def write_zone(zone: Any) -> Any:
    """A time zone as JSON: ``["name"]`` a zoneinfo key, else ``[seconds, microseconds, name?]``."""
    from datetime import timezone

    if type(zone) is timezone:
        arguments: tuple[Any, ...] = zone.__getinitargs__()  # type: ignore[attr-defined]
        offset = arguments[0]
        name = arguments[1] if len(arguments) > 1 else None
        seconds = offset.days * 86400 + offset.seconds
        return (
            [seconds, offset.microseconds] if name is None else [seconds, offset.microseconds, name]
        )
    if _is_class(type(zone), "zoneinfo", "ZoneInfo") and type(zone.key) is str:
        return [zone.key]
    return None


def read_zone(parts: list[Any]) -> Any:
    from datetime import timedelta, timezone

    if len(parts) == 1:
        from zoneinfo import ZoneInfo

        return ZoneInfo(parts[0])
    return timezone(timedelta(seconds=parts[0], microseconds=parts[1]), *parts[2:])


def _write_clock(value: Any) -> Any:
    """A datetime or time: its text, or ``[text, zone, fold]`` where the text is not all."""
    if value.tzinfo is None:
        return [value.isoformat(), None, value.fold] if value.fold else value.isoformat()
    zone = write_zone(value.tzinfo)
    if zone is None:
        return None
    if len(zone) == 2 and not value.fold:
        return value.isoformat()  # the text shows a fixed offset
    return [value.replace(tzinfo=None).isoformat(), zone, value.fold]


def _read_clock(kind: str, stored: Any) -> Any:
    import datetime

    cls: Any = getattr(datetime, kind)
    if type(stored) is str:
        return cls.fromisoformat(stored)
    text, zone, fold = stored
    tzinfo = None if zone is None else read_zone(zone)
    return cls.fromisoformat(text).replace(tzinfo=tzinfo, fold=fold)


def _read_date(text: str) -> Any:
    from datetime import date

    return date.fromisoformat(text)


def _write_delta(value: Any) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _read_delta(parts: list[int]) -> Any:
    from datetime import timedelta

    days, seconds, microseconds = parts
    return timedelta(days, seconds, microseconds)


def _read_decimal(text: str) -> Any:
    from decimal import Decimal

    return Decimal(_text(text))


def _read_uuid(text: str) -> Any:
    from uuid import UUID

    return UUID(_text(text))


def _write_fraction(value: Any) -> list[str] | None:
    parts = [hex(value.numerator), hex(value.denominator)]
    return parts if max(map(len, parts)) <= MAX_FRACTION_DIGITS else None


def _read_fraction(parts: list[str]) -> Any:
    from fractions import Fraction

    if max(map(len, parts)) > MAX_FRACTION_DIGITS:
        raise ValueError("too long")
    return Fraction(int(parts[0], 16), int(parts[1], 16))


def _reader_of(module: str, name: str) -> Callable[[Any], Any]:
    def read(text: str) -> Any:
        return getattr(__import__(module), name)(_text(text))

    return read


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("not a text")
    return value


def _write_array(value: Any) -> list[Any] | None:
    if value.typecode in ("u", "w"):
        return None  # characters, whose size depends on the platform
    data = b64encode(value.tobytes()).decode("ascii")
    return [value.typecode, value.itemsize, sys.byteorder, data]


def _read_array(parts: list[Any]) -> Any:
    from array import array

    typecode, item_bytes, order, data = parts
    made = array(_text(typecode))
    if made.typecode in ("u", "w") or made.itemsize != item_bytes:
        raise ValueError(typecode)
    made.frombytes(_read_bytes(data))
    if order != sys.byteorder:
        made.byteswap()
    return made


def _read_ellipsis(text: str) -> Any:
    return {"...": ...}[text]


def _write_secret(value: Any) -> list[str]:
    return list(value.reference())


def _read_secret(reference: Any) -> Any:
    from kitaru.secret import from_reference

    return from_reference(reference)


_BUILTIN: dict[type, Leaf] = {
    bytes: Leaf("bytes", _write_bytes, _read_bytes),
    bytearray: Leaf("bytearray", _write_bytes, _read_bytearray),
    complex: Leaf("complex", _write_complex, _read_complex),
    range: Leaf("range", _write_range, _read_range),
    type(...): Leaf("ellipsis", lambda _: "...", _read_ellipsis),
}

_NETWORK = ("Address", "Network", "Interface")

_BY_NAME: dict[tuple[str, str], Leaf] = {
    ("datetime", "datetime"): Leaf(
        "datetime", _write_clock, lambda stored: _read_clock("datetime", stored)
    ),
    ("datetime", "time"): Leaf("time", _write_clock, lambda stored: _read_clock("time", stored)),
    ("datetime", "date"): Leaf("date", lambda value: value.isoformat(), _read_date),
    ("datetime", "timedelta"): Leaf("timedelta", _write_delta, _read_delta),
    ("datetime", "timezone"): Leaf("timezone", write_zone, read_zone),
    ("zoneinfo", "ZoneInfo"): Leaf("zoneinfo", write_zone, read_zone),
    ("decimal", "Decimal"): Leaf("decimal", str, _read_decimal),
    ("uuid", "UUID"): Leaf("uuid", str, _read_uuid),
    ("fractions", "Fraction"): Leaf("fraction", _write_fraction, _read_fraction),
    ("kitaru.secret", "Secret"): Leaf("secret", _write_secret, _read_secret),
    ("array", "array"): Leaf("array", _write_array, _read_array),
    ("pathlib", "PosixPath"): Leaf("path", str, _reader_of("pathlib", "Path")),
    ("pathlib", "WindowsPath"): Leaf("path", str, _reader_of("pathlib", "Path")),
    ("pathlib", "PurePosixPath"): Leaf(
        "pure-posix-path", str, _reader_of("pathlib", "PurePosixPath")
    ),
    ("pathlib", "PureWindowsPath"): Leaf(
        "pure-windows-path", str, _reader_of("pathlib", "PureWindowsPath")
    ),
    **{
        ("ipaddress", f"IPv{version}{kind}"): Leaf(
            f"ipv{version}-{kind.lower()}", str, _reader_of("ipaddress", f"IPv{version}{kind}")
        )
        for version in (4, 6)
        for kind in _NETWORK
    },
}

READERS: dict[str, Callable[[Any], Any]] = {
    leaf.tag: leaf.read for leaf in (*_BUILTIN.values(), *_BY_NAME.values())
} | {"float": _read_float, "int": _read_int, "str": _read_paired_surrogates}

_known: dict[type, Leaf] = dict(_BUILTIN)


def leaf_of(cls: type) -> Leaf | None:
    """How values of exactly this class are written, if the table has it."""
    leaf = _known.get(cls)
    if leaf is not None:
        return leaf
    module, name = _public_module(module_of(cls)), qualname_of(cls)
    found = _BY_NAME.get((module, name))
    if found is None or not _is_class(cls, module, name):
        return None
    _known[cls] = found
    return found


def _public_module(module: str) -> str:
    # Since Python 3.13 pathlib is a package whose classes live in a private module.
    return "pathlib" if module == "pathlib._local" else module


def _is_class(cls: type, module: str, name: str) -> bool:
    """Whether ``cls`` is that very class: a name alone may lie."""
    loaded = sys.modules.get(module)
    return loaded is not None and loaded.__dict__.get(name) is cls
