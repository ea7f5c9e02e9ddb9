"""Every value is a value (R5), and what reuse shows of itself (S7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow

RAN: list[Any] = []
NOTHINGS: list[Any] = [None, False, 0, 0.0, "", b"", [], {}, ()]


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@checkpoint
def nothing(which: int) -> Any:
    RAN.append(which)
    return NOTHINGS[which]


@flow(retries=1)
def all_nothings() -> list[Any]:
    found = [nothing(which) for which in range(len(NOTHINGS))]
    if kitaru.current().attempt == 1:
        raise OSError("once more: now they are recalled")
    return found


@flow
def the_same_nothings() -> list[Any]:
    return [nothing(which) for which in range(len(NOTHINGS))]


def test_what_looks_like_nothing_is_recalled_and_reused_like_any_value() -> None:
    expected = [(type(one), one) for one in NOTHINGS]
    assert [(type(one), one) for one in all_nothings.run().wait()] == expected
    assert [(type(one), one) for one in the_same_nothings.run().wait()] == expected
    assert sorted(RAN) == [which for which, _ in enumerate(NOTHINGS)]


@checkpoint
def inner() -> int:
    RAN.append("inner")
    return 1


@checkpoint
def outer() -> int:
    RAN.append("outer")
    return inner() + 1


@flow
def nests() -> int:
    return outer()


def test_a_reused_parent_hides_its_children_and_names_its_source(
    capfd: pytest.CaptureFixture[str],
) -> None:
    first = nests.run()
    assert first.wait() == 2
    second, third = nests.run(), nests.run()
    assert (second.wait(), third.wait()) == (2, 2)
    assert RAN == ["outer", "inner"]
    (call,) = KitaruClient().executions.get(second.exec_id).checkpoints
    assert (call.name.split(".")[-1], call.source) == ("outer", "reused")
    assert call.reused_from == first.exec_id
    assert call.reason == f"reused from {first.exec_id}"
    said = [line for line in capfd.readouterr().err.splitlines() if "reuses a result" in line]
    assert len(said) == 1
    assert first.exec_id in said[0]


@checkpoint
def asks() -> int:
    RAN.append("asks")
    return 7


@checkpoint(cache=False)
def asks_never() -> int:
    RAN.append("asks")
    return 7


@checkpoint(cache=True)
def asks_always() -> int:
    RAN.append("asks")
    return 7


def _ladder() -> dict[str, Any]:
    @flow
    def plain() -> int:
        return asks()

    @flow(cache=True)
    def on() -> int:
        return asks()

    @flow(cache=False)
    def off_but_for_one() -> int:
        return asks_always()

    @flow
    def never() -> int:
        return asks_never()

    return {"plain": plain, "on": on, "off": off_but_for_one, "never": never}


def test_each_rung_of_the_ladder_of_cache_wins_over_the_one_below_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flows = _ladder()
    monkeypatch.chdir(tmp_path)
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text("[tool.kitaru]\ncache = false\n")

    def run(name: str, **options: Any) -> str:
        handle = flows[name].run(**options)
        assert handle.wait() == 7
        (why,) = KitaruClient().executions.why(handle.exec_id)
        return why.source if why.source == "reused" else why.reason

    assert run("on") == "never recorded"
    assert run("plain") == f"switched off by [tool.kitaru] in {pyproject}"
    monkeypatch.setenv("KITARU_CACHE", "on")
    assert run("plain") == "reused"
    kitaru.configure(cache=False)
    assert run("plain") == "switched off by configure()"
    assert run("on") == "reused"
    assert run("off") == "never recorded"
    assert run("off") == "reused"
    assert run("off", cache=False) == "switched off by run(cache=False)"
    assert run("off", cache="refresh") == "everything runs anew: run(cache='refresh')"
    assert run("never", cache=True) == "switched off by @checkpoint(cache=False)"


# --- every miss has its reason, not only the first ---------------------------------------------


def pricing(version: str, goods: list[str]) -> list[str]:
    """Run the flow with that version of its checkpoint -> why each call ran or was reused."""

    @checkpoint(name="priced", version=version)
    def priced(what: str) -> str:
        return what

    @flow(name="pricing")
    def prices(goods: list[str]) -> list[str]:
        return [priced(what) for what in goods]

    handle = prices.run(goods)
    handle.wait()
    return [why.reason for why in KitaruClient().executions.why(handle.exec_id)]


def test_after_a_change_of_code_each_call_says_so() -> None:
    pricing("1", ["tea", "milk", "sugar"])
    assert pricing("2", ["tea", "milk", "sugar"]) == ["code changed: version"] * 3


def test_a_call_that_only_a_former_version_recorded_says_so_in_later_runs_too() -> None:
    pricing("1", ["tea", "milk"])
    pricing("2", ["milk", "salt"])
    tea, milk, salt, new = pricing("2", ["tea", "milk", "salt", "pepper"])
    assert (tea, new) == ("code changed: version", "input changed: what")
    assert milk.startswith("reused from")
    assert salt.startswith("reused from")
