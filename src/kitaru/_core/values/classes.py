"""Finding a class by its recorded name, without importing or running anything.

A name is looked up among the classes that the caller's annotations mention,
those this process has stored values of, and the modules that the program has
imported, in this order, and only ever through ``__dict__``: a module's
``__getattr__`` is user code. What a class must be to be rebuilt is said in
``shapes.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from threading import get_ident
from types import ModuleType
from typing import Any
from weakref import WeakValueDictionary

from kitaru._core.naming import loaded_module, module_name
from kitaru._core.values.paths import module_of, mro_of, namespace_of, qualname_of

MAX_ANNOTATION_CLASSES = 1000

_MAX_FRESH = 1000

FRESH: list[tuple[int, type]] = []
"""(thread, class) for each class that was met for the first time, until somebody asks."""

_stored: WeakValueDictionary[str, type] = WeakValueDictionary()


def name_of(cls: type) -> str:
    """``module:qualname``, the module by its lasting name.

    >>> name_of(int)
    'builtins:int'
    """
    return f"{module_name(module_of(cls))}:{qualname_of(cls)}"


def remember_class(name: str, cls: type) -> None:
    """Let ``find_class`` find a class that no module holds, such as one made in a function."""
    if _stored.get(name) is not cls:
        _stored[name] = cls
        meet(cls)


def meet(cls: type) -> None:
    """Note that values of this class are stored for the first time."""
    if len(FRESH) < _MAX_FRESH:
        FRESH.append((get_ident(), cls))


def take_fresh() -> list[type]:
    """The classes that this thread has met for the first time since it last asked."""
    me = get_ident()
    mine = [entry for entry in FRESH if entry[0] == me]
    for entry in mine:
        FRESH.remove(entry)
    return [cls for _, cls in mine]


def find_class(module: str, qualname: str, hints: Sequence[type] = ()) -> type | None:
    """The loaded class of this lasting module and qualified name, or None.

    >>> find_class("kitaru.errors", "KitaruError").__name__
    'KitaruError'
    >>> find_class("decimal_of_nobody", "Decimal") is None
    True
    """
    name = f"{module}:{qualname}"
    for hint in hints:
        if qualname_of(hint) == qualname and name_of(hint) == name:
            return hint
    stored = _stored.get(name)
    if stored is not None and _is_current(stored, qualname):
        return stored
    return _class_in_module(module, qualname) or stored


def _is_current(cls: type, qualname: str) -> bool:
    """Whether a module still holds this very class: after a reload it holds another.

    A file that is both ``__main__`` and imported has two classes of one name,
    and both are current: then the one that was stored last is meant.
    """
    return _walk(_namespace(sys.modules.get(module_of(cls))), qualname) is cls


def _namespace(module: ModuleType | None) -> dict[str, Any]:
    if module is None or not issubclass(type(module), ModuleType):
        return {}
    # Past the module's own __getattribute__: a lazy module would import itself.
    namespace: dict[str, Any] = object.__getattribute__(module, "__dict__")
    return namespace


def _class_in_module(module: str, qualname: str) -> type | None:
    namespace = _namespace(loaded_module(module))
    generic, bracket, _ = qualname.partition("[")
    found = _walk(namespace, generic)
    if found is None or not bracket:
        return found
    return _parametrised(found, qualname)


def _walk(namespace: Any, qualname: str) -> type | None:
    found: Any = None
    for part in qualname.split("."):
        found = namespace.get(part)
        if not issubclass(type(found), type):
            return None
        namespace = namespace_of(found)
    cls: type | None = found
    return cls


def _parametrised(generic: type, qualname: str) -> type | None:
    """``Box[int]``, which pydantic makes as a subclass of ``Box`` that no module holds."""
    subclasses: list[type] = type.__subclasses__(generic)
    found = [cls for cls in subclasses if qualname_of(cls) == qualname]
    return found[0] if len(found) == 1 else None


def classes_in(annotation: object) -> tuple[type, ...]:
    """The classes that an annotation mentions, and those that their fields mention.

    ``Optional``, unions, lists, aliases and the like are looked through; names
    that are still text are skipped.

    >>> classes_in(list[int | None])
    (<class 'list'>, <class 'int'>, <class 'NoneType'>)
    """
    found: dict[int, type] = {}
    waiting: list[Any] = [annotation]
    seen: set[int] = set()
    kept: list[Any] = []
    while waiting and len(seen) < MAX_ANNOTATION_CLASSES:
        item = waiting.pop(0)
        if id(item) in seen:
            continue
        seen.add(id(item))
        kept.append(item)  # an id is only good while its object lives
        if issubclass(type(item), type):
            found[id(item)] = item
            waiting.extend(_field_types(item))
        else:
            waiting.extend(_inside(item))
    return tuple(found.values())


def _inside(item: Any) -> Iterator[Any]:
    for name in ("__origin__", "__args__", "__supertype__", "__bound__"):
        try:
            inner = object.__getattribute__(item, name)
        except AttributeError:
            continue
        if isinstance(inner, (tuple, list)):
            yield from inner
        elif inner is not None:
            yield inner


def _field_types(cls: type) -> Iterator[Any]:
    """What the annotations of a class say, for classes that are not somebody else's library."""
    if module_of(cls) in sys.stdlib_module_names:
        return
    for base in mro_of(cls):
        annotations = namespace_of(base).get("__annotations__")
        if isinstance(annotations, dict):
            yield from (a for a in annotations.values() if not isinstance(a, str))
        fields = namespace_of(base).get("__pydantic_fields__")
        if isinstance(fields, dict):
            yield from (getattr(field, "annotation", None) for field in fields.values())
