"""The page on leases names the tests that prove it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_fault_on_the_page_about_leases_has_a_file_of_tests() -> None:
    page = (ROOT / "docs/fleet/leases.md").read_text()
    named = re.findall(r"\| `(tests/\S+\.py)` \|$", page, re.MULTILINE)
    assert len(named) >= 10
    for name in named:
        assert re.search(r"^def test_", (ROOT / name).read_text(), re.MULTILINE), name
