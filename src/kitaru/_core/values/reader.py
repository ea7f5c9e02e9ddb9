"""Trees to values. Imports nothing of the user's, and runs nothing of it.

The stored tag decides; a class is looked up among those that the program has
loaded, and an object is rebuilt field by field without its ``__init__``. Only a
record that its class no longer fits is given to ``changes.py``. What cannot be
read raises ``KitaruValueError`` with its path; it never becomes None.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from enum import Flag
from typing import Any

from kitaru._core.limits import READABLE, Limits
from kitaru._core.values import attachments, exceptions, parts
from kitaru._core.values.changes import (
    convert,
    convert_member,
    misfit_of,
    remedy,
    short_name,
    wrong_type,
)
from kitaru._core.values.classes import find_class
from kitaru._core.values.codecs import read_of
from kitaru._core.values.leaves import READERS
from kitaru._core.values.paths import Path, problem
from kitaru._core.values.rebuilding import Recorded, rebuild
from kitaru._core.values.shapes import (
    MISSING,
    Shape,
    class_attribute,
    default_of,
    shape_of,
)
from kitaru._core.values.text import TAG, dump
from kitaru._core.values.writer import FACTORIES, to_tree
from kitaru.errors import KitaruValueError


class Reader:
    """One walk over one tree, which it may change in place."""

    __slots__ = ("attached", "attached_left", "hints", "limits", "may_convert", "what")

    def __init__(
        self,
        what: str,
        hints: Sequence[type] = (),
        limits: Limits = READABLE,
        attached: memoryview | None = None,
    ) -> None:
        self.what = what
        self.hints = hints
        self.limits = limits
        self.attached = attached
        self.attached_left = 0 if attached is None else len(attached)
        self.may_convert = True
        """Whether code of the user's may be asked to take a record that does not fit its class."""

    def value(self, tree: Any, path: Path, depth: int) -> Any:
        kind = type(tree)
        if kind is dict:
            if TAG in tree:
                return self._tagged(tree, path, depth)
            self._enter(path, depth)
            for key, item in tree.items():
                if type(item) is dict or type(item) is list:
                    tree[key] = self.value(item, (path, key), depth + 1)
        elif kind is list:
            self._enter(path, depth)
            for index, item in enumerate(tree):
                if type(item) is dict or type(item) is list:
                    tree[index] = self.value(item, (path, index), depth + 1)
        return tree

    def _enter(self, path: Path, depth: int) -> None:
        if depth >= self.limits.max_depth:
            raise problem(
                self.what,
                path,
                f"the record is nested more than {self.limits.max_depth} deep, as none of "
                "Kitaru's is: restore the store from a backup, or run the execution anew",
                code="record-malformed",
            )

    def malformed(self, path: Path, detail: str) -> KitaruValueError:
        return problem(
            self.what,
            path,
            f"the record is malformed ({detail}); it was changed outside Kitaru, or written by a "
            "later release: restore the store from a backup, or upgrade Kitaru",
            code="record-malformed",
        )

    def _part(self, tree: dict[str, Any], name: str, kind: type, path: Path) -> Any:
        part = tree.get(name)
        if type(part) is not kind:
            raise self.malformed(path, f"{name!r} is not a {kind.__name__}")
        return part

    def _tagged(self, tree: dict[str, Any], path: Path, depth: int) -> Any:
        tag = tree[TAG]
        if type(tag) is not str:
            raise self.malformed(path, "a tag that is not a text")
        leaf = READERS.get(tag)
        if leaf is not None:
            return self._leaf(leaf, tag, tree, path)
        read = _CONTAINERS.get(tag) or read_of(tag, self, path)
        if read is None:
            raise self.malformed(path, f"unknown tag {tag[:80]!r}")
        self._enter(path, depth)
        try:
            return read(self, tree, path, depth + 1)
        except (KitaruValueError, RecursionError):
            raise
        except Exception as error:
            # A tampered record: keys that cannot be hashed, items that do not fit.
            raise self.malformed(path, f"{tag}: {type(error).__name__}") from None

    def _leaf(self, read: Callable[[Any], Any], tag: str, tree: dict[str, Any], path: Path) -> Any:
        try:
            return read(tree["v"])
        except Exception as error:
            raise self.malformed(path, f"{tag}: {type(error).__name__}") from None

    def binary(self, node: Any) -> attachments.Data:
        """The bytes behind a node that ``Writer.binary`` made; ``ValueError`` for any other."""
        data = attachments.find(node, self.attached)
        if type(node) is list:
            # Each is mentioned once: a few bytes must not claim the same megabytes often.
            self.attached_left -= len(data)
            if self.attached_left < 0:
                raise ValueError("an attachment is mentioned twice")
        return data

    def items(self, tree: dict[str, Any], path: Path, depth: int) -> list[Any]:
        items: list[Any] = self._part(tree, "v", list, path)
        return [self.value(item, (path, index), depth) for index, item in enumerate(items)]

    def _unique(self, make: Callable[[list[Any]], Any], tree: Any, path: Path, depth: int) -> Any:
        items = self.items(tree, path, depth)
        self._refuse_collisions(items, path)
        made = make(items)
        if len(made) != len(items):
            raise self.malformed(path, "an item twice in a set")
        return made

    def _refuse_collisions(self, keys: list[Any], path: Path) -> None:
        """Thousands of keys of one hash, which only an attack has, would take for ever."""
        if len(keys) > _MANY_KEYS and len(set(map(hash, keys))) < len(keys) // 2:
            raise self.malformed(path, "keys that were chosen to collide")

    def _pairs(self, tree: dict[str, Any], path: Path, depth: int) -> list[tuple[Any, Any]]:
        read: list[tuple[Any, Any]] = []
        for pair in self._part(tree, "v", list, path):
            key, item = pair
            step = key if type(key) in (str, int) else "<key>"
            read.append(
                (self.value(key, (path, step), depth), self.value(item, (path, step), depth))
            )
        return read

    def _mapping(self, make: Callable[[Any], Any], tree: Any, path: Path, depth: int) -> Any:
        pairs = self._pairs(tree, path, depth)
        self._refuse_collisions([key for key, _ in pairs], path)
        made = make(pairs)
        if len(made) != len(pairs):
            raise self.malformed(path, "a key twice in a dict")
        return made

    def _defaultdict(self, tree: dict[str, Any], path: Path, depth: int) -> Any:
        factory = None if tree["factory"] is None else FACTORIES[tree["factory"]]
        return self._mapping(lambda pairs: defaultdict(factory, pairs), tree, path, depth)

    def _deque(self, tree: dict[str, Any], path: Path, depth: int) -> Any:
        return deque(self.items(tree, path, depth), tree.get("maxlen"))

    # --- classes ---------------------------------------------------------------

    def _class(self, tree: dict[str, Any], path: Path) -> tuple[type, Shape]:
        kind = tree[TAG]
        name = self._part(tree, "of", str, path)
        module, _, qualname = name.partition(":")
        cls = find_class(module, qualname, self.hints)
        if cls is None:
            raise problem(
                self.what, path, _not_found(kind, module, qualname), code="class-not-found"
            )
        shape = shape_of(cls)
        if shape is None or (shape.kind != kind and not {shape.kind, kind} <= _OBJECTS):
            raise problem(
                self.what,
                path,
                f"{name} was a {kind} when the value was recorded and is none now; give it back "
                "its kind, or run the checkpoint anew under another name",
                code="class-changed",
            )
        return cls, shape

    def _object(self, tree: dict[str, Any], path: Path, depth: int) -> Any:
        cls, shape = self._class(tree, path)
        stored = self._part(tree, "v", dict, path)
        fields = {name: self.value(item, (path, name), depth) for name, item in stored.items()}
        recorded = Recorded(
            fields,
            self._rest(tree, "x", path, depth),
            self._rest(tree, "extra", path, depth),
            self._rest(tree, "private", path, depth),
            self._part(tree, "set", list, path) if "set" in tree else tuple(stored),
        )
        was = tree[TAG]
        if was == shape.kind and fields.keys() <= set(shape.fields):
            if tree.get("shape") == shape.fingerprint:
                return rebuild(cls, shape, recorded)
            misfit = wrong_type(cls, shape, fields, tree.get("shape"))
            if misfit is not None:
                return self._convert(cls, shape, recorded, path, misfit)
        removed = [name for name in fields if name not in shape.fields]
        added = [name for name in shape.fields if name not in fields]
        unfilled = [name for name in added if not self._fill(fields, cls, shape, name)]
        if was == shape.kind and not removed and not unfilled:
            fields = {name: fields[name] for name in shape.fields}
            return rebuild(cls, shape, recorded._replace(fields=fields))
        misfit = misfit_of(shape, removed, unfilled, None if was == shape.kind else was)
        recorded = recorded._replace(fields={name: fields[name] for name in stored})
        return self._convert(cls, shape, recorded, path, misfit)

    def _convert(self, cls: type, shape: Shape, recorded: Recorded, path: Path, misfit: str) -> Any:
        if not self.may_convert:
            raise problem(self.what, path, f"{misfit}. {remedy(cls)}", code="class-changed")
        return convert(cls, shape, recorded, what=self.what, path=path, misfit=misfit)

    def _fill(self, values: dict[str, Any], cls: type, shape: Shape, name: str) -> bool:
        """Give a field that is new its default; False if it has none that is plain."""
        default = default_of(cls, shape, name, call_classes=False)
        if default is MISSING:
            return False
        try:
            # A copy: today's default must not be shared with what is read back.
            values[name] = Reader(self.what).value(_copied(to_tree(default)), "$", 0)
        except KitaruValueError:
            return False
        return True

    def _rest(self, tree: dict[str, Any], name: str, path: Path, depth: int) -> dict[str, Any]:
        if name not in tree:
            return {}
        rest = self.value(tree[name], path, depth)
        if type(rest) is not dict or not all(type(key) is str for key in rest):
            raise self.malformed(path, f"{name!r} is not a dict of attributes")
        return rest

    def _enum(self, tree: dict[str, Any], path: Path, depth: int) -> Any:
        cls, shape = self._class(tree, path)
        name = self._part(tree, "name", str, path)
        members = class_attribute(cls, "_member_map_")
        if issubclass(cls, Flag):
            return self._flag(cls, members, name, tree, path)
        member = members.get(name)
        if member is None:
            misfit = f"{shape.name} has no member {name[:80]!r} any more; add it again"
        elif "v" in tree and dump(to_tree(member._value_), sort=True) != dump(tree["v"], sort=True):
            misfit = (
                f"{shape.name}.{name[:80]} has another value than when it was recorded; give it "
                "back its value, or give the new meaning a new name"
            )
        else:
            return member
        value = self.value(tree.get("v"), (path, "value"), depth)
        made = None
        if self.may_convert:
            made = convert_member(cls, shape, name, value, what=self.what, path=path)
        if made is None:
            raise problem(
                self.what,
                path,
                f"{misfit}, or write @kitaru.upcast({short_name(cls)}) beside it",
                code="class-changed",
            )
        return made

    def _flag(self, cls: Any, members: Any, names: str, tree: Any, path: Path) -> Any:
        value = self._part(tree, "v", int, path)
        for name in filter(None, names.split("|")):
            member = members.get(name)
            if member is None or member._value_ & value != member._value_:
                raise problem(
                    self.what,
                    path,
                    f"{tree['of']} has no bit {name[:80]!r} of the recorded value; add it again",
                    code="class-changed",
                )
        known = class_attribute(cls, "_value2member_map_").get(value)
        # A combination: made by the standard library's own code, not by an override.
        made = known if known is not None else Flag.__dict__["_missing_"].__func__(cls, value)
        if type(made) is not cls:
            raise self.malformed(path, "bits that the flag does not have")
        return made

    # --- exceptions ------------------------------------------------------------

    def _exception(self, tree: dict[str, Any], path: Path, depth: int) -> BaseException:
        name = self._part(tree, "of", str, path)
        module, _, qualname = name.partition(":")
        cls = find_class(module, qualname, self.hints)
        if cls is None or not issubclass(cls, BaseException):
            raise problem(
                self.what, path, _not_found("exception", module, qualname), code="class-not-found"
            )
        args = [self.value(arg, (path, "args"), depth) for arg in tree["args"]]
        state = {
            key: self.value(held, (path, key), depth)
            for key, (held,) in tree.get("state", {}).items()
        }
        notes = [self.value(note, (path, "__notes__"), depth) for note in tree.get("notes", ())]
        group = None
        if "group" in tree:
            group = [self._nested(member, path, depth) for member in tree["group"]]
        error = exceptions.make(cls, exceptions.Bare(name, tuple(args), state, notes, group))
        cause, context = (
            self._nested(tree[part], path, depth) if part in tree else None
            for part in ("cause", "context")
        )
        exceptions.chain(error, cause, context, tree.get("suppress") is True)
        return error

    def _nested(self, tree: Any, path: Path, depth: int) -> BaseException:
        if type(tree) is not dict or tree.get(TAG) != "exception":
            raise self.malformed(path, "an exception that is none")
        self._enter(path, depth)
        return self._exception(tree, path, depth + 1)


def _copied(tree: Any) -> Any:
    if type(tree) is list:
        return [_copied(item) for item in tree]
    if type(tree) is dict:
        return {key: _copied(item) for key, item in tree.items()}
    return tree


def _not_found(kind: str, module: str, qualname: str) -> str:
    module, qualname = module[:_MAX_SHOWN], qualname[:_MAX_SHOWN]
    if "<locals>" in qualname:
        remedy = (
            "a class that is made inside a function cannot be found again: move it to the top "
            f"level of {module}, or name it in the annotation"
        )
    elif "[" in qualname:
        generic = qualname.partition("[")[0]
        remedy = (
            f"{generic} with its parameters is made when it is first written: name {qualname} in "
            "the annotation, or at the top level of a module"
        )
    else:
        remedy = f"import {module} before the value is read; if it was renamed, keep the old name"
    return (
        f"it was recorded as the {kind} {module}.{qualname}, which this program has not loaded: "
        f"{remedy}. The recorded value is kept as it is"
    )


_MANY_KEYS = 1000
_MAX_SHOWN = 300
"""Characters of a recorded name that a message shows."""

_OBJECTS = {"dataclass", "attrs", "namedtuple", "pydantic"}
"""Kinds of classes that may have become one another."""

_CONTAINERS: dict[str, Callable[[Reader, dict[str, Any], Path, int], Any]] = {
    "tuple": lambda r, tree, path, depth: tuple(r.items(tree, path, depth)),
    "set": lambda r, tree, path, depth: r._unique(set, tree, path, depth),
    "frozenset": lambda r, tree, path, depth: r._unique(frozenset, tree, path, depth),
    "dict": lambda r, tree, path, depth: r._mapping(dict, tree, path, depth),
    "ordered-dict": lambda r, tree, path, depth: r._mapping(OrderedDict, tree, path, depth),
    "counter": lambda r, tree, path, depth: r._mapping(
        lambda pairs: Counter(dict(pairs)), tree, path, depth
    ),
    "defaultdict": Reader._defaultdict,
    "deque": Reader._deque,
    **parts.READERS,
    "large-bytes": lambda r, tree, path, depth: bytes(r.binary(tree["v"])),
    "large-bytearray": lambda r, tree, path, depth: bytearray(r.binary(tree["v"])),
    "dataclass": Reader._object,
    "attrs": Reader._object,
    "namedtuple": Reader._object,
    "pydantic": Reader._object,
    "enum": Reader._enum,
    "exception": Reader._exception,
}
