"""Names that are reserved today and come with a later release.

Calling one says so; nothing is accepted and ignored.
"""

from __future__ import annotations

from typing import Any, NoReturn

from kitaru.errors import KitaruFeatureNotAvailableError


def _not_yet(name: str, instead: str = ": leave it out until then") -> NoReturn:
    raise KitaruFeatureNotAvailableError(
        f"kitaru.{name} comes with a later release of Kitaru{instead}",
        code="not-yet-available",
    )


def llm(*args: Any, **kwargs: Any) -> NoReturn:
    """Make a recorded model call (a later release)."""
    _not_yet("llm()", "; call the model inside a checkpoint")
