"""What stands for a value, a function or a class where a name is bound to it.

The bytes of a value if it is immutable, the name of a part if it is code, and else what
can be read of its contents. A label never depends on the order in which things are met.
Objects are looked at, never asked: nothing here calls a user's code.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from functools import partial
from hashlib import blake2b
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any

from kitaru._engine.fingerprint import looks
from kitaru._engine.fingerprint.bytecode import DIGEST_SIZE, Reading, read
from kitaru._engine.fingerprint.plain import frame, module_of, plain, text
from kitaru._engine.fingerprint.project import Project, lasting_name

_MAX_ITEMS = 10_000
MAX_DEPTH = 50


def digest_of(*pieces: bytes) -> bytes:
    return blake2b(frame(b"", *pieces), digest_size=DIGEST_SIZE).digest()


class Labels(ABC):
    """What labels have in common: what was met, what is remembered of it, what could not be read.

    What it meets for the first time it puts in line; who walks makes parts of it.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.unseen: set[str] = set()
        self._labels: dict[int, bytes] = {}
        self._containers: dict[int, tuple[bytes, int]] = {}
        self._kept: list[object] = []
        self._readings: dict[int, Reading] = {}
        self._queue: list[partial[None]] = []
        self._open: set[int] = set()
        self._opaque = 0

    @abstractmethod
    def _function(self, fn: FunctionType, name: str) -> None:
        """Make a part of a function of the project."""

    @abstractmethod
    def _outside(self, fn: FunctionType, name: str) -> None:
        """Make a part of what a function of somebody else has captured."""

    @abstractmethod
    def _class(self, cls: type, name: str, space: dict[str, Any]) -> None:
        """Make a part of a class of the project."""

    def label(self, value: object, where: str, *, quiet: bool = False) -> bytes:
        """What stands for a value: its bytes if immutable, the name of its part if it is code.

        ``where`` is how ``unseen`` calls it; ``quiet`` leaves it out of there.
        """
        encoded = plain(value)
        if encoded is not None:
            return encoded
        known = self._labels.get(id(value))
        if known is not None:
            return known
        if id(value) in self._open or len(self._open) > MAX_DEPTH:
            return b"cycle"
        self._open.add(id(value))
        try:
            return self._code_label(value, where, quiet) or self._contents(value, where, quiet)
        finally:
            self._open.discard(id(value))

    def _keep(self, value: object, label: bytes) -> bytes:
        # Kept alive, or another object could take over the id and with it the label.
        self._kept.append(value)
        self._labels[id(value)] = label
        return label

    def _code_label(self, value: Any, where: str, quiet: bool) -> bytes | None:
        kind = type(value)
        if kind is FunctionType:
            return self._function_label(value)
        if looks.is_a(value, type):
            return self._class_label(value)
        if kind is ModuleType:
            return frame(b"module", text(lasting_name(value.__dict__)))
        if kind is MethodType:
            function, owner = value.__func__, value.__self__
            return frame(b"method", self.label(function, where), self.label(owner, where))
        if issubclass(kind, partial):
            return self._partial_label(value, where)
        if kind in (staticmethod, classmethod):
            return frame(text(kind.__name__), self.label(value.__func__, where))
        if kind is property:
            pieces = [self.label(f, where) for f in (value.fget, value.fset, value.fdel)]
            return frame(b"property", *pieces)
        if kind in looks.BUILTIN_CALLABLES:
            return self._builtin_label(value)
        if kind is CodeType:
            return frame(b"code", self._read(value).digest)
        inner = looks.kitaru_function(value)
        if inner is not None:
            return frame(b"decorated", self.label(inner, where))
        return None

    def _function_label(self, fn: FunctionType) -> bytes:
        name = f"{lasting_name(fn.__globals__)}.{fn.__qualname__}"
        own = self.project.covers(fn.__globals__)
        tag = b"function" if own else b"outside"
        wrapped = fn.__dict__.get("__wrapped__")
        if fn.__closure__ or wrapped is not None or "<" in fn.__qualname__:
            # Many functions may bear this name: what they capture tells them apart.
            label = frame(tag, text(name), self._shallow(fn, wrapped))
        else:
            label = frame(tag, text(name))
        self._keep(fn, label)
        self._queue.append(partial(self._function if own else self._outside, fn, name))
        return label

    def _shallow(self, fn: FunctionType, wrapped: object) -> bytes:
        pieces = [self._read(fn.__code__).digest]
        for value in (*(value for _, value in looks.cells(fn)), fn.__defaults__, wrapped):
            piece = plain(value)
            pieces.append(piece if piece is not None else text(looks.name_of(value)))
        return digest_of(*pieces)

    def _class_label(self, cls: type) -> bytes:
        space = self._class_space(cls)
        qualname = looks.class_qualname(cls)
        if space is None or not self.project.covers(space):
            return self._keep(cls, frame(b"outside", text(looks.name_of(cls))))
        name = f"{lasting_name(space)}.{qualname}"
        label = self._keep(cls, frame(b"class", text(name)))
        self._queue.append(partial(self._class, cls, name, space))
        return label

    def _class_space(self, cls: type) -> dict[str, Any] | None:
        module = looks.class_dict(cls).get("__module__")
        if module == self.project.home.get("__name__"):
            return self.project.home
        found = sys.modules.get(module) if isinstance(module, str) else None
        return found.__dict__ if isinstance(found, ModuleType) else None

    def _partial_label(self, value: Any, where: str) -> bytes:
        function, args, keywords = looks.partial_pieces(value)
        bound = [self.label(arg, where) for arg in args]
        named = [frame(b"", text(str(k)), self.label(v, where)) for k, v in keywords.items()]
        return frame(b"partial", self.label(function, where), *bound, *sorted(named))

    def _builtin_label(self, value: Any) -> bytes:
        name = looks.name_of(value)
        bindable = type(value) in (BuiltinFunctionType, MethodWrapperType)
        home = value.__self__ if bindable else None
        if isinstance(home, ModuleType) and self.project.covers(home.__dict__):
            self.unseen.add(f"{name} is compiled: its code is not read")
        if home is None or isinstance(home, ModuleType):
            return frame(b"builtin", text(name))
        bound = plain(home) or text(looks.name_of(home))
        return frame(b"bound", text(name), bound)

    # --- contents: values that are neither immutable nor code -----------------

    def _contents(self, value: Any, where: str, quiet: bool) -> bytes:
        kind = type(value)
        named = text(looks.name_of(kind))
        if kind in (list, set, dict) or looks.is_a(value, tuple, frozenset):
            return self._container_label(value, named, where, quiet)
        base = looks.plain_base(value)
        if base is not None:
            return frame(b"based", self.label(kind, where), base)
        fields = looks.fields_of(value)
        if fields is not None:
            pieces = [frame(b"", text(k), self.label(v, where, quiet=quiet)) for k, v in fields]
            return frame(b"fields", self.label(kind, where), *pieces)
        generic = looks.generic_pieces(value)
        if generic is not None:
            pieces = [self.label(piece, where, quiet=quiet) for piece in generic]
            return frame(b"generic", named, *pieces)
        return self._opaque_label(value, where, quiet)

    def _container_label(self, value: Any, named: bytes, where: str, quiet: bool) -> bytes:
        # Remembered: a list that holds the same list twice, and so on 50 levels
        # deep, would otherwise be read 2**50 times.
        known = self._containers.get(id(value))
        if known is None:
            before = self._opaque
            label = digest_of(named, *self._items(value, where, quiet))
            known = self._containers[id(value)] = (label, self._opaque - before)
            self._kept.append(value)
            return label
        self._opaque += known[1]
        return known[0]

    def _opaque_label(self, value: Any, where: str, quiet: bool) -> bytes:
        kind = type(value)
        held = [
            frame(b"", text(name), self.label(code, where, quiet=True))
            for name, code in looks.callables_in(value)
        ]
        if not held and not quiet and module_of(kind) not in looks.QUIET_MODULES:
            self._opaque += 1
            self.unseen.add(f"{where} is a {looks.name_of(kind)}: it counts by its type only")
        return frame(b"opaque", self.label(kind, where), *held)

    def _items(self, value: Any, where: str, quiet: bool) -> list[bytes]:
        pieces: list[bytes] = []
        for item in looks.items_of(value, _MAX_ITEMS):
            if type(item) is looks.Pair:
                key, held = (self.label(part, where, quiet=quiet) for part in item)
                pieces.append(frame(b"", key, held))
            else:
                pieces.append(self.label(item, where, quiet=quiet))
        if len(pieces) >= _MAX_ITEMS:
            self.unseen.add(f"{where} has more than {_MAX_ITEMS:,} items: the rest is not read")
        return sorted(pieces) if looks.is_a(value, set, frozenset) else pieces

    def _read(self, code: CodeType) -> Reading:
        found = self._readings.get(id(code))
        if found is None:
            found = self._readings[id(code)] = read(code)
            self._kept.append(code)
        return found
