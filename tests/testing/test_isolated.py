"""`kitaru.testing`: a store for each test, a clean end, and everything as it was afterwards."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import kitaru
from kitaru import KitaruClient, KitaruStateError, app, checkpoint, flow
from kitaru.testing import isolated_store

PATIENCE_SECONDS = 120
OPEN = threading.Event()
"""Lets the bodies that wait for it go."""


@checkpoint
def double(x: int) -> int:
    return 2 * x


@flow
def doubles(xs: list[int]) -> list[int]:
    return double.map(xs).results()


@flow
async def nothing() -> None:
    return None


@checkpoint
def hold(name: str) -> str:
    assert OPEN.wait(PATIENCE_SECONDS)
    return name


@flow
def held(name: str) -> str:
    return hold(name)


@pytest.fixture(autouse=True)
def _closed() -> None:
    OPEN.clear()


def executions() -> int:
    return len(KitaruClient().executions.list())


def test_each_folder_is_a_store_of_its_own_and_the_outer_one_comes_back(
    own_store: Path, tmp_path: Path
) -> None:
    doubles.run([1]).wait()
    with isolated_store(tmp_path / "a") as folder:
        assert (folder, executions()) == (tmp_path / "a", 0)
        doubles.run([1]).wait()
        with isolated_store(tmp_path / "b"):
            assert executions() == 0
        assert executions() == 1
        doubles.run([2]).wait()
    assert executions() == 1
    assert {path.name for path in tmp_path.iterdir()} >= {"store", "a", "b"}


def test_it_wins_over_the_environment_and_leaves_other_settings_alone(
    own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_STORE", str(tmp_path / "elsewhere"))
    kitaru.configure(cache=False)
    with isolated_store(tmp_path / "mine"):
        handle = doubles.run([1])
        handle.wait()
        spec = KitaruClient().executions.get(handle.exec_id).frozen_execution_spec
        assert spec["cache"][0] is False
    assert (tmp_path / "mine").is_dir()
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_configured_inside_is_forgotten_outside(own_store: Path, tmp_path: Path) -> None:
    with isolated_store(tmp_path / "mine"):
        kitaru.configure(cache=False)
    handle = doubles.run([1])
    handle.wait()
    spec = KitaruClient().executions.get(handle.exec_id).frozen_execution_spec
    assert spec["cache"][0] is True


def test_the_end_waits_for_what_runs(own_store: Path, tmp_path: Path) -> None:
    with isolated_store(tmp_path / "mine", timeout=PATIENCE_SECONDS):
        handle = held.run("late")
        threading.Timer(0.05, OPEN.set).start()
    with isolated_store(tmp_path / "mine"):
        assert held.handle(handle.exec_id).get() == "late"


def test_what_does_not_end_is_handed_back_and_said(own_store: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(KitaruStateError, match=r"1 execution\(s\) were still running 0\.01 s"),
        isolated_store(tmp_path / "mine", timeout=0.01),
    ):
        exec_id = held.run("never").exec_id
    OPEN.set()
    with isolated_store(tmp_path / "mine"):
        assert KitaruClient().executions.get(exec_id).status == "pending"


def test_the_tests_own_failure_is_not_hidden(own_store: Path, tmp_path: Path) -> None:
    def fail() -> None:
        with isolated_store(tmp_path / "mine", timeout=0.01):
            held.run("never")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    OPEN.set()


def test_no_thread_and_no_open_file_outlives_it(own_store: Path, tmp_path: Path) -> None:
    def ours() -> set[threading.Thread]:
        return {t for t in threading.enumerate() if t.name.startswith("kitaru-")}

    before = ours()
    with isolated_store(tmp_path / "mine"):
        kitaru.recover()
        nothing.run().wait()
        doubles.run([1, 2, 3, 4]).wait()
        during = ours() - before
    assert during
    for thread in during:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive(), thread.name
    if not os.path.isdir("/proc/self/fd"):
        return  # macOS: the threads were the point
    files = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert [file for file in files if file.startswith(str(tmp_path / "mine"))] == []
    assert app._app is None
