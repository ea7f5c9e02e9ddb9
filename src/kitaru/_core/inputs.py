"""What a call is called with, as digests: one for each argument, one for all.

Each argument's canonical encoding is hashed on its own, so that we can say which
one changed; arguments that equal their default are left out, so that a new
optional parameter does not re-run the past (DESIGN.md, section 3). Two digests
come out. ``digest`` says which call this is; ``ordered`` also sees what a body may
see but identity should not: the order of keys, and the files behind paths.

How code is fingerprinted and what a file looks like are handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from hashlib import blake2b
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, NamedTuple

from kitaru._core.binding import Binder
from kitaru._core.objects import CodeDigest, Uncoded, captured_values, mark, type_name
from kitaru._core.values import dump, preview
from kitaru._core.values.secrets import masked
from kitaru._core.values.text import TAG, parse
from kitaru.masking import NEEDLES

DIGEST_BYTES = 16
MAX_PREVIEW_BYTES = 4096
_HEAD_CHARACTERS = 120

MAX_KNOWN_NAMES = 4096
"""Names of arguments come from code, but for ``**keywords``: those may be many."""

FileFacts = Callable[[str], str | None]
"""A path -> size and time of the file there, or None where there is none."""

_quoted = lru_cache(maxsize=MAX_KNOWN_NAMES)(encode_basestring)
_quoted_ascii = lru_cache(maxsize=MAX_KNOWN_NAMES)(encode_basestring_ascii)

_PATH_MARK = f'"{TAG}":"path"'.encode()
_NOTHING: dict[str, Any] = {}
_NONE, _TRUE, _FALSE = b"null", b"true", b"false"

# A copied hash is a third cheaper than a new one that has to parse its options.
_argument_hash = blake2b(digest_size=DIGEST_BYTES, person=b"kitaru.argument")
_inputs_hash = blake2b(digest_size=DIGEST_BYTES, person=b"kitaru.inputs")
_ordered_hash = blake2b(digest_size=DIGEST_BYTES, person=b"kitaru.ordered")


class Inputs(NamedTuple):
    """The inputs of one call, digested."""

    digest: bytes
    """16 bytes: which call this is."""
    ordered: bytes
    """16 bytes, for reuse: the order of keys and the files behind paths count too."""
    arguments: dict[str, bytes]
    """Name -> 16 bytes, without those that equal their default or are ignored."""
    opaque: tuple[tuple[str, str], ...]
    """``("config.client", "httpx.Client")`` for each thing that counts by its type only."""
    opaque_objects: tuple[object, ...]
    """Those things themselves, in the same order."""
    preview: str | None
    """JSON for people, name -> argument, at most 4 KiB: what is large by its size and head."""

    def arguments_json(self) -> str:
        """``arguments`` as it is recorded: JSON, name -> hex digest."""
        return arguments_json(self.arguments)


def arguments_json(arguments: Mapping[str, bytes]) -> str:
    """JSON, name -> hex digest, in the order of the arguments."""
    return "{" + ",".join([f'{_quoted_ascii(n)}:"{d.hex()}"' for n, d in arguments.items()]) + "}"


class _Argument(NamedTuple):
    """One argument that is no plain scalar, encoded."""

    shown: bytes
    """Its encoding with its keys in their own order."""
    digest: bytes
    ordered: bytes
    paths: tuple[str, ...]
    uncoded: Uncoded


def _digest(data: bytes) -> bytes:
    hasher = _argument_hash.copy()
    hasher.update(data)
    return hasher.digest()


def digest_tree(tree: object) -> bytes:
    """16 bytes of a tree's canonical form."""
    return _digest(dump(tree, sort=True))


def _scalar(value: Any, cls: type) -> bytes | None:
    """The canonical bytes of the commonest arguments, without a walk; None for all others."""
    if cls is str:
        # Beyond ASCII there are surrogates to think of.
        return encode_basestring(value).encode() if value.isascii() else None
    if cls is int:
        # Far beyond any limit on digits, values write integers otherwise.
        return b"%d" % value if -(1 << 64) < value < 1 << 64 else None
    if value is None:
        return _NONE
    if cls is bool:
        return _TRUE if value else _FALSE
    if cls is float and value - value == 0:
        return repr(value).encode()
    return None


def _argument(value: object, name: str, code_digest: CodeDigest | None, owner: str) -> _Argument:
    uncoded = Uncoded(code_digest, owner=owner)
    tree = uncoded.encode(value, name)
    data = dump(tree, sort=True)
    digest = ordered = _digest(data)
    shown = data
    paths: list[str] = []
    if b"{" in data:
        shown = dump(tree, sort=False)
        if shown != data:
            ordered = _digest(shown)
        if _PATH_MARK in data:
            _collect_paths(tree, paths)
    if uncoded.shown:
        for node, text in uncoded.shown:
            node["shows"] = text
        shown = dump(tree, sort=False)
    return _Argument(shown, digest, ordered, tuple(paths), uncoded)


def _collect_paths(tree: object, paths: list[str]) -> None:
    if type(tree) is list:
        for item in tree:
            _collect_paths(item, paths)
    elif type(tree) is dict:
        if tree.get(TAG) == "path":
            paths.append(str(tree["v"]))
        for item in tree.values():
            _collect_paths(item, paths)


class Default(NamedTuple):
    """What a default counts as: an argument that equals it is left out."""

    value: object
    digest: bytes
    ordered: bytes
    paths: tuple[str, ...]
    is_opaque: bool


class Defaults(NamedTuple):
    by_name: dict[str, Default]
    with_paths: tuple[str, ...]
    takes_rest_keys: bool


def _defaults_of(binder: Binder, code_digest: CodeDigest) -> Defaults:
    known: Defaults | None = binder.digested_defaults
    if known is None:
        by_name = {
            name: _default(value, name, code_digest) for name, value in binder.defaults.items()
        }
        with_paths = tuple(name for name, each in by_name.items() if each.paths)
        known = Defaults(by_name, with_paths, binder.rest_keys is not None)
        binder.digested_defaults = known
    return known


def _default(value: object, name: str, code_digest: CodeDigest) -> Default:
    encoded = _argument(value, name, code_digest, "")
    opaque = bool(encoded.uncoded.opaque)
    return Default(value, encoded.digest, encoded.ordered, encoded.paths, opaque)


def digest_inputs(
    bound: Mapping[str, object],
    *,
    binder: Binder,
    code_digest: CodeDigest,
    file_facts: FileFacts,
    ignore: Collection[str] = (),
) -> Inputs:
    """Digest the arguments that ``binder`` bound.

    What the function itself captures or binds (a closure, a partial, a bound
    method) counts like arguments, under names that end in ``(captured)``. Arguments
    in ``ignore`` are left out of all but the preview. Raises ``KitaruUsageError``
    for what can be read only once, ``KitaruValueError`` for what is too deep.
    """
    defaults = binder.digested_defaults or _defaults_of(binder, code_digest)
    by_name = defaults.by_name
    arguments: dict[str, bytes] = {}
    shown: list[bytes] = []
    more = _More(file_facts) if defaults.with_paths or binder.may_capture else None
    for name, value in bound.items():
        data = _scalar(value, type(value))
        if data is not None:
            digest = _digest(data)
            shown.append(data)
            if name in by_name and digest == by_name[name].digest:
                continue
            if ignore and _is_ignored(name, ignore, binder):
                continue
            arguments[name] = digest
            continue
        if ignore and _is_ignored(name, ignore, binder):
            shown.append(_shown_though_ignored(value, name))
            continue
        more = more or _More(file_facts)
        encoded = _argument(value, _shown_name(name), code_digest, binder.shown_name)
        shown.append(encoded.shown)
        more.add(name, value, encoded, by_name.get(name), arguments)
    opaque: tuple[tuple[str, str], ...] = ()
    objects: tuple[object, ...] = ()
    if more is not None:
        _add_what_is_not_passed(more, bound, binder, defaults, ignore, arguments)
        opaque, objects = tuple(more.opaque), tuple(more.objects)
    digest = _combine(_inputs_hash, arguments)
    ordered = digest
    if more is not None or defaults.takes_rest_keys:
        ordered = _ordered(digest, arguments, more)
    text = _preview(bound, shown)
    return Inputs(digest, ordered, arguments, opaque, objects, text)


class _More:
    """What only some calls have: opaque things, dicts, paths, captured variables."""

    __slots__ = ("_file_facts", "facts", "objects", "opaque", "ordered")

    def __init__(self, file_facts: FileFacts) -> None:
        self._file_facts = file_facts
        self.facts: dict[str, str] = {}
        self.opaque: list[tuple[str, str]] = []
        self.objects: list[object] = []
        self.ordered: dict[str, bytes] = {}

    def add(
        self,
        name: str,
        value: object,
        encoded: _Argument,
        default: Default | None,
        arguments: dict[str, bytes],
    ) -> None:
        self.add_files(encoded.paths)
        if default is not None and encoded.digest == default.digest:
            # Two opaque things of one type look alike, but need not be the same.
            if encoded.ordered != default.ordered:
                self.ordered[name] = encoded.ordered
            if value is default.value or not default.is_opaque:
                return
        arguments[name] = encoded.digest
        if encoded.ordered != encoded.digest:
            self.ordered[name] = encoded.ordered
        self.opaque += encoded.uncoded.opaque
        self.objects += encoded.uncoded.objects

    def add_files(self, paths: tuple[str, ...]) -> None:
        for path in paths:
            if path not in self.facts:
                facts = self._file_facts(path)
                if facts is not None:
                    self.facts[path] = facts


def _add_what_is_not_passed(
    more: _More,
    bound: Mapping[str, object],
    binder: Binder,
    defaults: Defaults,
    ignore: Collection[str],
    arguments: dict[str, bytes],
) -> None:
    for name in defaults.with_paths:
        # The file behind a default is read by the body like any other.
        if name not in bound and name not in ignore:
            more.add_files(defaults.by_name[name].paths)
    if binder.may_capture:
        for name, value in captured_values(binder.fn).items():
            if not (ignore and name.removesuffix(" (captured)") in ignore):
                encoded = _argument(value, name, None, binder.shown_name)
                more.add(name, value, encoded, None, arguments)


def _combine(start: Any, arguments: Mapping[str, bytes]) -> bytes:
    """One digest of name and digest of each argument, in the order of the names."""
    hasher = start.copy()
    names = sorted(arguments) if len(arguments) > 1 else arguments
    # Digests have one length and come first, so a length before each name frames it all.
    for name in names:
        hasher.update(arguments[name] + _framed_name(name))
    digest: bytes = hasher.digest()
    return digest


@lru_cache(maxsize=MAX_KNOWN_NAMES)
def _framed_name(name: str) -> bytes:
    text = name.encode("utf-8", "surrogatepass")
    return len(text).to_bytes(4, "little") + text


def _ordered(digest: bytes, arguments: Mapping[str, bytes], more: _More | None) -> bytes:
    keywords = [name for name in arguments if name.startswith("**")]
    entries: dict[str, bytes] = {}
    if more is not None:
        entries.update((f"argument {name}", each) for name, each in more.ordered.items())
        entries.update(
            (f"file {path}", _digest(facts.encode("utf-8", "surrogatepass")))
            for path, facts in more.facts.items()
        )
    if keywords != sorted(keywords):
        order = [f"{len(name)}:{name}" for name in keywords]
        entries["keywords"] = _digest("".join(order).encode("utf-8", "surrogatepass"))
    if not entries:
        return digest
    entries["digest"] = digest
    return _combine(_ordered_hash, entries)


def _is_ignored(name: str, ignore: Collection[str], binder: Binder) -> bool:
    if name in ignore:
        return True
    if name.startswith("**"):
        return name[2:] in ignore or binder.rest_keys in ignore
    return name.startswith("*") and name[1:] in ignore


def _shown_name(name: str) -> str:
    return name.lstrip("*") or name


def _shown_though_ignored(value: object, name: str) -> bytes:
    """An ignored argument as the preview has it; nothing about it may refuse the call."""
    try:
        return _argument(value, name, None, "").shown
    except Exception:
        return dump(mark("unreadable", type_name(type(value))), sort=False)


def _preview(bound: Mapping[str, object], shown: list[bytes]) -> str:
    if NEEDLES:
        shown = [masked(data) for data in shown]
    pairs = list(zip(bound, shown, strict=True))
    if sum(map(len, shown)) <= MAX_PREVIEW_BYTES // 2:
        pieces = [f"{_quoted(name)}:{data.decode()}" for name, data in pairs]
        text = "{" + ",".join(pieces) + "}"
        if len(text) <= MAX_PREVIEW_BYTES // 4 or len(text.encode()) <= MAX_PREVIEW_BYTES:
            return text
    return preview({name: _cut(data) for name, data in pairs}, MAX_PREVIEW_BYTES)


def _cut(data: bytes) -> object:
    """The tree behind ``data``, but not of what is too large to be shown in any case."""
    if len(data) <= MAX_PREVIEW_BYTES:
        return parse(data)
    head = data[: 4 * _HEAD_CHARACTERS].decode("utf-8", "ignore")[:_HEAD_CHARACTERS]
    return {TAG: "preview", "bytes": len(data), "digest": _digest(data).hex(), "head": head}
