from __future__ import annotations

import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru._core.names import MAX_NAME_LENGTH, check_name, shortened
from kitaru.errors import KitaruUsageError


@pytest.mark.parametrize(
    "name",
    [
        "order-42",
        "a",
        " padded ",
        "..",
        "../../x",
        "C:\\x",
        "'; DROP TABLE executions; --",
        "%",
        "*",
        "naïve",
        "日本",
        "👩‍👩‍👧",
        "x" * 200,
        "<script>",
    ],
)
def test_what_can_be_seen_is_a_name(name: str) -> None:
    assert check_name("key", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "\u3000",
        "a\nb",
        "a\tb",
        "\x1b[31mred",
        "nul\0",
        "del\x7f",
        "c1\x9b",
        "\ud800",
        "evil\u202etxt",
        "two\u2028lines",
        "x" * 201,
        "x" * 10_000,
        "e\u0301" * 201,
        "e" + "\u0301" * 10_000,
    ],
)
def test_what_cannot_be_seen_or_is_too_long_is_refused(name: str) -> None:
    with pytest.raises(KitaruUsageError, match="flow name") as caught:
        check_name("flow", name)
    message = str(caught.value)
    assert len(message) < 250
    assert message.isprintable()


def test_a_name_has_one_spelling() -> None:
    assert check_name("tag", "e\u0301" * 200) == "é" * 200
    assert check_name("tag", "\u212b") == "Å"


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize("name", [None, 3, True, b"x", ["x"], Colour.RED, object()])
def test_only_an_exact_str_is_a_name(name: object) -> None:
    with pytest.raises(KitaruUsageError, match="a key name is a str, not "):
        check_name("key", name)


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("never called")


def test_describing_a_value_runs_no_code_of_its_class() -> None:
    assert shortened(Hostile()) == "an object of type Hostile"


@given(st.one_of(st.text(), st.integers(), st.binary(), st.floats()))
def test_a_shortened_repr_fits_in_a_line(value: object) -> None:
    assert shortened(value).isprintable()
    assert shortened("x" * 100_000) == repr("x" * 59 + "…")


@given(st.text(max_size=300))
def test_an_accepted_name_is_accepted_again_unchanged(name: str) -> None:
    try:
        accepted = check_name("wait", name)
    except KitaruUsageError:
        return
    assert 1 <= len(accepted) <= MAX_NAME_LENGTH
    assert check_name("wait", accepted) == accepted
    accepted.encode()


def test_an_enormous_int_is_described_without_being_written_out() -> None:
    assert shortened(10**5000) == "an enormous int"
