"""What every store does with executions that wait, are cancelled, have children or memory."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from kitaru._core.lifecycle import CallSource, State, WaitKind, WaitState
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import (
    NO_FACTS,
    AlreadyRecorded,
    Answer,
    ArtifactRow,
    Cancel,
    Claim,
    ExecutionRow,
    Expire,
    Facts,
    Fenced,
    Finish,
    Forget,
    GiveUp,
    IntentRow,
    MemoryRow,
    Missing,
    NotInState,
    OpenWait,
    Park,
    Record,
    RecordedMemory,
    RecordedWait,
    Refused,
    Release,
    Remember,
    Retry,
    Wake,
    Write,
)
from kitaru._store.sqlite.store import SqliteStore

from .worlds import (
    AnyStore,
    StillEnv,
    call_row,
    json_payload,
    new_owner,
    opened,
    start_write,
    started,
    wait_row,
)

FAILURE = json_payload('{"type":"ValueError"}')
YES = json_payload("true")
ONE, TWO = b"1" * 16, b"2" * 16


def running(store: AnyStore, exec_id: str = "e-1", **changes: Any) -> ExecutionRow:
    return started(store, new_owner(store, f"lock-{exec_id}").id, exec_id, **changes).row


def found(store: AnyStore, row: ExecutionRow) -> ExecutionRow:
    again = store.find_execution(row.exec_id)
    assert again is not None
    return again


def park(row: ExecutionRow, *waits: bytes, **changes: Any) -> Park:
    return Park(row.id, row.epoch, waits, (), None, "input", 7, NO_FACTS, 2_000)._replace(**changes)


def parked(store: AnyStore, exec_id: str = "e-1", **changes: Any) -> ExecutionRow:
    """An execution that waits for the wait ONE."""
    row = running(store, exec_id)
    write = park(row, ONE, facts=opened(wait_row(ONE)))._replace(**changes)
    assert store.apply(write) is State.WAITING
    return found(store, row)


def answer(row: ExecutionRow, **changes: Any) -> Answer:
    return Answer(row.id, ONE, YES, "ada", 3_000)._replace(**changes)


def cancel(row: ExecutionRow, **changes: Any) -> Cancel:
    return Cancel(row.id, row.epoch, "ada", "no use", 4_000)._replace(**changes)


def finish(row: ExecutionRow, **changes: Any) -> Finish:
    write = Finish(row.id, row.epoch, json_payload("1"), None, (), None, NO_FACTS, 9_000)
    return write._replace(**changes)


def fail(row: ExecutionRow, *calls: bytes) -> Finish:
    return finish(row, result=None, failure=FAILURE, failed_calls=calls)


def refusal(store: AnyStore, write: Write, kind: type[Refused]) -> Refused:
    with pytest.raises(Refused) as caught:
        store.apply(write)
    assert type(caught.value) is kind
    return caught.value


def the_wait(store: AnyStore, row: ExecutionRow, identity: bytes = ONE) -> RecordedWait:
    wait = store.find_wait(row.id, identity)
    assert wait is not None
    return wait


# --- waits are opened ---


def test_a_wait_comes_back_as_it_was_opened(store: AnyStore) -> None:
    row = running(store)
    wait = wait_row(
        ONE,
        kind=WaitKind.DECISION,
        label="wait_condition:0",
        name=None,
        metadata='{"a":1}',
        branch="b/1",
        call=TWO,
        expires_at=5_000,
        default=json_payload("9" * 40_000),
    )
    store.apply(Record(row.id, row.epoch, opened(wait, wait_row(TWO))))
    first, second = store.list_waits(row.id)
    assert first == (first.id, wait, WaitState.OPEN, None, None, None)
    assert second.row == wait_row(TWO)
    assert store.find_wait(row.id, ONE) == first
    assert store.find_wait(row.id, b"3") is None
    mine = OpenWait("e-1", "agent", State.RUNNING, first)
    assert store.list_open_waits(project="demo", limit=1) == [mine]
    assert store.list_open_waits(project="elsewhere", limit=9) == []


def test_a_wait_that_is_known_stays_as_it_is(store: AnyStore) -> None:
    row = running(store)
    store.apply(Record(row.id, row.epoch, opened(wait_row(ONE))))
    store.apply(answer(row))
    before = the_wait(store, row)
    store.apply(Record(row.id, row.epoch, opened(wait_row(ONE, question="Really?"))))
    assert the_wait(store, row) == before


@pytest.mark.parametrize("known", [True, False])
def test_a_stale_owner_opens_no_wait_and_is_told_so(store: AnyStore, known: bool) -> None:
    row = running(store)
    if known:
        store.apply(Record(row.id, row.epoch, opened(wait_row(ONE))))
    heir = new_owner(store, "heir")
    taken = store.apply(Claim(row.id, row.epoch, heir.id, row.owner, 50))
    assert refusal(store, Record(row.id, row.epoch, opened(wait_row(ONE))), Fenced).row == taken
    assert len(store.list_waits(row.id)) == known


def test_open_waits_are_listed_the_oldest_first(store: AnyStore) -> None:
    one, two = running(store, "e-1"), running(store, "e-2")
    store.apply(Record(one.id, one.epoch, opened(wait_row(ONE, opened_at=9))))
    store.apply(Record(two.id, two.epoch, opened(wait_row(ONE, opened_at=5))))
    listed = store.list_open_waits(project="demo", limit=9)
    assert [wait.exec_id for wait in listed] == ["e-2", "e-1"]


# --- park ---


def test_a_parked_execution_has_no_owner_and_its_bodies_are_fenced(store: AnyStore) -> None:
    row = running(store)
    write = park(row, ONE, facts=opened(wait_row(ONE)), due_at=8_000)
    assert store.apply(write) is State.WAITING
    now = found(store, row)
    assert (now.status, now.owner, now.epoch) == (State.WAITING, None, row.epoch + 1)
    assert (now.due_at, now.status_reason, now.home) == (8_000, "input", 7)
    assert now.deaths == 0
    late = Record(row.id, row.epoch, opened(wait_row(TWO)))
    assert refusal(store, late, Fenced).row == now
    assert refusal(store, park(row), Fenced).row == now
    assert refusal(store, park(now), NotInState).row == now


def test_a_refused_park_records_none_of_its_facts(store: AnyStore) -> None:
    row = running(store)
    refusal(store, park(row, facts=opened(wait_row(ONE)), epoch=row.epoch + 1), Fenced)
    assert store.list_waits(row.id) == []
    assert found(store, row) == row


@pytest.mark.parametrize(
    ("deadline", "due", "expected"),
    [(None, None, None), (5_000, None, 5_000), (5_000, 6_000, 5_000), (6_000, 5_000, 5_000)],
)
def test_a_parked_execution_is_due_no_later_than_its_deadline(
    store: AnyStore, deadline: int | None, due: int | None, expected: int | None
) -> None:
    row = running(store, deadline_at=deadline)
    assert store.apply(park(row, due_at=due)) is State.WAITING
    assert found(store, row).due_at == expected


def test_an_answer_that_came_before_the_park_wakes_it_at_once(store: AnyStore) -> None:
    row = running(store)
    store.apply(Record(row.id, row.epoch, opened(wait_row(ONE), wait_row(TWO))))
    assert store.apply(answer(row)).status is State.RUNNING
    assert store.apply(park(row, ONE, TWO, due_at=9_000)) is State.PENDING
    now = found(store, row)
    assert (now.status, now.epoch, now.owner) == (State.PENDING, row.epoch + 1, None)
    assert (now.due_at, now.status_reason) == (None, None)


def test_a_closed_wait_that_it_does_not_stand_in_wakes_nothing(store: AnyStore) -> None:
    row = running(store)
    store.apply(Record(row.id, row.epoch, opened(wait_row(ONE), wait_row(TWO))))
    store.apply(answer(row))
    assert store.apply(park(row, TWO)) is State.WAITING


def test_a_park_that_is_due_already_is_pending_at_once(store: AnyStore) -> None:
    row = running(store)
    assert store.apply(park(row, due_at=2_000)) is State.PENDING
    other = running(store, "e-2", deadline_at=1_999)
    assert store.apply(park(other, due_at=9_000)) is State.PENDING


def test_parking_while_it_is_cancelled_ends_it(store: AnyStore) -> None:
    row = running(store)
    assert store.apply(cancel(row)) == [("e-1", State.CANCELLING)]
    write = park(row, ONE, facts=opened(wait_row(ONE)))
    assert store.apply(write) is State.CANCELLED
    now = found(store, row)
    assert (now.status, now.status_reason, now.ended_at) == (State.CANCELLED, "no use", 2_000)
    assert the_wait(store, row).state is WaitState.ABORTED


# --- what is due ---


def test_what_is_due_is_listed_the_soonest_first(store: AnyStore) -> None:
    for number, due in enumerate([50_000, 30_000, None, 40_000]):
        parked(store, f"e-{number}", due_at=due)
    assert store.next_due(project="demo") == 30_000
    due_rows = store.list_due(project="demo", at=40_000, limit=9)
    assert [row.exec_id for row in due_rows] == ["e-1", "e-3"]
    assert store.list_due(project="demo", at=99_000, limit=1) == due_rows[:1]
    assert store.list_due(project="demo", at=29_999, limit=9) == []
    assert store.list_due(project="elsewhere", at=99_000, limit=9) == []
    assert store.next_due(project="elsewhere") is None


def test_what_others_serve_hides_nothing_of_what_is_due(store: AnyStore) -> None:
    for number, home in enumerate([7, 7, 8, None]):
        parked(store, f"e-{number}", due_at=30_000 + number, home=home)

    def due(*but_of: int, limit: int = 9) -> list[str]:
        found = store.list_due(project="demo", at=40_000, limit=limit, but_of=but_of)
        return [row.exec_id for row in found]

    assert due(7) == ["e-2", "e-3"]
    assert due(7, limit=1) == ["e-2"]
    assert due(8, 9) == ["e-0", "e-1", "e-3"]
    assert due(8, 7) == ["e-3"]


def test_what_is_due_wakes_once(store: AnyStore) -> None:
    row = parked(store, due_at=5_000)
    assert store.apply(Wake(row.id, row.epoch, 4_999)) is False
    assert store.apply(Wake(row.id, row.epoch - 1, 5_000)) is False
    assert found(store, row) == row
    assert store.apply(Wake(row.id, row.epoch, 5_000)) is True
    assert store.apply(Wake(row.id, row.epoch, 5_000)) is False
    now = found(store, row)
    assert (now.status, now.due_at, now.status_reason) == (State.PENDING, None, None)
    assert store.next_due(project="demo") is None
    refusal(store, Wake(99, 1, 1), Missing)


def test_one_that_waits_for_somebody_is_never_due(store: AnyStore) -> None:
    row = parked(store)
    assert store.apply(Wake(row.id, row.epoch, 1 << 60)) is False


def test_an_execution_that_was_woken_is_claimed_and_goes_on(store: AnyStore) -> None:
    row = parked(store, due_at=9_000)
    store.apply(answer(row))
    claimed = store.apply(Claim(row.id, row.epoch, new_owner(store, "next").id, None, 5_000))
    assert (claimed.status, claimed.epoch, claimed.due_at) == (State.RUNNING, 3, None)
    assert store.apply(finish(claimed)) is State.COMPLETED


# --- answers and expiry ---


def test_an_answer_wakes_a_parked_execution(store: AnyStore) -> None:
    row = parked(store, due_at=90_000)
    woken = store.apply(answer(row))
    assert woken == found(store, row)
    assert (woken.status, woken.due_at, woken.status_reason) == (State.PENDING, None, None)
    assert woken.epoch == row.epoch
    wait = the_wait(store, row)
    assert (wait.state, wait.closed_at, wait.closed_by) == (WaitState.ANSWERED, 3_000, "ada")
    assert wait.payload == YES
    assert store.list_open_waits(project="demo", limit=9) == []
    assert store.list_served(7, project="demo", limit=9) == [woken]


def test_the_first_answer_wins(store: AnyStore) -> None:
    row = parked(store)
    store.apply(answer(row))
    before = the_wait(store, row)
    late = answer(row, payload=json_payload("false"), by="bob")
    assert refusal(store, late, NotInState).row == found(store, row)
    assert the_wait(store, row) == before


def test_of_two_answers_at_once_one_wins(store: AnyStore) -> None:
    row = parked(store)
    both = threading.Barrier(2)
    outcomes: list[Any] = []

    def give(name: str) -> None:
        both.wait(10)
        try:
            outcomes.append(store.apply(answer(row, by=name)).status)
        except Refused as refused:
            outcomes.append(type(refused))

    threads = [threading.Thread(target=give, args=(name,)) for name in ("ada", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(map(str, outcomes)) == sorted(map(str, [State.PENDING, NotInState]))


def test_an_answer_to_a_wait_that_is_not_there_changes_nothing(store: AnyStore) -> None:
    row = parked(store)
    assert refusal(store, answer(row, identity=TWO), Missing).row == row
    assert refusal(store, answer(row, execution=99), Missing).row is None
    assert refusal(store, Expire(row.id, TWO, 1), Missing).row == row
    assert found(store, row) == row


def test_an_answer_comes_too_late_at_the_very_instant_of_expiry(store: AnyStore) -> None:
    row = parked(store, facts=opened(wait_row(ONE, expires_at=3_000)))
    assert refusal(store, answer(row), NotInState).row == row
    assert the_wait(store, row).state is WaitState.OPEN
    assert store.apply(answer(row, at=2_999)).status is State.PENDING


def test_a_wait_expires_when_its_time_is_over_and_not_before(store: AnyStore) -> None:
    row = parked(store, facts=opened(wait_row(ONE, expires_at=3_000)), due_at=3_000)
    assert store.apply(Expire(row.id, ONE, 2_999)).state is WaitState.OPEN
    assert found(store, row) == row
    expired = store.apply(Expire(row.id, ONE, 3_000))
    assert (expired.state, expired.closed_at, expired.payload) == (WaitState.EXPIRED, 3_000, None)
    assert expired == the_wait(store, row)
    assert found(store, row).status is State.PENDING
    assert store.apply(Expire(row.id, ONE, 9_000)) == expired
    refusal(store, answer(row, at=9_000), NotInState)


def test_expiry_after_an_answer_finds_the_answer(store: AnyStore) -> None:
    row = parked(store, facts=opened(wait_row(ONE, expires_at=3_000)))
    store.apply(answer(row, at=2_000))
    assert store.apply(Expire(row.id, ONE, 9_000)).payload == YES


def test_a_wait_without_an_expiry_does_not_expire(store: AnyStore) -> None:
    row = parked(store)
    assert store.apply(Expire(row.id, ONE, 1 << 60)).state is WaitState.OPEN


def test_a_large_answer_comes_back(store: AnyStore) -> None:
    row = parked(store)
    large = json_payload('"' + "x" * 50_000 + '"')
    store.apply(answer(row, payload=large))
    assert the_wait(store, row).payload == large


# --- every end closes what is open ---


@pytest.mark.parametrize("end", [finish, fail, cancel])
def test_an_execution_that_ends_leaves_no_wait_open(store: AnyStore, end: Any) -> None:
    row = running(store)
    store.apply(Record(row.id, row.epoch, opened(wait_row(ONE), wait_row(TWO))))
    store.apply(answer(row))
    store.apply(end(row))
    if end is cancel:
        store.apply(Release(row.id, row.epoch, NO_FACTS, 9_000))
    assert the_wait(store, row).state is WaitState.ANSWERED
    assert the_wait(store, row, TWO).state is WaitState.ABORTED
    refusal(store, answer(row, identity=TWO), NotInState)


def test_giving_up_a_waiting_execution_aborts_its_waits(store: AnyStore) -> None:
    row = parked(store, due_at=5_000)
    store.apply(GiveUp(row.id, row.epoch, None, FAILURE, "deadline", 6_000))
    now = found(store, row)
    assert (now.status, now.status_reason, now.due_at) == (State.FAILED, "deadline", None)
    wait = the_wait(store, row)
    assert (wait.state, wait.closed_at, wait.closed_by) == (WaitState.ABORTED, 6_000, None)


def test_a_wait_that_a_failure_aborted_is_asked_anew_after_a_retry(store: AnyStore) -> None:
    row = running(store)
    store.apply(Record(row.id, row.epoch, opened(wait_row(ONE))))
    store.apply(fail(row))
    store.apply(Retry(row.id, row.epoch, 10_000))
    assert the_wait(store, row).state is WaitState.ABORTED
    again = store.apply(Claim(row.id, row.epoch, new_owner(store, "next").id, None, 11_000))
    store.apply(Record(row.id, again.epoch, opened(wait_row(ONE, opened_at=12, expires_at=99))))
    wait = the_wait(store, row)
    assert (wait.state, wait.closed_at, wait.closed_by) == (WaitState.OPEN, None, None)
    assert (wait.row.opened_at, wait.row.expires_at) == (12, 99)


def test_a_wait_whose_expiry_failed_the_execution_is_asked_anew_after_a_retry(
    store: AnyStore,
) -> None:
    row = running(store)
    waits = [wait_row(identity, expires_at=2_000) for identity in (ONE, TWO)]
    store.apply(Record(row.id, row.epoch, opened(*waits)))
    store.apply(Expire(row.id, ONE, 3_000))
    store.apply(Expire(row.id, TWO, 3_000))
    store.apply(fail(row, ONE))
    store.apply(Retry(row.id, row.epoch, 10_000))
    again = store.apply(Claim(row.id, row.epoch, new_owner(store, "next").id, None, 11_000))
    store.apply(Record(row.id, again.epoch, opened(*waits)))
    assert the_wait(store, row).state is WaitState.OPEN
    assert the_wait(store, row, TWO).state is WaitState.EXPIRED


# --- cancel ---


def test_cancelling_a_running_execution_leaves_its_owner_time_to_stop(store: AnyStore) -> None:
    row = running(store)
    assert store.apply(cancel(row)) == [("e-1", State.CANCELLING)]
    now = found(store, row)
    assert (now.status, now.owner, now.epoch) == (State.CANCELLING, row.owner, row.epoch)
    assert (now.status_reason, now.ended_at) == ("no use", None)
    assert row.owner is not None
    assert store.list_owned(row.owner, statuses=[State.CANCELLING]) == [("e-1", State.CANCELLING)]
    assert store.list_owned(row.owner, statuses=[State.RUNNING]) == []
    assert store.apply(cancel(row, by="bob", reason="again")) == [("e-1", State.CANCELLING)]
    assert found(store, row) == now
    assert store.apply(finish(now)._replace(reason="it raised")) is State.CANCELLED
    # What the code came to after the cancel is not why it ended.
    assert found(store, row).status_reason == "no use"


def test_cancelling_what_nobody_runs_ends_it_at_once(store: AnyStore) -> None:
    pending = started(store, None, "e-0").row
    assert store.apply(cancel(pending)) == [("e-0", State.CANCELLED)]
    row = parked(store, due_at=9_000)
    assert store.apply(cancel(row)) == [("e-1", State.CANCELLED)]
    now = found(store, row)
    assert (now.status, now.status_reason, now.ended_at) == (State.CANCELLED, "no use", 4_000)
    assert now.due_at is None
    wait = the_wait(store, row)
    assert (wait.state, wait.closed_at, wait.closed_by) == (WaitState.ABORTED, 4_000, "ada")


def test_a_cancel_is_conditioned_on_the_epoch_and_on_there_being_something_left(
    store: AnyStore,
) -> None:
    row = running(store)
    assert refusal(store, cancel(row, epoch=row.epoch + 1), Fenced).row == row
    refusal(store, cancel(row, execution=99), Missing)
    store.apply(finish(row))
    assert refusal(store, cancel(row), NotInState).row == found(store, row)


def test_a_cancel_by_way_of_a_wait_needs_the_wait_open(store: AnyStore) -> None:
    row = parked(store)
    refusal(store, cancel(row, wait=TWO), Missing)
    store.apply(answer(row))
    refusal(store, cancel(row, wait=ONE), NotInState)
    assert found(store, row).status is State.PENDING
    other = parked(store, "e-2")
    assert store.apply(cancel(other, wait=ONE)) == [("e-2", State.CANCELLED)]
    assert the_wait(store, other).closed_by == "ada"


def child_of(store: AnyStore, parent: ExecutionRow, exec_id: str, **changes: Any) -> ExecutionRow:
    owner = new_owner(store, f"lock-{exec_id}").id
    kinship = {"parent_exec_id": parent.exec_id, "parent_call": exec_id.encode()}
    return started(
        store, owner, exec_id, **{**kinship, "parent_epoch": parent.epoch, **changes}
    ).row


def test_a_cancel_reaches_all_descendants_that_are_not_finished(store: AnyStore) -> None:
    root = running(store, "root")
    child, done = child_of(store, root, "child"), child_of(store, root, "done")
    grandchild, orphan = child_of(store, child, "grandchild"), child_of(store, done, "orphan")
    store.apply(finish(done))
    assert store.apply(park(grandchild, ONE, facts=opened(wait_row(ONE)))) is State.WAITING
    other = running(store, "other")
    assert store.apply(cancel(root)) == [
        ("root", State.CANCELLING),
        ("child", State.CANCELLING),
        ("grandchild", State.CANCELLED),
        ("orphan", State.CANCELLING),
    ]
    assert the_wait(store, grandchild).state is WaitState.ABORTED
    assert found(store, orphan).status is State.CANCELLING
    assert found(store, done).status is State.COMPLETED
    assert found(store, other) == other


# --- children ---


def test_the_same_call_of_the_same_parent_is_the_same_child(store: AnyStore) -> None:
    parent = running(store)
    child = child_of(store, parent, "c-1")
    write = start_write(
        "c-2", None, parent_exec_id="e-1", parent_call=b"c-1", parent_epoch=parent.epoch
    )
    assert store.apply(write) == (child, False)
    assert store.find_execution("c-2") is None
    assert store.find_child("e-1", b"c-1") == child
    assert store.find_child("e-1", b"c-9") is None
    second = child_of(store, parent, "c-3")
    assert store.list_children("e-1", limit=9) == [child, second]
    assert store.list_children("e-1", limit=1) == [child]
    assert store.list_children("c-1", limit=9) == []


def test_a_parent_that_lost_its_epoch_starts_no_child(store: AnyStore) -> None:
    parent = running(store)
    child_of(store, parent, "c-1")
    taken = store.apply(
        Claim(parent.id, parent.epoch, new_owner(store, "heir").id, parent.owner, 50)
    )
    for exec_id in ("c-1", "c-2"):
        write = start_write(
            "c-new",
            None,
            parent_exec_id="e-1",
            parent_call=exec_id.encode(),
            parent_epoch=parent.epoch,
        )
        assert refusal(store, write, Fenced).row == taken
    gone = write._replace(parent_exec_id="nobody")
    assert refusal(store, gone, Fenced).row is None
    assert store.find_execution("c-new") is None


def test_a_cancelled_parent_starts_no_child(store: AnyStore) -> None:
    parent = running(store)
    store.apply(cancel(parent))
    write = start_write(
        "c-1", None, parent_exec_id="e-1", parent_call=ONE, parent_epoch=parent.epoch
    )
    assert refusal(store, write, Fenced).row == found(store, parent)


@pytest.mark.parametrize("end", ["finish", "fail", "cancel", "give_up", "stop"])
def test_a_child_that_ends_wakes_its_waiting_parent(store: AnyStore, end: str) -> None:
    parent = running(store)
    child = child_of(store, parent, "c-1")
    if end in ("cancel", "give_up"):
        store.apply(Release(child.id, child.epoch, NO_FACTS, 2_000))
        child = found(store, child)
    assert store.apply(park(parent, children=["c-1"], due_at=90_000)) is State.WAITING
    if end == "stop":
        store.apply(cancel(child))
        assert found(store, parent).status is State.WAITING
    store.apply(
        {
            "finish": finish(child),
            "fail": fail(child),
            "cancel": cancel(child),
            "give_up": GiveUp(child.id, child.epoch, None, FAILURE, "poison", 9_000),
            "stop": Release(child.id, child.epoch, NO_FACTS, 9_000),
        }[end]
    )
    now = found(store, parent)
    assert (now.status, now.due_at, now.status_reason) == (State.PENDING, None, None)


def test_a_parent_that_parks_after_its_child_ended_goes_on_at_once(store: AnyStore) -> None:
    parent = running(store)
    child, other = child_of(store, parent, "c-1"), child_of(store, parent, "c-2")
    store.apply(finish(child))
    assert store.apply(park(parent, children=["c-1", "c-2"])) is State.PENDING
    again = store.apply(Claim(parent.id, 2, new_owner(store, "next").id, None, 50))
    assert store.apply(park(again, children=["c-2"])) is State.WAITING
    store.apply(finish(other))
    assert found(store, parent).status is State.PENDING


def test_a_parent_does_not_wait_for_a_child_that_is_not_there(store: AnyStore) -> None:
    assert store.apply(park(running(store), children=["gone"])) is State.PENDING


def test_a_child_that_ends_does_not_touch_a_parent_that_runs(store: AnyStore) -> None:
    parent = running(store)
    child = child_of(store, parent, "c-1")
    store.apply(finish(child))
    assert found(store, parent) == parent


# --- intents, artifacts ---


def intent(identity: bytes, **changes: Any) -> IntentRow:
    return IntentRow(
        identity, 1, 0, 0, 0, "demo.charge", None, None, None, 0, "", "{}", None, b"in", 500
    )._replace(**changes)


def test_intents_come_back_in_the_order_of_recording(store: AnyStore) -> None:
    row = running(store)
    first = intent(TWO, seq=4, named="charge-42", parent=b"p", inputs='{"a":1}')
    for rows in ([first], [intent(ONE), intent(ONE, attempt=2)]):
        store.apply(Record(row.id, row.epoch, Facts(intents=rows)))
    assert store.list_intents(row.id) == [first, intent(ONE), intent(ONE, attempt=2)]
    store.apply(Record(row.id, row.epoch, Facts(intents=[intent(ONE, at=900)])))
    assert store.list_intents(row.id)[1] == intent(ONE, at=900)
    refusal(store, Record(row.id, row.epoch + 1, Facts(intents=[intent(b"3")])), Fenced)
    assert len(store.list_intents(row.id)) == 3


def saved(name: str, **changes: Any) -> ArtifactRow:
    row = ArtifactRow(ONE, 1, name, "output", '["a"]', 500, json_payload('"text"'))
    return row._replace(**changes)


def test_artifacts_come_back_with_their_bytes(store: AnyStore) -> None:
    row = running(store)
    large = saved("large", payload=json_payload("7" * 60_000))
    store.apply(Record(row.id, row.epoch, Facts(artifacts=[saved("draft"), large])))
    first, second = store.list_artifacts(row.id, limit=9)
    read = [store.find_artifact(each.id) for each in (first, second)]
    assert [each and (each.exec_id, each.row) for each in read] == [
        ("e-1", saved("draft")),
        ("e-1", large),
    ]
    assert store.list_artifacts(row.id, name="large", limit=9) == [second]
    assert store.list_artifacts(row.id, limit=1) == [first]
    assert store.find_artifact(99) is None


def test_artifacts_are_listed_without_their_bytes(store: AnyStore) -> None:
    row = running(store)
    large = saved("large", payload=json_payload("7" * 60_000))
    store.apply(Record(row.id, row.epoch, Facts(artifacts=[saved("draft"), large])))
    listed = [each.row.payload for each in store.list_artifacts(row.id, limit=9)]
    assert listed == [p._replace(data=b"") for p in (saved("draft").payload, large.payload)]


def test_what_the_source_of_a_copied_call_saved_is_lent_to_it(store: AnyStore) -> None:
    row, reuser, replay = (running(store, exec_id=f"e-{number}") for number in (1, 2, 3))
    store.apply(Record(row.id, 1, Facts([call_row(ONE)], artifacts=[saved("draft")])))
    (original,) = store.list_calls(row.id, limit=9)
    reused = call_row(TWO, source=CallSource.REUSED, reused_from=original.id)
    store.apply(Record(reuser.id, 1, Facts([reused])))
    (copy,) = store.list_calls(reuser.id, limit=9)
    carried = call_row(ONE, source=CallSource.CARRIED, reused_from=copy.id)
    given = call_row(TWO, source=CallSource.OVERRIDE, reused_from=copy.id)
    store.apply(Record(replay.id, 1, Facts([carried, given])))
    listed = store.list_artifacts(row.id, limit=9)
    assert store.list_lent_artifacts(row.id, limit=9) == []
    assert store.list_lent_artifacts(reuser.id, limit=9) == [(TWO, listed[0])]
    assert store.list_lent_artifacts(replay.id, limit=9) == [(ONE, listed[0])]
    assert store.list_lent_artifacts(replay.id, name="other", limit=9) == []


def test_a_name_is_saved_once_in_an_attempt(store: AnyStore) -> None:
    row = running(store)
    store.apply(Record(row.id, row.epoch, Facts(artifacts=[saved("draft")])))
    refusal(store, Record(row.id, row.epoch, Facts(artifacts=[saved("draft")])), AlreadyRecorded)
    more = [saved("draft", attempt=2), saved("draft", call=TWO)]
    store.apply(Record(row.id, row.epoch, Facts(artifacts=more)))
    refusal(store, Record(row.id, row.epoch + 1, Facts(artifacts=[saved("x")])), Fenced)
    assert len(store.list_artifacts(row.id, limit=9)) == 3


# --- memory ---

TEAM = {"project": "demo", "scope_type": "namespace", "scope": "team"}


def memory(key: str, text: str | None, **changes: Any) -> MemoryRow:
    payload = None if text is None else json_payload(text)
    return MemoryRow("namespace", "team", key, None, 500, payload)._replace(**changes)


def test_each_write_of_a_key_is_one_version_more(store: AnyStore) -> None:
    rows = [memory("a", "1"), memory("a", None), memory("a", "2" * 40_000)]
    assert [store.apply(Remember("demo", row)) for row in rows] == [1, 2, 3]
    assert store.apply(Remember("elsewhere", rows[0])) == 1
    assert store.apply(Remember("demo", memory("b", "5"))) == 1
    assert store.apply(Remember("demo", memory("a", "1", scope="other"))) == 1
    versions = [RecordedMemory(row, number, None) for number, row in enumerate(rows, 1)]
    assert store.list_versions(**TEAM, key="a", limit=9) == versions[::-1]
    assert store.list_versions(**TEAM, key="a", limit=1) == versions[:-3:-1][:1]
    assert store.find_memory(**TEAM, key="a") == versions[2]
    assert store.find_memory(**TEAM, key="a", version=2) == versions[1]
    assert store.find_memory(**TEAM, key="a", version=4) is None
    assert store.find_memory(**TEAM, key="c") is None


def test_deleted_keys_are_not_listed(store: AnyStore) -> None:
    for row in (memory("b", "1"), memory("a", "1"), memory("c", "1"), memory("c", None)):
        store.apply(Remember("demo", row))
    listed = store.list_memories(**TEAM, limit=9)
    assert [entry.row.key for entry in listed] == ["a", "b"]
    assert store.list_memories(**TEAM, limit=1) == listed[:1]
    store.apply(Remember("demo", memory("a", "1", scope_type="flow", scope="demo.agent")))
    scopes = [("flow", "demo.agent"), ("namespace", "team")]
    assert store.list_scopes(project="demo", limit=9) == scopes
    assert store.list_scopes(project="demo", limit=1) == scopes[:1]


def test_a_flow_writes_memory_in_the_transaction_of_its_facts(store: AnyStore) -> None:
    row = running(store)
    store.apply(Remember("demo", memory("a", "1")))
    written = memory("a", "2", identity=ONE)
    store.apply(Record(row.id, row.epoch, Facts(memories=[written])))
    assert store.find_memory(**TEAM, key="a") == RecordedMemory(written, 2, "e-1")
    refusal(store, Record(row.id, row.epoch, Facts(memories=[written])), AlreadyRecorded)
    stale = Facts(memories=[memory("a", "3", identity=TWO)])
    refusal(store, Record(row.id, row.epoch + 1, stale), Fenced)
    assert len(store.list_versions(**TEAM, key="a", limit=9)) == 2


def test_what_is_forgotten_leaves_no_version(store: AnyStore) -> None:
    for key in ("a", "a", "b"):
        store.apply(Remember("demo", memory(key, "1")))
    assert store.apply(Forget("demo", "namespace", "team", "a")) == 2
    assert store.apply(Forget("elsewhere", "namespace", "team", None)) == 0
    assert [entry.row.key for entry in store.list_memories(**TEAM, limit=9)] == ["b"]
    assert store.apply(Forget("demo", "namespace", "team", None)) == 1
    assert store.list_scopes(project="demo", limit=9) == []


# --- noticing ---


def test_who_polls_sees_a_commit_and_sees_none_where_there_was_none(store: AnyStore) -> None:
    row = running(store)
    before = store.changes()
    assert store.changes() == before
    refusal(store, answer(row), Missing)
    if not isinstance(store, PostgresStore):  # where a lock that was only looked under counts too
        assert store.changes() == before
    store.apply(Record(row.id, row.epoch, opened(wait_row(ONE))))
    after = store.changes()
    assert after != before
    assert store.changes() == after


def test_who_polls_sees_the_commits_of_another_opener(
    sqlite_store: SqliteStore, env: StillEnv
) -> None:
    row = running(sqlite_store)
    other = SqliteStore.open(sqlite_store.folder, env=env, project="demo")
    before = (sqlite_store.changes(), other.changes())
    other.apply(cancel(row))
    after = (sqlite_store.changes(), other.changes())
    assert after[0] != before[0]
    assert after[1] != before[1]
    other.close()


def test_thousands_that_wait_are_not_read_by_who_polls(sqlite_store: SqliteStore) -> None:
    row = running(sqlite_store)
    database = sqlite_store._database
    database.begin(wait=True)
    for number in range(3_000):
        values = (f"w-{number}", number + 10_000, row.id)
        database.change(
            "insert into executions (exec_id, due_at, epoch, status, home, project, flow_id,"
            " flow_name, created_at, inputs_digest, seed, spec, tags, inputs_codec,"
            " inputs_checksum) select ?1, ?2, 1, 'waiting', home, project, flow_id, flow_name,"
            " created_at, inputs_digest, seed, spec, tags, inputs_codec, inputs_checksum"
            " from executions where id = ?3",
            values,
        )
    database.commit()
    steps = [0]

    def count() -> bool:
        steps[0] += 1
        return False

    reader = database._take_reader()
    database._give_back(reader)
    reader.set_progress_handler(count, 10)
    assert sqlite_store.next_due(project="demo") == 10_000
    assert [row.exec_id for row in sqlite_store.list_due(project="demo", at=10_000, limit=9)] == [
        "w-0"
    ]
    assert row.owner is not None
    assert sqlite_store.list_served(row.owner, project="demo", limit=9) == []
    both = [State.RUNNING, State.CANCELLING]
    assert sqlite_store.list_owned(row.owner, statuses=both) == [("e-1", State.RUNNING)]
    assert sqlite_store.list_open_waits(project="demo", limit=9) == []
    unfinished = sqlite_store.list_unfinished(project="demo", flow_ids=["demo.agent"], limit=9)
    assert [one.exec_id for one in unfinished] == ["e-1"]
    reader.set_progress_handler(None)
    assert steps[0] < 100, "1,000 steps of SQLite's machine: less than a look at each"
