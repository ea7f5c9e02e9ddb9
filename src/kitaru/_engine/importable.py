"""Whether another process can find a checkpoint by importing its module, and under which name.

What cannot be found is explained before anything starts: functions inside functions, at
a prompt, in a notebook. Imports nothing itself.
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru._core.naming import import_folder, module_name
from kitaru.errors import KitaruUsageError

if TYPE_CHECKING:
    from kitaru._engine.call import CheckpointSpec

_MAX_WRAPPERS = 20


class Found(NamedTuple):
    """Where a checkpoint is defined."""

    module: str
    folder: str
    path: str


def refuse_local(id: str, module: str, qualname: str) -> None:
    """Refuse, at decoration, a function that no other process could ever import."""
    if "<locals>" in qualname:
        raise _error(id, "it is defined inside a function")
    if import_folder(module) is None:
        raise _error(
            id,
            f"it is defined where nothing can be imported from ({module}: a prompt, a notebook, "
            "`python -c`)",
        )


def find(spec: CheckpointSpec) -> Found:
    """Where another process finds this checkpoint, or ``KitaruUsageError``."""
    defined_in, qualname = spec.defined_at
    refuse_local(spec.id, defined_in, qualname)
    module = sys.modules.get(defined_in)
    folder = import_folder(defined_in)
    name = module_name(defined_in)
    if module is not None and folder is not None:
        for path in (qualname, *_names_in(module, spec)):
            if _spec_at(module, path) is spec:
                return Found(name, folder, path)
    raise _error(
        spec.id,
        f"module {name!r} has it under no name, so that importing the module does not give it",
    )


def find_in(module: ModuleType, path: str, id: str) -> CheckpointSpec | None:
    """The checkpoint of that name in a module that was imported for it."""
    found = _spec_at(module, path)
    return found if found is not None and found.id == id else None


def _spec_at(module: ModuleType, path: str) -> CheckpointSpec | None:
    found: Any = module
    for part in path.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
        if found is None:
            return None
    return _spec_of(found)


def _spec_of(found: Any) -> CheckpointSpec | None:
    """The checkpoint's, also where another decorator was put on top of it."""
    for _ in range(_MAX_WRAPPERS):
        # By its type: any other attribute may be code of the user's.
        if type(found).__module__ == "kitaru.checkpoints" and "spec" in vars(found):
            spec: CheckpointSpec = found.spec
            return spec
        if not isinstance(found, FunctionType):
            return None
        found = vars(found).get("__wrapped__")
    return None


def _names_in(module: ModuleType, spec: CheckpointSpec) -> list[str]:
    return [name for name, value in tuple(vars(module).items()) if _spec_of(value) is spec]


def _error(id: str, why: str) -> KitaruUsageError:
    return KitaruUsageError(
        f'checkpoint {id!r} has runtime="process", so its module is imported by another process, '
        f"and {why}: define it at the top level of a file that can be imported",
        code="not-importable",
    )
