"""Values come back equal, of equal types, and encode to the same bytes again."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import math
import pathlib
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kitaru._core.payload import Payload, seal
from kitaru._core.values import Limits, decode, dump, encode, is_exact, preview, to_tree
from kitaru.errors import KitaruValueError

quick = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
KEYS = st.one_of(ANY_TEXT, st.sampled_from(["$kitaru", "v", "__proto__", "$ref", "of"]))

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(1990, 2010).map(lambda bits: -(1 << bits)),
    st.floats(),
    ANY_TEXT,
    st.binary(max_size=12),
    st.decimals(),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.datetimes(timezones=st.just(dt.UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.complex_numbers(),
    st.fractions(),
    st.ip_addresses(),
    st.sampled_from([range(0), range(1, 9, 2), pathlib.Path("a/é")]),
)
HASHABLE = st.recursive(
    SCALARS.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan())),
    lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
    max_leaves=4,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.sets(HASHABLE, max_size=4),
        st.frozensets(HASHABLE, max_size=4),
        st.lists(inner, max_size=3).map(deque),
        st.dictionaries(KEYS, inner, max_size=3).map(OrderedDict),
    ),
    max_leaves=12,
)


PAIR = chr(0xD83D) + chr(0xDE00)
"""Two lone surrogates that JSON would make one character of."""


def there_and_back(value: Any) -> Any:
    return decode(encode(value, what="a test"), what="a test")


def same(a: Any, b: Any) -> bool:
    """Equal and of equal types, all the way down; NaN is NaN, -0.0 is not 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (a != a and b != b) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, Decimal):
        return str(a) == str(b)
    if isinstance(a, (list, tuple, deque)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, (set, frozenset)):
        # NaN is in no set: compare what they encode to.
        return encode(a, what="") == encode(b, what="")
    if isinstance(a, (dt.datetime, dt.time)):
        return a.replace(tzinfo=None) == b.replace(tzinfo=None) and (
            (a.fold, repr(a.tzinfo)) == (b.fold, repr(b.tzinfo))
        )
    return bool(a == b)


@quick
@given(VALUES)
def test_any_value_comes_back_equal_and_of_equal_types(value: Any) -> None:
    payload = encode(value, what="a test")
    back = decode(payload, what="a test")
    assert same(value, back)
    assert encode(back, what="a test") == payload


@quick
@given(VALUES)
def test_canonical_bytes_do_not_depend_on_the_order_of_keys(value: dict[str, Any]) -> None:
    mapping = {"a": value, "b": 1, (1, 2): value, None: 2}
    turned = dict(reversed(mapping.items()))
    assert dump(to_tree(mapping), sort=True) == dump(to_tree(turned), sort=True)
    assert dump(to_tree(mapping), sort=False) != dump(to_tree(turned), sort=False)


@pytest.mark.parametrize(
    "value",
    [
        None,
        False,
        0,
        "",
        [],
        {},
        (),
        set(),
        b"",
        bytearray(b"\x00\xff"),
        -0.0,
        float("nan"),
        float("-inf"),
        2**63,
        2**64,
        -(2**63),
        10**4999,
        "\ud800",
        "\udc00\ud800",
        PAIR,
        "😀 \x00 \ufeff \u202e",
        "e" + "\u0301" * 10_000,
        {PAIR: 1, "😀": 2},
        {"$kitaru": "tuple", "v": [1]},
        {"$kitaru": {"$kitaru": "dict", "v": [[1, 2]]}},
        {1: "int", "1": "str", None: 0, (1,): [], 2.5: {}, b"": 1},
        [1, 1.0, True],
        dt.datetime.min,
        dt.datetime.max,
        dt.datetime(2024, 10, 27, 2, 30, fold=1),
        dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=3601, microseconds=7))),
        dt.time(1, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(hours=-3), "here"), fold=1),
        dt.timedelta.min,
        dt.UTC,
        zoneinfo.ZoneInfo("Asia/Tokyo"),
        Decimal("NaN123"),
        Decimal("-sNaN"),
        Decimal("1E+400"),
        Decimal("-0.00"),
        Fraction(-1, 3),
        uuid.UUID(int=5),
        pathlib.Path("/a/\udcff b"),
        pathlib.PurePosixPath("a"),
        pathlib.PureWindowsPath("C:\\x"),
        complex(-0.0, float("nan")),
        range(10**700, 0, -3),
        ipaddress.ip_address("fe80::1%eth0"),
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_interface("10.0.0.1/8"),
        deque([1, (2,)], maxlen=5),
        OrderedDict([("b", 1), ("a", 2)]),
        Counter("abca"),
        defaultdict(list, {"a": [1]}),
        defaultdict(None, {1: 2}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_peculiar_value_comes_back_as_it_was(value: Any) -> None:
    back = there_and_back(value)
    assert same(value, back)
    assert getattr(back, "maxlen", 0) == getattr(value, "maxlen", 0)
    assert getattr(back, "default_factory", 0) == getattr(value, "default_factory", 0)


def test_plain_values_are_stored_as_json_that_a_person_can_read() -> None:
    value = {"title": "Über 1.5", "n": [1, 2.5, None, True], "sub": {}}
    data = encode(value, what="a test").data
    assert data.decode() == '{"title":"Über 1.5","n":[1,2.5,null,true],"sub":{}}'
    assert json.loads(data) == value


def test_one_and_one_point_zero_and_true_encode_differently() -> None:
    assert len({dump(to_tree(value), sort=True) for value in (1, 1.0, True, "1", (1,))}) == 5


def test_nan_encodes_as_nan_whatever_its_sign() -> None:
    assert dump(to_tree(float("nan")), sort=True) == dump(to_tree(-float("nan")), sort=True)


def test_sets_encode_alike_whatever_the_order_they_were_filled_in() -> None:
    names = [f"name-{i}" for i in range(50)]
    one, other = set(names), set[str]()
    for name in reversed(names):
        other.add(name)
    assert encode(one, what="") == encode(other, what="")
    assert encode({(1, "b"), (1, "a")}, what="").data.index(b'"a"') < 70


def test_the_decoded_value_shares_nothing_with_the_one_that_was_stored() -> None:
    inner: list[int] = []
    back = there_and_back({"a": inner, "b": inner})
    back["a"].append(1)
    assert inner == []
    assert back["b"] == []


def test_a_plain_tree_shares_its_parts_with_the_value() -> None:
    value = {"a": [1, {"b": "c"}]}
    assert to_tree(value) is value


def test_only_immutable_plain_values_are_exact() -> None:
    class Text(str):
        pass

    assert all(is_exact(value) for value in (None, True, 1, 1.5, "x"))
    assert not any(is_exact(value) for value in ([], (), {}, b"", Text("x")))


def test_values_fifty_and_a_hundred_deep_are_stored_and_a_hundred_and_one_is_refused() -> None:
    def nested(depth: int) -> list[Any]:
        value: list[Any] = []
        for _ in range(depth - 1):
            value = [value]
        return value

    assert there_and_back(nested(100)) == nested(100)
    with pytest.raises(KitaruValueError, match="more than 100 deep"):
        encode(nested(101), what="a test")


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"k": v}, lambda v: (v,)])
def test_a_value_a_hundred_thousand_deep_is_refused_with_a_typed_error(wrap: Any) -> None:
    value: Any = 1
    for _ in range(100_000):
        value = wrap(value)
    with pytest.raises(KitaruValueError, match="deep"):
        encode(value, what="a test")


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append({"again": value})
    with pytest.raises(KitaruValueError, match="inside itself") as caught:
        encode(value, what="a test")
    assert len(str(caught.value)) < 400


def test_a_stack_that_is_nearly_full_gives_a_typed_error_or_the_value() -> None:
    value = [[[[[(1,)]]]]]
    payload = encode(value, what="a test")
    met = set()

    def descend() -> None:
        try:
            descend()
        except RecursionError:
            pass
        for act in (lambda: encode(value, what=""), lambda: decode(payload, what="")):
            try:
                met.add(type(act()))
            except KitaruValueError as error:
                met.add(type(error))
            except RecursionError:
                return  # no room for the call itself

    descend()
    assert met == {Payload, list, KitaruValueError}


@pytest.mark.parametrize("leaf", [1, "x" * 1000])
def test_a_small_value_of_shared_parts_that_would_be_huge_is_refused_soon(leaf: Any) -> None:
    value: Any = [leaf]
    for _ in range(60):
        value = [value, value]
    with pytest.raises(KitaruValueError, match="takes more than"):
        encode(value, what="a test", limits=Limits(max_payload_bytes=1_000_000))


def test_a_payload_beyond_the_limit_is_refused_and_one_at_the_limit_is_not() -> None:
    limits = Limits(max_payload_bytes=100)
    assert encode("x" * 98, what="a test", limits=limits).data == b'"' + b"x" * 98 + b'"'
    for value in ("x" * 99, ["x" * 97], b"x" * 80, list(range(60))):
        with pytest.raises(KitaruValueError, match="more than 100 bytes"):
            encode(value, what="a test", limits=limits)


def test_a_changed_byte_is_noticed() -> None:
    payload = encode({"amount": 100}, what="a test")
    changed = payload._replace(data=payload.data.replace(b"100", b"900"))
    with pytest.raises(KitaruValueError, match=r"checkpoint 'pay'.*corrupt"):
        decode(changed, what="checkpoint 'pay'")


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(KitaruValueError, match="codec 'msgpack'"):
        decode(seal("msgpack", b"1"), what="a test")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"1 2",
        b"NaN",
        b"[Infinity]",
        b"\xff",
        b"\xef\xbb\xbf1",
        b"[" * 5000 + b"]" * 5000,
        b"[" * 201 + b"]" * 201,
        b"9" * 5000,
        b'{"$kitaru":"unheard-of"}',
        b'{"$kitaru":1}',
        b'{"$kitaru":"tuple"}',
        b'{"$kitaru":"tuple","v":5}',
        b'{"$kitaru":"set","v":[[]]}',
        b'{"$kitaru":"set","v":[1,1]}',
        b'{"$kitaru":"dict","v":[[1,2],[1,3]]}',
        b'{"$kitaru":"dict","v":[[[],2]]}',
        b'{"$kitaru":"dict","v":[1]}',
        b'{"$kitaru":"bytes","v":"?"}',
        b'{"$kitaru":"datetime","v":"soon"}',
        b'{"$kitaru":"datetime","v":["2024-01-01T00:00:00",["../../etc/passwd"],0]}',
        b'{"$kitaru":"uuid","v":5}',
        b'{"$kitaru":"decimal","v":[1]}',
        b'{"$kitaru":"path","v":5}',
        b'{"$kitaru":"defaultdict","v":[],"factory":"eval"}',
        b'{"$kitaru":"dataclass","of":"os:system","shape":"","v":{}}',
        b'{"$kitaru":"dataclass","of":5,"v":{}}',
        b'{"$kitaru":"exception","of":"builtins:int","args":[]}',
        b'{"$kitaru":"exception","of":"builtins:ExceptionGroup","args":["m"],"group":[]}',
        b'{"$kitaru":"exception","of":"builtins:UnicodeDecodeError","args":[],"state":{"start":["x"]}}',
    ],
    ids=lambda data: data[:40].decode("ascii", "replace"),
)
def test_malformed_records_are_refused_with_a_typed_error(data: bytes) -> None:
    with pytest.raises(KitaruValueError):
        decode(seal("json", data), what="a test")


@quick
@given(VALUES, st.data())
def test_a_tampered_record_gives_a_typed_error_or_a_value(value: Any, data: st.DataObject) -> None:
    stored = bytearray(encode({"x": value}, what="a test").data)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(stored) - 1))
        kind = data.draw(st.sampled_from(["change", "drop", "double"]))
        if kind == "change":
            stored[at] = data.draw(st.sampled_from(b'[]{}",:0123456789.eE-+$ \\nultrasekia\xff'))
        elif kind == "drop" and len(stored) > 1:
            del stored[at]
        else:
            stored[at:at] = stored[max(0, at - 9) : at]
    try:
        back = decode(seal("json", bytes(stored)), what="a test")
    except KitaruValueError:
        return
    else:
        try:
            again = encode(back, what="a test")
        except KitaruValueError:
            return  # a text with two surrogates made by the edit is a value of no use
        assert same(decode(again, what="a test"), back)


TREES = st.recursive(
    st.one_of(st.none(), st.integers(-9, 9), st.sampled_from(["", "a", "2024-01-01"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["$kitaru", "v", "of", "name", "args", "state", "group", "cause"]),
            st.one_of(
                inner,
                st.sampled_from(
                    ["tuple", "set", "dict", "enum", "dataclass", "exception", "path", "range",
                     "builtins:ValueError", "builtins:ExceptionGroup", "kitaru.errors:KitaruError",
                     "kitaru._core.lifecycle:State", "kitaru.model:Note", "namedtuple", "pydantic"]
                ),
            ),
            max_size=5,
        ),
    ),
    max_leaves=10,
)  # fmt: skip


@settings(quick, max_examples=400)
@given(TREES)
def test_a_made_up_record_gives_a_typed_error_or_a_value(tree: Any) -> None:
    payload = seal("json", json.dumps(tree).encode())
    try:
        value = decode(payload, what="a test")
    except KitaruValueError:
        return
    # What did come back is a value like any other.
    encode(value, what="a test")


def test_a_preview_that_fits_is_the_arguments_themselves() -> None:
    assert preview({"topic": "rivers", "n": 3}) == '{"topic":"rivers","n":3}'


def test_a_preview_keeps_small_arguments_and_sums_up_large_ones() -> None:
    text = preview({"topic": "rivers", "page": "é" * 10_000})
    shown = json.loads(text)
    assert len(text.encode()) <= 4096
    assert shown["topic"] == "rivers"
    assert shown["page"]["bytes"] == 20_002
    assert len(shown["page"]["digest"]) == 64
    assert shown["page"]["head"].startswith('"ééé')


@quick
@given(VALUES, st.integers(400, 5000))
def test_a_preview_is_json_of_at_most_the_size_asked_for(value: Any, max_bytes: int) -> None:
    for tree in (to_tree(value), {f"argument-{i}": to_tree(value) for i in range(60)}):
        text = preview(tree, max_bytes)
        json.loads(text)
        assert len(text.encode("utf-8", "surrogatepass")) <= max_bytes


def test_a_payload_is_a_codec_bytes_and_their_digest() -> None:
    payload = encode([1], what="a test")
    assert payload == Payload("json", b"[1]", seal("json", b"[1]").digest)
