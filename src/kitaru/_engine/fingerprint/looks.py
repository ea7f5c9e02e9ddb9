"""Looking at objects without running a line of their code.

``getattr`` may call a property or ``__getattr__``; here everything is read from
instance and class dictionaries and through the descriptors of built-in types.
This file decides nothing: it only says what an object holds.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from kitaru._engine.fingerprint.plain import module_of, plain

BUILTIN_CALLABLES = frozenset(
    {
        types.BuiltinFunctionType,
        types.WrapperDescriptorType,
        types.MethodWrapperType,
        types.MethodDescriptorType,
        types.ClassMethodDescriptorType,
        types.GetSetDescriptorType,
        types.MemberDescriptorType,
    }
)

QUIET_MODULES = frozenset({"_abc", "abc", "dataclasses", "enum", "functools", "typing", "weakref"})
"""Types of the machinery of classes: they hold no behaviour of the user's own."""

METHODS_OF_BUILTINS = frozenset(
    name
    for kind in (str, bytes, bytearray, list, dict, set, tuple, int, float, object)
    for name in dir(kind)
)

_dict_of_type = type.__dict__["__dict__"].__get__
_mro_of_type = type.__dict__["__mro__"].__get__
_bases_of_type = type.__dict__["__bases__"].__get__
_qualname_of_type = type.__dict__["__qualname__"].__get__

_DERIVED_MEMBERS = frozenset(
    {
        "__abstractmethods__",
        "__class_vars__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__module__",
        "__qualname__",
        "__signature__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
        "__annotations_cache__",
        "__annotate_func__",
        "model_fields",
    }
)
_FIELD = ("default", "default_factory", "init", "repr", "hash", "compare", "kw_only")


class Pair(NamedTuple):
    """An item of a dict."""

    key: object
    value: object


def is_a(value: object, *kinds: type) -> bool:
    """``isinstance`` that does not ask the value for its ``__class__``."""
    return issubclass(type(value), kinds)


def class_dict(cls: type) -> Any:
    return _dict_of_type(cls)


def class_bases(cls: type) -> tuple[type, ...]:
    found: tuple[type, ...] = _bases_of_type(cls)
    return found


def class_qualname(cls: type) -> str:
    return str(_qualname_of_type(cls))


def class_attribute(cls: type, name: str) -> tuple[object] | None:
    """The attribute as it stands in the class or a base, not bound to anything."""
    for base in _mro_of_type(cls):
        if name in _dict_of_type(base):
            return (_dict_of_type(base)[name],)
    return None


def instance_dict(value: object) -> dict[str, object]:
    """The instance's own attributes; empty if it has no plain ``__dict__``."""
    for base in _mro_of_type(type(value)):
        descriptor = _dict_of_type(base).get("__dict__")
        if type(descriptor) is types.GetSetDescriptorType:
            try:
                found = descriptor.__get__(value)
            except (AttributeError, TypeError):
                return {}
            return found if type(found) is dict else {}
    return {}


def held(value: object, name: str) -> tuple[object] | None:
    """An attribute from the instance's dict or slots."""
    own = instance_dict(value)
    if name in own:
        return (own[name],)
    found = class_attribute(type(value), name)
    if found is not None and type(found[0]) is types.MemberDescriptorType:
        try:
            return (found[0].__get__(value),)
        except (AttributeError, TypeError):
            return None
    return None


def name_of(value: Any) -> str:
    """A dotted name for code and types; for anything else that of its type."""
    kind = type(value)
    if is_a(value, type):
        return f"{module_of(value)}.{class_qualname(value)}"
    if kind is types.FunctionType:
        return f"{value.__globals__.get('__name__')}.{value.__qualname__}"
    if kind in BUILTIN_CALLABLES:
        module = getattr(value, "__module__", None)
        return f"{module}.{value.__qualname__}" if module else str(value.__qualname__)
    return name_of(kind)


def kitaru_function(value: object) -> object | None:
    """The plain function behind a checkpoint or a flow."""
    marked = held(value, "__kitaru_id__") or class_attribute(type(value), "__kitaru_id__")
    if marked is None:
        return None
    found = held(value, "func")
    return found[0] if found else None


def callable_of(value: object) -> object | None:
    """What runs when the object is called: what it wraps, or its class's ``__call__``."""
    wrapped = held(value, "__wrapped__")
    if wrapped is not None:
        return wrapped[0]
    found = class_attribute(type(value), "__call__")
    return found[0] if found and type(found[0]) is types.FunctionType else None


def cells(fn: types.FunctionType) -> Iterator[tuple[str, object]]:
    """Captured variables by name; one that has no value yet is left out."""
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue


def partial_pieces(value: Any) -> tuple[object, tuple[object, ...], dict[object, object]]:
    kind: Any = functools.partial
    pieces = (kind.func.__get__(value), kind.args.__get__(value), kind.keywords.__get__(value))
    return pieces


def items_of(value: Any, limit: int) -> list[object]:
    """The first items of a container, whatever its class says about iteration."""
    if is_a(value, dict):
        pairs = list(dict.items(value))[:limit]
        return [Pair(*pair) for pair in pairs]
    kinds: tuple[Any, ...] = (tuple, list, set, frozenset)
    for kind in kinds:
        if is_a(value, kind):
            return list(kind.__iter__(value))[:limit]
    return []


def plain_base(value: Any) -> bytes | None:
    """What an instance of a subclass of int, str … is worth to its built-in base."""
    if is_a(value, int):
        return plain(int.__add__(value, 0))
    if is_a(value, str):
        return plain("".join(str.__iter__(value)))
    if is_a(value, float):
        return plain(float.__add__(value, 0.0))
    if is_a(value, bytes):
        return plain(bytes(memoryview(value)))
    return None


def is_enum_member(value: object) -> bool:
    return class_attribute(type(value), "_member_map_") is not None


def fields_of(value: object) -> list[tuple[str, object]] | None:
    """The fields of a dataclass instance, the value of an enum member, a declared field."""
    kind = type(value)
    if is_enum_member(value):
        own = instance_dict(value)
        return [("name", own.get("_name_")), ("value", own.get("_value_"))]
    if name_of(kind) == "dataclasses.Field":
        found = ((name, held(value, name)) for name in _FIELD)
        return [(name, there[0]) for name, there in found if there]
    declared = class_attribute(kind, "__dataclass_fields__")
    if declared is None or type(declared[0]) is not dict:
        return None
    found = ((str(name), held(value, str(name))) for name in declared[0])
    return [(name, there[0]) for name, there in found if there]


def generic_pieces(value: Any) -> list[object] | None:
    """What an annotation such as ``list[int]`` or ``A | None`` is made of."""
    kind = type(value)
    if kind in (types.GenericAlias, types.UnionType):
        return [getattr(value, "__origin__", None), *value.__args__]
    if module_of(kind) != "typing":
        return None
    own = instance_dict(value)
    names = ("__origin__", "__args__", "__metadata__", "__forward_arg__", "_name", "__name__")
    found = ((name, own.get(name) if name in own else held(value, name)) for name in names)
    return [piece for _, piece in found if piece is not None]


def callables_in(value: object) -> list[tuple[str, object]]:
    """Functions, classes and the like that an object holds in its own attributes."""
    own = instance_dict(value)
    return sorted((str(name), item) for name, item in list(own.items()) if _is_code(item))


def _is_code(value: object) -> bool:
    return is_a(value, types.FunctionType, types.MethodType, functools.partial, type)


def class_members(cls: type) -> list[tuple[str, object]]:
    """What a class is made of, by name, without what Python derives from the rest."""
    own = class_dict(cls)
    members: list[tuple[str, object]] = []
    is_dataclass = "__dataclass_fields__" in own
    is_enum = "_member_map_" in own
    for name, value in list(own.items()):
        if name in _DERIVED_MEMBERS or name.startswith("__pydantic_"):
            continue
        if is_enum and (name in own["_member_map_"] or _is_sunder(name)):
            continue
        if is_dataclass and _is_generated(value):
            continue
        members.append((name, value))
    if is_dataclass:
        members.append(("<fields>", own["__dataclass_fields__"]))
        members.append(("<params>", _params(own.get("__dataclass_params__"))))
    if is_enum:
        found = own["_member_map_"].items()
        members.append(("<members>", [(n, instance_dict(m).get("_value_")) for n, m in found]))
    members.extend(_pydantic_fields(own))
    return sorted(members, key=lambda member: member[0])


def _is_sunder(name: str) -> bool:
    return name.startswith("_") and name.endswith("_") and not name.startswith("__")


def _is_generated(value: Any) -> bool:
    if type(value) is types.FunctionType:
        value = value.__dict__.get("__wrapped__", value)
    return type(value) is types.FunctionType and value.__code__.co_filename == "<string>"


def _params(params: object) -> list[tuple[str, object]]:
    kind = type(params)
    slots = class_dict(kind).get("__slots__", ())
    found = ((name, held(params, name)) for name in slots)
    return [(name, there[0]) for name, there in found if there]


def _pydantic_fields(own: Any) -> list[tuple[str, object]]:
    fields = own.get("__pydantic_fields__", own.get("model_fields"))
    if type(fields) is not dict:
        return []
    members: list[tuple[str, object]] = []
    for name, info in fields.items():
        given = [held(info, slot) for slot in ("_attributes_set", "metadata")]
        members.append((f"<field {name}>", [there[0] for there in given if there]))
    return members
