"""Codecs that programs register: exact dispatch, lasting names, and errors that say whose fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.values_kit import digest_bytes, edited, quick, refused_elsewhere, there_and_back

import kitaru
from kitaru import masking
from kitaru._core.binding import Binder
from kitaru._core.inputs import digest_inputs
from kitaru._core.values import decode, encode, encode_pickled, is_exact, registered
from kitaru._core.values.codec import open_payload
from kitaru.errors import KitaruUsageError, KitaruValueError


class Tensor:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tensor) and other.data == self.data

    def __hash__(self) -> int:
        return hash(self.data)


class SubTensor(Tensor):
    pass


def register(**options: Any) -> None:
    kitaru.register_codec(
        Tensor, **{"name": "test.tensor", "encode": lambda t: t.data, "decode": Tensor} | options
    )


@pytest.fixture(autouse=True)
def _codec() -> Iterator[None]:
    before = dict(registered.by_class), dict(registered.by_name), set(registered.EXACT)
    register()
    yield
    for known, was in zip(
        (registered.by_class, registered.by_name, registered.EXACT), before, strict=True
    ):
        known.clear()
        known.update(was)  # type: ignore[arg-type]


@quick
@given(st.recursive(st.binary(max_size=40).map(Tensor), lambda inner: st.lists(inner, max_size=3)))
def test_a_value_comes_back_by_its_codec(value: Any) -> None:
    assert there_and_back(value) == value


def test_it_works_inside_every_container_and_when_large() -> None:
    large, small = Tensor(b"x" * 50_000), Tensor(b"y")
    value = {"a": [large, (small,)], "b": {small: 1}, "c": frozenset({large, small})}
    assert there_and_back(value) == value
    assert encode(large, what="").codec == "attachments"


def test_a_subclass_is_refused_and_not_flattened() -> None:
    with pytest.raises(KitaruValueError, match=r"subclass of .*Tensor") as caught:
        encode([SubTensor(b"")], what="a test")
    assert caught.value.path == "$[0]"


def test_a_class_without_an_encoding_is_refused_with_the_way_to_give_it_one() -> None:
    class Client:
        pass

    with pytest.raises(KitaruValueError, match=r"make it a dataclass.*kitaru\.register_codec"):
        encode({"client": Client()}, what="a test")


def test_a_class_that_has_another_encoding_may_have_a_codec() -> None:
    @dataclass
    class Point:
        x: int

    kitaru.register_codec(
        Point,
        name="test.point",
        encode=lambda p: b"%d" % p.x,
        decode=lambda data: Point(int(data)),
    )
    payload = encode(Point(5), what="")
    assert b'"codec":"test.point"' in payload.data
    assert decode(payload, what="") == Point(5)


# --- previews, arguments, exactness ---------------------------------------------------------


def test_a_preview_is_stored_with_the_value_and_shown_without_the_codec() -> None:
    register(preview=lambda t: f"{len(t.data)} bytes of tensor" + "!" * 300)
    payload = encode(Tensor(b"abc"), what="")
    registered.by_name.clear()
    tree = open_payload(payload, "")
    assert tree["shows"].startswith("3 bytes of tensor!!")
    assert len(tree["shows"]) == 200


def test_a_preview_shows_in_inputs_and_does_not_count() -> None:
    def body(t: Tensor) -> None: ...

    def inputs_with(preview: Any) -> Any:
        register(preview=preview)
        binder = Binder(body)
        return digest_inputs(
            binder.bind((Tensor(b"abc"),), {}),
            binder=binder,
            code_digest=lambda _: b"",
            file_facts=lambda _: None,
        )

    one, other = inputs_with(lambda t: "a tensor"), inputs_with(lambda t: "ein Tensor")
    assert '"shows":"a tensor"' in one.preview
    assert '"shows":"ein Tensor"' in other.preview
    assert (one.digest, one.ordered) == (other.digest, other.ordered)
    assert one.opaque == ()


@pytest.mark.parametrize("preview", [lambda t: 1 / 0, lambda t: t, lambda t: "\ud800\udc00"])
def test_a_preview_that_fails_fails_nothing(preview: Any) -> None:
    register(preview=preview)
    assert there_and_back(Tensor(b"abc")) == Tensor(b"abc")


def test_arguments_count_by_the_bytes_of_the_codec() -> None:
    assert digest_bytes(Tensor(b"a")) == digest_bytes(Tensor(b"a"))
    assert digest_bytes(Tensor(b"a")) != digest_bytes(Tensor(b"b"))
    assert digest_bytes(Tensor(b"a")) != digest_bytes(b"a")


def test_only_what_is_declared_exact_is_handed_on_as_it_is() -> None:
    assert not is_exact(Tensor(b""))
    register(exact=True)
    assert is_exact(Tensor(b""))
    assert not is_exact(SubTensor(b""))
    assert not is_exact([Tensor(b"")])
    register(exact=False)
    assert not is_exact(Tensor(b""))


# --- what may be registered --------------------------------------------------------------------


def test_registering_again_replaces_and_a_new_format_reads_the_old_one() -> None:
    old = encode(Tensor(b"abc"), what="")
    register(encode=None)
    with pytest.raises(KitaruValueError, match="cannot be stored"):
        encode(Tensor(b"abc"), what="")
    register(
        name="test.tensor.2",
        encode=lambda t: t.data[::-1],
        decode=lambda data: Tensor(data[::-1]),
    )
    new = encode(Tensor(b"abc"), what="")
    assert b"test.tensor.2" in new.data
    assert decode(old, what="") == decode(new, what="") == Tensor(b"abc")


@pytest.mark.parametrize(
    ("cls", "options", "said"),
    [
        (Tensor, {"name": "test.other"}, "has the codec 'test.tensor' already"),
        (SubTensor, {}, "the codec 'test.tensor' is that of"),
        (int, {"name": "test.int"}, "an encoding of its own"),
        (dict, {"name": "test.dict"}, "an encoding of its own"),
        (bytes, {"name": "test.bytes"}, "an encoding of its own"),
        (np.ndarray, {"name": "test.array"}, "an encoding of its own"),
        ("Tensor", {}, "pass a class"),
        (SubTensor, {"name": ""}, "is empty"),
        (SubTensor, {"name": 5}, "is a str"),
        (SubTensor, {"name": "s", "encode": 5}, "encode=5"),
        (SubTensor, {"name": "s", "decode": None}, "decode=None"),
        (SubTensor, {"name": "s", "preview": "x"}, "preview='x'"),
        (SubTensor, {"name": "s", "exact": 1}, "exact=1"),
    ],
)
def test_what_is_taken_or_makes_no_sense_is_refused(cls: Any, options: Any, said: str) -> None:
    functions = {"name": "test.tensor", "encode": lambda t: t.data, "decode": Tensor}
    with pytest.raises(KitaruUsageError, match=said):
        kitaru.register_codec(cls, **functions | options)
    assert there_and_back(Tensor(b"still")) == Tensor(b"still")


# --- codecs that are wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encode": lambda t: 1 / 0}, "encode of the codec 'test.tensor' raised ZeroDivisionError"),
        ({"encode": lambda t: "text"}, "gave a str: return bytes"),
        ({"encode": lambda t: bytearray(b"x")}, "gave a bytearray: return bytes"),
        ({"decode": lambda data: 1 / 0}, "decode of the codec 'test.tensor' raised ZeroDivision"),
        ({"decode": lambda data: data}, "gave a bytes, not a .*Tensor"),
        ({"decode": lambda data: SubTensor(data)}, "gave a .*SubTensor, not a"),
        ({"encode": lambda t: t.data + b"!"}, "other bytes each time"),
    ],
)
def test_a_codec_that_is_wrong_is_told_when_the_value_is_recorded(options: Any, said: str) -> None:
    register(**options)
    with pytest.raises(KitaruValueError, match=said):
        encode({"a": Tensor(b"abc")}, what="a test")


def test_a_record_of_a_codec_that_nobody_registered_names_it_and_the_module() -> None:
    said = refused_elsewhere(
        "import kitaru\n"
        "from kitaru._core.values import encode\n"
        "T = type('T', (), {'__module__': 'tensors'})\n"
        "kitaru.register_codec(T, name='acme.t', encode=lambda t: b'', decode=lambda b: T())\n"
        "payload = encode({'a': [T()]}, what='')\n",
        "tensors",
    )
    assert said.startswith("$.a[0] my_checkpoint: at $.a[0]: it was recorded by the codec 'acme.t'")
    assert "(perhaps tensors)" in said


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"test.tensor"', b"[1]"), (b'"v":"', b'"v":"!'), (b'"v":"', b'"w":"')],
)
def test_an_edited_record_is_refused(old: bytes, new: bytes) -> None:
    payload = edited(encode(Tensor(b"abc"), what=""), old, new)
    with pytest.raises(KitaruValueError, match="malformed"):
        decode(payload, what="")


@pytest.mark.parametrize("hide", [Tensor, lambda data: [Tensor(data * 5_000)]])
def test_a_secret_in_the_bytes_of_a_codec_or_of_a_pickle_is_refused(
    hide: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_CODEC_KEY", "correct horse battery")
    before = list(masking.NEEDLES)
    try:
        value = hide(kitaru.Secret(env="TEST_CODEC_KEY").get().encode())
        for write in (encode, encode_pickled):
            with pytest.raises(KitaruValueError, match="secret TEST_CODEC_KEY"):
                write(value, what="")
    finally:
        masking.NEEDLES[:] = before
