"""What a resume leaves on record for people: notes, reasons, sources."""

from __future__ import annotations

from typing import Any

import pytest

from .corpus import SCENARIOS
from .harness import ForkServer

pytestmark = pytest.mark.slow


def _after(server: ForkServer, name: str, recorded: int) -> dict[str, Any]:
    """The execution with the key, when life 1 died right after its n-th recorded call."""
    scenario = SCENARIOS[name]
    points = server.reference(scenario, scenario.variants[0])["points"]
    records = [i for i, point in enumerate(points, start=1) if point == "after_commit:Record"]
    found = server.trial(name, records[recorded - 1])
    assert found["ended"][0]["died_at"] == "after_commit:Record"
    execution: dict[str, Any] = next(e for e in found["final"]["executions"] if e["key"])
    return execution


def test_a_drift_is_noted_and_the_call_runs_again(server: ForkServer) -> None:
    execution = _after(server, "drift", 2)
    drifts = [message for kind, message in execution["notes"] if kind == "drift"]
    assert len(drifts) == 1
    assert "what changed" in drifts[0]
    assert len(execution["calls"]) == 4


def test_no_drift_is_noted_where_nothing_was_recorded(server: ForkServer) -> None:
    execution = _after(server, "drift", 1)
    assert [message for kind, message in execution["notes"] if kind == "drift"] == []
    assert len(execution["calls"]) == 3


def test_a_strict_flow_fails_with_a_divergence(server: ForkServer) -> None:
    execution = _after(server, "strictly", 1)
    assert execution["status"] == "failed"
    assert "KitaruDivergenceError" in execution["reason"]
    assert len(execution["calls"]) == 1


@pytest.mark.parametrize(("name", "rows"), [("added", 4), ("removed", 3), ("reordered", 4)])
def test_checkpoints_that_come_go_or_move_run_only_where_they_are_new(
    server: ForkServer, name: str, rows: int
) -> None:
    execution = _after(server, name, 2)
    assert execution["status"] == "completed"
    assert len(execution["calls"]) == rows


def test_what_another_execution_recorded_is_reused_and_marked(server: ForkServer) -> None:
    reused = [
        call
        for call in _after(server, "reuses", 2)["calls"]
        if call["checkpoint"].endswith(("shared", "shared_sample"))
    ]
    assert {call["source"] for call in reused} == {"reused"}
    assert len(reused) == 6


def test_a_takeover_is_noted(server: ForkServer) -> None:
    execution = _after(server, "sequential", 2)
    assert [kind for kind, _ in execution["notes"]] == ["takeover"]
    assert (execution["epoch"], execution["status"]) == (2, "completed")


def test_the_fifth_death_without_anything_new_fails_the_execution(server: ForkServer) -> None:
    # The trial itself finds that the result is not the usual one.
    with pytest.raises(AssertionError, match="died 5 times"):
        server.trial("sequential", *["flow"] * 5)
    ended = server.trial("sequential", *["flow"] * 4)["ended"]
    assert [life.get("died_at") for life in ended] == ["flow"] * 4 + [None]
