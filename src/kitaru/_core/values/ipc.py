"""Arrow's IPC formats, as far as one must look before a library reads them.

What we write is never compressed. A record that is was edited, and a few kilobytes
of it may unpack to more than there is memory: so that is refused before anybody
unpacks it. This file reads the few fields of the flatbuffers that say so, and
knows no library. https://arrow.apache.org/docs/format/Columnar.html
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from struct import error as StructError

from kitaru._core.values.attachments import Data

_CONTINUATION = b"\xff\xff\xff\xff"
_MAGIC = b"ARROW1"
_U16, _I32, _U32, _I64 = (Struct(code) for code in ("<H", "<i", "<I", "<q"))
_BLOCK = Struct("<qi4xq")
"""Where a message of a file lies: offset, length of its metadata, length of its body."""

_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
"""Fields of ``Message``."""
_DICTIONARY, _BATCH = 2, 3
"""Types of its header that have a body."""
_BATCH_COMPRESSION, _DICTIONARY_DATA = 3, 1
_FOOTER_LISTS = (2, 3)
"""Fields of ``Footer``: where the dictionaries and the record batches lie."""


def check_stream(data: Data) -> None:
    """Raise ``ValueError`` unless it is a stream of uncompressed messages."""
    view = memoryview(data)
    try:
        at = 0
        while at < len(view):
            at = _check_message(view, at)
    except (StructError, IndexError) as error:
        raise ValueError(f"not an Arrow stream: {error}") from None


def check_file(data: Data) -> None:
    """Raise ``ValueError`` unless it is a file of uncompressed messages."""
    view = memoryview(data)
    try:
        if view[:6] != _MAGIC or view[-6:] != _MAGIC:
            raise ValueError("not an Arrow file")
        (length,) = _I32.unpack_from(view, len(view) - 10)
        footer = view[len(view) - 10 - length : len(view) - 10]
        for offset in _blocks(footer):
            _check_message(view, offset)
    except (StructError, IndexError) as error:
        raise ValueError(f"not an Arrow file: {error}") from None


def _check_message(view: memoryview, at: int) -> int:
    """Look at one message -> where the next begins."""
    if at < 0 or view[at : at + 4] != _CONTINUATION:
        raise ValueError("not a message of today's format")
    (length,) = _I32.unpack_from(view, at + 4)
    if length == 0:
        return len(view)  # the end of a stream
    start = at + 8
    message = view[start : start + length]
    if length < 0 or len(message) < length:
        raise ValueError("a message that is cut off")
    table = _root(message)
    kind_at = _field(message, table, _HEADER_TYPE)
    header = _table_at(message, table, _HEADER)
    if kind_at is not None and header is not None:
        kind = message[kind_at]
        if kind == _DICTIONARY:
            header = _table_at(message, header, _DICTIONARY_DATA)
        if (
            kind in (_DICTIONARY, _BATCH)
            and header is not None
            and _field(message, header, _BATCH_COMPRESSION) is not None
        ):
            raise ValueError("a compressed message, which we never write")
    body_at = _field(message, table, _BODY_LENGTH)
    body = 0 if body_at is None else _I64.unpack_from(message, body_at)[0]
    if body < 0:
        raise ValueError("a message of less than nothing")
    return int(start + length + body)


def _blocks(footer: memoryview) -> Iterator[int]:
    table = _root(footer)
    for number in _FOOTER_LISTS:
        field = _field(footer, table, number)
        if field is None:
            continue
        vector = field + _U32.unpack_from(footer, field)[0]
        (count,) = _U32.unpack_from(footer, vector)
        for index in range(count):
            yield _BLOCK.unpack_from(footer, vector + 4 + index * _BLOCK.size)[0]


# --- flatbuffers: a table knows where its fields lie by a table of offsets before it ---------


def _root(buffer: memoryview) -> int:
    return int(_U32.unpack_from(buffer, 0)[0])


def _field(buffer: memoryview, table: int, number: int) -> int | None:
    """Where a field of a table lies; None if it is not there."""
    offsets = table - _I32.unpack_from(buffer, table)[0]
    if offsets < 0:
        raise ValueError("a table that lies outside")
    (size,) = _U16.unpack_from(buffer, offsets)
    where = 4 + 2 * number
    if where + 2 > size:
        return None
    (offset,) = _U16.unpack_from(buffer, offsets + where)
    return table + offset if offset else None


def _table_at(buffer: memoryview, table: int, number: int) -> int | None:
    field = _field(buffer, table, number)
    return None if field is None else int(field + _U32.unpack_from(buffer, field)[0])
