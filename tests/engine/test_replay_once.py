"""Effects that happen once, in replays: kept like any outcome, and anew only where asked for."""

from __future__ import annotations

from typing import Any

from kitaru import KitaruClient, checkpoint, flow

from .looking import PATIENCE_SECONDS

RAN: list[Any] = []


@checkpoint
def draft(topic: str) -> str:
    RAN.append(topic)
    return f"about {topic}"


@checkpoint(effect="once")
def charge(text: str) -> str:
    RAN.append(("charge", text))
    return f"charged for {text}"


@flow
def shop(topic: str) -> str:
    return charge(draft(topic))


def test_an_effect_that_happened_is_kept_and_happens_anew_only_in_the_named_call() -> None:
    first = shop.run("rivers")
    value = first.wait(timeout=PATIENCE_SECONDS)
    RAN.clear()
    assert shop.replay(first.exec_id).wait(timeout=PATIENCE_SECONDS) == value
    assert RAN == []
    assert shop.replay(first.exec_id, "charge").wait(timeout=PATIENCE_SECONDS) == value
    assert RAN == [("charge", "about rivers")]
    RAN.clear()
    given = shop.replay(first.exec_id, overrides={"checkpoint.draft": "x"})
    assert given.wait(timeout=PATIENCE_SECONDS) == "charged for x"
    assert RAN == [("charge", "x")]
    assert [c.source for c in KitaruClient().executions.latest().checkpoints] == ["override", "ran"]
