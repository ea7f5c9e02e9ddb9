"""Every scenario of the corpus, killed at every point it passes, and resumed."""

from __future__ import annotations

import pytest

from .corpus import SCENARIOS
from .harness import ForkServer

SEED = 20_261


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_flow_that_is_killed_at_any_point_goes_on_to_the_same_result(
    server: ForkServer, name: str
) -> None:
    passed = server.sweep(name, seed=SEED)
    assert passed > 5
