"""``kitaru.register_codec``: what may be registered, and what is taken.

How a registered codec is used is said in ``registered.py``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from kitaru._core.names import check_name, shortened
from kitaru._core.values.classes import name_of
from kitaru._core.values.paths import type_name
from kitaru._core.values.registered import Registered, add, by_class, by_name
from kitaru._core.values.writer import has_own_encoding
from kitaru.errors import KitaruUsageError

T = TypeVar("T")

_registering = threading.Lock()


def register_codec(
    cls: type[T],
    /,
    *,
    name: str,
    encode: Callable[[T], bytes] | None,
    decode: Callable[[bytes], T],
    preview: Callable[[T], str] | None = None,
    exact: bool = False,
) -> None:
    """Teach Kitaru to store the values of a class: exactly this class, no subclass.

    ``name`` is stored with each value and says how to read it, so it must last: a new
    format gets a new name, and the old one stays readable with ``encode=None``. ``encode``
    gives equal bytes for equal values, because arguments count by them. ``preview`` is a
    text of at most 200 characters that is stored beside the bytes, and all that the command
    line and listings show. ``exact=True`` says that values never change: a checkpoint then
    hands on the very object that its body returned, instead of one that was read back.

    Registering the same class and name again replaces the codec, as a reloaded module does;
    everything else that is taken raises ``KitaruUsageError``.

    >>> class Matrix:
    ...     def __init__(self, rows):
    ...         self.rows = rows
    >>> register_codec(
    ...     Matrix,
    ...     name="example.matrix",
    ...     encode=lambda matrix: repr(matrix.rows).encode(),
    ...     decode=lambda data: Matrix(__import__("ast").literal_eval(data.decode())),
    ...     preview=lambda matrix: f"{len(matrix.rows)} rows",
    ... )
    """
    if not isinstance(cls, type):
        raise KitaruUsageError(
            f"register_codec({shortened(cls)}): pass a class", code="option-invalid"
        )
    name = check_name("codec", name)
    for option, function in (("encode", encode), ("decode", decode), ("preview", preview)):
        may_be_none = option != "decode"
        if not callable(function) and not (function is None and may_be_none):
            raise KitaruUsageError(
                f"{option}={shortened(function)}: pass a function", code="option-invalid"
            )
    if type(exact) is not bool:
        raise KitaruUsageError(
            f"exact={shortened(exact)}: pass True or False", code="option-invalid"
        )
    codec = Registered(cls, name, encode, decode, preview)
    with _registering:
        _refuse_taken(codec)
        add(codec, exact=exact)


def _refuse_taken(codec: Registered) -> None:
    cls, name = codec.cls, codec.name
    if has_own_encoding(cls):
        raise KitaruUsageError(
            f"a {type_name(cls)} has an encoding of its own: wrap it in a class of yours, and "
            "register that",
            code="option-invalid",
        )
    same_name = by_name.get(name)
    if same_name is not None and name_of(same_name.cls) != name_of(cls):
        raise KitaruUsageError(
            f"the codec {name!r} is that of {type_name(same_name.cls)} already: give the codec of "
            f"{type_name(cls)} another name",
            code="name-taken",
        )
    for other in by_class.values():
        if codec.encode is not None and other.name != name and name_of(other.cls) == name_of(cls):
            raise KitaruUsageError(
                f"{type_name(cls)} has the codec {other.name!r} already: if {name!r} is its new "
                f"format, register {other.name!r} with encode=None, to read what it wrote, first",
                code="name-taken",
            )
