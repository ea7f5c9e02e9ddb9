"""What code a checkpoint consists of, as a digest that lasts.

The fingerprint covers a function and what it uses in its project (DESIGN.md,
section 3, "Reuse"). Two processes that load the same source give the same
digest, however they were started and whatever ran before; what the fingerprint
cannot see it lists. It decides nothing about reuse.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType, MappingProxyType, MethodType
from typing import Any, NamedTuple
from weakref import ref

from kitaru._engine.fingerprint.bytecode import VERSION, read
from kitaru._engine.fingerprint.labels import digest_of
from kitaru._engine.fingerprint.looks import callable_of, cells, kitaru_function, partial_pieces
from kitaru._engine.fingerprint.plain import frame, plain, text
from kitaru._engine.fingerprint.project import Project
from kitaru._engine.fingerprint.walk import NEVER_AGAIN, Walk

__all__ = ["Fingerprint", "code_digest", "fingerprint"]


class Fingerprint(NamedTuple):
    """``parts``: function, class or value -> its digest; ``unseen``: what is missing, in words.

    ``files`` says where the sources of the parts are: module, or part, -> file.
    """

    digest: bytes
    parts: dict[str, str]
    unseen: tuple[str, ...]
    files: Mapping[str, str] = MappingProxyType({})


class _Known(NamedTuple):
    fingerprint: Fingerprint
    bindings: list[tuple[dict[str, Any], str, object]]
    codes: list[tuple[Callable[[], FunctionType | None], object, object, object]]
    captured: list[tuple[Callable[[], FunctionType | None], list[Callable[[], object]]]]

    def still_holds(self) -> bool:
        """Whether every name is bound as it was: notebooks and tests redefine functions."""
        for space, name, value in self.bindings:
            if space.get(name) is not value:
                return False
        for weak, code, defaults, kwdefaults in self.codes:
            fn = weak()
            if (
                fn is None
                or fn.__code__ is not code
                or fn.__defaults__ is not defaults
                or fn.__kwdefaults__ is not kwdefaults
            ):
                return False
        return all(_captures_the_same(weak(), held) for weak, held in self.captured)


def _captures_the_same(fn: FunctionType | None, captured: list[Callable[[], object]]) -> bool:
    if fn is None:
        return False
    now = [value for _, value in cells(fn)]
    before = [hold() for hold in captured]
    return len(now) == len(before) and all(
        old is new or old is _ANY for old, new in zip(before, now, strict=True)
    )


def _hold(value: object) -> Callable[[], object]:
    """A way back to a captured value that does not keep a function alive by its own cell."""
    if plain(value) is not None:
        return lambda: value
    try:
        return ref(value)
    except TypeError:
        return lambda: _ANY


# Stands for lists and dicts, which cannot be referred to weakly.
_ANY = object()
# By id, with a reference that clears the entry: a WeakKeyDictionary makes and hashes
# a new reference at every look-up, and this is looked up at every call.
_known: dict[int, tuple[ref[FunctionType], dict[str | None, _Known]]] = {}


def _known_of(fn: FunctionType) -> dict[str | None, _Known]:
    key = id(fn)
    entry = _known.get(key)
    if entry is None or entry[0]() is not fn:
        entry = _known[key] = (ref(fn, lambda gone: _forget(key, gone)), {})
    return entry[1]


def _forget(key: int, gone: ref[FunctionType]) -> None:
    entry = _known.get(key)
    if entry is not None and entry[0] is gone:
        del _known[key]


def fingerprint(fn: Callable[..., Any], *, root: str | None, what: str) -> Fingerprint:
    """Digest a function with everything that it uses in its project.

    ``root`` is the folder of the project, ``what`` what ``unseen`` calls the
    function if it has no name of its own. Never raises for the sake of what
    the function is, and runs no code of the user's. The first call costs some
    0.1 ms a function covered, later ones a look at every name.
    """
    key: Any = fn
    if type(key) is MethodType:
        key = key.__func__
    if type(key) is not FunctionType:
        # Its __hash__ and __eq__ would be the user's code; computed every time.
        return _compute(fn, root, what)[0]
    known = _known_of(key)
    found = known.get(root)
    if found is None or not found.still_holds():
        computed, walk = _compute(fn, root, what)
        if not _lasts(walk):
            return computed
        found = known[root] = _remember(computed, walk)
    return found.fingerprint


def _remember(computed: Fingerprint, walk: Walk) -> _Known:
    known = _Known(computed, walk.bindings, [], [])
    for fn in walk.functions:
        known.codes.append((ref(fn), fn.__code__, fn.__defaults__, fn.__kwdefaults__))
        if fn.__closure__:
            known.captured.append((ref(fn), [_hold(value) for _, value in cells(fn)]))
    return known


def _compute(fn: object, root: str | None, what: str) -> tuple[Fingerprint, Walk]:
    walk = Walk(Project(root, _globals_of(fn)))
    try:
        label = walk.label(fn, what)
        parts = walk.run()
    except Exception as error:  # Nothing that users write may break a run for its fingerprint.
        walk.unseen.add(f"{what} cannot be read whole: {type(error).__name__}: {error}")
        label, parts = NEVER_AGAIN, {}
    pieces = [frame(b"", text(name), digest) for name, digest in parts.items()]
    digest = digest_of(text(VERSION), label, *pieces)
    shown = {name: part.hex()[:12] for name, part in parts.items()}
    return Fingerprint(digest, shown, tuple(sorted(walk.unseen)), walk.files), walk


def _globals_of(fn: Any) -> dict[str, Any]:
    for _ in range(20):
        if type(fn) is FunctionType:
            wrapped = fn.__dict__.get("__wrapped__")
            if wrapped is None or type(wrapped) is not FunctionType:
                return fn.__globals__
            fn = wrapped
        elif type(fn) is MethodType:
            fn = fn.__func__
        elif issubclass(type(fn), partial):
            fn = partial_pieces(fn)[0]
        else:
            inner = kitaru_function(fn) or callable_of(fn)
            if inner is None:
                break
            fn = inner
    return {}


def _lasts(walk: Walk) -> bool:
    """Whether the names looked up belong to modules: other globals would never be freed."""
    spaces = {id(space): space for space, _, _ in walk.bindings}
    return all(
        getattr(sys.modules.get(space.get("__name__", "")), "__dict__", None) is space
        for space in spaces.values()
    )


def code_digest(fn: Callable[..., Any]) -> bytes:
    """Digest the code of one function, its constants and its defaults, and nothing it calls.

    >>> code_digest(lambda x: x + 1) == code_digest(lambda x: (x + 1))
    True
    >>> code_digest(lambda x: x + 1) == code_digest(lambda x: x + 2)
    False
    """
    try:
        return _code_digest(fn)
    except Exception:  # Whatever it is: different from everything, so never reused.
        return NEVER_AGAIN


def _code_digest(fn: Callable[..., Any]) -> bytes:
    walk = Walk(Project(None, _globals_of(fn)))
    if type(fn) is not FunctionType:
        return digest_of(text(VERSION), walk.label(fn, "a function"))
    code, defaults = fn.__code__, fn.__kwdefaults__ or {}
    pieces = [walk.label(value, "a default") for value in fn.__defaults__ or ()]
    pieces += [
        frame(b"", text(name), walk.label(value, "a default"))
        for name, value in sorted(defaults.items())
    ]
    return digest_of(text(VERSION), text(code.co_name), read(code).digest, *pieces)
