"""Digests of inputs: what counts, what does not, and what is opaque."""

from __future__ import annotations

import functools
import io
import json
import math
import operator
import os
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru._core import inputs as inputs_module
from kitaru._core.binding import Binder
from kitaru._core.inputs import Inputs, arguments_json, digest_inputs
from kitaru._core.objects import Uncoded
from kitaru._core.values import dump
from kitaru.errors import KitaruUsageError


def code_of(thing: Any) -> bytes:
    """A fingerprint as the engine hands it in, near enough: bytecode and constants."""
    code = getattr(thing, "__code__", None)
    if code is None:
        return repr(thing).encode()
    return code.co_code + repr([c for c in code.co_consts if not hasattr(c, "co_code")]).encode()


def no_files(path: str) -> str | None:
    return None


def digest(
    fn: Callable[..., Any],
    *args: Any,
    files: Callable[[str], str | None] = no_files,
    ignore: Collection[str] = (),
    **kwargs: Any,
) -> Inputs:
    binder = Binder(fn)
    return digest_inputs(
        binder.bind(args, kwargs),
        binder=binder,
        code_digest=code_of,
        file_facts=files,
        ignore=ignore,
    )


def one(value): ...
def two(a, b=2): ...
def anything(*args, **kwargs): ...


class Client:
    def __init__(self, name: str = "") -> None:
        self.name = name

    def ask(self) -> str:
        return self.name


@dataclass
class Config:
    topic: str
    client: Any = None
    depth: int = 3
    tags: list[str] = field(default_factory=list)


def same(left: Any, right: Any) -> bool:
    return digest(one, left).digest == digest(one, right).digest


def test_equal_inputs_have_equal_digests_however_they_are_passed() -> None:
    assert digest(two, 1, 5) == digest(two, b=5, a=1)
    assert digest(two, 1, 5).digest != digest(two, 5, 1).digest


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, 1.0),
        (1, True),
        (0, False),
        (0.0, -0.0),
        ("1", 1),
        ("", None),
        ([], ()),
        ([], {}),
        ([], None),
        ({1}, frozenset({1})),
        (b"a", "a"),
        ({"a": 1}, [["a", 1]]),
        ({1: "a"}, {"1": "a"}),
        ("null", None),
        (Path("a"), "a"),
    ],
)
def test_values_of_different_types_differ(left: Any, right: Any) -> None:
    assert not same(left, right)


def test_the_order_of_keys_and_of_sets_does_not_matter() -> None:
    assert same({"a": 1, "b": [{"c": 1, "d": 2}]}, {"b": [{"d": 2, "c": 1}], "a": 1})
    assert same({1: "a", (2,): "b"}, {(2,): "b", 1: "a"})
    assert same({"a", "b", "c"}, {"c", "b", "a"})


def test_the_order_of_keys_matters_for_reuse_alone() -> None:
    left, right = digest(one, {"a": 1, "b": 2}), digest(one, {"b": 2, "a": 1})
    assert left.digest == right.digest
    assert left.arguments == right.arguments
    assert left.ordered != right.ordered
    assert digest(one, {"a": 1, "b": 2}).ordered == left.ordered


def test_the_order_of_extra_keywords_matters_for_reuse_alone() -> None:
    left, right = digest(anything, a=1, b=2), digest(anything, b=2, a=1)
    assert left.digest == right.digest
    assert left.ordered != right.ordered


def test_nan_equals_nan() -> None:
    assert same(math.nan, float("nan"))
    assert same([math.nan], [float("nan")])


def test_an_argument_that_equals_its_default_is_left_out() -> None:
    assert digest(two, 1, 2)[:3] == digest(two, 1)[:3]
    assert digest(two, 1, 2).arguments.keys() == {"a"}
    assert digest(two, 1, 2.0).digest != digest(two, 1).digest
    assert digest(two, 1, True).digest != digest(two, 1).digest


def test_adding_an_optional_parameter_does_not_change_the_calls_of_the_past() -> None:
    def before(topic): ...
    def after(topic, depth=3, tags=(), limits={"a": 1}): ...  # noqa: B006

    assert digest(before, "x").digest == digest(after, "x").digest
    assert digest(before, "x").digest == digest(after, "x", 3, (), {"a": 1}).digest
    assert digest(before, "x").digest != digest(after, "x", 4).digest


def test_adding_a_field_with_a_default_does_not_change_the_calls_of_the_past() -> None:
    def make(*fields: Any) -> Any:
        from dataclasses import make_dataclass

        made = make_dataclass("Made", fields)
        made.__module__, made.__qualname__ = __name__, "Made"
        return made

    before, after = make(("a", int)), make(("a", int), ("b", int, 7))
    assert same(before(1), after(1))
    assert same(before(1), after(1, 7))
    assert not same(before(1), after(1, 8))


def test_each_argument_has_a_digest_of_its_own() -> None:
    left, right = digest(two, 1, [3]), digest(two, 1, [4])
    assert left.arguments["a"] == right.arguments["a"]
    assert left.arguments["b"] != right.arguments["b"]
    assert json.loads(left.arguments_json()) == {k: v.hex() for k, v in left.arguments.items()}


def test_names_and_values_cannot_be_taken_for_one_another() -> None:
    assert digest(anything, 1).digest != digest(anything, args=1).digest
    assert digest(anything, a=1, b=2).digest != digest(anything, a=2, b=1).digest
    assert digest(anything, ab=1).digest != digest(anything, a=1).digest
    assert json.loads(arguments_json({'quo"te': b"\x01"})) == {'quo"te': "01"}


def test_a_dict_that_looks_like_one_of_our_marks_is_only_a_dict() -> None:
    lock = threading.Lock()
    forged = Uncoded(code_of)(lock, "value")
    assert isinstance(forged, dict)
    assert not same(lock, forged)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text()
    | st.text(alphabet=st.characters(max_codepoint=127))
)


@settings(max_examples=400, deadline=None)
@given(SCALARS)
def test_the_short_cut_for_scalars_gives_what_the_long_way_gives(value: Any) -> None:
    short = inputs_module._scalar(value, type(value))
    if short is not None:
        assert short == dump(Uncoded(code_of).encode(value, "value"), sort=True)
    by_long_way = inputs_module._argument(value, "value", code_of, "").digest
    assert digest(one, value).arguments["value"] == by_long_way


VALUES = st.recursive(
    SCALARS | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_shuffling_keys_changes_no_digest(value: Any) -> None:
    assert same(value, _reversed_keys(value))


def _reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _reversed_keys(v) for k, v in reversed(value.items())}
    if type(value) in (list, tuple):
        return type(value)(_reversed_keys(each) for each in value)
    return value


# --- functions ---------------------------------------------------------------


def test_functions_count_by_their_code() -> None:
    assert same(lambda x: x + 1, lambda x: x + 1)
    assert not same(lambda x: x + 1, lambda x: x + 2)
    assert not digest(one, lambda: 1).opaque


def test_functions_count_by_what_they_capture() -> None:
    def capture(number: Any) -> Any:
        return lambda: number

    def default(number: Any) -> Any:
        return lambda n=number: n

    for make in (capture, default):
        assert same(make(1), make(1))
        assert not same(make(1), make(2))
        assert not same(make(1), make(True))


def test_partials_count_by_what_they_bind() -> None:
    assert same(functools.partial(two, 1, b=3), functools.partial(two, 1, b=3))
    assert not same(functools.partial(two, 1), functools.partial(two, 2))
    assert not same(functools.partial(two, b=1), functools.partial(two, b=2))
    assert not same(functools.partial(two, 1), functools.partial(one, 1))


def test_bound_methods_count_by_the_object_that_they_are_bound_to() -> None:
    assert not same("a".upper, "b".upper)
    assert not same("a".upper, "a".lower)
    assert same([1].append, [1].append)
    found = digest(one, Client().ask)
    assert [path for path, _ in found.opaque] == ["value.__self__"]


def test_builtins_getters_classes_and_annotations_count_by_what_they_are() -> None:
    distinct = [
        len, abs, str.upper, str.lower, int, str, Client, Config,
        operator.itemgetter(0), operator.itemgetter(1), operator.attrgetter("a"),
        list[int], list[str], Literal["a"], Literal["b"], int | str, int | None,
        functools.lru_cache(one), functools.lru_cache(lambda: 7),
    ]  # fmt: skip
    digests = [digest(one, each) for each in distinct]
    assert len({each.digest for each in digests}) == len(distinct)
    assert not any(each.opaque for each in digests)
    assert same(operator.itemgetter(0), operator.itemgetter(0))
    assert same(list[int], list[int])


def test_a_function_that_captures_itself_has_a_digest() -> None:
    def make(step: int) -> Any:
        def countdown(n: int) -> Any:
            return n and countdown(n - step)

        return countdown

    assert same(make(1), make(1))
    assert not same(make(1), make(2))


def test_functions_that_capture_each_other_have_a_digest() -> None:
    def make(step: int) -> Any:
        def even(n: int) -> Any:
            return n == 0 or odd(n - step)

        def odd(n: int) -> Any:
            return n != 0 and even(n - step)

        return even

    assert same(make(1), make(1))
    assert not same(make(1), make(2))


def test_a_closure_whose_variable_has_no_value_yet_has_a_digest() -> None:
    def make() -> Any:
        def early() -> Any:
            return later

        found = digest(one, early)
        later = 1
        return found

    assert make().digest


def test_a_checkpoint_or_flow_counts_by_its_id_and_the_code_of_its_function() -> None:
    class Decorated:
        def __init__(self, known_as: str, func: Any) -> None:
            self.__kitaru_id__ = known_as
            self.func = func

    assert same(Decorated("a", lambda: 1), Decorated("a", lambda: 1))
    assert not same(Decorated("a", lambda: 1), Decorated("b", lambda: 1))
    assert not same(Decorated("a", lambda: 1), Decorated("a", lambda: 2))
    assert not digest(one, Decorated("a", one)).opaque


# --- the checkpoint's own captures --------------------------------------------


def test_a_closure_as_checkpoint_counts_by_what_it_captures() -> None:
    def make(factor: int) -> Any:
        def scale(x):
            return factor * x

        return scale

    assert digest(make(2), 1) == digest(make(2), 1)
    assert digest(make(2), 1).digest != digest(make(3), 1).digest
    assert list(digest(make(2), 1).arguments) == ["x", "factor (captured)"]


def test_a_partial_or_bound_method_as_checkpoint_counts_by_what_it_binds() -> None:
    assert (
        digest(functools.partial(two, 1), 5).digest != digest(functools.partial(two, 2), 5).digest
    )
    found = digest(Client("x").ask)
    assert found.opaque == (("self (captured)", f"{__name__}.Client"),)


def test_the_code_of_captured_functions_is_no_part_of_the_inputs() -> None:
    def decorate(fn: Any) -> Any:
        @functools.wraps(fn)
        def wrapper(*args: Any) -> Any:
            return fn(*args)

        return wrapper

    def before(x):
        return x

    def after(x):
        return x + 1

    assert digest(decorate(before), 1) == digest(decorate(after), 1)
    assert list(digest(decorate(before), 1).arguments) == ["x"]


def test_a_captured_variable_can_be_ignored() -> None:
    client = Client()

    def ask(x):
        return client, x

    assert digest(ask, 1).opaque
    assert not digest(ask, 1, ignore=["client"]).opaque
    assert digest(ask, 1, ignore=["client"]).digest == digest(one_x, 1).digest


def one_x(x): ...


# --- objects -------------------------------------------------------------------


def test_an_object_with_a_kitaru_key_counts_by_its_type_and_key() -> None:
    class Keyed:
        def __init__(self, key: Any) -> None:
            self.key = key

        def __kitaru_key__(self) -> Any:
            return self.key

    class Other(Keyed): ...

    assert same(Keyed([1]), Keyed([1]))
    assert not same(Keyed([1]), Keyed([2]))
    assert not same(Keyed(1), Other(1))
    assert same([Keyed(1)], [Keyed(1)])
    assert not digest(one, Keyed(1)).opaque
    assert digest(one, Keyed(Client())).opaque[0][0] == "value.__kitaru_key__()"


def test_a_kitaru_key_wins_over_the_fields_of_a_data_class() -> None:
    @dataclass
    class Page:
        url: str
        fetched_at: float

        def __kitaru_key__(self) -> str:
            return self.url

    assert same(Page("a", 1.0), Page("a", 2.0))
    assert same([Page("a", 1.0)], [Page("a", 2.0)])
    assert not same(Page("a", 1.0), Page("b", 1.0))


def test_what_has_no_encoding_is_opaque_and_says_where_it_is() -> None:
    client, lock = Client(), threading.Lock()
    found = digest(two, Config("x", client=client), {"locks": [lock]})
    assert found.opaque == (("a.client", f"{__name__}.Client"), ("b.locks[0]", "_thread.lock"))
    assert found.opaque_objects == (client, lock)
    assert same(Client("a"), Client("b"))
    assert not same(Client(), lock)


def test_a_plain_call_has_nothing_opaque() -> None:
    found = digest(two, "abc", 3)
    assert (found.opaque, found.opaque_objects) == ((), ())
    assert found.ordered == found.digest


def test_an_opaque_argument_equals_an_opaque_default_only_if_it_is_it() -> None:
    default = Client()

    def fetch(url, client=default): ...

    assert digest(fetch, "u")[:4] == digest(fetch, "u", default)[:4]
    assert digest(fetch, "u").digest != digest(fetch, "u", Client()).digest


def test_a_proxy_that_answers_to_every_name_is_only_opaque() -> None:
    class Proxy:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"asked for {name}")

    assert digest(one, Proxy()).opaque


@pytest.mark.parametrize(
    "make",
    [lambda: iter([1]), lambda: (i for i in ()), lambda: map(str, []), lambda: enumerate([])],
)
def test_what_can_be_read_only_once_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(KitaruUsageError, match=r"`value` of one\(\).*pass a list"):
        digest(one, make())
    with pytest.raises(KitaruUsageError, match=r"`value\[0\]\.x`"):
        digest(one, [{"x": make()}])


def test_a_coroutine_as_argument_is_refused() -> None:
    async def later() -> None: ...

    coro = later()
    with pytest.raises(KitaruUsageError, match="await it"):
        digest(one, coro)
    coro.close()


def test_an_open_file_is_opaque() -> None:
    assert digest(one, io.StringIO()).opaque == (("value", "_io.StringIO"),)


# --- ignore, files, preview ----------------------------------------------------


def test_an_ignored_argument_is_left_out_everywhere_but_in_the_preview() -> None:
    left = digest(two, 1, Client(), ignore=["b"])
    assert left[:5] == digest(two, 1, iter([]), ignore=["b"])[:5]
    assert left.arguments.keys() == {"a"}
    assert digest(two, 1, "now", ignore=["b"]).preview == '{"a":1,"b":"now"}'


def test_nothing_about_an_ignored_argument_refuses_the_call() -> None:
    recursive: list[Any] = []
    recursive.append(recursive)
    found = digest(two, 1, recursive, ignore=["b"])
    assert found.digest == digest(two, 1).digest
    assert found.preview is not None
    assert "list" in found.preview


def test_extra_arguments_can_be_ignored_by_key_or_as_a_whole() -> None:
    def log(*lines, **options): ...

    bare = digest(log)
    assert digest(log, at=1, ignore=["at"]).digest == bare.digest
    assert digest(log, at=1, by=2, ignore=["options"]).digest == bare.digest
    assert digest(log, 1, 2, ignore=["lines"]).digest == bare.digest
    assert digest(log, at=1, ignore=["other"]).digest != bare.digest


def test_an_existing_files_path_adds_its_facts_for_reuse_alone(tmp_path: Path) -> None:
    def facts(path: str) -> str | None:
        return str(os.stat(path).st_size) if os.path.exists(path) else None

    file = tmp_path / "data.csv"
    missing = digest(one, [file], files=facts)
    assert missing.ordered == digest(one, [file]).ordered
    file.write_text("1")
    before = digest(one, [file], files=facts)
    file.write_text("12")
    after = digest(one, [file], files=facts)
    assert missing.digest == before.digest == after.digest
    assert len({missing.ordered, before.ordered, after.ordered}) == 3


def test_the_file_behind_a_default_counts_for_reuse_passed_or_not() -> None:
    def load(path=Path("data.csv")): ...

    old, new = (lambda path: "1 byte"), (lambda path: "2 bytes")
    assert digest(load, files=old).ordered != digest(load, files=new).ordered
    assert digest(load, files=old)[:3] == digest(load, Path("data.csv"), files=old)[:3]
    assert digest(load, files=old, ignore=["path"]).ordered == digest(load).digest


def test_the_preview_shows_the_arguments_as_json() -> None:
    assert digest(two, "a", [1]).preview is not None
    shown = digest(anything, **{'quo"te': 1, "é": "ü"}).preview
    assert shown is not None
    assert json.loads(shown) == {'**quo"te': 1, "**é": "ü"}


def test_a_preview_of_many_long_names_still_shows_the_first_of_them() -> None:
    text = digest(anything, **{f"{number:03d}{'x' * 200}": number for number in range(60)}).preview
    assert text is not None
    assert len(text.encode()) <= inputs_module.MAX_PREVIEW_BYTES
    assert "000xxx" in text


@pytest.mark.parametrize(
    "value", ["x" * 100_000, "é" * 3000, ["y" * 1000] * 9, {"k": Client(), "x": "z" * 9000}]
)
def test_a_long_preview_is_cut_and_keeps_what_is_short(value: Any) -> None:
    text = digest(two, value, 7, ignore=["b"]).preview
    assert text is not None
    assert len(text.encode()) <= 4096
    assert json.loads(text)["b"] == 7
    assert json.loads(text)["a"]["bytes"] > 4096


def test_the_preview_keeps_the_order_of_keys() -> None:
    assert digest(one, {"b": 1, "a": 2}).preview == '{"value":{"b":1,"a":2}}'


def test_digests_of_inputs_are_pinned_because_stores_hold_them() -> None:
    """A change here loses every recorded outcome: it needs a migration and a decision record."""
    assert digest(two, "abc", 3).digest.hex() == "19ed17128decb3de6239404e47f5d540"
    assert (
        digest(two, {"k": [1.5, None, (True,)]}, Path("x")).digest.hex()
        == "d0b3822b294c77458120b0b164da0eb9"
    )
    assert digest(two, threading.Lock()).digest.hex() == "90eea6482e083e199805296bd3f41941"
