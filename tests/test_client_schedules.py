"""`client.schedules`: how schedules stand, and what people do to them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

import kitaru
from kitaru import FlowSchedule, KitaruClient, app, flow
from kitaru._engine.schedules import Schedules
from kitaru._store.protocol import Enlist
from kitaru.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.testing import in_memory
from kitaru.testing.memory import LifeEnv
from kitaru.testing.world import World

SEVEN = datetime(2026, 3, 1, 7, tzinfo=UTC)


@flow(schedule="0 7 * * *", missed="skip")
def report() -> str:
    at = kitaru.current().scheduled_at
    return "by hand" if at is None else at.isoformat()


@flow(name="another.report", schedule="0 8 * * *")
def other() -> None: ...


@pytest.fixture
def world() -> Iterator[World]:
    with in_memory(clock="manual", now=datetime(2026, 3, 1, tzinfo=UTC)) as world:
        yield world


@pytest.fixture
def worker(world: World) -> Schedules:
    made = Schedules(app.current().runner)
    made.register({report.spec.id: report.spec})
    return made


def only() -> FlowSchedule:
    (found,) = KitaruClient().schedules.list()
    return found


def test_a_schedule_is_shown_with_what_it_does_and_what_stands_in_the_way(
    world: World, worker: Schedules
) -> None:
    found = only()
    assert (found.flow_id, found.flow_name) == (report.spec.id, "report")
    assert (found.cron, found.timezone, found.missed) == ("0 7 * * *", "UTC", "skip")
    assert (found.due_at, found.fired_at, found.skipped) == (SEVEN, None, 0)
    assert found.state == "unserved"
    assert found.reason is not None
    assert found.reason.startswith("no live worker has this flow: start one with kitaru worker ")


def test_a_schedule_is_active_while_a_worker_that_has_the_flow_lives(
    world: World, worker: Schedules
) -> None:
    me = app.current().runner.ownership.number()
    enlist = Enlist(me, app.current().project, "w1", [report.spec.id], [], 4, world.clock.now())
    world.store.apply(enlist._replace(flows=["another.flow"]))
    assert only().state == "unserved"
    world.store.apply(enlist._replace(queues=["mail"]))
    assert only().state == "unserved"  # it starts nothing that goes to another queue
    world.store.apply(enlist)
    found = only()
    assert (found.state, found.reason, found.due_at) == ("active", None, SEVEN)
    world.kill()
    world.live(LifeEnv(world.clock))
    assert only().state == "unserved"


def test_what_was_fired_and_skipped_is_shown(world: World, worker: Schedules) -> None:
    kitaru.recover()
    world.advance(timedelta(days=2, hours=7))
    worker.fire_due()
    world.settle()
    found = only()
    assert (found.fired_at, found.skipped) == (SEVEN + timedelta(days=2), 2)
    execution = KitaruClient().executions.get(found.fired_exec_id or "")
    assert execution.scheduled_at == found.fired_at
    assert execution.result() == "2026-03-03T07:00:00+00:00"


def test_a_pause_lasts_until_it_is_resumed(world: World, worker: Schedules) -> None:
    schedules = KitaruClient().schedules
    paused = schedules.pause("report")
    assert (paused.state, paused.due_at) == ("paused", None)
    assert (
        paused.reason
        == f"paused since 2026-03-01 00:00:00Z: kitaru schedules resume {report.spec.id}"
    )
    worker.register({report.spec.id: report.spec})
    assert only().state == "paused"
    world.advance(timedelta(days=3))
    worker.fire_due()
    assert KitaruClient().executions.list() == []
    resumed = schedules.resume(report.spec.id)
    assert (resumed.due_at, resumed.skipped) == (SEVEN + timedelta(days=3), 0)


def test_firing_by_hand_starts_one_execution_for_a_fire_time(
    world: World, worker: Schedules
) -> None:
    schedules, executions = KitaruClient().schedules, KitaruClient().executions
    now = schedules.fire("report")
    assert executions.get(now).scheduled_at == world.now.replace(microsecond=0)
    past = schedules.fire("report", at=SEVEN - timedelta(days=1))
    assert schedules.fire("report", at=SEVEN - timedelta(days=1)) == past != now
    assert executions.get(past).key == "schedule:2026-02-28T07:00:00Z"
    assert only().due_at == SEVEN
    kitaru.recover()
    world.settle()
    assert executions.get(past).result() == "2026-02-28T07:00:00+00:00"


def test_a_dropped_schedule_says_since_when(world: World, worker: Schedules) -> None:
    plain = flow(name=report.spec.id)(lambda: None)
    worker.register({report.spec.id: plain.spec})
    found = only()
    assert (found.state, found.due_at) == ("dropped", None)
    assert found.reason == "the code has the flow without a schedule since 2026-03-01 00:00:00Z"


@pytest.mark.parametrize("name", ["reprot", "", 3, None])
def test_a_flow_without_a_schedule_is_not_found(world: World, worker: Schedules, name: str) -> None:
    with pytest.raises(KitaruNotFoundError, match="has a schedule") as refused:
        KitaruClient().schedules.pause(name)
    assert refused.value.code == "schedule-not-found"
    if name == "reprot":
        assert "did you mean 'report'?" in str(refused.value)


def test_a_name_that_two_flows_have_is_ambiguous(world: World, worker: Schedules) -> None:
    other.spec.name = "report"
    worker.register({report.spec.id: report.spec, other.spec.id: other.spec})
    with pytest.raises(KitaruStateError, match=r"another\.report") as refused:
        KitaruClient().schedules.pause("report")
    assert refused.value.code == "schedule-ambiguous"
    assert KitaruClient().schedules.pause("another.report").state == "paused"


@pytest.mark.parametrize("at", ["2026-03-01", datetime(2026, 3, 1), 3])
def test_a_fire_time_is_an_aware_datetime(world: World, worker: Schedules, at: object) -> None:
    with pytest.raises(KitaruUsageError, match="at="):
        KitaruClient().schedules.fire("report", at=at)  # type: ignore[arg-type]
