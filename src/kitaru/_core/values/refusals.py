"""Why a value has no encoding, and what its owner can do about it."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from kitaru._core.values.codecs import write_of
from kitaru._core.values.paths import module_of, mro_of, type_name
from kitaru._core.values.shapes import base_of

_PLAIN = "return plain data, a dataclass or a pydantic model instead"
_KEEP_OUT = "keep it outside the value and make it again where it is needed"

_SECRET = (
    "a secret would stand in the store in clear: keep a reference such as "
    'kitaru.Secret(env="NAME") in its place, and call .get() where the value is needed'
)

_FUNCTIONS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodWrapperType,
)

_BY_NAME: dict[str, str] = {
    "memoryview": "store bytes(view)",
    "functools.partial": "call it, or store what it is called with",
    "weakref.ReferenceType": "store what it points to",
    "NotImplementedType": "it is what an operator returns that cannot compare: return None",
    "mappingproxy": "store dict(proxy)",
    "kitaru.futures.FutureList": "these are futures: return `.results()` of it",
    "kitaru.futures.CheckpointFuture": "this is a future: return its `.result()`, or await it",
    "kitaru.handles.FlowHandle": "a handle holds a running execution: use handle.exec_id, and "
    "client.executions.handle(exec_id) where it is needed",
    "object": _PLAIN,
    "numpy.ma.MaskedArray": "store .filled() of it, or its .data and .mask",
    "numpy.ma.core.MaskedArray": "store .filled() of it, or its .data and .mask",
    "numpy.rec.recarray": "store numpy.array(…) of it",
    "numpy.memmap": "store its path, or numpy.array(…) of it",
    "numpy.matrix": "store numpy.asarray(…) of it",
}


_BY_LIBRARY = {
    "polars": "of Polars, frames and series are stored: .collect() what is lazy",
    "pyarrow": "of pyarrow, tables, record batches and arrays are stored: make it one of them",
    "PIL": "store image.copy() of it, which is in memory and lets go of the file",
    "numpy": "of numpy, arrays and scalars are stored: make it one, or a text",
    "pandas": "of pandas, frames, series, indexes and their cells are stored: make it one of them",
    "pydantic": "declare the field as str, or store str(…) of it",
    "pydantic_core": "declare the field as str, or store str(…) of it",
}


def remedy_for(value: object) -> str:
    """What to do about a value that cannot be stored, in half a sentence.

    >>> remedy_for(memoryview(b""))
    'store bytes(view)'
    """
    return remedy_for_class(type(value))


def remedy_for_class(cls: type) -> str:
    """What to do about values of a class that has no encoding."""
    for fits, remedy in _RULES:
        if fits(cls):
            return remedy
    named = _BY_NAME.get(type_name(cls))
    if named is not None:
        return named
    library = module_of(cls).partition(".")[0]
    if library in _BY_LIBRARY:
        return _BY_LIBRARY[library]
    for parent in mro_of(cls)[1:]:
        if write_of(parent) is not None:
            return (
                f"it is a subclass of {type_name(parent)}, which would lose its type: convert it "
                f"to a {type_name(parent)}"
            )
    base = base_of(cls)
    if base:
        return f"it is a subclass of {base}, which would lose its type: convert it with {base}(…)"
    return (
        "make it a dataclass, return plain data or a pydantic model instead, or teach it with "
        "kitaru.register_codec"
    )


def remedy_for_leaf(tag: str) -> str:
    """What to do about a value whose kind has an encoding, but which has none itself."""
    if tag == "array":
        return "store its .tolist()"
    if tag == "fraction":
        return "its parts have more than 10,000 digits: store them as a tuple"
    return "its time zone cannot be read back: use zoneinfo.ZoneInfo or UTC"


def _is_file(cls: type) -> bool:
    return module_of(cls) in ("_io", "io", "tempfile", "socket", "_socket", "ssl") or (
        module_of(cls) == "typing" and cls.__name__ in ("IO", "TextIO", "BinaryIO")
    )


def _is_lock(cls: type) -> bool:
    return module_of(cls) in ("_thread", "threading", "multiprocessing.synchronize")


def _is_secret(cls: type) -> bool:
    return module_of(cls) == "pydantic.types" and cls.__name__.startswith("Secret")


def _is_iterator(cls: type) -> bool:
    return issubclass(cls, Iterator) and not issubclass(cls, (str, list, tuple, dict))


_RULES: tuple[tuple[Callable[[type], Any], str], ...] = (
    (
        _is_secret,
        _SECRET,
    ),
    (
        lambda cls: issubclass(cls, (Coroutine, AsyncIterator)),
        "await it (or collect it) first and store what it gives",
    ),
    (
        _is_file,
        f"an open file or connection lives in one process: store its path, and {_KEEP_OUT}",
    ),
    (_is_lock, f"a lock or thread lives in one process: {_KEEP_OUT}"),
    (lambda cls: issubclass(cls, types.ModuleType), "store its name"),
    (lambda cls: issubclass(cls, _FUNCTIONS), "call it, and store what it returns"),
    (lambda cls: issubclass(cls, type), "store its name"),
    (_is_iterator, "it can be read only once: store list(…) of it"),
)
