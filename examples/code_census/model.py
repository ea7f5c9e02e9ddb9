"""What the census records of a file and of the whole tree."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Function:
    """A function definition and its length in lines."""

    path: str
    name: str
    line: int
    lines: int


@dataclass(frozen=True)
class Finding:
    """Something in a file that a person may want to look at."""

    path: str
    line: int
    kind: str
    text: str


@dataclass(frozen=True)
class FileReport:
    """One file: counts, its longest function, and what was found in it."""

    path: str
    lines: int
    functions: int
    classes: int
    longest: Function | None
    imports: tuple[str, ...]
    todos: tuple[Finding, ...]
    problem: Finding | None


@dataclass(frozen=True)
class Package:
    """A top-level package or module of the tree."""

    name: str
    files: int
    lines: int
    functions: int
    classes: int
    todos: int


@dataclass(frozen=True)
class Summary:
    """The whole tree in figures small enough to draw."""

    files: int
    lines: int
    library_lines: int
    functions: int
    classes: int
    packages: tuple[Package, ...]
    imports: tuple[tuple[str, int], ...]
    longest: tuple[Function, ...]
    todos: int
    problems: tuple[Finding, ...]
