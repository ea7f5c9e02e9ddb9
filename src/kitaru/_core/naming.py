"""What a module is called, whoever runs it.

The same file run as a script, imported, or given to a worker is the same
module: its name is taken from its file, climbing while an ``__init__.py``
stands beside it (DESIGN.md, section 3).
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from types import ModuleType


@lru_cache(maxsize=4096)
def module_name_of_file(file: str) -> tuple[str, str]:
    """``(dotted name, folder from which that name can be imported)`` of a source file."""
    folder, base = os.path.split(os.path.abspath(file))
    stem = base.split(".", 1)[0]
    parts = [] if stem == "__init__" else [stem]
    while os.path.exists(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        parts.insert(0, package)
        if not package:
            break
    return ".".join(parts), folder


def module_name(module: str) -> str:
    """The lasting name of a loaded module, given its ``__name__`` of today.

    A module without a file (a prompt, ``-c``, a notebook) keeps the name it has.
    """
    return _named(sys.modules.get(module), module)[0]


def import_folder(module: str) -> str | None:
    """The folder from which a loaded module can be imported again; None if it cannot."""
    return _named(sys.modules.get(module), module)[1]


def _named(module: ModuleType | None, name: str) -> tuple[str, str | None]:
    # Not through the module's own attribute access, which a lazy module answers by loading.
    file = object.__getattribute__(module, "__dict__").get("__file__") if module else None
    if not isinstance(file, str) or not file.endswith((".py", ".pyc", ".so")):
        return name, None
    return module_name_of_file(file)


def loaded_module(lasting_name: str) -> ModuleType | None:
    """The module that bears this lasting name, if the program has imported it."""
    module = sys.modules.get(lasting_name)
    if module is not None and module_name(lasting_name) == lasting_name:
        return module
    main = sys.modules.get("__main__")
    if main is not None and module_name("__main__") == lasting_name:
        return main
    for name in tuple(sys.modules):
        # A package imported from above its own root, or as __mp_main__.
        if name.endswith(lasting_name.rpartition(".")[2]) or name == "__mp_main__":
            candidate = sys.modules.get(name)
            if candidate is not None and module_name(name) == lasting_name:
                return candidate
    return module


def shown_name(checkpoint: str, flow_module: str | None) -> str:
    """A checkpoint's name without the module, where that is the flow's own.

    >>> shown_name("shop.charge", "shop"), shown_name("tools.fetch", "shop")
    ('charge', 'tools.fetch')
    """
    prefix = f"{flow_module}."
    return checkpoint[len(prefix) :] if checkpoint.startswith(prefix) else checkpoint
