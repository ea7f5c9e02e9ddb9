"""Values to sealed payloads and back.

The promises are kept here: what is stored can be read back and encodes to the
same bytes, what was changed since is refused, and every error names whose
value it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kitaru._core.limits import DEFAULT_LIMITS, Limits, in_force
from kitaru._core.payload import Payload, is_intact, seal
from kitaru._core.values import attachments
from kitaru._core.values.codecs import has_codecs
from kitaru._core.values.paths import looking_failed, problem
from kitaru._core.values.reader import Reader
from kitaru._core.values.registered import EXACT
from kitaru._core.values.secrets import refuse_secrets
from kitaru._core.values.text import dump, may_hold_tags, parse
from kitaru._core.values.writer import Writer
from kitaru.errors import KitaruError, KitaruValueError
from kitaru.masking import NEEDLES

CODEC = "json"

_MAX_LOOKED_INTO = 1024 * 1024
"""Values beyond are not read twice, only to know whether they can be."""


def is_exact(value: object) -> bool:
    """Whether the value is immutable: handing it on is the same as reading it back."""
    return type(value) in EXACT


def encode(value: Any, *, what: str, limits: Limits | None = None) -> Payload:
    """The sealed payload of a value; ``what`` names whose it is in messages.

    Guarantees that ``decode`` gives an equal value of equal types, which
    encodes to the same bytes. Raises ``KitaruValueError`` for what cannot be
    stored, is larger or deeper than the limits, or holds a secret's value.

    >>> encode({"n": (1,)}, what="demo").data.decode()
    '{"n":{"$kitaru":"tuple","v":[1]}}'
    """
    if limits is None:
        limits = in_force()
    writer = Writer(None, False, what, limits)
    attached: list[attachments.Data] = []
    writer.attached = attached
    codec = CODEC
    try:
        tree = writer.tree(value, "$", 0)
        if writer.left < 0:
            raise writer.too_large("$")
        data = dump(tree, sort=False)
        if attached:
            codec, data = attachments.CODEC, attachments.join(data, attached)
        if len(data) > limits.max_payload_bytes:
            raise writer.too_large("$")
        if tree is not value:
            _verify(codec, data, what, limits)
        if NEEDLES:
            refuse_secrets(codec, data, what)
    except RecursionError:
        raise problem(
            what, "$", "the value is nested too deep; flatten it", code="value-too-deep"
        ) from None
    except RuntimeError as error:
        raise problem(
            what,
            "$",
            f"it changed while it was stored ({error}); copy it",
            code="value-changed-while-stored",
        ) from None
    except KitaruError:
        raise
    except Exception as error:
        raise looking_failed(what, "$", error) from error
    return seal(codec, data)


def _verify(codec: str, data: bytes, what: str, limits: Limits) -> None:
    """Read the value back before anybody relies on it: what fails now can still be told."""
    text, attached = attachments.split(data) if codec == attachments.CODEC else (data, None)
    reader = Reader(what, (), limits, attached)
    reader.may_convert = False
    back = reader.value(parse(text), "$", 0)
    writer = Writer(None, False, what, limits)
    again: list[attachments.Data] = []
    writer.attached = again
    same = dump(writer.tree(back, "$", 0), sort=False) == text
    if not same or not attachments.are(again, attached):
        raise problem(
            what,
            "$",
            "what would come back is not what was stored, because a class in it keeps state that "
            "its fields do not show, or a registered codec gives other bytes each time; make it a "
            "plain dataclass, or mend the codec",
            code="value-loses-state",
        )


def decode(
    payload: Payload, *, what: str, hints: Sequence[type] = (), checked: bool = False
) -> object:
    """The value of a payload. Runs no code of the user's and imports nothing.

    ``hints`` are classes that the caller's annotations mention; ``checked``:
    the digest was compared already (by the store), or never left memory. Raises
    ``KitaruValueError`` if the bytes are not those that were recorded, if
    they cannot be read, or if a class is unknown or has changed.

    >>> decode(encode({"n": (1,)}, what="demo"), what="demo")
    {'n': (1,)}
    """
    data = payload.data
    if checked and payload.codec == CODEC and is_plain(data):
        # Most values, and in the path of each checkpoint: nothing to rebuild.
        try:
            return parse(data)
        except (ValueError, RecursionError):
            pass  # told below, by whoever looks closer
    tree = open_payload(payload, what, checked=checked)
    if payload.codec == attachments.CODEC:
        text, attached = attachments.split(payload.data)
        return read_tree(tree, text, what, hints, attached)
    return read_tree(tree, payload.data, what, hints)


def is_readable(payload: Payload, hints: Sequence[type]) -> bool:
    """Whether the value can be read here as it was, without asking a class that has changed."""
    if text_bytes(payload) > _MAX_LOOKED_INTO or not may_hold_tags(payload.data):
        return True
    try:
        tree = open_payload(payload, "", checked=True)
        if len(payload.data) > _MAX_LOOKED_INTO:
            return has_codecs(tree)
        is_attached = payload.codec == attachments.CODEC
        attached = attachments.split(payload.data)[1] if is_attached else None
        reader = Reader("", hints, attached=attached)
        reader.may_convert = False
        reader.value(tree, "$", 0)
    except (KitaruValueError, RecursionError):
        return False
    return True


def open_payload(payload: Payload, what: str, *, checked: bool = False) -> Any:
    """The checked, parsed tree of a payload."""
    if payload.codec == "pickle":
        raise problem(
            what,
            "$",
            'it was recorded by a checkpoint with codec="pickle", and unpickling runs code: only '
            'the flow itself reads it, while its checkpoint still says codec="pickle": '
            "run the flow to see it",
            code="pickle-unreadable",
        )
    if payload.codec not in (CODEC, attachments.CODEC):
        raise problem(
            what,
            "$",
            f"it was recorded with the codec {payload.codec!r}, which this release does not know; "
            "read it with the release that wrote it",
            code="record-of-later-release",
        )
    if not checked and not is_intact(payload):
        raise problem(
            what,
            "$",
            "the recorded bytes are corrupt: their digest differs. Restore the store from a "
            "backup, or run the execution anew",
            code="record-corrupt",
        )
    try:
        if payload.codec == attachments.CODEC:
            return parse(attachments.split(payload.data)[0])
        return parse(payload.data)
    except (ValueError, RecursionError):
        raise Reader(what).malformed("$", "not JSON") from None


def text_bytes(payload: Payload) -> int:
    """How long the JSON of a payload is, without what is attached to it."""
    end = payload.data.find(b"\0") if payload.codec == attachments.CODEC else -1
    return len(payload.data) if end < 0 else end


def is_plain(data: bytes) -> bool:
    """Whether the tree of these bytes is the value itself: no tags, and certainly not too deep."""
    return (
        not may_hold_tags(data) and data.count(b"[") + data.count(b"{") <= DEFAULT_LIMITS.max_depth
    )


def read_tree(
    tree: Any,
    data: bytes,
    what: str,
    hints: Sequence[type],
    attached: memoryview | None = None,
) -> object:
    """The value of a parsed tree, which is used up."""
    if is_plain(data):
        return tree
    try:
        return Reader(what, hints, attached=attached).value(tree, "$", 0)
    except RecursionError:
        raise problem(
            what,
            "$",
            "the stack is too full here to read it; call it from less deep",
            code="value-too-deep",
        ) from None
