"""Reuse: keys that are sound, and a reason in words for every hit and miss."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru._core import reuse
from kitaru._core.identity import reuse_key, reuse_scope, version_digest
from kitaru._core.reuse import Expired, explain, miss_reason


class Code(NamedTuple):
    digest: bytes
    parts: str


TODAY = Code(b"today", '{"fetch":"01","helper":"02"}')


def why(**changes: Any) -> str:
    known: dict[str, Any] = {"code": TODAY.digest, "parts": TODAY.parts, "arguments": "{}"}
    return explain(miss_reason(**known | changes))


def test_a_reuse_key_depends_on_each_of_its_parts() -> None:
    key = reuse_key(reuse_scope("demo", "app.f", b"code"), b"inputs", 0)
    assert len(key) == 16
    others = [
        reuse_key(reuse_scope("other", "app.f", b"code"), b"inputs", 0),
        reuse_key(reuse_scope("demo", "app.g", b"code"), b"inputs", 0),
        reuse_key(reuse_scope("demo", "app.f", b"edoc"), b"inputs", 0),
        reuse_key(reuse_scope("demo", "app.f", b"code"), b"stupni", 0),
        reuse_key(reuse_scope("demo", "app.f", b"code"), b"inputs", 1),
    ]
    assert len({key, *others}) == 6
    assert key == reuse_key(reuse_scope("demo", "app.f", b"code"), b"inputs", 0)


def test_a_version_stands_for_the_code() -> None:
    assert version_digest("3") == version_digest("3")
    assert version_digest("3") != version_digest("4")


def test_what_was_never_recorded_says_so() -> None:
    assert why() == "never recorded"


def test_changed_code_names_the_functions() -> None:
    old = Code(b"old", '{"fetch":"01","helper":"99"}')
    assert why(codes=[old]) == "code changed: helper"
    older = Code(b"older", '{"fetch":"01","gone":"05"}')
    assert why(codes=[older]) == "code changed: now uses helper; no longer uses gone"


def test_the_newest_of_several_versions_is_compared() -> None:
    newest, oldest = Code(b"b", '{"fetch":"01","helper":"99"}'), Code(b"a", "{}")
    assert why(codes=[newest, oldest]) == "code changed: helper"


def test_code_that_differs_only_in_what_has_no_name_has_just_changed() -> None:
    assert why(codes=[Code(b"v2", TODAY.parts)]) == "code changed"


def test_equal_inputs_that_only_the_version_before_has_seen_blame_the_code() -> None:
    old = Code(b"old", '{"fetch":"01","helper":"99"}')
    known: dict[str, Any] = {"codes": [TODAY, old], "samples": ["{}"]}
    assert why(**known, under=old) == "code changed: helper"
    assert "order of keys" in why(**known)


def test_changed_inputs_name_the_arguments() -> None:
    found = why(
        codes=[TODAY], arguments='{"topic":"1","depth":"2"}', samples=['{"topic":"9","depth":"2"}']
    )
    assert found == "input changed: topic"
    assert why(codes=[TODAY], arguments='{"a":"1"}', samples=['{"b":"1"}']) == (
        "input changed: new a; gone b"
    )


def test_the_nearest_sample_is_compared() -> None:
    samples = [
        '{"a":"9","b":"9","c":"9"}',
        '{"a":"1","b":"2","c":"9"}',
        '{"a":"1","b":"9","c":"9"}',
    ]
    assert why(codes=[TODAY], arguments='{"a":"1","b":"2","c":"3"}', samples=samples) == (
        "input changed: c"
    )


def test_equal_code_without_samples_was_never_recorded_with_these_inputs() -> None:
    assert why(codes=[TODAY]) == "never recorded with these inputs"


def test_a_further_sample_of_equal_inputs_is_taken_for_the_first_time() -> None:
    found = why(codes=[TODAY], arguments='{"a":"1"}', samples=['{"a":"1"}'], n=2)
    assert found.startswith("first time this sample")
    assert "number 3" in found


def test_equal_inputs_that_do_not_serve_say_what_may_differ() -> None:
    found = why(codes=[TODAY], arguments='{"a":"1"}', samples=['{"a":"1"}'])
    assert "order of keys" in found
    assert "file" in found


def test_an_expired_outcome_says_how_old_it_was() -> None:
    found = why(expired=Expired(3 * 3600, 3600), codes=[TODAY])
    assert found == "expired: recorded 3 h ago, cache_ttl 1 h"


def test_opaque_inputs_name_the_argument_and_its_type() -> None:
    assert explain(reuse.opaque([("client", "httpx.Client")])) == "opaque: client (httpx.Client)"


def test_switches_say_who_set_them() -> None:
    off = reuse.ran_without_asking("@checkpoint(cache=False)")
    assert explain(off) == "switched off by @checkpoint(cache=False)"
    assert explain(reuse.refreshed('cache="refresh"')) == 'everything runs anew: cache="refresh"'
    assert explain(reuse.later_attempt(2)) == "attempt 2 is never reused"


def test_a_hit_names_its_source() -> None:
    assert explain(reuse.reused("0198c0de-1")) == "reused from 0198c0de-1"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.5, "0.5 s"), (59, "59 s"), (60, "1 min"), (5400, "1.5 h"), (86_400 * 3, "3 d")],
)
def test_durations_read_well(seconds: float, words: str) -> None:
    assert reuse.duration(seconds) == words


def test_what_another_version_wrote_is_shown_as_it_stands() -> None:
    for foreign in ("ran because", '{"why":"unheard of"}', "[]", "null", '{"why":"expired"}'):
        assert explain(foreign) == foreign
    assert explain("") == ""


DIGESTS = st.dictionaries(st.text(max_size=4), st.sampled_from(["1", "2"]), max_size=9).map(
    json.dumps
)


@given(
    parts=DIGESTS,
    arguments=DIGESTS,
    codes=st.lists(st.builds(Code, st.sampled_from([b"today", b"old"]), DIGESTS), max_size=3),
    samples=st.lists(DIGESTS, max_size=3),
    n=st.integers(0, 3),
    expired=st.none() | st.builds(Expired, st.floats(0, 1e9), st.floats(0, 1e9)),
)
def test_every_reason_is_small_json_with_words(**known: Any) -> None:
    reason = miss_reason(code=b"today", **known)
    assert json.dumps(json.loads(reason), ensure_ascii=False, separators=(",", ":")) == reason
    assert len(reason) < 4096
    assert explain(reason)
    assert explain(reason) != reason


def test_long_lists_and_names_are_cut() -> None:
    many = json.dumps({f"part{k}" + "x" * 500: "1" for k in range(50)})
    reason = miss_reason(
        code=b"today", parts=many, arguments="{}", codes=[Code(b"old", TODAY.parts)]
    )
    assert len(reason) < 2000
    assert "and 45 more" in explain(reason)
