"""Exceptions to trees and back, without their ``__init__``.

What an exception is made of: arguments, attributes, the members of C classes
(``errno``, ``UnicodeError.object`` …), notes, cause, context, and the members
of a group. How each part is encoded, and what happens to a part that has no
encoding, is the caller's business: values refuse it, failures keep its text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kitaru._core.values.classes import name_of, remember_class
from kitaru._core.values.paths import Path, module_of, mro_of
from kitaru._core.values.shapes import namespace_of_object, slots_of
from kitaru._core.values.text import TAG

if TYPE_CHECKING:
    from kitaru._core.values.writer import Writer

_get_args = BaseException.__dict__["args"].__get__
_set_args = BaseException.__dict__["args"].__set__
_get_cause = BaseException.__dict__["__cause__"].__get__
_set_cause = BaseException.__dict__["__cause__"].__set__
_get_context = BaseException.__dict__["__context__"].__get__
_set_context = BaseException.__dict__["__context__"].__set__
_is_suppressed = BaseException.__dict__["__suppress_context__"].__get__
_set_suppressed = BaseException.__dict__["__suppress_context__"].__set__
_get_members = BaseExceptionGroup.__dict__["exceptions"].__get__
_get_group_message = BaseExceptionGroup.__dict__["message"].__get__

# Of these, the first would keep any object alive and the others belong to the group.
_NOT_STATE = frozenset({"obj", "message", "exceptions"})


class WriteParts(Protocol):
    """How the parts of an exception are encoded. None: leave the part out."""

    def argument(self, index: int, value: Any) -> Any: ...
    def attribute(self, name: str, value: Any) -> Any: ...
    def nested(self, step: str, error: BaseException) -> Any: ...


class Bare(NamedTuple):
    """The decoded parts of an exception, before there is one."""

    of: str
    args: tuple[Any, ...]
    state: dict[str, Any]
    notes: list[Any]
    group: list[BaseException] | None


def args_of(error: BaseException) -> tuple[Any, ...]:
    args: tuple[Any, ...] = _get_args(error)
    return args


def builtin_bases(cls: type) -> list[str]:
    """The names of the builtin exceptions that a class derives from, the nearest first.

    >>> builtin_bases(FileNotFoundError)
    ['FileNotFoundError', 'OSError', 'Exception', 'BaseException']
    """
    return [base.__name__ for base in mro_of(cls) if module_of(base) == "builtins"][:-1]


def write(error: BaseException, parts: WriteParts) -> dict[str, Any]:
    """The tree of an exception."""
    cls = type(error)
    name = name_of(cls)
    remember_class(name, cls)
    tree: dict[str, Any] = {TAG: "exception", "of": name}
    args = args_of(error)
    if issubclass(cls, BaseExceptionGroup):
        members = _get_members(error)
        args = (_get_group_message(error),)
        written = [parts.nested(f"exceptions[{i}]", e) for i, e in enumerate(members)]
        tree["group"] = [member for member in written if member is not None]
    tree["args"] = [parts.argument(index, arg) for index, arg in enumerate(args)]
    _write_state(error, parts, tree)
    _write_chain(error, parts, tree)
    return tree


def _write_state(error: BaseException, parts: WriteParts, tree: dict[str, Any]) -> None:
    state: dict[str, Any] = {}
    for name, member in slots_of(type(error)):
        if name in _NOT_STATE and module_of(member.__objclass__) == "builtins":
            continue
        try:
            value = member.__get__(error)
        except AttributeError:
            continue
        # A member of a C class that was never set reads as None; set to None
        # it would show up in the message.
        if value is not None or module_of(member.__objclass__) != "builtins":
            state[name] = value
    state.update(namespace_of_object(error) or {})
    notes = state.pop("__notes__", None)
    written = {name: parts.attribute(str(name), value) for name, value in state.items()}
    kept = {str(name): item for name, item in written.items() if item is not None}
    if kept:
        tree["state"] = kept
    if type(notes) is list:
        tree["notes"] = [parts.argument(-1, note) for note in notes]


def _write_chain(error: BaseException, parts: WriteParts, tree: dict[str, Any]) -> None:
    cause = _get_cause(error)
    context = _get_context(error)
    if cause is not None:
        tree["cause"] = parts.nested("__cause__", cause)
    if _is_suppressed(error):
        tree["suppress"] = True
    elif context is not None:
        tree["context"] = parts.nested("__context__", context)


def make(cls: type, bare: Bare) -> BaseException:
    """An exception of exactly this class, made without its ``__init__``.

    Raises ``TypeError`` or ``AttributeError`` where the class no longer fits
    the record.
    """
    error = _new(cls, bare)
    if bare.group is None:
        _set_args(error, bare.args)
    slots = dict(slots_of(cls))
    namespace = namespace_of_object(error)
    for name, value in bare.state.items():
        if name in slots:
            slots[name].__set__(error, value)
        elif namespace is not None:
            namespace[name] = value
    if bare.notes and namespace is not None:
        namespace["__notes__"] = list(bare.notes)
    return error


def _new(cls: type, bare: Bare) -> BaseException:
    given: tuple[Any, ...] = () if bare.group is None else (bare.args[0], bare.group)
    for base in mro_of(cls):
        # The __new__ of a class written in C: a user's own would be user code.
        if module_of(base) != "builtins":
            continue
        new: Callable[..., Any] = base.__new__
        try:
            error = new(cls, *given)
        except TypeError:
            continue  # not the class that decides the layout; one further up is
        if isinstance(error, BaseException) and type(error) is cls:
            return error
    raise TypeError(f"{cls.__name__} cannot be made without its __init__")


def chain(
    error: BaseException,
    cause: BaseException | None,
    context: BaseException | None,
    suppressed: bool,
) -> None:
    """Set what an exception came from, as it was."""
    if cause is not None:
        _set_cause(error, cause)
    if context is not None:
        _set_context(error, context)
    _set_suppressed(error, suppressed)


class _Strictly:
    """Parts of an exception that is a value: each must be storable."""

    def __init__(self, writer: Writer, path: Path, depth: int) -> None:
        self.writer, self.path, self.depth = writer, path, depth

    def argument(self, index: int, value: Any) -> Any:
        step = f"args[{index}]" if index >= 0 else "__notes__"
        return self.writer.tree(value, (self.path, step), self.depth)

    def attribute(self, name: str, value: Any) -> Any:
        # In a list of one: None is a value here, not "leave it out".
        return [self.writer.tree(value, (self.path, name), self.depth)]

    def nested(self, step: str, error: BaseException) -> Any:
        return write_strictly(self.writer, error, (self.path, step), self.depth)


def write_strictly(writer: Writer, error: BaseException, path: Path, depth: int) -> Any:
    """The tree of an exception that is a value; refuses what it cannot keep.

    Its traceback is not part of it.
    """
    writer.enter(len(args_of(error)), path, depth)
    return write(error, _Strictly(writer, path, depth + 1))
