"""Many processes over one PostgreSQL store: at most one writes under an epoch, and none is hurt."""

from __future__ import annotations

from pathlib import Path

import pytest

from .histories import MIN_KILLS, MIN_TAKEOVERS, Accepted, Told, faults, play


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("processes", "outcomes"), [(5, 200), (10, 250), (20, 300)])
def test_processes_that_pause_and_are_killed_leave_a_history_without_a_fault(
    postgres_url: str, tmp_path: Path, processes: int, outcomes: int
) -> None:
    outcome = play(postgres_url, tmp_path, processes=processes, outcomes=outcomes, seed=processes)
    assert outcome.errors == [], "an error of the database reached the engine"
    assert outcome.faults == []
    assert outcome.accepted >= outcomes
    assert outcome.kills >= MIN_KILLS
    assert outcome.takeovers >= MIN_TAKEOVERS
    assert outcome.claims >= outcomes // 10, "an execution is claimed for six outcomes at most"


def test_a_good_history_has_no_fault() -> None:
    accepted = [Accepted(1, 7, 1, 1, 7), Accepted(1, 8, 2, 2, 8), Accepted(2, 7, 1, 1, 7)]
    told = [Told("claimed", 1, 7, 1), Told("claimed", 1, 8, 2), Told("recorded", 1, 8, 2, "ab")]
    assert faults(accepted, told, {(1, "ab")}) == []


@pytest.mark.parametrize(
    ("accepted", "told", "what"),
    [
        ([Accepted(1, 7, 1, 2, 8)], [], "stale"),
        ([Accepted(1, 8, 2, 2, 8), Accepted(1, 7, 1, 1, 7)], [], "came back"),
        ([Accepted(1, 7, 1, 1, 7), Accepted(1, 8, 1, 1, 8)], [], "two writers"),
        ([], [Told("claimed", 1, 7, 1), Told("claimed", 1, 8, 1)], "two claimers"),
        ([], [Told("recorded", 1, 7, 1, "ab")], "acknowledged"),
    ],
)
def test_each_fault_of_a_history_is_found(
    accepted: list[Accepted], told: list[Told], what: str
) -> None:
    (fault,) = faults(accepted, told, set())
    assert what in fault
