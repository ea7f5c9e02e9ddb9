"""Values to trees: dispatch on the exact type, nothing flattened, nothing guessed.

Knows nothing of bytes, digests or stores. What has no encoding is refused with
its path, or handed to the caller's ``fallback``.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from enum import Enum, Flag
from itertools import pairwise
from typing import Any

from kitaru._core.limits import Limits, in_force
from kitaru._core.values import attachments, exceptions, parts
from kitaru._core.values.classes import remember_class
from kitaru._core.values.codecs import library_write_of, write_of
from kitaru._core.values.leaves import (
    MAX_PLAIN_INT,
    leaf_of,
    write_float,
    write_paired_surrogates,
)
from kitaru._core.values.paths import (
    Path,
    looking_failed,
    problem,
    render,
    type_name,
)
from kitaru._core.values.refusals import remedy_for, remedy_for_leaf
from kitaru._core.values.shapes import (
    MISSING,
    Shape,
    class_attribute,
    default_of,
    namespace_of_object,
    shape_of,
    state_of,
)
from kitaru._core.values.text import TAG, dump
from kitaru.errors import KitaruError, KitaruValueError

Fallback = Callable[[Any, str], Any]

FACTORIES: dict[str, Any] = {
    cls.__name__: cls for cls in (list, dict, set, frozenset, tuple, str, int, float, bool, bytes)
}
"""What a ``defaultdict`` that is to be stored may make."""


def to_tree(
    value: Any,
    *,
    fallback: Fallback | None = None,
    drop_defaults: bool = False,
    path: str = "$",
    what: str = "",
    limits: Limits | None = None,
) -> Any:
    """The tree of a value: plain JSON values as themselves, all else tagged.

    ``fallback(object, path)`` gives the tree of what has no encoding, and of
    objects that define ``__kitaru_key__``; without it such a value raises
    ``KitaruValueError``. ``drop_defaults`` leaves out fields that encode as
    their default does: for digests, such a tree cannot be read back.

    The tree may share its plain parts with the value: use it before the value
    changes.

    >>> to_tree({"at": (1, 2)})
    {'at': {'$kitaru': 'tuple', 'v': [1, 2]}}
    """
    try:
        return Writer(fallback, drop_defaults, what, limits or in_force()).tree(value, path, 0)
    except RecursionError:
        raise problem(
            what, path, "the value is nested too deep; flatten it", code="value-too-deep"
        ) from None
    except KitaruError:
        raise
    except Exception as error:
        raise looking_failed(what, path, error) from error


def _is_text(text: str) -> bool:
    """Whether JSON can carry the text: all but a high surrogate followed by a low one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        pairs = pairwise(text)
        return not any("\ud800" <= first < "\udc00" <= second < "\ue000" for first, second in pairs)
    return True


class Writer:
    """One walk over one value. ``left`` is what its JSON may still measure at the least."""

    __slots__ = (
        "attached",
        "attached_bytes",
        "classes",
        "drop_defaults",
        "fallback",
        "left",
        "limits",
        "what",
    )

    def __init__(
        self, fallback: Fallback | None, drop_defaults: bool, what: str, limits: Limits
    ) -> None:
        self.fallback = fallback
        self.classes: dict[str, type] | None = None
        """The data classes met so far, by the names that are recorded."""
        self.drop_defaults = drop_defaults
        self.what = what
        self.limits = limits
        self.left = limits.max_payload_bytes
        self.attached: list[attachments.Data] | None = None
        """Where large data goes; None: there is nothing but JSON."""
        self.attached_bytes = 0

    def tree(self, value: Any, path: Path, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            if not (value.isascii() or _is_text(value)):
                return {TAG: "str", "v": write_paired_surrogates(value)}
            self.left -= len(value)
            return value
        if kind is dict:
            return self._dict(value, path, depth)
        if kind is list:
            return self._list(value, path, depth)
        if kind is int:
            return value if -MAX_PLAIN_INT < value < MAX_PLAIN_INT else self._big(value)
        if kind is float:
            # Infinities and NaN are the floats whose difference with themselves is not 0.
            return value if value - value == 0 else {TAG: "float", "v": write_float(value)}
        if kind is bool or value is None:
            return value
        write = _CONTAINERS.get(kind)
        if write is not None:
            return write(self, value, path, depth)
        return self._other(value, path, depth)

    def _big(self, value: int) -> Any:
        self.left -= value.bit_length() // 4
        return {TAG: "int", "v": hex(value)}

    def enter(self, count: int, path: Path, depth: int) -> None:
        """Account for a container of ``count`` items that stands inside ``depth`` others."""
        if depth >= self.limits.max_depth:
            raise problem(
                self.what,
                path,
                f"nested more than {self.limits.max_depth} deep, or inside itself; flatten it, "
                "or store ids instead of references",
                code="value-too-deep",
            )
        # Shared parts are written once for each mention: without this count a
        # few nested lists of lists could take for ever.
        self.left -= 2 * count + 2
        if self.left < 0:
            raise self.too_large(path)

    def too_large(self, path: Path) -> KitaruValueError:
        return problem(
            self.what,
            path,
            f"the value takes more than {self.limits.max_payload_bytes:,} bytes; store it in a "
            "file or bucket of yours and return its path",
            code="value-too-large",
        )

    def _list(self, value: list[Any], path: Path, depth: int) -> list[Any]:
        self.enter(len(value), path, depth)
        depth += 1
        copy: list[Any] | None = None
        for index, item in enumerate(value):
            kind = type(item)
            if kind is int and -MAX_PLAIN_INT < item < MAX_PLAIN_INT:
                continue
            tree = self.tree(item, (path, index), depth)
            if tree is not item:
                if copy is None:
                    copy = list(value)
                copy[index] = tree
        return value if copy is None else copy

    def _dict(self, value: dict[Any, Any], path: Path, depth: int) -> Any:
        self.enter(len(value), path, depth)
        depth += 1
        copy: dict[str, Any] | None = None
        for key, item in value.items():
            if type(key) is not str or key == TAG or not (key.isascii() or _is_text(key)):
                return self._pairs("dict", value, path, depth)
            self.left -= len(key)
            if type(item) is str and item.isascii():
                self.left -= len(item)
                continue
            tree = self.tree(item, (path, key), depth)
            if tree is not item:
                if copy is None:
                    copy = dict(value)
                copy[key] = tree
        return value if copy is None else copy

    def _pairs(self, tag: str, value: dict[Any, Any], path: Path, depth: int) -> dict[str, Any]:
        pairs = []
        for key, item in value.items():
            step = key if type(key) in (str, int) else f"<{type_name(type(key))}>"
            pairs.append(
                [self.tree(key, (path, step), depth), self.tree(item, (path, step), depth)]
            )
        return {TAG: tag, "v": pairs}

    def items(self, values: Iterable[Any], count: int, path: Path, depth: int) -> list[Any]:
        """The trees of the items of a container that is not a list."""
        self.enter(count, path, depth)
        return [self.tree(item, (path, index), depth + 1) for index, item in enumerate(values)]

    def _set(self, tag: str, value: Any, path: Path, depth: int) -> dict[str, Any]:
        # Nothing of a set is attached: the order of what is would be that of the hashes.
        attached, self.attached = self.attached, None
        trees = self.items(value, len(value), path, depth)
        self.attached = attached
        trees.sort(key=lambda tree: (dump(tree, sort=True), dump(tree, sort=False)))
        return {TAG: tag, "v": trees}

    def _ordered(self, tag: str, value: dict[Any, Any], path: Path, depth: int) -> dict[str, Any]:
        self.enter(len(value), path, depth)
        return self._pairs(tag, value, path, depth + 1)

    def _defaultdict(self, value: Any, path: Path, depth: int) -> Any:
        factory = value.default_factory
        name = next((name for name, made in FACTORIES.items() if made is factory), None)
        if name is None and factory is not None:
            return self.refuse(value, path, "its default_factory is a function: store dict(…)")
        tree = self._ordered("defaultdict", value, path, depth)
        tree["factory"] = name
        return tree

    def _deque(self, value: Any, path: Path, depth: int) -> dict[str, Any]:
        tree: dict[str, Any] = {TAG: "deque", "v": self.items(value, len(value), path, depth)}
        if value.maxlen is not None:
            tree["maxlen"] = value.maxlen
        return tree

    def _other(self, value: Any, path: Path, depth: int) -> Any:
        cls = type(value)
        leaf = leaf_of(cls)
        if leaf is not None:
            return self._leaf(value, leaf, path)
        if self.fallback is not None and class_attribute(cls, "__kitaru_key__") is not MISSING:
            return self.fallback(value, render(path))
        write = write_of(cls)
        if write is not None:
            return write(self, value, path, depth)
        if issubclass(cls, BaseException):
            return exceptions.write_strictly(self, value, path, depth)
        shape = shape_of(cls)
        if shape is None:
            return self.refuse(value, path, remedy_for(value))
        remember_class(shape.name, cls)
        if self.fallback is None:
            self._refuse_namesakes(shape.name, cls, path)
        return _KINDS[shape.kind](self, value, shape, path, depth)

    def _refuse_namesakes(self, name: str, cls: type, path: Path) -> None:
        """Two classes of one name in one value would come back as one of them."""
        if self.classes is None:
            self.classes = {name: cls}
        elif self.classes.setdefault(name, cls) is not cls:
            raise problem(
                self.what,
                path,
                f"two different classes named {name} stand in this value, and both would come back "
                "as one of them: give one of them another name",
                code="value-not-storable",
            )

    def _leaf(self, value: Any, leaf: Any, path: Path) -> Any:
        if leaf.tag in ("bytes", "bytearray"):
            if len(value) > attachments.MAX_INLINE_BYTES:
                return {TAG: f"large-{leaf.tag}", "v": self.binary(value, path)}
            self.left -= len(value) * 4 // 3
            if self.left < 0:
                raise self.too_large(path)
        written = leaf.write(value)
        if written is None:
            return self.refuse(value, path, remedy_for_leaf(leaf.tag))
        if type(written) is str and not _is_text(written):
            return self.refuse(value, path, "its text holds a pair of surrogates")
        return {TAG: leaf.tag, "v": written}

    def binary(self, data: attachments.Data, path: Path) -> Any:
        """The node of bytes: base64, or a place in what is attached; in a digest their digest."""
        if self.drop_defaults:
            return attachments.digested(data)
        inline = self.attached is None or len(data) <= attachments.MAX_INLINE_BYTES
        self.left -= len(data) * 4 // 3 if inline else len(data)
        if self.left < 0:
            raise self.too_large(path)
        if self.attached is None or inline:
            return attachments.inline(data)
        place = [self.attached_bytes, len(data)]
        self.attached.append(data)
        self.attached_bytes += len(data)
        return place

    def refuse(self, value: Any, path: Path, remedy: str) -> Any:
        if self.fallback is not None:
            return self.fallback(value, render(path))
        raise problem(
            self.what,
            path,
            f"a {type_name(type(value))} cannot be stored: {remedy}",
            code="value-not-storable",
        )

    def _enum(self, value: Any, shape: Shape, path: Path, depth: int) -> dict[str, Any]:
        state = namespace_of_object(value) or {}
        tree = {TAG: "enum", "of": shape.name, "name": state.get("_name_")}
        if issubclass(type(value), Flag):
            tree["name"] = "|".join(flag_names(type(value), state["_value_"]))
        try:
            tree["v"] = Writer(None, False, self.what, self.limits).tree(
                state["_value_"], (path, "value"), depth
            )
        except KitaruValueError:
            pass  # a value without an encoding: the name alone decides
        return tree

    def _namedtuple(self, value: Any, shape: Shape, path: Path, depth: int) -> Any:
        if len(shape.fields) != tuple.__len__(value):
            return self.refuse(value, path, "it has not as many items as fields")
        fields = dict(zip(shape.fields, tuple.__iter__(value), strict=True))
        return self._object(value, shape, fields, state_of(value, shape), path, depth)

    def _plain_object(self, value: Any, shape: Shape, path: Path, depth: int) -> Any:
        state = state_of(value, shape)
        fields = {name: state.pop(name) for name in shape.fields if name in state}
        return self._object(value, shape, fields, state, path, depth)

    def _model(self, value: Any, shape: Shape, path: Path, depth: int) -> Any:
        state = state_of(value, shape)
        extra = state.pop("__pydantic_extra__", None)
        private = state.pop("__pydantic_private__", None)
        fields_set = state.pop("__pydantic_fields_set__", None)
        fields = {name: state.pop(name) for name in shape.fields if name in state}
        tree = self._object(value, shape, fields, state, path, depth)
        for name, part in (("extra", extra), ("private", private)):
            if part:
                tree[name] = self.tree(part, path, depth + 1)
        if not self.drop_defaults and fields_set is not None and fields_set != set(shape.fields):
            tree["set"] = sorted(fields_set)
        return tree

    def _object(
        self,
        value: Any,
        shape: Shape,
        fields: dict[str, Any],
        rest: dict[str, Any],
        path: Path,
        depth: int,
    ) -> dict[str, Any]:
        self.enter(len(fields), path, depth)
        written = {}
        for name, item in fields.items():
            tree = self.tree(item, (path, name), depth + 1)
            if not (self.drop_defaults and self._is_default(type(value), shape, name, item, tree)):
                written[name] = tree
        result: dict[str, Any] = {TAG: shape.kind, "of": shape.name}
        if not self.drop_defaults:
            result["shape"] = shape.fingerprint
        result["v"] = written
        if rest:
            result["x"] = self.tree(rest, path, depth + 1)
        return result

    def _is_default(self, cls: type, shape: Shape, name: str, item: Any, tree: Any) -> bool:
        default = default_of(cls, shape, name, call_classes=True)
        if default is item:
            return True
        if default is MISSING or type(default) is not type(item):
            return False
        try:
            other = Writer(None, True, "", self.limits).tree(default, "$", 0)
        except KitaruValueError:
            return False
        return dump(other, sort=True) == dump(tree, sort=True)


def flag_names(cls: type, value: int) -> list[str]:
    """The single-bit members that make up a flag's value, as they are named today."""
    members: dict[str, Enum] = class_attribute(cls, "_member_map_")
    names = []
    for name, member in members.items():
        bits = member._value_
        if member._name_ == name and bits & (bits - 1) == 0 and bits and bits & value == bits:
            names.append(name)
    return names


_Write = Callable[[Writer, Any, Path, int], Any]

_CONTAINERS: dict[type, _Write] = {
    tuple: lambda w, v, path, depth: {TAG: "tuple", "v": w.items(v, len(v), path, depth)},
    set: lambda w, v, path, depth: w._set("set", v, path, depth),
    frozenset: lambda w, v, path, depth: w._set("frozenset", v, path, depth),
    OrderedDict: lambda w, v, path, depth: w._ordered("ordered-dict", v, path, depth),
    Counter: lambda w, v, path, depth: w._ordered("counter", v, path, depth),
    defaultdict: Writer._defaultdict,
    deque: Writer._deque,
    **parts.WRITERS,
}

_PLAIN = frozenset({str, dict, list, int, float, bool, type(None)})


def has_own_encoding(cls: type) -> bool:
    """Whether values of this class are written in one way that nobody may replace."""
    return (
        cls in _PLAIN
        or cls in _CONTAINERS
        or leaf_of(cls) is not None
        or library_write_of(cls) is not None
    )


_KINDS: dict[str, Callable[[Writer, Any, Shape, Path, int], Any]] = {
    "enum": Writer._enum,
    "namedtuple": Writer._namedtuple,
    "dataclass": Writer._plain_object,
    "attrs": Writer._plain_object,
    "pydantic": Writer._model,
}
