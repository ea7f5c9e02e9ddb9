"""The census as many executions: one for each package of the standard library."""

from __future__ import annotations

import os
import time
from pathlib import Path

import kitaru
from code_census.model import FileReport, Package
from code_census.parsing import examine
from code_census.ranking import biggest_first
from kitaru import checkpoint, flow

VERSION = "old"
"""Which code a body belongs to: the demo rolls its workers to another one."""


def note(checkpoint: str, subject: str) -> None:
    """Append to a journal outside the store: instant, process, version, execution, body."""
    path = os.environ.get("CENSUS_JOURNAL")
    if path is None:
        return
    words = (time.time(), os.getpid(), VERSION, kitaru.current().exec_id, checkpoint, subject)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, ("\t".join(map(str, words)) + "\n").encode())
    finally:
        os.close(file)


@checkpoint(cache=False)
def list_modules(root: Path, name: str) -> list[Path]:
    """Every file of a package, or the one of a module."""
    note("list_modules", name)
    single = root / f"{name}.py"
    return [single] if single.exists() else sorted((root / name).rglob("*.py"))


# cache=False: that nothing is done twice should be the engine's doing, not the cache's.
@checkpoint(cache=False)
def examine_file(path: Path, root: Path) -> FileReport:
    """What is in one file."""
    label = path.relative_to(root).as_posix()
    note("examine_file", label)
    return examine(path, label)


@checkpoint(cache=False)
def sum_up(name: str, reports: list[FileReport]) -> Package:
    """The package in figures."""
    note("sum_up", name)
    largest = biggest_first(reports, size=lambda report: report.lines)
    return Package(
        name=name,
        files=len(largest),
        lines=sum(report.lines for report in largest),
        functions=sum(report.functions for report in largest),
        classes=sum(report.classes for report in largest),
        todos=sum(len(report.todos) for report in largest),
    )


@flow
def census_of(name: str, root: Path) -> Package:
    """Count what is in one package."""
    reports = [examine_file(path, root) for path in list_modules(root, name)]
    return sum_up(name, reports)
