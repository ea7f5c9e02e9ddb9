"""Records of classes that have changed since: upcasts convert them, or today's class takes them.

Asked only for what could not be rebuilt as it was, or with plain defaults for new
fields. Both ways run code of the user's. What fits neither is a typed error, and
the recorded bytes stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from kitaru._core.fitting import misfit
from kitaru._core.naming import module_name
from kitaru._core.values.paths import Path, problem, qualname_of, type_name
from kitaru._core.values.rebuilding import Recorded
from kitaru._core.values.shapes import Shape, class_attribute, dataclass_fields, shape_of
from kitaru.errors import KitaruUsageError, KitaruValueError
from kitaru.notices import notice

F = TypeVar("F", bound=Callable[[dict[str, Any]], Any])

Convert = Callable[[dict[str, Any]], Any]

_MAX_REASON_CHARACTERS = 300

_NOT_ORDINARY = 0x20 | 0x80 | 0x200
"""Flags of generators, coroutines and generators of the asynchronous kind."""

_upcasts: dict[str, Convert] = {}
_told: set[tuple[str, str]] = set()


def upcast(model: type[Any]) -> Callable[[F], F]:
    """Convert recorded values of a class whose fields have changed since.

    The function is given what was recorded, by name: all fields and extras; for
    an enum ``name`` and ``value``. It returns an object of today's class. It is asked
    whenever a record does not fit and plain defaults of new fields are not all that
    is missing, so it must be loaded where the flow is: put it beside the class.

    >>> import dataclasses, kitaru
    >>> @dataclasses.dataclass
    ... class Price:
    ...     cents: int
    >>> @kitaru.upcast(Price)
    ... def from_euros(old: dict) -> Price:
    ...     return Price(cents=round(old["euros"] * 100))
    """
    shape = shape_of(model) if isinstance(model, type) else None
    if shape is None:
        raise KitaruUsageError(
            "kitaru.upcast() needs the class whose records are to be converted: a dataclass, a "
            "pydantic model, an attrs class, a NamedTuple or an enum. Write @kitaru.upcast(Order)",
            code="option-invalid",
        )
    name = shape.name

    def register(convert: F) -> F:
        flags = getattr(getattr(convert, "__code__", None), "co_flags", 0)
        if not callable(convert) or flags & _NOT_ORDINARY:
            raise KitaruUsageError(
                f"@kitaru.upcast({short_name(model)}) needs an ordinary function: it is called "
                "while a record is read",
                code="option-invalid",
            )
        other = _upcasts.get(name)
        if other is not None and _who(other) != _who(convert):
            raise KitaruUsageError(
                f"two functions upcast {name}: {'.'.join(_who(other))} and "
                f"{'.'.join(_who(convert))}. Drop one, and let the other tell the versions apart",
                code="name-taken",
            )
        _upcasts[name] = convert
        return convert

    return register


def _who(convert: Any) -> tuple[str, str]:
    module = getattr(convert, "__module__", None) or type(convert).__module__
    return module_name(str(module)), str(
        getattr(convert, "__qualname__", type(convert).__qualname__)
    )


def _upcast_of(shape: Shape) -> Convert | None:
    generic = shape.name.partition("[")[0]
    return _upcasts.get(shape.name) or _upcasts.get(generic)


def convert(
    cls: type, shape: Shape, recorded: Recorded, *, what: str, path: Path, misfit: str
) -> Any:
    """An object of today's class for a record that does not fit; ``misfit`` says why."""
    by_upcast = _upcast_of(shape)
    if by_upcast is not None:
        return _converted(by_upcast, cls, recorded.by_name(), what, path)
    try:
        made = _VALIDATE[shape.kind](cls, recorded)
    except Exception as error:
        text = f"{misfit}{_reason(error)}. {remedy(cls)}"
        raise problem(what, path, text, code="class-changed") from error
    if type(made) is not cls:
        raise problem(what, path, f"{misfit}. {remedy(cls)}", code="class-changed")
    if (what, shape.name) not in _told:
        _told.add((what, shape.name))
        about = problem(what, path, misfit, code="class-changed")
        notice(
            f"{about}. Today's class took what was recorded, which ran its "
            f"code. To decide yourself, write @kitaru.upcast({short_name(cls)})"
        )
    return made


def convert_member(cls: type, shape: Shape, name: str, value: Any, *, what: str, path: Path) -> Any:
    """The member that an upcast gives for a recorded one; None if there is no upcast."""
    by_upcast = _upcast_of(shape)
    if by_upcast is None:
        return None
    return _converted(by_upcast, cls, {"name": name, "value": value}, what, path)


def _converted(by: Convert, cls: type, old: dict[str, Any], what: str, path: Path) -> Any:
    about = f"@kitaru.upcast({short_name(cls)}) {'.'.join(_who(by))}"
    try:
        made = by(old)
    except Exception as error:
        raise problem(
            what,
            path,
            f"{about} raised{_reason(error)}. The recorded value is kept as it is",
            code="class-changed",
        ) from error
    if type(made) is not cls:
        raise problem(
            what,
            path,
            f"{about} returned a {type_name(type(made))}: return an object of today's class. The "
            "recorded value is kept as it is",
            code="class-changed",
        )
    return made


def _reason(error: Exception) -> str:
    if isinstance(error, KitaruValueError):
        return f": {error}"
    from kitaru._core.values.tracebacks import message_of

    text = " ".join(message_of(error).split())
    if len(text) > _MAX_REASON_CHARACTERS:
        text = text[:_MAX_REASON_CHARACTERS] + "…"
    return f" {type_name(type(error))}: {text}" if text else f" {type_name(type(error))}"


def misfit_of(shape: Shape, removed: list[str], unfilled: list[str], was: str | None) -> str:
    """How a class differs from what a record says, in words."""
    changes = []
    if was is not None:
        changes.append(f"it was a {was} and is a {shape.kind}")
    if unfilled:
        changes.append("new without a plain default: " + ", ".join(unfilled))
    if removed:
        changes.append("no longer there: " + ", ".join(removed))
    return (
        f"{shape.name} has changed since the value was recorded"
        f"{' (' + '; '.join(changes) + ')' if changes else ''}"
    )


def wrong_type(cls: type, shape: Shape, fields: dict[str, Any], recorded: Any) -> str | None:
    """How a field's value does not fit today's annotation, where annotations have changed.

    ``recorded`` is the fingerprint in the record. What was stored against its own
    annotation comes back as it was, as long as the annotations are what they were.
    """
    types = recorded.partition(".")[2] if type(recorded) is str else ""
    if not types or types == shape.fingerprint.partition(".")[2]:
        return None
    import typing

    try:
        hints = typing.get_type_hints(cls)
    except Exception:
        return None  # a name that is not there: nothing is certain
    for name, value in fields.items():
        found = misfit(value, hints[name], name) if name in hints else None
        if found is not None:
            return f"{shape.name} has changed since the value was recorded ({found})"
    return None


def short_name(cls: type) -> str:
    return qualname_of(cls).rpartition(".")[2]


def remedy(cls: type) -> str:
    return (
        "Give new fields a default and keep old ones, write @kitaru.upcast"
        f"({short_name(cls)}) beside the class, or run the checkpoint anew under another name. The "
        "recorded value is kept as it is"
    )


# --- today's class ------------------------------------------------------------------------


def _validate_model(cls: Any, recorded: Recorded) -> Any:
    made = cls.model_validate(recorded.by_name(), by_alias=False, by_name=True)
    known = class_attribute(cls, "__private_attributes__")
    for name, value in recorded.private.items():
        if name in known:
            made.__pydantic_private__[name] = value
    return made


def _call_dataclass(cls: Any, recorded: Recorded) -> Any:
    fields = dataclass_fields(cls)
    given = {
        name: value
        for name, value in recorded.fields.items()
        if name not in fields or fields[name].init
    }
    return cls(**given)


def _call_attrs(cls: Any, recorded: Recorded) -> Any:
    aliases = {each.name: each.alias for each in cls.__attrs_attrs__ if each.init}
    computed = {each.name for each in cls.__attrs_attrs__ if not each.init}
    given = recorded.fields.items()
    return cls(**{aliases.get(name, name): item for name, item in given if name not in computed})


def _call_named_tuple(cls: Any, recorded: Recorded) -> Any:
    return cls(**recorded.fields)


_VALIDATE: dict[str, Callable[[Any, Recorded], Any]] = {
    "pydantic": _validate_model,
    "dataclass": _call_dataclass,
    "attrs": _call_attrs,
    "namedtuple": _call_named_tuple,
}
