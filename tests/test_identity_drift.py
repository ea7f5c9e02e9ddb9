"""Drift: which recorded success a call should have been."""

from __future__ import annotations

import json
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from kitaru._core.drift import OpenPlaces, differing_arguments, find_drift


class Place(NamedTuple):
    identity: bytes
    place: int
    arguments: str


def place(at: int, /, **arguments: str) -> Place:
    return Place(b"call-%d" % at, at, json.dumps(arguments))


def test_an_unclaimed_success_at_the_same_place_is_what_the_call_should_have_been() -> None:
    recorded = [place(0, at="01"), place(1, at="02")]
    assert find_drift(recorded, {b"call-0"}, 1, '{"at":"99"}') == recorded[1]


def test_a_claimed_success_is_no_drift() -> None:
    assert find_drift([place(0), place(1)], {b"call-0", b"call-1"}, 1, "{}") is None


def test_a_new_call_after_all_recorded_ones_is_no_drift() -> None:
    assert find_drift([place(0)], {b"call-0"}, 1, "{}") is None
    assert find_drift([], set(), 0, "{}") is None


def test_an_unclaimed_success_at_a_later_place_may_still_be_called() -> None:
    assert find_drift([place(1), place(2)], set(), 0, "{}") is None


def test_an_unclaimed_success_before_the_call_is_drift() -> None:
    recorded = [place(0, x="01"), place(5, x="02")]
    assert find_drift(recorded, set(), 3, '{"x":"99"}') == recorded[0]


def test_of_several_the_nearest_in_arguments_is_chosen() -> None:
    recorded = [place(0, a="01", b="02"), place(1, a="01", b="99"), place(2, a="77", b="88")]
    assert find_drift(recorded, set(), 7, '{"a":"01","b":"03"}') == recorded[1]
    assert find_drift(recorded, set(), 7, '{"a":"01","b":"02"}') == recorded[0]


def test_the_same_place_goes_before_nearer_arguments() -> None:
    recorded = [place(0, a="01"), place(1, a="99")]
    assert find_drift(recorded, set(), 1, '{"a":"01"}') == recorded[1]


def test_changed_added_and_removed_arguments_differ() -> None:
    assert differing_arguments('{"a":"1","b":"2","c":"3"}', '{"a":"1","b":"9","d":"4"}') == [
        "b",
        "d",
        "c",
    ]
    assert differing_arguments("{}", "{}") == []


def test_a_record_that_is_no_json_differs_in_everything_and_raises_nothing() -> None:
    assert differing_arguments("nonsense", '{"a":"1"}') == ["a"]
    assert differing_arguments("[1]", "null") == []


ARGUMENTS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2"]))


@given(ARGUMENTS, ARGUMENTS)
def test_exactly_the_unequal_arguments_differ(one: dict[str, str], other: dict[str, str]) -> None:
    expected = {name for name in one | other if one.get(name) != other.get(name)}
    assert set(differing_arguments(json.dumps(one), json.dumps(other))) == expected


@given(st.sets(st.integers(0, 6)), st.sets(st.integers(0, 6)), st.integers(0, 6), st.randoms())
def test_there_is_drift_exactly_if_something_up_to_here_is_unclaimed(
    at: set[int], claimed: set[int], here: int, order: object
) -> None:
    found = find_drift([place(k) for k in at], {b"call-%d" % k for k in claimed}, here, "{}")
    open_ = {k for k in at - claimed if k <= here}
    assert (found is None) == (not open_)
    assert found is None or found.place in open_


@given(
    st.sets(st.integers(0, 6)),
    st.lists(st.tuples(st.sets(st.integers(0, 6)), st.integers(0, 6)), max_size=4),
)
def test_open_places_judge_call_after_call_as_the_rule_does(
    at: set[int], asked: list[tuple[set[int], int]]
) -> None:
    recorded = [place(k, k=str(k)) for k in at]
    open_places, claimed = OpenPlaces(recorded), set[bytes]()
    for more, here in asked:
        claimed |= {b"call-%d" % k for k in more}
        expected = find_drift(recorded, claimed, here, '{"k":"2"}')
        assert open_places.find_drift(claimed, here, '{"k":"2"}') == expected


def test_one_record_explains_one_drifted_call() -> None:
    open_places, claimed = OpenPlaces([place(0, x="01")]), set[bytes]()
    drifted = open_places.find_drift(claimed, 0, '{"x":"02"}')
    assert drifted is not None
    claimed.add(drifted.identity)
    assert open_places.find_drift(claimed, 1, '{"x":"03"}') is None
