"""Writes of schedules: plain ones for the conformance suite, random ones for the differential."""

from __future__ import annotations

import random
from typing import Any

from kitaru._store.protocol import (
    DropSchedule,
    Fire,
    PauseSchedule,
    RemoveSchedule,
    ScheduleRow,
    SetSchedule,
    Write,
)

from .worlds import AnyStore, start_write

FLOWS = ["demo.daily", "demo.old"]


def set_write(**changes: Any) -> SetSchedule:
    write = SetSchedule(
        project="demo",
        flow_id="demo.daily",
        former=(),
        flow_name="daily",
        cron="0 7 * * *",
        timezone="UTC",
        missed="last",
        spec="{}",
        keep_seconds=None,
        code_folder="/code",
        code_module="demo",
        owner=1,
        due_at=5_000,
        at=1_000,
    )
    return write._replace(**changes)


def fire_write(row: ScheduleRow, exec_id: str = "fired", **changes: Any) -> Fire:
    due_at = row.due_at if row.due_at is not None else 0
    start = start_write(
        exec_id, None, flow_id=row.flow_id, key=f"schedule:{due_at}", project=row.project
    )
    return Fire(row.project, row.flow_id, due_at, due_at + 1_000, due_at, 0, start)._replace(
        **changes
    )


def random_write(rng: random.Random, model: AnyStore, exec_id: str, owner: int, at: int) -> Write:
    """Mostly about one that stands there, sometimes about another."""
    project = rng.choices(["demo", "elsewhere"], [5, 1])[0]
    flow_id = rng.choice(FLOWS)
    due_at = rng.choice([None, at + rng.randrange(-3, 9)])
    rows = model.list_schedules(project=project, limit=9)
    kind = rng.choices(["set", "drop", "pause", "remove", "fire"], [5, 1, 2, 1, 6])[0]
    if kind == "set" or not rows:
        return set_write(
            project=project, flow_id=flow_id, due_at=due_at, at=at, owner=owner,
            former=rng.choice([(), (), ("demo.old",), ("demo.old", "demo.daily")]),
            cron=rng.choices(["0 7 * * *", "0 8 * * *"], [4, 1])[0],
            missed=rng.choice(["skip", "last", "all"]),
            keep_seconds=rng.choice([None, 60]),
        )  # fmt: skip
    row = rng.choice(rows)
    if kind == "drop":
        return DropSchedule(project, flow_id, owner, at)
    if kind == "pause":
        named = row.flow_id if rng.random() < 0.9 else "demo.nobody"
        return PauseSchedule(project, named, rng.random() < 0.5, due_at, at)
    if kind == "remove":
        return RemoveSchedule(project, row.flow_id, row.said_at + (rng.random() < 0.3))
    fire = fire_write(row, exec_id, next_at=due_at, skipped=rng.randrange(3))
    if rng.random() < 0.1:
        fire = fire._replace(due_at=fire.due_at + 1)
    if rng.random() < 0.1:
        return fire._replace(start=None, fired_at=None)
    return fire
