"""What every store does with schedules: at most one execution for each fire time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kitaru._core.lifecycle import State
from kitaru._store.protocol import (
    AlreadyRecorded,
    DropSchedule,
    Fire,
    Missing,
    PauseSchedule,
    RemoveSchedule,
    ScheduleRow,
    Started,
)
from kitaru._store.sqlite.store import SqliteStore

from .schedule_kit import fire_write, set_write
from .worlds import AnyStore, StillEnv, start_write


def only(store: AnyStore, project: str = "demo") -> ScheduleRow:
    (row,) = store.list_schedules(project=project, limit=9)
    return row


def pause(row: ScheduleRow, paused: bool, due_at: int | None, at: int) -> PauseSchedule:
    return PauseSchedule(row.project, row.flow_id, paused, due_at, at)


def test_a_schedule_is_registered_as_the_code_says_it(store: AnyStore) -> None:
    row = store.apply(set_write(keep_seconds=60))
    assert row == only(store)
    assert row[:11] == ("demo", "demo.daily", "daily", "0 7 * * *", "UTC", "last", "{}", 60,
                         "/code", "demo", 1)  # fmt: skip
    assert (row.said_at, row.due_at) == (1_000, 5_000)
    assert (row.fired_at, row.fired_exec_id, row.skipped) == (None, None, 0)
    assert (row.paused_at, row.dropped_at) == (None, None)


def test_the_same_line_said_again_leaves_what_is_due(store: AnyStore) -> None:
    store.apply(set_write())
    row = store.apply(set_write(due_at=9_000, missed="all", owner=2, at=6_000))
    assert (row.due_at, row.missed, row.owner, row.said_at) == (5_000, "all", 2, 6_000)


def test_a_fire_time_that_a_wrong_clock_had_reached_comes_back(store: AnyStore) -> None:
    store.apply(set_write(due_at=900_000))
    assert store.apply(set_write(due_at=5_000)).due_at == 5_000


@pytest.mark.parametrize("change", [{"cron": "0 8 * * *"}, {"timezone": "Europe/Berlin"}])
def test_another_line_replaces_what_stood_there(store: AnyStore, change: dict[str, str]) -> None:
    store.apply(set_write())
    assert store.apply(set_write(due_at=9_000, **change)).due_at == 9_000


def test_a_line_that_never_fires_again_has_nothing_due(store: AnyStore) -> None:
    store.apply(set_write(due_at=None))
    assert only(store).due_at is None
    store.apply(set_write(due_at=7_000))
    assert store.apply(set_write(due_at=None)).due_at == 7_000  # what is due stays so


def test_a_renamed_flow_carries_its_schedule_over(store: AnyStore) -> None:
    old = store.apply(set_write(flow_id="demo.old"))
    store.apply(pause(old, True, None, 2_000))
    row = store.apply(set_write(former=("demo.older", "demo.old"), due_at=9_000))
    assert only(store) == row
    assert (row.flow_id, row.due_at, row.paused_at) == ("demo.daily", 5_000, 2_000)


def test_a_former_name_that_comes_back_is_gone_once_the_new_one_is_said(store: AnyStore) -> None:
    new = store.apply(set_write())
    store.apply(set_write(flow_id="demo.old", due_at=1))
    assert store.apply(set_write(former=("demo.old",))) == new
    assert only(store) == new


def test_a_fire_starts_an_execution_and_moves_on(store: AnyStore) -> None:
    row = store.apply(set_write())
    started = store.apply(fire_write(row, skipped=3))
    assert isinstance(started, Started)
    assert started.created
    assert (started.row.status, started.row.owner, started.row.key) == (
        State.PENDING, None, "schedule:5000",
    )  # fmt: skip
    moved = only(store)
    assert (moved.due_at, moved.fired_at, moved.fired_exec_id) == (6_000, 5_000, "fired")
    assert moved.skipped == 3


def test_who_fires_second_starts_nothing(store: AnyStore) -> None:
    row = store.apply(set_write())
    store.apply(fire_write(row))
    assert store.apply(fire_write(row, "second")) is None
    assert store.find_execution("second") is None
    assert only(store).fired_exec_id == "fired"


def test_a_fire_time_that_comes_again_finds_its_execution(store: AnyStore) -> None:
    """A clock went ahead and back: what it had reached was fired, and is not fired again."""
    row = store.apply(set_write())
    store.apply(fire_write(row))
    again = store.apply(set_write(due_at=5_000))
    assert again.due_at == 5_000
    started = store.apply(fire_write(again, "second"))
    assert not started.created
    assert (started.row.exec_id, only(store).due_at) == ("fired", 6_000)


def test_fire_times_are_skipped_without_an_execution(store: AnyStore) -> None:
    row = store.apply(set_write())
    assert store.apply(fire_write(row, start=None, fired_at=None, skipped=7)) is None
    moved = only(store)
    assert (moved.due_at, moved.skipped, moved.fired_at) == (6_000, 7, None)


def test_a_fire_whose_execution_cannot_be_is_no_fire(store: AnyStore) -> None:
    row = store.apply(set_write())
    store.apply(start_write("fired", None, flow_id="demo.other"))
    with pytest.raises(AlreadyRecorded):
        store.apply(fire_write(row))
    assert only(store) == row


def test_a_paused_schedule_fires_nothing_and_does_not_make_up_for_it(store: AnyStore) -> None:
    row = store.apply(set_write())
    paused = store.apply(pause(row, True, None, 2_000))
    assert (paused.paused_at, paused.due_at) == (2_000, 5_000)
    assert store.apply(pause(row, True, None, 3_000)).paused_at == 2_000
    assert store.apply(fire_write(row)) is None
    assert store.apply(set_write(cron="0 8 * * *")).paused_at == 2_000  # a deploy changes nothing
    resumed = store.apply(pause(row, False, 8_000, 7_000))
    assert (resumed.paused_at, resumed.due_at) == (None, 8_000)
    assert store.apply(pause(row, False, 99_000, 7_000)).due_at == 8_000
    assert store.apply(fire_write(resumed)).created


def test_a_dropped_schedule_is_there_and_fires_nothing_until_it_is_said_again(
    store: AnyStore,
) -> None:
    row = store.apply(set_write())
    assert store.apply(DropSchedule("demo", "demo.daily", 2, 3_000)) is True
    assert store.apply(DropSchedule("demo", "demo.daily", 2, 4_000)) is False
    assert store.apply(DropSchedule("demo", "demo.nobody", 2, 4_000)) is False
    dropped = only(store)
    assert (dropped.dropped_at, dropped.due_at, dropped.owner) == (3_000, None, 2)
    assert store.apply(fire_write(row)) is None
    store.apply(pause(row, True, None, 5_000))
    assert store.apply(pause(row, False, 9_000, 6_000)).due_at is None
    back = store.apply(set_write(due_at=9_000))
    assert (back.dropped_at, back.due_at) == (None, 9_000)


def test_there_is_nothing_to_pause_where_there_is_no_schedule(store: AnyStore) -> None:
    with pytest.raises(Missing):
        store.apply(PauseSchedule("demo", "demo.daily", True, None, 1))
    assert store.apply(Fire("demo", "demo.daily", 1, 2, 1, 0, start_write("e", None))) is None


def test_a_schedule_is_removed_unless_it_was_said_anew(store: AnyStore) -> None:
    row = store.apply(set_write())
    store.apply(set_write(project="elsewhere"))
    store.apply(set_write(at=2_000))
    assert store.apply(RemoveSchedule("demo", row.flow_id, row.said_at)) is False
    assert store.apply(RemoveSchedule("demo", row.flow_id, 2_000)) is True
    assert store.apply(RemoveSchedule("demo", row.flow_id, 2_000)) is False
    assert store.list_schedules(project="demo", limit=9) == []
    assert only(store, "elsewhere").flow_id == row.flow_id
    assert store.apply(fire_write(row)) is None


def test_projects_do_not_see_each_others_schedules(store: AnyStore) -> None:
    store.apply(set_write())
    store.apply(set_write(project="elsewhere", cron="0 9 * * *"))
    assert only(store).cron == "0 7 * * *"
    assert only(store, "elsewhere").cron == "0 9 * * *"


def test_of_many_processes_that_fire_at_once_one_starts_the_execution(tmp_path: Path) -> None:
    stores = [SqliteStore.open(str(tmp_path), env=StillEnv(n), project="demo") for n in range(6)]
    row = stores[0].apply(set_write())
    begin = threading.Barrier(len(stores))
    answers: list[Started | None] = []

    def fire(number: int, store: SqliteStore) -> None:
        begin.wait(timeout=30)
        answers.append(store.apply(fire_write(row, f"fired-{number}")))

    threads = [threading.Thread(target=fire, args=each) for each in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    started = [answer for answer in answers if answer is not None]
    assert len(answers) == 6
    assert len(started) == 1
    assert len(stores[0].list_executions(project="demo", limit=9)) == 1
    for store in stores:
        store.close()
