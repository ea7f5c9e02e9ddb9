"""`kitaru executions export` and `import`: what they print, and what comes over."""

from __future__ import annotations

from pathlib import Path

from .programs import Project


def test_an_execution_is_moved_into_another_project(project: Project, tmp_path: Path) -> None:
    assert project.run("run", "shop.py:total", "--", "--count", "2").returncode == 0
    exec_id = project.ask("executions", "list")["items"][0]["exec_id"]
    file = tmp_path / "one.kitaru"
    done = project.run("executions", "export", exec_id[-8:], "--to", str(file))
    assert (done.returncode, done.stdout.startswith(f"exported {exec_id} to {file} (")) == (0, True)
    other = Project(tmp_path / "other")
    came = other.run("executions", "import", str(file))
    assert (came.returncode, came.stdout) == (
        0,
        f"imported {exec_id}: flow total, completed\n",
    )
    assert (
        other.run("executions", "get", exec_id, "--result").stdout
        == project.run("executions", "get", exec_id, "--result").stdout
    )
    again = other.ask("executions", "import", str(file))
    assert again["items"][0]["exec_id"] != exec_id
    assert again["items"][0]["original_exec_id"] == exec_id


def test_a_broken_file_is_refused(project: Project, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    for name in ("x", "y"):
        refused = project.run("executions", "import", str(tmp_path / name))
        assert refused.returncode in (1, 2)
        assert str(tmp_path / name) in refused.stderr or "not what it should be" in refused.stderr
