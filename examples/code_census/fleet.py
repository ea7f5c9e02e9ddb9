"""Kill workers, crash the database, roll to other code: nothing is lost, nothing is doubled.

Everything is counted from outside. Which bodies began when, in which process and which
code, stands in a journal that the bodies append to; what was recorded is read from the
database past Kitaru. A body is doubled if it began after its outcome was recorded. The exit
status is 1 if a claim does not hold, or if a fault that was planned did not happen.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from tools import postgres_server  # noqa: E402

import code_census.packages as packages  # noqa: E402

STDLIB = Path(sysconfig.get_path("stdlib")).resolve()
WORKERS = 3
KILLS = 4
LEASE_SECONDS = 5
PATIENCE_SECONDS = 300.0
LEFT_OUT = frozenset({"test", "site-packages", "__pycache__", "config", "lib-dynload"})


Body = tuple[str, str]
"""A checkpoint's name and what it was called for."""


class Begun(NamedTuple):
    """A body that began."""

    at: float
    pid: int
    version: str
    exec_id: str
    body: Body


class Kill(NamedTuple):
    at: float
    pid: int
    owned: frozenset[str]
    """Executions that it had begun and that were not finished."""
    line: int
    """How many bodies had begun by then."""
    recorded: dict[str, int]
    """How many calls of each of those were recorded."""


class Worker(NamedTuple):
    name: str
    process: subprocess.Popen[bytes]


class Fleet:
    """The stage: two versions of the code, a journal, and the workers that are alive."""

    def __init__(self, stage: Path, say: Callable[[str], None]) -> None:
        self.stage = stage
        self.say = say
        self.journal = stage / "journal.tsv"
        self.workers: list[Worker] = []
        self.drained: list[int] = []
        self._made = 0

    def copy_code(self, version: str) -> None:
        target = self.stage / version / "code_census"
        shutil.copytree(HERE, target, ignore=shutil.ignore_patterns("__pycache__"))
        module = target / "packages.py"
        module.write_text(module.read_text().replace('VERSION = "old"', f'VERSION = "{version}"'))

    def start(self, version: str) -> None:
        self._made += 1
        name = f"{version}-{self._made}"
        command = [sys.executable, "-m", "kitaru", "worker", "code_census.packages"]
        command += ["--name", name, "--concurrency", "2"]
        with open(self.stage / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.stage / version,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(self.stage / version)},
            )
        self.workers.append(Worker(name, process))

    def begun(self) -> list[Begun]:
        if not self.journal.exists():
            return []
        found = []
        for line in self.journal.read_text().splitlines():
            at, pid, version, exec_id, *body = line.split("\t")
            found.append(Begun(float(at), int(pid), version, exec_id, (body[0], body[1])))
        return found

    def kill(self, worker: Worker, watch: Watch) -> Kill:
        worker.process.kill()
        at = time.time()
        worker.process.wait()
        self.workers.remove(worker)
        pid = worker.process.pid
        begun = self.begun()
        last = {each.exec_id: each.pid for each in begun}
        owned = {exec_id for exec_id, owner in last.items() if owner == pid} - watch.finished()
        counts = {exec_id: count for exec_id, count in watch.recorded() if exec_id in owned}
        self.say(f"killed {worker.name}, which had {len(owned)} executions begun")
        return Kill(at, pid, frozenset(owned), len(begun), counts)

    def roll(self, version: str) -> None:
        """Each worker in turn: told to end, waited for, and replaced by the other code."""
        for worker in list(self.workers):
            # One that is still loading has nothing to drain, and no ear for the signal.
            wait_for(lambda log=self.stage / f"{worker.name}.log": "serves" in log.read_text())
            worker.process.send_signal(signal.SIGTERM)
            self.drained.append(worker.process.wait(PATIENCE_SECONDS))
            self.workers.remove(worker)
            self.start(version)
        self.say(f"rolled {WORKERS} workers to the {version} code")

    def end(self) -> None:
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            try:
                worker.process.wait(60)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


def names_of_packages(limit: int | None, die: random.Random) -> list[str]:
    """Every package and module at the top of the standard library."""
    found = {
        path.name.removesuffix(".py")
        for path in STDLIB.iterdir()
        if path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").exists())
    }
    names = sorted(found - LEFT_OUT)
    return names if limit is None else sorted(die.sample(names, min(limit, len(names))))


class Watch:
    """What the database says, asked past Kitaru."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        import psycopg

        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with psycopg.connect(self._url) as connection:
                    return connection.execute(sql).fetchall()  # type: ignore[arg-type]
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)  # it is being restarted

    def finished(self) -> set[str]:
        rows = self.ask("select exec_id from kitaru.executions where status = 'completed'")
        return {exec_id for (exec_id,) in rows}

    def recorded(self) -> list[tuple[str, int]]:
        """(execution, how many calls of it have an outcome)."""
        return [
            (exec_id, int(count))
            for exec_id, count in self.ask(
                "select e.exec_id, count(*) from kitaru.calls as c"
                " join kitaru.executions as e on e.id = c.execution"
                " where c.state = 'completed' group by 1"
            )
        ]


def perform(fleet: Fleet, server: Any, console: Console, names: list[str], seed: int) -> bool:
    from kitaru import KitaruClient

    die = random.Random(seed)
    watch = Watch(server.url())
    for version in ("old", "new"):
        fleet.copy_code(version)
    began = time.monotonic()
    ids = [packages.census_of.options(key=name).run(name, STDLIB).exec_id for name in names]
    fleet.say(f"enqueued {len(ids)} executions")
    for _ in range(WORKERS):
        fleet.start("old")
    faults = sorted(die.uniform(0.05, 0.55) for _ in range(KILLS))
    plan = [(share, "kill") for share in faults]
    plan += [(die.uniform(0.2, 0.4), "restart"), (0.6, "roll")]
    kills: list[Kill] = []
    restarts = rolls = 0
    for share, fault in sorted(plan):
        if not wait_for(lambda share=share: len(watch.finished()) >= share * len(ids)):
            break
        if fault == "kill":
            kills.append(fleet.kill(busiest(fleet, watch, die), watch))
            fleet.start("old")
        elif fault == "restart":
            server.restart("immediate")
            restarts += 1
            fleet.say("crashed the database and started it again")
        else:
            fleet.roll("new")
            rolls += 1
    wait_for(lambda: len(watch.finished()) == len(ids))
    seconds = time.monotonic() - began
    fleet.end()
    client = KitaruClient()
    lost = [exec_id for exec_id in ids if client.executions.get(exec_id).status != "completed"]
    return report(fleet, console, watch, kills, restarts, rolls, len(ids), lost, seconds)


def wait_for(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.1)
    return False


def busiest(fleet: Fleet, watch: Watch, die: random.Random) -> Worker:
    """A worker that is in the midst of something, so that its death matters."""
    found: list[Worker] = []

    def is_there() -> bool:
        finished = watch.finished()
        last = {each.exec_id: each.pid for each in fleet.begun() if each.exec_id not in finished}
        found[:] = [each for each in fleet.workers if each.process.pid in last.values()]
        return bool(found)

    wait_for(is_there)
    return die.choice(found or fleet.workers)


def doubled_bodies(begun: list[Begun], kills: list[Kill]) -> int:
    """Bodies that began though their outcome was recorded. No clock is asked.

    The calls of an execution follow each other here. So when one begins, the outcomes of all
    before it are recorded; and at a kill the store says how many the dead process had recorded.
    """
    doubled = 0
    places: dict[str, dict[Body, int]] = {}
    recorded: dict[str, int] = {}
    for line, each in enumerate(begun):
        for kill in kills:
            if kill.line == line:
                for exec_id, count in kill.recorded.items():
                    recorded[exec_id] = max(recorded.get(exec_id, 0), count)
        known = places.setdefault(each.exec_id, {})
        place = known.setdefault(each.body, len(known))
        doubled += place < recorded.get(each.exec_id, 0)
        recorded[each.exec_id] = max(recorded.get(each.exec_id, 0), place)
    return doubled


def takeover_seconds(begun: list[Begun], kills: list[Kill]) -> list[float]:
    """From each kill to the first body that another process began of what the dead one had."""
    found = []
    for kill in kills:
        for exec_id in kill.owned:
            later = [
                each.at
                for each in begun
                if each.exec_id == exec_id and each.pid != kill.pid and each.at > kill.at
            ]
            if later:
                found.append(min(later) - kill.at)
    return sorted(found)


def report(
    fleet: Fleet,
    console: Console,
    watch: Watch,
    kills: list[Kill],
    restarts: int,
    rolls: int,
    count: int,
    lost: list[str],
    seconds: float,
) -> bool:
    begun = fleet.begun()
    recorded = sum(count for _, count in watch.recorded())
    taken = takeover_seconds(begun, kills)
    doubled = doubled_bodies(begun, kills)
    versions = {each.version for each in begun}
    table = Table(title="A fleet under fire", title_justify="left", show_header=False)
    for name, value in (
        ("executions", f"{count:,}"),
        ("checkpoints recorded", f"{recorded:,}"),
        ("bodies begun", f"{len(begun):,}"),
        ("workers killed", str(len(kills))),
        ("database crashed and restarted", str(restarts)),
        ("workers rolled to new code", str(len(fleet.drained))),
        ("executions taken over", str(len(taken))),
        ("time to takeover, median / longest", _times(taken)),
        ("doubled bodies", str(doubled)),
        ("lost executions", str(len(lost))),
        ("seconds in all", f"{seconds:.0f}"),
    ):
        table.add_row(name, value)
    console.print()
    console.print(table)
    claims = [
        (len(kills) == KILLS, f"{KILLS} workers were killed by SIGKILL"),
        (restarts == 1, "the database was crashed and started again"),
        (rolls == 1 and not any(fleet.drained), "each worker drained at SIGTERM with status 0"),
        (versions == {"old", "new"}, "bodies of the old and of the new code ran"),
        (bool(taken), "executions of killed workers were taken over"),
        (len(begun) >= recorded > count, "every outcome has a body in the journal"),
        (not doubled, f"bodies that began after their outcome was recorded: {doubled}"),
        (not lost, f"executions that did not complete: {len(lost)}"),
    ]
    console.print()
    for holds, what in claims:
        console.print("[green]holds [/]" if holds else "[bold red]FAILS [/]", what)
    return all(holds for holds, _ in claims)


def _times(taken: list[float]) -> str:
    return f"{taken[len(taken) // 2]:.1f} s / {taken[-1]:.1f} s" if taken else "none"


@contextmanager
def stage() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="code-census-fleet-") as folder:
        yield Path(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description="A fleet of workers under fire.")
    parser.add_argument("--seed", type=int, default=5, help="which workers die, and when")
    parser.add_argument("--short", action="store_true", help="60 packages instead of all")
    said = parser.parse_args()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100
    began = time.monotonic()

    def say(what: str) -> None:
        console.print(f"[{time.monotonic() - began:5.1f} s] {what}", markup=False)

    names = names_of_packages(60 if said.short else None, random.Random(said.seed))
    with stage() as folder, postgres_server.running(settings=postgres_server.DURABLE) as server:
        os.environ["KITARU_STORE"] = server.url()
        os.environ["KITARU_PROJECT"] = "census"
        os.environ["KITARU_RUNNER"] = "worker"
        os.environ["KITARU_LEASE_SECONDS"] = str(LEASE_SECONDS)
        os.environ["CENSUS_JOURNAL"] = str(folder / "journal.tsv")
        say(f"PostgreSQL runs, seed {said.seed}")
        fleet = Fleet(folder, say)
        try:
            held = perform(fleet, server, console, names, said.seed)
        except BaseException:
            fleet.end()
            raise
        if not held:
            for log in sorted(folder.glob("*.log")):
                tail = log.read_text(errors="replace")[-1500:]
                console.print(f"--- {log.name}\n{tail}", markup=False)
    console.print("All claims hold." if held else "[bold red]A claim failed.[/]")
    return 0 if held else 1


if __name__ == "__main__":
    raise SystemExit(main())
