"""Arrow (pyarrow): tables, record batches and arrays, stored as an Arrow IPC stream.

Chunks are joined, so that a table has one layout. As arguments they count by what
they hold, column by column: offsets, slices, unused dictionary entries and what
stands under a null do not count. pyarrow is never imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kitaru._core.values.ipc import check_stream
from kitaru._core.values.paths import Path
from kitaru._core.values.text import TAG

if TYPE_CHECKING:
    from kitaru._core.values.attachments import Data
    from kitaru._core.values.codecs import Read, Write
    from kitaru._core.values.reader import Reader
    from kitaru._core.values.writer import Writer

_EXTENSION_MARK = b"ARROW:extension:name"
_MESSAGE = b"\xff\xff\xff\xff"
_FIELD = "values"
_MAX_ROUNDS = 8


def pyarrow() -> Any:
    return sys.modules["pyarrow"]


def write_of(cls: type) -> Write | None:
    pa = pyarrow()
    for name, as_table in _AS_TABLE.items():
        if pa.__dict__.get(name) is cls:
            return _writer(f"pyarrow.{name}", as_table)
    if issubclass(cls, pa.Array) and getattr(pa.lib, cls.__name__, None) is cls:
        return _writer("pyarrow.Array", _array_as_table)
    return None


def _array_as_table(array: Any) -> Any:
    return pyarrow().table([array], schema=_schema_of(array))


def _schema_of(array: Any) -> Any:
    return pyarrow().schema([pyarrow().field(_FIELD, array.type)])


_AS_TABLE: dict[str, Callable[[Any], Any]] = {
    "Table": lambda table: table,
    "RecordBatch": lambda batch: pyarrow().Table.from_batches([batch]),
    "ChunkedArray": _array_as_table,
}


def _writer(tag: str, as_table: Callable[[Any], Any]) -> Write:
    def write(writer: Writer, value: Any, path: Path, depth: int) -> Any:
        table = as_table(value).combine_chunks()
        for field in table.schema:
            if _has_extension(field.type):
                remedy = f"its column {field.name[:80]!r} has an extension type: store its .storage"
                return writer.refuse(value, path, remedy)
        writer.enter(table.num_columns, path, depth)
        tree = {TAG: tag, "rows": table.num_rows, "fields": _fields(writer, table, path, depth + 1)}
        if writer.drop_defaults:
            columns = [_joined(column) for column in table.columns]
            tree["v"] = [_logical(writer, one, path, depth + 1) for one in columns]
        else:
            tree["v"] = writer.binary(_settled(table), path)
        return tree

    return write


def _settled(table: Any) -> memoryview:
    """The table as the stream that it gives whenever it is read and written again."""
    data = _stream(table)
    for _ in range(_MAX_ROUNDS):
        # What hides under nulls and outside of slices is dropped by and by.
        again = _stream(_read_stream(data).combine_chunks())
        if again.equals(data):
            break
        data = again
    # Arrow's bytes are signed, and memory is compared by its format.
    return memoryview(data).cast("B")


def _has_extension(kind: Any) -> bool:
    if isinstance(kind, pyarrow().BaseExtensionType):
        return True
    if hasattr(kind, "value_type") and _has_extension(kind.value_type):
        return True
    return any(_has_extension(kind.field(number).type) for number in range(kind.num_fields))


def _fields(writer: Writer, table: Any, path: Path, depth: int) -> Any:
    """Name and type of each column, to be looked at; in digests all that the schema says."""
    if not writer.drop_defaults:
        return writer.tree([[one.name, str(one.type)] for one in table.schema], path, depth)
    schema = [[one.name, str(one.type), one.nullable, one.metadata] for one in table.schema]
    return writer.tree([schema, table.schema.metadata], path, depth)


def _stream(table: Any) -> Any:
    pa = pyarrow()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def _read_stream(data: Any) -> Any:
    with pyarrow().ipc.open_stream(data) as stream:
        return stream.read_all()


# --- what a column holds, for digests --------------------------------------------------


def _joined(column: Any) -> Any:
    if column.num_chunks == 1:
        return column.chunk(0)  # as it lies: joining one chunk may lay it out anew
    joined = column.combine_chunks()
    if isinstance(joined, pyarrow().ChunkedArray):
        return joined.chunk(0) if joined.num_chunks else pyarrow().array([], joined.type)
    return joined


def _logical(writer: Writer, array: Any, path: Path, depth: int) -> Any:
    """The tree of an array's items, equal for equal items."""
    pa = pyarrow()
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _logical(writer, array.dictionary_decode(), path, depth)
    writer.enter(1, path, depth)
    tree: dict[str, Any] = {"rows": len(array)}
    if array.null_count and not pa.types.is_null(kind):
        tree["valid"] = writer.binary(_raw(array.is_valid().cast(pa.uint8()), 1), path)
    tree["v"] = _items(writer, array, kind, path, depth + 1)
    return tree


def _items(writer: Writer, array: Any, kind: Any, path: Path, depth: int) -> Any:
    pa = pyarrow()
    types = pa.types
    if types.is_null(kind):
        return None
    if types.is_boolean(kind):
        return writer.binary(_raw(array.fill_null(False).cast(pa.uint8()), 1), path)
    if types.is_integer(kind) or types.is_floating(kind) or _is_number_in_time(kind):
        bits = array.view(
            {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32()}.get(_bits(kind)) or pa.uint64()
        )
        return writer.binary(_raw(bits.fill_null(0), _bits(kind) // 8), path)
    if any(
        is_kind(kind)
        for is_kind in (
            types.is_string,
            types.is_large_string,
            types.is_binary,
            types.is_large_binary,
        )
    ):
        return _texts(writer, array, path)
    if types.is_map(kind):
        key = pa.field("key", kind.key_type, nullable=False)
        array = array.cast(pa.list_(pa.struct([key, kind.item_field])))
        kind = array.type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        lengths = array.value_lengths().fill_null(0).cast(pa.int64())
        inner = _logical(writer, array.flatten(), path, depth)
        return [writer.binary(_raw(lengths, 8), path), inner]
    if types.is_struct(kind):
        return [_logical(writer, field, path, depth) for field in array.flatten()]
    if types.is_interval(kind):
        months = [None if one is None else tuple(one) for one in array.to_pylist()]
        return writer.tree(months, path, depth)
    if types.is_union(kind):
        # Which member each item is of, too: two members may hold the same value.
        codes = array.type_codes.to_pylist()
        return writer.tree([codes, array.to_pylist()], path, depth)
    return writer.tree(array.to_pylist(), path, depth)


def _is_number_in_time(kind: Any) -> bool:
    types = pyarrow().types
    return bool(types.is_temporal(kind)) and not types.is_interval(kind)


def _bits(kind: Any) -> int:
    bits: int = kind.bit_width
    return bits


def _texts(writer: Writer, array: Any, path: Path) -> Any:
    pa = pyarrow()
    if pa.types.is_string(array.type):
        array = array.cast(pa.large_string())
    filled = array.cast(pa.large_binary()).fill_null(b"")
    _, offsets, data = filled.buffers()
    if data is None or not len(filled):
        return [writer.binary(b"", path), writer.binary(b"", path)]
    ends = memoryview(offsets).cast("q")[filled.offset : filled.offset + len(filled) + 1]
    lengths = b"".join((end - start).to_bytes(8, "little") for start, end in pairwise(ends))
    return [writer.binary(lengths, path), writer.binary(memoryview(data)[ends[0] : ends[-1]], path)]


def _raw(array: Any, width: int) -> Data:
    """The items of an array of numbers without nulls."""
    data = array.buffers()[1]
    if data is None or not len(array):
        return b""
    start = array.offset * width
    return memoryview(data)[start : start + len(array) * width]


# --- reading -------------------------------------------------------------------------


def _read_table(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    data = bytes(reader.binary(tree["v"]))
    # In Arrow's former format the schema would lie, and have its length, elsewhere.
    if not data.startswith(_MESSAGE):
        raise ValueError("not a stream of today's format")
    # The schema comes first. A registered extension type would run its own code on it.
    if _EXTENSION_MARK in data[: 8 + int.from_bytes(data[4:8], "little")]:
        raise ValueError("an extension type")
    check_stream(data)
    table = _read_stream(pyarrow().py_buffer(data)).combine_chunks()
    # Offsets that lead out of their buffers would be followed later, far from here.
    table.validate(full=True)
    return table


def _read_batch(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    table = _read_table(reader, tree, path, depth)
    batches = table.to_batches()
    if len(batches) > 1:
        raise ValueError("more than one batch")
    if batches:
        return batches[0]
    return pyarrow().RecordBatch.from_pylist([], schema=table.schema)


def _read_chunked(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    table = _read_table(reader, tree, path, depth)
    if table.column_names != [_FIELD]:
        raise ValueError("not one column")
    return table.column(0)


def _read_array(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    return _joined(_read_chunked(reader, tree, path, depth))


READERS: dict[str, Read] = {
    "pyarrow.Table": _read_table,
    "pyarrow.RecordBatch": _read_batch,
    "pyarrow.ChunkedArray": _read_chunked,
    "pyarrow.Array": _read_array,
}
