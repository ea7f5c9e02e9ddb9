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


def save(*args: Any, **kwargs: Any) -> NoReturn:
    """Save a named artifact (a later release)."""
    _not_yet("save()", "; return the value from the checkpoint")


def load(*args: Any, **kwargs: Any) -> NoReturn:
    """Load a named artifact (a later release)."""
    _not_yet("load()", "; use KitaruClient().executions.get(...).checkpoints")


def llm(*args: Any, **kwargs: Any) -> NoReturn:
    """Make a recorded model call (a later release)."""
    _not_yet("llm()", "; call the model inside a checkpoint")


class _Memory:
    """Versioned durable state beyond one execution (a later release)."""

    def __getattr__(self, name: str) -> Any:
        if name not in ("configure", "set", "get", "list", "history", "delete"):
            raise AttributeError(f"kitaru.memory has no attribute {name!r}")

        def call(*args: Any, **kwargs: Any) -> NoReturn:
            _not_yet(f"memory.{name}()", "; keep state in a file or a database of your own")

        return call


memory = _Memory()
