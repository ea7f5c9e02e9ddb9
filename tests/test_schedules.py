"""When a schedule fires, held against a clock that is watched minute by minute."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from kitaru._core.schedules import (
    MAX_COUNTED,
    MAX_MISSED,
    Due,
    Schedule,
    check_schedule,
    due_fires,
    next_fire,
)
from kitaru.errors import KitaruUsageError

MINUTE = timedelta(minutes=1)

LEAPS = [
    ("Europe/Berlin", date(2026, 3, 28)),
    ("Europe/Berlin", date(2026, 10, 24)),
    ("America/New_York", date(2026, 3, 7)),
    ("America/New_York", date(2026, 10, 31)),
    ("Australia/Lord_Howe", date(2026, 4, 4)),  # half an hour
    ("Australia/Lord_Howe", date(2026, 10, 3)),
    ("America/Sao_Paulo", date(2018, 11, 3)),  # at midnight: a day without 0:00
    ("America/Sao_Paulo", date(2018, 2, 17)),
    ("America/St_Johns", date(2006, 4, 1)),  # a minute after midnight
    ("America/St_Johns", date(2006, 10, 28)),
    ("Pacific/Apia", date(2011, 12, 29)),  # a day that never was
    ("Pacific/Kwajalein", date(1993, 8, 20)),
    ("Africa/Casablanca", date(2026, 2, 14)),
    ("Asia/Kathmandu", date(2026, 5, 1)),
    ("UTC", date(2026, 3, 28)),
]


def micros(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def instant(text: str, zone: str = "UTC", fold: int = 0) -> int:
    return micros(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold))


def shown(at: int | None, zone: str = "UTC") -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at / 1e6, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M%z")


def fires(schedule: Schedule, after: int, until: int) -> Iterator[int]:
    while (found := next_fire(schedule, after)) is not None and found <= until:
        yield found
        after = found


# --- the oracle: look at the clock each minute -----------------------------------------------


def watched(zone: str, day: date) -> list[tuple[int, datetime]]:
    """(instant, what the clock shows) of every minute of some days."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=14)
    minutes = (start + number * MINUTE for number in range(4 * 1440))
    return [(micros(at), at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for at in minutes]


def random_field(rng: random.Random, low: int, high: int) -> tuple[str, set[int]]:
    kind = rng.randrange(4)
    if kind == 0:
        return "*", set(range(low, high + 1))
    if kind == 1:
        step = rng.choice([2, 7, 20])
        return f"*/{step}", set(range(low, high + 1)[::step])
    if kind == 2:
        first = rng.randint(low, min(low + 4, high))
        last = rng.randint(first, high)
        return f"{first}-{last}", set(range(first, last + 1))
    some = {rng.randint(low, high) for _ in range(3)} | {low}
    return ",".join(map(str, sorted(some))), some


@pytest.mark.parametrize(("zone", "day"), LEAPS, ids=lambda value: str(value))
def test_every_fire_is_one_that_watching_the_clock_would_give(zone: str, day: date) -> None:
    rng = random.Random(f"{zone} {day}")
    clock = watched(zone, day)
    leaps = 0
    for _ in range(12):
        minute, minutes = random_field(rng, 0, 59)
        hour, hours = random_field(rng, 0, 23)
        if rng.random() < 0.5:  # the hours around which clocks are changed
            hours = {0, 1, 2, 3} if rng.random() < 0.5 else {2}
            hour = ",".join(map(str, sorted(hours)))
        schedule = Schedule(f"{minute} {hour} * * *", zone, "last")

        def matches(wall: datetime, minutes: set[int] = minutes, hours: set[int] = hours) -> bool:
            return wall.minute in minutes and wall.hour in hours

        if "*" in minute or "*" in hour:
            expected = [at for at, wall in clock[1:] if matches(wall)]
        else:
            walls = [clock[0][1] + number * MINUTE for number in range(1, 6 * 1440)]
            shows = [next((at for at, w in clock if w >= wall), None) for wall in walls
                     if matches(wall)]  # fmt: skip
            expected = sorted({at for at in shows if at is not None})
            leaps += len([at for at in shows if at is not None]) - len(expected)
        found = list(fires(schedule, clock[0][0], clock[-1][0]))
        assert [shown(at, zone) for at in found] == [shown(at, zone) for at in expected], schedule
    if zone in ("Pacific/Apia", "Pacific/Kwajalein"):
        assert leaps > 0  # the day that never was has moved fires onto one another


def test_days_are_those_of_the_calendar() -> None:
    rng = random.Random(7)
    days = [date(2024, 1, 1) + timedelta(days=number) for number in range(4 * 366 + 1)]
    for _ in range(40):
        day, in_days = random_field(rng, 1, 31)
        month, in_months = random_field(rng, 1, 12)
        weekday, in_weekdays = random_field(rng, 0, 6)
        schedule = Schedule(f"0 12 {day} {month} {weekday}", "UTC", "last")
        both = day.startswith("*") or weekday.startswith("*")
        expected = []
        for each in days[1:]:
            hits = (each.day in in_days, each.isoweekday() % 7 in in_weekdays)
            if each.month in in_months and (all(hits) if both else any(hits)):
                expected.append(each)
        found = [
            datetime.fromtimestamp(at / 1e6, UTC).date()
            for at in fires(schedule, instant("2024-01-01 12:00"), instant("2028-01-04 13:00"))
        ]
        assert found == expected, schedule


# --- named cases, as the page on schedules states them ----------------------------------------


def test_the_29th_of_february_comes_every_four_years_but_not_in_2100() -> None:
    leap_day = Schedule("0 0 29 2 *", "UTC", "last")
    found = fires(leap_day, instant("2091-01-01"), instant("2105-01-01"))
    assert [shown(at) for at in found] == ["2092-02-29 00:00+0000", "2096-02-29 00:00+0000",
                                          "2104-02-29 00:00+0000"]  # fmt: skip


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("30 2 * * *", "2026-03-28 12:00", "2026-03-29 03:00+0200"),
        ("30 2 * * *", "2026-03-29 03:00", "2026-03-30 02:30+0200"),
        ("30 2 * * *", "2026-10-24 12:00", "2026-10-25 02:30+0200"),
        ("30 2 * * *", "2026-10-25 02:30", "2026-10-26 02:30+0100"),
        ("*/30 2 * * *", "2026-03-28 12:00", "2026-03-30 02:00+0200"),
        ("*/30 * * * *", "2026-10-25 02:30", "2026-10-25 02:00+0100"),
        ("0 0 L * *", "2026-02-01 00:00", "2026-02-28 00:00+0100"),
        ("0 9 * * MON#1", "2026-03-03 00:00", "2026-04-06 09:00+0200"),
    ],
)
def test_a_clock_that_leaps_fires_as_is_stated(cron: str, after: str, expected: str) -> None:
    schedule = check_schedule(cron, "Europe/Berlin", "last")
    found = next_fire(schedule, instant(after, "Europe/Berlin"))
    assert shown(found, "Europe/Berlin") == expected


def test_nothing_fires_twice_where_the_second_pass_of_an_hour_is_asked_for() -> None:
    schedule = Schedule("30 2 * * *", "Europe/Berlin", "last")
    second_pass = instant("2026-10-25 02:10", "Europe/Berlin", fold=1)
    found = shown(next_fire(schedule, second_pass), "Europe/Berlin")
    assert found == "2026-10-26 02:30+0100"


def test_a_fire_time_is_behind_the_instant_it_is_asked_from_to_the_microsecond() -> None:
    hourly = Schedule("0 * * * *", "Europe/Berlin", "last")
    hour = 3_600_000_000
    assert next_fire(hourly, 5 * hour - 1) == 5 * hour
    assert next_fire(hourly, 5 * hour) == next_fire(hourly, 5 * hour + 1) == 6 * hour


# --- what was missed ----------------------------------------------------------------------


HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("missed", "now", "expected"),
    [
        ("last", 5 * HOUR, Due((5 * HOUR,), 0, 6 * HOUR)),
        ("skip", 5 * HOUR + 59_000_000, Due((5 * HOUR,), 0, 6 * HOUR)),
        ("skip", 5 * HOUR + 61_000_000, Due((), 1, 6 * HOUR)),
        ("skip", 9 * HOUR, Due((9 * HOUR,), 4, 10 * HOUR)),
        ("last", 9 * HOUR + 1, Due((9 * HOUR,), 4, 10 * HOUR)),
        ("all", 7 * HOUR, Due((5 * HOUR, 6 * HOUR, 7 * HOUR), 0, 8 * HOUR)),
    ],
)
def test_what_was_missed_is_skipped_or_made_up_for(missed: str, now: int, expected: Due) -> None:
    assert due_fires(Schedule("0 * * * *", "UTC", missed), 5 * HOUR, now) == expected


def test_of_all_that_was_missed_the_newest_are_made_up_for_and_the_rest_is_counted() -> None:
    now = 10_000 * HOUR + 1
    due = due_fires(Schedule("0 * * * *", "UTC", "all"), HOUR, now)
    assert due.fires == tuple(n * HOUR for n in range(10_000 - MAX_MISSED + 1, 10_001))
    assert due.skipped == MAX_COUNTED


def test_making_up_for_a_year_of_minutes_looks_at_a_few_of_them() -> None:
    january = Schedule("* * * 1 *", "Europe/Berlin", "all")
    due = due_fires(january, instant("2025-01-05"), instant("2026-07-01"))
    assert len(due.fires) == MAX_MISSED
    assert shown(due.fires[-1], "Europe/Berlin") == "2026-01-31 23:59+0100"
    assert shown(due.next_at, "Europe/Berlin") == "2027-01-01 00:00+0100"


def test_an_instant_that_is_no_fire_time_any_more_moves_on_without_a_fire() -> None:
    """A zone's rules may change while an instant is recorded."""
    assert due_fires(Schedule("0 * * * *", "UTC", "all"), 5 * HOUR + 7, 5 * HOUR + 9) == Due(
        (), 0, 6 * HOUR
    )


# --- what cannot be said ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "timezone", "missed", "said"),
    [
        ("61 7 * * *", None, "last", "the minute '61'"),
        ("0 25 * * *", None, "last", "the hour '25'"),
        ("0 7 32 * *", None, "last", "the day of the month '32'"),
        ("0 7 30 2 *", None, "last", "the day of the month '30'"),
        ("0 7 * 13 *", None, "last", "the month '13'"),
        ("0 7 * * fri-mon", None, "last", "the day of the week 'fri-mon'"),
        ("0 7 * *", None, "last", "five fields"),
        ("0 0 7 * * *", None, "last", "five fields"),
        ("@daily", None, "last", "five fields"),
        ("", None, "last", "five fields"),
        (7, None, "last", "schedule=7"),
        ("* " * 500, None, "last", "five fields"),
        ("0 7 * * *", "Europe/Berln", "last", "did you mean 'Europe/Berlin'?"),
        ("0 7 * * *", "../etc/passwd", "last", "no such time zone"),
        ("0 7 * * *", "a\0b", "last", "no such time zone"),
        ("0 7 * * *", 1, "last", "timezone=1"),
        ("0 7 * * *", None, "never", "missed='never'"),
        ("0 7 * * *", None, None, "missed=None"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_by_its_field(
    cron: object, timezone: object, missed: object, said: str
) -> None:
    with pytest.raises(KitaruUsageError, match="@flow") as refused:
        check_schedule(cron, timezone, missed)
    assert said in str(refused.value)
    assert refused.value.code == "schedule-invalid"
