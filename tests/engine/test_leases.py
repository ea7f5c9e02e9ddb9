"""Processes with leases, in virtual time: who may go on, who is taken over, and what is said."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from tests.store.worlds import start_write

import kitaru
from kitaru import app, checkpoint, flow
from kitaru._core.lifecycle import State
from kitaru._engine.adopting import MAX_ADOPT
from kitaru._store.protocol import NO_FACTS, DeclareDead, Owner, Park
from kitaru.status import ExecutionStatus

from .leased import BEAT_SECONDS, LEASE_SECONDS, PATIENCE, Fleet, eventually

RAN: list[str] = []
BEGUN = threading.Event()
GO_ON = threading.Event()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    RAN.clear()
    BEGUN.clear()
    GO_ON.clear()
    NUMBERED.clear()
    yield
    GO_ON.set()


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    fleet = Fleet()
    yield fleet
    GO_ON.set()
    app.use(None)
    fleet.close()


@checkpoint
def first() -> str:
    RAN.append("first")
    return "one"


@checkpoint
def held() -> str:
    """Waits in its first run until the test lets it go on."""
    RAN.append("held")
    BEGUN.set()
    assert GO_ON.wait(PATIENCE)
    return "two"


@checkpoint
def last() -> str:
    RAN.append("last")
    return "three"


@flow
def three_steps() -> list[str]:
    return [first(), held(), last()]


@checkpoint
async def held_async() -> str:
    RAN.append("held")
    BEGUN.set()
    await asyncio.to_thread(GO_ON.wait, PATIENCE)
    return "two"


@checkpoint
async def last_async() -> str:
    RAN.append("last")
    return "three"


@flow
async def two_async_steps() -> list[str]:
    return [await held_async(), await last_async()]


@flow
def asks() -> bool:
    return kitaru.wait(name="ok", schema=bool)


def owner_of(fleet: Fleet, exec_id: str) -> int | None:
    return fleet.row(exec_id).owner


def test_an_owner_that_renews_is_never_taken_over(fleet: Fleet) -> None:
    busy, watcher = fleet.join(), fleet.join()
    with busy.working():
        handle = three_steps.run()
    assert BEGUN.wait(PATIENCE)
    watcher.number  # noqa: B018  (registers)
    for _ in range(20):
        fleet.pass_seconds(LEASE_SECONDS, busy, watcher)
        watcher.adopt()
    assert owner_of(fleet, handle.exec_id) == busy.number
    GO_ON.set()
    assert handle.wait(timeout=None) == ["one", "two", "three"]
    assert RAN == ["first", "held", "last"]


def test_a_silent_owner_is_taken_over_once_its_lease_is_over_and_not_before(fleet: Fleet) -> None:
    silent, watcher = fleet.join(), fleet.join()
    with silent.working():
        handle = three_steps.run()
    assert BEGUN.wait(PATIENCE)
    watcher.number  # noqa: B018
    fleet.pass_seconds(LEASE_SECONDS, watcher)
    watcher.adopt()
    assert owner_of(fleet, handle.exec_id) == silent.number
    fleet.pass_seconds(1, watcher)
    former = silent.number
    watcher.adopt()
    assert owner_of(fleet, handle.exec_id) == watcher.number
    assert fleet.store.get_owner(former).died_at is not None
    assert fleet.row(handle.exec_id).epoch == 2


def test_what_is_abandoned_is_found_behind_hundreds_that_the_living_run(fleet: Fleet) -> None:
    busy, silent, watcher = fleet.join(), fleet.join(), fleet.join()
    for number in range(120):
        write = start_write(f"e-{number}", busy.number, flow_id=three_steps.spec.id)
        fleet.store.apply(write._replace(project="fleet"))
    with silent.working():
        handle = three_steps.run()
    assert BEGUN.wait(PATIENCE)
    watcher.number  # noqa: B018
    fleet.pass_seconds(LEASE_SECONDS + 1, busy, watcher)
    watcher.adopt()
    assert owner_of(fleet, handle.exec_id) == watcher.number
    assert owner_of(fleet, "e-0") == busy.number
    GO_ON.set()


def test_what_is_due_and_abandoned_is_found_behind_hundreds_of_one_that_leaves(
    fleet: Fleet,
) -> None:
    leaving, silent, watcher = fleet.join(), fleet.join(), fleet.join()
    at = fleet.clock.now()
    for number in range(2 * MAX_ADOPT + 1):
        home = silent.number if number == 2 * MAX_ADOPT else leaving.number
        write = start_write(f"e-{number}", home, flow_id=three_steps.spec.id)
        row = fleet.store.apply(write._replace(project="fleet")).row
        fleet.store.apply(Park(row.id, row.epoch, (), (), at + 1, "sleep", home, NO_FACTS, at))
    watcher.number  # noqa: B018
    fleet.pass_seconds(LEASE_SECONDS + 1, leaving, watcher)
    watcher.adopt()
    assert owner_of(fleet, f"e-{2 * MAX_ADOPT}") == watcher.number
    assert fleet.row("e-0").status is State.WAITING
    GO_ON.set()


def test_what_a_zombie_comes_to_is_refused_and_it_says_why(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    zombie, heir = fleet.join(), fleet.join()
    with zombie.working():
        handle = three_steps.run()
    assert BEGUN.wait(PATIENCE)
    heir.number  # noqa: B018
    fleet.pass_seconds(LEASE_SECONDS + 1, heir)
    heir.adopt()
    eventually(lambda: RAN.count("held") == 2)
    GO_ON.set()
    assert zombie.app.runner.wait_idle(PATIENCE)
    eventually(lambda: fleet.row(handle.exec_id).status is State.COMPLETED)
    assert RAN.count("last") == 1, "the zombie started nothing after its takeover"
    calls = fleet.store.list_calls(fleet.row(handle.exec_id).id, limit=9)
    assert [call.row.checkpoint.rpartition(".")[2] for call in calls] == ["first", "held", "last"]
    # By the write that was refused, or by the heartbeat that it carried.
    assert "this process had not renewed its lease for 16.0 s, and it holds for 15 s" in caplog.text
    # And it goes on as another owner, which the first heartbeat tells it.
    former = zombie.leases.lease
    assert former is not None
    zombie.beat()
    assert former.is_dead
    assert zombie.number != former.owner


@pytest.mark.parametrize("steps", [three_steps, two_async_steps])
def test_a_lease_that_is_over_starts_nothing_until_it_is_renewed(
    fleet: Fleet, steps: kitaru.Flow[[], list[str]]
) -> None:
    alone = fleet.join()
    with alone.working():
        handle = steps.run()
    assert BEGUN.wait(PATIENCE)
    alone.is_cut_off = True
    fleet.pass_seconds(60, alone)
    GO_ON.set()  # what runs goes on, and is recorded: nobody has taken the epoch
    row = fleet.row(handle.exec_id)
    eventually(lambda: len(fleet.store.list_calls(row.id, limit=9)) == len(RAN))
    eventually(lambda: bool(alone.said))
    assert "last" not in RAN
    (said,) = alone.said
    assert "had not renewed its lease for" in said
    assert "the store did not answer: the network is down" in said
    assert "nothing new starts until it is renewed" in said
    alone.is_cut_off = False
    alone.beat()
    assert handle.wait()[-1] == "three"
    assert fleet.row(handle.exec_id).epoch == 1
    assert RAN.count("last") == 1


@checkpoint(cache=False)
def numbered(number: int) -> int:
    NUMBERED.set()
    assert STEP.acquire(timeout=PATIENCE)
    return number


@flow
def many() -> int:
    return sum(numbered(number) for number in range(20))


NUMBERED = threading.Event()
STEP = threading.Semaphore(0)


def outcomes(fleet: Fleet, exec_id: str) -> int:
    return len(fleet.store.list_calls(fleet.row(exec_id).id, limit=99))


@pytest.mark.parametrize("is_broken", [True, False], ids=["broken", "starved"])
def test_what_is_recorded_renews_a_lease_whose_heartbeats_do_not_come_through(
    fleet: Fleet, is_broken: bool
) -> None:
    busy, watcher = fleet.join(), fleet.join()
    with busy.working():
        handle = many.run()
    assert NUMBERED.wait(PATIENCE)
    owner = busy.number
    busy.is_hushed = is_broken
    beating = [busy, watcher] if is_broken else [watcher]
    watcher.number  # noqa: B018
    for number in range(20):
        fleet.pass_seconds(LEASE_SECONDS - 1, *beating)
        watcher.adopt()
        STEP.release()
        eventually(lambda: outcomes(fleet, handle.exec_id) == number + 1)  # noqa: B023
    assert handle.wait() == sum(range(20))
    row = fleet.row(handle.exec_id)
    assert (row.epoch, busy.number) == (1, owner)
    assert fleet.store.get_owner(owner).died_at is None
    told = [said for said in busy.said if "what it records renews its lease" in said]
    assert len(told) == is_broken
    assert busy.said == told


def test_heartbeats_on_time_are_carried_by_no_write(fleet: Fleet) -> None:
    member = fleet.join()
    number = member.number
    assert member.leases.late() is None
    for _ in range(9):
        fleet.clock.pass_seconds(BEAT_SECONDS * 1.4)
        assert member.leases.late() is None
        member.beat()
    fleet.clock.pass_seconds(BEAT_SECONDS * 1.5)
    overdue = member.leases.late()
    assert overdue is not None
    assert overdue[0].owner == number
    assert member.leases.late() is None, "one is on its way"


def test_a_heartbeat_that_is_carried_gives_no_life_back(fleet: Fleet) -> None:
    zombie, other = fleet.join(), fleet.join()
    with zombie.working():
        handle = three_steps.run()
    assert BEGUN.wait(PATIENCE)
    former = zombie.number
    other.number  # noqa: B018
    fleet.pass_seconds(LEASE_SECONDS + 1, other)
    assert other.app.runner.ownership.is_gone(former)
    GO_ON.set()
    assert handle.wait() == ["one", "two", "three"]
    eventually(lambda: zombie.number != former)
    assert fleet.store.get_owner(former).died_at is not None
    assert any("was declared dead by another one" in said for said in zombie.said)


def test_a_lease_that_runs_out_is_told_although_nothing_wants_to_start(fleet: Fleet) -> None:
    alone = fleet.join()
    with alone.working():
        handle = three_steps.run()
    assert BEGUN.wait(PATIENCE)
    alone.is_cut_off = True
    fleet.pass_seconds(LEASE_SECONDS - 1, alone)
    assert alone.said == []
    fleet.pass_seconds(60, alone)
    (said,) = alone.said
    assert said.startswith("this process had not renewed its lease for 19.0 s, and it holds for 15")
    assert "the network is down" in said
    alone.is_cut_off = False
    alone.beat()
    GO_ON.set()
    assert handle.wait()[-1] == "three"


def test_who_was_cut_off_and_declared_dead_says_that_it_was_cut_off(fleet: Fleet) -> None:
    alone, other = fleet.join(), fleet.join()
    former = alone.number
    other.number  # noqa: B018
    alone.is_cut_off = True
    fleet.pass_seconds(LEASE_SECONDS + 1, alone, other)
    assert other.app.runner.ownership.is_gone(former)
    alone.is_cut_off = False
    alone.beat()
    assert "was declared dead by another one" in alone.said[-1]
    assert "the store did not answer: the network is down" in alone.said[-1]


def test_an_execution_that_waits_for_a_renewal_can_be_cancelled(fleet: Fleet) -> None:
    alone = fleet.join()
    with alone.working():
        handle = three_steps.run()
    assert BEGUN.wait(PATIENCE)
    alone.is_cut_off = True
    fleet.pass_seconds(60, alone)
    GO_ON.set()
    eventually(lambda: bool(alone.said))
    with alone.working():
        handle.cancel()
    with pytest.raises(kitaru.KitaruCancelledError):
        handle.wait()
    assert "last" not in RAN


def test_what_is_run_while_the_lease_is_over_begins_once_it_is_renewed(fleet: Fleet) -> None:
    alone = fleet.join()
    alone.number  # noqa: B018
    alone.is_cut_off = True
    fleet.pass_seconds(60, alone)
    GO_ON.set()
    with alone.working():
        handle = three_steps.run()
    assert handle.status is ExecutionStatus.PENDING
    alone.tick()
    assert RAN == []
    alone.is_cut_off = False
    alone.beat()
    alone.tick()
    assert handle.wait() == ["one", "two", "three"]


def test_a_process_that_was_declared_dead_goes_on_as_another_owner(fleet: Fleet) -> None:
    zombie, other = fleet.join(), fleet.join()
    former = zombie.number
    other.number  # noqa: B018
    fleet.pass_seconds(LEASE_SECONDS + 1, other)
    assert other.app.runner.ownership.is_gone(former)
    # It has not heard of it: its next start is refused, and made again under a new number.
    GO_ON.set()
    zombie.leases.clock = lambda: 0.0  # nor does it know of the time that has passed
    with zombie.working():
        handle = three_steps.run()
    assert handle.wait() == ["one", "two", "three"]
    assert zombie.number not in (former, other.number)
    assert fleet.store.get_owner(former).died_at is not None


def test_who_was_declared_dead_takes_up_what_nobody_else_took(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    zombie, other = fleet.join(), fleet.join()
    with zombie.working():
        handle = three_steps.run()
    assert BEGUN.wait(PATIENCE)
    former = zombie.number
    other.number  # noqa: B018
    fleet.pass_seconds(LEASE_SECONDS + 1, other)
    assert other.app.runner.ownership.is_gone(former)
    zombie.beat()
    GO_ON.set()
    assert handle.wait() == ["one", "two", "three"]
    row = fleet.row(handle.exec_id)
    assert (row.status, row.epoch) == (State.COMPLETED, 2)
    # The body that ran when the lease was lost had an outcome before anybody took the epoch.
    assert RAN == ["first", "held", "last"]
    assert "is given up by process" in caplog.text


def test_what_a_lost_owner_had_parked_is_gone_on_with_by_whoever_comes_first(fleet: Fleet) -> None:
    zombie, other = fleet.join(), fleet.join()
    with zombie.working():
        handle = asks.run()
        eventually(lambda: fleet.row(handle.exec_id).status is State.WAITING or tick(zombie))
    other.number  # noqa: B018
    fleet.pass_seconds(LEASE_SECONDS + 1, other)
    assert other.app.runner.ownership.is_gone(zombie.number)
    zombie.beat()
    zombie.number  # noqa: B018
    with zombie.working():
        kitaru.KitaruClient().executions.input(handle.exec_id, wait="ok", value=True)
        eventually(lambda: handle.status.is_finished or tick(zombie))
    assert handle.get() is True


def tick(member: object) -> bool:
    member.tick()  # type: ignore[attr-defined]
    return False


def test_after_an_outage_nobody_is_taken_over_within_a_heartbeat(fleet: Fleet) -> None:
    slow, quick = fleet.join(), fleet.join()
    with slow.working():
        handle = three_steps.run()
    assert BEGUN.wait(PATIENCE)
    owner = slow.number
    quick.number  # noqa: B018
    for member in (slow, quick):
        member.is_cut_off = True
    fleet.pass_seconds(300, slow, quick)
    for member in (slow, quick):
        member.is_cut_off = False
    quick.beat()
    fleet.clock.pass_seconds(4.9)
    quick.adopt()
    slow.beat()
    fleet.pass_seconds(2, quick)
    quick.adopt()
    assert owner_of(fleet, handle.exec_id) == owner
    GO_ON.set()
    assert handle.wait() == ["one", "two", "three"]
    assert RAN.count("held") == 1


def test_interrupted_is_what_a_lease_that_is_over_shows(fleet: Fleet) -> None:
    silent, looking = fleet.join(), fleet.join()
    with silent.working():
        handle = three_steps.run()
    assert BEGUN.wait(PATIENCE)
    with looking.working():
        seen = kitaru.KitaruClient().executions.get(handle.exec_id)
        assert seen.status is ExecutionStatus.RUNNING
        fleet.pass_seconds(LEASE_SECONDS + 1)
        assert seen.refresh().status is ExecutionStatus.INTERRUPTED
    silent.beat()
    # Looking declares nobody dead.
    owners: list[Owner] = fleet.store.list_owners()
    assert silent.number in [owner.id for owner in owners]


def test_who_is_ended_before_its_lease_is_over_is_not_told_that_it_was_silent(fleet: Fleet) -> None:
    """As a new generation does it, when a backup is put back."""
    alone = fleet.join()
    fleet.store.apply(DeclareDead(alone.number, fleet.clock.now(), itself=True))
    alone.beat()
    assert "was declared dead by another one, because its lease was ended" in alone.said[-1]
    assert "had not renewed" not in alone.said[-1]
