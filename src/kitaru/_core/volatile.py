"""Arguments that look as if they would be others after a crash.

A clock, a random number or a fresh id as an argument makes another call of each
life. This file only recognises them, soberly: a hint that cries wolf is ignored
the one time it matters. Texts are not looked into, and an id that came from a
database as a text is none of its business.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Container, Iterator, Mapping
from itertools import islice
from typing import Any
from uuid import UUID

from kitaru._core.values.paths import module_of
from kitaru._core.values.shapes import shape_of, state_of

FRESH_SECONDS = 60
"""How near to now an instant has to be to look like one that was just read from a clock."""

MAX_ITEMS = 64
"""Items looked at in one container."""

_UNITS_A_SECOND = (1, 10**3, 10**6, 10**9)
_UUID_EPOCH_SECONDS = -12_219_292_800
_MAX_DENOMINATOR = 100_000
_BITS_OF_RANDOM = 1 << 53


def may_look_volatile(value: object) -> bool:
    """Whether a value is of a kind that this file judges.

    >>> may_look_volatile(0.5), may_look_volatile("0.5")
    (True, False)
    """
    return id(type(value)) in _JUDGED


def find_volatile(
    bound: Mapping[str, object], *, now: int, known: Container[object] = ()
) -> tuple[str, str] | None:
    """``(argument, what it looks like)`` of the first argument that looks volatile, or None.

    ``now`` is in microseconds since the epoch. Looks at the arguments and one level
    into lists, tuples, dicts and data classes. Values in ``known`` do not count:
    those that ``kitaru.now()`` and its like gave, and the flow's own inputs.
    """
    for name, value in bound.items():
        cls = type(value)
        if cls is str or cls is bool or value is None:
            continue
        for each in _look_into(value, cls):
            if id(type(each)) not in _JUDGED:
                continue
            judge = _JUDGES[type(each)]
            try:
                looks_like = judge(each, now)
            except Exception:
                # A time zone of the user's may do anything; a hint must not.
                continue
            if looks_like is not None and each not in known:
                return name.lstrip("*"), looks_like
    return None


def _look_into(value: Any, cls: type) -> Iterator[object]:
    # By id and `is`: isinstance, == and hashes would run code of the user's.
    if id(cls) in _JUDGED:
        yield value
    elif cls is list or cls is tuple:
        yield from value[:MAX_ITEMS]
    elif cls is dict:
        yield from islice(value.values(), MAX_ITEMS)
    elif module_of(cls) != "builtins" and (shape := shape_of(cls)) is not None:
        yield from islice(state_of(value, shape).values(), MAX_ITEMS)


def _judge_datetime(value: datetime.datetime, now: int) -> str | None:
    seconds = now / 1e6
    if value.tzinfo is not None:
        distances = [value.timestamp() - seconds]
    else:
        # Both readings of a naive one: `datetime.now()` and `datetime.utcnow()`.
        utc = datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None)
        local = datetime.datetime.fromtimestamp(seconds)
        distances = [(value - utc).total_seconds(), (value - local).total_seconds()]
    return "a fresh datetime" if any(abs(d) <= FRESH_SECONDS for d in distances) else None


def _judge_uuid(value: UUID, now: int) -> str | None:
    if value.version == 4:
        return "a random uuid"
    if value.version in (1, 6, 7) and abs(_uuid_seconds(value) - now / 1e6) <= FRESH_SECONDS:
        return "a fresh uuid"
    return None


def _uuid_seconds(value: UUID) -> float:
    if value.version == 7:
        return (value.int >> 80) / 1e3
    if value.version == 6:
        ticks = (value.int >> 80) << 12 | (value.int >> 64) & 0xFFF
    else:
        ticks = value.time
    return ticks / 1e7 + _UUID_EPOCH_SECONDS


def _judge_int(value: int, now: int) -> str | None:
    # The upper end is beyond any count of nanoseconds, and divisible as a float.
    if not 10**9 <= value <= 10**20:
        return None
    return "the current time as an int" if _is_clock(value, now) else None


def _judge_float(value: float, now: int) -> str | None:
    if 0 < value < 1:
        return "a random float" if _is_random(value) else None
    if value >= 1e9 and _is_clock(value, now):
        return "the current time as a float"
    return None


def _is_clock(value: float, now: int) -> bool:
    return any(abs(value / unit - now / 1e6) <= FRESH_SECONDS for unit in _UNITS_A_SECOND)


def _is_random(value: float) -> bool:
    """Whether a float in (0, 1) may be from ``random.random()``: k / 2**53 without a pattern.

    A ratio of two counts and its square root are no random numbers; neither is what
    a person typed, nor a sum of a few such (0.1 + 0.2).
    """
    if value * _BITS_OF_RANDOM % 1 or len(repr(value)) < 17:
        return False
    return not (_is_ratio(value) or _is_ratio(value * value))


def _is_ratio(value: float) -> bool:
    """Whether some fraction with a small denominator is this number, but for rounding.

    By its continued fraction: whatever is that near is one of the convergents.
    """
    before, numerator, below_before, denominator = 0, 1, 1, 0
    rest = value
    while True:
        whole = int(rest)
        before, numerator = numerator, whole * numerator + before
        below_before, denominator = denominator, whole * denominator + below_before
        if denominator > _MAX_DENOMINATOR:
            return False
        if abs(value - numerator / denominator) < 1e-15:
            return True
        if rest == whole:
            return False
        rest = 1 / (rest - whole)


_JUDGES: dict[type, Callable[..., str | None]] = {
    datetime.datetime: _judge_datetime,
    UUID: _judge_uuid,
    int: _judge_int,
    float: _judge_float,
}

# By id: a metaclass may define __hash__ and __eq__, which would be the user's code.
_JUDGED = frozenset(map(id, _JUDGES))
