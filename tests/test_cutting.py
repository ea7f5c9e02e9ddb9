"""Cutting one part out of a kept source file."""

from __future__ import annotations

import pytest

from kitaru._engine.fingerprint.cutting import home_of, part_of

SOURCE = b'''
"""What this is."""
import os

RATE = 2  # percent
LIMITS: dict[str, int] = {}
LIMITS["a"] = 1

if os.name == "posix":
    def chosen():
        return "here"
else:
    chosen = None

def outer(x):
    """Doc."""
    def inner(y):
        return (x +
                y)
    return inner

key = lambda item: item.rank

class Shop:
    """Doc."""
    open_at = 9

    def price(self, n):
        # a comment
        return n * RATE

    class Till:
        def count(self): return 1

def twice(): return 1
def twice(): return 2
'''


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("RATE", "RATE = 2"),
        ("LIMITS", "LIMITS: dict[str, int] = {}\nLIMITS['a'] = 1"),
        ("chosen", "def chosen():\n    return 'here'"),
        ("outer.<locals>.inner", "def inner(y):\n    return x + y"),
        ("<lambda>", "key = lambda item: item.rank"),
        ("Shop.open_at", "open_at = 9"),
        ("Shop.price", "def price(self, n):\n    return n * RATE"),
        ("Shop.Till.count", "def count(self):\n    return 1"),
        ("gone", None),
        ("Shop.gone", None),
        ("gone.price", None),
    ],
)
def test_a_part_is_cut_out_as_it_counts(path: str, text: str | None) -> None:
    assert part_of(SOURCE, path) == text


def test_all_definitions_of_one_name_are_shown() -> None:
    assert part_of(SOURCE, "twice") == "def twice():\n    return 1\ndef twice():\n    return 2"


def test_a_class_is_shown_without_the_bodies_of_its_methods() -> None:
    text = part_of(SOURCE, "Shop")
    assert text is not None
    assert "open_at = 9" in text
    assert "RATE" not in text


def test_a_whole_module_is_shown_without_comments() -> None:
    text = part_of(SOURCE, "")
    assert text is not None
    assert text.startswith("import os\nRATE = 2\n")


@pytest.mark.parametrize("source", [b"def f(:", b"\xff\xfe", b"x\0y", b"(" * 5000])
def test_what_is_no_source_has_no_parts(source: bytes) -> None:
    assert part_of(source, "f") is None


def test_a_part_belongs_to_the_longest_name_that_it_begins_with() -> None:
    files = {"shop": "0", "shop.tax": "1", "__main__.f": "2"}
    assert home_of("shop.tax.rate", files) == "shop.tax"
    assert home_of("shop.taxes", files) == "shop"
    assert home_of("__main__.f", files) == "__main__.f"
    assert home_of("other.f", files) is None
