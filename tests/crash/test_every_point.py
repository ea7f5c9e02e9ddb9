"""Every scenario of the corpus, killed at every point it passes, and resumed."""

from __future__ import annotations

import pytest

from .corpus import SCENARIOS
from .harness import ForkServer

SEED = 20_261


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, each in SCENARIOS.items() if not each.costly])
def test_a_flow_that_is_killed_at_any_point_goes_on_to_the_same_result(
    server: ForkServer, name: str
) -> None:
    passed = server.sweep(name, seed=SEED)
    assert passed > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, each in SCENARIOS.items() if each.costly])
def test_a_costly_flow_that_is_killed_at_any_kind_of_point_goes_on_to_the_same_result(
    server: ForkServer, name: str
) -> None:
    points = server.reference(SCENARIOS[name], SCENARIOS[name].variants[0])["points"]
    kinds = {point: number for number, point in enumerate(points, 1)}
    assert {"body", "commit", "log"} <= set(kinds)
    for death in kinds.values():
        server.trial(name, death, seed=SEED + death)
