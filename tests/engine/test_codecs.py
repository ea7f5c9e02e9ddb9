"""Checkpoints whose outcomes are arrays, have a registered codec, or are pickled."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.cli import main as cli
from kitaru.errors import KitaruExecutionError, KitaruUsageError, KitaruValueError

from .looking import calls, retry

PLAN: dict[str, Any] = {}
UNPICKLED: list[str] = []


class Odd:
    """Has no encoding but a pickle, and tells when it is unpickled."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        return _unpickle, (self.name,)


def _unpickle(name: str) -> Odd:
    UNPICKLED.append(name)
    return Odd(name)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    PLAN.clear()
    UNPICKLED.clear()


@checkpoint(codec="pickle")
def odd(name: str) -> Any:
    PLAN["bodies"] = PLAN.get("bodies", 0) + 1
    return Odd(name)


@flow
def uses_odd(name: str, fails: bool = False) -> str:
    found = odd(name)
    if fails and not PLAN.get("mended"):
        raise RuntimeError("this life ends")
    return f"{type(found).__name__} {found.name}"


def test_a_pickled_outcome_is_recalled_by_the_flow_itself() -> None:
    handle = uses_odd.run("a", fails=True)
    with pytest.raises(KitaruExecutionError):
        handle.wait()
    PLAN["mended"] = True
    assert retry(uses_odd, handle.exec_id).wait() == "Odd a"
    assert PLAN["bodies"] == 1


def test_a_pickled_outcome_is_reused_by_the_same_checkpoint() -> None:
    assert uses_odd.run("b").wait() == "Odd b"
    assert uses_odd.run("b").wait() == "Odd b"
    assert PLAN["bodies"] == 1


def test_no_surface_unpickles(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = uses_odd.run("c")
    handle.wait()
    UNPICKLED.clear()
    client = kitaru.KitaruClient()
    found = client.executions.get(handle.exec_id)
    (call,) = found.checkpoints
    with pytest.raises(KitaruValueError, match="only the flow itself reads it"):
        call.result()
    assert call.inputs == {"name": "c"}
    client.executions.list()
    client.executions.why(handle.exec_id, call.name)
    for command in (["get", handle.exec_id, "--result"], ["list"], ["why", handle.exec_id, "odd"]):
        monkeypatch.setattr("sys.argv", ["kitaru", "executions", *command, "-o", "json"])
        with contextlib.suppress(SystemExit):
            cli()
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["command"] for one in shown] == [
        f"executions.{name}" for name in ("get", "list", "why")
    ]
    assert UNPICKLED == []


def test_a_checkpoint_that_no_longer_asks_for_pickle_does_not_unpickle() -> None:
    @checkpoint(name="changing", codec="pickle")
    def pickled() -> Any:
        return Odd("d")

    @flow(name="changes")
    def changes() -> str:
        got = PLAN["checkpoint"]()
        if not PLAN.get("mended"):
            raise RuntimeError("this life ends")
        return str(got)

    PLAN["checkpoint"] = pickled
    handle = changes.run()
    with pytest.raises(KitaruExecutionError):
        handle.wait()
    UNPICKLED.clear()
    PLAN["mended"] = True
    PLAN["checkpoint"] = checkpoint(codec="json")(pickled.func)
    PLAN["checkpoint"].spec.id = "changing"
    with pytest.raises(KitaruExecutionError, match='codec="pickle"'):
        retry(changes, handle.exec_id).wait()
    assert UNPICKLED == []


def test_a_pickle_is_no_source_for_a_checkpoint_that_does_not_ask_for_it() -> None:
    def body() -> Any:
        PLAN["bodies"] = PLAN.get("bodies", 0) + 1
        return [1]

    @flow(name="switches")
    def switches() -> Any:
        return PLAN["checkpoint"]()

    for codec, bodies in (("pickle", 1), ("pickle", 1), ("json", 2), ("json", 2), ("pickle", 2)):
        PLAN["checkpoint"] = checkpoint(codec=codec)(body)
        assert switches.run().wait() == [1]
        assert PLAN["bodies"] == bodies


@pytest.mark.parametrize(
    ("value", "said"),
    [(lambda: 0, "cannot be pickled"), (b"x" * (70 << 20), "more than 67,108,864 bytes")],
    ids=["lambda", "large"],
)
def test_what_cannot_be_pickled_fails_the_call_with_its_name(value: Any, said: str) -> None:
    @checkpoint(codec="pickle", name=f"pickles {said}")
    def made() -> Any:
        return value

    @flow(name=f"pickles {said}")
    def makes() -> None:
        made()

    with pytest.raises(KitaruExecutionError, match=said):
        makes.run().wait()


@pytest.mark.parametrize(
    ("codec", "said"),
    [
        ("pikle", "did you mean 'pickle'"),
        ("JSON", "did you mean 'json'"),
        ("yaml!", '"json" or "pickle"'),
        (True, "codec=True"),
        (5, "codec=5"),
    ],
)
def test_an_unknown_codec_is_refused_at_decoration(codec: Any, said: str) -> None:
    with pytest.raises(KitaruUsageError, match=said):
        checkpoint(codec=codec)(odd.func)


# --- arrays ------------------------------------------------------------------------------


@checkpoint
def noise(seed: int, rows: int) -> Any:
    PLAN["bodies"] = PLAN.get("bodies", 0) + 1
    return np.random.default_rng(seed).random((rows, 10))


@checkpoint
def total(table: Any) -> float:
    PLAN["totals"] = PLAN.get("totals", 0) + 1
    return float(table.sum())


@flow
def sums(rows: int) -> float:
    table = noise(1, rows)
    table *= 2  # what comes back is the flow's own, and writable
    return total(table) + total(np.asfortranarray(table))


@pytest.mark.parametrize("rows", [3, 20_000])
def test_arrays_go_from_checkpoint_to_checkpoint_and_are_reused(rows: int) -> None:
    first = sums.run(rows).wait()
    handle = sums.run(rows)
    assert handle.wait() == first
    assert PLAN["bodies"] == 1
    assert PLAN["totals"] == 2  # equal arrays, so the second is another sample of the first
    shown = [json.loads(call.inputs) for call in calls(handle.exec_id)]
    assert shown[1]["table"]["shape"] == [rows, 10]
    result = kitaru.KitaruClient().executions.get(handle.exec_id).checkpoints[0].result()
    assert result.shape == (rows, 10)


@flow(name="keeps arrays")
def keeps(table: Any, name: str) -> Any:
    return {"table": table, "also": [table[:2], np.float32(1.5)], "name": name}


@pytest.mark.sqlite
@pytest.mark.parametrize("rows", [3, 500_000])
def test_looking_shows_dtype_shape_and_size_and_no_data(
    rows: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = keeps.run(np.zeros(rows), "x")
    handle.wait()
    found = kitaru.KitaruClient().executions.get(handle.exec_id)
    table = {"$kitaru": "numpy.ndarray", "dtype": "<f8", "shape": [rows], "v": {"bytes": 8 * rows}}
    assert found.inputs == {"table": table, "name": "x"}
    monkeypatch.setattr(
        "sys.argv", ["kitaru", "executions", "get", handle.exec_id, "--result", "-o", "json"]
    )
    with contextlib.suppress(SystemExit):
        cli()
    shown = json.loads(capsys.readouterr().out)["item"]["result"]
    assert shown["table"] == table
    assert shown["also"][1] == {"$kitaru": "numpy.scalar", "dtype": "<f4", "v": 1.5}


def test_an_exact_codec_hands_on_the_very_object() -> None:
    class Frozen:
        pass

    kitaru.register_codec(
        Frozen,
        name="test.frozen",
        encode=lambda _: b"",
        decode=lambda _: Frozen(),
        exact=True,
    )
    one = Frozen()

    @checkpoint(name="gives frozen", cache=False)
    def gives() -> Any:
        return one

    @flow(name="takes frozen")
    def takes() -> bool:
        return gives() is one

    assert takes.run().wait() is True


# --- limits ------------------------------------------------------------------------------


@checkpoint(name="nests", cache=False)
def nests(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


@flow(name="nesting")
def nesting(depth: int) -> int:
    value, found = nests(depth), 1
    while value:
        value, found = value[0], found + 1
    return found


def test_limits_hold_from_the_next_run_and_what_was_recorded_stays_readable() -> None:
    with pytest.raises(KitaruExecutionError, match="more than 100 deep"):
        nesting.run(150).wait()
    kitaru.configure(limits={"max_depth": 160})
    handle = nesting.run(150)
    assert handle.wait() == 150
    kitaru.configure(limits={"max_depth": 20})
    with pytest.raises(KitaruExecutionError, match="more than 20 deep"):
        nesting.run(150).wait()
    (call,) = kitaru.KitaruClient().executions.get(handle.exec_id).checkpoints
    assert len(str(call.result())) == 300


@flow(name="takes anything")
def takes_anything(value: Any) -> int:
    return len(value)


def test_the_limit_of_a_payload_holds_for_inputs_and_for_pickles() -> None:
    kitaru.configure(limits={"max_payload_bytes": 2048})
    with pytest.raises(KitaruValueError, match="more than 2,048 bytes"):
        takes_anything.run("x" * 3000)
    with pytest.raises(KitaruExecutionError, match="more than 2,048 bytes"):
        uses_odd.run("x" * 2000, fails=False).wait()
    kitaru.configure(limits={"max_payload_bytes": 4096})
    assert takes_anything.run("x" * 3000).wait() == 3000


@pytest.mark.parametrize(
    ("library", "value", "name"),
    [
        ("pandas", "pandas.DataFrame({'a': [1]})", "DataFrame"),
        ("numpy", "[numpy.float32(1)]", "numpy.float32"),
        ("PIL.Image", "PIL.Image.new('L', (1, 1))", "PIL.Image.Image"),
    ],
)
def test_a_library_that_only_the_body_imports_is_told_at_once(
    library: str, value: str, name: str, tmp_path: Path
) -> None:
    script = tmp_path / "late.py"
    script.write_text(
        "import kitaru\n"
        f"kitaru.configure(store={str(tmp_path / 'store')!r})\n"
        "@kitaru.checkpoint\n"
        "def late():\n"
        f"    import {library}\n"
        f"    return {value}\n"
        "@kitaru.flow\n"
        "def uses():\n"
        "    late()\n"
        "if __name__ == '__main__':\n"
        "    uses.run().wait()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"{name}, whose module was not loaded when the body began" in done.stderr
    assert f"`import {library}` at the top" in done.stderr


@checkpoint(name="doubles in place", cache=False)
def doubles(table: Any) -> int:
    table *= 2
    return len(table)


@pytest.mark.parametrize(("rows", "said"), [(3, True), (200_000, False)])
def test_a_body_that_changes_a_small_array_in_place_is_told(
    rows: int, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    doubles.spec.said.clear()

    @flow(name=f"doubles {rows}")
    def twice() -> int:
        return doubles(np.ones(rows))

    assert twice.run().wait() == rows
    assert ("changed its argument 'table' in place" in capsys.readouterr().err) is said


@pytest.mark.parametrize("rows", [3, 300_000])
def test_a_result_whose_library_is_not_in_use_is_no_source_of_reuse(
    rows: int, tmp_path: Path
) -> None:
    script = tmp_path / "late.py"
    script.write_text(
        "import kitaru\n"
        f"kitaru.configure(store={str(tmp_path / 'store')!r})\n"
        "@kitaru.checkpoint\n"
        "def late():\n"
        "    import numpy\n"
        f"    return numpy.zeros({rows})\n"
        "@kitaru.flow\n"
        "def uses():\n"
        "    return len(late())\n"
        "if __name__ == '__main__':\n"
        "    print(uses.run().wait())\n"
    )
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.stdout, done.returncode) == (f"{rows}\n", 0), done.stderr
