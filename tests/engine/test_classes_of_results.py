"""A body that returns a class which another life may not find says so at once."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine.looking import notes

import kitaru
from kitaru._core.values.classes import FRESH

SOURCE = "import dataclasses\n@dataclasses.dataclass\nclass Order:\n    id: int = 1\n"


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that nothing has loaded yet."""
    name = f"late_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


@kitaru.checkpoint
def order_of(module: str) -> Any:
    return [importlib.import_module(module).Order()]


@kitaru.checkpoint
async def order_soon(module: str) -> Any:
    return importlib.import_module(module).Order()


@kitaru.flow
def loads_in_a_body(module: str, times: int = 1) -> int:
    return sum(order_of(module)[0].id for _ in range(times))


@kitaru.flow
async def loads_in_an_async_body(module: str) -> None:
    await order_soon(module)


@kitaru.flow
def loads_before_the_body(module: str) -> None:
    importlib.import_module(module)
    order_of(module)


def test_a_class_whose_module_the_body_loaded_gets_a_warning_and_a_note(
    late: str, own_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = loads_in_a_body.run(late, times=2)
    assert handle.wait() == 2
    said = capsys.readouterr().err
    assert said.count(f"returned a {late}.Order, whose module was not loaded") == 1
    assert f"Put `import {late}` at the top" in said
    assert [note for note in notes(handle.exec_id) if late in note]
    assert not [cls for _, cls in FRESH if cls.__module__ == late]


def test_an_async_body_gets_the_warning_too(
    late: str, own_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loads_in_an_async_body.run(late).wait()
    assert "whose module was not loaded when the body began" in capsys.readouterr().err


def test_a_class_whose_module_was_loaded_before_the_body_gets_none(
    late: str, own_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = loads_before_the_body.run(late)
    handle.wait()
    assert "not loaded" not in capsys.readouterr().err
    assert notes(handle.exec_id) == []


def make() -> Any:
    @dataclasses.dataclass
    class Local:
        n: int = 1

    return Local


def test_a_local_class_is_stored_and_explained_once(
    own_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = make()

    @kitaru.checkpoint
    def returns_local() -> Any:
        return local()

    @kitaru.flow
    def uses_local() -> Any:
        return returns_local().n + returns_local().n

    assert uses_local.run().wait() == 2
    said = capsys.readouterr().err
    assert said.count("a class that is made inside a function") == 1
    assert "checkpoint 'returns_local' returned a " in said
    assert "make.<locals>.Local" in said
    assert "Move it to the top level of " in said


def test_a_local_class_among_inputs_and_results_of_a_flow_is_explained_too(
    own_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, returned = make(), make()

    @kitaru.flow
    def takes(value: Any) -> Any:
        return returned(value.n)

    assert takes.run(given(7)).wait() == returned(7)
    said = capsys.readouterr().err
    assert "flow 'takes' is given a " in said
    assert "flow 'takes' returned a " in said


SCRIPT = """
{first_line}
import os, kitaru

@kitaru.checkpoint
def fetch():
    import shop_orders
    return shop_orders.Order(5)

@kitaru.checkpoint
def pay(cents):
    if not os.path.exists("died"):
        open("died", "w").close()
        os._exit(9)
    return cents

@kitaru.flow
def shop():
    return pay(fetch().id)

if __name__ == "__main__":
    print("paid", shop.options(key="one").run().wait())
"""


@pytest.mark.parametrize(
    ("first_line", "comes"),
    [("", "import shop_orders before the value is read"), ("import shop_orders", "paid 5\n")],
)
def test_what_the_warning_foretells_happens_and_its_remedy_helps(
    first_line: str, comes: str, tmp_path: Path
) -> None:
    (tmp_path / "shop_orders.py").write_text(SOURCE)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "0"\n')

    def run(first_line: str) -> str:
        (tmp_path / "script.py").write_text(SCRIPT.format(first_line=first_line))
        done = subprocess.run(
            [sys.executable, "script.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr

    assert "whose module was not loaded when the body began" in run("")
    assert comes in run(first_line)
