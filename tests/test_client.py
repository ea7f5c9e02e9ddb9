"""The client on real stores: what it finds, shows, resumes and retries, and what it refuses."""

from __future__ import annotations

import os
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from kitaru import app, checkpoint, flow
from kitaru._core.lifecycle import State
from kitaru._core.values import encode
from kitaru._engine.liveness import LockFiles
from kitaru._store.protocol import NO_FACTS, ExecutionRow, RegisterOwner, Release, Start, Started
from kitaru.client import KitaruClient
from kitaru.errors import (
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
    KitaruUserCodeError,
)
from kitaru.status import ExecutionStatus

broken = True
ran: list[str] = []


@checkpoint
def double(number: int) -> int:
    ran.append(f"double {number}")
    return number * 2


@checkpoint(type="tool_call")
def fragile(number: int) -> int:
    ran.append(f"fragile {number}")
    if broken:
        raise ConnectionError("the line is down")
    return number


@checkpoint
def outer() -> int:
    return double(21)


@flow
def doubling(number: int = 3) -> int:
    return double(number)


@flow
def fragile_flow(number: int = 1) -> int:
    return double(number) + fragile(number)


@flow
def nested_flow() -> int:
    return outer()


@pytest.fixture(autouse=True)
def fresh(own_store: Path) -> None:
    global broken
    broken = True
    ran.clear()


@pytest.fixture
def client(own_store: Path) -> KitaruClient:
    return KitaruClient()


def dead_owner() -> int:
    """A process whose lock file is not there."""
    return _registered("0" * 32, 4242)


def live_owner() -> int:
    """A process whose lock is held: by this one, under another name than its own."""
    store: Any = app.current().store
    return _registered(LockFiles(store.folder).register(), 4343)


def _registered(lock_name: str, pid: int) -> int:
    registered = app.current().store.apply(RegisterOwner(lock_name, pid, "elsewhere", 1))
    number: int = registered.id
    return number


def started_by(owner: int | None, *, number: int = 3, **changes: Any) -> ExecutionRow:
    """An execution of `doubling` that another process started."""
    running = app.current()
    spec = doubling.spec
    inputs = encode({"number": number}, what="test")
    start = Start(
        exec_id=running.env.new_id(),
        project=running.project,
        flow_id=spec.id,
        flow_name=spec.name,
        key=None,
        inputs_digest=inputs.digest[:16],
        inputs=inputs,
        seed=bytes(16),
        spec='{"cache": [true, "built-in"], "retries": 0}',
        tags="[]",
        code_folder=spec.folder,
        code_module=spec.module,
        owner=owner,
        home=owner,
        at=running.env.now(),
    )
    started: Started = running.store.apply(start._replace(**changes))
    return started.row


def failed_execution() -> str:
    handle = fragile_flow.run()
    with pytest.raises(KitaruUserCodeError):
        handle.wait()
    return handle.exec_id


# --- looking -------------------------------------------------------------------------------


def test_an_execution_shows_what_was_recorded(client: KitaruClient) -> None:
    handle = doubling.options(tags=["blue", "new"], key="k1").run(5)
    handle.wait()
    found = client.executions.get(handle.exec_id)
    assert (found.flow_name, found.status, found.inputs) == (
        "doubling",
        ExecutionStatus.COMPLETED,
        {"number": 5},
    )
    assert (found.tags, found.key, found.attempts) == (("blue", "new"), "k1", 1)
    assert found.failure is None
    assert found.frozen_execution_spec["retries"] == 0
    assert found.result() == 10
    assert found.refresh() == found


def test_times_are_aware_utc_datetimes_in_order(client: KitaruClient) -> None:
    doubling.run().wait()
    found = client.executions.latest()
    assert found.started_at is not None
    assert found.ended_at is not None
    assert found.created_at.tzinfo is UTC
    assert found.created_at <= found.started_at <= found.ended_at
    call = found.checkpoints[0]
    assert call.ended_at is not None
    assert found.started_at <= call.started_at <= call.ended_at <= found.ended_at


def test_a_unique_part_of_an_id_finds_the_execution(client: KitaruClient) -> None:
    handle = doubling.run()
    handle.wait()
    tail = handle.exec_id[-12:]
    assert client.executions.get(tail).exec_id == handle.exec_id
    assert client.executions.get(f" {tail.upper()} ").exec_id == handle.exec_id


def test_a_part_that_fits_several_lists_the_candidates(client: KitaruClient) -> None:
    ids = [doubling.run(number).exec_id for number in (1, 2)]
    with pytest.raises(KitaruStateError) as refused:
        client.executions.get("-7")
    assert all(exec_id in str(refused.value) for exec_id in ids)


@pytest.mark.parametrize("part", ["0000dead", "nonsense", "%", "'; drop table executions; --"])
def test_what_no_id_contains_is_not_found(client: KitaruClient, part: str) -> None:
    doubling.run().wait()
    with pytest.raises(KitaruNotFoundError, match="executions list"):
        client.executions.get(part)


@pytest.mark.parametrize("part", ["", "  ", None, 7])
def test_what_can_be_no_part_of_an_id_is_a_usage_error(client: KitaruClient, part: Any) -> None:
    with pytest.raises(KitaruUsageError, match="exec_id"):
        client.executions.get(part)


def test_a_list_is_newest_first_and_bounded(client: KitaruClient) -> None:
    ids = [doubling.run(number).exec_id for number in range(5)]
    listed = [execution.exec_id for execution in client.executions.list(limit=3)]
    assert listed == ids[:1:-1]
    older = client.executions.list(before=ids[2])
    assert [execution.exec_id for execution in older] == [ids[1], ids[0]]


def test_a_list_is_filtered_by_flow_status_and_tags(client: KitaruClient) -> None:
    doubling.options(tags=["a", "b"]).run(1).wait()
    doubling.options(tags=["a"]).run(2).wait()
    failed = failed_execution()
    executions = client.executions
    assert len(executions.list(tags=["a"])) == 2
    assert [found.inputs for found in executions.list(tags=["a", "b"])] == [{"number": 1}]
    assert [found.exec_id for found in executions.list(status="failed")] == [failed]
    assert [found.exec_id for found in executions.list(flow="fragile_flow")] == [failed]
    assert executions.list(flow="no such flow") == []


@pytest.mark.parametrize("limit", [0, -1, True, 1e3, "5", 10**9])
def test_a_limit_that_makes_no_sense_is_refused(client: KitaruClient, limit: Any) -> None:
    with pytest.raises(KitaruUsageError, match="limit"):
        client.executions.list(limit=limit)


def test_an_unknown_status_is_refused_with_the_known_ones(client: KitaruClient) -> None:
    with pytest.raises(KitaruUsageError, match="interrupted"):
        client.executions.list(status="sleeping")


def test_tags_as_one_text_are_refused(client: KitaruClient) -> None:
    with pytest.raises(KitaruUsageError, match=r"tags=.blue.: pass a list"):
        client.executions.list(tags="blue")


def test_the_latest_of_nothing_is_not_found(client: KitaruClient) -> None:
    with pytest.raises(KitaruNotFoundError, match="doubling"):
        client.executions.latest(flow="doubling", status="failed")


def test_running_with_a_dead_owner_shows_as_interrupted(client: KitaruClient) -> None:
    dead, alive = started_by(dead_owner()), started_by(live_owner())
    assert client.executions.get(dead.exec_id).status is ExecutionStatus.INTERRUPTED
    assert client.executions.get(alive.exec_id).status is ExecutionStatus.RUNNING
    listed = client.executions.list(status="interrupted")
    assert [found.exec_id for found in listed] == [dead.exec_id]
    listed = client.executions.list(status="running")
    assert [found.exec_id for found in listed] == [alive.exec_id]


def test_looking_at_a_store_registers_no_owner(client: KitaruClient) -> None:
    client.executions.list()
    assert app.current().store.list_owners() == []


def test_a_failed_execution_shows_its_failure(client: KitaruClient) -> None:
    found = client.executions.get(failed_execution())
    assert found.status is ExecutionStatus.FAILED
    assert found.failure is not None
    assert found.failure.exception_type == "ConnectionError"
    assert "the line is down" in found.failure.traceback
    with pytest.raises(KitaruUserCodeError):
        found.result()


def test_inputs_beyond_4_kib_are_shown_by_size_and_digest(client: KitaruClient) -> None:
    row = started_by(None, inputs=encode({"number": "x" * 100_000}, what="test"))
    shown = client.executions.get(row.exec_id).inputs
    assert shown["number"]["bytes"] == 100_002
    assert len(str(shown)) < 4096


def test_a_hostile_row_hides_nothing_else(client: KitaruClient) -> None:
    doubling.run().wait()
    row = started_by(None, tags="{not json", spec="[1]", inputs=encode(1, what="test"))
    found = client.executions.get(row.exec_id)
    assert found.tags == ()
    assert "(unreadable)" in found.frozen_execution_spec
    assert len(client.executions.list()) == 2


# --- calls -----------------------------------------------------------------------------------


def test_calls_come_in_order_with_inputs_and_results(client: KitaruClient) -> None:
    global broken
    broken = False
    handle = fragile_flow.run(4)
    assert handle.wait() == 12
    first, second = client.executions.get(handle.exec_id).checkpoints
    assert (first.name, first.inputs, first.result(), first.source) == (
        "double",
        {"number": 4},
        8,
        "ran",
    )
    assert (second.name, second.checkpoint_type, second.seq) == ("fragile", "tool_call", 1)
    assert first.call_id.startswith(f"{handle.exec_id}:")
    assert first.call_id != second.call_id
    assert first.checkpoint_id.endswith("test_client.double")


def test_the_failed_attempts_of_a_call_are_one_call(client: KitaruClient) -> None:
    @checkpoint(retries=2, name="wobbly")
    def wobbly() -> str:
        ran.append("wobbly")
        if len(ran) < 2:
            raise ConnectionError("once")
        return "steady"

    @flow(name="wobbling")
    def wobbling() -> str:
        return wobbly.options(retries=_at_once())()

    handle = wobbling.run()
    assert handle.wait() == "steady"
    (call,) = client.executions.get(handle.exec_id).checkpoints
    assert call.status == "completed"
    assert [attempt.status for attempt in call.attempts] == ["failed", "completed"]
    assert call.attempts[0].failure is not None
    assert call.attempts[0].failure.exception_type == "ConnectionError"
    assert call.failure is None


def _at_once() -> Any:
    from kitaru.retrying import Retry

    return Retry(max_attempts=3, initial_seconds=0)


def test_a_nested_call_names_its_parent(client: KitaruClient) -> None:
    handle = nested_flow.run()
    handle.wait()
    parent, child = client.executions.get(handle.exec_id).checkpoints
    assert (parent.name, child.name) == ("outer", "double")
    assert child.parent_call_ids == (parent.call_id,)
    assert parent.parent_call_ids == ()


def test_a_reused_call_names_its_source(client: KitaruClient) -> None:
    source = doubling.run(8)
    source.wait()
    again = doubling.run(8)
    again.wait()
    (original,) = client.executions.get(source.exec_id).checkpoints
    (call,) = client.executions.get(again.exec_id).checkpoints
    assert call.source == "reused"
    assert call.reused_from == source.exec_id
    assert call.original_call_id == original.call_id
    assert call.result() == 16
    assert ran == ["double 8"]


def test_a_failed_call_has_a_failure_and_no_result(client: KitaruClient) -> None:
    call = client.executions.get(failed_execution()).checkpoints[1]
    assert call.status == "failed"
    assert call.failure is not None
    with pytest.raises(KitaruStateError, match="no result"):
        call.result()


# --- why ---------------------------------------------------------------------------------------


def test_why_tells_the_reason_and_the_argument_that_differs(client: KitaruClient) -> None:
    doubling.run(1).wait()
    handle = doubling.run(2)
    handle.wait()
    (why,) = client.executions.why(handle.exec_id, "double")
    assert (why.source, why.reason, why.changed) == ("ran", "input changed: number", ("number",))
    assert str(why) == "#0 double: ran: input changed: number"
    assert why.unseen == ()


def test_why_of_a_reused_call_names_the_source(client: KitaruClient) -> None:
    source = doubling.run(1)
    source.wait()
    handle = doubling.run(1)
    handle.wait()
    (why,) = client.executions.why(handle.exec_id)
    assert (why.source, why.reused_from) == ("reused", source.exec_id)
    assert source.exec_id in str(why)


@pytest.mark.parametrize("named", ["double", "id", "call id"])
def test_why_takes_a_name_an_id_or_one_call(client: KitaruClient, named: str) -> None:
    handle = doubling.run(1)
    handle.wait()
    (call,) = client.executions.get(handle.exec_id).checkpoints
    wanted = {"double": "double", "id": call.checkpoint_id, "call id": call.call_id}[named]
    assert [why.call_id for why in client.executions.why(handle.exec_id, wanted)] == [call.call_id]


def test_a_list_is_bounded_by_times_and_filtered_by_key(client: KitaruClient) -> None:
    keyed = doubling.options(key="july").run(1)
    later = doubling.run(2)
    assert (keyed.wait(), later.wait()) == (2, 4)
    list_ = client.executions.list
    (found,) = list_(key="july")
    assert found.exec_id == keyed.exec_id
    assert list_(key="june") == []
    begun, minute = found.created_at, timedelta(minutes=1)
    assert len(list_(since=begun - minute)) == len(list_(before=begun + minute)) == 2
    assert list_(since=begun + minute) == list_(before=begun - minute) == []


def test_why_shows_how_an_argument_differs_from_the_nearest_recorded_call(
    client: KitaruClient,
) -> None:
    first = doubling.run(1)
    first.wait()
    second = doubling.run(2)
    second.wait()
    (why,) = client.executions.why(second.exec_id)
    assert why.compared_with == first.exec_id
    (difference,) = why.differences
    assert (difference.kind, difference.name) == ("argument", "number")
    assert (difference.before, difference.after, difference.note) == ("1", "2", None)


def test_why_of_a_checkpoint_that_was_not_called_lists_those_that_were(
    client: KitaruClient,
) -> None:
    handle = doubling.run(1)
    handle.wait()
    with pytest.raises(KitaruNotFoundError, match="recorded are: double"):
        client.executions.why(handle.exec_id, "dubble")


# --- resume and retry ----------------------------------------------------------------------------


def test_an_interrupted_execution_is_resumed_here(client: KitaruClient) -> None:
    row = started_by(dead_owner(), number=6)
    handle = client.executions.resume(row.exec_id)
    assert handle.wait(timeout=30) == 12
    assert client.executions.get(row.exec_id).status is ExecutionStatus.COMPLETED


def test_an_execution_that_was_handed_back_is_resumed_although_its_home_lives(
    client: KitaruClient,
) -> None:
    row = started_by(live_owner(), number=7)
    running = app.current()
    running.store.apply(Release(row.id, row.epoch, NO_FACTS, running.env.now()))
    assert client.executions.get(row.exec_id).status is ExecutionStatus.PENDING
    assert client.executions.resume(row.exec_id).wait(timeout=30) == 14


def test_an_execution_with_a_live_owner_is_not_taken(client: KitaruClient) -> None:
    row = started_by(live_owner())
    with pytest.raises(KitaruStateError, match="process 4343 on elsewhere"):
        client.executions.resume(row.exec_id)
    found = app.current().store.find_execution(row.exec_id)
    assert found is not None
    assert (found.status, found.epoch) == (State.RUNNING, row.epoch)


def test_a_finished_execution_is_not_resumed(client: KitaruClient) -> None:
    handle = doubling.run()
    handle.wait()
    with pytest.raises(KitaruStateError, match="nothing to resume"):
        client.executions.resume(handle.exec_id)
    with pytest.raises(KitaruStateError, match="executions retry"):
        client.executions.resume(failed_execution())


def test_a_flow_that_is_not_known_here_is_not_resumed(client: KitaruClient) -> None:
    row = started_by(dead_owner(), flow_id="shop.sell", code_module="shop", code_folder="/shop")
    with pytest.raises(KitaruStateError, match=r"import shop first.*kitaru executions resume"):
        client.executions.resume(row.exec_id)


def test_a_retry_runs_again_only_what_failed_and_says_which(
    client: KitaruClient, capsys: pytest.CaptureFixture[str]
) -> None:
    global broken
    exec_id = failed_execution()
    broken = False
    handle = client.executions.retry(exec_id)
    assert handle.wait(timeout=30) == 3
    assert handle.exec_id == exec_id
    assert ran == ["double 1", "fragile 1", "fragile 1"]
    assert "attempt 2: fragile runs again" in capsys.readouterr().err
    found = client.executions.get(exec_id)
    assert (found.attempts, found.failure) == (2, None)
    assert [attempt.status for attempt in found.checkpoints[1].attempts] == ["failed", "completed"]


def test_only_a_failed_execution_is_retried(client: KitaruClient) -> None:
    handle = doubling.run()
    handle.wait()
    with pytest.raises(KitaruStateError, match="is completed: only a failed one"):
        client.executions.retry(handle.exec_id)
    row = started_by(dead_owner())
    with pytest.raises(KitaruStateError, match=r"interrupted.*executions resume"):
        client.executions.retry(row.exec_id)


def test_a_retry_of_an_unknown_flow_changes_nothing(client: KitaruClient) -> None:
    exec_id = failed_execution()
    known = app._flows.pop(fragile_flow.spec.id)
    try:
        with pytest.raises(KitaruStateError, match="not known in this process"):
            client.executions.retry(exec_id)
    finally:
        app._flows[fragile_flow.spec.id] = known
    assert client.executions.get(exec_id).status is ExecutionStatus.FAILED


def test_a_handle_follows_and_gives_the_result(client: KitaruClient) -> None:
    started = doubling.run(11)
    handle = client.executions.handle(started.exec_id)
    assert handle.wait(timeout=30) == 22
    assert handle.status is ExecutionStatus.COMPLETED


def test_a_process_that_only_looks_writes_no_file(client: KitaruClient, own_store: Path) -> None:
    before = sorted(os.listdir(own_store))
    client.executions.list()
    assert sorted(os.listdir(own_store)) == before
