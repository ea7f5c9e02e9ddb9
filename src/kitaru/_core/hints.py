"""What a function's annotations say: what its arguments must be, which classes it returns."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from kitaru._core.values import classes_in


def hints_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """Resolved annotations by parameter name (``return`` too); {} if they cannot be resolved."""
    target = fn
    while True:
        inner = getattr(target, "__wrapped__", None) or getattr(target, "func", None)
        if inner is None or isinstance(target, type):
            break
        target = inner
    try:
        return typing.get_type_hints(target, include_extras=False)
    except Exception:
        return {
            name: hint
            for name, hint in getattr(target, "__annotations__", {}).items()
            if not isinstance(hint, str)
        }


def return_classes(fn: Callable[..., Any]) -> tuple[type, ...]:
    """Classes that the return annotation mentions."""
    hint = hints_of(fn).get("return")
    return () if hint is None else classes_in(hint)


def argument_classes(fn: Callable[..., Any]) -> tuple[type, ...]:
    """Classes that the parameters' annotations mention."""
    found: dict[type, None] = {}
    for name, hint in hints_of(fn).items():
        if name != "return":
            found.update(dict.fromkeys(classes_in(hint)))
    return tuple(found)
