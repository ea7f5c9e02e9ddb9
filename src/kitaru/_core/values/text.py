"""Trees to compact JSON bytes and back: deterministic, readable, exact.

A *tree* is made of exact ``dict``, ``list``, ``str``, ``int``, ``float``,
``bool`` and ``None`` only. This file knows nothing of what trees stand for,
but for one thing: which pairs are a dictionary and may be sorted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder as _json_encoder
from typing import Any

TAG = "$kitaru"
"""The key that makes a JSON object a tagged value. A user's dict that has it is stored as pairs."""

_DICT_MARK = f'"{TAG}":"dict"'
_QUOTED_TAG = f'"{TAG}"'.encode()


def _refuse(value: object) -> Any:
    raise TypeError(f"not a tree: {type(value).__name__}")


def _writer(sort: bool) -> Callable[[Any], str]:
    make: Any = getattr(_json_encoder, "c_make_encoder", None)
    quote: Any = _json_encoder.encode_basestring
    if make is None:  # an interpreter without the C accelerator
        return json.JSONEncoder(
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
            sort_keys=sort,
            check_circular=False,
            default=_refuse,
        ).encode
    # JSONEncoder.encode builds this anew for every call; building it once
    # halves the cost of a small value.
    chunks = make(None, _refuse, quote, None, ":", ",", sort, False, False)

    def write(tree: Any) -> str:
        return "".join(chunks(tree, 0))

    return write


_write_as_is = _writer(False)
_write_sorted = _writer(True)


def dump(tree: Any, *, sort: bool) -> bytes:
    """The JSON bytes of a tree; ``sort=True`` is canonical: the order of keys does not matter.

    UTF-8 that a person can read; only lone surrogates are escaped. Sets were
    put in order when their tree was made.

    >>> dump({"b": [1, 1.0, True], "a": "é"}, sort=True).decode()
    '{"a":"é","b":[1,1.0,true]}'
    """
    if not sort:
        text = _write_as_is(tree)
    else:
        text = _write_sorted(tree)
        if _DICT_MARK in text:
            text = _write_sorted(_with_sorted_pairs(tree))
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A surrogate stands only inside a string literal, where \udXXX is JSON.
        return text.encode("utf-8", "backslashreplace")


def _with_sorted_pairs(tree: Any) -> Any:
    if type(tree) is list:
        return [_with_sorted_pairs(item) for item in tree]
    if type(tree) is not dict:
        return tree
    tree = {key: _with_sorted_pairs(item) for key, item in tree.items()}
    if tree.get(TAG) == "dict" and type(tree.get("v")) is list:
        tree["v"] = sorted(tree["v"], key=_write_sorted)
    return tree


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decoder: Any = json.JSONDecoder(parse_constant=_refuse_constant)
_scan = _decoder.scan_once


def parse(data: bytes) -> Any:
    """The tree of JSON bytes; ``ValueError`` if they are not JSON, ``RecursionError`` if too deep.

    >>> parse(b'{"a":[1,1.0]}')
    {'a': [1, 1.0]}
    """
    text = data.decode()
    try:
        tree, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("not JSON") from None
    if end != len(text):
        raise ValueError("more than one JSON value")
    return tree


def may_hold_tags(data: bytes) -> bool:
    """Whether parsed ``data`` may hold tagged values; False is certain."""
    return _QUOTED_TAG in data
