"""Instants and lengths of time as people read and write them. Knows no clock: ``now`` is given."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from kitaru.errors import KitaruUsageError

_UNITS = {
    "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400,
}  # fmt: skip
_LENGTH = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(s|sec|m|min|h|d|w)\s*(?:ago)?\s*")


def ago(at: datetime, now: datetime) -> str:
    """How long ago, in one unit; beyond four weeks the day itself.

    >>> now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    >>> ago(now - timedelta(minutes=3, seconds=40), now)
    '3 min ago'
    >>> ago(datetime(2025, 12, 24, tzinfo=UTC), now)
    '2025-12-24'
    """
    seconds = (now - at).total_seconds()
    if seconds < 0:
        return "just now" if seconds > -60 else full(at)
    if seconds < 5:
        return "just now"
    if seconds >= 28 * 86_400:
        return at.strftime("%Y-%m-%d")
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {name} ago"
    return f"{int(seconds)} s ago"


def full(at: datetime) -> str:
    """The instant in UTC, to the second."""
    return at.strftime("%Y-%m-%d %H:%M:%SZ")


def took(start: datetime | None, end: datetime | None) -> str:
    """How long something lasted; empty where it has not begun or not ended."""
    if start is None or end is None:
        return ""
    return lasted(max(timedelta(), end - start).total_seconds())


def lasted(seconds: float) -> str:
    """A length of time to three digits or so.

    >>> lasted(0.0042), lasted(3.21), lasted(75), lasted(3 * 3600 + 20 * 60)
    ('4 ms', '3.2 s', '1 min 15 s', '3 h 20 min')
    """
    if seconds < 0.0005:
        return "<1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for (name, size), (below, small) in (
        (("d", 86_400), ("h", 3_600)),
        (("h", 3_600), ("min", 60)),
        (("min", 60), ("s", 1)),
    ):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {name}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def looks_like_time(text: str) -> bool:
    """Whether a word means a time: ``2h``, ``3d``, ``2026-03-01``; not (part of) an id."""
    return bool(_LENGTH.fullmatch(text) or re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text))


def parse_time(text: str, now: datetime, *, option: str) -> datetime:
    """The instant that a person means by ``2h`` (before now) or ``2026-03-01[T12:00]`` (UTC).

    >>> parse_time("90min", datetime(2026, 3, 1, 12, tzinfo=UTC), option="--since").hour
    10
    """
    found = _LENGTH.fullmatch(text)
    try:
        if found:
            return now - timedelta(seconds=float(found[1]) * _UNITS[found[2]])
        at = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise KitaruUsageError(
            f"{option} {text[:60]!r} is no time: write how long ago (30min, 2h, 7d) or a day or an "
            "instant in UTC (2026-03-01, 2026-03-01T12:00)",
            code="option-invalid",
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
