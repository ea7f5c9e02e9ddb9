"""``kitaru explain`` prints the page of an error code; errors of three kinds look different."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from kitaru.cli import pages
from kitaru.cli.canvas import Screen
from kitaru.cli.entry import perform
from kitaru.cli.output import Session
from kitaru.codes import CODES, Kind
from kitaru.errors import KitaruBackendError, KitaruUsageError, KitaruUserCodeError

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("code", CODES)
def test_the_page_of_every_code_is_printed(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert perform(["explain", code]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"# {code}\n\n**{CODES[code][1]}**\n")
    wanted = ("What happened", "Why", "What to do", "Example")
    titles = [printed.index(f"\n## {title}\n") for title in wanted]
    assert titles == sorted(titles)
    assert "](" not in printed
    assert "<!--" not in printed


def test_on_a_terminal_a_page_is_drawn_in_its_width(capsys: pytest.CaptureFixture[str]) -> None:
    page = pages._for_readers(pages.page_of("flow-called-directly"))
    pages._draw(page, Screen(columns=40, colour=False))
    drawn = capsys.readouterr().out
    assert max(map(len, drawn.splitlines())) == 40
    assert "What to do" in drawn
    assert "## " not in drawn
    assert "```" not in drawn
    assert "\x1b[3" not in drawn, "no colours were asked for"


def test_a_misspelt_code_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert perform(["explain", "flow-caled-directly"]) == 1
    assert "did you mean 'flow-called-directly'?" in capsys.readouterr().err


def test_codes_may_be_written_in_capitals_and_with_underscores(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert perform(["explain", "DISK_FULL"]) == 0
    assert capsys.readouterr().out.startswith("# disk-full\n")


def test_without_a_code_all_are_listed_by_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert perform(["explain"]) == 0
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if line[0] != " "] == [
        "errors in your code",
        "errors in use",
        "errors on this machine",
    ]
    assert all(f"\n  {code} " in printed for code in CODES)


def test_json_has_the_page_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert perform(["explain", "disk-full", "-o", "json"]) == 0
    item = json.loads(capsys.readouterr().out)["item"]
    assert (item["code"], item["kind"]) == ("disk-full", "machine")
    assert item["page"] == (ROOT / "docs" / "errors" / "disk-full.md").read_text(encoding="utf-8")
    assert perform(["explain", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == len(CODES)


def test_the_wheel_brings_the_pages_along_where_they_are_looked_for() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = config["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {"docs/errors": f"kitaru/{pages.FOLDERS[0].name}"}
    assert pages.FOLDERS[1] == ROOT / "docs" / "errors"


ERRORS = [
    (KitaruUserCodeError("it raised", code="user-code-raised"), Kind.YOUR_CODE, "in your code:"),
    (KitaruUsageError("it is misused", code="option-invalid"), Kind.USAGE, "in use:"),
    (KitaruBackendError("it is full", code="disk-full"), Kind.MACHINE, "on this machine:"),
]


@pytest.mark.parametrize(("error", "kind", "word"), ERRORS, ids=lambda value: str(value))
def test_who_has_to_mend_it_is_told_in_words_and_in_json(
    error: Exception, kind: Kind, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Session().fail(error)
    first, last = capsys.readouterr().err.splitlines()
    assert first == f"error {word} {error}"
    assert last.startswith("kitaru explain ")
    Session(as_json=True).fail(error)
    told = json.loads(capsys.readouterr().err)["error"]
    assert (told["kind"], told["message"]) == (kind.value, str(error))
    assert last == f"kitaru explain {told['code']}"


def test_a_mistake_of_ours_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    Session().fail_inside(ZeroDivisionError("division by zero"))
    assert "\nerror in Kitaru: Kitaru itself failed" in capsys.readouterr().err


def test_a_code_of_the_users_own_is_not_taken_for_one_of_ours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = KitaruUserCodeError("it raised")
    error.code = 404
    Session(as_json=True).fail(error)
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "execution-failed"
