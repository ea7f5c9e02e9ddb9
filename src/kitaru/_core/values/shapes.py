"""What a class consists of: its kind, its fields, and where an object keeps its state.

Reading and rebuilding go through ``__dict__`` and slots, never through
``__init__``, ``__setattr__`` or properties, so that neither runs user code.
Only data classes have a shape: dataclasses, pydantic models, attrs classes,
named tuples and enums.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import cached_property
from hashlib import blake2b
from types import FunctionType, GenericAlias, MemberDescriptorType, UnionType
from typing import Any, NamedTuple

from kitaru._core.values.classes import name_of
from kitaru._core.values.paths import module_of, mro_of, namespace_of, qualname_of, type_name

MISSING: Any = object()
"""No default, or no such attribute."""

_BUILTIN_STATE = (int, float, complex, str, bytes, bytearray, list, dict, set, frozenset, tuple)
_PLAIN_FACTORIES = (list, dict, set, frozenset, tuple, str, int, float, bool, bytes)
_MAX_ANNOTATION_DEPTH = 20
_NOT_STATE = frozenset({"__weakref__", "_attrs_cached_hash", "__orig_class__"})
"""Not what an object consists of; the last is what ``Box[int](…)`` leaves behind."""


class Shape(NamedTuple):
    """How objects of one class are taken apart.

    ``fingerprint`` stands for the names of the fields, so that a changed class
    is noticed. ``slots`` are the members that live outside ``__dict__``.
    """

    kind: str
    name: str
    fields: tuple[str, ...]
    fingerprint: str
    slots: tuple[tuple[str, Any], ...]
    derived: frozenset[str]
    """Names in ``__dict__`` that are computed from the others again: cached properties."""


_shapes: dict[int, tuple[Any, Shape | None]] = {}


def shape_of(cls: type) -> Shape | None:
    """The shape of a data class; None for every other class."""
    # Keyed by id: a metaclass's __hash__ would be user code.
    known = _shapes.get(id(cls))
    if known is not None and known[0]() is cls:
        return known[1]
    shape = _find_shape(cls)
    key = id(cls)
    _shapes[key] = weakref.ref(cls, lambda _: _shapes.pop(key, None)), shape
    return shape


def _find_shape(cls: type) -> Shape | None:
    found = _kind_and_fields(cls)
    if found is None:
        return None
    kind, fields = found
    shape = Shape(kind, name_of(cls), fields, "", slots_of(cls), _derived(cls))
    return shape._replace(fingerprint=_fingerprint(cls, shape))


def _kind_and_fields(cls: type) -> tuple[str, tuple[str, ...]] | None:
    if issubclass(cls, Enum):
        return "enum", ()
    if issubclass(cls, tuple):
        fields = class_attribute(cls, "_fields")
        named = type(fields) is tuple and all(type(name) is str for name in fields)
        return ("namedtuple", fields) if named else None
    if issubclass(cls, (*_BUILTIN_STATE, BaseException, type)):
        return None
    if is_pydantic(cls):
        return "pydantic", tuple(class_attribute(cls, "__pydantic_fields__"))
    if class_attribute(cls, "__dataclass_fields__") is not MISSING:
        return "dataclass", tuple(dataclass_fields(cls))
    attributes = class_attribute(cls, "__attrs_attrs__")
    if isinstance(attributes, tuple):
        return "attrs", tuple(attribute.name for attribute in attributes)
    return None


def is_pydantic(cls: type) -> bool:
    """Whether this is a pydantic model; False at no cost while pydantic is not in use."""
    module = sys.modules.get("pydantic.main")
    base = None if module is None else module.__dict__.get("BaseModel")
    return base is not None and base is not cls and any(base is each for each in mro_of(cls))


def class_attribute(cls: type, name: str) -> Any:
    """A class attribute as it stands in some ``__dict__``, or ``MISSING``."""
    for base in mro_of(cls):
        namespace = namespace_of(base)
        if name in namespace:
            return namespace[name]
    return MISSING


def dataclass_fields(cls: type) -> dict[str, Any]:
    """The fields of a dataclass, without ``ClassVar`` and ``InitVar``."""
    fields = class_attribute(cls, "__dataclass_fields__")
    real = sys.modules["dataclasses"].__dict__["_FIELD"]
    return {name: field for name, field in fields.items() if field._field_type is real}


def field_annotations(cls: type, shape: Shape) -> Iterator[tuple[str, Any, bool]]:
    """The fields, each with its annotation as it stands, and whether ``__init__`` takes it."""
    if shape.kind == "pydantic":
        for name, field in class_attribute(cls, "__pydantic_fields__").items():
            yield name, field.annotation, True
    elif shape.kind == "dataclass":
        for name, field in dataclass_fields(cls).items():
            yield name, field.type, field.init
    elif shape.kind == "attrs":
        for attribute in class_attribute(cls, "__attrs_attrs__"):
            yield attribute.name, attribute.type, attribute.init
    elif shape.kind == "namedtuple":
        annotations = class_attribute(cls, "__annotations__")
        if type(annotations) is dict:
            yield from ((name, annotations.get(name), True) for name in shape.fields)


def _fingerprint(cls: type, shape: Shape) -> str:
    """``names.types``: two digests, so that a class with new annotations only is known as such."""
    types = [annotation_text(annotation) for _, annotation, _ in field_annotations(cls, shape)]
    return f"{_short_digest(shape.fields)}.{_short_digest(types)}"


def _short_digest(texts: Sequence[str]) -> str:
    return blake2b("\0".join(texts).encode("utf-8", "replace"), digest_size=4).hexdigest()


def annotation_text(annotation: Any, depth: int = 0) -> str:
    """An annotation as a text, without asking it for one: that may be code of a metaclass."""
    if type_name(type(annotation)) == "typing.ForwardRef":
        annotation = object.__getattribute__(annotation, "__forward_arg__")
    if type(annotation) is str:
        return annotation.replace(" ", "")
    if type(annotation) is GenericAlias or type(annotation) is UnionType:
        origin = annotation.__origin__ if type(annotation) is GenericAlias else None
        arguments: Any = annotation.__args__
    elif issubclass(type(annotation), type):
        return qualname_of(annotation)
    else:
        state = namespace_of_object(annotation) or {}
        origin, arguments = state.get("__origin__"), state.get("__args__")
    if type(arguments) is tuple and depth < _MAX_ANNOTATION_DEPTH:
        inner = ",".join(annotation_text(each, depth + 1) for each in arguments)
        return f"{annotation_text(origin, depth + 1)}[{inner}]"
    if type(annotation) is int or type(annotation) is bool:
        return repr(annotation)  # in a Literal
    # None, TypeVars, special forms: what they are is enough to notice most changes.
    kind: Any = type(annotation)
    return type_name(kind)


def slots_of(cls: type) -> tuple[tuple[str, Any], ...]:
    """The members that objects of this class keep in slots, those of C classes included."""
    found: dict[str, Any] = {}
    for base in mro_of(cls):
        if base is BaseException or base is object:
            continue
        for name, member in namespace_of(base).items():
            if type(member) is MemberDescriptorType and name not in found:
                found[name] = member
    for name in _NOT_STATE:
        found.pop(name, None)
    return tuple(found.items())


def _derived(cls: type) -> frozenset[str]:
    return frozenset(
        name
        for base in mro_of(cls)
        for name, member in namespace_of(base).items()
        if isinstance(member, cached_property)
    )


def namespace_of_object(value: object) -> dict[str, Any] | None:
    """The object's ``__dict__``, if it has one."""
    try:
        namespace = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return namespace if type(namespace) is dict else None


def state_of(value: object, shape: Shape) -> dict[str, Any]:
    """All that an object holds, by name: fields first and in their order."""
    state: dict[str, Any] = {}
    for name, member in shape.slots:
        try:
            state[name] = member.__get__(value)
        except AttributeError:
            continue
    for name, item in (namespace_of_object(value) or {}).items():
        if name not in shape.derived and name not in _NOT_STATE:
            state[name] = item
    return state


def set_state(value: object, shape: Shape, state: dict[str, Any]) -> None:
    """Put ``state`` into a bare object; ``AttributeError`` if it has no place for a name."""
    slots = dict(shape.slots)
    rest = {name: item for name, item in state.items() if name not in slots}
    for name, item in state.items():
        if name in slots:
            slots[name].__set__(value, item)
    if not rest:
        return
    namespace = namespace_of_object(value)
    if namespace is None:
        raise AttributeError(", ".join(rest))
    namespace.update(rest)


def forget_hash(value: object, cls: type) -> None:
    """Let an attrs object that keeps its hash know that it has none yet."""
    slot = class_attribute(cls, "_attrs_cached_hash")
    if type(slot) is MemberDescriptorType:
        slot.__set__(value, None)
        return
    code = getattr(class_attribute(cls, "__hash__"), "__code__", None)
    namespace = namespace_of_object(value)
    if code is not None and "_attrs_cached_hash" in code.co_names and namespace is not None:
        namespace["_attrs_cached_hash"] = None


def default_of(cls: type, shape: Shape, name: str, *, call_classes: bool) -> Any:
    """The default of a field, or ``MISSING``.

    A factory is called only where that cannot do anything: builtin containers
    and functions that name nothing, such as ``lambda: ["a"]``; data classes
    too, whose ``__init__`` may be user code, with ``call_classes``.
    """
    if shape.kind == "namedtuple":
        return class_attribute(cls, "_field_defaults").get(name, MISSING)
    if shape.kind == "pydantic":
        return _default_of_model_field(
            class_attribute(cls, "__pydantic_fields__")[name], call_classes
        )
    if shape.kind == "dataclass":
        validated = class_attribute(cls, "__pydantic_fields__")
        if type(validated) is dict and name in validated:  # a dataclass of pydantic's
            return _default_of_model_field(validated[name], call_classes)
        field = dataclass_fields(cls)[name]
        absent = sys.modules["dataclasses"].__dict__["MISSING"]
        if field.default is not absent:
            return field.default
        factory = field.default_factory
        return MISSING if factory is absent else made_by(factory, call_classes)
    return _default_of_attribute(cls, name, call_classes)


def _default_of_model_field(field: Any, call_classes: bool) -> Any:
    if field.default_factory is not None:
        return made_by(field.default_factory, call_classes)
    return MISSING if field.is_required() else field.default


def _default_of_attribute(cls: type, name: str, call_classes: bool) -> Any:
    for attribute in class_attribute(cls, "__attrs_attrs__"):
        if attribute.name == name:
            default = attribute.default
            if type(default).__name__ == "Factory":
                return MISSING if default.takes_self else made_by(default.factory, call_classes)
            return MISSING if type(default).__name__ == "_Nothing" else default
    return MISSING


def made_by(factory: Any, call_classes: bool) -> Any:
    """What a harmless factory makes; ``MISSING`` for every other one."""
    harmless = (
        factory in _PLAIN_FACTORIES or (call_classes and shape_of(factory) is not None)
        if issubclass(type(factory), type)
        else _names_nothing(factory)
    )
    if not harmless:
        return MISSING
    try:
        return factory()
    except Exception:
        return MISSING


def _names_nothing(factory: Any) -> bool:
    if type(factory) is not FunctionType:
        return False
    code = factory.__code__
    return not code.co_names and not code.co_freevars and code.co_argcount == 0


def base_of(cls: type) -> str:
    """Why a class has no shape although it looks like plain data: the builtin it derives from."""
    for base in mro_of(cls):
        if base in _BUILTIN_STATE and module_of(base) == "builtins":
            return base.__name__
    return ""
