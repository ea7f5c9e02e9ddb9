"""Deploys with real workers: newer code goes on with older work, a restart loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from .programs import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENCE_SECONDS = 120

OLD = """
import os
import time

import kitaru
from kitaru import checkpoint, flow

VERSION = "old"


def journal(line):
    number = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(number, f"{time.time():.3f} {line}\\n".encode())
    os.close(number)


@checkpoint(cache=False)
def fetch(name):
    journal(f"{name} fetch {VERSION}")
    return f"{name} by {VERSION}"


@checkpoint(cache=False)
def hold(name):
    journal(f"{name} hold {VERSION}")
    while not os.path.exists(os.environ["JOURNAL"] + ".go"):
        time.sleep(0.01)
    return VERSION


@checkpoint(cache=False)
def part(name, number):
    journal(f"{name} {number}")
    time.sleep(float(os.environ.get("PART_SECONDS", "0.02")))
    return number


@flow
def order(name="x"):
    found = fetch(name)
    return f"{found}, held by {hold(name)}"


@flow
def parts(name="x"):
    return sum(part(name, number) for number in range(3))


@flow(schedule="0 7 1 1 *")
def yearly(name="x"):
    journal(f"yearly {kitaru.current().scheduled_at.year}")
    return name


def feed():
    # One after the other, until told to stop.
    number = 0
    while not os.path.exists(os.environ["JOURNAL"] + ".enough"):
        parts.run(f"e{number}")
        number += 1
        time.sleep(0.05)
    return number


if __name__ == "__main__":
    import sys

    kitaru.configure(runner="worker")
    if sys.argv[1] == "feed":
        print("fed", feed())
    for words in sys.argv[2:]:
        flow_name, name = words.split(":")
        print(globals()[flow_name].run(name).exec_id)
"""

NEW = OLD.replace('VERSION = "old"', 'VERSION = "new"').replace(
    '    return f"{found}, held by {hold(name)}"\n',
    '    held = hold(name)\n    return f"{found}, checked {part(name, 1)}, held by {held}"\n',
)


class Fleet:
    """Two folders with versions of one module, one store, and workers of either."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.workers: list[subprocess.Popen[bytes]] = []
        self.outputs: dict[int, Path] = {}
        for name, code in (("old", OLD), ("new", NEW)):
            folder = project.folder / name
            folder.mkdir()
            (folder / "desk.py").write_text(code)

    @property
    def journal(self) -> Path:
        return self.project.folder / "journal"

    def moments(self) -> list[tuple[float, str]]:
        """What was written in the journal, and when."""
        if not self.journal.exists():
            return []
        parted = [line.partition(" ") for line in self.journal.read_text().splitlines()]
        return [(float(at), line) for at, _, line in parted]

    def lines(self) -> list[str]:
        return [line for _, line in self.moments()]

    def pauses(self) -> tuple[float, float]:
        """The longest time without a step (of the whole fleet, between two steps of one
        execution), in seconds."""
        moments = self.moments()
        between = [after[0] - before[0] for before, after in pairwise(moments)]
        of_each: dict[str, list[float]] = defaultdict(list)
        for at, line in moments:
            of_each[line.split()[0]].append(at)
        within = [b - a for steps in of_each.values() for a, b in pairwise(steps)]
        return max(between, default=0.0), max(within, default=0.0)

    def let_go(self) -> None:
        Path(f"{self.journal}.go").touch()

    def _start(self, version: str, *words: str) -> subprocess.Popen[bytes]:
        environment = {
            "KITARU_STORE": str(self.project.store),
            **self.project.environment(),
            "JOURNAL": str(self.journal),
        }
        # Into a file: a pipe that nobody reads would stop whoever writes it.
        said = self.project.folder / f"said-{len(self.outputs)}"
        with said.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=self.project.folder / version,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.outputs[process.pid] = said
        return process

    def said(self, process: subprocess.Popen[bytes]) -> str:
        return self.outputs[process.pid].read_text()

    def enqueue(self, *words: str, version: str = "old") -> list[str]:
        process = self._start(version, "desk.py", "these", *words)
        assert process.wait(PATIENCE_SECONDS) == 0, self.said(process)
        return [line for line in self.said(process).splitlines() if len(line) == 36]

    def feeder(self) -> subprocess.Popen[bytes]:
        feeder = self._start("old", "desk.py", "feed")
        self.workers.append(feeder)
        return feeder

    def worker(self, version: str) -> subprocess.Popen[bytes]:
        """A worker with that code; it serves when this returns."""
        words = ("-m", "kitaru", "worker", "desk.py", "-o", "json", "--concurrency", "2")
        worker = self._start(version, *words)
        self.workers.append(worker)
        until(
            lambda: '"serving"' in self.said(worker) or worker.poll() is not None,
            "the worker never began",
        )
        assert worker.poll() is None, self.said(worker)
        return worker

    def stop(self, worker: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
        worker.send_signal(number)
        return worker.wait(PATIENCE_SECONDS)

    def progress(self) -> None:
        """Wait until something more has run."""
        seen = len(self.lines())
        until(lambda: len(self.lines()) > seen, "nothing runs")

    def statuses(self) -> dict[str, str]:
        items = self.project.ask("executions", "list", "--limit", "1000")["items"]
        return {item["exec_id"]: item["status"] for item in items}

    def result(self, exec_id: str) -> str:
        return self.project.run("executions", "get", exec_id, "--result").stdout.strip()


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)  # another process writes what is looked for


def miss_two_years(project: Project) -> None:
    """Every schedule was due long ago, and nobody was there."""
    if project.url is not None:
        with psycopg.connect(project.url) as connection:
            connection.execute("update kitaru.schedules set due_at = due_at - 63244800000000")
        return
    code = (
        "import apsw, sys;"
        "db = apsw.Connection(sys.argv[1]);"
        "db.execute('update schedules set due_at = due_at - 63244800000000')"
    )
    subprocess.run([sys.executable, "-c", code, str(project.store / "kitaru.db")], check=True)


@pytest.fixture
def fleet(anywhere: Project) -> Iterator[Fleet]:
    fleet = Fleet(anywhere)
    yield fleet
    fleet.let_go()
    for worker in fleet.workers:
        worker.kill()
        worker.wait(PATIENCE_SECONDS)


def test_newer_code_goes_on_with_what_a_killed_worker_of_older_code_began(fleet: Fleet) -> None:
    (exec_id,) = fleet.enqueue("order:a")
    old = fleet.worker("old")
    until(lambda: "a hold old" in fleet.lines(), "the old worker never came to hold()")
    os.kill(old.pid, signal.SIGKILL)
    fleet.let_go()
    fleet.worker("new")
    until(lambda: fleet.statuses()[exec_id] == "completed", "nobody went on")
    assert fleet.result(exec_id) == "a by old, checked 1, held by new"
    # What was recorded stands; what had not been runs in the new code, with what is new in it.
    assert fleet.lines() == ["a fetch old", "a hold old", "a hold new", "a 1"]


def test_what_the_old_code_hands_back_goes_on_in_the_new(fleet: Fleet) -> None:
    ids = fleet.enqueue("parts:a", "order:b")
    old = fleet.worker("old")
    until(lambda: "b hold old" in fleet.lines(), "the old worker never came to hold()")
    old.send_signal(signal.SIGTERM)  # its body may finish
    fleet.let_go()
    assert old.wait(PATIENCE_SECONDS) == 0
    fleet.worker("new")
    until(lambda: set(fleet.statuses().values()) == {"completed"}, "something was left")
    assert fleet.result(ids[1]).startswith("b by old, ")
    assert sorted(fleet.lines()).count("b hold old") == 1
    assert "b hold new" not in fleet.lines()


def test_a_rolling_restart_under_load_loses_nothing_and_runs_nothing_twice(fleet: Fleet) -> None:
    feeder = fleet.feeder()
    workers = [fleet.worker("old") for _ in range(2)]
    for worker in workers:
        fleet.progress()
        assert fleet.stop(worker) == 0
        fleet.progress()  # one is away and not yet replaced: the other goes on
        fleet.worker("new")
    fleet.progress()
    Path(f"{fleet.journal}.enough").touch()
    assert feeder.wait(PATIENCE_SECONDS) == 0, fleet.said(feeder)
    count = int(fleet.said(feeder).split("fed ")[1])
    until(lambda: len(fleet.lines()) >= 3 * count, "something was lost")
    until(lambda: set(fleet.statuses().values()) == {"completed"}, "something was lost")
    # Nothing was lost, and nothing ran twice: those that were stopped let bodies finish.
    expected = [f"e{number} {part}" for number in range(count) for part in range(3)]
    assert sorted(fleet.lines()) == sorted(expected)
    assert len(fleet.statuses()) == count
    # Shown by `pytest -s`: told, and not judged, because it depends on what else the machine does.
    of_all, of_one = fleet.pauses()
    print(f"rolling restart, {count} executions: the fleet stood still for {of_all:.2f} s at most,")
    print(f"one execution between two of its steps for {of_one:.2f} s")


def test_workers_that_start_together_make_up_for_a_missed_fire_time_once(fleet: Fleet) -> None:
    fleet.stop(fleet.worker("old"))  # it has registered the schedule
    miss_two_years(fleet.project)
    for version in ("old", "new"):
        fleet.worker(version)
    until(lambda: "completed" in fleet.statuses().values(), "nobody fired")
    until(lambda: fleet.project.ask("schedules", "list")["items"][0]["state"] == "active", "no")
    assert list(fleet.statuses().values()) == ["completed"]
    assert len(fleet.lines()) == 1
