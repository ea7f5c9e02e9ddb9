"""From a function to everything in the project that its outcome may depend on.

Each function, class and global value becomes a *part*: a lasting name and a
digest of its own code or value together with the labels (``labels.py``) of what
its names are bound to.
Objects are looked at, never asked: nothing here calls a user's code.

Over-approximation is deliberate where it is stable: every attribute name in a
function is tried on every project module that the function uses.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import partial
from types import (
    FunctionType,
    ModuleType,
)
from typing import Any

from kitaru._engine.fingerprint import looks
from kitaru._engine.fingerprint.bytecode import DIGEST_SIZE, Import, Reading
from kitaru._engine.fingerprint.labels import MAX_DEPTH, Labels, digest_of
from kitaru._engine.fingerprint.plain import frame, plain, text
from kitaru._engine.fingerprint.project import Project, lasting_name, package_of
from kitaru._engine.fingerprint.sources import Assigned, changed_since_start, source_of
from kitaru.env import SystemEnv

# A value that cannot be told apart from another one must never seem equal to it.
NEVER_AGAIN = SystemEnv().random_bytes(DIGEST_SIZE)
_OF_EVERY_MODULE = frozenset(
    {
        "__annotations__",
        "__builtins__",
        "__cached__",
        "__doc__",
        "__file__",
        "__loader__",
        "__name__",
        "__package__",
        "__path__",
        "__spec__",
    }
)
_DYNAMIC = frozenset({"eval", "exec", "__import__", "globals", "vars", "import_module"})


class Walk(Labels):
    """One traversal. ``parts`` and ``unseen`` are what it found."""

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        self.bindings: list[tuple[dict[str, Any], str, object]] = []
        """Globals as they were looked up, so that a later rebinding is noticed."""
        self.functions: list[FunctionType] = []
        self.files: dict[str, str] = {}
        """Module, or part where it has no module's file, -> the file with its source."""
        self._parts: dict[str, set[bytes]] = {}
        self._values: dict[tuple[int, str], tuple[dict[str, Any], str, object]] = {}
        self._done: set[tuple[int, str]] = set()
        self._stored: set[tuple[int, str]] = set()

    def run(self) -> dict[str, bytes]:
        """Follow everything that was met so far; the parts by their lasting names."""
        while self._queue or len(self._done) < len(self._values):
            while self._queue:
                self._queue.pop()()
            # Values come last: whether a name is assigned by a function that
            # declares it global is known only when the functions are known.
            for key in [key for key in self._values if key not in self._done]:
                self._done.add(key)
                self._global_value(*self._values[key])
        return {name: digest_of(*sorted(found)) for name, found in sorted(self._parts.items())}

    def add_part(self, name: str, digest: bytes) -> None:
        self._parts.setdefault(name, set()).add(digest)

    # --- parts -----------------------------------------------------------------

    def _function(self, fn: FunctionType, name: str) -> None:
        self.functions.append(fn)
        if not self._note_file(fn.__globals__):
            self.files[name] = fn.__code__.co_filename
        reading = self._read(fn.__code__)
        bound: dict[str, bytes] = {}
        self._bind(fn.__globals__, reading.loads, reading.attributes, bound, name)
        for statement in reading.imports:
            self._import(package_of(fn.__globals__), statement)
        self._stored.update((id(fn.__globals__), stored) for stored in reading.stores)
        self._owner(fn, reading, bound, name)
        pieces = [reading.digest, *self._captured(fn, name)]
        pieces.extend(frame(b"", text(key), label) for key, label in sorted(bound.items()))
        self.add_part(name, digest_of(*pieces))
        self._note_unseen(name, fn, reading)

    def _captured(self, fn: FunctionType, name: str, *, quiet: bool = False) -> Iterable[bytes]:
        for default in fn.__defaults__ or ():
            yield self.label(default, f"a default of {name}", quiet=quiet)
        for key, default in sorted((fn.__kwdefaults__ or {}).items()):
            yield frame(
                b"", text(key), self.label(default, f"default {key!r} of {name}", quiet=quiet)
            )
        for key, value in looks.cells(fn):
            where = f"{key!r}, captured by {name},"
            yield frame(b"cell", text(key), self.label(value, where, quiet=quiet))
        yield self.label(fn.__dict__.get("__wrapped__"), f"what {name} wraps", quiet=quiet)

    def _outside(self, fn: FunctionType, name: str) -> None:
        """A function of somebody else counts by its name, what it captured of ours by itself."""
        if fn.__closure__ or "__wrapped__" in fn.__dict__:
            captured = list(self._captured(fn, name, quiet=True))
            self.add_part(name, digest_of(*captured))

    def _owner(
        self, fn: FunctionType, reading: Reading, bound: dict[str, bytes], name: str
    ) -> None:
        """Methods reach each other through ``self``, which no name in the code resolves."""
        path = fn.__qualname__.split(".")[:-1]
        owner: Any = fn.__globals__.get(path[0]) if path else None
        for step in path[1:]:
            owner = looks.class_dict(owner).get(step) if looks.is_a(owner, type) else None
        if looks.is_a(owner, type):
            for attribute in sorted(reading.attributes):
                found = looks.class_attribute(owner, attribute)
                if found is not None:
                    where = f"{attribute!r} of {looks.name_of(owner)}"
                    bound[f"self.{attribute}"] = self.label(found[0], where)

    def _note_file(self, space: dict[str, Any]) -> bool:
        file = space.get("__file__")
        if not isinstance(file, str) or not file.endswith(".py"):
            return False
        self.files[lasting_name(space)] = file
        return True

    def _class(self, cls: type, name: str, space: dict[str, Any]) -> None:
        self._note_file(space)
        pieces = [frame(b"base", self.label(base, name)) for base in looks.class_bases(cls)]
        pieces.append(self.label(type(cls), name))
        source = None
        for attribute, value in looks.class_members(cls):
            before = self._opaque
            found = self.unseen.copy()
            label = self.label(value, f"{attribute!r} of {name}")
            if self._opaque > before:
                # What cannot be read from the object can be read where it is assigned.
                source = source or source_of(space.get("__file__"))
                path = f"{looks.class_qualname(cls)}.{attribute}"
                assigned = source.assigned(path) if source else None
                if assigned is not None:
                    self.unseen = found
                    label = frame(b"", label, self._assigned(space, assigned, name))
            pieces.append(frame(b"", text(attribute), label))
        self.add_part(name, digest_of(*pieces))

    def _global_value(self, space: dict[str, Any], name: str, value: object) -> None:
        key = f"{lasting_name(space)}.{name}"
        self._note_file(space)
        encoded = None if (id(space), name) in self._stored else plain(value)
        if encoded is None and looks.is_enum_member(value):
            encoded = self.label(value, key)
        if encoded is None:
            encoded = self._by_source(space, name, value, key)
        self.add_part(key, digest_of(encoded))

    def _by_source(self, space: dict[str, Any], name: str, value: object, key: str) -> bytes:
        home, origin, outside = self._origin(space, name, value)
        if outside is not None:
            if outside == "os.environ":
                self.unseen.add(f"{key} reads the environment")
            return frame(b"outside", text(outside))
        file = home.get("__file__")
        before = self._opaque
        unseen = self.unseen.copy()
        live = self.label(value, key)
        source = source_of(file)
        assigned = source.assigned(origin) if source else None
        if assigned is None:
            return self._without_source(value, key, "has no source", unseen)
        if changed_since_start(file):
            if self._opaque > before:
                self.unseen.add(f"the file of {key} changed after this process began")
                return NEVER_AGAIN
            return live
        self.unseen = unseen
        return self._assigned(home, assigned, key)

    def _without_source(self, value: object, key: str, why: str, unseen: set[str]) -> bytes:
        self.unseen = unseen
        named = looks.name_of(type(value))
        self.unseen.add(f"{key} {why}: it counts by its type, {named}")
        return frame(b"opaque", text(named))

    def _assigned(self, space: dict[str, Any], assigned: Assigned, where: str) -> bytes:
        bound: dict[str, bytes] = {}
        self._bind(space, assigned.names, assigned.attributes, bound, where)
        pieces = [frame(b"", text(key), label) for key, label in sorted(bound.items())]
        return frame(b"source", text(assigned.text), *pieces)

    def _origin(
        self, space: dict[str, Any], name: str, value: object
    ) -> tuple[dict[str, Any], str, str | None]:
        """Where a global was assigned, following ``from … import``; or its name outside."""
        for _ in range(MAX_DEPTH):
            source = source_of(space.get("__file__"))
            if source is None or source.assigned(name) is not None:
                break
            for statement, origin in source.imported(name):
                module = sys.modules.get(_absolute(package_of(space), statement))
                if module is not None and module.__dict__.get(origin) is value:
                    if not self.project.covers(module.__dict__):
                        return space, name, f"{lasting_name(module.__dict__)}.{origin}"
                    space, name = module.__dict__, origin
                    break
            else:
                break
        return space, name, None

    # --- names -----------------------------------------------------------------

    def _bind(
        self,
        space: dict[str, Any],
        names: Iterable[str],
        attributes: Iterable[str],
        bound: dict[str, bytes],
        where: str,
    ) -> None:
        for name in sorted(names):
            if name in space and name not in _OF_EVERY_MODULE:
                value = space[name]
                bound[name] = self._global(space, name, value)
                if type(value) is ModuleType:
                    self._attributes(value, attributes, bound, name, where)

    def _attributes(
        self,
        module: ModuleType,
        attributes: Iterable[str],
        bound: dict[str, bytes],
        path: str,
        where: str,
    ) -> None:
        if path.count(".") > 8:
            return
        if module.__name__ == "os" and not {"environ", "getenv"}.isdisjoint(attributes):
            self.unseen.add(f"{where} reads the environment")
        if not self.project.covers(module.__dict__):
            return
        space = module.__dict__
        for attribute in sorted(attributes):
            if attribute in _OF_EVERY_MODULE:
                continue
            if attribute in space:
                value = space[attribute]
                bound[f"{path}.{attribute}"] = self._global(space, attribute, value)
                if type(value) is ModuleType:
                    self._attributes(value, attributes, bound, f"{path}.{attribute}", where)
            elif "__getattr__" in space:
                bound[f"{path}.__getattr__"] = self._global(
                    space, "__getattr__", space["__getattr__"]
                )

    def _global(self, space: dict[str, Any], name: str, value: object) -> bytes:
        self.bindings.append((space, name, value))
        if plain(value) is None:
            label = self._labels.get(id(value)) or self._code_label(value, name, False)
            if label is not None:
                return label
        self._values[id(space), name] = (space, name, value)
        return frame(b"value", text(lasting_name(space)), text(name))

    def _import(self, package: str, statement: Import) -> None:
        """A module imported inside a function counts whole, by its source.

        Never by the loaded module: whether it is loaded depends on what ran
        before, and the same code must have the same fingerprint in every process.
        """
        base = _absolute(package, statement)
        if not statement.names:
            steps = base.split(".")
            candidates = [".".join(steps[: count + 1]) for count in range(len(steps))]
        else:
            candidates = [base, *(f"{base}.{name}" for name in statement.names)]
        for name in candidates:
            if name and name.partition(".")[0] != "kitaru":
                self._imported(name)

    def _imported(self, name: str) -> None:
        if name in self._parts:
            return
        file = self.project.find_source(name)
        source = source_of(file)
        if source is None:
            if name in sys.modules and self.project.covers_name(name):
                self.unseen.add(f"{name}, imported inside a function, has no source")
            return
        self.add_part(name, digest_of(text(source.whole())))
        self.files[name] = str(file)
        if name in sys.modules and changed_since_start(file):
            self.unseen.add(f"the file of {name} changed after this process began")
            self.add_part(name, NEVER_AGAIN)
        is_package = str(file).endswith("__init__.py")
        package = name if is_package else name.rpartition(".")[0]
        for statement in source.imports():
            self._queue.append(partial(self._import, package, statement))

    # --- what cannot be seen -----------------------------------------------------

    def _note_unseen(self, name: str, fn: FunctionType, reading: Reading) -> None:
        if reading.reads and "getattr" not in fn.__globals__:
            self.unseen.add(f"{name} calls getattr with a name that is not written there")
        for used in sorted(_DYNAMIC & (reading.loads | reading.attributes)):
            if used in reading.attributes or used not in fn.__globals__:
                self.unseen.add(f"{name} uses {used}")
        for variable, method in sorted(reading.method_calls):
            if method not in looks.METHODS_OF_BUILTINS and variable not in ("self", "cls"):
                self.unseen.add(f"{name} calls {variable}.{method}(), whatever {variable} is")


def _absolute(package: str, statement: Import) -> str:
    if not statement.level:
        return statement.name
    base = package.split(".")
    base = base[: len(base) - statement.level + 1]
    return ".".join([*base, statement.name] if statement.name else base)
