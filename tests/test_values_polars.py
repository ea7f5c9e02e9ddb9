"""Polars frames and series come back equal, and count by what they hold."""

from __future__ import annotations

import datetime as dt
import sys
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing.parametric import dataframes, series
from tests.values_kit import digest_bytes, edited, quick, refused_elsewhere, there_and_back

from kitaru._core.values import decode, encode
from kitaru.errors import KitaruValueError

NOW = dt.datetime(2024, 1, 1)
MANY = st.one_of(
    dataframes(max_cols=3, max_size=4, allow_null=True, excluded_dtypes=[pl.Object]),
    series(max_size=4, allow_null=True, excluded_dtypes=[pl.Object]),
)


@quick
@given(MANY)
def test_a_frame_or_series_comes_back(value: Any) -> None:
    back = there_and_back(value)
    assert back.equals(value, null_equal=True)
    if isinstance(value, pl.DataFrame):
        assert back.schema == value.schema
    else:
        assert (back.name, back.dtype) == (value.name, value.dtype)


@quick
@given(MANY)
def test_equal_values_count_as_equal_whatever_their_chunks(value: Any) -> None:
    other = pl.concat([value, value], rechunk=False)
    assert digest_bytes(other.slice(len(value))) == digest_bytes(value)
    assert digest_bytes(there_and_back(value)) == digest_bytes(value)


SERIES = [
    pl.Series("a", [1, 2]),
    pl.Series("b", [1, 2]),
    pl.Series("a", [1, None]),
    pl.Series("a", [1, 0]),
    pl.Series("a", [1, 2], dtype=pl.Int32),
    pl.Series("a", [1.0, 2.0]),
    pl.Series("a", [True, False]),
    pl.Series("a", ["1", "2"]),
    pl.Series("a", ["1", "2"], dtype=pl.Categorical),
    pl.Series("a", ["1", "2"], dtype=pl.Enum(["1", "2"])),
    pl.Series("a", ["1", "2"], dtype=pl.Enum(["2", "1"])),
    pl.Series("a", [["a"], ["b", "c"]]),
    pl.Series("a", [["a", "b"], ["c"]]),
    pl.Series("a", [["a", "b"], ["c"], []]),
    pl.Series("a", [["a", "b"], ["c"], None]),
    pl.Series("a", [[NOW]], dtype=pl.List(pl.Datetime("ns"))),
    pl.Series("a", [[NOW]], dtype=pl.List(pl.Datetime("us"))),
    pl.Series("a", [NOW], dtype=pl.Datetime("ns")),
    pl.Series("a", [NOW], dtype=pl.Datetime("ns", "UTC")),
    pl.Series("a", [{"x": 1}]),
    pl.Series("a", [{"y": 1}]),
    pl.Series("a", [{"x": None}]),
    pl.Series("a", [None], dtype=pl.Struct({"x": pl.Int64})),
    pl.Series("a", [Decimal("1.10")], dtype=pl.Decimal(9, 2)),
    pl.Series("a", [[1, 2]], dtype=pl.Array(pl.Int64, 2)),
    pl.Series("a", [None, None]),
    pl.Series("a", [2**100], dtype=pl.Int128),
    pl.Series("a", [b"1", b"2"]),
]


def test_values_that_differ_count_as_different() -> None:
    seen = [*SERIES, SERIES[0].to_frame(), pl.DataFrame(), pl.DataFrame({"a": [1, 2], "b": [1, 2]})]
    assert len({digest_bytes(value) for value in seen}) == len(seen)


@pytest.mark.parametrize("value", SERIES, ids=lambda one: str(one.dtype))
def test_every_type_comes_back(value: Any) -> None:
    back = there_and_back(value)
    assert back.dtype == value.dtype
    assert back.equals(value)


@pytest.mark.parametrize("value", SERIES, ids=lambda one: str(one.dtype))
def test_a_digest_does_not_depend_on_numpy(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with_numpy = digest_bytes(value)
    monkeypatch.delitem(sys.modules, "numpy")
    assert digest_bytes(value) == with_numpy


def test_a_nanosecond_inside_a_list_counts() -> None:
    kind = pl.List(pl.Struct({"at": pl.Datetime("ns")}))
    one, other = (
        pl.Series([at]).cast(pl.Datetime("ns")).to_frame("at").to_struct().implode().cast(kind)
        for at in (1, 2)
    )
    assert digest_bytes(one) != digest_bytes(other)


def test_a_frame_is_shown_by_its_fields_and_shape_and_is_attached() -> None:
    frame = pl.DataFrame({"n": pl.Series(range(100_000), dtype=pl.Int32)})
    payload = encode(frame, what="")
    assert payload.codec == "attachments"
    assert b'"shape":[100000,1],"fields":[["n","Int32"]]' in payload.data[:200]
    assert len(digest_bytes(frame)) < 400


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (pl.Series("o", [object()]), "'o' holds Python objects"),
        (pl.DataFrame({"a": [1], "o": pl.Series([object()])}), "'o' holds Python objects"),
        (pl.LazyFrame({"a": [1]}), "collect"),
        (pl.col("a"), "cannot be stored"),
        (type("Own", (pl.DataFrame,), {})(), "subclass of"),
    ],
    ids=["objects", "frame of objects", "lazy", "expression", "subclass"],
)
def test_what_has_no_encoding_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(KitaruValueError, match=reason) as caught:
        encode([value], what="a test")
    assert caught.value.path == "$[0]"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"polars.Series"', b'"polars.read_csv"'),
        (b'"v":"', b'"v":"!'),
        (b'"v":"QVJST1cx', b'"v":"'),
    ],
)
def test_an_edited_record_is_refused(old: bytes, new: bytes) -> None:
    payload = edited(encode(pl.Series([1]), what="a test"), old, new)
    with pytest.raises(KitaruValueError, match="malformed"):
        decode(payload, what="a test")


@quick
@given(st.integers(0, 400))
def test_a_record_that_was_cut_short_is_refused_or_equal(length: int) -> None:
    payload = encode(pl.Series([1, 2]), what="a test")
    start = payload.data.index(b'"v":"') + 5
    text = payload.data[start : payload.data.index(b'"', start)]
    try:
        back = decode(edited(payload, text, text[: length // 4 * 4]), what="a test")
    except KitaruValueError:
        return
    assert back.to_list() == [1, 2]  # type: ignore[attr-defined]


def test_a_series_is_not_made_of_a_frame_with_more_columns() -> None:
    frame = encode(pl.DataFrame({"a": [1], "b": [2]}), what="")
    with pytest.raises(KitaruValueError, match="malformed"):
        decode(edited(frame, b'"polars.DataFrame"', b'"polars.Series"'), what="")


def test_without_polars_a_frame_is_refused_and_nothing_is_imported() -> None:
    said = refused_elsewhere(
        "import polars as pl\n"
        "from kitaru._core.values import encode\n"
        "payload = encode(pl.DataFrame({'a': [1]}), what='')\n",
        "polars",
    )
    assert "it was recorded as a polars.DataFrame" in said
    assert said.endswith("\nFalse\n")
