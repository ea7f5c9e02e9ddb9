"""Bare objects of data classes from their recorded fields: no ``__init__``, no validator.

The class is known and its fields are those of the record, or filled. What to do
with a class that has changed beyond that is said in ``changes.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from kitaru._core.values.shapes import (
    Shape,
    class_attribute,
    forget_hash,
    namespace_of_object,
    set_state,
)


class Recorded(NamedTuple):
    """What a record holds of one object, decoded."""

    fields: dict[str, Any]
    rest: dict[str, Any]
    """Attributes that are no fields."""
    extra: dict[str, Any]
    private: dict[str, Any]
    fields_set: Iterable[str]
    """The fields of a pydantic model that were given, not defaulted."""

    def by_name(self) -> dict[str, Any]:
        """All of it, fields first in doubt; but not what is private."""
        return {**self.rest, **self.extra, **self.fields}


def rebuild(cls: type, shape: Shape, recorded: Recorded) -> Any:
    """An object of exactly this class, given its state directly."""
    return _BY_KIND[shape.kind](cls, shape, recorded)


def _plain_object(cls: type, shape: Shape, recorded: Recorded) -> Any:
    made: Any = object.__new__(cls)
    set_state(made, shape, recorded.fields | recorded.rest)
    if shape.kind == "attrs":
        forget_hash(made, cls)
    return made


def _named_tuple(cls: type, shape: Shape, recorded: Recorded) -> Any:
    made: Any = tuple.__new__(cls, [recorded.fields[name] for name in shape.fields])
    set_state(made, shape, recorded.rest)
    return made


def _model(cls: type, shape: Shape, recorded: Recorded) -> Any:
    made: Any = object.__new__(cls)
    slots = dict(shape.slots)
    extra, private = recorded.extra, recorded.private
    allows_extra = class_attribute(cls, "model_config").get("extra") == "allow"
    slots["__pydantic_fields_set__"].__set__(made, set(recorded.fields_set))
    slots["__pydantic_extra__"].__set__(made, extra if allows_extra or extra else None)
    has_private = bool(class_attribute(cls, "__private_attributes__"))
    slots["__pydantic_private__"].__set__(made, private if has_private or private else None)
    namespace = namespace_of_object(made)
    assert namespace is not None, "every pydantic model has a __dict__"
    namespace.update(recorded.fields | recorded.rest)
    return made


_BY_KIND: dict[str, Callable[[type, Shape, Recorded], Any]] = {
    "dataclass": _plain_object,
    "attrs": _plain_object,
    "namedtuple": _named_tuple,
    "pydantic": _model,
}
