"""Identities: unambiguous, stable, and free of attempts where they must be."""

from __future__ import annotations

import uuid
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru._core import identity

SHORT = st.binary(max_size=3)
TEXT = st.text(max_size=3)
NUMBER = st.integers(0, 3)


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(SHORT, NUMBER, SHORT, TEXT, SHORT, NUMBER),
    st.tuples(SHORT, NUMBER, SHORT, TEXT, SHORT, NUMBER),
)
def test_different_calls_have_different_identities(
    one: tuple[bytes, int, bytes, str, bytes, int], other: tuple[bytes, int, bytes, str, bytes, int]
) -> None:
    same = identity.call_identity(*one) == identity.call_identity(*other)
    assert same == (one == other)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(SHORT | st.none(), max_size=4).map(tuple),
    st.lists(SHORT | st.none(), max_size=4).map(tuple),
)
def test_different_parts_are_framed_differently(
    one: tuple[bytes | None, ...], other: tuple[bytes | None, ...]
) -> None:
    assert (identity.framed(*one) == identity.framed(*other)) == (one == other)


def test_moving_a_character_from_one_part_to_the_next_changes_the_identity() -> None:
    one = identity.call_identity(b"p", 1, b"ab", "c", b"d", 0)
    assert one != identity.call_identity(b"p", 1, b"a", "bc", b"d", 0)
    assert one != identity.call_identity(b"p", 1, b"ab", "cd", b"", 0)
    assert identity.named_identity(None, 0, "ab", "c") != identity.named_identity(
        None, 0, "a", "bc"
    )
    assert identity.reuse_key(identity.reuse_scope("a", "bc", b""), b"", 0) != identity.reuse_key(
        identity.reuse_scope("ab", "c", b""), b"", 0
    )


def test_every_kind_of_digest_has_its_own_domain() -> None:
    digests = [
        identity.call_identity(None, 0, b"", "x", b"", 0),
        identity.call_key(None, b"", "x", b"", 0),
        identity.named_identity(None, 0, "x", ""),
        identity.named_key(None, "x", ""),
        identity.asked_identity(None, 0, b"", "x", "", 0),
        identity.branch_digest(b"", "x", b"", 0),
        identity.reuse_key(identity.reuse_scope("", "x", b""), b"", 0),
        identity.version_digest("x"),
    ]
    assert all(one != other for one, other in combinations(digests, 2))
    assert {len(digest) for digest in digests} == {identity.IDENTITY_BYTES}


def test_an_attempt_of_the_parent_gives_its_children_fresh_identities() -> None:
    first = identity.call_identity(b"parent", 1, b"", "child", b"in", 0)
    assert first != identity.call_identity(b"parent", 2, b"", "child", b"in", 0)
    assert identity.named_identity(b"p", 1, "c", "id") != identity.named_identity(
        b"p", 2, "c", "id"
    )
    assert identity.asked_identity(b"p", 1, b"", "now", None, 0) != identity.asked_identity(
        b"p", 2, b"", "now", None, 0
    )


def test_calls_of_the_flow_itself_do_not_change_with_its_attempts() -> None:
    assert identity.call_identity(None, 1, b"", "c", b"in", 0) == identity.call_identity(
        None, 2, b"", "c", b"in", 0
    )
    assert identity.named_identity(None, 1, "c", "i") == identity.named_identity(None, 2, "c", "i")
    assert identity.asked_identity(None, 1, b"", "now", "x", 0) == identity.asked_identity(
        None, 2, b"", "now", "x", 0
    )


def test_no_parent_is_not_an_empty_parent() -> None:
    assert identity.call_identity(None, 0, b"", "c", b"", 0) != identity.call_identity(
        b"", 0, b"", "c", b"", 0
    )
    assert identity.call_key(None, b"", "c", b"", 0) != identity.call_key(b"", b"", "c", b"", 0)


def test_an_unnamed_asking_is_not_one_with_an_empty_name() -> None:
    assert identity.asked_identity(None, 0, b"", "now", None, 0) != identity.asked_identity(
        None, 0, b"", "now", "", 0
    )


def test_an_idempotency_key_depends_on_the_execution_and_the_path_of_the_call() -> None:
    outer = identity.call_key(None, b"", "outer", b"in", 0)
    path = identity.call_key(outer, b"", "inner", b"in", 0)
    key = identity.idempotency_key("exec-1", path)
    assert key == identity.idempotency_key("exec-1", path)
    assert key != identity.idempotency_key("exec-2", path)
    assert key != identity.idempotency_key("exec-1", identity.named_key(outer, "inner", "in"))
    assert len(key) <= 64
    assert key.isascii()


@given(st.binary(min_size=16, max_size=32), st.binary(min_size=16, max_size=16))
def test_a_derived_uuid_is_a_proper_random_uuid_and_always_the_same(
    seed: bytes, asked: bytes
) -> None:
    text = identity.derive_uuid4(seed, asked)
    derived = uuid.UUID(text)
    assert str(derived) == text
    assert derived.version == 4
    assert derived.variant == uuid.RFC_4122
    assert text == identity.derive_uuid4(seed, asked)
    assert text != identity.derive_uuid4(seed + b"x", asked)


@given(st.binary(min_size=16, max_size=16))
def test_a_derived_random_number_lies_in_the_unit_interval_with_53_bits(asked: bytes) -> None:
    number = identity.derive_random(b"seed", asked)
    assert 0 <= number < 1
    assert (number * 2**53).is_integer()
    assert number == identity.derive_random(b"seed", asked)


def test_derived_random_numbers_are_spread_over_the_unit_interval() -> None:
    numbers = [identity.derive_random(b"s", n.to_bytes(16, "big")) for n in range(2000)]
    assert 0.47 < sum(numbers) / len(numbers) < 0.53
    assert {int(number * 10) for number in numbers} == set(range(10))


def test_identities_are_pinned_because_stores_hold_them() -> None:
    """A change here loses every recorded outcome: it needs a migration and a decision record."""
    parts = (b"p" * 16, 2, b"b" * 16, "app.research", b"i" * 16, 3)
    assert identity.call_identity(*parts).hex() == "aff1497e93a6580b2c2e6df8ce7f6c52"
    assert identity.call_identity(None, *parts[1:]).hex() == "07487bf061adafc460df249af788f0ba"
    assert (
        identity.named_identity(b"p" * 16, 2, "app.charge", "charge-42").hex()
        == "fae6340ac4990d98f6f81b7e9b56c79a"
    )
    assert (
        identity.asked_identity(None, 1, b"", "now", None, 0).hex()
        == "4ff53d1b1e93ce1ad17f9e94f8fd9aec"
    )
    assert (
        identity.reuse_key(identity.reuse_scope("demo", "app.f", b"c" * 16), b"i" * 16, 0).hex()
        == "4bed05b785227600394d9aad7f1aa184"
    )
    assert identity.derive_random(b"s" * 16, b"i" * 16) == 0.19943448729417057
