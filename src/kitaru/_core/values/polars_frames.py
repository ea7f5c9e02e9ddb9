"""Polars: frames and series, stored as Arrow IPC written by Polars itself.

Chunks are joined. As arguments they count by what they hold, column by column, so
that neither chunks nor a new version of Polars make another call of the same one.
Polars is never imported here.
"""

from __future__ import annotations

import sys
from array import array
from io import BytesIO
from typing import TYPE_CHECKING, Any

from kitaru._core.values.ipc import check_file
from kitaru._core.values.paths import Path
from kitaru._core.values.text import TAG

if TYPE_CHECKING:
    from kitaru._core.values.codecs import Read, Write
    from kitaru._core.values.reader import Reader
    from kitaru._core.values.writer import Writer

FRAME = "polars.DataFrame"
SERIES = "polars.Series"

_CODES = {
    "Int8": "b",
    "Int16": "h",
    "Int32": "i",
    "Int64": "q",
    "UInt8": "B",
    "UInt16": "H",
    "UInt32": "I",
    "UInt64": "Q",
    "Float32": "f",
    "Float64": "d",
}
"""Physical type -> how ``array`` calls it."""


def polars() -> Any:
    return sys.modules["polars"]


def write_of(cls: type) -> Write | None:
    pl = polars()
    if cls is pl.__dict__.get("DataFrame"):
        return _write_frame
    return _write_series if cls is pl.__dict__.get("Series") else None


def _write_frame(writer: Writer, frame: Any, path: Path, depth: int) -> Any:
    return _write(writer, FRAME, frame, frame, path, depth)


def _write_series(writer: Writer, series: Any, path: Path, depth: int) -> Any:
    return _write(writer, SERIES, series, series.to_frame(), path, depth)


def _write(writer: Writer, tag: str, value: Any, frame: Any, path: Path, depth: int) -> Any:
    for name, dtype in frame.schema.items():
        if _holds_objects(dtype):
            remedy = f"its column {name[:80]!r} holds Python objects: cast it to another type"
            return writer.refuse(value, path, remedy)
    writer.enter(frame.width, path, depth)
    show = _type_tree if writer.drop_defaults else str
    fields = [[name, show(dtype)] for name, dtype in frame.schema.items()]
    tree = {TAG: tag, "shape": list(frame.shape), "fields": writer.tree(fields, path, depth + 1)}
    if writer.drop_defaults:
        columns = frame.get_columns()
        tree["v"] = [_logical(writer, column, path, depth + 1) for column in columns]
        return tree
    # Once around: what is read back lies as it will lie whenever it is read.
    again = _read_ipc(_ipc(frame))
    if again.schema != frame.schema or not again.equals(frame):
        return writer.refuse(value, path, "it would come back with another type: cast its columns")
    tree["v"] = writer.binary(_ipc(again), path)
    return tree


def _holds_objects(dtype: Any) -> bool:
    pl = polars()
    if isinstance(dtype, pl.Struct):
        return any(_holds_objects(field.dtype) for field in dtype.fields)
    inner = getattr(dtype, "inner", None)
    return dtype == pl.Object or (inner is not None and _holds_objects(inner))


def _type_tree(dtype: Any) -> Any:
    """All that tells one type from another, in words of ours: those of Polars may change."""
    pl = polars()
    name = type(dtype).__name__
    if isinstance(dtype, pl.Struct):
        return [name, [[field.name, _type_tree(field.dtype)] for field in dtype.fields]]
    if isinstance(dtype, pl.Enum):
        return [name, dtype.categories.to_list()]
    said = [getattr(dtype, part, None) for part in ("time_unit", "time_zone", "precision", "scale")]
    if any(part is not None for part in said):
        return [name, *said]
    inner = getattr(dtype, "inner", None)
    if inner is None:
        return name
    return [name, _type_tree(inner), list(dtype.shape) if isinstance(dtype, pl.Array) else None]


def _ipc(frame: Any) -> bytes:
    file = BytesIO()
    frame.rechunk().write_ipc(file, compression="uncompressed")
    return file.getvalue()


def _read_ipc(data: bytes) -> Any:
    return polars().read_ipc(BytesIO(data)).rechunk()


# --- what a column holds, for digests --------------------------------------------------


def _logical(writer: Writer, column: Any, path: Path, depth: int) -> Any:
    """The tree of a column's items, equal for equal items."""
    pl = polars()
    writer.enter(1, path, depth)
    tree: dict[str, Any] = {"rows": len(column)}
    if column.null_count():
        tree["null"] = writer.binary(bytes(column.is_null().to_list()), path)
    dtype = column.dtype
    if isinstance(dtype, pl.Struct):
        fields = column.struct.unnest().get_columns()
        tree["v"] = [_logical(writer, field, path, depth + 1) for field in fields]
    elif isinstance(dtype, pl.List):
        lengths = column.list.len().fill_null(0)
        inner = column.filter(lengths > 0).explode()
        tree["lengths"] = _numbers(writer, lengths, path)
        tree["v"] = _logical(writer, inner, path, depth + 1)
    elif isinstance(dtype, pl.Array):
        inner = column.drop_nulls().arr.to_list()
        tree["v"] = _logical(writer, inner, path, depth + 1)
    else:
        tree["v"] = _items(writer, column, path, depth + 1)
    return tree


def _items(writer: Writer, column: Any, path: Path, depth: int) -> Any:
    pl = polars()
    dtype = column.dtype
    if dtype == pl.Boolean:
        return writer.binary(bytes(column.fill_null(False).to_list()), path)
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        column = column.cast(pl.String)
    elif not isinstance(dtype, pl.Decimal):
        column = column.to_physical()
    if str(column.dtype) in _CODES:
        return _numbers(writer, column.fill_null(0), path)
    return writer.tree(column.to_list(), path, depth)


def _numbers(writer: Writer, column: Any, path: Path) -> Any:
    if "numpy" in sys.modules:
        from kitaru._core.values.arrays import raw

        return writer.binary(raw(column.to_numpy()), path)
    numbers = array(_CODES[str(column.dtype)], column.to_list())
    return writer.binary(memoryview(numbers).cast("B"), path)


# --- reading -------------------------------------------------------------------------


def _read_frame(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    data = bytes(reader.binary(tree["v"]))
    check_file(data)
    try:
        return _read_ipc(data)
    except BaseException as error:
        # A panic of Polars' on bytes that it did not write is no Exception.
        if type(error).__name__ == "PanicException":
            raise ValueError("not readable by Polars") from None
        raise


def _read_series(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    frame = _read_frame(reader, tree, path, depth)
    if frame.width != 1:
        raise ValueError("not one column")
    return frame.to_series()


READERS: dict[str, Read] = {FRAME: _read_frame, SERIES: _read_series}
