"""numpy arrays and scalars come back equal, of the same type and dtype, whatever their layout."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tests.values_kit import (
    digest_bytes,
    edited,
    quick,
    refused_elsewhere,
    run_python,
    there_and_back,
)

from kitaru._core.binding import Binder
from kitaru._core.inputs import digest_inputs
from kitaru._core.values import decode, encode
from kitaru._core.values.attachments import MAX_INLINE_BYTES
from kitaru._store.blobs import INLINE_BYTES
from kitaru.errors import KitaruValueError

SCALAR_DTYPES = st.one_of(
    npst.scalar_dtypes(),
    npst.byte_string_dtypes(max_len=5),
    npst.unicode_string_dtypes(max_len=5),
    st.sampled_from([np.dtype("q"), np.dtype("Q"), np.dtype("g"), np.dtype("G"), np.dtype("V5")]),
)
DTYPES = st.one_of(
    SCALAR_DTYPES,
    npst.nested_dtypes(SCALAR_DTYPES, max_leaves=4),
    npst.array_dtypes(SCALAR_DTYPES),
)


@st.composite
def arrays(draw: Any) -> Any:
    """Any array: of any shape, with any bits in it, and as a view of any kind."""
    dtype = draw(DTYPES)
    shape = draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    array = np.zeros(shape, dtype)
    if array.nbytes and dtype.kind != "U":
        bits = draw(st.binary(min_size=array.nbytes, max_size=array.nbytes))
        array = np.frombuffer(bits, array.dtype).reshape(array.shape)
    view = draw(st.sampled_from(["as it is", "transposed", "every other", "backwards"]))
    if view == "transposed":
        return array.T
    if array.ndim and view == "every other":
        return array[::2]
    return array[..., ::-1] if array.ndim and view == "backwards" else array


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, padding aside."""
    if a.dtype.names is not None:
        return all(same(a[name], b[name]) for name in a.dtype.names)
    if a.dtype.char in "gG":
        return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=True))
    if a.dtype.kind == "b":
        return a.shape == b.shape and np.array_equal(a.view("u1") != 0, b.view("u1") != 0)
    return a.shape == b.shape and a.tobytes() == b.tobytes()


@quick
@given(arrays())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_array_comes_back_with_its_dtype_shape_and_items(array: Any) -> None:
    back = there_and_back(array)
    assert back.dtype == array.dtype
    assert back.dtype.isalignedstruct == array.dtype.isalignedstruct
    assert same(array, back)
    assert back.flags.writeable
    assert back.flags.owndata


@quick
@given(arrays())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_equal_arrays_count_as_equal_whatever_their_layout(array: Any) -> None:
    copies = [array.copy("C"), array.copy("F"), np.array(array, copy=True)[...]]
    if array.ndim:
        twice = np.repeat(array, 2, axis=0)
        copies.append(twice[::2])
    assert {digest_bytes(copy) for copy in copies} == {digest_bytes(array)}


def test_arrays_that_differ_count_as_different() -> None:
    seen = [
        np.array([1, 2]),
        np.array([2, 1]),
        np.array([[1, 2]]),
        np.array([1, 2], "i4"),
        np.array([1, 2], ">i8"),
        np.array([1.0, 2.0]),
        np.array([True, False]),
        [1, 2],
        np.int64(1),
        1,
        np.array(1),
        np.float64(1.0),
        1.0,
        np.bool_(True),
        True,
    ]
    assert len({digest_bytes(value) for value in seen}) == len(seen)


def test_padding_between_fields_does_not_count() -> None:
    dtype = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    clean = np.zeros(2, dtype)
    dirty = np.ndarray((2,), dtype, bytearray(b"\xff" * clean.nbytes))
    dirty["a"], dirty["b"] = 0, 0.0
    assert clean.tobytes() != dirty.tobytes()
    assert digest_bytes(clean) == digest_bytes(dirty)
    assert encode(clean, what="") == encode(dirty, what="")


SCALARS = [
    np.float64(0.1),
    np.float64("nan"),
    np.float64(-0.0),
    np.float32("-inf"),
    np.float16(0.5),
    np.longdouble(1) / 3,
    np.complex64(1 + 2j),
    np.complex128(complex("nan")),
    np.clongdouble(1) / 3,
    np.bool_(False),
    np.int8(-128),
    np.uint64(2**64 - 1),
    np.longlong(5),
    np.ulonglong(5),
    np.intp(5),
    np.datetime64("2024-02-29T01:02", "ns"),
    np.datetime64("NaT", "us"),
    np.datetime64(5, "25s"),
    np.timedelta64(-3, "D"),
    np.str_("a\0é\0"),
    np.str_(""),
    np.str_("\ud800"),
    np.bytes_(b"a\0"),
    np.void(b"\0\1"),
    np.array([(1, 2.5)], "i4,f8")[0],
]


@pytest.mark.parametrize("value", SCALARS, ids=repr)
def test_a_scalar_comes_back_as_itself_and_not_as_pythons(value: Any) -> None:
    back = there_and_back([value])[0]
    assert type(back) is type(value)
    if isinstance(value, (str, bytes)):
        assert (len(back), back) == (len(value), value)
    else:
        assert back.dtype == value.dtype
        assert same(np.asarray(value), np.asarray(back))


def test_texts_of_any_length_come_back() -> None:
    value = np.array([["a", "é" * 50], ["", "\0"]], np.dtypes.StringDType(coerce=False))
    back = there_and_back(value)
    assert back.dtype == value.dtype
    assert back.tolist() == value.tolist()


def test_arrays_are_values_inside_others() -> None:
    value = {"a": [np.arange(3), (np.ones((2, 2)),)], "b": {np.float64(1.5): np.int8(1)}}
    back = there_and_back(value)
    assert back["a"][0].tolist() == [0, 1, 2]
    assert back["a"][1][0].shape == (2, 2)
    assert [type(key) for key in back["b"]] == [np.float64]


# --- what is large -------------------------------------------------------------------


def test_large_data_is_attached_and_not_written_in_base64() -> None:
    value = {"a": np.arange(100_000), "b": b"x" * 40_000, "c": bytearray(50_000), "d": b"small"}
    payload = encode(value, what="a test")
    assert payload.codec == "attachments"
    assert len(payload.data) < 800_000 + 90_000 + 500
    back = there_and_back(value)
    assert back.keys() == value.keys()
    assert np.array_equal(back["a"], value["a"])
    assert [back[key] for key in "bcd"] == [value[key] for key in "bcd"]
    assert [type(back[key]) for key in "bcd"] == [bytes, bytearray, bytes]


def test_what_stands_in_a_row_is_json() -> None:
    # Attachments begin where rows end: the views over the rows need not know them.
    assert MAX_INLINE_BYTES == INLINE_BYTES


def test_a_set_of_large_bytes_has_one_encoding() -> None:
    value = {bytes([n]) * 40_000 for n in range(5)}
    assert there_and_back(value) == value


def test_an_array_beyond_the_limit_is_refused_with_its_path() -> None:
    array = np.zeros(9_000_000)
    with pytest.raises(KitaruValueError, match=r"a test: at \$\.a: the value takes more than"):
        encode({"a": array}, what="a test")
    assert b"72000000" in digest_bytes(array)  # as an argument it is only looked at


def test_a_large_argument_is_shown_by_dtype_shape_and_size() -> None:
    def body(table: Any, n: int) -> None: ...

    binder = Binder(body)
    inputs = digest_inputs(
        binder.bind((np.zeros((1000, 100)), 3), {}),
        binder=binder,
        code_digest=lambda _: b"",
        file_facts=lambda _: None,
    )
    assert inputs.preview is not None
    assert '"dtype":"<f8","shape":[1000,100]' in inputs.preview
    assert '"bytes":800000' in inputs.preview
    assert len(inputs.preview) < 300


# --- what is refused -------------------------------------------------------------------


class Own(np.ndarray):
    pass


class OwnScalar(np.float64):
    pass


REFUSED = [
    (np.array([1, None], object), "holds references"),
    (np.zeros(2, [("a", "i4"), ("b", object)]), "holds references"),
    (np.zeros(2).view(Own), "subclass of"),
    (OwnScalar(1.5), "subclass of"),
    (np.ma.masked_array([1, 2], [True, False]), "filled"),
    (np.rec.array([(1, 2.0)]), "numpy.array"),
    (np.zeros(1, np.dtype("f8", metadata={"unit": "m"})), "metadata"),
    (np.array(["a"], np.dtypes.StringDType(na_object=None)), "na_object"),
    (np.zeros(2, [("a", "S0"), ("b", "i4")])["a"], "no room"),
    (np.dtype("f8"), "or a text"),
    (np.random.default_rng(1), "cannot be stored"),
]


@pytest.mark.parametrize(("value", "reason"), REFUSED, ids=lambda one: type(one).__name__)
def test_what_would_not_come_back_the_same_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(KitaruValueError, match=reason) as caught:
        encode({"x": [value]}, what="a test")
    assert caught.value.path == "$.x[0]"


def test_a_class_that_claims_to_be_numpys_is_not_taken_for_it() -> None:
    imposter = type("ndarray", (), {"__module__": "numpy", "dtype": np.dtype("f8")})
    with pytest.raises(KitaruValueError, match="cannot be stored"):
        encode(imposter(), what="a test")


# --- reading -------------------------------------------------------------------------


EDITS = [
    (b'"dtype":"<i8"', b'"dtype":"|O"'),
    (b'"dtype":"<i8"', b'"dtype":"no"'),
    (b'"dtype":"<i8"', b'"dtype":7'),
    (b'"dtype":"<i8"', b'"dtype":{"names":["a"]}'),
    (b'"dtype":"<i8"', b'"dtype":"O,i4"'),
    (b'"dtype":"<i8"', b'"dtype":"T"'),
    (b'"shape":[3]', b'"shape":[3000000000000]'),
    (b'"shape":[3]', b'"shape":[-3]'),
    (b'"shape":[3]', b'"shape":[true]'),
    (b'"shape":[3]', b'"shape":3'),
    (b'"shape":[3]', b'"shape":[' + b",".join([b"1"] * 70) + b"]"),
    (b'"v":"', b'"v":"!!'),
    (b'"v":"', b'"w":"'),
    (b'"numpy.ndarray"', b'"numpy.scalar"'),
    (b'"numpy.ndarray"', b'"numpy.load"'),
    (b'"numpy.ndarray"', b'"os.system"'),
]


@pytest.mark.parametrize(("old", "new"), EDITS)
def test_an_edited_record_is_refused(old: bytes, new: bytes) -> None:
    payload = edited(encode(np.arange(3), what="a test"), old, new)
    with pytest.raises(KitaruValueError, match="malformed"):
        decode(payload, what="a test")


@pytest.mark.parametrize("dtype", [b'"|S0"', b'"<U0"', b'"S"', b'["|S0",[9]]', b'["<i8",[0]]'])
def test_an_edited_record_is_given_no_memory_that_it_does_not_fill(dtype: bytes) -> None:
    empty = encode(np.zeros(0, "i8"), what="a test")
    payload = edited(edited(empty, b'"<i8"', dtype), b"[0]", b"[5000]")
    with pytest.raises(KitaruValueError, match="malformed"):
        decode(payload, what="a test")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"[0,80000]", b"[0,80001]"),
        (b"[0,80000]", b"[-8,80000]"),
        (b"[0,80000]", b"[0.0,80000]"),
        (b"[0,80000]", b"[0]"),
        (b"[80000,80000]", b"[0,80000],[0,80000]"),
        (b"[80000,80000]", b"[80000,800000]"),
        (b'"b":', b'"c":{"$kitaru":"large-bytes","v":[0,80000]},"b":'),
        (b"\0", b""),
    ],
)
def test_edited_attachments_are_refused(old: bytes, new: bytes) -> None:
    ones = np.full(10_000, 0x0101010101010101)
    payload = edited(encode({"a": ones, "b": ones}, what="a test"), old, new)
    with pytest.raises(KitaruValueError, match="malformed"):
        decode(payload, what="a test")


def test_storing_plain_values_imports_no_library() -> None:
    code = (
        "import sys\n"
        "from kitaru._core.values import decode, encode\n"
        "decode(encode({'a': (1, b'x')}, what=''), what='')\n"
        "print({'numpy', 'pandas', 'polars', 'pyarrow', 'PIL'} & set(sys.modules))\n"
    )
    assert run_python(code) == "set()\n"


def test_without_its_library_a_value_is_refused_and_nothing_is_imported() -> None:
    said, imported = refused_elsewhere(
        "import numpy as np\n"
        "from kitaru._core.values import encode\n"
        "payload = encode({'a': [np.arange(3)]}, what='')\n",
        "numpy",
    ).splitlines()
    assert said.startswith("$.a[0] my_checkpoint: at $.a[0]: it was recorded as a numpy.ndarray")
    assert "import numpy" in said
    assert imported == "False"


def test_numpy_is_in_use_here() -> None:
    assert "numpy" in sys.modules
