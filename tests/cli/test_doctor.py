"""`doctor` and `status`: what they find, what they advise, and how that is drawn."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from kitaru._store.protocol import ExecutionRow, Owner, Recorded
from kitaru.cli.canvas import Screen, length, painted
from kitaru.cli.findings import (
    Finding,
    about_database,
    about_file_system,
    about_interrupted,
    about_owners,
    about_room,
    finding_lines,
    growth_text,
    has_problem,
    setting_lines,
)
from kitaru.cli.standing import Growth, Size, Standing, measure

from .programs import MAX_SECONDS, Project, one_line

CHECKS = ["kitaru", "python", "platform", "file system", "disk", "store", "size", "growth",
          "durability", "database", "integrity", "processes", "interrupted"]  # fmt: skip


@pytest.fixture(scope="module")
def used_before(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("used") / "project")
    assert project.run("run", "shop.py:total", "--", "--count", "3").returncode == 0
    return project


@pytest.fixture
def used(used_before: Project, tmp_path: Path) -> Project:
    """A project in which a flow ran; a copy for each test."""
    return used_before.copy(tmp_path / "project")


def findings(project: Project, status: int = 0, *words: str) -> dict[str, dict[str, Any]]:
    done = project.run("doctor", "-o", "json", *words)
    assert done.returncode == status, done.stderr
    found = one_line(done.stdout)
    assert found["command"] == "doctor"
    assert found["problems"] == (1 if status else 0)
    return {item["check"]: item for item in found["items"]}


# --- real stores ------------------------------------------------------------------------------


def test_a_sound_store_passes_every_check(used: Project) -> None:
    found = findings(used)
    assert list(found) == CHECKS
    assert {item["level"] for name, item in found.items() if name != "file system"} <= {
        "ok",
        "warning",
    }
    assert str(used.store) in found["store"]["text"]
    assert found["durability"]["text"] == "journal mode wal, synchronous FULL, read back"
    assert "1 execution, 3 outcomes of calls" in found["size"]["text"]
    assert found["growth"]["text"] == "1 execution and 3 outcomes in its first day"
    shown = used.run("doctor", "--thorough")
    assert shown.returncode == 0
    assert "✔ integrity: SQLite's quick check found no damage" in shown.stdout


def test_settings_are_shown_with_who_set_each(
    used: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (used.folder / "pyproject.toml").write_text("[tool.kitaru]\nretries = 2\ncash = true\n")
    done = used.run("doctor", "-o", "json", "--store", str(used.store))
    found = one_line(done.stdout)
    chosen = found["settings"]
    assert chosen["retries"]["value"] == "2"
    assert "pyproject.toml" in chosen["retries"]["set_by"]
    assert chosen["store"] == {"value": str(used.store), "set_by": "--store"}
    assert chosen["cache"] == {"value": "True", "set_by": "built-in"}
    (warned,) = [item for item in found["items"] if item["check"] == "settings"]
    assert warned["level"] == "warning"
    assert "did you mean 'cache'?" in warned["text"]


def test_a_wrong_setting_is_a_problem_and_not_the_end(used: Project) -> None:
    (used.folder / "pyproject.toml").write_text("[tool.kitaru]\nretries = 'many'\n")
    found = findings(used, 1)
    assert found["settings"]["level"] == "problem"
    assert "'many'" in found["settings"]["text"]
    assert "python" in found


def test_without_a_store_none_is_made(project: Project) -> None:
    found = findings(project)
    assert "none yet" in found["store"]["text"]
    assert not project.store.exists()


def test_a_damaged_store_is_a_problem_with_a_remedy(used: Project) -> None:
    connection = apsw.Connection(str(used.store / "kitaru.db"))
    ((page,),) = connection.execute(
        "select rootpage from sqlite_schema where name = 'sqlite_autoindex_owners_1'"
    ).fetchall()
    connection.close()
    with open(used.store / "kitaru.db", "r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)
    found = findings(used, 1)
    assert found["integrity"]["level"] == "problem"
    assert "backups" in found["integrity"]["remedy"][0]


def test_a_file_that_is_no_store_is_a_problem(project: Project) -> None:
    project.store.mkdir()
    (project.store / "kitaru.db").write_text("dear diary " * 500)
    assert findings(project, 1)["store"]["level"] == "problem"
    done = project.run("doctor")
    assert "Traceback" not in done.stdout + done.stderr


def test_what_was_interrupted_is_named_with_its_command(project: Project) -> None:
    process = project.run_to_the_gate()
    alive = findings(project)
    assert f"process {process.pid} on" in alive["processes"]["text"]
    os.kill(process.pid, signal.SIGSTOP)
    if Path("/proc/self/stat").exists():
        stopped = project.run("doctor").stdout
        assert f"process {process.pid} is stopped" in stopped
        assert f"kill -CONT {process.pid}" in stopped
    process.kill()
    process.communicate(timeout=MAX_SECONDS)
    found = findings(project)
    assert found["interrupted"]["level"] == "warning"
    exec_id = project.ask("executions", "list")["items"][0]["exec_id"]
    assert found["interrupted"]["remedy"] == [f"kitaru executions resume {exec_id}  (gated)"]
    assert f"go on with  kitaru executions resume {exec_id}" in project.run("status").stdout


def test_status_says_how_the_store_grows(used: Project) -> None:
    item = used.ask("status")["item"]
    assert (item["outcomes"], item["growth"]["executions"], item["growth"]["calls"]) == (3, 1, 3)
    assert item["growth"]["bytes_per_day"] is None
    assert "✔ 1 completed" in used.run("status").stdout


def test_the_size_counts_every_file_of_the_folder(tmp_path: Path) -> None:
    for name, size in (("kitaru.db", 10), ("blobs/ab/c", 20), ("backups/old.db", 30)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    assert measure(str(tmp_path)) == Size(60, 20, 30, True)


# --- verdicts and lines -------------------------------------------------------------------


def standing(**changes: Any) -> Standing:
    values: dict[str, Any] = {
        "info": {
            "backend": "sqlite",
            "location": "/p/.kitaru",
            "sqlite_version": "3.51.3",
            "schema_version": 4,
        },
        "project": "p",
        "size": Size(1_000_000, 0, 0, True),
        "recorded": Recorded(10, 1_000, 7, 700),
        "growth": Growth(7.0, 7, 700),
        "executions": {"completed": 10},
        "alive": [],
        "dead": [],
        "interrupted": [],
        "queues": [],
        "waits": [],
        "now": datetime(2026, 3, 1, tzinfo=UTC),
    }
    return Standing(**{**values, **changes})


def test_growth_is_told_per_day_once_there_are_days() -> None:
    grown = standing()
    assert grown.bytes_per_day == 100_000
    assert growth_text(grown.growth, grown.bytes_per_day) == (
        "about 1.0 executions, 100 outcomes and 100.0 kB a day over 7 days"
    )
    young = standing(growth=Growth(0.5, 3, 9))
    assert young.bytes_per_day is None
    assert "in its first day" in growth_text(young.growth, young.bytes_per_day)


@pytest.mark.parametrize(
    ("free", "level"), [(10**12, "ok"), (900_000_000, "warning"), (1_000, "problem")]
)
def test_a_full_disk_is_a_problem(free: int, level: str) -> None:
    assert about_room(free).level == level


def test_file_systems_have_a_verdict() -> None:
    assert about_file_system("ext4", network=False, passing=None).level == "ok"
    assert about_file_system(None, network=False, passing=None).level == "ok"
    assert about_file_system("tmpfs", network=False, passing="memory").level == "warning"
    network = about_file_system("nfs4", network=True, passing=None)
    assert network.level == "problem"
    assert network.remedy


def test_a_store_that_is_not_durable_is_a_problem() -> None:
    examined = {"journal_mode": "delete", "synchronous": 1, "problems": [], "complete": False,
                "library": "apsw"}  # fmt: skip
    durability, _, integrity = about_database(standing().info, examined)
    assert (durability.level, integrity.level) == ("problem", "ok")
    assert "synchronous NORMAL" in durability.text
    assert integrity.remedy == ("all of it: kitaru doctor --thorough",)
    assert has_problem([durability])
    assert not has_problem([integrity])


def test_what_was_handed_back_waits_to_be_gone_on_with() -> None:
    found = about_interrupted(standing(executions={"completed": 10, "pending": 2}))
    assert (found.level, found.text) == ("ok", "nothing was; 2 pending")
    assert "kitaru executions list --status pending" in found.remedy[0]
    found = about_interrupted(standing(executions={"completed": 10}))
    assert found.text == "no execution waits to be gone on with"


def test_lists_of_the_doctor_are_bounded() -> None:
    owners = [Owner(n, f"lock-{n}", n, "here", 0, None) for n in range(12)]
    (alive,) = about_owners(standing(alive=owners), [])
    assert alive.text.endswith("and 7 more")
    row = ExecutionRow(*[None] * len(ExecutionRow._fields))._replace(exec_id="e", flow_name="f")
    found = about_interrupted(standing(interrupted=[row] * 12))
    assert len(found.remedy) == 6
    assert found.remedy[-1] == "the others: kitaru executions list --status interrupted"


FINDINGS = [
    Finding("python", "ok", "3.11"),
    Finding("disk", "problem", "only 1 kB free\x1b[2J", ("free some space",)),
    Finding("interrupted", "warning", "two executions were interrupted " * 3, ("a", "b" * 70)),
]


def test_each_line_has_its_mark_and_its_remedy_below() -> None:
    screen = Screen(columns=80)
    lines = [painted(line, screen) for line in finding_lines(FINDINGS, screen)]
    assert lines[:3] == [
        "✔ python       3.11",
        "✘ disk         only 1 kB free\\x1b[2J",
        "  free some space",
    ]
    plain = Screen(columns=80, drawn=False, unicode=False)
    assert painted(finding_lines(FINDINGS, plain)[0], plain) == "+ python: 3.11"


@pytest.mark.parametrize("columns", [20, 45, 80])
def test_no_line_of_the_doctor_is_wider_than_the_terminal(columns: int) -> None:
    screen = Screen(columns=columns)
    rows = [("at_exit_seconds", "no bound", "built-in"), ("store", "/a" * 30, "KITARU_STORE")]
    for line in [*finding_lines(FINDINGS, screen), *setting_lines(rows, screen)]:
        assert length(line) <= columns
