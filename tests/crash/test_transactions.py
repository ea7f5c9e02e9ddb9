"""Bodies with a transaction, killed everywhere: their rows and their outcomes are the same set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests import postgres

from . import transactional
from .corpus import SCENARIOS, Scenario
from .fleet import FleetServer

SEED = 20_262


class PayingServer(FleetServer):
    """Judges after each life that the user's table and the record say the same."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(transactional.TABLE)
        self.judged = 0

    def _order(self, folder: Path, scenario: Scenario, **how: Any) -> dict[str, Any]:
        return {**super()._order(folder, scenario, **how), "also": transactional.__name__}

    def _inspect(self, folder: Path) -> dict[str, Any]:
        seen = super()._inspect(folder)
        for execution in seen["executions"]:
            paid = self._look.execute(
                "select mark from paid where exec_id = %s order by mark", (execution["exec_id"],)
            ).fetchall()
            outcomes = sorted(
                call["mark"] for call in execution["calls"] if call["state"] == "completed"
            )
            assert [mark for (mark,) in paid] == outcomes, execution
            self.judged += 1
        return seen


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str, postgres_template: str
) -> Iterator[PayingServer]:
    before = dict(SCENARIOS)
    transactional.enter()
    with postgres.database(postgres_server, like=postgres_template) as url:
        server = PayingServer(Path(tmp_path_factory.mktemp("paying")), url)
        yield server
        server.close()
    SCENARIOS.clear()
    SCENARIOS.update(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pays", "pays_async"])
def test_rows_and_outcomes_are_the_same_set_wherever_a_process_is_killed(
    fleet: PayingServer, name: str
) -> None:
    assert fleet.visit(name, seed=SEED) > 15
    points = fleet.reference(SCENARIOS[name], "")["points"]
    assert {"transaction_begun", "transaction_recorded", "transaction_over"} <= set(points)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pays", "pays_async"])
def test_they_are_after_three_kills_too(fleet: PayingServer, name: str) -> None:
    points = fleet.reference(SCENARIOS[name], "")["points"]
    places = [n for n, kind in enumerate(points, 1) if kind.startswith("transaction")]
    before = fleet.judged
    fleet.trial(name, *places[:3], seed=SEED)
    fleet.trial(name, *(0.03 * n for n in range(1, 9)), seed=SEED)  # wherever it is by then
    assert fleet.judged > before
