"""Which calls a map or a product makes: what is iterated, and what is repeated."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

from kitaru.errors import KitaruUsageError

T = TypeVar("T")

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""The positional and the keyword arguments of one call."""


class unmapped(Generic[T]):
    """Pass a list to every item of a map instead of iterating it.

    >>> unmapped([1, 2]).value
    [1, 2]
    """

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value


def _is_iterated(value: Any) -> bool:
    return isinstance(value, (list, tuple, range, Iterator))


def in_step(name: str, iterables: Sequence[Any], keywords: dict[str, Any]) -> list[Arguments]:
    columns: dict[int | str, list[Any]] = {}
    given: list[tuple[int | str, Any]] = [*enumerate(iterables), *keywords.items()]
    for key, value in given:
        if _is_iterated(value):
            columns[key] = list(value)
    lengths = {len(column) for column in columns.values()}
    if not columns:
        raise KitaruUsageError(
            f"{name}.map() was given nothing to iterate: pass a list, tuple, range or generator",
            code="map-nothing-to-iterate",
        )
    if len(lengths) > 1:
        shown = ", ".join(f"{_shown(key)} has {len(column)}" for key, column in columns.items())
        raise KitaruUsageError(
            f"{name}.map() was given iterables of unequal lengths: {shown}. "
            "Make them equal, or repeat one with kitaru.unmapped(...)",
            code="map-lengths-differ",
        )
    rows = []
    for index in range(lengths.pop()):
        args = tuple(
            columns[key][index] if key in columns else _repeated(value)
            for key, value in enumerate(iterables)
        )
        kwargs = {
            key: columns[key][index] if key in columns else _repeated(value)
            for key, value in keywords.items()
        }
        rows.append((args, kwargs))
    return rows


def combinations(iterables: Sequence[Any], keywords: dict[str, Any]) -> list[Arguments]:
    values = [*iterables, *keywords.values()]
    columns = [list(value) if _is_iterated(value) else [_repeated(value)] for value in values]
    count = len(iterables)
    return [
        (row[:count], dict(zip(keywords, row[count:], strict=True)))
        for row in itertools.product(*columns)
    ]


def _repeated(value: Any) -> Any:
    return value.value if isinstance(value, unmapped) else value


def _shown(key: int | str) -> str:
    return f"argument {key + 1}" if isinstance(key, int) else repr(key)
