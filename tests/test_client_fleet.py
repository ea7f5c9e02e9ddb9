"""`client.workers`, `client.queues` and `client.limits`; why an execution does not go on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from kitaru import KitaruClient, LiveWorker, QueueDepth, QueueLimit, app, flow
from kitaru._store.protocol import Claim, DeclareDead, Draining, Enlist, RegisterOwner
from kitaru.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.testing import in_memory
from kitaru.testing.world import World

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


@flow
def report(year: int = 2025) -> int:
    return year


@pytest.fixture
def world() -> Iterator[World]:
    with in_memory(clock="manual", now=BEGIN) as world:
        yield world


def enlist(*flow_ids: str, queues: tuple[str, ...] = (), concurrency: int = 4) -> int:
    """This process among the workers -> its number."""
    current = app.current()
    owner = current.runner.ownership.number()
    write = Enlist(owner, current.project, "w", flow_ids, queues, concurrency, current.env.now())
    current.store.apply(write)
    return owner


def test_a_worker_is_shown_with_what_it_serves_and_runs(world: World) -> None:
    assert KitaruClient().workers.list() == []
    owner = enlist(report.spec.id, queues=("slow",))
    (found,) = KitaruClient().workers.list()
    assert isinstance(found, LiveWorker)
    assert (found.name, found.flows, found.queues) == ("w", (report.spec.id,), ("slow",))
    assert (found.concurrency, found.running, found.draining) == (4, 0, False)
    assert (found.started_at, found.lease_until) == (BEGIN, None)

    handle = report.enqueue()
    store = app.current().store
    row = store.find_execution(handle.exec_id)
    assert row is not None
    store.apply(Claim(row.id, row.epoch, owner, None, app.current().env.now()))
    store.apply(Draining(owner, 1))
    (found,) = KitaruClient().workers.list()
    assert (found.running, found.draining) == (1, True)


def test_a_queue_is_shown_with_what_is_ready_delayed_and_how_old(world: World) -> None:
    client = KitaruClient()
    assert client.queues.list() == []
    report.options(queue="slow").enqueue()
    report.options(queue="slow", delay=3600).enqueue()
    client.limits.set("slow", 2)
    assert client.queues.list() == [QueueDepth("slow", 1, 1, 0, BEGIN, 2)]
    world.clock.move_to(world.clock.now() + 4_000_000_000)
    (found,) = client.queues.list()
    assert (found.ready, found.delayed, found.oldest_at) == (2, 0, BEGIN)


def test_a_limit_is_set_changed_and_removed(world: World) -> None:
    limits = KitaruClient().limits
    assert limits.set("slow", 2) == QueueLimit("slow", 2, 0)
    assert limits.set("slow", 0) == QueueLimit("slow", 0, 0)
    limits.set("mail", 7)
    assert limits.list() == [QueueLimit("mail", 7, 0), QueueLimit("slow", 0, 0)]
    assert limits.remove("slow") == QueueLimit("slow", 0, 0)
    assert limits.list() == [QueueLimit("mail", 7, 0)]
    with pytest.raises(KitaruNotFoundError, match="did you mean 'mail'"):
        limits.remove("mial")
    with pytest.raises(KitaruNotFoundError, match="kitaru limits list"):
        limits.remove("another")


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("slow", -1),
        ("slow", 1.5),
        ("slow", True),
        ("slow", None),
        ("slow", 10_001),
        ("", 1),
        (" slow", 1),
        (3, 1),
        ("max_depth", 50),
        ("max_dept", 50),
    ],
)
def test_a_limit_that_cannot_be_is_refused(world: World, name: object, most: object) -> None:
    with pytest.raises(KitaruUsageError):
        KitaruClient().limits.set(name, most)  # type: ignore[arg-type]
    assert KitaruClient().limits.list() == []


def test_what_a_dead_process_ran_says_that_no_worker_knows_its_flow(world: World) -> None:
    handle = report.enqueue()
    store = app.current().store
    dead = store.apply(RegisterOwner("gone", 1, "elsewhere", 1)).id
    row = store.find_execution(handle.exec_id)
    assert row is not None
    store.apply(Claim(row.id, row.epoch, dead, None, 2))
    store.apply(DeclareDead(dead, 3))
    executions = KitaruClient().executions
    assert executions.get(handle.exec_id).status_reason == (
        "the process that ran it is gone; resume it"
    )
    enlist("another.flow")
    found = executions.get(handle.exec_id)
    assert found.status.value == "interrupted"
    reason = found.status_reason or ""
    assert reason.startswith(
        "the process that ran it is gone, and no live worker knows flow 'report'"
    )
    assert f"kitaru worker {row.code_module}" in reason
    enlist(report.spec.id, queues=("other",))  # whoever takes over looks at no queue
    assert executions.get(handle.exec_id).status_reason == (
        "the process that ran it is gone; resume it"
    )


@flow(schedule="0 7 * * *")
def morning() -> None: ...


def test_a_schedule_is_removed_once_no_live_worker_has_it(world: World) -> None:
    from kitaru._engine.schedules import Schedules

    made = Schedules(app.current().runner)
    made.register({morning.spec.id: morning.spec})
    owner = enlist(morning.spec.id)
    schedules = KitaruClient().schedules
    with pytest.raises(KitaruStateError, match="kitaru schedules pause"):
        schedules.remove("morning")
    assert len(schedules.list()) == 1
    app.current().store.apply(DeclareDead(owner, 5))
    assert schedules.remove("morning").state == "unserved"
    assert schedules.list() == []
    with pytest.raises(KitaruNotFoundError):
        schedules.remove("morning")
