"""What mypy and pyright must infer about what users say of their values; never run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, assert_type

import kitaru


@dataclass
class Price:
    cents: int


@kitaru.upcast(Price)
def from_euros(old: dict[str, Any]) -> Price:
    return Price(round(old["euros"] * 100))


assert_type(from_euros({}), Price)
converter: Callable[[dict[str, Any]], Price] = from_euros
assert_type(kitaru.Secret(env="KEY").get(), str)
