"""Volatile arguments: recognised when fresh, silent about everything else."""

from __future__ import annotations

import datetime
import math
import random
import statistics
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru._core.volatile import find_volatile

NOW = 1_790_000_000_123_456
SECONDS = NOW / 1e6
NOW_UTC = datetime.datetime.fromtimestamp(SECONDS, datetime.UTC)


@dataclass
class Event:
    name: str
    at: Any


def look(value: Any, known: Any = ()) -> Any:
    return find_volatile({"value": value}, now=NOW, known=known)


@pytest.mark.parametrize(
    ("value", "looks_like"),
    [
        (NOW_UTC, "a fresh datetime"),
        (NOW_UTC - datetime.timedelta(seconds=5), "a fresh datetime"),
        (NOW_UTC.replace(tzinfo=None), "a fresh datetime"),
        (datetime.datetime.fromtimestamp(SECONDS), "a fresh datetime"),
        (NOW_UTC.astimezone(datetime.timezone(datetime.timedelta(hours=5))), "a fresh datetime"),
        (uuid.UUID("0b0c7e66-6f3c-4c9d-9a43-0f6a2b1f6d11"), "a random uuid"),
        (SECONDS - 1.5, "the current time as a float"),
        (SECONDS * 1000, "the current time as a float"),
        (NOW // 10**6, "the current time as an int"),
        (NOW // 10**3, "the current time as an int"),
        (NOW, "the current time as an int"),
        (NOW * 1000, "the current time as an int"),
        (random.Random(1).random(), "a random float"),
    ],
)
def test_what_was_just_read_from_a_clock_or_made_at_random_is_recognised(
    value: Any, looks_like: str
) -> None:
    assert look(value) == ("value", looks_like)
    for inside in ([1, value], (value,), {"k": value}, Event("x", value)):
        assert look(inside) == ("value", looks_like)


@pytest.mark.parametrize(
    "value",
    [
        "text", "", None, True, 0, 1, 7, -1, 42, 1_000_000, 2**31, 10**12, 10**18, 2**80,
        0.5, 0.25, 0.1, 1 / 3, 2 / 3, 0.1 + 0.2, 0.7 * 0.7, 0.99, 9.99, 19.95, 1e-9, 1e300,
        5 / 7, 233 / 255, 1234 / 5678, math.sqrt(0.5), math.sqrt(2 / 3),
        0.0, -0.0, math.nan, math.inf, 1.0, -0.3, 3.14159, math.pi, 1_700_000_000.0,
        statistics.mean([0.7, 0.8, 0.95]),
        datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
        NOW_UTC + datetime.timedelta(days=1), NOW_UTC - datetime.timedelta(hours=1),
        datetime.datetime.min, datetime.datetime.max, NOW_UTC.date(),
        uuid.uuid5(uuid.NAMESPACE_DNS, "example.org"), uuid.UUID(int=0),
        uuid.UUID("d9428888-122b-11e1-b85c-61cd3cbb3210"), "0b0c7e66-6f3c-4c9d-9a43-0f6a2b1f6d11",
        [[SECONDS]], {"k": {"k": NOW}}, [], {}, b"bytes", object(), Event,
    ],
)  # fmt: skip
def test_there_is_no_false_alarm(value: Any) -> None:
    assert look(value) is None


def test_a_fresh_uuid_made_from_the_clock_is_recognised() -> None:
    seven = uuid.UUID(int=((NOW // 1000) << 80) | (7 << 76) | (2 << 62))
    assert look(seven) == ("value", "a fresh uuid")
    ticks = NOW * 10 + 122_192_928_000_000_000
    one = uuid.UUID(
        fields=(ticks & 0xFFFFFFFF, ticks >> 32 & 0xFFFF, ticks >> 48 & 0xFFF | 0x1000, 0x80, 0, 0)
    )
    assert look(one) == ("value", "a fresh uuid")


def test_what_kitaru_itself_gave_does_not_count() -> None:
    number, at = random.Random(1).random(), NOW_UTC
    assert look(number, known={number}) is None
    assert look([at], known={at}) is None
    assert look([at, number], known={at}) == ("value", "a random float")


def test_huge_numbers_and_broken_time_zones_raise_nothing() -> None:
    class Broken(datetime.tzinfo):
        def utcoffset(self, when: datetime.datetime | None) -> datetime.timedelta | None:
            raise RuntimeError("no")

    for value in (10**400, -(10**400), datetime.datetime(2026, 1, 1, tzinfo=Broken())):
        assert look(value) is None


def test_the_argument_is_named_without_its_stars() -> None:
    bound = {"a": 1, "*rest": (1, NOW), "**at": NOW}
    assert find_volatile(bound, now=NOW) == ("rest", "the current time as an int")
    assert find_volatile({"**at": NOW}, now=NOW) == ("at", "the current time as an int")


def test_a_long_list_is_looked_at_only_in_front() -> None:
    assert look([0] * 1000 + [NOW]) is None


@given(st.fractions(0, 1, max_denominator=1000))
def test_no_simple_ratio_looks_random(ratio: Any) -> None:
    assert look(float(ratio)) is None


@given(st.decimals(0, 1, places=6))
def test_no_typed_number_looks_random(number: Any) -> None:
    assert look(float(number)) is None


def test_nearly_every_random_number_looks_random() -> None:
    source = random.Random(7)
    assert sum(look(source.random()) is not None for _ in range(1000)) > 950
