"""The tools that a newcomer meets first: make's list, check's usage, the search for a Python."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from glob import glob
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def setup_env() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_env", ROOT / "tools" / "setup_env.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def interpreter(folder: Path, name: str, body: str) -> str:
    """A program that stands where a Python is looked for."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)
    return str(path)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_plain_make_lists_every_target() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    listed = [line.split()[1] for line in done.stdout.splitlines()]
    targets = "bench bench-full check check-all demo demo-fleet docs help quick venv"
    assert sorted(listed) == targets.split()


def test_check_refuses_what_it_does_not_know() -> None:
    done = subprocess.run(
        [sys.executable, "tools/check.py", "everything"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_a_python_that_can_make_environments_is_recognised(setup_env: ModuleType) -> None:
    assert setup_env.probed_version(sys.executable) == sys.version_info[:2]


def test_a_python_without_ensurepip_or_that_is_none_is_passed_over(
    setup_env: ModuleType, tmp_path: Path
) -> None:
    broken = interpreter(tmp_path, "python3.13", "echo no module named ensurepip >&2; exit 1")
    assert setup_env.probed_version(broken) is None
    assert setup_env.probed_version(str(tmp_path / "missing")) is None


def test_the_first_python_that_is_new_enough_is_taken(
    setup_env: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = interpreter(tmp_path, "python3", "echo 3.8")
    new = interpreter(tmp_path, "python3.12", "echo 3.12")
    monkeypatch.setattr(setup_env.sys, "executable", old)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    assert setup_env.find_python() == new


def test_without_a_python_the_message_says_what_to_install(
    setup_env: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(setup_env.sys, "executable", interpreter(tmp_path, "python3", "echo 3.8"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    with pytest.raises(SystemExit) as ended:
        setup_env.find_python()
    assert ended.value.code == 1
    assert "Install one" in capsys.readouterr().err


def test_the_environment_is_made_anew_only_when_what_it_depends_on_changed(
    setup_env: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup_env, "ROOT", tmp_path)
    project = tmp_path / "pyproject.toml"
    project.write_text("[project]\n")
    before = setup_env.wanted_stamp()
    assert setup_env.wanted_stamp() == before
    project.write_text("[project]\nname = 'x'\n")
    assert setup_env.wanted_stamp() != before


def test_lower_bounds_become_pins(setup_env: ModuleType) -> None:
    project = """
dependencies = [
    "apsw>=3.51.3",
    "pydantic>=2.12,<3",
]
test = [
    # "not-this>=1",
    "pyright[nodejs]>=1.1.400",
    { include-group = "other" },
]
"""
    assert setup_env.lowest_versions(project) == [
        "apsw==3.51.3",
        "pydantic==2.12",
        "pyright==1.1.400",
    ]


def test_every_dependency_has_a_lower_bound_that_can_be_pinned(setup_env: ModuleType) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    pinned = {pin.partition("==")[0] for pin in setup_env.lowest_versions(project)}
    declared = tomllib.loads(project)
    needed = declared["project"]["dependencies"] + declared["dependency-groups"]["test"]
    for requirement in needed:
        assert re.match(r"[\w-]+", requirement)[0] in pinned


def test_other_pythons_are_told_by_version_and_our_own_is_none_of_them(
    setup_env: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = interpreter(tmp_path, "python3.13", "echo 3.99")
    interpreter(tmp_path, "python3.12", "echo 3.10")
    monkeypatch.setattr(setup_env, "PYTHON", Path(sys.executable))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    assert setup_env.other_pythons() == {"3.99": newer}


def test_an_environment_that_cannot_be_made_is_told_from_one_that_can(
    setup_env: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = interpreter(tmp_path, "python3.12", "echo no space left >&2; exit 1")
    assert not setup_env.install_elsewhere(broken, tmp_path / "env")
    assert "no space left" in capsys.readouterr().err


def test_an_environment_beside_ours_is_made_with_our_pip_and_without_one_of_its_own(
    setup_env: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup_env, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    says = interpreter(tmp_path, "python3.11", f'echo "$@" >> {tmp_path}/asked')
    monkeypatch.setattr(setup_env, "PIP", (says, "-m", "pip"))
    folder = tmp_path / "env"
    folder.mkdir()
    assert setup_env.install_elsewhere(says, folder, "--constraint", "pins")
    venv, install = (tmp_path / "asked").read_text().splitlines()
    assert venv == f"-m venv --clear --without-pip {folder}"
    into = f"--python {folder}/bin/python"
    options = "--group test --no-compile --constraint pins"
    assert install == f"-m pip {into} install -e . {options}"
    (tmp_path / "asked").unlink()
    assert setup_env.install_elsewhere(says, folder)
    assert not (tmp_path / "asked").exists()


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location("kitaru_check", ROOT / "tools" / "check.py")
    assert spec is not None
    assert spec.loader is not None
    check = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, check)  # dataclasses look their module up
    spec.loader.exec_module(check)
    return check


def test_what_a_step_says_is_kept_and_can_be_read_while_it_runs(
    check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    log = tmp_path / "log"
    program = (
        f"import sys; print('so far', flush=True); seen = open({str(log)!r}).read();"
        "sys.exit(seen + str(sys.dont_write_bytecode))"
    )
    step = check.perform(check.Step("step", [sys.executable, "-c", program]), log)
    assert (step.status, step.verdict) == (1, "FAILED (1)")
    assert step.output == log.read_text() == "so far\nso far\nFalse\n"


def test_of_a_long_step_it_is_told_how_far_it_is(
    check: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    go_on = tmp_path / "go on"
    os.mkfifo(go_on)

    def progress(log: Path) -> str:
        told = told_by(log)
        if told == "7%":
            go_on.open("w").close()
            monkeypatch.setattr(check, "TELL_SECONDS", 600.0)
        return told

    told_by = check.progress
    monkeypatch.setattr(check, "progress", progress)
    monkeypatch.setattr(check, "TELL_SECONDS", 0.01)
    program = f"print('... [  7%]', flush=True); open({str(go_on)!r}).read()"
    step = check.perform(check.Step("long", [sys.executable, "-c", program]), tmp_path / "log")
    assert step.status == 0
    *_, before, last = capsys.readouterr().out.splitlines()
    assert before.split() == ["check", "long", "7%"]
    assert last.split()[:3] == ["check", "long", "ok"]


def test_what_the_check_leaves_out_elsewhere_is_there(check: ModuleType) -> None:
    for name in ("Python 3.12", "lowest versions"):
        usual, everything = (check.elsewhere_options(name, every) for every in (False, True))
        assert set(everything) < set(usual)
        ignored = [word.partition("=")[2] for word in usual if word.startswith("--ignore-glob=")]
        assert ignored
        assert [path for path in ignored if not glob(path)] == []


def test_what_tests_start_finds_us_compiled() -> None:
    sources = list((ROOT / "src" / "kitaru").rglob("*.py"))
    assert len(sources) > 100
    kept = [Path(importlib.util.cache_from_source(str(source))) for source in sources]
    assert [path for path in kept if not path.exists()] == []
