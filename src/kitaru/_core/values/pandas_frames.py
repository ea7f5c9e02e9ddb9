"""pandas: frames and series, taken apart column by column.

What would come back with another dtype or another index is refused. How columns and
indexes are written is said in ``pandas_columns.py``. pandas is never imported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kitaru._core.values.arrays import numpy
from kitaru._core.values.pandas_columns import (
    COLUMNS,
    INDEXES,
    pandas,
    read_index,
    read_name,
    read_values,
    write_index,
    write_values,
)
from kitaru._core.values.pandas_scalars import SCALAR_READERS, SCALAR_WRITERS
from kitaru._core.values.paths import Path
from kitaru._core.values.text import TAG

if TYPE_CHECKING:
    from kitaru._core.values.codecs import Read, Write
    from kitaru._core.values.reader import Reader
    from kitaru._core.values.writer import Writer


def write_of(cls: type) -> Write | None:
    pd = pandas()
    for name, write in _WRITERS.items():
        if pd.__dict__.get(name) is cls:
            return write
    if cls is type(pd.NaT):
        return lambda writer, value, path, depth: {TAG: "pandas.NaT"}
    if cls is type(pd.NA):
        return lambda writer, value, path, depth: {TAG: "pandas.NA"}
    if any(cls is known for known in _array_classes()):
        return lambda writer, value, path, depth: write_values(
            writer, value, value.dtype, path, depth
        )
    return None


def _array_classes() -> list[type]:
    arrays = pandas().arrays.__dict__
    names = (
        *("BooleanArray", "IntegerArray", "FloatingArray", "StringArray", "ArrowStringArray"),
        *("IntervalArray", "PeriodArray", "ArrowExtensionArray"),
    )
    return [arrays[name] for name in names if name in arrays] + [pandas().Categorical]


def _write_frame(writer: Writer, frame: Any, path: Path, depth: int) -> Any:
    writer.enter(frame.shape[1], path, depth)
    columns = []
    for number, label in enumerate(frame.columns):
        step = label if type(label) in (str, int) else number
        column = frame.iloc[:, number]
        columns.append(_write_column(writer, column, (path, step), depth + 1))
    return {
        TAG: "pandas.DataFrame",
        "shape": list(frame.shape),
        "columns": write_index(writer, frame.columns, (path, "columns"), depth + 1),
        "index": write_index(writer, frame.index, (path, "index"), depth + 1),
        "v": columns,
        **_write_rest(writer, frame, path, depth + 1),
    }


def _write_column(writer: Writer, column: Any, path: Path, depth: int) -> Any:
    own = isinstance(column.dtype, numpy().dtype)
    values = column.to_numpy() if own else column.array
    return write_values(writer, values, column.dtype, path, depth)


def _write_rest(writer: Writer, value: Any, path: Path, depth: int) -> dict[str, Any]:
    rest: dict[str, Any] = {}
    if value.attrs:
        rest["attrs"] = writer.tree(dict(value.attrs), (path, "attrs"), depth)
    if not value.flags.allows_duplicate_labels:
        rest["unique_labels"] = True
    return rest


def _write_series(writer: Writer, series: Any, path: Path, depth: int) -> Any:
    writer.enter(1, path, depth)
    return {
        TAG: "pandas.Series",
        "shape": list(series.shape),
        "name": writer.tree(series.name, (path, "name"), depth + 1),
        "index": write_index(writer, series.index, (path, "index"), depth + 1),
        "v": _write_column(writer, series, path, depth + 1),
        **_write_rest(writer, series, path, depth + 1),
    }


def _read_frame(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    pd = pandas()
    columns = read_index(reader, tree["columns"], path, depth)
    index = read_index(reader, tree["index"], path, depth)
    arrays = [read_values(reader, one, path, depth) for one in tree["v"]]
    if any(len(array) != len(index) for array in arrays):
        raise ValueError("columns of another length than the index")
    series = {
        number: pd.Series(array, index=index, dtype=array.dtype, copy=False)
        for number, array in enumerate(arrays)
    }
    frame = pd.DataFrame(series, index=index)
    frame.columns = columns
    return _with_rest(reader, frame, tree, path, depth)


def _read_series(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    index = read_index(reader, tree["index"], path, depth)
    values = read_values(reader, tree["v"], path, depth)
    name = read_name(reader, tree, path, depth)
    series = pandas().Series(values, index=index, dtype=values.dtype, name=name, copy=False)
    return _with_rest(reader, series, tree, path, depth)


def _with_rest(reader: Reader, value: Any, tree: dict[str, Any], path: Path, depth: int) -> Any:
    if "attrs" in tree:
        value.attrs = reader.value(tree["attrs"], (path, "attrs"), depth)
    if tree.get("unique_labels") is True:
        value.flags.allows_duplicate_labels = False
    return value


_WRITERS: dict[str, Write] = {
    "DataFrame": _write_frame,
    "Series": _write_series,
    **dict.fromkeys(
        ("Index", "RangeIndex", "MultiIndex", "DatetimeIndex", "TimedeltaIndex", "PeriodIndex"),
        write_index,
    ),
    "CategoricalIndex": write_index,
    "IntervalIndex": write_index,
    **SCALAR_WRITERS,
}

READERS: dict[str, Read] = {
    **COLUMNS,
    **INDEXES,
    "pandas.DataFrame": _read_frame,
    "pandas.Series": _read_series,
    **SCALAR_READERS,
}
