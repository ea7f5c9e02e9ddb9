"""The plugin as pytest finds it: fixtures, a marker, and nothing loaded before they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
import sys
import pytest

def test_nothing_is_loaded_until_it_is_asked_for():
    assert "kitaru.app" not in sys.modules

def test_a_store_of_its_own(kitaru_store):
    import kitaru

    @kitaru.flow
    def one():
        return 1

    assert one.run().wait() == 1
    assert (kitaru_store / "kitaru.db").exists()

@pytest.mark.kitaru(answers={"number": 7})
def test_a_world_with_answers(kitaru_world):
    import kitaru

    @kitaru.flow
    def asks():
        kitaru.sleep(3600)
        return kitaru.wait(name="number", schema=int)

    assert asks.run().wait() == 7
    assert kitaru_world.waits() == []
"""


def test_the_fixtures_are_there_where_kitaru_is_installed(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
