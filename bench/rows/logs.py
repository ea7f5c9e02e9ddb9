"""What it costs to keep what a checkpoint prints: ten lines each, kept and not kept, in turns."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kitaru
from bench import steps
from bench.figures import Rounds, Row, Target
from bench.rows.checkpoint import run_steps
from bench.stores import Bench


def measure(bench: Bench) -> Iterator[Row]:
    count = 1_000 if bench.full else 400
    for name, flow in (
        ("ten lines printed, kept", steps.printing),
        ("ten lines printed by an async checkpoint, kept", steps.async_printing),
        ("nothing printed, logs kept", steps.steps),
    ):
        bench.say(name)
        rounds = Rounds()
        with _printing_to_nobody():
            for _ in range(bench.rounds):
                kept = _lap(bench, flow, count, logs=True)
                without = _lap(bench, flow, count, logs=False)
                rounds.add(kept.seconds, without.seconds, kept.cpu_seconds, without.cpu_seconds)
        target = Target(1.05)
        yield rounds.row(
            name, "ms", scale=1e3, limit_name="the same with logs=False", target=target
        )


def _lap(bench: Bench, flow: Any, count: int, *, logs: bool) -> steps.Lap:
    kitaru.configure(logs=logs)
    try:
        return run_steps(bench, flow, count)
    finally:
        kitaru.app.use(None)
        kitaru.configure(logs=True)


@contextmanager
def _printing_to_nobody() -> Iterator[None]:
    before = sys.stdout
    with open(os.devnull, "w", encoding="utf-8") as sys.stdout:
        try:
            yield
        finally:
            sys.stdout = before
