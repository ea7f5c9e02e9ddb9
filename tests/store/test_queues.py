"""What is queued, who gets it next, and how many run at once: on every store."""

from __future__ import annotations

from typing import Any

import pytest

from kitaru._core.lifecycle import SUSPECT_DEATHS, State
from kitaru._store.protocol import (
    NO_FACTS,
    Cancel,
    Claim,
    ClaimNext,
    DeclareDead,
    Draining,
    Enlist,
    ExecutionRow,
    Fenced,
    Finish,
    GiveUp,
    NoRoom,
    Park,
    QueueRow,
    Release,
    Retry,
    SetLimits,
    Signs,
    Wake,
    WorkerRow,
)

from .worlds import AnyStore, json_payload, new_owner, started

FLOWS = ["demo.agent", "demo.other"]


def queue_up(store: AnyStore, exec_id: str, **changes: Any) -> ExecutionRow:
    """A pending execution that nobody serves."""
    return started(store, None, exec_id, **changes).row


def signs(store: AnyStore, owner: int) -> Signs:
    return store.signs(owner, project="demo", flow_ids=FLOWS, queues=[], at=1_000)


def claim_next(store: AnyStore, owner: int, limit: int = 1, **changes: Any) -> list[str]:
    """The ids of what is claimed."""
    write = ClaimNext("demo", FLOWS, [], owner, limit, 5_000)._replace(**changes)
    claimed = store.apply(write)
    for row in claimed:
        assert (row.status, row.owner, store.find_execution(row.exec_id)) == (
            State.RUNNING,
            owner,
            row,
        )
    return [row.exec_id for row in claimed]


def set_limits(store: AnyStore, **limits: int | None) -> bool:
    changed: bool = store.apply(SetLimits("demo", limits))
    return changed


def slots(store: AnyStore) -> list[tuple[str, int, str]]:
    return store.list_slots(project="demo")


def finish(store: AnyStore, row: ExecutionRow) -> None:
    result = json_payload("1")
    store.apply(Finish(row.id, row.epoch, result, None, (), None, NO_FACTS, 9_000))


def found(store: AnyStore, exec_id: str) -> ExecutionRow:
    row = store.find_execution(exec_id)
    assert row is not None
    return row


# --- which comes next ---


def test_what_is_queued_is_claimed_by_age(store: AnyStore) -> None:
    owner = new_owner(store).id
    for number in (1, 2, 3):
        queue_up(store, f"e-{number}", at=1_000 - number)
    assert claim_next(store, owner, limit=2) == ["e-3", "e-2"]
    assert claim_next(store, owner, limit=2) == ["e-1"]
    assert claim_next(store, owner) == []


def test_a_higher_priority_always_comes_first(store: AnyStore) -> None:
    owner = new_owner(store).id
    queue_up(store, "old", at=1)
    queue_up(store, "low", priority=-3, at=2)
    queue_up(store, "high", priority=7, at=3, flow_id="demo.other")
    queue_up(store, "higher", priority=9, at=4)
    assert claim_next(store, owner, limit=9) == ["higher", "high", "old", "low"]


def test_flows_take_turns_in_the_order_in_which_they_are_named(store: AnyStore) -> None:
    owner = new_owner(store).id
    for number in range(4):
        queue_up(store, f"agent-{number}", at=number)
    queue_up(store, "other-0", flow_id="demo.other", at=50)
    claimed = claim_next(store, owner, limit=3)
    assert claimed == ["agent-0", "other-0", "agent-1"]
    queue_up(store, "other-1", flow_id="demo.other", at=60)
    assert claim_next(store, owner, flow_ids=FLOWS[::-1]) == ["other-1"]


def test_only_the_flows_queues_and_project_that_are_named_are_claimed(store: AnyStore) -> None:
    owner = new_owner(store).id
    queue_up(store, "unknown", flow_id="demo.unknown")
    queue_up(store, "abroad", project="elsewhere")
    queue_up(store, "gpu", queue="gpu")
    queue_up(store, "plain")
    assert claim_next(store, owner, limit=9, queues=["gpu", "tpu"]) == ["gpu"]
    assert claim_next(store, owner, limit=9) == ["plain"]


def test_what_is_delayed_is_not_claimed_before_it_is_due(store: AnyStore) -> None:
    owner = new_owner(store).id
    row = queue_up(store, "later", due_at=7_000)
    assert row.due_at == 7_000
    assert signs(store, owner).queued_at == 7_000
    assert claim_next(store, owner, at=6_999) == []
    with pytest.raises(NoRoom):
        store.apply(Claim(row.id, row.epoch, owner, None, 6_999))
    assert claim_next(store, owner, at=7_000) == ["later"]
    assert found(store, "later").due_at is None


def test_the_age_of_what_was_delayed_counts_from_when_it_is_due(store: AnyStore) -> None:
    owner = new_owner(store).id
    queue_up(store, "delayed", at=1_000, due_at=3_000)
    queue_up(store, "younger", at=2_000)
    assert claim_next(store, owner, limit=2) == ["younger", "delayed"]


def test_what_a_live_process_serves_is_left_to_it(store: AnyStore) -> None:
    home, owner = new_owner(store, "home").id, new_owner(store).id
    queue_up(store, "served", home=home)
    assert claim_next(store, owner) == []
    store.apply(DeclareDead(home, 2_000))
    assert claim_next(store, owner) == ["served"]


def test_a_dead_process_claims_nothing(store: AnyStore) -> None:
    owner = new_owner(store).id
    queue_up(store, "e-1")
    store.apply(DeclareDead(owner, 2_000))
    with pytest.raises(Fenced):
        claim_next(store, owner)


def test_what_is_handed_back_is_claimed_at_once(store: AnyStore) -> None:
    first, second = new_owner(store, "first").id, new_owner(store, "second").id
    queue_up(store, "e-1")
    claim_next(store, first)
    row = found(store, "e-1")
    store.apply(Release(row.id, row.epoch, NO_FACTS, 6_000))
    assert claim_next(store, second) == ["e-1"]
    assert found(store, "e-1").epoch == 3


# --- suspects ---


def suspect(store: AnyStore, exec_id: str, at: int) -> None:
    """An execution whose owners died, and that was then handed back."""
    row = queue_up(store, exec_id, at=at)
    victim = new_owner(store, f"{exec_id}-0").id
    row = store.apply(Claim(row.id, row.epoch, victim, None, 2_000))
    for death in range(1, SUSPECT_DEATHS + 1):
        next_owner = new_owner(store, f"{exec_id}-{death}").id
        row = store.apply(Claim(row.id, row.epoch, next_owner, victim, 2_000))
        victim = next_owner
    assert row.deaths == SUSPECT_DEATHS
    store.apply(Release(row.id, row.epoch, NO_FACTS, 3_000))


def test_a_suspect_is_claimed_only_by_a_process_that_runs_nothing_else(store: AnyStore) -> None:
    owner = new_owner(store).id
    suspect(store, "killer", at=900)
    suspect(store, "older-killer", at=800)
    queue_up(store, "innocent", priority=5)
    assert signs(store, owner).suspects
    assert claim_next(store, owner, limit=9) == ["innocent"]
    assert claim_next(store, owner, limit=9) == []
    queue_up(store, "second", priority=5)
    assert claim_next(store, owner, limit=9, alone=True) == ["older-killer"]
    assert claim_next(store, owner, limit=9, alone=True) == ["killer"]
    assert claim_next(store, owner, limit=9, alone=True) == ["second"]
    assert not signs(store, owner).suspects


# --- slots ---


def test_no_more_than_the_limit_run_of_a_queue(store: AnyStore) -> None:
    owner = new_owner(store).id
    assert set_limits(store, default=2)
    for number in range(4):
        queue_up(store, f"e-{number}", at=number)
    assert claim_next(store, owner, limit=9) == ["e-0", "e-1"]
    assert slots(store) == [("default", 1, "e-0"), ("default", 2, "e-1")]
    assert claim_next(store, owner, limit=9) == []
    finish(store, found(store, "e-0"))
    assert claim_next(store, owner, limit=9) == ["e-2"]
    assert slots(store) == [("default", 1, "e-2"), ("default", 2, "e-1")]


def test_a_key_is_limited_across_queues_and_flows(store: AnyStore) -> None:
    owner = new_owner(store).id
    set_limits(store, openai=1)
    queue_up(store, "e-1", limit_key="openai", queue="a", at=1)
    queue_up(store, "e-2", limit_key="openai", queue="b", flow_id="demo.other", at=2)
    queue_up(store, "e-3", limit_key="anthropic", queue="b", at=3)
    assert claim_next(store, owner, limit=9) == ["e-1", "e-3"]
    assert slots(store) == [("openai", 1, "e-1")]


def test_what_stands_behind_hundreds_under_a_full_key_is_claimed_by_age(store: AnyStore) -> None:
    owner = new_owner(store).id
    set_limits(store, full=1, half=2)
    keys = [*["full"] * 130, "half", None, "free", "half", None, "half", "full"]
    for number, key in enumerate(keys):
        queue_up(store, f"e-{number:03}", at=number, limit_key=key)
    queue_up(store, "urgent", at=500, limit_key="full", priority=1)
    assert claim_next(store, owner) == ["urgent"]
    assert claim_next(store, owner, limit=2) == ["e-130", "e-131"]
    assert claim_next(store, owner, limit=9) == ["e-132", "e-133", "e-134"]
    assert claim_next(store, owner, limit=9) == []
    finish(store, found(store, "urgent"))
    assert claim_next(store, owner, limit=9) == ["e-000"]


def test_who_has_no_slot_of_one_limit_takes_none_of_the_other(store: AnyStore) -> None:
    owner = new_owner(store).id
    set_limits(store, gpu=1, tenant=5)
    queue_up(store, "e-1", queue="gpu", limit_key="tenant", at=1)
    queue_up(store, "e-2", queue="gpu", limit_key="tenant", at=2)
    assert claim_next(store, owner, limit=9) == ["e-1"]
    assert slots(store) == [("gpu", 1, "e-1"), ("tenant", 1, "e-1")]


def test_a_queue_and_a_key_of_one_name_are_one_limit(store: AnyStore) -> None:
    owner = new_owner(store).id
    set_limits(store, gpu=1)
    queue_up(store, "e-1", queue="gpu", limit_key="gpu")
    queue_up(store, "e-2", limit_key="gpu")
    assert claim_next(store, owner, limit=9) == ["e-1"]
    assert slots(store) == [("gpu", 1, "e-1")]


def test_limits_of_other_projects_are_not_ours(store: AnyStore) -> None:
    owner = new_owner(store).id
    store.apply(SetLimits("elsewhere", {"default": 0}))
    queue_up(store, "e-1")
    assert claim_next(store, owner) == ["e-1"]
    assert store.list_limits(project="demo") == []


def test_a_single_claim_without_a_slot_changes_nothing(store: AnyStore) -> None:
    owner = new_owner(store).id
    set_limits(store, default=1)
    first, second = queue_up(store, "e-1"), queue_up(store, "e-2")
    claimed = store.apply(Claim(first.id, 0, owner, None, 2_000))
    with pytest.raises(NoRoom) as refused:
        store.apply(Claim(second.id, 0, owner, None, 2_000))
    assert refused.value.row == second == found(store, "e-2")
    finish(store, claimed)
    assert store.apply(Claim(second.id, 0, owner, None, 2_000)).status is State.RUNNING


def test_a_start_that_would_run_at_once_is_born_pending_where_there_is_no_slot(
    store: AnyStore,
) -> None:
    owner = new_owner(store).id
    set_limits(store, default=1)
    assert started(store, owner, "e-1").row.status is State.RUNNING
    row = started(store, owner, "e-2").row
    assert (row.status, row.epoch, row.owner, row.home) == (State.PENDING, 0, None, owner)
    assert found(store, "e-2") == row
    assert slots(store) == [("default", 1, "e-1")]


@pytest.mark.parametrize("how", ["finish", "fail", "release", "park", "stop", "give up"])
def test_whatever_lets_go_of_an_execution_gives_its_slots_back(store: AnyStore, how: str) -> None:
    owner = new_owner(store).id
    set_limits(store, default=1, key=1)
    queue_up(store, "e-1", limit_key="key")
    claim_next(store, owner)
    row = found(store, "e-1")
    failure = json_payload('{"type":"ValueError"}')
    assert len(slots(store)) == 2
    match how:
        case "finish":
            finish(store, row)
        case "fail":
            store.apply(Finish(row.id, row.epoch, None, failure, (), "no", NO_FACTS, 9_000))
        case "release":
            store.apply(Release(row.id, row.epoch, NO_FACTS, 9_000))
        case "park":
            store.apply(Park(row.id, row.epoch, (), (), None, "wait", owner, NO_FACTS, 9_000))
        case "stop":
            store.apply(Cancel(row.id, row.epoch, "ada", "no use", 9_000))
            assert len(slots(store)) == 2, "its code still runs"
            finish(store, row)
        case _:
            store.apply(GiveUp(row.id, row.epoch, owner, failure, "poison", 9_000))
    assert slots(store) == []


def test_a_takeover_keeps_the_slots(store: AnyStore) -> None:
    first, second = new_owner(store, "first").id, new_owner(store, "second").id
    set_limits(store, default=1)
    queue_up(store, "e-1")
    claim_next(store, first)
    row = found(store, "e-1")
    store.apply(Claim(row.id, row.epoch, second, first, 9_000))
    assert slots(store) == [("default", 1, "e-1")]


def test_a_lower_limit_counts_what_runs_already(store: AnyStore) -> None:
    owner = new_owner(store).id
    set_limits(store, default=3)
    for number in range(5):
        queue_up(store, f"e-{number}", at=number)
    claim_next(store, owner, limit=3)
    assert set_limits(store, default=2)
    finish(store, found(store, "e-0"))
    assert claim_next(store, owner) == []
    finish(store, found(store, "e-1"))
    assert claim_next(store, owner, limit=9) == ["e-3"]
    assert slots(store) == [("default", 1, "e-3"), ("default", 3, "e-2")]


def test_a_limit_on_what_had_none_counts_what_runs_already(store: AnyStore) -> None:
    owner = new_owner(store).id
    for number in range(4):
        queue_up(store, f"e-{number}", at=number)
    claim_next(store, owner, limit=2)
    set_limits(store, default=1)
    assert [name for name, _, _ in slots(store)] == ["default", "default"]
    finish(store, found(store, "e-0"))
    assert claim_next(store, owner) == []
    finish(store, found(store, "e-1"))
    assert claim_next(store, owner, limit=9) == ["e-2"]


def test_a_limit_that_is_taken_away_takes_its_slots_along(store: AnyStore) -> None:
    owner = new_owner(store).id
    set_limits(store, default=1)
    queue_up(store, "e-1")
    queue_up(store, "e-2")
    claim_next(store, owner)
    assert set_limits(store, default=None)
    assert not set_limits(store, default=None)
    assert slots(store) == store.list_limits(project="demo") == []
    assert claim_next(store, owner) == ["e-2"]


def test_a_limit_of_none_at_all_holds_a_queue_back(store: AnyStore) -> None:
    owner = new_owner(store).id
    set_limits(store, default=0)
    queue_up(store, "e-1")
    assert claim_next(store, owner) == []
    set_limits(store, default=1)
    assert claim_next(store, owner) == ["e-1"]


# --- workers ---


def test_a_worker_is_listed_until_it_is_dead(store: AnyStore) -> None:
    owner = new_owner(store).id
    write = Enlist(owner, "demo", "w-1", FLOWS, ["gpu"], 4, 10)
    store.apply(write)
    worker = WorkerRow(owner, "demo", "w-1", tuple(FLOWS), ("gpu",), 4, draining=False, at=10)
    assert store.list_workers(project="demo") == [worker]
    assert store.list_workers(project="elsewhere") == []
    assert store.apply(Draining(owner, 20)) is True
    assert store.list_workers(project="demo") == [worker._replace(draining=True, at=20)]
    store.apply(DeclareDead(owner, 30))
    assert store.list_workers(project="demo") == []
    assert store.apply(Draining(owner, 40)) is False
    with pytest.raises(Fenced):
        store.apply(write)


def test_what_the_dead_ran_is_listed_however_much_the_living_run(store: AnyStore) -> None:
    alive, dying = new_owner(store).id, new_owner(store, "dying").id
    for number in range(6):
        queue_up(store, f"e-{number}", at=number)
    claim_next(store, alive, limit=3)
    claim_next(store, dying, limit=2)
    where = {"project": "demo", "flow_ids": FLOWS}
    assert store.list_interrupted(**where, limit=9) == []
    store.apply(DeclareDead(dying, 9_000))
    listed = store.list_interrupted(**where, limit=9)
    assert [row.exec_id for row in listed] == ["e-3", "e-4"]
    assert [row.exec_id for row in store.list_interrupted(**where, limit=1)] == ["e-3"]


# --- how much there is ---


def test_what_stands_in_the_queues_is_counted_by_whether_it_may_begin(store: AnyStore) -> None:
    alive, dying = new_owner(store).id, new_owner(store, "dying").id
    queue_up(store, "running", queue="gpu", at=1)
    assert claim_next(store, alive) == ["running"]
    queue_up(store, "oldest", queue="gpu", at=3)
    queue_up(store, "delayed", queue="gpu", at=1, due_at=7_000)
    queue_up(store, "due", queue="mail", at=1, due_at=4_000)
    queue_up(store, "abroad", queue="gpu", project="elsewhere", at=1)
    finish(store, started(store, alive, "done").row)
    queue_up(store, "its own", home=alive, at=5)
    queue_up(store, "left", home=dying, at=5)
    store.apply(DeclareDead(dying, 9))

    assert store.count_owned(project="demo") == {alive: 1}
    assert store.list_queues(project="demo", at=5_000) == [
        QueueRow("default", ready=1, delayed=0, running=0, since=9),
        QueueRow("gpu", ready=1, delayed=1, running=1, since=3),
        QueueRow("mail", ready=1, delayed=0, running=0, since=4_000),
    ]
    assert store.list_queues(project="demo", at=3_000)[2] == QueueRow("mail", 0, 1, 0, None)
    assert store.list_queues(project="nobody's", at=5_000) == []


def test_what_goes_on_later_is_as_old_in_its_queue_as_it_has_been_there(store: AnyStore) -> None:
    owner = new_owner(store).id

    def oldest() -> int | None:
        (row,) = store.list_queues(project="demo", at=90_000)
        return row.since

    row = started(store, owner, "e-1", at=1).row
    store.apply(Release(row.id, row.epoch, NO_FACTS, 10_000))
    assert oldest() == 10_000
    (row,) = store.apply(ClaimNext("demo", FLOWS, [], owner, 1, 11_000))
    store.apply(Finish(row.id, row.epoch, None, json_payload("{}"), (), None, NO_FACTS, 12_000))
    store.apply(Retry(row.id, row.epoch, 20_000))
    assert oldest() == 20_000
    (row,) = store.apply(ClaimNext("demo", FLOWS, [], owner, 1, 21_000))
    store.apply(Park(row.id, row.epoch, (), (), 30_000, "sleep", owner, NO_FACTS, 22_000))
    store.apply(Wake(row.id, row.epoch + 1, 31_000))
    assert store.list_queues(project="demo", at=90_000) == [], "its process goes on with it"
    store.apply(DeclareDead(owner, 40_000))
    assert oldest() == 40_000


def test_the_parent_of_what_ends_is_as_old_in_its_queue_as_that_end(store: AnyStore) -> None:
    owner = new_owner(store).id
    parent = started(store, owner, "e-1", at=1).row
    child = started(
        store,
        owner,
        "e-2",
        parent_exec_id="e-1",
        parent_call=b"1" * 16,
        parent_epoch=parent.epoch,
        at=2,
    ).row
    children = [child.exec_id]
    store.apply(Park(parent.id, parent.epoch, (), children, None, "child", None, NO_FACTS, 3))
    store.apply(Finish(child.id, child.epoch, json_payload("1"), None, (), None, NO_FACTS, 7_000))
    assert [row.since for row in store.list_queues(project="demo", at=90_000)] == [7_000]
