"""Read one Python file and say what is in it. Broken files are findings, not crashes."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from code_census.model import FileReport, Finding, Function

TODO = re.compile(r"\b(TODO|FIXME|XXX)\b[:\s]*(.*)")
MAX_TEXT = 120


def decode(data: bytes) -> str:
    """The text of a source file by its own coding line (PEP 263)."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return data.decode(encoding)


def examine(path: Path, label: str) -> FileReport:
    """Parse a file; whatever is wrong with it is recorded as its `problem`."""
    data = path.read_bytes()
    lines = data.count(b"\n")
    try:
        if b"\0" in data:
            line = data.count(b"\n", 0, data.index(b"\0")) + 1
            return broken(label, lines, line, "null bytes", "source code holds null bytes")
        text = decode(data)
        tree = ast.parse(text, filename=label)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return broken(label, lines, line, "encoding", str(error))
    except SyntaxError as error:
        kind = "encoding" if error.lineno is None else "syntax error"
        return broken(label, lines, error.lineno or 1, kind, error.msg)
    except (RecursionError, MemoryError):
        return broken(label, lines, 1, "too deep", "nested too deeply to be parsed")
    return describe(tree, text, label, lines)


def broken(label: str, lines: int, line: int, kind: str, text: str) -> FileReport:
    problem = Finding(label, line, kind, text[:MAX_TEXT])
    return FileReport(label, lines, 0, 0, None, (), (), problem)


def describe(tree: ast.Module, text: str, label: str, lines: int) -> FileReport:
    functions: list[Function] = []
    imports: set[str] = set()
    classes = 0
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            functions.append(Function(label, node.name, node.lineno, length))
        elif isinstance(node, ast.ClassDef):
            classes += 1
        else:
            imports.update(imported(node))
    return FileReport(
        path=label,
        lines=lines,
        functions=len(functions),
        classes=classes,
        longest=max(functions, key=lambda f: (f.lines, -f.line), default=None),
        imports=tuple(sorted(imports)),
        todos=tuple(todos(text, label)),
        problem=None,
    )


def imported(node: ast.AST) -> Iterator[str]:
    """The top-level names that an import statement reaches for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name.partition(".")[0]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.partition(".")[0]


def todos(text: str, label: str) -> Iterator[Finding]:
    """What the comments promise to do later."""
    for number, line in enumerate(text.split("\n"), start=1):
        _, hash_sign, comment = line.partition("#")
        found = TODO.search(comment) if hash_sign else None
        if found:
            yield Finding(label, number, found[1], found[2].strip()[:MAX_TEXT])
