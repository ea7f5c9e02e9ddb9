"""What a worker tells Prometheus: read by Prometheus's own parser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.engine.far import FarStore

from kitaru import KitaruClient, app, flow
from kitaru._engine.serving import Serving, Wanted
from kitaru.cli import working
from kitaru.cli.metrics import EVENTS, metrics
from kitaru.testing import in_memory
from kitaru.testing.world import World

ROOT = Path(__file__).resolve().parents[2]
HOURS_4 = 4 * 3600


@flow
def report(year: int = 2025) -> int:
    return year


@pytest.fixture
def world() -> Iterator[World]:
    with in_memory(clock="manual", now=datetime(2026, 3, 1, tzinfo=UTC)) as world:
        yield world


@pytest.fixture
def serving(world: World) -> Serving:
    flows = {report.spec.id: report.spec}
    return Serving(app.current().runner, Wanted("w", lambda: flows, (), 4))


def read(text: str) -> dict[str, float]:
    """name{label=value} -> value; every family has a type and says what it is."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        assert family.type in ("gauge", "counter"), family
        assert family.documentation.endswith("."), family
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    assert len(found) == sum(not line.startswith("#") for line in text.splitlines())
    return found


def test_queues_and_limits_are_told_with_their_age(world: World, serving: Serving) -> None:
    report.options(queue="slow").enqueue()
    report.options(queue="slow").enqueue()
    report.options(queue='an "odd\\one', delay=2 * HOURS_4).enqueue()
    KitaruClient().limits.set("slow", 3)
    world.clock.move_to(world.clock.now() + HOURS_4 * 1_000_000)
    found = read(metrics(serving))
    assert found["kitaru_queue_ready{queue=slow}"] == 2
    assert found["kitaru_queue_running{queue=slow}"] == 0
    assert HOURS_4 <= found["kitaru_queue_oldest_seconds{queue=slow}"] < HOURS_4 + 1
    assert found['kitaru_queue_delayed{queue=an "odd\\one}'] == 1
    assert found['kitaru_queue_oldest_seconds{queue=an "odd\\one}'] == 0
    assert found["kitaru_limit_max{limit=slow}"] == 3
    assert found["kitaru_limit_taken{limit=slow}"] == 0
    assert found["kitaru_store_up"] == 1


def test_every_counter_is_there_before_it_has_counted(world: World, serving: Serving) -> None:
    found = read(metrics(serving))
    events = {name for name in found if name.startswith("kitaru_worker_events_total")}
    assert events == {f"kitaru_worker_events_total{{event={event}}}" for event in EVENTS}
    assert all(found[name] == 0 for name in events)
    assert found["kitaru_worker_claims_total"] == 0
    assert found["kitaru_worker_concurrency"] == 4


def test_while_the_store_is_away_it_still_tells_of_itself(
    world: World, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FarStore(app.current().store)
    monkeypatch.setattr(app.current(), "store", store)
    with store.away():
        found = read(metrics(serving))
    assert found["kitaru_store_up"] == 0
    assert not any(name.startswith(("kitaru_queue", "kitaru_limit")) for name in found)
    assert found["kitaru_worker_running"] == 0
    assert read(metrics(serving))["kitaru_store_up"] == 1


def told(world: World, serving: Serving) -> set[str]:
    """The names of all families that there are."""
    report.options(queue="slow").enqueue()
    KitaruClient().limits.set("slow", 3)
    return {line.split()[2] for line in metrics(serving).splitlines() if line[:6] == "# TYPE"}


def test_the_page_lists_what_there_is(world: World, serving: Serving) -> None:
    page = (ROOT / "docs/fleet/workers.md").read_text()
    assert set(re.findall(r"^\| `(kitaru_\w+)", page, re.M)) == told(world, serving)


def test_what_a_worker_counts_is_told_and_on_the_page() -> None:
    page = (ROOT / "docs/fleet/workers.md").read_text()
    (row,) = re.findall(r"^\| `kitaru_worker_events_total` \| `event` \|(.*)$", page, re.M)
    assert {f"execution.{event}" for event in EVENTS} == set(working._WORDS)
    assert set(re.findall(r"`(\w+)`", row)) == set(EVENTS)


def test_the_alerts_ask_for_what_there_is(world: World, serving: Serving) -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
    (group,) = rules["groups"]
    asked = {name for rule in group["rules"] for name in re.findall(r"kitaru_\w+", rule["expr"])}
    assert len(group["rules"]) >= 4
    assert asked <= told(world, serving)
    for rule in group["rules"]:
        assert rule["annotations"]["summary"]
