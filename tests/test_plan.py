"""What a resume, retry or replay would do, told before anything runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, Plan, checkpoint, flow
from kitaru.errors import KitaruStateError, KitaruUsageError

RAN: list[Any] = []
RATE = 1.19


@pytest.fixture(autouse=True)
def _own_store(own_store: Path) -> None:
    RAN.clear()


@checkpoint
def research(topic: str) -> str:
    RAN.append(topic)
    kitaru.log(cost=0.5, usage={"input_tokens": 100, "model": "m"})
    return f"facts about {topic}"


@checkpoint
def draft(facts: str, tone: str = "kind") -> str:
    RAN.append(facts)
    kitaru.log(cost=2, cost_usd=1.5)
    return f"{facts}, {tone}"


@checkpoint(name="quoted")
def price(text: str) -> float:
    RAN.append(text)
    return len(text) * RATE


@checkpoint
def publish(text: str, euros: float) -> str:
    RAN.append(text)
    if "bad" in text:
        raise ValueError("bad text")
    return text.upper()


@flow
def report(topic: str) -> str:
    text = draft(research(topic))
    return publish(text, price(text))


def plan(exec_id: str, **words: Any) -> Plan:
    before = list(RAN), len(KitaruClient().executions.list())
    found = KitaruClient().executions.plan(exec_id, **words)
    assert (list(RAN), len(KitaruClient().executions.list())) == before
    return found


def fates(found: Plan) -> list[tuple[str, str]]:
    return [(call.name, call.action) for call in found.calls]


@pytest.fixture
def done() -> str:
    handle = report.run("rivers")
    handle.wait()
    return handle.exec_id


@pytest.fixture
def failed() -> str:
    handle = report.run("bad rivers")
    with pytest.raises(kitaru.KitaruUserCodeError):
        handle.wait()
    return handle.exec_id


def test_a_replay_of_everything_would_carry_everything(done: str) -> None:
    found = plan(done)
    assert (found.verb, found.status.value, found.from_) == ("replay", "completed", None)
    assert found.counts == {"carry": 4}
    assert found.costs == {"carry": {"cost": 2.5, "cost_usd": 1.5, "usage.input_tokens": 100}}
    assert {call.code for call in found.calls} == {"same"}


def test_a_replay_from_a_call_would_run_it_and_what_came_after_it(done: str) -> None:
    found = plan(done, from_="draft")
    assert fates(found) == [
        ("research", "carry"), ("draft", "run"), ("quoted", "run"), ("publish", "run"),
    ]  # fmt: skip
    assert found.costs["run"] == {"cost": 2, "cost_usd": 1.5}
    assert found.calls[2].reason == "it had not completed when draft started"
    assert any("costs are known of 1 of 3 calls" in note for note in found.notes)
    assert str(found).splitlines()[0] == f"replay of {done} from draft: 1 carry, 3 run"
    report.replay(done, "draft").wait()
    latest = KitaruClient().executions.latest().checkpoints
    assert [c.source for c in latest] == ["carried", "ran", "ran", "ran"], "as it was foreseen"


def test_what_is_given_an_overridden_result_would_run(done: str) -> None:
    found = plan(done, overrides={"checkpoint.research": "other facts, and more"})
    assert fates(found) == [
        ("research", "override"), ("draft", "run"), ("quoted", "run"), ("publish", "run"),
    ]  # fmt: skip
    assert found.calls[1].reason == "its input changes: facts"


def test_what_may_depend_on_an_override_is_said_to_be_unclear(done: str) -> None:
    found = plan(done, overrides={"checkpoint.quoted": 3.0})
    assert fates(found)[-1] == ("publish", "perhaps")
    assert found.counts == {"carry": 2, "override": 1, "perhaps": 1}


def test_a_changed_input_is_followed_too(done: str) -> None:
    assert fates(plan(done, topic="other rivers"))[0] == ("research", "perhaps")
    long = report.run("the rivers of the north")
    long.wait()
    found = plan(long.exec_id, topic="the lakes")
    assert {action for _, action in fates(found)} == {"run"}
    assert found.calls[0].reason == "its input changes: topic"


def test_a_retry_would_run_what_made_it_fail(failed: str) -> None:
    found = plan(failed)
    assert found.verb == "retry"
    assert fates(found)[-1] == ("publish", "run")
    assert found.counts == {"recall": 3, "run": 1}
    assert found.calls[-1].reason == "it made the execution fail"


def test_code_that_changed_is_named_with_old_and_new(
    failed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "RATE", 1.2)
    found = plan(failed)
    priced = found.calls[2]
    assert (priced.action, priced.code) == ("recall", "changed")
    (name,) = priced.changed
    assert name.endswith("test_plan.RATE")
    assert [each.kind for each in priced.differences] == ["code"]
    assert "code changed" in str(priced)
    assert {call.code for call in found.calls if call is not priced} == {"same"}


def test_a_checkpoint_that_is_gone_leaves_its_outcomes_orphaned(
    failed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sys.modules[__name__], "research")
    found = plan(failed)
    assert fates(found)[0] == ("research", "orphan")
    assert found.calls[0].code == "gone"


@checkpoint(retries=kitaru.Retry(max_attempts=2, initial_seconds=0))
def twice(what: str) -> str:
    inner(what)
    raise ValueError("never")


@checkpoint
def inner(what: str) -> str:
    return what


@flow
def fails_inside() -> str:
    return twice("a")


def test_what_is_inside_a_call_that_is_tried_anew_is_orphaned() -> None:
    handle = fails_inside.run()
    with pytest.raises(kitaru.KitaruUserCodeError):
        handle.wait()
    found = plan(handle.exec_id)
    assert fates(found) == [("twice", "run"), ("inner", "orphan"), ("inner", "orphan")]
    assert found.calls[1].reason == "twice is tried anew, with calls of its own"


def test_what_cannot_be_planned_is_refused(done: str, failed: str) -> None:
    with pytest.raises(KitaruStateError, match="nothing to resume"):
        plan(done, for_="resume")
    with pytest.raises(KitaruStateError, match="only a failed one"):
        plan(done, for_="retry")
    with pytest.raises(KitaruUsageError, match="belong to a replay"):
        plan(failed, for_="retry", from_="draft")
    with pytest.raises(KitaruUsageError, match="Did you mean 'replay'"):
        plan(done, for_="reply")
    with pytest.raises(KitaruStateError, match="no recorded call"):
        plan(done, from_="nothing")
