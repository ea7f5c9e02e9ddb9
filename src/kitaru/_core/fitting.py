"""Whether a value fits an annotation.

Works on plain ``typing`` without pydantic: strict, so that an int for a float
is the only widening; a hint that cannot be resolved is skipped, never guessed.
"""

from __future__ import annotations

import collections.abc
import types
import typing
from typing import Any

_MAX_ITEMS = 10_000
"""Items of a container that are looked at: work in bounded proportion to the argument."""


def misfit(value: Any, hint: Any, path: str) -> str | None:
    """Where and how a value does not fit its annotation, in words; None if it fits or is unclear.

    >>> misfit("3", int, "count")
    'count is a str, not int'
    >>> misfit([1, "2"], list[int], "counts")
    'counts[1] is a str, not int'
    >>> misfit(1, float, "ratio") is None
    True
    """
    origin = typing.get_origin(hint)
    if origin is None:
        return _misfit_plain(value, hint, path)
    arguments = typing.get_args(hint)
    if origin is typing.Union or origin is types.UnionType:
        return _misfit_union(value, hint, arguments, path)
    if origin is typing.Literal:
        fits = any(type(value) is type(one) and value == one for one in arguments)
        return None if fits else f"{path} is {value!r:.60}, not one of {_name(hint)}"
    if origin is typing.Annotated:
        return misfit(value, arguments[0], path)
    if isinstance(origin, type):
        return _misfit_generic(value, origin, arguments, hint, path)
    return None


def _misfit_plain(value: Any, hint: Any, path: str) -> str | None:
    if hint is None or hint is type(None):
        return None if value is None else _words(value, "None", path)
    if not isinstance(hint, type) or hint is object:
        return None
    if getattr(hint, "_is_protocol", False) or typing.is_typeddict(hint):
        return None
    if hint is float:
        fits = isinstance(value, (float, int)) and not isinstance(value, bool)
    elif hint is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif hint is complex:
        fits = isinstance(value, (complex, float, int)) and not isinstance(value, bool)
    else:
        try:
            fits = isinstance(value, hint)
        except Exception:
            return None
    return None if fits else _words(value, hint.__name__, path)


def _misfit_union(value: Any, hint: Any, arguments: tuple[Any, ...], path: str) -> str | None:
    for one in arguments:
        if misfit(value, one, path) is None:
            return None
    return _words(value, _name(hint), path)


def _misfit_generic(
    value: Any, origin: type, arguments: tuple[Any, ...], hint: Any, path: str
) -> str | None:
    if not issubclass(origin, collections.abc.Collection):
        return None
    try:
        if not isinstance(value, origin):
            return _words(value, _name(hint), path)
    except Exception:
        return None
    if isinstance(value, dict):
        return _misfit_dict(value, arguments, path)
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is ...):
        return _misfit_tuple(value, arguments, hint, path)
    if len(arguments) >= 1 and isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            if index >= _MAX_ITEMS:
                break
            if (found := misfit(item, arguments[0], f"{path}[{index}]")) is not None:
                return found
    return None


def _misfit_dict(value: dict[Any, Any], arguments: tuple[Any, ...], path: str) -> str | None:
    if len(arguments) != 2:
        return None
    for index, (key, item) in enumerate(value.items()):
        if index >= _MAX_ITEMS:
            break
        found = misfit(key, arguments[0], f"the key {key!r:.40} of {path}")
        found = found or misfit(item, arguments[1], f"{path}[{key!r:.40}]")
        if found is not None:
            return found
    return None


def _misfit_tuple(value: Any, arguments: tuple[Any, ...], hint: Any, path: str) -> str | None:
    if arguments == ((),):
        arguments = ()
    if len(value) != len(arguments):
        return f"{path} has {len(value)} items, not {len(arguments)} as {_name(hint)} says"
    for index, (item, one) in enumerate(zip(value, arguments, strict=True)):
        if (found := misfit(item, one, f"{path}[{index}]")) is not None:
            return found
    return None


def _words(value: Any, wanted: str, path: str) -> str:
    kind = type(value).__name__
    article = "an" if kind[:1].lower() in "aeiou" else "a"
    return f"{path} is {article} {kind}, not {wanted}"


def _name(hint: Any) -> str:
    return str(hint).replace("typing.", "")
