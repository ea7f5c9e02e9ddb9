"""What a module's source says where live objects do not: assignments, whole files.

Mutable values count by the statements that assign them, because their contents
change while the program runs. Trees are compared, not text, so comments and
formatting do not count, and docstrings are taken out. ``ast`` is imported only
when a source is needed; parsed files are kept until they change on disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from kitaru._engine.fingerprint.bytecode import Import
from kitaru.env import SystemEnv

if TYPE_CHECKING:
    import ast

_BEGAN_AT = SystemEnv().now()
_MAX_FILES = 512
_parsed: dict[str, tuple[tuple[int, int], Source | None]] = {}


class Assigned(NamedTuple):
    """The statements that assign a name, and the names they use."""

    text: str
    names: frozenset[str]
    attributes: frozenset[str]


class Source:
    """One parsed source file."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._index: dict[str, list[ast.stmt]] | None = None
        self._whole: str | None = None
        self._imports: tuple[Import, ...] | None = None

    def assigned(self, name: str) -> Assigned | None:
        """What assigns ``NAME`` in the module, or ``Class.name`` in a class body."""
        if self._index is None:
            self._index = {}
            guarded: dict[str, list[ast.stmt]] = {}
            _index(self._tree.body, "", self._index, guarded)
            for guarded_name, found in guarded.items():
                self._index.setdefault(guarded_name, found)
        statements = self._index.get(name)
        return _assigned(statements) if statements else None

    def imported(self, name: str) -> Iterator[tuple[Import, str]]:
        """Top-level ``from … import`` statements that may have bound the name."""
        import ast

        for node in self._tree.body:
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if alias.name == "*" or (alias.asname or alias.name) == name:
                        origin = name if alias.name == "*" else alias.name
                        yield Import(node.module or "", (origin,), node.level), origin

    def whole(self) -> str:
        """The file without comments, formatting and docstrings."""
        import ast

        if self._whole is None:
            self._whole = ast.dump(self._tree)
        return self._whole

    def imports(self) -> tuple[Import, ...]:
        """Every import statement in the file, wherever it stands."""
        if self._imports is None:
            self._imports = tuple(_imports(self._tree))
        return self._imports


def source_of(file: object) -> Source | None:
    """The parsed source of a file; None if there is none or Python cannot parse it."""
    if not isinstance(file, str) or not file.endswith(".py"):
        return None
    try:
        stat = os.stat(file)
    except (OSError, ValueError):
        return None
    state = (stat.st_mtime_ns, stat.st_size)
    known = _parsed.get(file)
    if known is None or known[0] != state:
        if len(_parsed) >= _MAX_FILES:
            _parsed.clear()
        known = _parsed[file] = (state, _parse(file))
    return known[1]


def changed_since_start(file: object) -> bool:
    """Whether the file may differ from what this process has loaded of it."""
    try:
        return isinstance(file, str) and os.stat(file).st_mtime_ns // 1000 > _BEGAN_AT
    except (OSError, ValueError):
        return True


def _parse(file: str) -> Source | None:
    import ast
    import warnings

    try:
        with open(file, "rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(stream.read(), file)
        _strip_docstrings(tree)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return Source(tree)


def _strip_docstrings(tree: ast.Module) -> None:
    import ast

    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]


def _index(
    body: list[ast.stmt],
    prefix: str,
    index: dict[str, list[ast.stmt]],
    guarded: dict[str, list[ast.stmt]],
) -> None:
    import ast

    for statement in body:
        if isinstance(statement, ast.ClassDef):
            _index(statement.body, f"{prefix}{statement.name}.", index, guarded)
        elif not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            # A compound statement counts whole: what it assigns depends on its
            # header. Not so what stands under `if __name__ == "__main__"`, which
            # an import does not see, unless nothing else assigns the name.
            into = guarded if _is_main_guard(statement) else index
            for name in sorted(set(_targets(statement))):
                into.setdefault(prefix + name, []).append(statement)


def _is_main_guard(statement: ast.stmt) -> bool:
    import ast

    return isinstance(statement, ast.If) and any(
        isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test)
    )


def _targets(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement assigns or may change in place."""
    import ast

    for node in _own_scope(statement):
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            if not isinstance(node.ctx, ast.Load):
                yield _root(node)
        elif (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Attribute)
        ):
            yield _root(node.value.func)


def _own_scope(node: ast.AST) -> Iterator[ast.AST]:
    import ast

    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield from _own_scope(child)


def _root(node: ast.expr) -> str:
    import ast

    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _assigned(statements: list[ast.stmt]) -> Assigned:
    import ast

    names: set[str] = set()
    attributes: set[str] = set()
    texts: list[str] = []
    for statement in statements:
        counted: list[ast.AST] = [statement]
        if isinstance(statement, ast.AnnAssign):
            counted = [statement.target, *([statement.value] if statement.value else [])]
        for node in (node for part in counted for node in ast.walk(part)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                names.add(node.id)
            elif isinstance(node, ast.Attribute):
                attributes.add(node.attr)
        texts.extend(ast.dump(part) for part in counted)
    return Assigned("\n".join(texts), frozenset(names), frozenset(attributes))


def _imports(tree: ast.Module) -> Iterator[Import]:
    import ast

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), 0)
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.module or "", tuple(a.name for a in node.names), node.level)
