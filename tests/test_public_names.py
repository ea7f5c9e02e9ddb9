"""The public names: all there, in any order of import, and none accepted and ignored.

`data/public_names.json` is the list; a name whose time has not come raises
`KitaruFeatureNotAvailableError` when it is called.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

import kitaru

NAMES = json.loads((Path(__file__).parent / "data" / "public_names.json").read_text())
HERE_NOW: list[str] = NAMES["available"] + NAMES["errors"]
LATER: list[str] = NAMES["later"]["functions"] + NAMES["later"]["classes"]
ALL: list[str] = [*HERE_NOW, *LATER, *NAMES["later"]["values"]]

# Names that a module of the package might shadow, first in some order: `from kitaru
# import x` must not turn `kitaru.x` into a module once another import has run.
SUBMODULES = ("kitaru.flows", "kitaru.checkpoints", "kitaru.client", "kitaru.errors", "kitaru.cli")


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{code}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("name", ALL)
def test_a_public_name_is_listed_and_importable(name: str) -> None:
    assert name in dir(kitaru)
    assert getattr(kitaru, name) is not None


def test_what_the_package_lists_is_what_we_publish() -> None:
    listed = {name for name in kitaru.__all__ if not name.startswith("__")}
    assert listed == set(ALL)


@pytest.mark.parametrize("seed", range(6))
def test_names_are_the_same_in_any_order_of_import(seed: int) -> None:
    order = random.Random(seed)
    names = order.sample(ALL, len(ALL))
    modules = order.sample(SUBMODULES, len(SUBMODULES))
    lines = [f"from kitaru import {name}" for name in names]
    for module in modules:
        lines.insert(order.randrange(len(lines) + 1), f"import {module}")
    check = (
        "import kitaru, types\n"
        f"for name in {HERE_NOW + LATER!r}:\n"
        "    value = getattr(kitaru, name)\n"
        "    assert not isinstance(value, types.ModuleType), name\n"
        "    assert value is globals()[name], name\n"
    )
    run_python("\n".join(lines) + "\n" + check)


def test_a_name_that_does_not_exist_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="'no_such_name'"):
        _ = kitaru.no_such_name  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", LATER)
def test_a_name_of_a_later_release_says_so_when_called(name: str) -> None:
    with pytest.raises(kitaru.KitaruFeatureNotAvailableError, match=name):
        getattr(kitaru, name)("anything")


def test_importing_the_package_stays_light() -> None:
    """No asyncio, no driver, no terminal, no validation: those cost more than all the rest."""
    heavy = ("asyncio", "pydantic", "rich", "click", "apsw")
    code = f"import sys, kitaru; print([name for name in {heavy!r} if name in sys.modules])"
    assert run_python(code).strip() == "[]"


@pytest.mark.parametrize("name", NAMES["errors"])
def test_every_error_is_a_kitaru_error_with_a_docstring(name: str) -> None:
    error = getattr(kitaru, name)
    assert issubclass(error, kitaru.KitaruError)
    assert error.__doc__


def a_function(number: int) -> int:
    return number


def one_by_one(options: dict[str, object]) -> list[tuple[str, object]]:
    """Each option with each of its values, where it is listed with several."""
    return [
        (name, value)
        for name, values in options.items()
        for value in (values if isinstance(values, list) else [values])
    ]


@pytest.mark.parametrize(("name", "value"), one_by_one(NAMES["later"]["checkpoint_options"]))
def test_an_option_of_a_later_release_is_refused_by_checkpoint(name: str, value: object) -> None:
    with pytest.raises(kitaru.KitaruFeatureNotAvailableError, match=name):
        kitaru.checkpoint(**{name: value})(a_function)


def test_the_client_has_its_methods_and_says_which_come_later(tmp_path: Path) -> None:
    """In a process of its own: the client opens a store, and a process has one."""
    code = f"""
import kitaru

kitaru.configure(store={str(tmp_path / "store")!r})
executions = kitaru.KitaruClient().executions
for name in {NAMES["executions_methods"]!r}:
    assert callable(getattr(executions, name)), name
for name in {NAMES["later"]["executions_methods"]!r}:
    try:
        getattr(executions, name)("anything")
    except kitaru.KitaruFeatureNotAvailableError as error:
        assert name.strip("_") in str(error), (name, str(error))
    else:
        raise AssertionError(name)
"""
    run_python(code)
