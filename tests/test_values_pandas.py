"""pandas objects come back with their dtypes, indexes and names, or are refused."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.values_kit import digest_bytes, edited, quick, refused_elsewhere, there_and_back

from kitaru._core.values import decode, encode
from kitaru.errors import KitaruValueError

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
INSTANTS = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1))
CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.tuples(st.integers(), st.text(max_size=2)),
    st.decimals(allow_nan=False),
    INSTANTS.map(pd.Timestamp),
    st.sampled_from(
        [
            pd.NA,
            pd.NaT,
            np.float32(1.5),
            np.nan,
            pd.Timedelta("1h"),
            pd.Timestamp("2024-10-27 00:30", tz="UTC").tz_convert(BERLIN),
            pd.Timestamp("2024-01-01", tz="UTC").as_unit("s"),
            pd.Period("2024-01", "M"),
            pd.Interval(1, 2, closed="left"),
        ]
    ),
)


def with_gaps(items: Any) -> Any:
    return st.one_of(st.none(), items)


def zoned(values: list[Any]) -> Any:
    return pd.DatetimeIndex(values, dtype="M8[us]").tz_localize("UTC").tz_convert(BERLIN).array


def objects(values: list[Any]) -> Any:
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array


COLUMNS = {
    "int64": (st.integers(-(2**63), 2**63 - 1), lambda v: np.array(v, "i8")),
    "uint8": (st.integers(0, 255), lambda v: np.array(v, "u1")),
    "float64": (st.floats(), lambda v: np.array(v, "f8")),
    "float32": (st.floats(width=32), lambda v: np.array(v, "f4")),
    "complex": (st.complex_numbers(), lambda v: np.array(v, "c16")),
    "bool": (st.booleans(), lambda v: np.array(v, "?")),
    "object": (CELLS, objects),
    "Int64": (with_gaps(st.integers(-(2**63), 2**63 - 1)), lambda v: pd.array(v, dtype="Int64")),
    "UInt16": (with_gaps(st.integers(0, 2**16 - 1)), lambda v: pd.array(v, dtype="UInt16")),
    "Float32": (
        with_gaps(st.floats(width=32, allow_nan=False)),
        lambda v: pd.array(v, dtype="Float32"),
    ),
    "boolean": (with_gaps(st.booleans()), lambda v: pd.array(v, dtype="boolean")),
    "str": (with_gaps(st.text(max_size=5)), lambda v: pd.array(v, dtype="str")),
    "string python": (
        with_gaps(st.text(max_size=5)),
        lambda v: pd.array(v, dtype=pd.StringDtype("python")),
    ),
    "string pyarrow": (
        with_gaps(st.text(st.characters(codec="utf-8"), max_size=5)),
        lambda v: pd.array(v, dtype=pd.StringDtype("pyarrow")),
    ),
    "category": (
        with_gaps(st.sampled_from(["a", "b"])),
        lambda v: pd.Categorical(v, categories=["b", "a", "never"], ordered=True),
    ),
    "datetime": (with_gaps(INSTANTS), lambda v: np.array(v, "M8[us]")),
    "datetime tz": (with_gaps(INSTANTS), zoned),
    "timedelta": (
        with_gaps(st.integers(-(10**9), 10**9)),
        lambda v: np.array([np.timedelta64("NaT", "s") if x is None else x for x in v], "m8[s]"),
    ),
    "period": (
        with_gaps(INSTANTS.map(lambda at: pd.Period(at, "M"))),
        lambda v: pd.array(v, dtype="period[M]"),
    ),
    "interval": (
        st.integers(0, 9),
        lambda v: (
            pd.arrays.IntervalArray.from_arrays(v, [x + 1 for x in v], closed="both")
            if v
            else pd.arrays.IntervalArray.from_arrays(np.array([], "i8"), np.array([], "i8"), "both")
        ),
    ),
}
TEXTS = st.text(st.characters(codec="utf-8"), max_size=4)
LABELS = st.one_of(TEXTS, st.integers(-5, 5), st.none(), st.tuples(TEXTS, st.integers(0, 3)))


@st.composite
def columns(draw: Any, length: int) -> Any:
    cells, make = COLUMNS[draw(st.sampled_from(sorted(COLUMNS)))]
    return make(draw(st.lists(cells, min_size=length, max_size=length)))


@st.composite
def indexes(draw: Any, length: int) -> Any:
    kind = draw(st.sampled_from(["range", "column", "multi", "dates"]))
    name = draw(LABELS)
    if kind == "range":
        return pd.RangeIndex(3, 3 + 2 * length, 2, name=name)
    if kind == "dates":
        return pd.date_range("2024-01-31", periods=length, freq="ME", tz=BERLIN, name=name)
    if kind == "multi":
        levels = [draw(columns(length).filter(can_be_index)) for _ in range(2)]
        return pd.MultiIndex.from_arrays(levels, names=[name, draw(TEXTS)])
    values = draw(columns(length).filter(can_be_index))
    return pd.Index(values, dtype=values.dtype, name=name, tupleize_cols=False)


def can_be_index(values: Any) -> bool:
    return str(values.dtype) != "object"


@st.composite
def frames(draw: Any) -> Any:
    length = draw(st.integers(0, 3))
    arrays = draw(st.lists(columns(length), max_size=4))
    index = draw(indexes(length))
    series = {
        number: pd.Series(array, index=index, dtype=array.dtype)
        for number, array in enumerate(arrays)
    }
    frame = pd.DataFrame(series, index=index)
    labels = draw(st.lists(LABELS, min_size=len(arrays), max_size=len(arrays)))
    frame.columns = pd.Index(objects(labels), dtype=object, tupleize_cols=False)
    return frame


EXACTLY: dict[str, Any] = {"check_exact": True, "check_freq": True}


def assert_same(value: Any, back: Any) -> None:
    """Equal, with equal dtypes, index, columns and names; that cells are equal the bytes say."""
    assert type(value) is type(back)
    if isinstance(value, pd.DataFrame):
        assert list(value.dtypes) == list(back.dtypes)
        assert_same(value.columns, back.columns)
        assert_same(value.index, back.index)
        assert value.attrs == back.attrs
    elif isinstance(value, pd.Series):
        assert value.dtype == back.dtype
        assert repr(value.name) == repr(back.name)
        assert_same(value.index, back.index)
    else:
        assert value.equals(back)
        assert repr(value.names) == repr(back.names)
        assert getattr(value, "freq", None) == getattr(back, "freq", None)
        assert [level.dtype for level in getattr(value, "levels", [value])] == [
            level.dtype for level in getattr(back, "levels", [back])
        ]


@quick
@given(frames())
def test_a_frame_comes_back_with_its_columns_index_and_dtypes(frame: Any) -> None:
    back = there_and_back(frame)
    assert_same(frame, back)
    for number in range(frame.shape[1]):
        series, same = frame.iloc[:, number], back.iloc[:, number]
        if series.dtype != object:
            pd.testing.assert_series_equal(series, same, check_exact=True)
        else:
            assert [type(cell) for cell in series] == [type(cell) for cell in same]
            assert repr(series.tolist()) == repr(same.tolist())


@quick
@given(st.integers(0, 3).flatmap(lambda n: st.tuples(columns(n), indexes(n))), LABELS)
def test_series_and_indexes_come_back_alone_too(parts: Any, name: Any) -> None:
    values, index = parts
    assert_same(index, there_and_back(index))
    series = pd.Series(values, index=index, dtype=values.dtype, name=name)
    assert_same(series, there_and_back(series))


SCALARS = [
    pd.Timestamp("2024-02-29 01:02:03.000000004"),
    pd.Timestamp("2024-10-27 00:30", tz="UTC").tz_convert(BERLIN),
    pd.Timestamp("2024-10-27 01:30", tz="UTC").tz_convert(BERLIN),
    pd.Timestamp("0001-01-01").as_unit("s"),
    pd.Timestamp("2024-01-01 00:00:00.000000001").replace(fold=1),
    pd.Timedelta("-1ns"),
    pd.Timedelta("3D").as_unit("ms"),
    pd.Period("2024Q1", "Q-NOV"),
    pd.Interval(pd.Timestamp("2024"), pd.Timestamp("2025"), closed="neither"),
    pd.NaT,
    pd.NA,
]


@pytest.mark.parametrize("value", SCALARS, ids=repr)
def test_a_scalar_comes_back_as_itself(value: Any) -> None:
    back = there_and_back([value])[0]
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    assert getattr(back, "unit", None) == getattr(value, "unit", None)
    assert getattr(back, "fold", None) == getattr(value, "fold", None)


@pytest.mark.parametrize(
    "values", [pd.Categorical(["b", None, "a"]), pd.array([1, None]), pd.array(["a", None])]
)
def test_an_extension_array_comes_back(values: Any) -> None:
    pd.testing.assert_extension_array_equal(values, there_and_back(values))


def test_attributes_flags_and_unused_labels_are_kept() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_product([["x"], [1, 2]]))
    frame = frame.iloc[:1]
    frame.attrs = {"unit": ("m", 1)}
    frame.flags.allows_duplicate_labels = False
    back = there_and_back(frame)
    assert back.attrs == {"unit": ("m", 1)}
    assert back.flags.allows_duplicate_labels is False
    assert back.index.levels[1].tolist() == [1, 2]
    back.loc[("x", 1), "a"] = 5  # what comes back may be written to


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame(index=pd.Index(["a"])),
        pd.DataFrame(columns=["a"]),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame({("a", 1): [1], ("a", 2): [2.0]}),
    ],
    ids=["empty", "no columns", "no rows", "twice the same name", "columns of two levels"],
)
def test_odd_frames_come_back(frame: Any) -> None:
    pd.testing.assert_frame_equal(frame, there_and_back(frame), check_column_type="exact")


# --- as arguments ---------------------------------------------------------------------------


def test_equal_frames_count_as_equal_however_they_came_about() -> None:
    one = pd.DataFrame({"a": [1, 2], "b": [1.5, 2.5], "c": pd.array([1, None], dtype="Int64")})
    other = one.iloc[::-1].iloc[::-1].copy()
    other["a"], other["c"] = other["a"] * 1, other["c"] + 0
    assert digest_bytes(one) == digest_bytes(other)
    index = pd.MultiIndex.from_product([["x", "y"], [1, 2]])
    assert digest_bytes(index[:2]) == digest_bytes(pd.MultiIndex.from_product([["x"], [1, 2]]))


def test_frames_that_differ_count_as_different() -> None:
    base = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    seen = [
        base,
        base[["b", "a"]],
        base.rename(columns={"a": "c"}),
        base.astype({"a": "int32"}),
        base.astype({"b": "string[python]"}),
        base.set_axis([1, 2]),
        base.rename_axis("n"),
        base.iloc[::-1],
        base["a"],
        base["a"].rename("c"),
        base.columns,
    ]
    assert len({digest_bytes(value) for value in seen}) == len(seen)


def test_a_frame_is_shown_by_its_shape_and_dtypes() -> None:
    shown = digest_bytes(pd.DataFrame({"a": np.arange(100_000), "b": np.zeros(100_000)}))
    assert b'"shape":[100000,2]' in shown
    assert b'"dtype":"<f8"' in shown
    assert len(shown) < 1000


# --- what is refused ----------------------------------------------------------------------------


class Own(pd.DataFrame):
    pass


class Zone(dt.tzinfo):
    """A time zone of somebody's own."""

    def utcoffset(self, at: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(hours=1)

    def dst(self, at: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(0)

    def tzname(self, at: dt.datetime | None) -> str:
        return "OWN"


REFUSED = [
    (pd.DataFrame({"a": [object()]}), "$.x.a[0]", "object cannot be stored"),
    (pd.DataFrame({7: [lambda: 0]}), "$.x[7][0]", "function"),
    (Own({"a": [1]}), "$.x", "subclass of .*DataFrame"),
    (pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}), "$.x.a", "sparse"),
    (pd.Timestamp("2024", tz=Zone()), "$.x", "zoneinfo"),
    (pd.Series(pd.DatetimeIndex(["2024"], tz=Zone())), "$.x", "zoneinfo"),
    (pd.Series([1], name=range), "$.x.name", "store its name"),
    (pd.offsets.Day(2), "$.x", "cannot be stored"),
    (pd.DataFrame({"a": [1]}).groupby("a"), "$.x", "cannot be stored"),
]


@pytest.mark.parametrize(("value", "path", "reason"), REFUSED, ids=lambda one: type(one).__name__)
def test_what_would_not_come_back_the_same_is_refused(value: Any, path: str, reason: str) -> None:
    with pytest.raises(KitaruValueError, match=reason) as caught:
        encode({"x": value}, what="a test")
    assert caught.value.path == path


FRAME = pd.DataFrame(
    {
        "a": pd.Categorical(["x", "y"]),
        "b": pd.array([1, None]),
        "c": pd.array(["t", "u"], dtype=pd.StringDtype("python", na_value=np.nan)),
        "d": [1, 2],
    }
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"pandas.RangeIndex"', b'"pandas.Series"'),
        (b'"v":[0,2,1]', b'"v":[0,3,1]'),
        (b'"v":[0,2,1]', b'"v":[0,2,0]'),
        (b'"v":[0,2,1]', b'"v":[0,2,"1"]'),
        (b'"dtype":"|i1"', b'"dtype":"|u2"'),
        (b'"dtype":"Int64"', b'"dtype":"Int8"'),
        (b'"dtype":"Int64"', b'"dtype":"Period"'),
        (b'"storage":"python"', b'"storage":"evil"'),
        (b'"missing":"nan"', b'"missing":"x"'),
        (b'"missing":"nan","v":["t","u"]', b'"missing":"nan","v":["t",5]'),
        (b'"v":["t","u"]', b'"v":["t"]'),
        (b'"v":["t","u"]', b'"v":{"$kitaru":"numpy.ndarray"}'),
        (b'"pandas.Categorical"', b'"pandas.read_pickle"'),
        (b'"columns":', b'"rows":'),
    ],
)
def test_an_edited_record_is_refused(old: bytes, new: bytes) -> None:
    payload = encode(FRAME, what="a test")
    with pytest.raises(KitaruValueError, match="malformed"):
        decode(edited(payload, old, new), what="a test")


def test_without_pandas_a_frame_is_refused_and_nothing_is_imported() -> None:
    said = refused_elsewhere(
        "import pandas as pd\n"
        "from kitaru._core.values import encode\n"
        "payload = encode(pd.DataFrame({'a': [1]}), what='')\n",
        "pandas",
        first="import numpy",
    )
    assert "my_checkpoint: at $: it was recorded as a pandas.DataFrame" in said
    assert said.endswith("\nFalse\n")


def test_decimals_and_dates_in_object_columns_stay_themselves() -> None:
    frame = pd.DataFrame({"money": [Decimal("1.10"), None], "day": [dt.date(2024, 1, 1), pd.NaT]})
    back = there_and_back(frame)
    assert [type(cell) for cell in back["money"]] == [type(cell) for cell in frame["money"]]
    assert back["day"].tolist() == frame["day"].tolist()
