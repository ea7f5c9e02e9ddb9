"""Children of a replayed execution: replayed themselves where they were over, else started anew."""

from __future__ import annotations

from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow

from .looking import PATIENCE_SECONDS, execution

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@checkpoint
def work(what: str) -> str:
    RAN.append(what)
    return f"<{what}>"


@checkpoint
def fails(what: str) -> str:
    RAN.append(what)
    raise ValueError(what)


@flow
def part(name: str) -> str:
    return work(f"{name}1") + work(f"{name}2")


@flow
def broken(name: str) -> str:
    return fails(name)


@flow
def whole() -> str:
    first = part.run("a").wait()
    middle = work("middle")
    return first + middle + part.run("b").wait()


@flow
def catches() -> str:
    try:
        return broken.run("x").wait()
    except kitaru.KitaruUserCodeError as error:
        return work(str(error.__cause__))


def children(exec_id: str) -> list[Any]:
    return list(KitaruClient().executions.list_children(exec_id))


def test_children_that_were_over_are_replayed_and_run_nothing() -> None:
    first = whole.run()
    value = first.wait(timeout=PATIENCE_SECONDS)
    RAN.clear()
    second = whole.replay(first.exec_id)
    assert second.wait(timeout=PATIENCE_SECONDS) == value
    assert RAN == []
    before, after = children(first.exec_id), children(second.exec_id)
    assert len(after) == 2
    assert [execution(c.exec_id).original_exec_id for c in after] == [c.exec_id for c in before]
    assert {c.source for c in after[0].checkpoints} == {"carried"}


def test_children_behind_the_point_are_started_anew_and_reuse_nothing() -> None:
    first = whole.run()
    value = first.wait(timeout=PATIENCE_SECONDS)
    RAN.clear()
    second = whole.replay(first.exec_id, "work")
    assert second.wait(timeout=PATIENCE_SECONDS) == value
    assert RAN == ["middle", "b1", "b2"]
    kept, new = children(second.exec_id)
    assert (kept.original_exec_id is None, new.original_exec_id) == (False, None)


def test_a_childs_failure_is_kept_too() -> None:
    first = catches.run()
    value = first.wait(timeout=PATIENCE_SECONDS)
    RAN.clear()
    assert catches.replay(first.exec_id).wait(timeout=PATIENCE_SECONDS) == value
    assert RAN == []
