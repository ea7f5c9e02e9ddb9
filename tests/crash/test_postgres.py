"""The corpus over PostgreSQL: killed at each kind of point that a scenario passes.

Here those in which the store has most to decide; all scenarios, at every point:
``python -m tests.crash --store postgres --sweep``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import postgres

from .fleet import FleetServer

SEED = 20_261

NAMES = [
    "sequential",
    "large_result",
    "nested_async",
    "fan_out",
    "task_group",
    "map_async",
    "flow_retries",
    "retried_by_hand",
    "drift",
    "facts_at_once",
    "adopted",
    "reuses",
    "replay_from_a_call",
    "decided_to_adopt",
    "has_grandchildren",
    "waits_in_branches",
    "answered_by_two",
    "cancelled_in_a_body",
]


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str, postgres_template: str
) -> Iterator[FleetServer]:
    with postgres.database(postgres_server, like=postgres_template) as url:
        server = FleetServer(Path(tmp_path_factory.mktemp("fleet")), url)
        yield server
        server.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_flow_that_is_killed_at_any_kind_of_point_goes_on_to_the_same_result(
    fleet: FleetServer, name: str
) -> None:
    assert fleet.visit(name, seed=SEED) > 5
