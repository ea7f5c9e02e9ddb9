"""What every store does: one test for each sentence of the protocol."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from kitaru._core.lifecycle import CallSource, CallState, State
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import (
    NO_FACTS,
    AlreadyRecorded,
    Claim,
    CodeRow,
    DeclareDead,
    ExecutionRow,
    Facts,
    Fenced,
    Finish,
    GiveUp,
    LearntRow,
    Missing,
    NoteRow,
    NotInState,
    Owner,
    PastCall,
    Place,
    Record,
    Refused,
    RegisterOwner,
    Release,
    Retry,
    SourceRow,
    TryAgain,
    Write,
)
from kitaru.errors import KitaruBackendError, KitaruNotFoundError

from .worlds import (
    AnyStore,
    call_row,
    facts,
    failed_call,
    force_status,
    json_payload,
    new_owner,
    start_write,
    started,
)

FAILURE = json_payload('{"type":"ValueError"}')
ONE = b"1" * 16
TWO = b"2" * 16


def running(store: AnyStore, exec_id: str = "e-1", lock: str = "lock-1") -> ExecutionRow:
    return started(store, new_owner(store, lock).id, exec_id).row


def found(store: AnyStore, row: ExecutionRow) -> ExecutionRow:
    again = store.find_execution(row.exec_id)
    assert again is not None
    return again


def complete(row: ExecutionRow, **changes: Any) -> Finish:
    return Finish(row.id, row.epoch, json_payload("1"), None, (), None, NO_FACTS, 9_000)._replace(
        **changes
    )


def fail(row: ExecutionRow, *calls: bytes, **changes: Any) -> Finish:
    write = Finish(row.id, row.epoch, None, FAILURE, calls, "it raised", NO_FACTS, 9_000)
    return write._replace(**changes)


def refusal(store: AnyStore, write: Write, kind: type[Refused]) -> Refused:
    with pytest.raises(Refused) as caught:
        store.apply(write)
    assert type(caught.value) is kind
    return caught.value


# --- owners ---


def test_a_registered_owner_comes_back_as_it_was_named(store: AnyStore) -> None:
    owner = store.apply(RegisterOwner("lock-9", 4711, "here", 5))
    assert owner == Owner(owner.id, "lock-9", 4711, "here", 5, None, None, None)
    assert store.get_owner(owner.id) == owner
    assert store.list_owners() == [owner]


def test_a_lock_name_is_registered_once(store: AnyStore) -> None:
    new_owner(store, "same")
    refusal(store, RegisterOwner("same", 1, "here", 2), AlreadyRecorded)


def test_a_process_is_declared_dead_once_and_for_ever(store: AnyStore) -> None:
    owner = new_owner(store)
    assert store.apply(DeclareDead(owner.id, 7)) is True
    assert store.apply(DeclareDead(owner.id, 8)) is False
    assert store.get_owner(owner.id).died_at == 7
    assert store.list_owners() == []


def test_an_unknown_owner_is_not_found(store: AnyStore) -> None:
    assert store.apply(DeclareDead(99, 1)) is False
    with pytest.raises(KitaruNotFoundError):
        store.get_owner(99)


# --- start ---


def test_a_start_with_an_owner_is_born_running_at_epoch_one(store: AnyStore) -> None:
    owner = new_owner(store)
    answer = started(store, owner.id)
    assert answer.created
    assert (answer.row.status, answer.row.epoch, answer.row.owner) == (State.RUNNING, 1, owner.id)
    assert answer.row.started_at == 1_000
    assert found(store, answer.row) == answer.row


def test_a_start_without_an_owner_is_born_pending_at_epoch_zero(store: AnyStore) -> None:
    row = started(store, None, home=3).row
    assert (row.status, row.epoch, row.owner, row.started_at) == (State.PENDING, 0, None, None)
    assert found(store, row) == row


def test_every_field_of_a_start_comes_back(store: AnyStore) -> None:
    write = start_write(
        "e-7",
        None,
        key="order-42",
        parent_exec_id="e-0",
        parent_call=b"call",
        original_exec_id="e-old",
        tags='["a"]',
        code_folder=None,
        code_module=None,
        deadline_at=77,
        keep_seconds=88,
    )
    row = store.apply(write).row
    again = found(store, row)
    for name in set(write._fields) - {"at", "parent_epoch"}:
        assert getattr(again, name) == getattr(write, name), name
    assert (again.created_at, again.attempt, again.deaths) == (1_000, 1, 0)
    assert (again.metadata, again.failed_calls, again.result) == ("{}", (), None)


def test_a_key_that_the_flow_already_has_answers_with_what_stands(store: AnyStore) -> None:
    owner = new_owner(store)
    first = started(store, owner.id, "e-1", key="k").row
    again = started(store, owner.id, "e-2", key="k", inputs_digest=b"other")
    assert again == (first, False)
    assert store.find_execution("e-2") is None


def test_a_key_counts_within_project_and_flow(store: AnyStore) -> None:
    started(store, None, "e-1", key="k")
    assert started(store, None, "e-2", key="k", flow_id="demo.other").created
    assert started(store, None, "e-3", key="k", project="elsewhere").created
    assert started(store, None, "e-4").created
    assert started(store, None, "e-5").created


def test_an_owner_that_was_declared_dead_starts_nothing(store: AnyStore) -> None:
    owner = new_owner(store)
    store.apply(DeclareDead(owner.id, 5))
    refusal(store, start_write("e-1", owner.id), Fenced)
    refusal(store, start_write("e-1", 99), Fenced)
    assert store.find_execution("e-1") is None


def test_an_execution_id_is_used_once(store: AnyStore) -> None:
    row = started(store, None, "e-1").row
    assert refusal(store, start_write("e-1", None), AlreadyRecorded).row == row


# --- claim ---


def test_a_claim_takes_a_pending_execution(store: AnyStore) -> None:
    owner = new_owner(store)
    row = started(store, None).row
    claimed = store.apply(Claim(row.id, 0, owner.id, None, 77))
    assert (claimed.status, claimed.epoch, claimed.owner) == (State.RUNNING, 1, owner.id)
    assert (claimed.started_at, claimed.deaths) == (77, 0)
    assert found(store, row) == claimed


def test_who_claims_too_late_is_fenced_and_sees_what_stands(store: AnyStore) -> None:
    one, two = new_owner(store, "a"), new_owner(store, "b")
    row = started(store, None).row
    claimed = store.apply(Claim(row.id, 0, one.id, None, 5))
    assert refusal(store, Claim(row.id, 0, two.id, None, 6), Fenced).row == claimed
    assert found(store, row) == claimed


def test_a_takeover_declares_the_former_owner_dead_and_raises_the_epoch(store: AnyStore) -> None:
    row = running(store)
    heir = new_owner(store, "heir")
    assert row.owner is not None
    taken = store.apply(Claim(row.id, row.epoch, heir.id, row.owner, 50))
    assert (taken.status, taken.epoch, taken.owner, taken.deaths) == (State.RUNNING, 2, heir.id, 1)
    assert taken.started_at == row.started_at
    assert store.get_owner(row.owner).died_at == 50


def test_a_takeover_names_the_owner_that_it_saw(store: AnyStore) -> None:
    row = running(store)
    heir, other = new_owner(store, "heir"), new_owner(store, "other")
    refusal(store, Claim(row.id, row.epoch, heir.id, other.id, 50), Fenced)
    refusal(store, Claim(row.id, row.epoch, heir.id, None, 50), Fenced)
    refusal(store, Claim(row.id, row.epoch + 1, heir.id, row.owner, 50), Fenced)
    assert row.owner is not None
    refusal(store, Claim(row.id, row.epoch, row.owner, row.owner, 50), Fenced)
    assert found(store, row) == row
    assert store.get_owner(row.owner).died_at is None


def test_a_dead_owner_claims_nothing(store: AnyStore) -> None:
    dead = new_owner(store, "dead")
    store.apply(DeclareDead(dead.id, 2))
    pending = started(store, None, "e-1").row
    refusal(store, Claim(pending.id, 0, dead.id, None, 5), Fenced)
    row = running(store, "e-2", "alive")
    refusal(store, Claim(row.id, 1, dead.id, row.owner, 5), Fenced)
    assert row.owner is not None
    assert store.get_owner(row.owner).died_at is None


@pytest.mark.parametrize("status", [State.WAITING, State.CANCELLING, State.CANCELLED])
def test_what_is_neither_pending_nor_running_is_not_claimed(store: AnyStore, status: State) -> None:
    row = running(store)
    force_status(store, row.id, status)
    heir = new_owner(store, "heir")
    for former in (None, row.owner):
        refusal(store, Claim(row.id, row.epoch, heir.id, former, 5), Fenced)


def test_deaths_count_up_until_a_call_is_recorded(store: AnyStore) -> None:
    row = running(store)
    deaths = []
    for number in range(5):
        if number == 3:
            store.apply(Record(row.id, row.epoch, facts(call_row(ONE))))
        heir = new_owner(store, f"heir-{number}")
        row = store.apply(Claim(row.id, row.epoch, heir.id, row.owner, 50))
        deaths.append(row.deaths)
    assert deaths == [1, 2, 3, 1, 2]


def test_a_call_of_another_execution_does_not_reset_deaths(store: AnyStore) -> None:
    row, other = running(store, "e-1", "a"), running(store, "e-2", "b")
    for number in range(2):
        store.apply(Record(other.id, other.epoch, facts(call_row(bytes([number])))))
        heir = new_owner(store, f"heir-{number}")
        row = store.apply(Claim(row.id, row.epoch, heir.id, row.owner, 50))
    assert row.deaths == 2


# --- record ---


def test_an_outcome_comes_back_as_it_was_recorded(store: AnyStore) -> None:
    row = running(store)
    call = call_row(
        ONE,
        seq=4,
        place=2,
        n=3,
        named="charge-42",
        kind="llm_call",
        parent=b"parent",
        parent_attempt=2,
        branch="b/1",
        reuse_key=b"key",
        code=b"code",
        metadata='{"cost":1}',
    )
    assert store.apply(Record(row.id, row.epoch, facts(call))) is None
    (recorded,) = store.list_calls(row.id, limit=10)
    assert (recorded.row, recorded.reopened, recorded.reused_from) == (call, False, None)
    assert store.load_payload(recorded.id) == call.payload


def test_a_stale_epoch_records_nothing(store: AnyStore) -> None:
    row = running(store)
    heir = new_owner(store, "heir")
    taken = store.apply(Claim(row.id, row.epoch, heir.id, row.owner, 5))
    everything = Facts(
        calls=[call_row(ONE)],
        learnt=[LearntRow(TWO, "now", "1")],
        codes=[CodeRow("demo.research", b"code", "{}")],
        notes=[NoteRow("drift", "changed", 5)],
        metadata='{"a":1}',
    )
    for part in (everything, *(Facts(**{k: v}) for k, v in everything._asdict().items() if v)):
        assert refusal(store, Record(row.id, row.epoch, part), Fenced).row == taken
    assert store.list_calls(row.id, limit=10) == []
    assert store.load_learnt(row.id) == []
    assert store.list_notes(row.id) == []
    assert store.list_codes(project="demo", checkpoint="demo.research", limit=5) == []
    assert found(store, row).metadata == "{}"


def test_an_empty_record_still_asks_whether_the_epoch_rules(store: AnyStore) -> None:
    row = running(store)
    assert store.apply(Record(row.id, row.epoch, NO_FACTS)) is None
    refusal(store, Record(row.id, row.epoch + 1, NO_FACTS), Fenced)


def test_outcomes_of_bodies_that_still_run_are_recorded_while_cancelling(store: AnyStore) -> None:
    row = running(store)
    force_status(store, row.id, State.CANCELLING)
    store.apply(Record(row.id, row.epoch, facts(call_row(ONE))))
    assert len(store.load_outcomes(row.id)) == 1


@pytest.mark.parametrize("end", [complete, fail])
def test_a_finished_execution_takes_no_outcome(store: AnyStore, end: Any) -> None:
    row = running(store)
    store.apply(end(row))
    refused = refusal(store, Record(row.id, row.epoch, facts(call_row(ONE))), NotInState)
    assert refused.row == found(store, row)
    assert store.load_outcomes(row.id) == []


def test_a_write_for_an_execution_that_does_not_exist_is_missing(store: AnyStore) -> None:
    for write in (
        Record(5, 1, facts(call_row(ONE))),
        Record(5, 1, NO_FACTS),
        Claim(5, 1, 1, None, 1),
        Finish(5, 1, FAILURE, None, (), None, NO_FACTS, 1),
        TryAgain(5, 1, FAILURE, (), NO_FACTS, 1),
        Release(5, 1, NO_FACTS, 1),
        Retry(5, 1, 1),
        GiveUp(5, 1, None, FAILURE, "x", 1),
        GiveUp(5, 1, 3, FAILURE, "x", 1),
    ):
        assert refusal(store, write, Missing).row is None


def test_a_call_succeeds_once(store: AnyStore) -> None:
    row = running(store)
    store.apply(Record(row.id, 1, facts(call_row(ONE))))
    for second in (call_row(ONE), call_row(ONE, attempt=2), failed_call(ONE, attempt=2)):
        assert refusal(store, Record(row.id, 1, facts(second)), AlreadyRecorded).row == row
    assert len(store.load_outcomes(row.id)) == 1


def test_an_attempt_has_one_outcome(store: AnyStore) -> None:
    row = running(store)
    store.apply(Record(row.id, 1, facts(failed_call(ONE))))
    refusal(store, Record(row.id, 1, facts(failed_call(ONE))), AlreadyRecorded)
    refusal(store, Record(row.id, 1, facts(call_row(ONE))), AlreadyRecorded)
    store.apply(Record(row.id, 1, facts(failed_call(ONE, attempt=2))))
    store.apply(Record(row.id, 1, facts(call_row(ONE, attempt=3))))
    states = [(o.attempt, o.state) for o in store.load_outcomes(row.id)]
    assert states == [(1, CallState.FAILED), (2, CallState.FAILED), (3, CallState.COMPLETED)]


def test_the_same_identity_in_another_execution_is_another_call(store: AnyStore) -> None:
    one, two = running(store, "e-1", "a"), running(store, "e-2", "b")
    for row in (one, two):
        store.apply(Record(row.id, 1, facts(call_row(ONE))))
    assert [len(store.load_outcomes(row.id)) for row in (one, two)] == [1, 1]


def test_facts_are_recorded_all_or_none(store: AnyStore) -> None:
    row = running(store)
    store.apply(Record(row.id, 1, Facts(learnt=[LearntRow(TWO, "now", "1")])))
    half = Facts(calls=[call_row(ONE)], learnt=[LearntRow(TWO, "now", "2")], metadata='{"half":1}')
    refusal(store, Record(row.id, 1, half), AlreadyRecorded)
    refusal(store, Record(row.id, 1, facts(call_row(ONE), call_row(ONE))), AlreadyRecorded)
    assert store.load_outcomes(row.id) == []
    assert store.load_learnt(row.id) == [LearntRow(TWO, "now", "1")]
    assert found(store, row) == row


def test_learnt_facts_notes_and_metadata_come_back_in_order(store: AnyStore) -> None:
    row = running(store)
    learnt = [LearntRow(TWO, "now", "1"), LearntRow(ONE, "now", "2")]
    notes = [NoteRow("drift", "b", 9), NoteRow("takeover", "a", 3)]
    store.apply(Record(row.id, 1, Facts(learnt=learnt, notes=notes, metadata='{"a":1}')))
    store.apply(Record(row.id, 1, Facts(metadata='{"b":2}')))
    assert store.load_learnt(row.id) == learnt
    assert store.list_notes(row.id) == notes
    assert found(store, row).metadata == '{"b":2}'


def test_a_version_of_code_keeps_the_execution_that_recorded_it_first(store: AnyStore) -> None:
    one, two = running(store, "e-1", "a"), running(store, "e-2", "b")
    old, new = CodeRow("demo.research", b"old", "{}"), CodeRow("demo.research", b"new", '{"f":1}')
    store.apply(Record(one.id, 1, Facts(codes=[old])))
    store.apply(Record(two.id, 1, Facts(codes=[old, new])))
    codes = store.list_codes(project="demo", checkpoint="demo.research", limit=5)
    assert codes == [(b"new", '{"f":1}', two.id, None, None), (b"old", "{}", one.id, None, None)]
    assert store.list_codes(project="demo", checkpoint="demo.research", limit=1) == codes[:1]
    assert store.list_codes(project="demo", checkpoint="demo.write", limit=5) == []
    assert store.list_codes(project="elsewhere", checkpoint="demo.research", limit=5) == []


# --- finish, try again, release, retry, give up ---


def test_a_result_completes_an_execution(store: AnyStore) -> None:
    row = running(store)
    write = complete(row, facts=facts(call_row(ONE)), reason="done")
    assert store.apply(write) is State.COMPLETED
    now = found(store, row)
    assert (now.status, now.owner, now.ended_at) == (State.COMPLETED, None, 9_000)
    assert (now.result, now.failure, now.status_reason) == (write.result, None, "done")
    assert (now.epoch, now.home) == (row.epoch, row.home)
    assert len(store.load_outcomes(row.id)) == 1


def test_a_failure_fails_an_execution_and_is_an_attempt_on_record(store: AnyStore) -> None:
    row = running(store)
    assert store.apply(fail(row, ONE, TWO)) is State.FAILED
    now = found(store, row)
    assert (now.status, now.failure, now.failed_calls) == (State.FAILED, FAILURE, (ONE, TWO))
    assert (now.result, now.owner, now.status_reason) == (None, None, "it raised")
    assert store.list_attempts(row.id) == [(1, 9_000, FAILURE)]


def test_a_finish_while_cancelling_loses_and_says_so(store: AnyStore) -> None:
    for number, end in enumerate((complete, fail)):
        row = running(store, f"e-{number}", f"lock-{number}")
        force_status(store, row.id, State.CANCELLING)
        assert store.apply(end(row, facts=facts(call_row(ONE)))) is State.CANCELLED
        now = found(store, row)
        assert (now.status, now.result, now.failure) == (State.CANCELLED, None, None)
        assert (now.owner, now.ended_at) == (None, 9_000)
        assert store.list_attempts(row.id) == []
        assert len(store.load_outcomes(row.id)) == 1


def test_an_execution_finishes_once_and_by_its_owner(store: AnyStore) -> None:
    row = running(store)
    refusal(store, complete(row, epoch=0), Fenced)
    store.apply(complete(row))
    refusal(store, complete(row), NotInState)
    refusal(store, fail(row), NotInState)
    assert found(store, row).status is State.COMPLETED


def test_trying_again_keeps_the_owner_and_begins_the_next_attempt(store: AnyStore) -> None:
    row = running(store)
    failed = facts(failed_call(ONE), failed_call(TWO))
    assert store.apply(TryAgain(row.id, 1, FAILURE, [ONE], failed, 60)) is None
    now = found(store, row)
    assert (now.status, now.owner, now.epoch, now.attempt) == (State.RUNNING, row.owner, 1, 2)
    assert (now.failure, now.failed_calls) == (FAILURE, ())
    assert store.list_attempts(row.id) == [(1, 60, FAILURE)]
    assert {o.identity: o.reopened for o in store.load_outcomes(row.id)} == {ONE: True, TWO: False}


def test_only_a_running_execution_is_tried_again(store: AnyStore) -> None:
    row = running(store)
    refusal(store, TryAgain(row.id, 2, FAILURE, (), NO_FACTS, 6), Fenced)
    force_status(store, row.id, State.CANCELLING)
    refusal(store, TryAgain(row.id, 1, FAILURE, (), facts(call_row(ONE)), 6), NotInState)
    assert store.load_outcomes(row.id) == []
    assert store.list_attempts(row.id) == []


def test_a_release_hands_back_without_a_death(store: AnyStore) -> None:
    row = running(store)
    answer = store.apply(Release(row.id, 1, facts(call_row(ONE)), 70))
    assert answer is State.PENDING
    now = found(store, row)
    assert (now.status, now.owner, now.epoch, now.deaths) == (State.PENDING, None, 2, 0)
    # Nobody serves it: whoever may, claims it at once.
    assert (now.ended_at, now.home) == (None, None)
    assert len(store.load_outcomes(row.id)) == 1
    refusal(store, Record(row.id, 1, facts(call_row(TWO))), Fenced)
    assert store.apply(Claim(row.id, 2, row.owner or 0, None, 80)).epoch == 3


def test_a_release_while_cancelling_is_the_end(store: AnyStore) -> None:
    row = running(store)
    force_status(store, row.id, State.CANCELLING)
    assert store.apply(Release(row.id, 1, NO_FACTS, 70)) is State.CANCELLED
    now = found(store, row)
    assert (now.status, now.owner, now.ended_at) == (State.CANCELLED, None, 70)


def test_a_release_by_who_no_longer_owns_is_fenced(store: AnyStore) -> None:
    row = running(store)
    refusal(store, Release(row.id, 0, facts(call_row(ONE)), 70), Fenced)
    assert found(store, row) == row
    assert store.load_outcomes(row.id) == []


def test_a_retry_opens_a_failed_execution_and_its_failed_calls(store: AnyStore) -> None:
    row = running(store)
    heir = new_owner(store, "heir")
    row = store.apply(Claim(row.id, 1, heir.id, row.owner, 5))
    ended = Facts(calls=[failed_call(ONE), failed_call(TWO), failed_call(b"3", retry_at=99)])
    store.apply(fail(row, ONE, b"3", facts=ended))
    opened = store.apply(Retry(row.id, row.epoch, 100))
    assert (opened.status, opened.attempt, opened.deaths) == (State.PENDING, 2, 0)
    assert (opened.failed_calls, opened.ended_at, opened.owner) == ((), None, None)
    assert (opened.failure, opened.status_reason) == (FAILURE, None)
    assert found(store, row) == opened
    reopened = {o.identity: o.reopened for o in store.load_outcomes(row.id)}
    assert reopened == {ONE: True, TWO: False, b"3": False}


def test_a_reopened_call_counts_as_an_attempt_and_may_succeed(store: AnyStore) -> None:
    row = running(store)
    store.apply(fail(row, ONE, facts=facts(failed_call(ONE))))
    store.apply(Retry(row.id, 1, 100))
    row = store.apply(Claim(row.id, 1, new_owner(store, "b").id, None, 101))
    refusal(store, Record(row.id, row.epoch, facts(call_row(ONE, attempt=1))), AlreadyRecorded)
    store.apply(Record(row.id, row.epoch, facts(call_row(ONE, attempt=2))))
    store.apply(complete(row))
    now = found(store, row)
    assert (now.status, now.failure) == (State.COMPLETED, None)
    assert store.list_attempts(row.id) == [(1, 9_000, FAILURE)]


def test_only_a_failed_execution_at_the_epoch_seen_is_retried(store: AnyStore) -> None:
    row = running(store)
    refusal(store, Retry(row.id, 1, 5), NotInState)
    store.apply(fail(row))
    refusal(store, Retry(row.id, 2, 5), Fenced)
    store.apply(Retry(row.id, 1, 5))
    refusal(store, Retry(row.id, 1, 5), NotInState)


def test_a_retry_brings_its_own_deadline(store: AnyStore) -> None:
    row = running(store)
    store.apply(fail(row))
    assert store.apply(Retry(row.id, 1, 5, 5_000)).deadline_at == 5_000


def test_giving_up_fails_what_nobody_runs(store: AnyStore) -> None:
    for number, status in enumerate((State.PENDING, State.WAITING)):
        row = started(store, None, f"e-{number}").row
        force_status(store, row.id, status)
        assert store.apply(GiveUp(row.id, 0, None, FAILURE, "poison", 8)) is None
        now = found(store, row)
        assert (now.status, now.failure, now.status_reason) == (State.FAILED, FAILURE, "poison")
        assert (now.ended_at, now.failed_calls) == (8, ())
        assert store.list_attempts(row.id) == [(1, 8, FAILURE)]


def test_giving_up_a_running_one_takes_it_from_its_dead_owner(store: AnyStore) -> None:
    row = running(store)
    assert row.owner is not None
    store.apply(GiveUp(row.id, 1, row.owner, FAILURE, "poison", 8))
    now = found(store, row)
    assert (now.status, now.owner, now.deaths) == (State.FAILED, None, 1)
    assert store.get_owner(row.owner).died_at == 8
    refusal(store, Record(row.id, 1, facts(call_row(ONE))), Fenced)
    assert store.apply(Retry(row.id, now.epoch, 9)).deaths == 0


def test_a_running_execution_is_not_given_up_behind_its_owners_back(store: AnyStore) -> None:
    row = running(store)
    other = new_owner(store, "other")
    refusal(store, GiveUp(row.id, 1, None, FAILURE, "x", 8), NotInState)
    refusal(store, GiveUp(row.id, 1, other.id, FAILURE, "x", 8), Fenced)
    refusal(store, GiveUp(row.id, 2, row.owner, FAILURE, "x", 8), Fenced)
    assert found(store, row) == row
    assert store.get_owner(other.id).died_at is None


@pytest.mark.parametrize("status", [State.COMPLETED, State.CANCELLED])
def test_a_finished_execution_is_not_given_up(store: AnyStore, status: State) -> None:
    row = started(store, None).row
    force_status(store, row.id, status)
    refusal(store, GiveUp(row.id, 0, None, FAILURE, "x", 8), NotInState)
    refusal(store, GiveUp(row.id, 0, 1, FAILURE, "x", 8), NotInState)


# --- groups ---


def test_a_refused_write_does_not_fail_its_neighbours(store: AnyStore) -> None:
    row = running(store)
    answers: list[Any] = []
    for number, epoch in enumerate((1, 7, 1)):
        write = Record(row.id, epoch, facts(call_row(bytes([number]))))
        store.post(write, lambda answer, error: answers.append(type(error)))
    assert answers == []
    assert store.flush(wait=True) is True
    assert answers == [type(None), Fenced, type(None)]
    assert [o.identity for o in store.load_outcomes(row.id)] == [b"\0", b"\2"]


def test_a_write_takes_everything_queued_along_and_before_it(store: AnyStore) -> None:
    row = running(store)
    order: list[str] = []
    learnt = Facts(learnt=[LearntRow(ONE, "now", "1")])
    store.post(Record(row.id, 1, learnt), lambda answer, error: order.append("posted"))
    refusal(store, Record(row.id, 1, learnt), AlreadyRecorded)
    assert order == ["posted"]


def test_a_callback_may_queue_and_commit_further_writes(store: AnyStore) -> None:
    row = running(store)

    def again(answer: Any, error: BaseException | None) -> None:
        store.apply(Record(row.id, 1, facts(call_row(TWO))))

    store.post(Record(row.id, 1, facts(call_row(ONE))), again)
    store.flush(wait=True)
    assert [o.identity for o in store.load_outcomes(row.id)] == [ONE, TWO]


def test_a_flush_without_waiting_commits_when_nobody_else_writes(store: AnyStore) -> None:
    row = running(store)
    assert store.flush(wait=False) is True
    store.post(Record(row.id, 1, facts(call_row(ONE))), lambda answer, error: None)
    # Over a network nobody commits without waiting: whoever cannot wait asks another thread.
    assert store.flush(wait=False) is not isinstance(store, PostgresStore)
    assert store.flush(wait=True) is True
    assert len(store.load_outcomes(row.id)) == 1


def test_many_threads_write_at_once_and_each_has_its_own_answer(store: AnyStore) -> None:
    row = running(store)
    answers: list[Any] = []

    def work(number: int) -> None:
        for step in range(20):
            write = Record(row.id, 1, facts(call_row(b"%d-%d" % (number, step % 10))))
            try:
                answers.append(store.apply(write))
            except AlreadyRecorded as refused:
                answers.append(type(refused))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert answers.count(None) == 80
    assert answers.count(AlreadyRecorded) == 80
    assert len(store.load_outcomes(row.id)) == 80


# --- reads ---


def test_an_unknown_execution_is_found_nowhere(store: AnyStore) -> None:
    assert store.find_execution("nobody") is None
    assert store.search_executions("nobody", project="demo", limit=5) == []
    assert store.load_outcomes(9) == []
    with pytest.raises(KitaruNotFoundError):
        store.get_status(9)
    with pytest.raises(KitaruNotFoundError):
        store.load_payload(9)


def test_a_status_is_read_without_the_rest(store: AnyStore) -> None:
    row = running(store)
    assert store.get_status(row.id) == (State.RUNNING, 1, row.owner)
    store.apply(complete(row))
    assert store.get_status(row.id) == (State.COMPLETED, 1, None)


def test_executions_are_searched_by_a_part_of_their_id(store: AnyStore) -> None:
    for name in ("abc-1", "abd-2", "x%_-3"):
        started(store, None, name)
    started(store, None, "abc-9", project="elsewhere")

    def names(part: str, limit: int = 9) -> list[str]:
        found = store.search_executions(part, project="demo", limit=limit)
        return [row.exec_id for row in found]

    assert names("ab") == ["abd-2", "abc-1"]
    assert names("c-") == ["abc-1"]
    assert names("%") == ["x%_-3"]
    assert names("", 2) == ["x%_-3", "abd-2"]


def test_executions_are_listed_newest_first_by_flow_status_and_page(store: AnyStore) -> None:
    rows = [started(store, None, f"e-{k}", flow_id=f"m.f{k % 2}").row for k in range(4)]
    rows[3] = rows[3]._replace(status=State.WAITING)
    force_status(store, rows[3].id, State.WAITING)
    started(store, None, "other", project="elsewhere")

    def ids(**options: Any) -> list[int]:
        options.setdefault("limit", 9)
        return [row.id for row in store.list_executions(project="demo", **options)]

    assert ids() == [rows[k].id for k in (3, 2, 1, 0)]
    assert ids(limit=2) == [rows[3].id, rows[2].id]
    assert ids(before=rows[2].id) == [rows[1].id, rows[0].id]
    assert ids(flow="m.f1") == [rows[3].id, rows[1].id]
    assert ids(flow="agent") == ids()
    assert ids(statuses=[State.WAITING]) == [rows[3].id]
    assert ids(statuses=[State.WAITING, State.PENDING]) == ids()
    assert ids(flow="' or 1=1 --") == []


def test_unfinished_executions_are_listed_oldest_first(store: AnyStore) -> None:
    states = [State.PENDING, State.WAITING, State.FAILED, State.PENDING, State.COMPLETED]
    rows = [started(store, None, f"e-{k}").row for k in range(len(states))]
    for row, status in zip(rows, states, strict=True):
        force_status(store, row.id, status)
    run = running(store, "e-run")
    stopping = running(store, "e-stop", "lock-2")
    force_status(store, stopping.id, State.CANCELLING)
    started(store, None, "e-other", flow_id="demo.other")

    def ids(*flow_ids: str, limit: int = 9) -> list[int]:
        listed = store.list_unfinished(project="demo", flow_ids=flow_ids, limit=limit)
        return [row.id for row in listed]

    assert ids("demo.agent") == [rows[0].id, rows[3].id, run.id, stopping.id]
    assert ids("demo.agent", limit=1) == [rows[0].id]
    assert ids() == []
    assert len(ids("demo.agent", "demo.other")) == 5
    assert store.list_unfinished(project="no", flow_ids=["demo.agent"], limit=9) == []
    assert run.owner is not None
    others = store.list_unfinished(
        project="demo", flow_ids=["demo.agent"], limit=9, but_of=[run.owner, 99]
    )
    assert [row.id for row in others] == [rows[0].id, rows[3].id, stopping.id]


def test_what_a_live_process_serves_is_left_out_of_the_unfinished(store: AnyStore) -> None:
    home = new_owner(store).id
    started(store, None, "e-served", home=home)
    orphan = started(store, None, "e-orphan").row
    listed = store.list_unfinished(project="demo", flow_ids=["demo.agent"], limit=1, but_of=[home])
    assert listed == [orphan]


def test_executions_are_counted_by_status(store: AnyStore) -> None:
    started(store, None, "e-1")
    started(store, None, "e-2")
    running(store, "e-3")
    assert store.count_executions(project="demo") == {State.PENDING: 2, State.RUNNING: 1}
    assert store.count_executions(project="elsewhere") == {}


def test_outcomes_are_loaded_in_the_order_of_recording(store: AnyStore) -> None:
    row = running(store)
    store.apply(Record(row.id, 1, facts(failed_call(TWO, retry_at=50), call_row(ONE))))
    store.apply(Record(row.id, 1, facts(call_row(TWO, attempt=2, reused_from=1))))
    outcomes = store.load_outcomes(row.id)
    assert [tuple(o)[1:] for o in outcomes] == [
        (TWO, 1, CallState.FAILED, 50, False, None),
        (ONE, 1, CallState.COMPLETED, None, False, None),
        (TWO, 2, CallState.COMPLETED, None, False, 1),
    ]
    assert sorted(o.id for o in outcomes) == [o.id for o in outcomes]


def test_payloads_are_loaded_by_the_ids_of_their_calls(store: AnyStore) -> None:
    one, two = running(store, "e-1", "a"), running(store, "e-2", "b")
    for k in range(4):
        for row in (one, two):
            call = call_row(bytes([k]), payload=json_payload(f"{row.id * 10 + k}"))
            store.apply(Record(row.id, 1, facts(call)))
    ids = [o.id for o in store.load_outcomes(two.id)]
    page = store.load_payloads(two.id, [ids[2], ids[1]])
    assert page == [(ids[1], json_payload("21")), (ids[2], json_payload("22"))]
    others = [o.id for o in store.load_outcomes(one.id)]
    assert store.load_payloads(two.id, [*others, ids[3] + 1]) == []


def test_how_long_bodies_took_is_loaded_in_pages_by_id(store: AnyStore) -> None:
    one, two = running(store, "e-1", "a"), running(store, "e-2", "b")
    for k in range(3):
        for row in (one, two):
            call = call_row(bytes([k]), started_at=1_000, ended_at=1_000 + k * 500_000)
            store.apply(Record(row.id, 1, facts(call)))
    ids = [o.id for o in store.load_outcomes(two.id)]
    assert store.load_seconds(two.id, ids[1:]) == [(ids[1], 0.5), (ids[2], 1.0)]
    assert store.load_seconds(two.id, ids[:1]) == [(ids[0], 0.0)]
    assert store.load_seconds(two.id, [ids[2] + 1]) == []


@pytest.mark.parametrize("size", [0, 1, 32 * 1024, 32 * 1024 + 1, 300_000])
def test_a_payload_of_any_size_comes_back_whole(store: AnyStore, size: int) -> None:
    payload = json_payload("x" * size)
    owner = new_owner(store)
    row = started(store, owner.id, inputs=payload).row
    call = call_row(ONE, payload=payload)
    store.apply(complete(row, result=payload, facts=facts(call)))
    now = found(store, row)
    assert (now.inputs, now.result) == (payload, payload)
    (recorded,) = store.list_calls(row.id, limit=5)
    assert recorded.row.payload == payload
    assert store.load_payloads(row.id, [recorded.id]) == [(recorded.id, payload)]


def test_places_are_the_successes_of_an_execution_by_place(store: AnyStore) -> None:
    row, other = running(store, "e-1", "lock-1"), running(store, "e-2", "lock-2")
    here: dict[str, Any] = {"parent": b"p", "parent_attempt": 1, "branch": "b"}
    calls = [
        call_row(b"a", place=2, arguments='{"x":"2"}', **here),
        call_row(b"b", place=0, arguments='{"x":"0"}', **here),
        failed_call(b"c", place=1, **here),
        call_row(b"d", place=3, checkpoint="demo.write"),
    ]
    store.apply(Record(row.id, 1, Facts(calls=calls)))
    store.apply(Record(other.id, 1, Facts(calls=[call_row(b"e")])))
    assert store.list_places(row.id) == [
        Place(b"p", 1, "b", "demo.research", b"b", 0, '{"x":"0"}'),
        Place(b"p", 1, "b", "demo.research", b"a", 2, '{"x":"2"}'),
        Place(None, 0, "", "demo.write", b"d", 3, '{"topic":"00"}'),
    ]


def test_the_past_of_an_execution_is_its_attempts_without_their_values(store: AnyStore) -> None:
    row, other = running(store, "e-1", "lock-1"), running(store, "e-2", "lock-2")
    failed = failed_call(ONE, retry_at=5)
    again = call_row(ONE, attempt=2, seq=3, place=2, parent=b"p", branch="b", code=b"c",
                     metadata='{"cost":1}', started_at=7, ended_at=9)  # fmt: skip
    store.apply(Record(other.id, 1, facts(call_row(b"elsewhere"))))
    store.apply(Record(row.id, 1, Facts(calls=[failed, again, call_row(b"late")])))
    everything = store.list_past(row.id, upto=1 << 60)
    assert [past.identity for past in everything] == [ONE, ONE, b"late"]
    first, second = store.list_past(row.id, upto=everything[1].id)
    assert (first.state, first.retry_at, first.reopened) == (CallState.FAILED, 5, False)
    assert second == PastCall(
        second.id, ONE, 2, CallState.COMPLETED, None, False, again.source, 3, 2, again.checkpoint,
        again.named, b"p", again.parent_attempt, "b", again.arguments, b"c", '{"cost":1}', 7, 9,
    )  # fmt: skip


def test_the_newest_success_of_another_execution_is_reusable(store: AnyStore) -> None:
    rows = [running(store, f"e-{k}", f"lock-{k}") for k in range(3)]
    for k, row in enumerate(rows[:2]):
        call = call_row(ONE, reuse_key=b"key", ended_at=100 * k, payload=json_payload(str(k)))
        store.apply(Record(row.id, 1, facts(call)))
    store.apply(Record(rows[2].id, 1, facts(failed_call(ONE, reuse_key=b"key", ended_at=999))))
    mine = rows[2].id

    newest = store.find_reusable(b"key", execution=mine, before=None, since=None)
    assert newest is not None
    assert tuple(newest)[1:] == ("e-1", ONE, 100, 100, json_payload("1"))
    older = store.find_reusable(b"key", execution=mine, before=newest.id, since=None)
    assert older is not None
    assert older.exec_id == "e-0"
    assert store.find_reusable(b"key", execution=mine, before=older.id, since=None) is None
    assert store.find_reusable(b"key", execution=mine, before=None, since=100) == newest
    assert store.find_reusable(b"key", execution=mine, before=None, since=101) is None
    assert store.find_reusable(b"key", execution=rows[1].id, before=None, since=None) == older
    assert store.find_reusable(b"other", execution=mine, before=None, since=None) is None


def test_a_reused_call_names_its_source(store: AnyStore) -> None:
    source, user = running(store, "e-1", "a"), running(store, "e-2", "b")
    store.apply(Record(source.id, 1, facts(call_row(b"\xab\xcd"))))
    (original,) = store.list_calls(source.id, limit=5)
    reused = call_row(ONE, source=CallSource.REUSED, reused_from=original.id)
    store.apply(Record(user.id, 1, facts(reused)))
    (recorded,) = store.list_calls(user.id, limit=5)
    assert recorded.row == reused
    assert recorded.reused_from == "e-1:abcd"


def test_calls_are_listed_in_pages_after_an_id(store: AnyStore) -> None:
    row = running(store)
    store.apply(Record(row.id, 1, facts(*(call_row(bytes([k])) for k in range(5)))))
    first = store.list_calls(row.id, limit=2)
    rest = store.list_calls(row.id, after=first[-1].id, limit=9)
    assert [c.row.identity for c in first + rest] == [bytes([k]) for k in range(5)]


def test_arguments_are_sampled_from_one_checkpoint(store: AnyStore) -> None:
    row = running(store)
    calls = [call_row(bytes([k]), arguments=f'{{"x":"{k}"}}') for k in range(3)]
    store.apply(Record(row.id, 1, facts(*calls, call_row(b"w", checkpoint="demo.write"))))
    sample = store.sample_arguments(row.id, checkpoint="demo.research", limit=2)
    assert sample == ['{"x":"0"}', '{"x":"1"}']


def test_sources_are_kept_once_and_a_version_without_files_gets_them(store: AnyStore) -> None:
    row = running(store)
    bare = CodeRow("demo.research", b"code", "{}")
    first, second = SourceRow(b"one", b"text"), SourceRow(b"two", b"more")
    full = bare._replace(files='{"demo":"6f6e65"}', unseen='["getattr"]', sources=(first,))
    later = bare._replace(files='{"demo":"74776f"}', sources=(second, SourceRow(b"one", b"other")))
    for code in (bare, full, later):
        store.apply(Record(row.id, 1, Facts(codes=[code])))
    (known,) = store.list_codes(project="demo", checkpoint="demo.research", limit=5)
    assert known == (b"code", "{}", row.id, '{"demo":"6f6e65"}', '["getattr"]')
    assert store.load_source(b"one") == b"text"
    assert store.load_source(b"two") == b"more"
    assert store.load_source(b"three") is None


def test_nobody_keeps_a_source_who_does_not_own_the_execution(store: AnyStore) -> None:
    row = running(store)
    code = CodeRow("demo.research", b"code", "{}", "{}", "[]", (SourceRow(b"one", b"text"),))
    with pytest.raises(Fenced):
        store.apply(Record(row.id, 7, Facts(codes=[code])))
    assert store.load_source(b"one") is None


def test_samples_of_a_checkpoint_are_listed_newest_first_before_a_row(store: AnyStore) -> None:
    row = running(store)
    calls = [call_row(bytes([k]), arguments=f'{{"x":"{k}"}}', inputs=str(k)) for k in range(4)]
    store.apply(Record(row.id, 1, facts(*calls, call_row(b"w", checkpoint="demo.write"))))
    last = store.list_calls(row.id, limit=9)[3].id
    found = store.list_samples(row.id, checkpoint="demo.research", before=last, limit=2)
    assert [(each.arguments, each.inputs) for each in found] == [
        ('{"x":"2"}', "2"),
        ('{"x":"1"}', "1"),
    ]


def test_executions_are_listed_by_key_and_from_a_row_on(store: AnyStore) -> None:
    rows = [started(store, None, f"e-{k}", key=[None, "july"][k % 2]).row for k in (1, 2, 3)]
    rows[2] = started(store, None, "e-4", flow_id="demo.other", key="july").row

    def names(**wanted: Any) -> list[str]:
        return [row.exec_id for row in store.list_executions(project="demo", limit=9, **wanted)]

    assert names(key="july") == ["e-4", "e-1"]
    assert names(since=rows[1].id) == ["e-4", "e-2"]
    assert names(since=rows[1].id, before=rows[2].id) == ["e-2"]
    assert names(key="august") == []


def test_ids_that_begin_with_the_time_find_the_row_of_an_instant(store: AnyStore) -> None:
    first, second = (started(store, None, name).row for name in ("e-100", "e-300"))
    assert store.first_from("e-1") == store.first_from("e-100") == first.id
    assert store.first_from("e-200") == second.id
    assert store.first_from("e-301") is None


def test_heads_name_executions_newest_first(store: AnyStore) -> None:
    row = running(store)
    started(store, None, "e-9", flow_name="other", at=7)
    started(store, None, "e-far", project="elsewhere")
    heads = store.list_heads(project="demo", limit=5)
    assert heads[0] == ("e-9", "demo.agent", "other", State.PENDING, 7)
    assert [head.exec_id for head in heads] == ["e-9", row.exec_id]
    assert store.list_heads(project="demo", limit=1) == heads[:1]


def test_what_is_recorded_is_counted_in_all_and_from_an_execution_on(store: AnyStore) -> None:
    one, two = running(store, "e-1", "a"), running(store, "e-2", "b")
    store.apply(Record(one.id, 1, facts(failed_call(ONE), call_row(TWO))))
    store.apply(Record(one.id, 1, facts(call_row(ONE, attempt=2))))
    store.apply(Record(two.id, 1, facts(call_row(ONE))))
    assert store.count_recorded(since=two.id) == (2, 4, 1, 1)
    assert store.count_recorded(since=0) == (2, 4, 2, 4)
    assert store.count_outcomes("e-1", limit=9) == (2, 1)
    assert sum(store.count_outcomes("e-1", limit=2)) == 2
    assert store.count_outcomes("e-2", limit=9) == (1, 0)
    assert store.count_outcomes("e-none", limit=9) == (0, 0)


def test_a_sound_store_is_found_sound(store: AnyStore) -> None:
    running(store)
    found = store.examine(seconds=None)
    assert (found["problems"], found["complete"]) == ([], True)


def test_the_checkpoint_of_an_identity_is_found(store: AnyStore) -> None:
    row = running(store)
    store.apply(Record(row.id, 1, facts(call_row(ONE))))
    assert store.find_checkpoint(row.id, ONE) == "demo.research"
    assert store.find_checkpoint(row.id, TWO) is None


def test_a_store_says_what_and_where_it_is(store: AnyStore) -> None:
    info = store.info()
    assert info["project"] == store.project == "demo"
    assert {"backend", "location", "schema_version", "bytes"} <= set(info)


def test_a_closed_store_says_so_and_closes_twice(store: AnyStore) -> None:
    row = running(store)
    done: list[Any] = []
    store.close()
    store.close()
    for use in (
        lambda: store.apply(Record(row.id, 1, NO_FACTS)),
        lambda: store.post(Record(row.id, 1, NO_FACTS), lambda a, e: done.append(e)),
        lambda: store.find_execution("e-1"),
        lambda: store.flush(wait=True),
    ):
        with pytest.raises(KitaruBackendError, match="closed"):
            use()
