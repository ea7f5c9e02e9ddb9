"""Failures as they are recorded: an exception with its text, and what can be kept of its parts.

Unlike a value, a failure is always recorded: a part that has no encoding is
kept as text or left out by name, and one whose class is not loaded comes back
as a stand-in. Recording a failure never raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, final

from kitaru._core.limits import Limits
from kitaru._core.payload import Payload, seal
from kitaru._core.values import exceptions
from kitaru._core.values.classes import find_class
from kitaru._core.values.codec import CODEC, open_payload
from kitaru._core.values.paths import module_of, type_name
from kitaru._core.values.reader import Reader
from kitaru._core.values.secrets import masked_tree
from kitaru._core.values.shapes import namespace_of_object
from kitaru._core.values.standins import stand_in
from kitaru._core.values.text import TAG, dump, parse
from kitaru._core.values.tracebacks import (
    MAX_EXCEPTIONS,
    MAX_REPR_CHARACTERS,
    clip,
    message_of,
    safe_repr,
    traceback_of,
)
from kitaru._core.values.writer import to_tree
from kitaru.codes import CODE_OF_ORIGIN, CODES
from kitaru.errors import FailureOrigin, KitaruError, KitaruValueError
from kitaru.masking import NEEDLES

if TYPE_CHECKING:
    from kitaru.model import FailureInfo

MAX_PARTS = 100
"""Arguments, notes and members of a group beyond these are left out."""

MAX_NESTING = 10
_PART_LIMITS = Limits(max_payload_bytes=256 * 1024, max_depth=50)
_MAX_PARTS_BYTES = 1024 * 1024


class Failure(NamedTuple):
    """A recorded failure: the exception to raise again, and what to show of it."""

    exception: BaseException
    info: FailureInfo


@final
class NotStored:
    """Stands for a part of an exception that could not be stored; shows what it looked like."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NotStored) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def encode_failure(
    exc: BaseException, *, origin: FailureOrigin, drop_frames_of: str | None = None
) -> Payload:
    """The sealed record of an exception; never raises, whatever the exception does.

    Frames of files below the folder ``drop_frames_of`` are left out of the
    traceback's text.
    """
    message = message_of(exc)
    tree: dict[str, Any] = {
        TAG: "failure",
        "origin": str(origin),
        "message": message,
        "type": type_name(type(exc)),
        "traceback": traceback_of(exc, drop_frames_of),
    }
    if module_of(type(exc)) == KitaruError.__module__:
        # Not isinstance: an exception's __class__ may be user code.
        code = (namespace_of_object(exc) or {}).get("code")
        if type(code) is str and code in CODES:
            tree["code"] = code
    try:
        tree["exception"] = _Leniently().write(exc, message)
        return seal(CODEC, dump(tree, sort=False))
    except BaseException:
        # Nothing of ours is known to come here; a user's metaclass may.
        tree["exception"] = {
            TAG: "exception",
            "of": "builtins:Exception",
            "args": [message],
        }
        return seal(CODEC, dump(tree, sort=False))


class _Leniently:
    """The parts of an exception, each kept as well as it can be."""

    def __init__(self) -> None:
        self.left = _MAX_PARTS_BYTES
        self.seen: set[int] = set()
        self.depth = 0
        self.dropped: list[str] = []

    def write(self, error: BaseException, message: str) -> dict[str, Any]:
        self.seen.add(id(error))
        outer, self.dropped = self.dropped, []
        tree = exceptions.write(error, self)
        tree["bases"] = exceptions.builtin_bases(type(error))
        tree["message"] = message
        if self.dropped:
            tree["dropped"] = self.dropped[:MAX_PARTS]
        self.dropped = outer
        args = tree["args"]
        if len(args) > MAX_PARTS:
            tree["args"] = [*args[:MAX_PARTS], _text(f"<{len(args) - MAX_PARTS:,} more>")]
        if "notes" in tree:
            tree["notes"] = tree["notes"][:MAX_PARTS]
        return tree

    def argument(self, index: int, value: Any) -> Any:
        if index >= MAX_PARTS:
            return None
        tree = self._storable(value)
        return _text(safe_repr(value)) if tree is _NOTHING else tree

    def attribute(self, name: str, value: Any) -> Any:
        tree = self._storable(value)
        if tree is _NOTHING:
            self.dropped.append(clip(name, 200))
            return None
        return [tree]

    def nested(self, step: str, error: BaseException) -> Any:
        if id(error) in self.seen or self.depth >= MAX_NESTING or len(self.seen) >= MAX_PARTS:
            return None
        self.depth += 1
        try:
            return self.write(error, message_of(error))
        finally:
            self.depth -= 1

    def _storable(self, value: Any) -> Any:
        """The tree of a part that can be stored and read back, else ``_NOTHING``."""
        if type(value) is NotStored:
            return _text(value.text)
        try:
            tree = to_tree(value, limits=_PART_LIMITS)
            data = dump(tree, sort=False)
            if len(data) > min(self.left, _PART_LIMITS.max_payload_bytes):
                return _NOTHING
            if tree is not value:
                Reader("", (), _PART_LIMITS).value(parse(data), "$", 0)
        except Exception:
            # Not storable, or a class of the user's that raises when looked at.
            return _NOTHING
        self.left -= len(data)
        return masked_tree(parse(data)) if NEEDLES else parse(data)


_NOTHING: Any = object()


def _text(text: str) -> dict[str, str]:
    return {TAG: "text-only", "v": text}


def decode_failure(payload: Payload) -> Failure:
    """The recorded exception, ready to be raised again, and what to show of it.

    The exception's class is never imported and its ``__init__`` never called;
    a class that is not loaded gets a stand-in. Raises ``KitaruValueError`` if
    the record is corrupt.
    """
    tree = _open(payload)
    try:
        error = _read(tree["exception"], 0)
    except (KitaruValueError, RecursionError):
        raise
    except Exception as raised:
        raise Reader(_WHAT).malformed("$", type(raised).__name__) from None
    return Failure(error, _info(tree))


def failure_info(payload: Payload) -> FailureInfo:
    """What to show of a recorded failure, without making its exception again."""
    return _info(_open(payload))


_WHAT = "a recorded failure"


def _open(payload: Payload) -> dict[str, Any]:
    tree = open_payload(payload, _WHAT)
    texts = ("message", "type", "traceback", "origin")
    if (
        type(tree) is not dict
        or tree.get(TAG) != "failure"
        or type(tree.get("exception")) is not dict
        or not all(type(tree.get(name)) is str for name in texts)
    ):
        raise Reader(_WHAT).malformed("$", "not the record of a failure")
    return tree


def _info(tree: dict[str, Any]) -> FailureInfo:
    from kitaru.model import FailureInfo  # brings dataclasses along: only failures pay for it

    known = {origin.value: origin for origin in FailureOrigin}
    origin, code = known.get(tree["origin"], FailureOrigin.UNKNOWN), tree.get("code")
    return FailureInfo(
        message=tree["message"],
        exception_type=tree["type"],
        traceback=tree["traceback"],
        origin=origin,
        # One of a later release, or of somebody who edited the record, is none that we explain.
        code=code if type(code) is str and code in CODES else CODE_OF_ORIGIN[origin],
    )


def _read(tree: dict[str, Any], depth: int) -> BaseException:
    if depth > 2 * MAX_EXCEPTIONS:
        raise Reader(_WHAT).malformed("$", "nested too deep")
    of = str(tree["of"])
    group = None
    if "group" in tree:
        group = [_read(member, depth + 1) for member in tree["group"]]
    bare = exceptions.Bare(
        of,
        tuple(_part(arg) for arg in tree["args"]),
        {str(name): _part(held) for name, (held,) in tree.get("state", {}).items()},
        [_part(note) for note in tree.get("notes", ())],
        group,
    )
    error = _make(bare, tree)
    cause, context = (
        _read(tree[part], depth + 1) if type(tree.get(part)) is dict else None
        for part in ("cause", "context")
    )
    exceptions.chain(error, cause, context, tree.get("suppress") is True)
    return error


def _make(bare: exceptions.Bare, tree: dict[str, Any]) -> BaseException:
    module, _, qualname = bare.of.partition(":")
    cls = find_class(module, qualname)
    if cls is not None and issubclass(cls, BaseException):
        try:
            return exceptions.make(cls, bare)
        except (TypeError, ValueError, AttributeError):
            pass  # the class has changed since
    bases = tuple(str(base) for base in tree.get("bases", ()))
    return stand_in(bare, bases, str(tree.get("message", "")))


def _part(tree: Any) -> Any:
    if type(tree) is dict and tree.get(TAG) == "text-only":
        return NotStored(str(tree.get("v")))
    try:
        return Reader(_WHAT).value(tree, "$", 0)
    except (KitaruValueError, RecursionError):
        # A class that this process has not loaded: the rest of the failure still counts.
        return NotStored(dump(tree, sort=False)[:MAX_REPR_CHARACTERS].decode("utf-8", "replace"))
