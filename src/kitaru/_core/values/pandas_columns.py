"""pandas: columns of any dtype, and indexes, which are columns with a name.

A column is an array of numpy's where its dtype is one, else what its dtype consists of
(codes and categories, data and mask). Cells of object columns are values like any
other. pandas is never imported here.
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
    from kitaru._core.values.codecs import Read
    from kitaru._core.values.reader import Reader
    from kitaru._core.values.writer import Writer

ZONE = "its time zone cannot be read back: use zoneinfo.ZoneInfo or UTC"


def pandas() -> Any:
    return sys.modules["pandas"]


# --- columns -----------------------------------------------------------------------


def write_values(writer: Writer, values: Any, dtype: Any, path: Path, depth: int) -> Any:
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
        "categories": write_index(writer, dtype.categories, (path, "categories"), depth),
        "v": write_array(writer, numpy().asarray(categorical.codes), path, depth),
    }


def _write_zoned(writer: Writer, values: Any, dtype: Any, path: Path, depth: int) -> Any:
    zone = write_zone(dtype.tz)
    if zone is None:
        return writer.refuse(values, path, ZONE)
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
        "left": write_index(writer, values.left, (path, "left"), depth),
        "right": write_index(writer, values.right, (path, "right"), depth),
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
    categories = read_index(reader, tree["categories"], path, depth)
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
    left = read_index(reader, tree["left"], path, depth)
    right = read_index(reader, tree["right"], path, depth)
    return pandas().arrays.IntervalArray.from_arrays(left, right, closed=tree["closed"])


def _read_arrow(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    return pandas().arrays.ArrowExtensionArray(reader.value(tree["v"], path, depth))


def _array(reader: Reader, tree: Any, path: Path, depth: int) -> Any:
    if type(tree) is not dict or tree.get(TAG) != ARRAY:
        raise TypeError("not an array")
    return reader.value(tree, path, depth)


def read_values(reader: Reader, tree: Any, path: Path, depth: int) -> Any:
    if type(tree) is not dict or tree.get(TAG) not in (ARRAY, *COLUMNS):
        raise TypeError("not a column")
    return reader.value(tree, path, depth)


COLUMNS: dict[str, Read] = {
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


def write_index(writer: Writer, index: Any, path: Path, depth: int) -> Any:
    pd = pandas()
    writer.enter(1, path, depth)
    if type(index) is pd.RangeIndex:
        ends = [index.start, index.stop, index.step]
        name = writer.tree(index.name, path, depth + 1)
        return {TAG: "pandas.RangeIndex", "name": name, "v": ends}
    if type(index) is pd.MultiIndex:
        return _write_levels(writer, index, path, depth + 1)
    if pd.__dict__.get(type(index).__name__) is not type(index):
        return writer.refuse(index, path, "this kind of index has no encoding")
    tree = {TAG: "pandas.Index", "name": writer.tree(index.name, (path, "name"), depth + 1)}
    freq = getattr(index, "freq", None) if index.dtype.kind in "mM" else None
    if freq is not None and not writer.drop_defaults:
        tree["freq"] = freq.freqstr
    zoned = _dtype_kind(index.dtype) == "DatetimeTZDtype"
    values = index.array if zoned or not isinstance(index.dtype, numpy().dtype) else index
    tree["v"] = write_values(writer, values, index.dtype, path, depth + 1)
    return tree


def _write_levels(writer: Writer, index: Any, path: Path, depth: int) -> Any:
    names = writer.tree(list(index.names), (path, "names"), depth)
    tree = {TAG: "pandas.MultiIndex", "names": names}
    if writer.drop_defaults:
        # Equal indexes may have their labels in another order, or labels that nobody uses.
        columns = [index.get_level_values(number) for number in range(index.nlevels)]
        tree["v"] = [write_index(writer, column, path, depth) for column in columns]
        return tree
    tree["levels"] = [write_index(writer, level, path, depth) for level in index.levels]
    codes = [numpy().asarray(codes) for codes in index.codes]
    tree["v"] = [write_array(writer, each, path, depth) for each in codes]
    return tree


def _read_range(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    start, stop, step = tree["v"]
    if not all(type(end) is int for end in (start, stop, step)):
        raise TypeError("not whole numbers")
    return pandas().RangeIndex(start, stop, step, name=read_name(reader, tree, path, depth))


def _read_index(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    values = read_values(reader, tree["v"], path, depth)
    name = read_name(reader, tree, path, depth)
    index = pandas().Index(values, dtype=values.dtype, name=name, tupleize_cols=False)
    if "freq" in tree:
        index = type(index)(index, freq=tree["freq"], name=name)
    return index


def _read_levels(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    levels = [read_index(reader, level, path, depth) for level in tree["levels"]]
    codes = [_array(reader, each, path, depth) for each in tree["v"]]
    names = reader.value(tree["names"], path, depth)
    return pandas().MultiIndex(levels, codes, names=names, verify_integrity=True)


def read_name(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    return reader.value(tree["name"], (path, "name"), depth)


def read_index(reader: Reader, tree: Any, path: Path, depth: int) -> Any:
    if type(tree) is not dict or tree.get(TAG) not in INDEXES:
        raise TypeError("not an index")
    return reader.value(tree, path, depth)


INDEXES: dict[str, Read] = {
    "pandas.RangeIndex": _read_range,
    "pandas.Index": _read_index,
    "pandas.MultiIndex": _read_levels,
}
