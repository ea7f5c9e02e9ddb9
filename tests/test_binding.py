"""Arguments by name and back, held against Python's own binding."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru._core.binding import Binder
from kitaru.errors import KitaruUsageError


def plain(a, b, c=3):
    return locals()


def none():
    return locals()


def positional_only(a, b=2, /, c=3):
    return locals()


def keyword_only(a, *, b, c=3):
    return locals()


def rest(a, b=2, *more, c=3):
    return locals()


def options(a, b=2, **others):
    return locals()


def everything(a, b=2, /, c=3, *more, d, e=5, **others):
    return locals()


FUNCTIONS = [plain, none, positional_only, keyword_only, rest, options, everything]


def test_positional_and_keyword_arguments_bind_to_the_same_names() -> None:
    binder = Binder(plain)
    assert binder.bind((1, 2), {}) == {"a": 1, "b": 2}
    assert binder.bind((), {"b": 2, "a": 1}) == {"a": 1, "b": 2}
    assert list(binder.bind((), {"b": 2, "a": 1})) == ["a", "b"]


def test_defaults_are_not_filled_in() -> None:
    assert "c" not in Binder(plain).bind((1, 2), {})
    assert Binder(plain).defaults == {"c": 3}
    assert Binder(everything).defaults == {"b": 2, "c": 3, "e": 5}


def test_names_stand_in_the_order_of_the_signature() -> None:
    assert Binder(everything).names == ("a", "b", "c", "*more", "d", "e", "**others")


def test_extra_positional_arguments_are_one_entry_and_extra_keywords_one_each() -> None:
    bound = Binder(everything).bind((1, 2, 3, 4, 5), {"d": 6, "x": 7, "a": 8})
    assert bound == {"a": 1, "b": 2, "c": 3, "*more": (4, 5), "d": 6, "**x": 7, "**a": 8}


def test_nothing_extra_makes_no_entry() -> None:
    assert Binder(rest).bind((1, 2), {}) == {"a": 1, "b": 2}


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(FUNCTIONS),
    st.lists(st.integers(), max_size=6).map(tuple),
    st.dictionaries(st.sampled_from("abcdexyz"), st.integers(), max_size=5),
)
def test_binding_agrees_with_python_and_unbinding_gives_the_same_call(
    fn: Callable[..., Any], args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    try:
        expected = fn(*args, **kwargs)
    except TypeError:
        with pytest.raises(KitaruUsageError):
            Binder(fn).bind(args, kwargs)
        return
    binder = Binder(fn)
    for _ in range(2):  # the second time the short cut is ready
        again, named = binder.unbind(binder.bind(args, kwargs))
        assert fn(*again, **named) == expected


@pytest.mark.parametrize(
    ("fn", "args", "kwargs"),
    [
        (plain, (), {}),
        (plain, (1,), {}),
        (plain, (1, 2, 3, 4), {}),
        (plain, (1, 2), {"a": 1}),
        (plain, (1, 2), {"z": 1}),
        (none, (1,), {}),
        (keyword_only, (1,), {}),
        (positional_only, (), {"a": 1}),
        (everything, (), {}),
    ],
)
def test_a_misfit_is_told_in_pythons_words_with_the_signature(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(TypeError) as python:
        fn(*args, **kwargs)
    with pytest.raises(KitaruUsageError) as ours:
        Binder(fn).bind(args, kwargs)
    assert str(ours.value).startswith(str(python.value))
    assert str(inspect.signature(fn)) in str(ours.value)


def test_three_missing_arguments_are_listed_as_python_does() -> None:
    def three(a, b, c): ...

    with pytest.raises(TypeError) as python:
        three()  # type: ignore[call-arg]
    with pytest.raises(KitaruUsageError) as ours:
        Binder(three).bind((), {})
    assert str(python.value).split("() ")[1] in str(ours.value)


def test_methods_bind_self_as_the_first_parameter() -> None:
    class Robot:
        def act(self, what): ...

    robot = Robot()
    assert Binder(Robot.act).bind((robot, 1), {}) == {"self": robot, "what": 1}
    assert Binder(robot.act).bind((1,), {}) == {"what": 1}


def test_partials_and_wrapped_functions_bind_by_what_is_left_to_pass() -> None:
    assert Binder(functools.partial(plain, 1)).bind((2,), {}) == {"b": 2}

    @functools.wraps(plain)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)

    assert Binder(wrapper).bind((1,), {"b": 2}) == {"a": 1, "b": 2}


def test_a_decorator_that_hands_in_an_argument_of_its_own_is_called_as_it_is_written() -> None:
    @functools.wraps(plain)
    def with_client(*args: Any, **kwargs: Any) -> Any:
        return plain("client", *args, **kwargs)

    binder = Binder(with_client)
    bound = binder.bind((2,), {})
    assert bound == {"*args": (2,)}
    assert binder.unbind(bound) == ((2,), {})


def test_what_tells_nobody_its_signature_takes_anything() -> None:
    binder = Binder(max)
    assert binder.unbind(binder.bind((1, 2), {"key": abs})) == ((1, 2), {"key": abs})
    assert Binder(operator.itemgetter(0)).bind(([1],), {})


def test_arguments_recorded_by_an_older_version_are_passed_all_the_same() -> None:
    assert Binder(plain).unbind({"a": 1, "b": 2, "gone": 3}) == ((1, 2), {"gone": 3})


def test_a_misspelt_argument_suggests_the_one_that_was_meant() -> None:
    def order(*, count: int, name: str = "") -> None: ...

    with pytest.raises(KitaruUsageError, match=r"argument 'coutn' \(did you mean 'count'\?\)"):
        Binder(order).bind((), {"coutn": 1})
    with pytest.raises(KitaruUsageError, match="argument 'zebra': pass"):
        Binder(order).bind((), {"zebra": 1})
