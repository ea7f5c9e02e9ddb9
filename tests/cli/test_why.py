"""`executions why` in a project whose code and inputs change: what it shows as a diff."""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from kitaru.cli.canvas import Screen, length, painted
from kitaru.cli.explaining import why_lines
from kitaru.model import Difference, Why

from .programs import Project

HELPER = '''
RATES = {"eu": 2}

def rounded(amount):
    """To whole cents."""
    return round(amount, 1)
'''
SHOP = """
import os
from kitaru import checkpoint, flow
from helper import RATES, rounded

LEVEL = len(os.environ.get("LEVEL", ""))

@checkpoint
def price(number: int, where: str = "eu") -> float:
    return rounded(number * RATES[where] + LEVEL)

@flow
def total(count: int, where: str = "eu") -> float:
    return sum(price(number, where) for number in range(count))
"""


@pytest.fixture
def shop(project: Project) -> Project:
    write(project, "helper.py", HELPER)
    write(project, "shop.py", SHOP)
    return project


def write(project: Project, name: str, text: str) -> None:
    """Dated back: what is written after a process began is not what that process loaded."""
    path = project.folder / name
    path.write_text(text)
    os.utime(path, ns=(time.time_ns() - 10**9, time.time_ns() - 10**9))


def run(project: Project, count: int, *words: str) -> str:
    done = project.run("run", "shop.py:total", "--", "--count", str(count), *words)
    assert done.returncode == 0, done.stderr
    return str(project.ask("executions", "list")["items"][0]["exec_id"])


def why(project: Project, exec_id: str) -> list[dict[str, Any]]:
    items = project.ask("executions", "why", exec_id, "price")["items"]
    assert isinstance(items, list)
    return items


def test_changed_code_is_shown_as_a_diff_of_what_counts(shop: Project) -> None:
    first = run(shop, 2)
    write(shop, "helper.py", HELPER.replace("To whole", "To all").replace("amount, 1", "amount, 2"))
    second = run(shop, 2)
    for item in why(shop, second):
        assert item["compared_with"] == first
        assert item["differences"] == [
            {
                "kind": "code",
                "name": "helper.rounded",
                "before": "def rounded(amount):\n    return round(amount, 1)",
                "after": "def rounded(amount):\n    return round(amount, 2)",
                "note": None,
            }
        ]
    shown = shop.run("executions", "why", second).stdout
    assert "  -     return round(amount, 1)\n  +     return round(amount, 2)\n" in shown
    assert shown.count("round(amount, 2)") == 1


def test_a_value_that_changed_while_its_source_did_not_says_so(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(shop, 1)
    monkeypatch.setenv("LEVEL", "high")
    (item,) = why(shop, run(shop, 1))
    (difference,) = item["differences"]
    assert difference["name"] == "shop.LEVEL"
    assert difference["before"] == difference["after"]
    assert "its source is the same" in difference["note"]


def test_a_changed_argument_is_shown_old_against_new(shop: Project) -> None:
    write(shop, "helper.py", HELPER.replace('{"eu": 2}', '{"eu": 2, "us": 3}'))
    first = run(shop, 2)
    second = run(shop, 2, "--where", "us")
    item = why(shop, second)[1]
    assert item["compared_with"] == first
    assert item["differences"] == [
        {"kind": "argument", "name": "where", "before": None, "after": '"us"', "note": None}
    ]


def test_a_changed_version_is_shown(shop: Project) -> None:
    for version in ("1", "2"):
        write(shop, "shop.py", SHOP.replace("@checkpoint", f'@checkpoint(version="{version}")'))
        exec_id = run(shop, 1)
    (item,) = why(shop, exec_id)
    (difference,) = item["differences"]
    assert (difference["name"], difference["before"], difference["after"]) == ("version", "1", "2")


def test_what_the_fingerprint_cannot_see_is_said_though_nothing_is_imported(shop: Project) -> None:
    write(
        shop,
        "shop.py",
        SHOP.replace("    return rounded", "    os.environ.get('X')\n    return rounded"),
    )
    exec_id = run(shop, 1)
    assert why(shop, exec_id)[0]["unseen"] == ["shop.price reads the environment"]
    (shop.folder / "shop.py").unlink()
    shown = shop.run("executions", "why", exec_id).stdout
    assert "the fingerprint of price's code cannot see:\n  shop.price reads the env" in shown
    assert '@checkpoint(version="2")' in shown


def test_a_store_from_before_sources_were_kept_says_that_they_were_not(project: Project) -> None:
    project.store.mkdir()
    packed = Path(__file__).parents[1] / "data" / "store-schema1.db.gz"
    (project.store / "kitaru.db").write_bytes(gzip.decompress(packed.read_bytes()))
    (failed,) = project.ask("executions", "list", "--status", "failed")["items"]
    done = project.ask("executions", "list", "--status", "completed")["items"][0]["exec_id"]
    (difference,) = project.ask("executions", "why", done, "price")["items"][0]["differences"]
    assert difference["name"] == "shop.rounded"
    assert "was not kept" in difference["note"]
    assert project.run("executions", "why", failed["exec_id"]).returncode == 0
    assert project.run("executions", "get", failed["exec_id"]).returncode == 0


@pytest.mark.parametrize(
    "harm",
    [
        "update codes set files = '[1, 2]'",
        'update codes set files = \'{"helper": 7, "shop": "zz"}\', unseen = \'{}\'',
        "update codes set parts = '[]', files = replace(printf('%20000c', ' '), ' ', '[')",
        "update codes set parts = replace(printf('%20000c', ' '), ' ', '['), unseen = 'no'",
        "update sources set text = x'00'",
        "update calls set reason = '{\"why\": [1]}', arguments = '[]', inputs = '7'",
        "update calls set inputs = replace(printf('%20000c', ' '), ' ', '[')",
        "update calls set checkpoint = char(27) || '[2J', branch = '////'",
    ],
)
def test_rows_that_somebody_else_wrote_do_no_harm(shop: Project, harm: str) -> None:
    run(shop, 2)
    write(shop, "helper.py", HELPER.replace("amount, 1", "amount, 2"))
    exec_id = run(shop, 3)
    connection = apsw.Connection(str(shop.store / "kitaru.db"))
    connection.execute(harm)
    connection.close()
    for words in (["why", exec_id], ["get", exec_id], ["list"]):
        done = shop.run("executions", *words)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert "\x1b" not in done.stdout


# --- layouts -----------------------------------------------------------------------------------


def a_why(seq: int = 0, **changes: Any) -> Why:
    values: dict[str, Any] = {
        "call_id": f"e:{seq}",
        "name": "price",
        "seq": seq,
        "status": "completed",
        "source": "ran",
        "reason": "input changed: number",
        "reused_from": None,
        "original_call_id": None,
        "changed": ("number",),
        "unseen": (),
        "differences": (Difference("argument", "number", "1", "2", None),),
        "compared_with": "01a2-bcdc833782da",
    }
    return Why(**{**values, **changes})


def drawn(*found: Why, **screen: Any) -> list[str]:
    on = Screen(**screen)
    return [painted(line, on) for line in why_lines(found, on)]


def test_short_values_stand_beside_each_other() -> None:
    assert drawn(a_why()) == [
        "✔ #0 price  ran: input changed: number",
        "  against execution bcdc833782da:",
        "  number  1 → 2",
    ]


def test_a_program_gets_one_line_for_each_call_and_whole_ids() -> None:
    lines = drawn(*(a_why(n) for n in range(20)), drawn=False)
    assert lines[:2] == [
        "#0 price: ran: input changed: number",
        "  against execution 01a2-bcdc833782da:",
    ]
    assert lines[-1] == "#19 price: ran: input changed: number"
    assert len(lines) == 22


def test_many_calls_with_one_reason_are_one_line() -> None:
    reused = [a_why(n, source="reused", reason=f"reused from {n}", differences=(),
                    reused_from=str(n)) for n in range(50)]  # fmt: skip
    assert drawn(*reused, a_why(50))[:2] == [
        "≡ price ×50  reused",
        "✔ #50 price  ran: input changed: number",
    ]


def test_long_texts_are_compared_line_by_line_and_long_lines_where_they_differ() -> None:
    text = Difference("argument", "page", '"one\\ntwo"', '"one\\nthree"', None)
    assert drawn(a_why(differences=(text,)))[2:] == ["  page", "    one", "  - two", "  + three"]
    line = Difference("argument", "page", '"' + "x" * 90 + 'a"', '"' + "x" * 90 + 'b"', None)
    assert drawn(a_why(differences=(line,)))[2:] == [
        "  page",
        f'  - …{"x" * 20}a"',
        f'  + …{"x" * 20}b"',
    ]


def test_what_is_not_known_is_said_instead_of_a_diff() -> None:
    note = Difference("code", "shop.f", None, "def f():\n    pass", "its source was not kept")
    lines = drawn(a_why(differences=(note,)))
    assert lines[2] == "  shop.f  its source was not kept"
    assert lines[3:] == ["  + def f():", "  +     pass"]


@pytest.mark.parametrize("columns", [20, 33, 80])
def test_no_line_is_wider_than_the_terminal_nor_steers_it(columns: int) -> None:
    rude = Difference("argument", "na\x1bme", '"\\u001b[2J' + "y" * 99 + '"', "[1, 2]", None)
    found = [a_why(name="p\x1b[31m", unseen=("it\x1b reads the environment", "z" * 90),
                   differences=(rude,))]  # fmt: skip
    on = Screen(columns=columns)
    for line in why_lines(found, on):
        assert length(line) <= columns
        assert "\x1b" not in painted(line, on)
