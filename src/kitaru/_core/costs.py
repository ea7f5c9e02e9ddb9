"""What calls cost, as far as their metadata says: numbers under agreed names, summed.

The names are ``cost``, ``usage`` and ``tokens``, and those that begin with ``cost_`` or end
with ``_tokens``; a dict under one of them counts by its numbers. Knows nothing of
currencies and models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MAX_NAMES = 50
_MAX_DEPTH = 4


def costs_of(metadata: Mapping[str, Any]) -> dict[str, float]:
    """Name -> number, with the names of dicts before their own.

    >>> costs_of({"cost": 0.25, "usage": {"input_tokens": 90}, "model": "m", "cost_usd": 1})
    {'cost': 0.25, 'usage.input_tokens': 90, 'cost_usd': 1}
    """
    found: dict[str, float] = {}
    for name, value in metadata.items():
        if is_cost(name):
            _add(found, name, value, 0)
    return found


def is_cost(name: str) -> bool:
    return (
        name in ("cost", "usage", "tokens") or name.startswith("cost_") or name.endswith("_tokens")
    )


def _add(found: dict[str, float], name: str, value: Any, depth: int) -> None:
    if isinstance(value, Mapping):
        if depth < _MAX_DEPTH:
            for key, inner in value.items():
                _add(found, f"{name}.{key}", inner, depth + 1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and len(found) < MAX_NAMES:
        found[name] = value


def summed(costs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """All of them together, by name, in the order of the names.

    >>> summed([{"cost": 1}, {"tokens": 5, "cost": 2}])
    {'cost': 3, 'tokens': 5}
    """
    total: dict[str, float] = {}
    for one in costs:
        for name, value in one.items():
            total[name] = total.get(name, 0) + value
    return {name: total[name] for name in sorted(total)}
