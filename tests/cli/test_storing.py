"""`kitaru store backup|info|migrate`: what they print and refuse."""

from __future__ import annotations

from pathlib import Path

from .programs import Project


def test_a_backup_can_be_looked_into(project: Project, tmp_path: Path) -> None:
    assert project.run("run", "shop.py:total", "--", "--count", "2").returncode == 0
    copy = tmp_path / "copy"
    done = project.run("store", "backup", str(copy))
    assert done.returncode == 0
    assert done.stdout.startswith(f"backed up to {copy}: ")
    there = project.ask("--store", str(copy), "executions", "list")["items"]
    assert there == project.ask("executions", "list")["items"]
    again = project.run("store", "backup", str(copy))
    assert again.returncode == 2
    assert "is there already" in again.stderr


def test_a_backup_without_a_name_goes_beside_the_others(project: Project) -> None:
    project.run("run", "shop.py:total", "--", "--count", "2")
    item = project.ask("store", "backup")["item"]
    assert set(item) == {"folder", "bytes", "values", "damaged"}
    assert Path(item["folder"]).parent.name == "backups"
    assert Path(item["folder"], "kitaru.db").exists()


def test_what_is_in_the_store_is_counted_and_measured(project: Project) -> None:
    project.run("run", "shop.py:total", "--", "--count", "2")
    item = project.ask("store", "info")["item"]
    assert (item["executions"], item["past_retention"], item["open_waits"]) == (1, 0, 0)
    assert item["outcomes"] == 2
    assert item["bytes"]["all"] >= item["bytes"]["database"] > 0
    text = project.run("store", "info").stdout
    assert "executions  1" in text
    assert "nothing" in text


def test_a_store_of_today_needs_no_upgrade(project: Project) -> None:
    project.run("run", "shop.py:total", "--", "--count", "2")
    item = project.ask("store", "migrate")["item"]
    assert (item["upgraded_from"], item["backup"]) == (None, None)
    assert "nothing to do" in project.run("store", "migrate").stdout
