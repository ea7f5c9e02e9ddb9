"""Which modules are the user's project, and where their source files are.

The project is the top-level package of the checkpoint's module, wherever it is
installed, and every module whose file lies under the root; what is installed
below the root (site-packages, virtual environments, Python itself) is not.
Decided from names and files alone: nothing is imported.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

from kitaru._core.naming import module_name, module_name_of_file

# Where Python's own modules are: `sysconfig` knows it too, at a millisecond's cost.
_PYTHON = os.path.join(os.path.realpath(os.path.dirname(os.__file__)), "")
_INSTALLED = frozenset({"site-packages", "dist-packages", "node_modules", "__pypackages__"})


class Project:
    """What belongs together with the module whose globals are given."""

    def __init__(self, root: str | None, home: dict[str, Any]) -> None:
        self.root = os.path.join(os.path.realpath(root), "") if root else None
        self.home = home
        self._covered: dict[str, bool] = {}
        name = _string(home.get("__name__"))
        lasting = lasting_name(home)
        self._tops = {lasting.partition(".")[0]}
        if "." in name:
            # A namespace package has no `__init__.py` for the lasting name to climb by.
            self._tops.add(name.partition(".")[0])
        self._tops.discard("kitaru")

    def covers(self, space: dict[str, Any]) -> bool:
        """Whether the module with these globals is part of the project."""
        return space is self.home or self.covers_name(_string(space.get("__name__")))

    def covers_name(self, name: str) -> bool:
        """The same for a module by its name of today; one not imported is not covered."""
        known = self._covered.get(name)
        if known is None:
            known = self._covered[name] = self._decide(name)
        return known

    def _decide(self, name: str) -> bool:
        module = sys.modules.get(name)
        if not isinstance(module, ModuleType):
            return False
        if module.__dict__ is self.home:
            return True
        lasting = module_name(name)
        tops = {lasting.partition(".")[0], name.partition(".")[0]}
        if "kitaru" in tops:
            return False
        file = module.__dict__.get("__file__")
        return bool(tops & self._tops) or (isinstance(file, str) and self.has_file(file))

    def has_file(self, file: str) -> bool:
        """Whether a file lies under the root and is not something installed there."""
        path = os.path.realpath(file)
        if self.root is None or not path.startswith(self.root) or path.startswith(_PYTHON):
            return False
        folder = os.path.dirname(path)
        while len(folder) >= len(self.root) - 1:
            if os.path.basename(folder) in _INSTALLED:
                return False
            if os.path.exists(os.path.join(folder, "pyvenv.cfg")):
                return False
            folder, before = os.path.dirname(folder), folder
            if folder == before:
                break
        return True

    def find_source(self, name: str) -> str | None:
        """The source file of a project module that may not be imported yet."""
        module = sys.modules.get(name)
        if module is not None:
            file = getattr(module, "__dict__", {}).get("__file__")
            found = file if isinstance(file, str) else None
            return found if found and found.endswith(".py") and self.covers_name(name) else None
        parts = name.split(".")
        for folder in self._folders():
            for tail in ((*parts[:-1], f"{parts[-1]}.py"), (*parts, "__init__.py")):
                path = os.path.join(folder, *tail)
                if os.path.isfile(path) and (parts[0] in self._tops or self.has_file(path)):
                    return path
        return None

    def _folders(self) -> list[str]:
        file = self.home.get("__file__")
        own = [module_name_of_file(file)[1]] if isinstance(file, str) else []
        roots = [self.root] if self.root else []
        return own + roots + [path for path in sys.path if path]


def lasting_name(space: dict[str, Any]) -> str:
    """The lasting name of the module that has these globals."""
    name = _string(space.get("__name__"))
    module = sys.modules.get(name)
    if module is not None and getattr(module, "__dict__", None) is space:
        return module_name(name)
    file = space.get("__file__")
    if isinstance(file, str) and file.endswith(".py"):
        return module_name_of_file(file)[0]
    return name


def package_of(space: dict[str, Any]) -> str:
    """What a relative import in that module counts from."""
    package = space.get("__package__")
    if isinstance(package, str) and package:
        return package
    name = lasting_name(space)
    return name if "__path__" in space else name.rpartition(".")[0]


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
