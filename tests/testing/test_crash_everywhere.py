"""`kitaru.testing.crash_everywhere`: finds flows that do not survive, and leaves the others."""

from __future__ import annotations

import asyncio

import pytest

import kitaru
from kitaru import KitaruUsageError, checkpoint, flow
from kitaru.testing import CrashReport, crash_everywhere


@checkpoint
def price(number: int) -> int:
    return 10 * number


@checkpoint
async def priced(number: int) -> int:
    return 10 * number


@flow
def total(count: int) -> int:
    return sum(price(number) for number in range(count))


@flow
def mapped(count: int) -> int:
    return sum(price.map(range(count)).results())


@flow
async def gathered(count: int) -> int:
    return sum(await asyncio.gather(*(priced(number) for number in range(count))))


@flow
def approved(count: int) -> int:
    before = price(count)
    if not kitaru.wait(name="approve", schema=bool):
        return 0
    kitaru.sleep(3600)
    return before + price(count + 1)


@flow
def fails(number: int) -> int:
    raise ValueError(f"no {price(number)}")


@pytest.mark.parametrize(
    ("tried", "result"), [(total, 30), (mapped, 30), (gathered, 30)], ids=lambda x: str(x)[:20]
)
def test_a_flow_that_survives_is_killed_everywhere(tried: object, result: int) -> None:
    report = crash_everywhere(tried, 3)  # type: ignore[arg-type]
    assert (report.result, report.failure, report.uncertain) == (result, None, 0)
    for point in ("before_commit:Start", "body", "after_commit:Record", "after_commit:Finish"):
        assert point in report.points


def test_waits_and_sleeps_are_survived_too() -> None:
    report = crash_everywhere(approved, 1, answers={"approve": True})
    assert report.result == 30
    assert "before_commit:Park" in report.points
    assert "killed at" in str(report)


def test_a_failure_has_to_be_the_same_failure() -> None:
    report = crash_everywhere(fails, 4)
    assert (report.result, report.failure) == (None, "ValueError: no 40")


def test_a_flow_that_counts_its_lives_is_found() -> None:
    lives: list[int] = []

    @flow
    def counts() -> int:
        lives.append(1)
        price(1)
        return len(lives)

    with pytest.raises(AssertionError, match="killed at point"):
        crash_everywhere(counts)


def test_what_is_no_flow_is_refused() -> None:
    with pytest.raises(KitaruUsageError):
        crash_everywhere(price, 1)  # type: ignore[arg-type]


def test_a_report_can_be_shown() -> None:
    assert str(CrashReport(("a", "b"), 5, None, 1)) == (
        "killed at 2 points, 1 of them up to a person, each time: 5"
    )
