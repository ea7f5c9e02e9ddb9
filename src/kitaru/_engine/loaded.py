"""Checkpoints of this program, found by their ids: what it has loaded, and nothing more."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from kitaru._core.naming import loaded_module

if TYPE_CHECKING:
    from kitaru._engine.call import CheckpointSpec


_named: dict[str, CheckpointSpec] = {}


def remember(spec: CheckpointSpec) -> None:
    """Let a checkpoint be found by a name that says nothing of where it is: given, or former."""
    for name in (spec.id, *spec.aliases):
        _named[name] = spec


def is_gone(checkpoint_id: str) -> bool:
    """Whether its module is loaded, and has no such checkpoint any more."""
    if "<" in checkpoint_id or loaded_spec(checkpoint_id) is not None:
        return False  # made inside a function: nobody can look there
    parts = checkpoint_id.split(".")
    return any(
        sys.modules.get(".".join(parts[:cut])) or loaded_module(".".join(parts[:cut]))
        for cut in range(len(parts) - 1, 0, -1)
    )


def loaded_spec(checkpoint_id: str) -> CheckpointSpec | None:
    """The spec of a checkpoint at the top level of a module that is loaded; imports nothing."""
    named = _named.get(checkpoint_id)
    if named is not None:
        return named
    parts = checkpoint_id.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:cut])) or loaded_module(".".join(parts[:cut]))
        if module is None:
            continue
        found: Any = module
        for name in parts[cut:]:
            found = getattr(found, "__dict__", {}).get(name)
        spec: CheckpointSpec | None = getattr(found, "spec", None)
        if spec is not None and getattr(spec, "id", None) == checkpoint_id:
            return spec
    return None
