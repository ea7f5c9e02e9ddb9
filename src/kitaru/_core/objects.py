"""What counts of things that are no data: functions, classes, clients, locks.

Values with an encoding count by it; this file is asked about the rest. Functions
count by their code and what they capture or bind, an object that defines
``__kitaru_key__()`` by what that returns, and everything else is *opaque*: it
counts by its type, and is reported as such. How code is fingerprinted is handed
in; what an opaque object does is nobody's business here.
"""

from __future__ import annotations

import functools
import operator
import types
from collections.abc import Callable, Iterator
from io import IOBase
from typing import Any

from kitaru._core.naming import module_name
from kitaru._core.values import to_tree
from kitaru._core.values.paths import module_of, qualname_of
from kitaru._core.values.shapes import MISSING, class_attribute
from kitaru._core.values.text import TAG
from kitaru.errors import KitaruUsageError

CodeDigest = Callable[[Any], bytes]
"""A function or class -> digest of its code."""

MAX_CAPTURED = 1000
"""Captured variables looked at in one function, through all that it captures."""

_BUILTIN = (
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)
_GETTERS = (operator.itemgetter, operator.attrgetter, operator.methodcaller)
_COUNTED_BY_WRAPPED = (type(functools.lru_cache(len)), staticmethod, classmethod)
_GENERIC = (types.GenericAlias, types.UnionType)


def type_name(cls: type) -> str:
    """The lasting name of a class: the same whether its file is run or imported."""
    return f"{module_name(module_of(cls))}.{qualname_of(cls)}"


def mark(kind: str, *parts: object) -> dict[str, object]:
    """The tree that stands for a thing without an encoding.

    No value encodes to it: no codec's tag begins with a tilde, and a user's dict
    that looks like a tag is written as pairs.
    """
    return {TAG: f"~{kind}", "v": list(parts)}


class Uncoded:
    """Stands in for things without an encoding, and remembers which were opaque.

    An instance serves one digest: hand it to ``to_tree`` as ``fallback``. With
    ``code_digest`` functions and classes count by their code, and what can be read
    only once is refused; without it they count by name, and nothing is refused.
    """

    __slots__ = ("_code_digest", "_open", "_owner", "objects", "opaque", "shown")

    def __init__(self, code_digest: CodeDigest | None, *, owner: str = "") -> None:
        self._code_digest = code_digest
        self._owner = owner
        self._open: dict[int, int] = {}
        self.opaque: list[tuple[str, str]] = []
        self.shown: list[tuple[dict[str, Any], str]] = []
        self.objects: list[object] = []

    def __call__(self, value: Any, path: str) -> object:
        key = id(value)
        if key in self._open:
            # A function that captures itself: its code is already counted.
            return mark("again", self._open[key])
        self._open[key] = len(self._open)
        try:
            return self._tree(value, path)
        finally:
            del self._open[key]

    def show(self, node: dict[str, Any], text: str) -> None:
        """Keep what is to be shown beside a node, and is not to count."""
        self.shown.append((node, text))

    def encode(self, value: object, path: str) -> object:
        """The tree of any value, with stand-ins where it has no encoding."""
        return to_tree(value, fallback=self, drop_defaults=True, path=path, what=self._owner)

    def _tree(self, value: Any, path: str) -> object:
        cls = type(value)
        if _defines(cls, "__kitaru_key__"):
            key = self.encode(value.__kitaru_key__(), f"{path}.__kitaru_key__()")
            return mark("key", type_name(cls), key)
        known_as = _own_attribute(value, "__kitaru_id__")
        if type(known_as) is str:
            return mark("kitaru", known_as, self(value.func, path))
        if _is(value, types.FunctionType):
            return self._function(value, path)
        if _is(value, type):
            return mark("class", type_name(value), self._code(value))
        return self._callable(value, path) or self._thing(value, path)

    def _function(self, fn: types.FunctionType, path: str) -> object:
        if self._code_digest is None:
            code = f"{module_name(fn.__module__)}.{fn.__qualname__}"
        else:
            code = self._code(fn)
        captured = [
            [name, self.encode(value, f"{path}.{name}")] for name, value in _cells(fn).items()
        ]
        # A default is a captured value in disguise: `lambda x, i=i: ...`.
        defaults = [self.encode(value, f"{path} default") for value in fn.__defaults__ or ()]
        by_name = [
            [name, self.encode(value, f"{path}.{name}")]
            for name, value in (fn.__kwdefaults__ or {}).items()
        ]
        return mark("function", code, captured, defaults, by_name)

    def _callable(self, value: Any, path: str) -> object | None:
        if _is(value, types.MethodType):
            bound_to = self.encode(value.__self__, f"{path}.__self__")
            return mark("method", self(value.__func__, path), bound_to)
        if _is(value, functools.partial):
            args = [self.encode(arg, f"{path}.args[{i}]") for i, arg in enumerate(value.args)]
            named = [
                [name, self.encode(arg, f"{path}.{name}")]
                for name, arg in sorted(value.keywords.items())
            ]
            return mark("partial", self(value.func, path), args, named)
        if _is(value, _BUILTIN):
            return self._builtin(value, path)
        if _is(value, _COUNTED_BY_WRAPPED):
            return mark("wrapped", type_name(type(value)), self(value.__wrapped__, path))
        if _is(value, _GETTERS):
            return mark("getter", type_name(type(value)), self.encode(value.__reduce__()[1], path))
        if _is(value, _GENERIC) or module_of(type(value)) == "typing":
            return self._annotation(value, path)
        return None

    def _builtin(self, value: Any, path: str) -> object:
        bound_to = getattr(value, "__self__", None)
        if bound_to is None or isinstance(bound_to, types.ModuleType):
            of = getattr(value, "__objclass__", None)
            where = value.__module__ if of is None else type_name(of)
            return mark("builtin", str(where), value.__qualname__)
        return mark("builtin", value.__qualname__, self.encode(bound_to, f"{path}.__self__"))

    def _annotation(self, value: Any, path: str) -> object:
        # `list[Item]`, `Literal["a"]`: what an output type is often written as.
        args = getattr(value, "__args__", None)
        if not isinstance(args, tuple):
            return mark("typing", repr(value))
        origin = getattr(value, "__origin__", types.UnionType)
        named = [self.encode(arg, f"{path}[{i}]") for i, arg in enumerate(args)]
        return mark("generic", self.encode(origin, path), named)

    def _thing(self, value: Any, path: str) -> object:
        cls = type(value)
        if self._code_digest is not None:
            self._refuse_if_read_once(value, cls, path)
        name = type_name(cls)
        self.opaque.append((path, name))
        self.objects.append(value)
        if _is(value, types.ModuleType):
            return mark("opaque", name, module_name(value.__name__))
        return mark("opaque", name)

    def _code(self, thing: object) -> str:
        return "" if self._code_digest is None else self._code_digest(thing).hex()

    def _refuse_if_read_once(self, value: object, cls: type, path: str) -> None:
        # Files are iterators too, but handed around to be written to: opaque.
        if _is(value, IOBase):
            return
        if _is(value, (types.CoroutineType, types.AsyncGeneratorType)):
            remedy = "await it, or collect it into a list, first"
        elif _defines(cls, "__next__") or _defines(cls, "__anext__"):
            remedy = "pass a list: `list(...)`"
        else:
            return
        raise KitaruUsageError(
            f"argument `{path}`{self._owner and f' of {self._owner}'} is a {cls.__name__}: it can "
            f"be read only once, so it cannot say which call this is; {remedy}",
            code="argument-read-once",
        )


def _is(value: object, kinds: type | tuple[Any, ...]) -> bool:
    # Not isinstance: that believes `__class__`, which proxies lie about and others raise for.
    return issubclass(type(value), kinds)


def _defines(cls: type, name: str) -> bool:
    # Past the metaclass, whose `__getattr__` may answer to any name.
    return class_attribute(cls, name) is not MISSING


def _own_attribute(value: object, name: str) -> object:
    # Past `__getattr__`: proxies answer to any name, some by calling a server.
    try:
        return object.__getattribute__(value, name)
    except Exception:
        return None


def _cells(fn: types.FunctionType) -> dict[str, object]:
    """The variables that a closure captures; one that has no value yet is left out."""
    found: dict[str, object] = {}
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def captured_values(fn: Callable[..., Any]) -> dict[str, object]:
    """The data that a checkpoint's own function captures or binds, by readable names.

    Functions and classes among it count only by the data that they capture in
    turn: their code belongs to the code fingerprint. Otherwise a call would not be
    the same call after a change of code, and nothing could be resumed.
    """
    found: dict[str, object] = {}
    for name, value in _captured(fn, "", set()):
        if len(found) == MAX_CAPTURED:
            break
        found[f"{name} (captured)"] = value
    return found


def _captured(value: Any, name: str, seen: set[int]) -> Iterator[tuple[str, object]]:
    if id(value) in seen:
        return
    prefix = f"{name}." if name else ""
    if _is(value, types.FunctionType):
        seen.add(id(value))
        for cell, content in _cells(value).items():
            yield from _captured(content, f"{prefix}{cell}", seen)
    elif _is(value, types.MethodType):
        yield from _captured(value.__func__, name, seen)
        yield from _captured(value.__self__, f"{prefix}self", seen)
    elif _is(value, functools.partial):
        yield from _captured(value.func, name, seen)
        for index, bound in enumerate(value.args):
            yield from _captured(bound, f"{prefix}args[{index}]", seen)
        for key, bound in value.keywords.items():
            yield from _captured(bound, f"{prefix}{key}", seen)
    elif _is(value, _COUNTED_BY_WRAPPED):
        yield from _captured(value.__wrapped__, name, seen)
    elif type(_own_attribute(value, "__kitaru_id__")) is str:
        yield from _captured(value.func, name, seen)
    elif not _is(value, (type, types.ModuleType, *_BUILTIN)):
        yield name or "self", value
