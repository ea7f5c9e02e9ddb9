"""Arrow tables, batches and arrays come back equal, and count by what they hold."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.values_kit import digest_bytes, edited, quick, refused_elsewhere, there_and_back

from kitaru._core.values import decode, encode
from kitaru._core.values.attachments import inline
from kitaru.errors import KitaruValueError

INSTANTS = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
LEAVES: list[tuple[Any, Any]] = [
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint8(), st.integers(0, 255)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.float16(), st.floats(width=16, allow_nan=False)),
    (pa.bool_(), st.booleans()),
    (pa.string(), TEXTS),
    (pa.large_string(), TEXTS),
    (pa.string_view(), TEXTS),
    (pa.binary(), st.binary(max_size=5)),
    (pa.binary(2), st.binary(min_size=2, max_size=2)),
    (pa.timestamp("ns", tz="Europe/Berlin"), INSTANTS),
    (pa.timestamp("s"), INSTANTS.map(lambda at: at.replace(microsecond=0))),
    (pa.date32(), st.dates()),
    (pa.time64("us"), st.times()),
    (pa.duration("us"), st.timedeltas(dt.timedelta(-9), dt.timedelta(9))),
    (pa.decimal128(9, 2), st.decimals(-1000, 1000, places=2)),
    (pa.null(), st.none()),
    (
        pa.month_day_nano_interval(),
        st.tuples(*[st.integers(0, 9)] * 3).map(lambda t: pa.MonthDayNano(list(t))),
    ),
]


def nested(inner: Any) -> Any:
    return st.one_of(
        inner.map(lambda one: (pa.list_(one[0]), st.lists(gaps(one), max_size=2))),
        inner.map(lambda one: (pa.large_list(one[0]), st.lists(gaps(one), max_size=2))),
        inner.map(lambda one: (pa.list_(one[0], 2), st.lists(gaps(one), min_size=2, max_size=2))),
        inner.map(
            lambda one: (
                pa.struct([("a", one[0]), pa.field("b", pa.int8(), nullable=False)]),
                st.fixed_dictionaries({"a": gaps(one), "b": st.integers(0, 9)}),
            )
        ),
        inner.map(
            lambda one: (
                pa.map_(pa.string(), one[0]),
                st.lists(st.tuples(TEXTS, gaps(one)), max_size=2),
            )
        ),
    )


def gaps(one: Any) -> Any:
    return st.one_of(st.none(), one[1])


TYPES = st.recursive(st.sampled_from(LEAVES), nested, max_leaves=3)


@st.composite
def arrays(draw: Any, length: int | None = None) -> Any:
    one = draw(TYPES)
    if length is None:
        length = draw(st.integers(0, 4))
    items = draw(st.lists(gaps(one), min_size=length, max_size=length))
    array = pa.array(items, type=one[0])
    plain = pa.types.is_string(one[0]) or pa.types.is_integer(one[0])
    return array.dictionary_encode() if plain and draw(st.booleans()) else array


@st.composite
def tables(draw: Any) -> Any:
    length = draw(st.integers(0, 3))
    columns = draw(st.lists(arrays(length), max_size=3))
    fields = [
        pa.field(draw(TEXTS), one.type, metadata={"unit": "m"} if draw(st.booleans()) else None)
        for one in columns
    ]
    metadata = draw(st.one_of(st.none(), st.dictionaries(TEXTS, TEXTS, max_size=2)))
    return pa.table(columns, schema=pa.schema(fields, metadata=metadata))


@quick
@given(arrays())
def test_an_array_comes_back(array: Any) -> None:
    back = there_and_back(array)
    assert back.equals(array)
    assert back.type == array.type
    back.validate(full=True)


@quick
@given(tables())
def test_a_table_comes_back_with_its_schema(table: Any) -> None:
    back = there_and_back(table)
    assert back.equals(table)
    assert back.schema.equals(table.schema, check_metadata=True)
    if table.num_columns:
        batch = table.combine_chunks().to_batches()
        assert all(there_and_back(one).equals(one, check_metadata=True) for one in batch)
    assert all(there_and_back(column).equals(column) for column in table.columns)


@quick
@given(arrays(), st.data())
def test_equal_arrays_count_as_equal_whatever_their_layout(array: Any, data: Any) -> None:
    before = data.draw(st.integers(0, len(array)))
    twice = pa.concat_arrays([array.slice(0, before), array, array])
    other = twice.slice(before, len(array))
    assert other.equals(array)
    assert digest_bytes(other) == digest_bytes(array)
    assert digest_bytes(there_and_back(other)) == digest_bytes(array)
    chunks = pa.chunked_array([array.slice(0, before), array.slice(before)], type=array.type)
    whole = pa.chunked_array([array], type=array.type)
    assert digest_bytes(chunks) == digest_bytes(whole)


def test_what_stands_under_a_null_does_not_count() -> None:
    valid = pa.py_buffer(b"\x05")
    one, other = (
        pa.Array.from_buffers(pa.int64(), 3, [valid, pa.array([1, hidden, 3]).buffers()[1]])
        for hidden in (7, 8)
    )
    assert one.equals(other)
    assert digest_bytes(one) == digest_bytes(other)


FIRST_MEMBER, SECOND_MEMBER = pa.array([0], pa.int8()), pa.array([1], pa.int8())


def test_arrays_that_differ_count_as_different() -> None:
    day = dt.datetime(2024, 1, 1)
    seen = [
        pa.array([1, 2]),
        pa.array([1, None]),
        pa.array([1, 0]),
        pa.array([1, 2], pa.int32()),
        pa.array(["1", "2"]),
        pa.array(["12", ""]),
        pa.array([["a"], ["b", "c"]]),
        pa.array([["a", "b"], ["c"]]),
        pa.array([["a", "b", "c"], []]),
        pa.array([None, ["a", "b", "c"]]),
        pa.array([day], pa.timestamp("s")),
        pa.array([day], pa.timestamp("ms")),
        pa.array([day], pa.timestamp("s", tz="UTC")),
        pa.array([{"a": 1}]),
        pa.array([{"b": 1}]),
        pa.array([{"a": None}]),
        pa.array([None], pa.struct([("a", pa.int64())])),
        pa.chunked_array([[1, 2]]),
        pa.table({"values": [1, 2]}),
        pa.table({"values": [1, 2]}).replace_schema_metadata({"a": "b"}),
        pa.array([decimal.Decimal("1.10")]),
        pa.UnionArray.from_sparse(FIRST_MEMBER, [pa.array([1]), pa.array([1])]),
        pa.UnionArray.from_sparse(SECOND_MEMBER, [pa.array([1]), pa.array([1])]),
    ]
    assert len({digest_bytes(value) for value in seen}) == len(seen)


def test_a_nanosecond_inside_a_list_counts() -> None:
    kind = pa.map_(pa.string(), pa.list_(pa.timestamp("ns")))
    one, other = (pa.array([[("a", [at])]], kind) for at in (1, 2))
    assert digest_bytes(one) != digest_bytes(other)


@pytest.mark.parametrize(
    "value",
    [
        pa.table({}),
        pa.table({"a": pa.array([], pa.int64())}),
        pa.chunked_array([], pa.int64()),
        pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]),
        pa.record_batch({"a": pa.array([], pa.int64())}),
        pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"]),
    ],
    ids=["empty", "no rows", "no chunks", "twice the same name", "empty batch", "run ends"],
)
def test_odd_values_come_back(value: Any) -> None:
    assert there_and_back(value).equals(value)
    assert digest_bytes(value) == digest_bytes(there_and_back(value))


def test_a_table_is_shown_by_its_fields_and_rows_and_is_attached() -> None:
    table = pa.table({"n": pa.array(range(100_000), pa.int32())})
    payload = encode(table, what="")
    assert payload.codec == "attachments"
    assert b'"rows":100000,"fields":[["n","int32"]]' in payload.data[:200]
    assert len(digest_bytes(table)) < 400


UUIDS = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16], pa.binary(16)))


class Unit(pa.ExtensionType):
    """An extension type whose code would run when it is read."""

    read = 0

    def __init__(self) -> None:
        super().__init__(pa.int64(), "kitaru.test.unit")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: Any, data: bytes) -> Unit:
        cls.read += 1
        return cls()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (pa.ExtensionArray.from_storage(Unit(), pa.array([1])), "cannot be stored"),
        (pa.table({"u": pa.ExtensionArray.from_storage(Unit(), pa.array([1]))}), "extension type"),
        (pa.ListArray.from_arrays([0, 1], UUIDS), "extension type"),
        (pa.scalar(1), "cannot be stored"),
        (pa.schema([("a", pa.int64())]), "cannot be stored"),
        (pa.int64(), "cannot be stored"),
    ],
    ids=["extension", "table", "nested", "scalar", "schema", "type"],
)
def test_what_has_no_encoding_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(KitaruValueError, match=reason):
        encode(value, what="a test")


@pytest.mark.parametrize("former_format", [False, True])
def test_an_edited_record_runs_no_extension_type(former_format: bool) -> None:
    pa.register_extension_type(Unit())
    try:
        table = pa.table({"u": pa.ExtensionArray.from_storage(Unit(), pa.array([1]))})
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(use_legacy_format=former_format)
        with pa.ipc.new_stream(sink, table.schema, options=options) as stream:
            stream.write_table(table)
        plain = encode(pa.table({"u": [1]}), what="")
        start = plain.data.index(b'"v":"') + 5
        old = plain.data[start : plain.data.index(b'"', start)]
        payload = edited(plain, old, inline(sink.getvalue().to_pybytes()).encode())
        before = Unit.read
        with pytest.raises(KitaruValueError, match="malformed"):
            decode(payload, what="a test")
        assert Unit.read == before
    finally:
        pa.unregister_extension_type("kitaru.test.unit")


@quick
@given(st.data())
def test_edited_bytes_give_a_typed_error_or_a_valid_table(data: Any) -> None:
    payload = encode(pa.table({"s": ["a", "bb", None], "l": [[1], [], [2, 3]]}), what="")
    start = payload.data.index(b'"v":"') + 5
    old = payload.data[start : payload.data.index(b'"', start)]
    at = data.draw(st.integers(0, len(old) - 1))
    new = old[:at] + data.draw(st.sampled_from([b"A", b"/", b"g"])) + old[at + 1 :]
    try:
        back = decode(edited(payload, old, new), what="a test")
    except KitaruValueError:
        return
    back.validate(full=True)  # type: ignore[attr-defined]


def test_without_pyarrow_a_table_is_refused_and_nothing_is_imported() -> None:
    said = refused_elsewhere(
        "import pyarrow as pa\n"
        "from kitaru._core.values import encode\n"
        "payload = encode(pa.table({'a': [1]}), what='')\n",
        "pyarrow",
    )
    assert "it was recorded as a pyarrow.Table" in said
    assert said.endswith("\nFalse\n")
