"""Kill a census half-way, start it again, and prove that nothing was done twice.

Everything it claims is counted from outside: which bodies began, in which
process, stands in a journal that the bodies append to; what was acknowledged
at the kill is read from the store after the process is dead. The exit status
is 1 if any claim does not hold.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import code_census.model  # noqa: E402, F401  recorded reports are rebuilt as these classes
from kitaru import CheckpointCall, Execution, KitaruClient  # noqa: E402

STDLIB = Path(sysconfig.get_path("stdlib")).resolve()
HELPER = "return sorted(things, key=size, reverse=True)"
EDITED = "return sorted(things, key=size)"
# The checkpoints around `parse_file`, one call each.
AROUND = frozenset({"list_files", "summarise", "draw", "write_report"})
LOOKS_AT_THE_DISK = frozenset({"list_files", "write_report"})
MAX_LIFE_SECONDS = 600.0

Body = tuple[str, str]
"""A checkpoint's name and what it was called for."""


@dataclass(frozen=True)
class Life:
    """One process that ran the census: what it began, how long it lived."""

    what: str
    began: list[Body]
    kept: str
    seconds: float
    first_body_seconds: float | None = None


class Demo:
    """The stage: a store, a journal, a console, and the claims made so far."""

    def __init__(self, stage: Path, console: Console, max_files: int | None) -> None:
        self.stage = stage
        self.console = console
        self.max_files = max_files
        self.journal = stage / "journal.tsv"
        self.log = stage / "output.log"
        self.claims: list[tuple[bool, str]] = []
        # For us and for the children alike.
        os.environ["KITARU_STORE"] = str(stage / "store")
        os.environ["CENSUS_JOURNAL"] = str(self.journal)

    def claim(self, holds: bool, what: str) -> None:
        self.claims.append((holds, what))

    def began(self, pid: int) -> list[Body]:
        """The bodies that this process began, from the journal."""
        if not self.journal.exists():
            return []
        rows = [line.split("\t") for line in self.journal.read_text().splitlines()]
        return [(row[1], row[2]) for row in rows if row[0] == str(pid)]

    def start(self, folder: Path, target: str, *options: str) -> subprocess.Popen[bytes]:
        """A census in a process of its own, of the package that lies in `folder`."""
        command = [sys.executable, "-m", "code_census", "--target", str(self.stage / target)]
        command += ["--broken", str(HERE / "broken"), *options]
        if self.max_files is not None:
            command += ["--max-files", str(self.max_files)]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Progress]:
        """A progress bar on a terminal; elsewhere nothing, see `tell`."""
        columns = (TextColumn("{task.description}"), BarColumn(28), MofNCompleteColumn())
        with Progress(
            *columns,
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        ) as progress:
            progress.add_task(what, total=total)
            yield progress

    def follow(
        self, what: str, child: subprocess.Popen[bytes], total: int, stop_at: int | None = None
    ) -> Life:
        """Watch a life through the journal to its end, or kill it once `stop_at` bodies began."""
        born = time.monotonic()
        first: float | None = None
        told = -1
        with self.bar(what, total) as progress:
            while child.poll() is None and time.monotonic() - born < MAX_LIFE_SECONDS:
                began = len(self.began(child.pid))
                if began and first is None:
                    first = time.monotonic() - born
                progress.update(progress.task_ids[0], completed=began)
                told = self.tell(what, began, total, told)
                if stop_at is not None and began >= stop_at:
                    break
                time.sleep(0.02)
            if child.poll() is None:
                child.kill()
            child.wait()
            progress.update(progress.task_ids[0], completed=len(self.began(child.pid)))
        return Life(what, self.began(child.pid), "", time.monotonic() - born, first)

    def tell(self, what: str, began: int, total: int, told: int) -> int:
        """Without a terminal: a line for each quarter. Return the last quarter told."""
        quarter = 4 * began // max(total, 20)
        if not self.console.is_terminal and quarter > told:
            self.console.print(f"{what}: {began:,} of {total:,} bodies begun")
            return quarter
        return told

    def require_success(self, child: subprocess.Popen[bytes]) -> None:
        if child.returncode != 0:
            self.console.print(self.log.read_text(errors="replace"), markup=False, style="dim")
            raise SystemExit(f"the census ended with status {child.returncode}, see above")


def body_of(call: CheckpointCall) -> Body:
    """What the journal calls this call."""
    name = call.name.rpartition(".")[2]
    return (name, call.result().path) if name == "parse_file" else (name, "-")


def acknowledged(execution: Execution) -> set[Body]:
    """The calls whose success is in the store, whoever was told of it."""
    return {body_of(call) for call in execution.checkpoints if call.status == "completed"}


def count_files(root: Path, max_files: int | None) -> int:
    from code_census.census import list_files

    return len(list_files.func(root, HERE / "broken", max_files))


def killed_and_resumed(demo: Demo, client: KitaruClient, total: int) -> tuple[Life, Life]:
    """Two lives of one execution, and what they prove."""
    key = ("--key", "demo")
    child = demo.start(HERE.parent, "census.html", *key)
    first = demo.follow("first life", child, total, stop_at=total // 2)
    if child.returncode != -9:
        demo.require_success(child)
    demo.claim(child.returncode == -9, "the first life was ended by SIGKILL")
    found = client.executions.latest(flow="census")
    demo.claim(found.status == "interrupted", f"the store says so: {found.status.value}")
    done = acknowledged(found)
    demo.claim(0 < len(done) < total, f"{len(done):,} checkpoints were acknowledged by then")

    child = demo.start(HERE.parent, "census.html", *key)
    second = demo.follow("second life", child, total - len(done))
    demo.require_success(child)
    after = client.executions.latest(flow="census")
    demo.claim(after.exec_id == found.exec_id, "the second life went on with the same execution")
    demo.claim(after.status == "completed", "and completed it")
    again = done.intersection(second.began)
    demo.claim(not again, f"bodies run again though acknowledged: {len(again)}")
    missing = acknowledged(after) - done - set(second.began)
    demo.claim(
        not missing and len(second.began) == total - len(done) == len(set(second.began)),
        f"the second life ran the other {len(second.began):,}, each once",
    )
    cut = set(first.began) - done
    first_kept = f"{len(done):,} acknowledged, {len(cut)} cut off"
    return (
        Life("first life, killed", first.began, first_kept, first.seconds),
        Life(
            "second life",
            second.began,
            f"{len(done):,} recalled",
            second.seconds,
            second.first_body_seconds,
        ),
    )


def of_a_copy(
    demo: Demo, client: KitaruClient, what: str, total: int, expected: frozenset[str]
) -> tuple[Life, Execution]:
    """A new execution of the copy: `expected` names the checkpoints that must run."""
    child = demo.start(demo.stage / "copy", "copy.html")
    life = demo.follow(what, child, len(expected))
    demo.require_success(child)
    execution = client.executions.latest(flow="census")
    reused = sum(call.source == "reused" for call in execution.checkpoints)
    ran = sorted(name for name, _ in life.began)
    demo.claim(ran == sorted(expected), f"{what}: only {', '.join(ran)} ran")
    demo.claim(reused == total - len(expected), f"{what}: {reused:,} were reused")
    return Life(what, life.began, f"{reused:,} reused", life.seconds), execution


def edited_copy(demo: Demo, client: KitaruClient, total: int) -> tuple[list[Life], Execution]:
    """First the copy as it is, then with one helper edited: the difference is the edit's."""
    package = demo.stage / "copy" / "code_census"
    shutil.copytree(HERE, package, ignore=shutil.ignore_patterns("__pycache__"))
    as_it_is, _ = of_a_copy(demo, client, "copy, as it is", total, LOOKS_AT_THE_DISK)
    helper = package / "ranking.py"
    source = helper.read_text()
    demo.claim(source.count(HELPER) == 1, "one line of the helper biggest_first was edited")
    helper.write_text(source.replace(HELPER, EDITED))
    edited, execution = of_a_copy(demo, client, "copy, helper edited", total, AROUND)
    reasons = " ".join(why.reason for why in client.executions.why(execution.exec_id, "summarise"))
    demo.claim("biggest_first" in reasons, f"summarise ran again because: {reasons}")
    reasons = " ".join(why.reason for why in client.executions.why(execution.exec_id, "draw"))
    demo.claim("summary" in reasons, f"draw ran again because: {reasons}")
    return [as_it_is, edited], execution


def show_lives(console: Console, lives: list[Life]) -> None:
    table = Table(title="Four processes, three executions", title_justify="left")
    table.add_column("process")
    table.add_column("bodies begun", justify="right")
    table.add_column("kept")
    table.add_column("seconds", justify="right")
    for life in lives:
        table.add_row(life.what, f"{len(life.began):,}", life.kept, f"{life.seconds:.1f}")
    console.print()
    console.print(table)
    if lives[1].first_body_seconds is not None:
        console.print(
            f"From the start of the second process to its first new body: "
            f"{lives[1].first_body_seconds:.2f} s, interpreter and imports included."
        )


def show_reasons(console: Console, execution: Execution) -> None:
    """One line for each checkpoint: how the edit reached it, in Kitaru's words."""
    table = Table(title="Why, after the edit", title_justify="left")
    for column in ("checkpoint", "outcome", "reason"):
        table.add_column(column)
    alike: dict[tuple[str, str], list[CheckpointCall]] = {}
    for call in execution.checkpoints:
        alike.setdefault((call.name, call.source), []).append(call)
    for (name, source), calls in alike.items():
        table.add_row(name.rpartition(".")[2], f"{len(calls):,} {source}", calls[0].reason)
    console.print()
    console.print(table)


def show_claims(console: Console, claims: list[tuple[bool, str]]) -> None:
    console.print()
    for holds, what in claims:
        mark = "[green]holds [/]" if holds else "[bold red]FAILS [/]"
        console.print(mark, what)


def perform(stage: Path, console: Console, max_files: int | None) -> bool:
    demo = Demo(stage, console, max_files)
    total = count_files(STDLIB, max_files) + len(AROUND)
    console.print(f"A census of {total - len(AROUND):,} files in {STDLIB}\n")
    client = KitaruClient()
    first, second = killed_and_resumed(demo, client, total)
    copies, execution = edited_copy(demo, client, total)
    show_lives(console, [first, second, *copies])
    show_reasons(console, execution)
    show_claims(console, demo.claims)
    return all(holds for holds, _ in demo.claims)


@contextmanager
def stage_for(short: bool) -> Iterator[Path]:
    """A fresh folder: kept beside the checkout's builds, or thrown away if the demo is short."""
    if short:
        with tempfile.TemporaryDirectory(prefix="code-census-") as folder:
            yield Path(folder)
        return
    stage = HERE.parent.parent / "build" / "code_census"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    yield stage


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill a census half-way and see it resume.")
    parser.add_argument("--short", action="store_true", help="150 files instead of all")
    parser.add_argument("--plain", action="store_true", help="no progress bars")
    said = parser.parse_args()
    console = Console(highlight=False, force_terminal=False if said.plain else None)
    if not console.is_terminal:
        console.width = 100
    with stage_for(said.short) as stage:
        held = perform(stage, console, max_files=150 if said.short else None)
        report = stage / "census.html"
        console.print()
        if not said.short:
            console.print(f"The report: {report.as_uri()}", soft_wrap=True)
    console.print("All claims hold." if held else "[bold red]A claim failed.[/]")
    return 0 if held else 1


if __name__ == "__main__":
    raise SystemExit(main())
