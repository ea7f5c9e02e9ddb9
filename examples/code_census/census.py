"""The flow: list the files, parse each, count, draw. Kill it anywhere; run it again."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from code_census.journal import note_start
from code_census.model import FileReport, Package, Summary
from code_census.parsing import examine
from code_census.ranking import biggest_first
from code_census.report import render
from kitaru import checkpoint, flow

TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})
SHOWN = 15


# cache=False: what is on the disk is looked at anew in every execution.
@checkpoint(cache=False)
def list_files(root: Path, broken: Path, max_files: int | None = None) -> list[Path]:
    """Every Python file under the root but those of installed packages; then the broken ones."""
    note_start("list_files")
    found = [p for p in root.rglob("*.py") if "site-packages" not in p.relative_to(root).parts]
    return sorted(found)[:max_files] + sorted(broken.glob("*.py"))


# A Path that exists counts with its size and its time of change, so that an edited
# file is parsed again and all others are reused.
@checkpoint
def parse_file(path: Path, root: Path) -> FileReport:
    """What is in one file."""
    label = label_of(path, root)
    note_start("parse_file", label)
    return examine(path, label)


def label_of(path: Path, root: Path) -> str:
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return f"broken/{path.name}"


@checkpoint
def summarise(reports: list[FileReport]) -> Summary:
    """The tree in figures; the rankings leave its tests out, they would hide the rest."""
    note_start("summarise")
    library = [report for report in reports if not is_test(report.path)]
    imports = Counter(name for report in library for name in report.imports)
    functions = [report.longest for report in library if report.longest is not None]
    return Summary(
        files=len(reports),
        lines=sum(report.lines for report in reports),
        library_lines=sum(report.lines for report in library),
        functions=sum(report.functions for report in reports),
        classes=sum(report.classes for report in reports),
        packages=tuple(biggest_first(packages(library), size=lambda p: p.lines)[:SHOWN]),
        imports=tuple(biggest_first(imports.items(), size=lambda item: item[1])[:SHOWN]),
        longest=tuple(biggest_first(functions, size=lambda f: f.lines)[:SHOWN]),
        todos=sum(len(report.todos) for report in reports),
        problems=tuple(report.problem for report in reports if report.problem is not None),
    )


def is_test(path: str) -> bool:
    return not TEST_FOLDERS.isdisjoint(path.split("/")[:-1])


def packages(reports: list[FileReport]) -> list[Package]:
    members: dict[str, list[FileReport]] = {}
    for report in reports:
        name = report.path.partition("/")[0].removesuffix(".py")
        members.setdefault(name, []).append(report)
    return [
        Package(
            name=name,
            files=len(own),
            lines=sum(report.lines for report in own),
            functions=sum(report.functions for report in own),
            classes=sum(report.classes for report in own),
            todos=sum(len(report.todos) for report in own),
        )
        for name, own in members.items()
    ]


@checkpoint
def draw(summary: Summary, title: str) -> str:
    """The report as one HTML page."""
    note_start("draw")
    return render(summary, title)


# cache=False: reuse would return the path and leave no file there.
@checkpoint(cache=False)
def write_report(html: str, target: Path) -> Path:
    """Put the page in its place, whole or not at all."""
    note_start("write_report")
    partial = target.with_suffix(".partial")
    partial.write_text(html, encoding="utf-8")
    os.replace(partial, target)
    return target


@flow
def census(
    root: Path, broken: Path, target: Path, title: str, max_files: int | None = None
) -> Summary:
    """Count what is in a tree of Python source and write a page about it."""
    paths = list_files(root, broken, max_files)
    reports = parse_file.map(paths, root).results()
    summary = summarise(reports)
    write_report(draw(summary, title), target)
    return summary
