"""pandas: frames, series, indexes and their scalars, taken apart column by column.

A column is an array of numpy's where its dtype is one, else what its dtype consists of
(codes and categories, data and mask). Cells of object columns are values like any
other. What would come back with another dtype or another index is refused.
pandas is never imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kitaru._core.values.arrays import ARRAY, numpy, write_array
from kitaru._core.values.leaves import read_zone, write_zone
from kitaru._core.values.paths import Path, problem
from kitaru._core.values.text import TAG

if TYPE_CHECKING:
    from kitaru._core.values.codecs import Read, Write
    from kitaru._core.values.reader import Reader
    from kitaru._core.values.writer import Writer

_ZONE = "its time zone cannot be read back: use zoneinfo.ZoneInfo or UTC"


def pandas() -> Any:
    return sys.modules["pandas"]


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
        return lambda writer, value, path, depth: _write_values(
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


# --- columns -----------------------------------------------------------------------


def _write_values(writer: Writer, values: Any, dtype: Any, path: Path, depth: int) -> Any:
    """The tree of a one-dimensional array of any dtype that pandas may hold."""
    if isinstance(dtype, numpy().dtype):
        if dtype.hasobject:
            writer.enter(len(values), path, depth)
            items = writer.tree(list(values), path, depth + 1)
            return {TAG: "pandas.objects", "v": items}
        return write_array(writer, numpy().asarray(values), path, depth)
    write = _EXTENSIONS.get(_dtype_kind(dtype))
    if write is None:
        return writer.refuse(
            values,
            path,
            f"its dtype {str(dtype)[:80]} has no encoding: convert it with .astype() (a sparse one "
            "with .sparse.to_dense())",
        )
    writer.enter(1, path, depth)
    return write(writer, values, dtype, path, depth + 1)


def _dtype_kind(dtype: Any) -> str:
    pd = pandas()
    name = type(dtype).__name__
    if pd.__dict__.get(name) is not type(dtype):
        return ""  # another library's
    return "masked" if name in _MASKED else name


_MASKED = frozenset(
    {"BooleanDtype", "Float32Dtype", "Float64Dtype"}
    | {f"{sign}Int{bits}Dtype" for sign in ("", "U") for bits in (8, 16, 32, 64)}
)


def _write_masked(writer: Writer, values: Any, dtype: Any, path: Path, depth: int) -> Any:
    mask = numpy().asarray(values.isna())
    # What stands under the mask is nobody's value: zeros, so that equal arrays are equal.
    data = values.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
    return {
        TAG: "pandas.masked",
        "dtype": dtype.name,
        "v": write_array(writer, data, path, depth),
        "mask": write_array(writer, mask, path, depth),
    }


def _write_strings(writer: Writer, values: Any, dtype: Any, path: Path, depth: int) -> Any:
    na = pandas().NA
    texts = values.to_numpy(dtype=object, na_value=None).tolist()
    return {
        TAG: "pandas.strings",
        "storage": dtype.storage,
        "missing": "NA" if dtype.na_value is na else "nan",
        "v": writer.tree(texts, path, depth),
    }


def _write_categories(writer: Writer, values: Any, dtype: Any, path: Path, depth: int) -> Any:
    categorical = getattr(values, "cat", values)
    return {
        TAG: "pandas.Categorical",
        "ordered": bool(dtype.ordered),
        "categories": _write_index(writer, dtype.categories, (path, "categories"), depth),
        "v": write_array(writer, numpy().asarray(categorical.codes), path, depth),
    }


def _write_zoned(writer: Writer, values: Any, dtype: Any, path: Path, depth: int) -> Any:
    zone = write_zone(dtype.tz)
    if zone is None:
        return writer.refuse(values, path, _ZONE)
    instants = numpy().asarray(values.tz_convert(None))
    v = write_array(writer, instants, path, depth)
    return {TAG: "pandas.zoned", "zone": zone, "v": v}


def _write_periods(writer: Writer, values: Any, dtype: Any, path: Path, depth: int) -> Any:
    ordinals = numpy().asarray(values.asi8)
    v = write_array(writer, ordinals, path, depth)
    return {TAG: "pandas.periods", "freq": dtype.name[len("period[") : -1], "v": v}


def _write_intervals(writer: Writer, values: Any, dtype: Any, path: Path, depth: int) -> Any:
    return {
        TAG: "pandas.intervals",
        "closed": dtype.closed,
        "left": _write_index(writer, values.left, (path, "left"), depth),
        "right": _write_index(writer, values.right, (path, "right"), depth),
    }


def _write_arrow(writer: Writer, values: Any, dtype: Any, path: Path, depth: int) -> Any:
    made = values.__arrow_array__()
    if not hasattr(made, "chunks"):
        made = sys.modules["pyarrow"].chunked_array([made])
    return {TAG: "pandas.arrow", "v": writer.tree(made, path, depth)}


_EXTENSIONS: dict[str, Callable[[Any, Any, Any, Path, int], Any]] = {
    "masked": _write_masked,
    "StringDtype": _write_strings,
    "CategoricalDtype": _write_categories,
    "DatetimeTZDtype": _write_zoned,
    "PeriodDtype": _write_periods,
    "IntervalDtype": _write_intervals,
    "ArrowDtype": _write_arrow,
}


def _read_objects(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    items = reader.items(tree, path, depth)
    values = numpy().empty(len(items), object)
    for index, item in enumerate(items):
        values[index] = item  # one by one: numpy would look into lists
    return values


def _read_masked(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    pd = pandas()
    name = tree["dtype"]
    if f"{name[:1].upper()}{name[1:]}Dtype" not in _MASKED:
        raise ValueError("no masked dtype")
    data = _array(reader, tree["v"], path, depth)
    mask = _array(reader, tree["mask"], path, depth)
    kinds = {"b": "BooleanArray", "i": "IntegerArray", "u": "IntegerArray", "f": "FloatingArray"}
    made = pd.arrays.__dict__[kinds[data.dtype.kind]](data, mask)
    if made.dtype.name != name:
        raise ValueError("another dtype than its data")
    return made


def _read_strings(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    pd = pandas()
    texts = reader.items(tree, path, depth)
    if not all(text is None or type(text) is str for text in texts):
        raise TypeError("not texts")
    missing = {"NA": pd.NA, "nan": numpy().nan}[tree["missing"]]
    storage = {"python": "python", "pyarrow": "pyarrow"}[tree["storage"]]
    if storage == "pyarrow" and "pyarrow" not in sys.modules:
        raise problem(
            reader.what,
            path,
            "its strings were stored by pyarrow, which this program has not imported: import "
            "pyarrow before the value is read. The recorded value is kept as it is",
            code="library-not-imported",
        )
    return pd.array(texts, dtype=pd.StringDtype(storage, na_value=missing))


def _read_categories(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    categories = _index(reader, tree["categories"], path, depth)
    codes = _array(reader, tree["v"], path, depth)
    dtype = pandas().CategoricalDtype(categories, ordered=tree["ordered"] is True)
    return pandas().Categorical.from_codes(codes, dtype=dtype)


def _read_zoned(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    instants = pandas().DatetimeIndex(_array(reader, tree["v"], path, depth))
    return instants.tz_localize("UTC").tz_convert(read_zone(tree["zone"])).array


def _read_periods(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    ordinals = _array(reader, tree["v"], path, depth)
    return pandas().arrays.PeriodArray(ordinals, dtype=pandas().PeriodDtype(tree["freq"]))


def _read_intervals(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    left = _index(reader, tree["left"], path, depth)
    right = _index(reader, tree["right"], path, depth)
    return pandas().arrays.IntervalArray.from_arrays(left, right, closed=tree["closed"])


def _read_arrow(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    return pandas().arrays.ArrowExtensionArray(reader.value(tree["v"], path, depth))


def _array(reader: Reader, tree: Any, path: Path, depth: int) -> Any:
    if type(tree) is not dict or tree.get(TAG) != ARRAY:
        raise TypeError("not an array")
    return reader.value(tree, path, depth)


def _values(reader: Reader, tree: Any, path: Path, depth: int) -> Any:
    if type(tree) is not dict or tree.get(TAG) not in (ARRAY, *_COLUMNS):
        raise TypeError("not a column")
    return reader.value(tree, path, depth)


_COLUMNS: dict[str, Read] = {
    "pandas.objects": _read_objects,
    "pandas.masked": _read_masked,
    "pandas.strings": _read_strings,
    "pandas.Categorical": _read_categories,
    "pandas.zoned": _read_zoned,
    "pandas.periods": _read_periods,
    "pandas.intervals": _read_intervals,
    "pandas.arrow": _read_arrow,
}


# --- indexes -----------------------------------------------------------------------


def _write_index(writer: Writer, index: Any, path: Path, depth: int) -> Any:
    pd = pandas()
    writer.enter(1, path, depth)
    if type(index) is pd.RangeIndex:
        ends = [index.start, index.stop, index.step]
        name = writer.tree(index.name, path, depth + 1)
        return {TAG: "pandas.RangeIndex", "name": name, "v": ends}
    if type(index) is pd.MultiIndex:
        return _write_levels(writer, index, path, depth + 1)
    if write_of(type(index)) is None:
        return writer.refuse(index, path, "this kind of index has no encoding")
    tree = {TAG: "pandas.Index", "name": writer.tree(index.name, (path, "name"), depth + 1)}
    freq = getattr(index, "freq", None) if index.dtype.kind in "mM" else None
    if freq is not None and not writer.drop_defaults:
        tree["freq"] = freq.freqstr
    zoned = _dtype_kind(index.dtype) == "DatetimeTZDtype"
    values = index.array if zoned or not isinstance(index.dtype, numpy().dtype) else index
    tree["v"] = _write_values(writer, values, index.dtype, path, depth + 1)
    return tree


def _write_levels(writer: Writer, index: Any, path: Path, depth: int) -> Any:
    names = writer.tree(list(index.names), (path, "names"), depth)
    tree = {TAG: "pandas.MultiIndex", "names": names}
    if writer.drop_defaults:
        # Equal indexes may have their labels in another order, or labels that nobody uses.
        columns = [index.get_level_values(number) for number in range(index.nlevels)]
        tree["v"] = [_write_index(writer, column, path, depth) for column in columns]
        return tree
    tree["levels"] = [_write_index(writer, level, path, depth) for level in index.levels]
    codes = [numpy().asarray(codes) for codes in index.codes]
    tree["v"] = [write_array(writer, each, path, depth) for each in codes]
    return tree


def _read_range(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    start, stop, step = tree["v"]
    if not all(type(end) is int for end in (start, stop, step)):
        raise TypeError("not whole numbers")
    return pandas().RangeIndex(start, stop, step, name=_name(reader, tree, path, depth))


def _read_index(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    values = _values(reader, tree["v"], path, depth)
    name = _name(reader, tree, path, depth)
    index = pandas().Index(values, dtype=values.dtype, name=name, tupleize_cols=False)
    if "freq" in tree:
        index = type(index)(index, freq=tree["freq"], name=name)
    return index


def _read_levels(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    levels = [_index(reader, level, path, depth) for level in tree["levels"]]
    codes = [_array(reader, each, path, depth) for each in tree["v"]]
    names = reader.value(tree["names"], path, depth)
    return pandas().MultiIndex(levels, codes, names=names, verify_integrity=True)


def _name(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    return reader.value(tree["name"], (path, "name"), depth)


def _index(reader: Reader, tree: Any, path: Path, depth: int) -> Any:
    if type(tree) is not dict or tree.get(TAG) not in _INDEXES:
        raise TypeError("not an index")
    return reader.value(tree, path, depth)


_INDEXES: dict[str, Read] = {
    "pandas.RangeIndex": _read_range,
    "pandas.Index": _read_index,
    "pandas.MultiIndex": _read_levels,
}


# --- frames and series ---------------------------------------------------------------


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
        "columns": _write_index(writer, frame.columns, (path, "columns"), depth + 1),
        "index": _write_index(writer, frame.index, (path, "index"), depth + 1),
        "v": columns,
        **_write_rest(writer, frame, path, depth + 1),
    }


def _write_column(writer: Writer, column: Any, path: Path, depth: int) -> Any:
    own = isinstance(column.dtype, numpy().dtype)
    values = column.to_numpy() if own else column.array
    return _write_values(writer, values, column.dtype, path, depth)


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
        "index": _write_index(writer, series.index, (path, "index"), depth + 1),
        "v": _write_column(writer, series, path, depth + 1),
        **_write_rest(writer, series, path, depth + 1),
    }


def _read_frame(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    pd = pandas()
    columns = _index(reader, tree["columns"], path, depth)
    index = _index(reader, tree["index"], path, depth)
    arrays = [_values(reader, one, path, depth) for one in tree["v"]]
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
    index = _index(reader, tree["index"], path, depth)
    values = _values(reader, tree["v"], path, depth)
    name = _name(reader, tree, path, depth)
    series = pandas().Series(values, index=index, dtype=values.dtype, name=name, copy=False)
    return _with_rest(reader, series, tree, path, depth)


def _with_rest(reader: Reader, value: Any, tree: dict[str, Any], path: Path, depth: int) -> Any:
    if "attrs" in tree:
        value.attrs = reader.value(tree["attrs"], (path, "attrs"), depth)
    if tree.get("unique_labels") is True:
        value.flags.allows_duplicate_labels = False
    return value


# --- scalars -------------------------------------------------------------------------


def _write_instant(writer: Writer, value: Any, path: Path, depth: int) -> Any:
    fold = {}
    if value.tz is None:
        # With a zone, the instant itself says on which side of the change it lies.
        fold = {"fold": 1} if value.fold else {}
        moment, zone = value.asm8, None
    else:
        zone = write_zone(value.tz)
        if zone is None:
            return writer.refuse(value, path, _ZONE)
        moment = value.tz_convert(None).asm8
    number = int(moment.view("i8"))
    return {TAG: "pandas.Timestamp", "unit": value.unit, "zone": zone, **fold, "v": number}


def _write_span(writer: Writer, value: Any, path: Path, depth: int) -> Any:
    return {TAG: "pandas.Timedelta", "unit": value.unit, "v": int(value.asm8.view("i8"))}


def _write_period(writer: Writer, value: Any, path: Path, depth: int) -> Any:
    return {TAG: "pandas.Period", "freq": value.freqstr, "v": int(value.ordinal)}


def _write_interval(writer: Writer, value: Any, path: Path, depth: int) -> Any:
    ends = writer.items((value.left, value.right), 2, path, depth)
    return {TAG: "pandas.Interval", "closed": value.closed, "v": ends}


def _read_instant(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    moment = pandas().Timestamp(numpy().datetime64(_whole(tree), _unit(tree)))
    if tree["zone"] is None:
        return moment.replace(fold=1) if tree.get("fold") == 1 else moment
    return moment.tz_localize("UTC").tz_convert(read_zone(tree["zone"]))


def _read_span(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    return pandas().Timedelta(numpy().timedelta64(_whole(tree), _unit(tree)))


def _read_period(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    return pandas().Period(ordinal=_whole(tree), freq=tree["freq"])


def _read_interval(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    left, right = reader.items(tree, path, depth)
    return pandas().Interval(left, right, closed=tree["closed"])


def _whole(tree: dict[str, Any]) -> int:
    number = tree["v"]
    if type(number) is not int:
        raise TypeError("not a whole number")
    return number


def _unit(tree: dict[str, Any]) -> str:
    unit: str = tree["unit"]
    if unit not in ("s", "ms", "us", "ns"):
        raise ValueError("no unit of pandas")
    return unit


_WRITERS: dict[str, Write] = {
    "DataFrame": _write_frame,
    "Series": _write_series,
    **dict.fromkeys(
        ("Index", "RangeIndex", "MultiIndex", "DatetimeIndex", "TimedeltaIndex", "PeriodIndex"),
        _write_index,
    ),
    "CategoricalIndex": _write_index,
    "IntervalIndex": _write_index,
    "Timestamp": _write_instant,
    "Timedelta": _write_span,
    "Period": _write_period,
    "Interval": _write_interval,
}

READERS: dict[str, Read] = {
    **_COLUMNS,
    **_INDEXES,
    "pandas.DataFrame": _read_frame,
    "pandas.Series": _read_series,
    "pandas.Timestamp": _read_instant,
    "pandas.Timedelta": _read_span,
    "pandas.Period": _read_period,
    "pandas.Interval": _read_interval,
    "pandas.NaT": lambda reader, tree, path, depth: pandas().NaT,
    "pandas.NA": lambda reader, tree, path, depth: pandas().NA,
}
