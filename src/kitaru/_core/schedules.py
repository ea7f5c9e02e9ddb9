"""When a schedule fires: a cron line, a time zone and an instant -> the next fire times.

cronsim reads the line and steps through it on a clock without offsets; which instants
those walls of a clock are, where the zone's offset changes, is decided here, so that it
can be said in three sentences and is held against a brute-force oracle. Knows no store and
no clock of its own. The one door of cronsim.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from kitaru._core.names import shortened
from kitaru.errors import KitaruUsageError

MISSED = ("skip", "last", "all")

MAX_MISSED = 100
"""With ``missed="all"``, how many fire times are made up for: the newest."""

MAX_COUNTED = 1_000
"""Skipped fire times are counted up to here; from then on the number says "at least"."""

ON_TIME_SECONDS = 60
"""A fire time is on time for so long, however late a worker comes to it (``missed="skip"``)."""

MAX_LINE_CHARACTERS = 200

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
_CRONSIM_FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")
_RANGES = (
    *("0 to 59", "0 to 23", "1 to 31 where a month has it, L, LW"),
    *("1 to 12, JAN to DEC", "0 to 7, SUN to SAT"),
)
_SCAN = timedelta(hours=12)
_SECOND = timedelta(seconds=1)


class Schedule(NamedTuple):
    """When a flow starts by itself; made by :func:`check_schedule`."""

    cron: str
    timezone: str
    missed: str


class Due(NamedTuple):
    """What is to be done about a schedule whose time has come.

    ``fires`` are started, oldest first; ``skipped`` fire times before them are not.
    """

    fires: tuple[int, ...]
    skipped: int
    next_at: int | None


# --- what may be said ---------------------------------------------------------------------


def check_schedule(cron: object, timezone: object, missed: object) -> Schedule:
    """The schedule, or ``KitaruUsageError`` that names the field which cannot be.

    >>> check_schedule("0 7  * * mon", "Europe/Berlin", "last")
    Schedule(cron='0 7 * * mon', timezone='Europe/Berlin', missed='last')
    """
    if missed not in MISSED:
        raise _refused("missed", missed, 'pass "skip", "last" or "all"')
    if timezone is None:
        timezone = "UTC"
    if not isinstance(timezone, str):
        raise _refused("timezone", timezone, 'pass a name like "Europe/Berlin"')
    if not isinstance(cron, str) or len(cron) > MAX_LINE_CHARACTERS:
        raise _refused("schedule", cron, f"pass {_SHAPE}")
    schedule = Schedule(" ".join(cron.split()), timezone, str(missed))
    _check_line(schedule.cron)
    _check_zone(timezone)
    if next_fire(schedule, 0) is None:
        raise _refused("schedule", cron, "no day is ever like that: mend the line")
    return schedule


_SHAPE = 'a cron line of five fields, minute hour day month weekday: "0 7 * * *" is 7:00 each day'


def _check_line(cron: str) -> None:
    from cronsim import CronSim, CronSimError

    parts = cron.split()
    if len(parts) != len(_FIELDS):
        raise _refused("schedule", cron, f"it has not five fields; pass {_SHAPE}")
    try:
        CronSim(cron, datetime(2000, 1, 1))
    except (CronSimError, ValueError, AssertionError) as error:
        said = str(error).removeprefix("Bad ")
        if said not in _CRONSIM_FIELDS:
            raise _refused("schedule", cron, f"it cannot be read; pass {_SHAPE}") from None
        place = _CRONSIM_FIELDS.index(said)
        raise _refused(
            "schedule", cron,
            f"the {_FIELDS[place]} {parts[place]!r} cannot be: {_RANGES[place]}, "
            "lists 1,2, spans 1-5, steps */10",
        ) from None  # fmt: skip


def _check_zone(name: str) -> None:
    try:
        zone_of(name)
    except (KeyError, ValueError, OSError):
        import difflib
        import zoneinfo

        known = zoneinfo.available_timezones()
        if not known:
            raise _refused(
                "timezone", name,
                "this system knows no time zones: install its tzdata package, or Python's",
            ) from None  # fmt: skip
        near = difflib.get_close_matches(name, sorted(known), 1)
        hint = f"did you mean {near[0]!r}?" if near else 'pass a name like "Europe/Berlin"'
        raise _refused("timezone", name, f"there is no such time zone: {hint}") from None


def _refused(option: str, value: object, remedy: str) -> KitaruUsageError:
    return KitaruUsageError(
        f"@flow({option}={shortened(value)}): {remedy}", code="schedule-invalid"
    )


def zone_of(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # there on every system, and quicker
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


# --- when ---------------------------------------------------------------------------------


def next_fire(schedule: Schedule, after: int) -> int | None:
    """The first fire time behind ``after``, in microseconds since the epoch; None: none ever.

    A line with a fixed minute and hour means the clock on the wall: where that clock leaps
    over a fire time it fires at the first instant behind the leap, and where it goes back a
    fire time that comes twice fires once, the first time. Any other line (``*`` in the minute
    or the hour) means time that passes: it fires at every instant at which the clock shows
    what the line says, so an hour that comes twice has its fires twice, and one that is
    leapt over has none.

    >>> daily = Schedule("30 2 * * *", "Europe/Berlin", "last")
    >>> for day in (28, 29):  # on the 29th of March 2026 it is 3:00 after 1:59
    ...     after = datetime(2026, 3, day, tzinfo=UTC).timestamp() * 1e6
    ...     print(datetime.fromtimestamp(next_fire(daily, int(after)) / 1e6, UTC))
    2026-03-28 01:30:00+00:00
    2026-03-29 01:00:00+00:00
    """
    zone = zone_of(schedule.timezone)
    minute, hour, *_ = schedule.cron.split()
    on_the_wall = not minute.startswith("*") and not hour.startswith("*")
    find = _next_on_the_wall if on_the_wall else _next_as_time_passes
    found = find(schedule.cron, zone, _EPOCH + timedelta(microseconds=after))
    return None if found is None else (found - _EPOCH) // timedelta(microseconds=1)


def _walls(cron: str, after: datetime) -> Iterator[datetime]:
    """What the line says, on a clock without offsets, behind ``after``."""
    from cronsim import CronSim

    yield from CronSim(cron, after)


def _next_on_the_wall(cron: str, zone: tzinfo, after: datetime) -> datetime | None:
    # Walls in order are instants in order, so those up to this one are past.
    for wall in _walls(cron, _wall_of(after, _offset(zone, after))):
        instant = _instant_of(wall, zone)
        if instant > after:
            return instant
    return None


def _instant_of(wall: datetime, zone: tzinfo) -> datetime:
    """The first instant at which the clock shows this, or has just leapt over it."""
    instant = wall.replace(tzinfo=zone).astimezone(UTC)
    if _wall_of(instant, _offset(zone, instant)) == wall:
        return instant
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    change = _first_change(zone, before, instant)
    return instant if change is None else change


def _next_as_time_passes(cron: str, zone: tzinfo, after: datetime) -> datetime | None:
    start, offset = after, _offset(zone, after)
    base = _wall_of(after, offset)
    while True:
        wall = next(_walls(cron, base), None)
        if wall is None:
            return None
        found = wall.replace(tzinfo=UTC) - offset
        change = _first_change(zone, start, found)
        if change is None:
            return found
        # From here on the clock shows something else; what it shows first counts too.
        start, offset = change, _offset(zone, change)
        base = _wall_of(change, offset) - _SECOND


def _offset(zone: tzinfo, at: datetime) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def _wall_of(at: datetime, offset: timedelta) -> datetime:
    return at.replace(tzinfo=None) + offset


def _first_change(zone: tzinfo, start: datetime, end: datetime) -> datetime | None:
    """The first instant behind ``start``, up to ``end``, from which another offset holds."""
    if zone is UTC:
        return None
    before, low = _offset(zone, start), start
    while low < end:
        high = min(low + _SCAN, end)
        if _offset(zone, high) != before:
            return _bisected(zone, before, low, high)
        low = high
    return None


def _bisected(zone: tzinfo, before: timedelta, low: datetime, high: datetime) -> datetime:
    """Where ``before`` ends; it holds at ``low`` and not at ``high``. To the second."""
    first = int(low.timestamp())
    last = int(high.timestamp()) + 1
    while last - first > 1:
        middle = (first + last) // 2
        if _offset(zone, datetime.fromtimestamp(middle, UTC)) == before:
            first = middle
        else:
            last = middle
    return datetime.fromtimestamp(last, UTC)


# --- what was missed ------------------------------------------------------------------------


def due_fires(schedule: Schedule, due_at: int, now: int) -> Due:
    """What to start of the fire times from ``due_at``, the first that is open, up to ``now``.

    ``skip``: the last one, if it is on time. ``last``: the last one, however late it is.
    ``all``: every one, but the newest :data:`MAX_MISSED` at most.

    >>> hourly = Schedule("0 * * * *", "UTC", "last")
    >>> hour = 3_600_000_000
    >>> due_fires(hourly, 2 * hour, 5 * hour + 1)
    Due(fires=(18000000000,), skipped=3, next_at=21600000000)
    """
    fires = _latest(schedule, due_at, now, MAX_MISSED if schedule.missed == "all" else 1)
    if schedule.missed == "skip":
        fires = [at for at in fires if now - at <= ON_TIME_SECONDS * 1_000_000]
    until = fires[0] if fires else now + 1
    skipped = sum(1 for _ in _between(schedule, due_at - 1, until - 1, MAX_COUNTED))
    return Due(tuple(fires), skipped, next_fire(schedule, now))


def _between(schedule: Schedule, after: int, until: int, limit: int) -> Iterator[int]:
    """Fire times behind ``after``, up to ``until``."""
    for _ in range(limit):
        found = next_fire(schedule, after)
        if found is None or found > until:
            return
        yield found
        after = found


def _latest(schedule: Schedule, earliest: int, now: int, count: int) -> list[int]:
    """The last fire times from ``earliest`` up to ``now``, ``count`` at most.

    Looks back as far as it takes to find so many, and not so far that there are very many.
    """
    limit = 8 * count
    few, many = 0, None
    span = 3_600_000_000
    while True:
        begin = max(earliest - 1, now - span)
        found = list(_between(schedule, begin, now, limit + 1))
        if len(found) > limit:
            many = span
        elif len(found) >= count or begin < earliest:
            return found[-count:]
        else:
            few = span
        span = span * 4 if many is None else (few + many) // 2
