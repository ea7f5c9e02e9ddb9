"""One part of a kept source file, as it counts: without comments, formatting and docstrings.

Parses text and imports nothing: the text may be of a project that changed since,
or of somebody else's. Used when somebody asks why, never while a flow runs.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping

from kitaru._engine.fingerprint.sources import _strip_docstrings, _targets

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def home_of(part: str, files: Mapping[str, str]) -> str | None:
    """The module (or the part itself) under which the source of a part is kept.

    >>> home_of("shop.tax.rate", {"shop": "00", "shop.tax": "01"})
    'shop.tax'
    """
    fitting = [name for name in files if part == name or part.startswith(name + ".")]
    return max(fitting, key=len, default=None)


def part_of(source: bytes, path: str) -> str | None:
    """The definition or the assignments of ``path`` in a module; all of it for ``""``.

    >>> part_of(b"def f(x):\\n    # why\\n    return (x)\\n\\nRATE = 2\\n", "f")
    'def f(x):\\n    return x'
    >>> part_of(b"RATE = 2\\n", "RATE"), part_of(b"RATE = 2\\n", "gone")
    ('RATE = 2', None)
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        _strip_docstrings(tree)
        found = list(_find(tree.body, path.split("."))) if path else [tree]
        texts = [ast.unparse(_outline(node)) for node in found]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return "\n".join(texts) or None


def _find(body: list[ast.stmt], path: list[str]) -> Iterator[ast.AST]:
    name, *rest = path
    if name == "<locals>":
        yield from _find(body, rest)
        return
    statements = list(_flat(body))
    if name.startswith("<"):
        # A lambda has no name: what stands around it shows it.
        for statement in statements:
            if any(isinstance(node, ast.Lambda) for node in ast.walk(statement)):
                yield statement
        return
    defined = [s for s in statements if isinstance(s, _Definition) and s.name == name]
    if defined and rest:
        for definition in defined[-1:]:
            yield from _find(definition.body, rest)
    elif defined:
        yield from defined
    elif not rest:
        yield from (s for s in statements if name in _assigned_by(s))


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements with those inside `if`, `try`, `with` and loops, but not inside definitions."""
    for statement in body:
        inner = [
            getattr(statement, name, [])
            for name in ("body", "orelse", "finalbody")
            if not isinstance(statement, _Definition)
        ]
        handlers = getattr(statement, "handlers", [])
        nested = [*inner, *(handler.body for handler in handlers)]
        if any(nested):
            for each in nested:
                yield from _flat(each)
        else:
            yield statement


def _assigned_by(statement: ast.stmt) -> set[str]:
    return set() if isinstance(statement, _Definition) else set(_targets(statement))


def _outline(node: ast.AST) -> ast.AST:
    """A class without the bodies of its methods: they are parts of their own."""
    if isinstance(node, ast.ClassDef):
        for method in node.body:
            if isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef)):
                method.body = [ast.Expr(ast.Constant(...))]
    return node
