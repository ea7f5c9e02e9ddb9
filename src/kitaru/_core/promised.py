"""What a return annotation already shows: that the value cannot be stored.

Looks at annotations as they stand and runs nothing: a text is parsed, and its names
are looked up in the namespaces of modules and classes that are loaded, never asked
of a module. Whatever is not certain is no finding: a class that may have storable
subclasses, a union with one storable member, a name that cannot be found.
"""

from __future__ import annotations

import ast
import builtins
import collections
import collections.abc
import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from kitaru._core.values.paths import Path, module_of, mro_of, namespace_of, render, type_name
from kitaru._core.values.refusals import remedy_for_class
from kitaru._core.values.registered import by_class
from kitaru._core.values.shapes import MISSING, default_of, field_annotations, shape_of

MAX_STEPS = 200
"""Parts of an annotation that are looked at: what is longer shows nothing."""

_READ_ONCE = (
    collections.abc.Iterator,
    collections.abc.AsyncIterator,
    collections.abc.Coroutine,
)
_PLAIN = (None, str, int, bool, float, bytes)
_NEVER = (
    type,
    memoryview,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.CodeType,
    types.FrameType,
    types.TracebackType,
)
_NAMES = """
    _thread.lock _thread.RLock threading._RLock threading.Thread threading.Event
    threading.Condition threading.Semaphore threading.BoundedSemaphore threading.Barrier
    socket.socket ssl.SSLSocket ssl.SSLContext _io.TextIOWrapper _io.BufferedReader
    _io.BufferedWriter _io.BufferedRandom _io.FileIO _io.StringIO _io.BytesIO io.IOBase
    io.RawIOBase io.BufferedIOBase io.TextIOBase typing.IO typing.TextIO typing.BinaryIO
    sqlite3.Connection sqlite3.Cursor subprocess.Popen queue.Queue _queue.SimpleQueue
    _asyncio.Task _asyncio.Future asyncio.locks.Lock asyncio.locks.Event
    asyncio.locks.Condition asyncio.locks.Semaphore asyncio.queues.Queue
    concurrent.futures._base.Future concurrent.futures.thread.ThreadPoolExecutor
    concurrent.futures.process.ProcessPoolExecutor weakref.ReferenceType
    _contextvars.ContextVar _contextvars.Context contextvars.ContextVar
    kitaru.futures.CheckpointFuture kitaru.futures.FutureList
    pydantic.types.SecretStr pydantic.types.SecretBytes
"""
_NEVER_BY_NAME = frozenset(_NAMES.split())
_ITEMS = (list, set, frozenset, collections.deque, collections.abc.Sequence, collections.abc.Set)
_MAPPINGS = (
    *(dict, collections.OrderedDict, collections.defaultdict),
    *(collections.abc.Mapping, collections.abc.MutableMapping),
)


class Finding(NamedTuple):
    """What cannot be stored, where in the value it will stand, and what to do."""

    path: str
    kind: str
    remedy: str


def unstorable_return(fn: Any) -> Finding | None:
    """What makes every value that this function is annotated to return impossible to store.

    >>> def open_it(path: str) -> "dict[str, memoryview]": ...
    >>> unstorable_return(open_it)
    Finding(path='$[*]', kind='memoryview', remedy='store bytes(view)')
    """
    # From Python 3.14 on annotations are code that runs when they are asked for. And
    # where a function wraps another, the annotation is that of the other.
    if sys.version_info >= (3, 14) or type(fn) is not types.FunctionType:
        return None
    if "__wrapped__" in fn.__dict__:
        return None
    annotation = fn.__annotations__.get("return", MISSING)
    if annotation is MISSING or _is_one_of(annotation, _PLAIN):
        return None
    return _Look().at(_resolved(annotation, fn.__globals__), "$")


class _Alias(NamedTuple):
    """A parametrised annotation: ``list[int]`` is (list, (int,)), a union has origin ``|``."""

    origin: Any
    arguments: tuple[Any, ...]


_UNKNOWN: Any = object()


class _Look:
    def __init__(self) -> None:
        self._left = MAX_STEPS
        self._open: list[type] = []

    def at(self, annotation: Any, path: Path) -> Finding | None:
        self._left -= 1
        if self._left < 0 or annotation is _UNKNOWN:
            return None
        if type(annotation) is _Alias:
            return self._alias(annotation, path)
        if _is_lock_factory(annotation):
            return Finding(render(path), "threading.Lock", remedy_for_class(type(annotation())))
        if issubclass(type(annotation), type):
            return self._class(annotation, path)
        return None

    def _class(self, cls: type, path: Path) -> Finding | None:
        if cls in by_class:
            return None
        if _is_one_of(cls, _NEVER) or type_name(cls) in _NEVER_BY_NAME or _reads_once(cls):
            return Finding(render(path), type_name(cls), remedy_for_class(cls))
        return self._fields(cls, path)

    def _fields(self, cls: type, path: Path) -> Finding | None:
        """A data class with a field that must be given, and can hold nothing storable."""
        if module_of(cls) in sys.stdlib_module_names or _is_one_of(cls, tuple(self._open)):
            return None
        shape = shape_of(cls)
        if shape is None or shape.kind == "enum":
            return None
        self._open.append(cls)
        try:
            for name, annotation, is_given in field_annotations(cls, shape):
                if not is_given or default_of(cls, shape, name, call_classes=False) is not MISSING:
                    continue
                module = sys.modules.get(module_of(cls))
                found = self.at(_resolved(annotation, _namespace_of_module(module)), (path, name))
                if found is not None:
                    return found
        finally:
            self._open.pop()
        return None

    def _alias(self, alias: _Alias, path: Path) -> Finding | None:
        origin, arguments = alias
        if origin == "|":
            found = [self.at(each, path) for each in arguments]
            return found[0] if found and all(found) else None
        if not issubclass(type(origin), type) or origin in by_class:
            return None
        if origin is tuple:
            return self._tuple(arguments, path)
        if _is_one_of(origin, _MAPPINGS) and len(arguments) == 2:
            return self.at(arguments[0], (path, "<key>")) or self._every(arguments[1], path)
        if _is_one_of(origin, _ITEMS) and len(arguments) == 1:
            return self._every(arguments[0], path)
        return self._class(origin, path)

    def _every(self, annotation: Any, path: Path) -> Finding | None:
        return self.at(annotation, f"{render(path)}[*]")

    def _tuple(self, arguments: tuple[Any, ...], path: Path) -> Finding | None:
        if len(arguments) == 2 and arguments[1] is ...:
            return self._every(arguments[0], path)
        for index, each in enumerate(arguments):
            found = self.at(each, (path, index))
            if found is not None:
                return found
        return None


def _is_one_of(annotation: Any, these: tuple[Any, ...]) -> bool:
    # By identity: to compare classes may be code of a metaclass.
    return any(annotation is each for each in these)


def _reads_once(cls: type) -> bool:
    """Iterators and coroutines as such: a class of one's own may be storable all the same."""
    return module_of(cls) in ("collections.abc", "builtins") and any(
        _is_one_of(base, _READ_ONCE) for base in mro_of(cls)
    )


def _is_lock_factory(annotation: Any) -> bool:
    # `threading.Lock` is a function before Python 3.13, and a common annotation.
    threading = sys.modules.get("threading")
    if threading is None or issubclass(type(annotation), type):
        return False
    return annotation is threading.Lock or annotation is threading.RLock


# --- reading annotations --------------------------------------------------------------------


def _resolved(annotation: Any, namespace: dict[str, Any]) -> Any:
    """Classes as themselves, parametrised ones and unions as :class:`_Alias`."""
    if type(annotation) is str:
        if len(annotation) > 1000:
            return _UNKNOWN
        try:
            node = ast.parse(annotation, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return _UNKNOWN
        return _of_node(node, namespace)
    return _of_object(annotation, namespace, 0)


def _of_object(annotation: Any, namespace: dict[str, Any], depth: int) -> Any:
    if depth > 20:
        return _UNKNOWN
    if type(annotation) is str:
        return _resolved(annotation, namespace)
    if annotation is None or annotation is ... or type(annotation) is type:
        return annotation
    if type(annotation) is types.UnionType:
        return _union(annotation.__args__, namespace, depth)
    if type(annotation) is types.GenericAlias or module_of(type(annotation)) == "typing":
        return _of_typing(annotation, namespace, depth)
    return annotation


def _union(arguments: Any, namespace: dict[str, Any], depth: int) -> _Alias:
    return _Alias("|", tuple(_of_object(each, namespace, depth + 1) for each in arguments))


def _of_typing(annotation: Any, namespace: dict[str, Any], depth: int) -> Any:
    typing = sys.modules["typing"]
    if type(annotation) is typing.ForwardRef:
        return _resolved(annotation.__forward_arg__, namespace)
    if type(annotation) is typing.NewType:
        return _of_object(annotation.__supertype__, namespace, depth + 1)
    state = _state_of(annotation)
    origin, arguments = state.get("__origin__"), state.get("__args__")
    if type(annotation) is types.GenericAlias:
        origin, arguments = annotation.__origin__, annotation.__args__
    if origin is typing.Union:
        return _union(arguments, namespace, depth)
    if type(annotation) is typing._AnnotatedAlias:
        return _of_object(origin, namespace, depth + 1)
    if not issubclass(type(origin), type):
        return _UNKNOWN
    if type(arguments) is not tuple:
        return origin
    return _Alias(origin, tuple(_of_object(each, namespace, depth + 1) for each in arguments))


def _state_of(annotation: Any) -> dict[str, Any]:
    try:
        state = object.__getattribute__(annotation, "__dict__")
    except AttributeError:
        return {}
    return state if type(state) is dict else {}


def _of_node(node: ast.expr, namespace: dict[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        value = node.value
        return _resolved(value, namespace) if value is None or type(value) is str else _UNKNOWN
    if isinstance(node, (ast.Name, ast.Attribute)):
        found = _looked_up(node, namespace)
        return _UNKNOWN if found is _UNKNOWN else _of_object(found, namespace, 0)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _Alias("|", (_of_node(node.left, namespace), _of_node(node.right, namespace)))
    if isinstance(node, ast.Subscript):
        return _of_subscript(node, namespace)
    return _UNKNOWN


def _of_subscript(node: ast.Subscript, namespace: dict[str, Any]) -> Any:
    generic = _looked_up(node.value, namespace)
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if _is_special(generic, "Annotated"):
        return _of_node(inner[0], namespace)
    if _is_special(generic, "Optional") or _is_special(generic, "Union"):
        members = tuple(_of_node(each, namespace) for each in inner)
        return _Alias("|", (*members, None) if _is_special(generic, "Optional") else members)
    origin = _state_of(generic).get("__origin__", generic)  # typing.List is an alias of list
    if not issubclass(type(origin), type):
        return _UNKNOWN
    return _Alias(origin, tuple(_argument(each, namespace) for each in inner))


def _argument(node: ast.expr, namespace: dict[str, Any]) -> Any:
    is_ellipsis = isinstance(node, ast.Constant) and node.value is ...
    return ... if is_ellipsis else _of_node(node, namespace)


def _is_special(generic: Any, name: str) -> bool:
    typing = sys.modules.get("typing")
    return typing is not None and generic is getattr(typing, name)


def _looked_up(node: ast.expr, namespace: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        if node.id in namespace:
            return namespace[node.id]
        return builtins.__dict__.get(node.id, _UNKNOWN)
    if not isinstance(node, ast.Attribute):
        return _UNKNOWN
    holder = _looked_up(node.value, namespace)
    if issubclass(type(holder), types.ModuleType):
        return _namespace_of_module(holder).get(node.attr, _UNKNOWN)
    if issubclass(type(holder), type):
        return _first_in(mro_of(holder), node.attr)
    return _UNKNOWN


def _first_in(classes: tuple[type, ...], name: str) -> Any:
    spaces: Iterator[dict[str, Any]] = (namespace_of(cls) for cls in classes)
    return next((space[name] for space in spaces if name in space), _UNKNOWN)


def _namespace_of_module(module: Any) -> dict[str, Any]:
    if not issubclass(type(module), types.ModuleType):
        return {}
    # Past the module's own __getattribute__: a lazy module would import itself.
    namespace: dict[str, Any] = object.__getattribute__(module, "__dict__")
    return namespace
