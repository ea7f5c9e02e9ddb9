"""One question tells a process what there may be to do, on every store alike."""

from __future__ import annotations

from typing import Any

from kitaru._core.lifecycle import State
from kitaru._store.protocol import (
    Cancel,
    Claim,
    DeclareDead,
    Facts,
    Park,
    RegisterOwner,
    Release,
    SetLimits,
    Signs,
)

from .worlds import AnyStore, force_status, new_owner, started

FLOWS = ["demo.agent"]
NOTHING = Signs(0, False, False, None, False, False, False, None)


def signs(store: AnyStore, owner: int, at: int = 1_000, **changes: Any) -> Signs:
    asked: dict[str, Any] = {"project": "demo", "flow_ids": FLOWS, "queues": [], **changes}
    return store.signs(owner, at=at, **asked)._replace(changes=0)


def test_there_is_nothing_to_do_in_an_empty_store(store: AnyStore) -> None:
    assert signs(store, new_owner(store).id) == NOTHING


def test_what_is_queued_is_shown_to_who_would_claim_it(store: AnyStore) -> None:
    owner = new_owner(store).id
    started(store, None, "later", queue="gpu", due_at=7_000)
    assert signs(store, owner) == NOTHING._replace(queued_at=7_000)
    started(store, None, "now")
    assert signs(store, owner) == NOTHING._replace(queued_at=1_000)
    assert signs(store, owner, queues=["gpu"]).queued_at == 7_000
    assert signs(store, owner, queues=["other"]) == NOTHING
    assert signs(store, owner, flow_ids=["demo.other"]) == NOTHING
    assert signs(store, owner, flow_ids=[]) == NOTHING
    assert signs(store, owner, project="other") == NOTHING


def test_what_is_cancelled_is_shown_to_its_owner(store: AnyStore) -> None:
    owner, other = new_owner(store).id, new_owner(store, "lock-2").id
    row = started(store, owner).row
    store.apply(Cancel(row.id, 1, "me", "", 2_000))
    assert signs(store, owner) == NOTHING._replace(cancelling=True)
    assert signs(store, other) == NOTHING


def test_what_waits_is_shown_by_its_hour_and_to_its_home_once_it_is_pending(
    store: AnyStore,
) -> None:
    owner, other = new_owner(store).id, new_owner(store, "lock-2").id
    row = started(store, owner).row
    store.apply(Park(row.id, 1, (), (), 9_000, "sleeps", owner, Facts(), 2_000))
    assert signs(store, other) == NOTHING._replace(due_at=9_000)
    assert signs(store, other, project="other") == NOTHING
    force_status(store, row.id, State.PENDING)
    assert signs(store, owner).served
    assert not signs(store, other).served
    assert not signs(store, owner, project="other").served


def test_a_lease_that_is_over_is_shown_until_its_owner_is_declared_dead(store: AnyStore) -> None:
    owner = new_owner(store).id
    leased = store.apply(RegisterOwner("leased", 1, "here", 1_000, lease_seconds=1.0))
    assert not signs(store, owner, at=1_001_000).lapsed
    assert signs(store, owner, at=1_001_001) == NOTHING._replace(lapsed=True)
    store.apply(DeclareDead(leased.id, 1_001_001, itself=True))
    assert signs(store, owner, at=1_001_001) == NOTHING


def test_what_the_dead_own_is_shown_to_who_serves_its_flow(store: AnyStore) -> None:
    owner, dead = new_owner(store).id, new_owner(store, "lock-2").id
    started(store, dead)
    assert signs(store, owner) == NOTHING
    store.apply(DeclareDead(dead, 2_000))
    assert signs(store, owner) == NOTHING._replace(interrupted=True)
    assert signs(store, owner, flow_ids=["demo.other"]) == NOTHING
    assert signs(store, owner, project="other") == NOTHING


def test_a_suspect_is_shown_apart_from_what_is_queued(store: AnyStore) -> None:
    owner = new_owner(store).id
    row = started(store, None).row
    for number in range(2):
        killed = new_owner(store, f"killed-{number}").id
        row = store.apply(Claim(row.id, row.epoch, killed, row.owner, 2_000))
    row = store.apply(Claim(row.id, row.epoch, owner, row.owner, 2_000))
    assert row.deaths == 2
    store.apply(Release(row.id, row.epoch, Facts(), 3_000))
    assert signs(store, owner) == NOTHING._replace(suspects=True)
    assert signs(store, owner, queues=["other"]) == NOTHING  # who could not have it, waits not
    store.apply(SetLimits("demo", {"default": 0}))
    assert signs(store, owner) == NOTHING


def test_the_number_of_changes_is_that_of_before_the_question(store: AnyStore) -> None:
    owner = new_owner(store).id

    def told() -> int:
        """By both, once nobody else commits in between: a server tidies up when it likes."""
        while True:
            found = store.signs(owner, project="demo", flow_ids=FLOWS, queues=[], at=1).changes
            if store.changes() == found:
                return found

    before = told()
    started(store, None)
    assert told() != before
