"""Unfinished executions against new code: it is replaced under what stands parked."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, LivePlan
from kitaru.errors import KitaruUsageError
from kitaru.testing import in_memory

OLD = """
from dataclasses import dataclass

import kitaru
from kitaru import checkpoint, flow

@dataclass
class Draft:
    text: str

@checkpoint
def research(topic: str) -> str:
    return f"facts about {topic}"

@checkpoint
def write(facts: str, tone: str = "kind") -> Draft:
    return Draft(facts)

@checkpoint(effect="once")
def pay(amount: int) -> str:
    return "paid"

@checkpoint
def outer(topic: str) -> str:
    return inner(topic)

@checkpoint
def inner(topic: str) -> str:
    return topic

@flow{options}
def report(topic: str) -> str:
    write(research(topic))
    pay(amount=3)
    outer(topic)
    kitaru.wait(name="approve")
    return "done"
"""

NAME = "deployed_code"


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(tmp_path))
    with in_memory(clock="manual"):
        yield
    sys.modules.pop(NAME, None)


def load(folder: Path, source: str) -> ModuleType:
    """The module as a process has it that was started with this code."""
    sys.modules.pop(NAME, None)
    (folder / f"{NAME}.py").write_text(source)
    importlib.invalidate_caches()
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        return importlib.import_module(NAME)
    finally:
        sys.dont_write_bytecode = before


def parked(folder: Path, options: str = "") -> str:
    """An execution of the old code that waits for its approval."""
    module: Any = load(folder, OLD.replace("{options}", options))
    handle = module.report.run("rivers")
    kitaru.app.current().runner.wait_idle(30)
    assert handle.status.value == "waiting"
    exec_id: str = handle.exec_id
    return exec_id


def deploy(folder: Path, *changes: tuple[str, str], options: str = "") -> LivePlan:
    source = OLD.replace("{options}", options)
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    load(folder, source)
    (plan,) = KitaruClient().executions.plan_live()
    return plan


def test_the_same_code_recalls_everything(tmp_path: Path) -> None:
    exec_id = parked(tmp_path)
    plan = deploy(tmp_path)
    assert (plan.exec_id, plan.flow_name, plan.status.value) == (exec_id, "report", "waiting")
    assert (plan.verdict, plan.problems) == ("fine", ())
    assert plan.counts == {"recall": 5}


def test_changed_bodies_and_optional_parameters_are_no_trouble(tmp_path: Path) -> None:
    parked(tmp_path)
    plan = deploy(
        tmp_path,
        ('return f"facts about {topic}"', "return topic.upper()"),
        ('tone: str = "kind")', 'tone: str = "kind", pages: int = 1)'),
    )
    assert (plan.verdict, plan.counts) == ("fine", {"recall": 5})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("def research(topic: str)", "def research(about: str)"), "takes no 'topic' any more"),
        (("def research(topic: str)", "def research(topic: str, depth: int)"), "needs 'depth'"),
    ],
)
def test_a_call_that_this_code_would_not_make_runs_anew(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    parked(tmp_path)
    plan = deploy(tmp_path, change)
    assert plan.verdict == "runs anew"
    assert plan.counts == {"drift": 1, "recall": 4}
    assert said in plan.problems[0]
    assert "it would run anew" in plan.problems[0]


def test_a_strict_flow_would_stop(tmp_path: Path) -> None:
    parked(tmp_path, "(strict=True)")
    change = ("def research(topic: str)", "def research(about: str)")
    plan = deploy(tmp_path, change, options="(strict=True)")
    assert plan.verdict == "stops"
    assert "the flow is strict, and stops" in plan.problems[0]


def test_what_happens_once_waits_for_a_person(tmp_path: Path) -> None:
    parked(tmp_path)
    plan = deploy(tmp_path, ("def pay(amount: int)", "def pay(cents: int)"))
    assert plan.verdict == "stops"
    assert 'it has effect="once", and waits for a person' in plan.problems[0]


def test_a_checkpoint_that_is_gone_leaves_an_orphan_unless_it_is_an_alias(tmp_path: Path) -> None:
    parked(tmp_path)
    renamed = ("def research(", "def look_up("), ("write(research(", "write(look_up(")
    plan = deploy(tmp_path, *renamed)
    assert (plan.verdict, plan.counts) == ("runs anew", {"orphan": 1, "recall": 4})
    assert "research #0 is orphaned" in plan.problems[0]
    assert "aliases=" in plan.problems[0]
    alias = f'@checkpoint(aliases=["{NAME}.research"])\ndef look_up('
    known = ("@checkpoint\ndef research(", alias), ("write(research(", "write(look_up(")
    assert deploy(tmp_path, *known).verdict == "fine"


def test_a_value_that_this_code_cannot_read_stops_it(tmp_path: Path) -> None:
    parked(tmp_path)
    plan = deploy(tmp_path, ("    text: str\n", "    text: str\n    pages: int\n"))
    assert plan.verdict == "stops"
    assert plan.problems[0].startswith("the result of write #1 cannot be read: ")
    assert "Draft" in plan.problems[0]


def test_inputs_that_do_not_fit_stop_it(tmp_path: Path) -> None:
    parked(tmp_path)
    plan = deploy(tmp_path, ("def report(topic: str)", "def report(topic: str, year: int)"))
    assert plan.verdict == "stops"
    assert plan.problems[0].startswith("its inputs do not fit this code: ")
    assert "year" in plan.problems[0]


def test_a_flow_that_is_not_in_the_new_code_stops_it(tmp_path: Path) -> None:
    parked(tmp_path)
    kitaru.app._flows.pop(f"{NAME}.report")
    (plan,) = KitaruClient().executions.plan_live()
    assert (plan.verdict, plan.counts) == ("stops", {})
    assert plan.problems[0].startswith("its flow is not in this code: ")


def test_children_of_a_call_that_has_its_outcome_are_not_asked_for(tmp_path: Path) -> None:
    parked(tmp_path)
    plan = deploy(tmp_path, ("def inner(topic: str)", "def inner(subject: str)"))
    assert (plan.verdict, plan.counts) == ("fine", {"recall": 5})


def test_what_is_finished_is_not_asked_about_and_only_the_flow_that_is_named(
    tmp_path: Path,
) -> None:
    exec_id = parked(tmp_path)
    executions = KitaruClient().executions
    assert list(executions.plan_live(flow="another")) == []
    assert len(list(executions.plan_live(flow="report"))) == 1
    executions.cancel(exec_id)
    assert list(executions.plan_live()) == []


def test_what_is_asked_for_is_checked() -> None:
    for wrong in ({"flow": 3}, {"limit": 0}, {"limit": "x"}):
        with pytest.raises(KitaruUsageError):
            KitaruClient().executions.plan_live(**wrong)  # type: ignore[arg-type]
