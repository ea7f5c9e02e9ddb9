"""Flows that start by themselves: years in seconds, wrong clocks, old and new code, crashes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import kitaru
from kitaru import app, checkpoint, flow
from kitaru._core.lifecycle import State
from kitaru._core.payload import seal
from kitaru._core.schedules import MAX_MISSED, Schedule, next_fire
from kitaru._engine.execution import FlowSpec
from kitaru._engine.schedules import LOOK_SECONDS, Schedules
from kitaru._store.protocol import (
    NO_FACTS,
    Claim,
    ExecutionRow,
    Fenced,
    Finish,
    NoRoom,
    PauseSchedule,
    ScheduleRow,
    SetLimits,
)
from kitaru.errors import KitaruUsageError
from kitaru.flows import Flow
from kitaru.testing import in_memory
from kitaru.testing.memory import LifeEnv
from kitaru.testing.world import World

BERLIN = ZoneInfo("Europe/Berlin")
DAY = timedelta(days=1)

seen: list[datetime | None] = []


@flow(schedule="0 7 * * *", timezone="Europe/Berlin")
def report(topic: str = "rivers") -> str:
    seen.append(kitaru.current().scheduled_at)
    return topic


@flow
def plain(topic: str = "rivers") -> str:
    return topic


@pytest.fixture
def world() -> Iterator[World]:
    seen.clear()
    start = datetime(2026, 3, 1, tzinfo=UTC)
    with in_memory(clock="manual", now=start) as world:
        kitaru.recover()
        yield world


def variant(of: Flow[Any, Any], **changes: Any) -> FlowSpec:
    """The flow as other code has it: the same name, another schedule."""
    options = {"id": of.spec.id, "name": of.spec.name}
    fields = {name: getattr(of.spec, name) for name in (
        "fn", "is_async", "binder", "module", "folder", "cache", "retries", "strict", "aliases",
        "timeout_seconds", "keep_seconds", "schedule")}  # fmt: skip
    return FlowSpec(**{**options, **fields, **changes})


def schedules_of(*flows: FlowSpec) -> Schedules:
    """What a worker has that runs these flows; it has just started."""
    made = Schedules(app.current().runner)
    made.register({flow.id: flow for flow in flows})
    return made


def executions(world: World) -> list[ExecutionRow]:
    rows = world.store.list_executions(project=app.current().project, limit=10_000)
    return list(reversed(rows))


def row_of(world: World) -> ScheduleRow:
    (row,) = world.store.list_schedules(project=app.current().project, limit=9)
    return row


def in_berlin(at: datetime | None) -> str:
    assert at is not None
    return at.astimezone(BERLIN).strftime("%m-%d %H:%M")


def test_a_year_has_one_execution_for_each_morning_whatever_its_clock_does(world: World) -> None:
    schedules = schedules_of(report.spec)
    for _ in range(4 * 366):
        world.advance(6 * 3600)
        schedules.fire_due()
    world.settle()
    days = [in_berlin(at) for at in seen]
    first = datetime(2026, 3, 1)
    assert days == [(first + n * DAY).strftime("%m-%d 07:00") for n in range(366)]
    rows = executions(world)
    assert {row.status for row in rows} == {State.COMPLETED}
    assert rows[0].key == "schedule:2026-03-01T06:00:00Z"


def test_an_execution_knows_its_fire_time_in_every_life_and_a_replay_of_it_too(
    world: World,
) -> None:
    schedules = schedules_of(report.spec)
    world.advance(timedelta(hours=9))
    schedules.fire_due()
    world.settle()
    (row,) = executions(world)
    fire_time = datetime(2026, 3, 1, 6, tzinfo=UTC)
    assert seen == [fire_time]
    report.replay(row.exec_id).wait(30)
    report.run().wait(30)
    assert seen == [fire_time, fire_time, None]


@flow(schedule="0 * * * *", missed="all")
def every() -> None: ...


@pytest.mark.parametrize(
    ("missed", "hours", "expected"),
    [("last", 5, [5]), ("skip", 5, [5]), ("all", 5, [1, 2, 3, 4, 5])],
)
def test_what_nobody_was_there_for_is_made_up_for_as_the_flow_says(
    world: World, missed: str, hours: int, expected: list[int]
) -> None:
    schedules = schedules_of(variant(every, schedule=Schedule("0 * * * *", "UTC", missed)))
    world.advance(timedelta(hours=hours))
    schedules.fire_due()
    world.settle()
    assert [row.key for row in executions(world)] == [
        f"schedule:2026-03-01T{hour:02}:00:00Z" for hour in expected
    ]
    assert row_of(world).skipped == hours - len(expected)


def test_what_is_not_on_time_is_skipped_and_counted_where_the_flow_says_skip(
    world: World,
) -> None:
    schedules = schedules_of(variant(every, schedule=Schedule("0 * * * *", "UTC", "skip")))
    world.advance(timedelta(hours=2, minutes=2))
    schedules.fire_due()
    assert executions(world) == []
    assert row_of(world).skipped == 2


def test_making_up_for_a_long_time_has_a_bound(world: World) -> None:
    schedules = schedules_of(every.spec)
    world.advance(timedelta(hours=MAX_MISSED + 7))
    schedules.fire_due()
    world.settle(timeout=60)
    assert len(executions(world)) == MAX_MISSED
    row = row_of(world)
    assert (row.skipped, row.fired_at) == (7, int(world.now.timestamp()) // 3600 * 3_600_000_000)


def test_several_workers_start_one_execution_for_each_fire_time(world: World) -> None:
    workers = [schedules_of(report.spec) for _ in range(4)]
    for _ in range(10):
        world.advance(DAY)
        for worker in workers:
            worker.fire_due()
    world.settle()
    assert len(executions(world)) == len(set(seen)) == 10


def test_a_clock_that_goes_ahead_and_back_starts_nothing_twice(world: World) -> None:
    ahead = schedules_of(report.spec)
    real = LifeEnv(world.clock)
    ahead._env = _Skewed(real, 40 * DAY)
    ahead.fire_due()
    world.settle()
    assert [in_berlin(at) for at in seen] == ["04-09 07:00"]
    right = schedules_of(report.spec)  # it starts, and what is due comes back to now
    for _ in range(45):
        world.advance(DAY)
        right.fire_due()
    world.settle()
    assert len(seen) == len(set(seen)) == 45
    assert sorted(map(in_berlin, seen))[-1] == "04-14 07:00"


class _Skewed:
    """An environment whose clock is ahead."""

    def __init__(self, env: LifeEnv, by: timedelta) -> None:
        self._env, self._by = env, by

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def now(self) -> int:
        return self._env.now() + self._by // timedelta(microseconds=1)


def test_who_starts_last_is_right_and_old_and_new_code_do_not_flap(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    old = schedules_of(report.spec)
    new = schedules_of(variant(report, schedule=Schedule("0 8 * * *", "Europe/Berlin", "last")))
    assert "starts by itself at '0 8 * * *' (Europe/Berlin) now" in capfd.readouterr().err
    for _ in range(3):
        for _ in range(24):
            world.advance(3600)
            old.fire_due()  # still alive, and fires what stands there
            new.fire_due()
    world.settle()
    assert [in_berlin(at) for at in seen] == [f"03-0{day} 08:00" for day in (1, 2, 3)]
    assert row_of(world).cron == "0 8 * * *"


def test_a_flow_that_lost_its_schedule_fires_no_more_and_is_shown_as_dropped(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    old = schedules_of(report.spec)
    schedules_of(variant(report, schedule=None))
    assert "starts by itself no more" in capfd.readouterr().err
    world.advance(2 * DAY)
    old.fire_due()
    assert executions(world) == []
    assert row_of(world).dropped_at is not None
    schedules_of(report.spec)
    assert row_of(world).dropped_at is None


def test_a_renamed_flow_goes_on_with_its_schedule(world: World) -> None:
    schedules_of(variant(report, id="former.report"))
    world.advance(DAY)
    renamed = schedules_of(variant(report, aliases=("former.report",)))
    renamed.fire_due()
    world.settle()
    assert [in_berlin(at) for at in seen] == ["03-01 07:00"]  # what was due under its old name
    assert row_of(world).flow_id == report.spec.id


def test_a_worker_fires_only_the_flows_that_it_knows(world: World) -> None:
    schedules_of(report.spec)
    other = schedules_of(plain.spec)
    world.advance(DAY)
    other.fire_due()
    assert executions(world) == []


def test_a_paused_schedule_is_seen_to_be_paused_and_resumed(world: World) -> None:
    worker = schedules_of(report.spec)
    worker.fire_due()
    row = row_of(world)
    world.store.apply(PauseSchedule(row.project, row.flow_id, True, None, world.clock.now()))
    world.advance(3 * DAY)
    worker.fire_due()
    assert executions(world) == []
    next_at = next_fire(report.spec.schedule, world.clock.now())
    world.store.apply(PauseSchedule(row.project, row.flow_id, False, next_at, world.clock.now()))
    world.advance(DAY)
    worker._look_at = 0.0  # its look around, every LOOK_SECONDS
    worker.fire_due()
    world.settle()
    assert [in_berlin(at) for at in seen] == ["03-04 07:00"]


def test_between_looks_a_worker_asks_the_store_for_nothing(world: World) -> None:
    worker = schedules_of(report.spec)
    assert worker.fire_due() <= LOOK_SECONDS
    reads: list[str] = []
    worker._store = _Counting(worker._store, reads)  # type: ignore[assignment]
    for _ in range(50):
        worker.fire_due()
    assert reads == []
    world.advance(DAY)
    worker.fire_due()
    assert reads == ["list_schedules", "apply"]
    world.settle()


class _Counting:
    def __init__(self, store: Any, reads: list[str]) -> None:
        self._store, self._reads = store, reads

    def __getattr__(self, name: str) -> Any:
        self._reads.append(name)
        return getattr(self._store, name)


def test_a_line_that_this_code_cannot_read_is_said_and_fires_nothing(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    from kitaru._store.protocol import SetSchedule

    worker = schedules_of(report.spec)
    row = row_of(world)
    new = SetSchedule(row.project, row.flow_id, (), "report", "0 7 * * * *", "UTC", "last", "{}",
                      None, None, None, None, world.clock.now(), world.clock.now())  # fmt: skip
    world.store.apply(new)
    world.advance(60)
    worker._look_at = 0.0
    worker.fire_due()
    worker._look_at = 0.0
    worker.fire_due()
    assert capfd.readouterr().err.count("cannot be read here") == 1
    assert executions(world) == []


def test_a_worker_that_dies_at_any_point_of_a_fire_leaves_one_execution(world: World) -> None:
    dies_at = 0
    while True:
        dies_at += 1
        with in_memory(clock="manual", now=datetime(2026, 3, 1, tzinfo=UTC)) as mine:
            schedules_of(report.spec)
            mine.kill()
            env = LifeEnv(mine.clock, dies_at=dies_at)
            mine.live(env)
            app.current().runner.adopting = None  # nothing else comes to a point
            died = _register_and_fire(mine)
            mine.kill()
            mine.live(LifeEnv(mine.clock))
            again = schedules_of(report.spec)
            again.fire_due()
            mine.settle()
            assert [row.key for row in executions(mine)] == ["schedule:2026-03-01T06:00:00Z"]
            assert row_of(mine).due_at == datetime(2026, 3, 2, 6, tzinfo=UTC).timestamp() * 1e6
        if not died:
            break
    assert {"before_commit:SetSchedule", "after_commit:Fire"} <= set(env.points)
    assert dies_at > 4


def _register_and_fire(world: World) -> bool:
    """-> whether the life ended on the way."""
    try:
        worker = schedules_of(report.spec)
        world.clock.move_to(world.clock.now() + 86_400_000_000)
        worker.fire_due()
    except Fenced:
        world.clock.move_to(int(datetime(2026, 3, 2, tzinfo=UTC).timestamp() * 1e6))
        return True
    return False


def test_with_a_limit_of_one_for_the_flow_they_run_one_after_the_other() -> None:
    with in_memory(clock="manual", now=datetime(2026, 3, 1, tzinfo=UTC)) as world:
        worker = schedules_of(every.spec)  # nobody adopts here: what is claimed is claimed by hand
        project, me = app.current().project, app.current().runner.ownership.number()
        world.store.apply(SetLimits(project, {"every": 1}))
        world.clock.move_to(world.clock.now() + 3 * 3_600_000_000)
        worker.fire_due()
        now = world.clock.now()
        oldest, *others = executions(world)
        row = world.store.apply(Claim(oldest.id, 0, me, None, now))
        with pytest.raises(NoRoom):
            world.store.apply(Claim(others[0].id, 0, me, None, now))
        done = seal("json", b"1")
        world.store.apply(Finish(row.id, row.epoch, done, None, (), None, NO_FACTS, now))
        world.store.apply(Claim(others[0].id, 0, me, None, now))
        assert len(others) == 2


# --- what a scheduled execution is born with -----------------------------------------------------


@checkpoint
def step() -> int:
    return 1


@flow(schedule="0 7 * * *", retries=2, timeout=3600, retention=60, strict=True)
def careful() -> int:
    return step()


def test_it_is_born_with_what_the_flow_says(world: World) -> None:
    worker = schedules_of(careful.spec)
    world.advance(DAY)
    worker.fire_due()
    world.settle()
    (row,) = executions(world)
    fresh = careful.run()
    fresh.wait(30)
    by_hand = world.store.find_execution(fresh.exec_id)
    assert by_hand is not None
    assert row.flow_id == by_hand.flow_id
    assert (row.keep_seconds, row.code_module) == (by_hand.keep_seconds, by_hand.code_module)
    assert row.deadline_at is not None
    assert (row.queue, row.priority, row.limit_key) == ("default", 0, "careful")
    spec = kitaru.KitaruClient().executions.get(row.exec_id).frozen_execution_spec
    same = kitaru.KitaruClient().executions.get(fresh.exec_id).frozen_execution_spec
    at = int(datetime(2026, 3, 1, 7, tzinfo=UTC).timestamp() * 1e6)
    assert spec == {**same, "schedule": {"at": at, "cron": "0 7 * * *", "timezone": "UTC"}}


# --- decoration ------------------------------------------------------------------------------


def test_a_flow_that_needs_arguments_cannot_start_by_itself() -> None:
    with pytest.raises(KitaruUsageError, match=r"'topic'.*default") as refused:

        @flow(schedule="0 7 * * *")
        def needs(topic: str) -> str:
            return topic

    assert refused.value.code == "schedule-invalid"


@pytest.mark.parametrize("options", [{"timezone": "Europe/Berlin"}, {"missed": "all"}])
def test_options_of_a_schedule_say_nothing_without_one(options: dict[str, Any]) -> None:
    with pytest.raises(KitaruUsageError, match="schedule="):
        flow(**options)(lambda: None)
