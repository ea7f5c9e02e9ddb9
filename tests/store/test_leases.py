"""Leases in every store: renewed, over, reaped; and what the dead may never do again."""

from __future__ import annotations

from typing import Any

import pytest

from kitaru._core.lifecycle import State
from kitaru._store.protocol import (
    Beat,
    Beaten,
    Claim,
    DeclareDead,
    ExecutionRow,
    Fenced,
    GiveUp,
    Owner,
    Reap,
    Record,
    Refused,
    RegisterOwner,
    Write,
)
from kitaru._store.sqlite.store import SqliteStore

from .worlds import AnyStore, call_row, facts, json_payload, started

SECOND = 1_000_000
LEASE = 15.0
PATIENCE = 5.0


def leased(store: AnyStore, name: str, at: int = 0) -> Owner:
    owner: Owner = store.apply(RegisterOwner(name, 1, "here", at, LEASE))
    return owner


def beat(store: AnyStore, owner: Owner, *seconds: float) -> None:
    for second in seconds:
        answer = store.apply(Beat(owner.id, LEASE, round(second * SECOND)))
        assert answer.lease_until is not None


def reap(store: AnyStore, at_seconds: float, limit: int = 9) -> list[int]:
    reaped = store.apply(Reap(PATIENCE, limit, round(at_seconds * SECOND)))
    return [owner.id for owner in reaped]


def refused(store: AnyStore, write: Write) -> Refused:
    with pytest.raises(Refused) as caught:
        store.apply(write)
    return caught.value


def running(store: AnyStore, owner: Owner) -> ExecutionRow:
    return started(store, owner.id).row


def test_who_registers_with_a_lease_has_it_from_that_instant(store: AnyStore) -> None:
    owner = leased(store, "a", at=3 * SECOND)
    assert (owner.lease_until, owner.steady_since) == (18 * SECOND, 3 * SECOND)
    assert store.get_owner(owner.id) == owner


def test_a_heartbeat_renews_from_now_on_and_tells_the_time(store: AnyStore) -> None:
    owner = leased(store, "a")
    assert store.apply(Beat(owner.id, LEASE, 5 * SECOND)) == Beaten(5 * SECOND, 20 * SECOND)
    assert store.get_owner(owner.id).lease_until == 20 * SECOND
    assert store.get_owner(owner.id).steady_since == 0


def test_a_lease_that_was_over_is_renewed_if_nobody_has_seen_it(store: AnyStore) -> None:
    owner = leased(store, "a")
    assert store.apply(Beat(owner.id, LEASE, 60 * SECOND)).lease_until == 75 * SECOND
    # But it does not count as one that is renewed in time.
    assert store.get_owner(owner.id).steady_since == 60 * SECOND
    assert store.get_owner(owner.id).died_at is None


def test_a_heartbeat_gives_no_life_back(store: AnyStore) -> None:
    owner = leased(store, "a")
    assert store.apply(DeclareDead(owner.id, 5, itself=True)) is True
    assert store.apply(Beat(owner.id, LEASE, 6)) == Beaten(6, None)
    assert store.apply(Beat(99, LEASE, 6)) == Beaten(6, None)
    assert store.get_owner(owner.id) == owner._replace(died_at=5)


def test_who_does_not_renew_is_reaped_once_the_lease_is_over(store: AnyStore) -> None:
    silent, living = leased(store, "silent"), leased(store, "living")
    beat(store, living, 5, 10)
    assert reap(store, 15) == []  # until then it may still write
    (dead,) = store.apply(Reap(PATIENCE, 9, 15 * SECOND + 1))
    assert dead == silent._replace(died_at=15 * SECOND + 1)
    assert reap(store, 16) == []
    assert [owner.id for owner in store.list_owners()] == [living.id]


def test_who_renews_is_never_reaped(store: AnyStore) -> None:
    first, second = leased(store, "first"), leased(store, "second")
    for seconds in range(5, 200, 5):
        beat(store, first, seconds)
        beat(store, second, seconds + 9.999)
        assert reap(store, seconds + 10) == []


def test_reaping_is_bounded_and_begins_with_who_has_been_silent_longest(store: AnyStore) -> None:
    owners = [leased(store, f"o-{number}", at=(9 - number) * SECOND) for number in range(5)]
    living = leased(store, "living")
    beat(store, living, 5, 15, 25)
    assert reap(store, 30, limit=2) == [owners[4].id, owners[3].id]
    assert reap(store, 30, limit=2) == [owners[2].id, owners[1].id]
    assert reap(store, 30, limit=2) == [owners[0].id]


def test_after_an_outage_those_that_live_get_one_heartbeat_to_come_back(store: AnyStore) -> None:
    early, late, dead = (leased(store, name) for name in ("early", "late", "dead"))
    for owner in (early, late):
        beat(store, owner, 5, 10)
    # From here to 100 s nobody reached the store: all leases are over.
    assert reap(store, 100) == []
    beat(store, early, 101)
    assert reap(store, 101) == []
    beat(store, late, 105)
    assert reap(store, 105.9) == []
    assert reap(store, 106) == [dead.id]


def test_whoever_comes_new_reaps_at_once_where_others_are_steady(store: AnyStore) -> None:
    dead = leased(store, "dead")
    alone = leased(store, "alone", at=50 * SECOND)
    assert reap(store, 54.9) == []  # nobody can tell an outage from a death yet
    beat(store, alone, 54)
    assert reap(store, 55) == [dead.id]


def test_an_owner_with_a_lock_file_is_never_reaped(store: AnyStore) -> None:
    store.apply(RegisterOwner("file", 1, "here", 0))
    beat(store, leased(store, "living"), 5, 10, 20)
    assert reap(store, 30) == []


def test_others_do_not_declare_dead_who_has_a_lease(store: AnyStore) -> None:
    owner = leased(store, "a")
    assert store.apply(DeclareDead(owner.id, 99 * SECOND)) is False
    assert store.get_owner(owner.id).died_at is None


@pytest.mark.parametrize("seconds", [1, 60])
def test_nothing_is_taken_from_an_owner_with_a_lease_before_it_is_reaped(
    store: AnyStore, seconds: int
) -> None:
    row = running(store, leased(store, "a"))
    heir = leased(store, "heir", at=seconds * SECOND)
    assert row.owner is not None
    at = seconds * SECOND
    failure = json_payload("{}")
    for write in (
        Claim(row.id, row.epoch, heir.id, row.owner, at),
        GiveUp(row.id, row.epoch, row.owner, failure, "poison", at),
    ):
        refusal = refused(store, write)
        assert isinstance(refusal, Fenced)
        assert refusal.row == row
    assert store.get_owner(row.owner).died_at is None


def test_what_a_reaped_owner_had_is_taken_over_and_counts_as_a_death(store: AnyStore) -> None:
    row = running(store, leased(store, "a"))
    heir = leased(store, "heir", at=1)
    beat(store, heir, 5, 10)
    assert reap(store, 16) == [row.owner]
    taken: ExecutionRow = store.apply(Claim(row.id, 1, heir.id, row.owner, 16 * SECOND))
    assert (taken.status, taken.epoch, taken.owner, taken.deaths) == (State.RUNNING, 2, heir.id, 1)


def test_a_zombie_writes_until_its_epoch_is_taken_and_never_after(store: AnyStore) -> None:
    """A lease that is over takes nothing away: only a takeover does, and it does for ever."""
    row = running(store, leased(store, "zombie"))
    heir = leased(store, "heir", at=1)
    beat(store, heir, 5, 10)
    assert reap(store, 16) == [row.owner]
    store.apply(Record(row.id, 1, facts(call_row(b"held"))))
    store.apply(Claim(row.id, 1, heir.id, row.owner, 17 * SECOND))
    refusal = refused(store, Record(row.id, 1, facts(call_row(b"late"))))
    assert isinstance(refusal, Fenced)
    assert [call.row.identity for call in store.list_calls(row.id, limit=9)] == [b"held"]


def test_the_dead_start_and_claim_nothing(store: AnyStore) -> None:
    zombie = leased(store, "zombie")
    pending = started(store, None, "pending").row
    beat(store, leased(store, "living"), 5, 10)
    assert reap(store, 16) == [zombie.id]
    refused(store, Claim(pending.id, 0, zombie.id, None, 17))
    with pytest.raises(Fenced):
        started(store, zombie.id, "new")


def test_beats_that_ride_in_one_commit_stand_each_on_its_own(store: AnyStore) -> None:
    dead, living = leased(store, "dead"), leased(store, "living")
    store.apply(DeclareDead(dead.id, 1, itself=True))
    got: list[Any] = []
    for owner in (dead, living):
        store.post(Beat(owner.id, LEASE, 7), lambda answer, error: got.append((answer, error)))
    store.flush(wait=True)
    assert got == [(Beaten(7, None), None), (Beaten(7, 7 + 15 * SECOND), None)]


def overdue(store: AnyStore, owner: Owner, at_seconds: int) -> list[Any]:
    """From now on one heartbeat of that instant is overdue -> what came of it."""
    answers: list[Any] = []
    beats = [Beat(owner.id, LEASE, at_seconds * SECOND)]

    def late() -> Any:
        return (
            (beats.pop(), lambda answer, error: answers.append(error or answer)) if beats else None
        )

    store.carry(late)
    return answers


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_heartbeat_that_is_overdue_is_committed_with_the_next_write(
    store: AnyStore, is_refused: bool
) -> None:
    owner = leased(store, "a")
    row = running(store, owner)
    answers = overdue(store, owner, 12)
    write = Record(row.id, 7 if is_refused else 1, facts(call_row(b"one")))
    if is_refused:
        refused(store, write)
    else:
        store.apply(write)
    if isinstance(store, SqliteStore):  # an owner there needs none
        assert (answers, store.get_owner(owner.id)) == ([], owner)
        return
    assert answers == [Beaten(12 * SECOND, 27 * SECOND)]
    assert store.get_owner(owner.id).lease_until == 27 * SECOND
    assert len(store.list_calls(row.id, limit=9)) == (not is_refused)


def test_a_heartbeat_that_is_carried_gives_no_life_back(store: AnyStore) -> None:
    owner = leased(store, "a")
    row = running(store, owner)
    store.apply(DeclareDead(owner.id, 5, itself=True))
    answers = overdue(store, owner, 12)
    got: list[Any] = []
    write = Record(row.id, 1, facts(call_row(b"held")))
    store.post(write, lambda answer, error: got.append(error))
    store.flush(wait=True)
    assert got == [None], "nobody has taken the epoch"
    assert answers == ([] if isinstance(store, SqliteStore) else [Beaten(12 * SECOND, None)])
    assert store.get_owner(owner.id).died_at == 5
