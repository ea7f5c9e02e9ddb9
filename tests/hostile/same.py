"""Whether what came back is what went in: equal values of equal types, all the way down.

Independent of Kitaru's own encoding: it compares objects, not bytes, and runs no ``__eq__`` of a
class that a hostile table made.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from enum import Enum
from fractions import Fraction
from typing import Any

_BY_EQUALITY = (
    "datetime",
    "decimal",
    "uuid",
    "pathlib",
    "pathlib._local",
    "fractions",
    "ipaddress",
    "zoneinfo",
    "re",
    "array",
)


def difference(went_in: Any, came_back: Any, where: str = "$") -> str | None:
    """Where and how the two differ, in words; None if they do not."""
    kind = type(went_in)
    if kind is not type(came_back):
        return f"{where}: {kind} became {type(came_back)}"
    if kind is float:
        return _of_floats(went_in, came_back, where)
    if kind is complex:
        return _of_floats(went_in.real, came_back.real, where) or _of_floats(
            went_in.imag, came_back.imag, where
        )
    if kind in (int, bool, str, bytes, bytearray, range, slice, type(...), type(None)):
        return None if went_in == came_back else f"{where}: another {kind.__name__}"
    if issubclass(kind, dict) and kind.__module__ in ("builtins", "collections"):
        return _of_dicts(went_in, came_back, where)
    if kind in (list, tuple) or kind is deque:
        if kind is deque and went_in.maxlen != came_back.maxlen:
            return f"{where}: another maxlen"
        return _of_items(went_in, came_back, where)
    if kind in (set, frozenset):
        return _of_items(sorted(went_in, key=_order), sorted(came_back, key=_order), where)
    if issubclass(kind, BaseException):
        return _of_exceptions(went_in, came_back, where)
    if issubclass(kind, Enum):
        return None if went_in is came_back else f"{where}: another member"
    if kind.__module__ in _BY_EQUALITY:
        return _by_text(went_in, came_back, where)
    return _of_objects(went_in, came_back, where)


def _order(item: Any) -> tuple[str, str]:
    return type(item).__name__, repr(item)


def _of_floats(one: float, other: float, where: str) -> str | None:
    if math.isnan(one) and math.isnan(other):
        return None
    alike = one == other and math.copysign(1, one) == math.copysign(1, other)
    return None if alike else f"{where}: {one!r} became {other!r}"


def _of_items(one: Iterable[Any], other: Iterable[Any], where: str) -> str | None:
    first, second = list(one), list(other)
    if len(first) != len(second):
        return f"{where}: {len(first)} items became {len(second)}"
    for index, (a, b) in enumerate(zip(first, second, strict=True)):
        if type(a) is type(b) and type(a) in (int, str) and a == b:
            continue
        if (found := difference(a, b, f"{where}[{index}]")) is not None:
            return found
    return None


def _of_dicts(one: dict[Any, Any], other: dict[Any, Any], where: str) -> str | None:
    if getattr(one, "default_factory", None) is not getattr(other, "default_factory", None):
        return f"{where}: another default_factory"
    # As lists: the order of the keys counts, and nobody's __hash__ is asked.
    return _of_items(one.keys(), other.keys(), where + ".keys") or _of_items(
        one.values(), other.values(), where + ".values"
    )


def _by_text(one: Any, other: Any, where: str) -> str | None:
    if isinstance(one, Fraction):
        return _of_items(one.as_integer_ratio(), other.as_integer_ratio(), where)
    if repr(one) != repr(other) or getattr(one, "fold", 0) != getattr(other, "fold", 0):
        return f"{where}: {one!r} became {other!r}"
    return difference(type(getattr(one, "tzinfo", None)), type(getattr(other, "tzinfo", None)))


def _of_exceptions(one: BaseException, other: BaseException, where: str) -> str | None:
    return _of_items(one.args, other.args, where + ".args") or _of_dicts(
        object.__getattribute__(one, "__dict__"), object.__getattribute__(other, "__dict__"), where
    )


def _of_objects(one: Any, other: Any, where: str) -> str | None:
    if one is other:
        return None
    if issubclass(type(one), tuple) and (
        found := _of_items(tuple.__iter__(one), tuple.__iter__(other), where)
    ):
        return found
    for name, value in _state(one).items():
        if name not in _state(other):
            return f"{where}.{name}: lost"
        if (found := difference(value, _state(other)[name], f"{where}.{name}")) is not None:
            return found
    extra = _state(other).keys() - _state(one).keys()
    return f"{where}: gained {extra}" if extra else None


def _state(thing: Any) -> dict[str, Any]:
    try:
        state = dict(object.__getattribute__(thing, "__dict__"))
    except AttributeError:
        state = {}
    state.pop("__orig_class__", None)  # a note of `typing`, from the call that made it
    for cls in type(thing).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name in ("__dict__", "__weakref__"):
                continue
            mangled = name
            if name.startswith("__") and not name.endswith("__"):
                mangled = f"_{cls.__name__.lstrip('_')}{name}"
            try:
                state[name] = object.__getattribute__(thing, mangled)
            except AttributeError:
                continue
    return state
