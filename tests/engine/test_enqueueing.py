"""``flow.enqueue()``: recorded for whoever claims it, in a queue, within limits."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruStateError, KitaruUsageError, app, checkpoint, flow
from kitaru._store.protocol import ClaimNext, ExecutionRow, SetLimits

PATIENCE_SECONDS = 240


@flow
def double(x: int) -> int:
    return 2 * x


@flow
async def double_later(x: int) -> int:
    return 2 * x


def row_of(handle: kitaru.FlowHandle[Any]) -> ExecutionRow:
    row = app.current().store.find_execution(handle.exec_id)
    assert row is not None
    return row


def shown(handle: kitaru.FlowHandle[Any]) -> kitaru.Execution:
    return kitaru.KitaruClient().executions.get(handle.exec_id)


def test_what_is_enqueued_is_pending_and_nobodys() -> None:
    row = row_of(double.enqueue(3))
    assert (row.status.value, row.epoch, row.owner, row.home) == ("pending", 0, None, None)
    assert (row.queue, row.priority, row.limit_key, row.due_at) == ("default", 0, None, None)


def test_where_it_stands_is_recorded_and_shown() -> None:
    options = double.options(queue="slow", priority=-7, limit_key="ada")
    handle = options.options(delay=timedelta(minutes=2)).enqueue(3)
    row, execution = row_of(handle), shown(handle)
    assert (row.queue, row.priority, row.limit_key) == ("slow", -7, "ada")
    assert row.due_at == row.created_at + 120_000_000
    assert (execution.queue, execution.priority, execution.limit_key) == ("slow", -7, "ada")
    assert execution.due_at is not None
    assert execution.due_at - execution.created_at == timedelta(minutes=2)


def test_the_timeout_of_what_is_delayed_begins_when_it_is_due() -> None:
    row = row_of(double.options(delay=10, timeout=5).enqueue(1))
    assert row.deadline_at == row.created_at + 15_000_000


def test_its_handle_follows_it_wherever_it_runs() -> None:
    handle = double.enqueue(4)
    kitaru.recover()
    assert handle.wait(timeout=PATIENCE_SECONDS) == 8


def test_an_async_flow_is_enqueued_alike() -> None:
    handle = double_later.enqueue(5)
    kitaru.recover()
    assert handle.wait(timeout=PATIENCE_SECONDS) == 10


def test_a_key_is_one_execution_whether_it_was_enqueued_or_run() -> None:
    keyed = double.options(key="k")
    first = keyed.enqueue(3)
    assert keyed.enqueue(3).exec_id == first.exec_id
    assert row_of(first).status.value == "pending", "a second enqueue does not run it"
    with pytest.raises(KitaruStateError) as refused:
        keyed.enqueue(4)
    assert refused.value.code == "key-used-with-other-inputs"
    assert keyed.run(3).wait(timeout=PATIENCE_SECONDS) == 6
    assert keyed.enqueue(3).get() == 6


def test_arguments_that_misfit_are_refused_before_anything_is_recorded() -> None:
    with pytest.raises(KitaruUsageError):
        double.enqueue("three")  # type: ignore[arg-type]
    assert kitaru.KitaruClient().executions.list() == []


@pytest.mark.parametrize(
    "options",
    [
        {"queue": ""},
        {"queue": 5},
        {"queue": "a\nb"},
        {"priority": 1.5},
        {"priority": True},
        {"priority": 10**7},
        {"limit_key": ""},
        {"limit_key": b"k"},
        {"delay": -1},
        {"delay": "soon"},
        {"delay": float("nan")},
        {"delay": timedelta(seconds=-1)},
    ],
)
def test_an_option_that_makes_no_sense_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(KitaruUsageError):
        double.options(**options)


@pytest.mark.parametrize(
    "options", [{"queue": "slow"}, {"priority": 0}, {"limit_key": "k"}, {"delay": 0}]
)
def test_run_takes_no_option_of_queues_and_shows_enqueue(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(KitaruUsageError, match=rf"double\.options\({name}=…\)\.enqueue") as refused:
        double.options(**options).run(1)
    assert refused.value.code == "run-in-a-queue"
    assert kitaru.KitaruClient().executions.list() == []


# --- children ---


@flow
def parent(x: int) -> int:
    return double.options(priority=3).enqueue(x).wait()


def test_a_child_that_is_enqueued_is_the_same_child_and_stands_where_its_parent_did() -> None:
    handle = parent.options(queue="slow", priority=1).enqueue(6)
    kitaru.recover()
    assert handle.wait(timeout=PATIENCE_SECONDS) == 12
    (child,) = shown(handle).list_children()
    assert (child.queue, child.priority) == ("slow", 3)


# --- limits ---


def test_limits_are_written_once_and_taken_back_when_they_are_not_said_any_more() -> None:
    kitaru.configure(limits={"slow": 2, "ada": 1})
    double.enqueue(1)
    store, project = app.current().store, app.current().project
    assert [limit[:2] for limit in store.list_limits(project=project)] == [("ada", 1), ("slow", 2)]
    store.apply(SetLimits(project, {"slow": 7}))
    double.enqueue(2)
    assert ("slow", 7, 0) in store.list_limits(project=project), "what others wrote since stays"
    kitaru.configure(limits={"slow": None, "ada": 3})
    double.enqueue(3)
    assert store.list_limits(project=project) == [("ada", 3, 0)]


running: list[int] = []
most: list[int] = []


@checkpoint(cache=False)
async def work(x: int) -> int:
    import asyncio

    running.append(x)
    most.append(len(running))
    await asyncio.sleep(0)
    running.remove(x)
    return x


@flow
async def works(x: int) -> int:
    return await work(x) + await work(-x)


def test_run_obeys_the_limit_of_the_default_queue_and_waits_for_its_turn() -> None:
    kitaru.configure(limits={"default": 1})
    most.clear()
    handles = [works.run(x) for x in range(1, 5)]
    for handle in handles:
        assert handle.wait(timeout=PATIENCE_SECONDS) == 0
    assert max(most) == 1
    assert app.current().store.list_slots(project=app.current().project) == []


@flow
def families(x: int) -> int:
    return double.run(x).wait()


@pytest.mark.slow
def test_a_limit_of_one_does_not_lock_a_family_out() -> None:
    kitaru.configure(limits={"default": 1})
    handle = families.run(4)
    assert handle.wait(timeout=PATIENCE_SECONDS) == 8


def test_what_is_delayed_and_asked_for_waits_until_it_is_due() -> None:
    handle = double.options(key="later", delay=0.5).enqueue(1)
    assert double.options(key="later").run(1).wait(timeout=PATIENCE_SECONDS) == 2
    row = row_of(handle)
    assert row.started_at is not None
    assert row.started_at >= row.created_at + 500_000


def test_claims_take_what_was_enqueued_by_priority() -> None:
    handles = [double.options(priority=p).enqueue(p) for p in (1, 3, 2)]
    running_app = app.current()
    owner = running_app.runner.ownership.number()
    write = ClaimNext(running_app.project, [double.spec.id], [], owner, 2, running_app.env.now())
    claimed = running_app.store.apply(write)
    assert [row.exec_id for row in claimed] == [handles[1].exec_id, handles[2].exec_id]
    for row in claimed:
        running_app.runner.release(row, row.epoch)


SCRIPT = """
import sys
import kitaru
from kitaru import flow

@flow
def hello(name: str) -> str:
    return f"hello {name}"
"""


def test_the_command_line_enqueues_and_leaves(tmp_path: Path) -> None:
    script = tmp_path / "hellos.py"
    script.write_text(SCRIPT)
    words = ["run", f"{script}:hello", "--queue", "slow", "--priority", "2", "--detach"]
    done = subprocess.run(
        [sys.executable, "-m", "kitaru", *words, "--", "--name", "x"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        [sys.executable, "-m", "kitaru", "executions", "list", "-o", "json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert '"queue": "slow", "priority": 2' in shown.stdout
