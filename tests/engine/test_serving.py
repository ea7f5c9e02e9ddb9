"""A worker inside one process, over the model of the store: what it claims, and when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from tests.store.worlds import call_row

import kitaru
from kitaru import KitaruUsageError, app, checkpoint, flow, working
from kitaru._core.lifecycle import State
from kitaru._engine.serving import Serving
from kitaru._store.protocol import (
    Claim,
    DeclareDead,
    ExecutionRow,
    Facts,
    Record,
    RegisterOwner,
    Release,
    Start,
)
from kitaru.testing import in_memory
from kitaru.testing.world import World

PATIENCE_SECONDS = 240


class Gate:
    """Bodies that come in and stay until they are let go."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._open = False
        self.inside: list[str] = []
        self.most = 0

    def __call__(self, name: str) -> str:
        with self._lock:
            self.inside.append(name)
            self.most = max(self.most, len(self.inside))
            self._lock.notify_all()
            assert self._lock.wait_for(lambda: self._open, PATIENCE_SECONDS)
            self.inside.remove(name)
        return name

    def wait_for(self, count: int) -> None:
        with self._lock:
            assert self._lock.wait_for(lambda: len(self.inside) >= count, PATIENCE_SECONDS)

    def open(self) -> None:
        with self._lock:
            self._open = True
            self._lock.notify_all()


GATE = Gate()
RAN: list[str] = []


@checkpoint(cache=False)
def stand(name: str) -> str:
    return GATE(name)


@flow
def stands(name: str) -> str:
    return stand(name)


@flow
async def stands_async(name: str) -> str:
    return await stand.submit(name)


@checkpoint(cache=False)
def note(name: str) -> str:
    RAN.append(name)
    return name


@flow
def notes(name: str) -> str:
    return note(name)


@flow
def parent(name: str) -> str:
    return notes.run(name).wait() + "!"


@flow
def asks() -> int:
    return int(kitaru.wait(name="number", schema=int))


@pytest.fixture
def world() -> Iterator[World]:
    global GATE
    GATE = Gate()
    RAN.clear()
    kitaru.configure(runner="worker")
    try:
        with in_memory(clock="manual", timeout=PATIENCE_SECONDS) as world:
            yield world
            GATE.open()
    finally:
        from kitaru import settings

        settings.forget_configuration()


def serve(
    concurrency: int = 4, flows: tuple[str, ...] = (), queues: tuple[str, ...] = ()
) -> Serving:
    known = {spec.id: spec for spec in (f.spec for f in FLOWS)}
    chosen = working.choose_flows(flows, known)
    return working.begin(chosen, name="w", queues=queues, concurrency=concurrency)


FLOWS = (stands, stands_async, notes, parent, asks)


def row_of(exec_id: str) -> ExecutionRow:
    row = app.current().store.find_execution(exec_id)
    assert row is not None
    return row


def eventually(holds: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(PATIENCE_SECONDS * 200):
        if holds():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come to pass")


def test_what_is_run_with_workers_is_only_recorded(world: World) -> None:
    handle = notes.run("a")

    row = row_of(handle.exec_id)
    assert (row.status, row.owner, row.home) == (State.PENDING, None, None)
    assert RAN == []


def test_a_worker_runs_what_is_queued_and_the_handle_gets_the_result(world: World) -> None:
    handle = notes.run("a")
    serve()

    assert handle.wait(timeout=PATIENCE_SECONDS) == "a"
    assert notes.run("b").wait(timeout=PATIENCE_SECONDS) == "b"


@pytest.mark.parametrize("flow_", [stands, stands_async])
def test_no_more_run_at_once_than_it_was_told(world: World, flow_: Any) -> None:
    handles = [flow_.run(str(number)) for number in range(5)]
    serve(concurrency=2)
    GATE.wait_for(2)

    counts = app.current().store.count_executions(project=app.current().project)
    assert counts[State.RUNNING] == 2
    GATE.open()
    assert [handle.wait(timeout=PATIENCE_SECONDS) for handle in handles] == list("01234")
    assert GATE.most <= 2


def test_a_parent_and_its_child_need_no_more_than_one_place(world: World) -> None:
    handle = parent.run("a")
    serve(concurrency=1)

    eventually(lambda: row_of(handle.exec_id).status is State.COMPLETED)
    assert handle.wait(timeout=PATIENCE_SECONDS) == "a!"


def test_a_worker_takes_only_the_flows_and_queues_that_it_was_told(world: World) -> None:
    serve(flows=("notes",), queues=("default",))
    other = parent.run("a")

    assert notes.run("b").wait(timeout=PATIENCE_SECONDS) == "b"
    assert row_of(other.exec_id).status is State.PENDING


def test_an_unknown_flow_is_refused_with_the_nearest() -> None:
    with pytest.raises(KitaruUsageError, match="did you mean 'notes'"):
        working.choose_flows(("note",), {notes.spec.id: notes.spec})
    with pytest.raises(KitaruUsageError, match="no flow to serve"):
        working.choose_flows((), {})


def test_an_answer_wakes_what_the_worker_parked(world: World) -> None:
    handle = asks.run()
    serve()
    eventually(lambda: row_of(handle.exec_id).status is State.WAITING)

    world.answer(handle, "number", 7)

    assert handle.wait(timeout=PATIENCE_SECONDS) == 7


def test_what_is_delayed_is_not_taken_before_its_time(world: World) -> None:
    app_ = app.current()
    start = app_.store.apply

    def delayed(write: Any) -> Any:
        if isinstance(write, Start):
            write = write._replace(due_at=write.at + 3_600_000_000)
        return start(write)

    app_.runner.store.apply = delayed  # type: ignore[method-assign]
    handle = notes.run("a")
    serving = serve()
    eventually(lambda: serving.tally.looks > 0)
    assert row_of(handle.exec_id).status is State.PENDING

    world.clock.move_to(world.clock.now() + 3_600_000_000)
    app_.host.keep_ticking()

    assert handle.wait(timeout=PATIENCE_SECONDS) == "a"


def dead_process(name: str) -> int:
    """The number of a process that registered, and whose lock nobody holds."""
    current = app.current()
    owner = current.store.apply(RegisterOwner(name, 4711, "here", current.env.now()))
    return int(owner.id)


def start_elsewhere(name: str, owner: int) -> str:
    """An execution that runs in another process."""
    current = app.current()
    apply, taken = current.store.apply, []

    def as_the_other(write: Any) -> Any:
        if isinstance(write, Start):
            write = write._replace(owner=owner, home=owner)
            taken.append(write.exec_id)
        return apply(write)

    current.runner.store.apply = as_the_other  # type: ignore[method-assign]
    try:
        notes.run(name)
    finally:
        current.runner.store.apply = apply  # type: ignore[method-assign]
    return str(taken[0])


def test_what_a_dead_process_ran_is_taken_over_and_its_death_recorded(world: World) -> None:
    owner = dead_process("0" * 32)
    exec_id = start_elsewhere("a", owner)
    serve()

    eventually(lambda: row_of(exec_id).status is State.COMPLETED)
    assert app.current().store.get_owner(owner).died_at is not None
    assert row_of(exec_id).deaths == 1


def test_what_a_dead_process_had_yet_to_begin_is_claimed(world: World) -> None:
    owner = dead_process("1" * 32)
    exec_id = start_elsewhere("a", owner)
    row = row_of(exec_id)
    app.current().store.apply(Release(row.id, row.epoch, kitaru_no_facts(), world.clock.now()))
    serve()

    eventually(lambda: row_of(exec_id).status is State.COMPLETED)
    assert row_of(exec_id).deaths == 0


def kitaru_no_facts() -> Any:
    from kitaru._store.protocol import NO_FACTS

    return NO_FACTS


def make_suspect(name: str) -> str:
    """An execution during which two processes died."""
    current = app.current()
    owner = dead_process(f"{len(name)}{name:0>31}")
    exec_id = start_elsewhere(name, owner)
    for number in range(2):
        row = row_of(exec_id)
        heir = dead_process(f"{name}{number}{owner:0>28}")
        current.store.apply(Claim(row.id, row.epoch, heir, row.owner, current.env.now()))
    row = row_of(exec_id)
    current.store.apply(Release(row.id, row.epoch, kitaru_no_facts(), current.env.now()))
    assert row_of(exec_id).deaths == 2
    return exec_id


def test_a_suspect_runs_alone(world: World) -> None:
    suspect = make_suspect("suspect")
    others = [stands.run(str(number)) for number in range(2)]
    seen: list[int] = []
    current = app.current()
    launch = current.runner.launching.launch

    def watched(life: Any) -> None:
        if life.row.exec_id == suspect:
            seen.append(len(current.runner.places.active))
        launch(life)

    current.runner.launching.launch = watched  # type: ignore[method-assign]
    GATE.open()
    serve()

    eventually(lambda: row_of(suspect).status is State.COMPLETED)
    assert [handle.wait(timeout=PATIENCE_SECONDS) for handle in others] == ["0", "1"]
    assert seen == [1]


def died_again(name: str, *, recorded: bool) -> str:
    """An execution whose first process died, and whose second one is dead too."""
    current = app.current()
    owner = dead_process(f"{name:0>31}1")
    exec_id = start_elsewhere(name, owner)
    row = row_of(exec_id)
    heir = dead_process(f"{name:0>31}2")
    taken = current.store.apply(Claim(row.id, row.epoch, heir, owner, current.env.now()))
    assert taken.deaths == 1
    if recorded:
        facts = Facts(calls=[call_row(b"1" * 16)])
        current.store.apply(Record(row.id, taken.epoch, facts))
    return exec_id


def test_what_has_recorded_something_since_its_last_death_goes_on_beside_others(
    world: World,
) -> None:
    other = stands.run("other")
    serve()
    GATE.wait_for(1)
    exec_id = died_again("a", recorded=True)

    eventually(lambda: row_of(exec_id).status is State.COMPLETED)
    assert row_of(exec_id).deaths == 1
    assert GATE.inside == ["other"]
    GATE.open()
    assert other.wait(timeout=PATIENCE_SECONDS) == "other"


def test_what_turns_out_to_be_a_suspect_beside_others_stands_back(world: World) -> None:
    other = stands.run("other")
    serve()
    GATE.wait_for(1)
    exec_id = died_again("a", recorded=False)

    eventually(lambda: row_of(exec_id).deaths == 2 and row_of(exec_id).status is State.PENDING)
    assert RAN == []
    GATE.open()
    assert other.wait(timeout=PATIENCE_SECONDS) == "other"
    eventually(lambda: row_of(exec_id).status is State.COMPLETED)
    assert RAN == ["a"]


def test_what_killed_its_process_too_often_is_given_up(world: World) -> None:
    current = app.current()
    owner = dead_process("2" * 32)
    exec_id = start_elsewhere("a", owner)
    for number in range(4):
        row = row_of(exec_id)
        heir = dead_process(f"{number}" + "3" * 31)
        current.store.apply(Claim(row.id, row.epoch, heir, row.owner, current.env.now()))
    serve()

    eventually(lambda: row_of(exec_id).status is State.FAILED)
    assert "died 5 times" in (row_of(exec_id).status_reason or "")
    assert RAN == []


def test_a_worker_that_leaves_hands_back_what_others_go_on_with(world: World) -> None:
    handle = stands.run("a")
    waiting = notes.run("b")
    serve(concurrency=1)
    GATE.wait_for(1)
    number = app.current().runner.ownership.number()

    working.stop_claiming()
    assert [worker.draining for worker in app.current().store.list_workers(project="tests")]
    left = working.leave(0.0)

    assert left.handed_back == [handle.exec_id]
    row = row_of(handle.exec_id)
    assert (row.status, row.owner, row.home, row.deaths) == (State.PENDING, None, None, 0)
    assert row_of(waiting.exec_id).status is State.PENDING
    assert app.current().store.get_owner(number).died_at is not None
    assert app.current().store.list_workers(project="tests") == []
    GATE.open()


def test_an_execution_that_is_out_of_time_in_the_queue_fails_without_running(world: World) -> None:
    handle = notes.options(timeout=timedelta(seconds=5)).run("late")
    world.clock.move_to(world.clock.now() + 6_000_000)
    serve()

    eventually(lambda: row_of(handle.exec_id).status is State.FAILED)
    assert RAN == []


def test_a_key_names_one_execution_for_workers_too(world: World) -> None:
    first = notes.options(key="k").run("a")
    assert notes.options(key="k").run("a").exec_id == first.exec_id
    with pytest.raises(kitaru.KitaruStateError, match="other inputs"):
        notes.options(key="k").run("b")
    serve()
    assert first.wait(timeout=PATIENCE_SECONDS) == "a"


def test_a_process_that_was_declared_dead_is_no_worker(world: World) -> None:
    current = app.current()
    current.store.apply(
        DeclareDead(current.runner.ownership.number(), world.clock.now(), itself=True)
    )
    with pytest.raises(kitaru.KitaruStateError, match="cannot be a worker"):
        serve()


# --- what people are told ----------------------------------------------------------------


def reason_of(exec_id: str) -> str:
    return kitaru.KitaruClient().executions.get(exec_id).status_reason or ""


def test_whoever_waits_for_what_no_worker_will_run_is_told_once(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    handle = notes.run("a")
    said = ""
    for _ in range(50):
        # It is told at the second look at the workers, a second after the first.
        with pytest.raises(kitaru.KitaruTimeoutError):
            handle.wait(timeout=2.5)
        said += capfd.readouterr().err
        if said:
            break

    assert said.count("no live worker") == 1
    assert "kitaru worker" in said
    assert "is interrupted" not in said


def test_why_something_is_pending_is_shown(world: World) -> None:
    handle = notes.run("a")
    assert "no live worker: start one with: kitaru worker" in reason_of(handle.exec_id)

    GATE.open()
    serve(flows=("stands",), concurrency=1)
    assert "no live worker knows flow 'notes' (w serve others)" in reason_of(handle.exec_id)


def test_a_queue_that_nobody_takes_from_is_named(world: World) -> None:
    handle = notes.run("a")
    serve(queues=("mail",))
    assert "takes from queue 'default' (w)" in reason_of(handle.exec_id)


def test_what_waits_for_its_turn_names_the_workers(world: World) -> None:
    handles = [stands.run(str(number)) for number in range(2)]
    serve(concurrency=1)
    GATE.wait_for(1)
    assert reason_of(handles[1].exec_id) == "waits for a worker (w)"


def test_what_is_behind_a_limit_or_delayed_says_so(world: World) -> None:
    from kitaru._store.protocol import SetLimits

    current = app.current()
    handles = [stands.run(str(number)) for number in range(2)]
    current.store.apply(SetLimits(current.project, {"default": 1}))
    serve(concurrency=4)
    GATE.wait_for(1)
    holder = handles[0].exec_id
    assert reason_of(handles[1].exec_id) == (
        f"behind the limit of 'default' (1 of 1 run): {holder}"
    )
    working.stop_claiming()
    assert "is stopping (w)" in reason_of(handles[1].exec_id)
    current.services.draining = False
