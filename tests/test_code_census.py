"""The parts of the example that need no flow: what is found in a file, and how it is drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
BROKEN = EXAMPLES / "code_census" / "broken"

SOURCE = """\
import os.path
from collections import Counter
from . import sibling

class Thing:
    def short(self): ...

    async def long(self):
        # TODO: shorten
        return "TODO in a string"
"""


@pytest.fixture
def census(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import code_census.census
    import code_census.parsing
    import code_census.report

    yield code_census
    for name in [name for name in sys.modules if name.startswith("code_census")]:
        monkeypatch.delitem(sys.modules, name)


def test_a_file_is_counted(census: Any, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(SOURCE)
    report = census.parsing.examine(tmp_path / "a.py", "a.py")
    assert (report.lines, report.functions, report.classes) == (10, 2, 1)
    assert (report.longest.name, report.longest.line, report.longest.lines) == ("long", 8, 3)
    assert report.imports == ("collections", "os")
    assert [(todo.line, todo.text) for todo in report.todos] == [(9, "shorten")]
    assert report.problem is None


@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("syntax_error.py", "syntax error", 1),
        ("bad_encoding.py", "encoding", 2),
        ("null_bytes.py", "null bytes", 2),
    ],
)
def test_a_broken_file_is_a_finding(census: Any, name: str, kind: str, line: int) -> None:
    report = census.parsing.examine(BROKEN / name, f"broken/{name}")
    assert (report.problem.kind, report.problem.line) == (kind, line)
    assert report.functions == 0


def test_the_page_shows_every_package_and_escapes_what_it_shows(census: Any) -> None:
    report = census.parsing.examine(BROKEN / "syntax_error.py", "<b>&.py")
    summary = census.census.summarise.func([report])
    page = census.report.render(summary, "a <script> title")
    assert "<script>" not in page
    assert "&lt;b&gt;&amp;.py" in page
    Balanced().check(page)


class Balanced(HTMLParser):
    """Fails if a tag is closed that is not open, or left open."""

    def check(self, page: str) -> None:
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "line", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_fleet_demo_sees_a_body_that_is_done_twice(census: Any) -> None:
    from code_census.fleet import Begun, Kill, doubled_bodies

    def began(pid: int, *subjects: str) -> list[Any]:
        return [Begun(0.0, pid, "old", "e-1", ("examine_file", each)) for each in subjects]

    first = began(1, "a", "b", "c")
    cut_off = Kill(0.0, 1, frozenset({"e-1"}), 3, {"e-1": 2})
    assert doubled_bodies([*first, *began(2, "c", "d")], [cut_off]) == 0
    assert doubled_bodies([*first, *began(2, "b", "c", "d")], [cut_off]) == 1
    recorded = cut_off._replace(recorded={"e-1": 3})
    assert doubled_bodies([*first, *began(2, "c", "d")], [recorded]) == 1
