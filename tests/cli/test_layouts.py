"""What the looking commands draw, as text: pure functions, at any width."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru._core.names import did_you_mean, nearest
from kitaru.cli.canvas import (
    Line,
    Piece,
    Screen,
    clipped,
    columns_of,
    cut,
    fields,
    folded,
    length,
    painted,
    wrapped,
)
from kitaru.cli.families import FOLD_ABOVE, as_tree_data, family_lines, family_of, together
from kitaru.cli.listing import Listed, drawn_lines, plain_lines
from kitaru.cli.times import ago, lasted, looks_like_time, parse_time
from kitaru.errors import KitaruUsageError
from kitaru.model import Execution
from kitaru.status import ExecutionStatus

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TEXTS = st.text(alphabet="abc de日\u0301\u200b🎉-", max_size=40)


def execution(**changes: Any) -> Execution:
    values: dict[str, Any] = {
        "exec_id": "01a21484-f2f8-7bfe-bf3d-bcdc833782da",
        "flow_id": "shop.buy",
        "flow_name": "buy",
        "status": ExecutionStatus.COMPLETED,
        "status_reason": None,
        "created_at": NOW - timedelta(minutes=3),
        "started_at": NOW - timedelta(minutes=3),
        "ended_at": NOW - timedelta(minutes=3) + timedelta(seconds=2.1),
        "metadata": {},
        "failure": None,
        "pending_wait": None,
        "original_exec_id": None,
        "parent_exec_id": None,
        "tags": (),
        "key": None,
        "attempts": 1,
        "notes": (),
        "inputs": {},
        "frozen_execution_spec": {},
    }
    return Execution(**{**values, **changes})


def text(lines: list[Line], screen: Screen = Screen()) -> list[str]:  # noqa: B008
    return [painted(line, screen) for line in lines]


# --- the list --------------------------------------------------------------------------------

LISTED = [
    Listed(execution(), 12, 0),
    Listed(
        execution(
            exec_id="01a21484-f2f8-7bfe-bf3d-000000000001",
            flow_name="a_flow_with_a_very_long_name_indeed_for_a_column",
            status=ExecutionStatus.RUNNING,
            ended_at=None,
            key="order-42",
            tags=("nightly", "eu"),
        ),
        100_000,
        3,
        capped=True,
    ),
]


def test_a_wide_table_shows_whole_ids_and_what_a_row_is_labelled_with() -> None:
    lines = text(drawn_lines(LISTED, Screen(columns=160), NOW, absolute=False))
    assert lines[0].split() == ["ID", "FLOW", "STATUS", "WHEN", "TOOK", "CALLS", "KEY,", "TAGS"]
    assert lines[1].startswith("01a21484-f2f8-7bfe-bf3d-bcdc833782da  buy ")
    assert "✔ completed" in lines[1]
    assert "3 min ago" in lines[1]
    assert lines[1].rstrip().endswith("2.1 s           12")
    assert lines[2].endswith("3 min…  100,000+ ✘3  order-42  #nightly #eu")


def test_a_table_of_80_columns_shortens_ids_and_names() -> None:
    lines = text(drawn_lines(LISTED, Screen(columns=80), NOW, absolute=False))
    assert lines[1].startswith("bcdc833782da  buy")
    assert "a_flow_w…" in lines[2]
    assert all(len(line) <= 80 for line in lines)


def test_where_a_table_has_no_room_there_are_cards() -> None:
    lines = text(drawn_lines(LISTED[:1], Screen(columns=20), NOW, absolute=False))
    assert lines == [
        "✔ completed",
        "  buy",
        "  bcdc833782da",
        "  3 min ago",
        "  12 calls, 2.1 s",
    ]


def test_times_are_in_full_where_that_was_asked_for() -> None:
    lines = text(drawn_lines(LISTED, Screen(columns=160), NOW, absolute=True))
    assert "2026-03-01 11:57:00Z" in lines[1]


def test_a_terminal_without_unicode_gets_ascii() -> None:
    screen = Screen(columns=80, unicode=False)
    assert "+ completed" in text(drawn_lines(LISTED, screen, NOW, absolute=False))[1]
    assert "x3" in text(drawn_lines(LISTED, screen, NOW, absolute=False))[2]


def test_a_program_gets_columns_between_tabs() -> None:
    head, first, second = text(plain_lines(LISTED))
    assert head.count("\t") == first.count("\t") == second.count("\t") == 11
    assert first.split("\t")[2:7] == ["completed", "2026-03-01T11:57:00Z", "2.100", "12", "0"]
    assert second.split("\t")[7:] == ["order-42", "nightly,eu", "", "", ""]


@given(columns=st.integers(20, 200), name=TEXTS, key=TEXTS)
def test_no_line_of_a_list_is_wider_than_the_terminal(columns: int, name: str, key: str) -> None:
    found = [*LISTED, Listed(execution(flow_name=name, key=key, tags=(key,)), 1, 2)]
    lines = drawn_lines(found, Screen(columns=columns), NOW, absolute=False)
    assert all(length(line) <= columns for line in lines)


# --- pieces of text ----------------------------------------------------------------------------


@given(line=TEXTS, columns=st.integers(1, 50))
def test_what_is_cut_fits_and_what_fits_is_left_alone(line: str, columns: int) -> None:
    shown = cut(line, columns)
    assert columns_of(shown) <= columns
    assert shown == line or columns_of(line) > columns


@given(line=TEXTS, columns=st.integers(4, 50))
def test_wrapping_loses_nothing_but_spaces(line: str, columns: int) -> None:
    lines = wrapped(line, columns)
    assert all(columns_of(part) <= columns for part in lines)
    assert "".join(lines).replace(" ", "") == line.replace(" ", "")


@given(texts=st.lists(TEXTS, max_size=5), columns=st.integers(4, 50))
def test_folded_and_clipped_lines_fit(texts: list[str], columns: int) -> None:
    line = [Piece(each, "bold") for each in texts]
    assert length(clipped(line, columns)) <= columns
    for part in folded(line, columns):
        assert length(part) <= columns


def test_fields_stand_below_their_names_where_there_is_no_room_beside() -> None:
    pairs: list[tuple[str, Line]] = [("status", [Piece("done")]), ("nothing", [])]
    assert text(fields(pairs, Screen(columns=80))) == ["status  done"]
    long: list[tuple[str, Line]] = [("a long name", [Piece("one two three four")])]
    assert text(fields(long, Screen(columns=20))) == ["a long name", "  one two three four"]


def test_colours_come_only_where_the_screen_has_them() -> None:
    line = [Piece("done", "green"), Piece(" well")]
    assert painted(line, Screen(colour=True)) == "\x1b[32mdone\x1b[0m well"
    assert painted(line, Screen()) == "done well"


# --- times and names ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "just now"), (3, "just now"), (59, "59 s ago"), (3_599, "59 min ago"),
     (90_000, "1 d ago"), (-3_600, "2026-03-01 13:00:00Z")],
)  # fmt: skip
def test_how_long_ago(seconds: int, shown: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "<1 ms"), (0.9996, "1.0 s"), (59.96, "1 min"), (3_599.7, "1 h"), (200_000, "2 d 7 h")],
)
def test_how_long_it_lasted(seconds: float, shown: str) -> None:
    assert lasted(seconds) == shown


@pytest.mark.parametrize("words", ["2h", "90 min", "1.5d", "2026-03-01", "2026-03-01T10:00+02:00"])
def test_what_people_write_for_a_time(words: str) -> None:
    assert looks_like_time(words)
    assert parse_time(words, NOW, option="--since") <= NOW


@pytest.mark.parametrize("words", ["01a2", "", "3x", "2026-13-01", "99999999999d", "1e9h"])
def test_what_is_no_time_is_refused(words: str) -> None:
    with pytest.raises(KitaruUsageError, match="--since"):
        parse_time(words, NOW, option="--since")


def test_an_id_is_not_taken_for_a_time() -> None:
    assert not looks_like_time("01a21484-f2f8-7bfe-bf3d-bcdc833782da")
    assert not looks_like_time("3da1")


def test_the_nearest_name_or_none() -> None:
    assert nearest("compelted", ["completed", "failed"]) == "completed"
    assert nearest("xyz", ["completed", "failed"]) is None
    assert nearest("PRICE", ["price", "prize"]) == "price"
    assert did_you_mean("flw", ["flow"]) == " Did you mean 'flow'?"
    assert did_you_mean("", ["flow"]) == ""


# --- families ------------------------------------------------------------------------------------


def _family(children: int) -> list[Listed]:
    parent = execution(exec_id="p", flow_name="outer")
    listed = [
        Listed(execution(exec_id=f"c{i}", flow_name="inner", parent_exec_id="p"), 1, 0)
        for i in reversed(range(children))
    ]
    return [*listed, Listed(parent, 3, 0), Listed(execution(exec_id="o", flow_name="other"), 1, 0)]


def test_children_are_listed_below_their_parent_in_the_order_of_their_start() -> None:
    found = together(_family(2))
    assert [(each.execution.exec_id, each.depth) for each in found] == [
        ("p", 0),
        ("c0", 1),
        ("c1", 1),
        ("o", 0),
    ]
    lines = text(drawn_lines(found, Screen(columns=120), NOW, absolute=False))
    assert [line.split()[1:3] for line in lines[2:4]] == [["└", "inner"], ["└", "inner"]]


def test_many_children_of_one_parent_are_folded_in_a_list() -> None:
    found = together(_family(100))
    assert len(found) == 2 + FOLD_ABOVE
    lines = text(drawn_lines(found, Screen(columns=120), NOW, absolute=False))
    assert f"and {100 - FOLD_ABOVE} more children: kitaru executions get p" in lines[2]


def test_a_child_whose_parent_is_not_listed_stands_for_itself() -> None:
    alone = [Listed(execution(parent_exec_id="gone"), 1, 0)]
    assert together(alone) == alone


def test_a_family_is_a_tree_with_those_that_went_wrong_and_a_bound() -> None:
    children: dict[str, list[Execution]] = {
        "top": [execution(exec_id=f"c{i}", flow_name="inner") for i in range(30)],
        "c0": [execution(exec_id="g", flow_name="grand")],
    }
    children["top"][25] = execution(
        exec_id="bad", flow_name="inner", status=ExecutionStatus.FAILED, status_reason="no luck"
    )
    found = family_of(lambda parent, limit: children.get(parent, [])[:limit], "top")
    lines = text(family_lines(found, Screen(columns=120)))
    assert lines[0].split() == ["children", "31"]
    assert any("grand" in line and line.startswith("│  └─") for line in lines)
    assert any("bad" in line and "no luck" in line for line in lines)
    assert lines[-1].endswith(f"and {30 - FOLD_ABOVE} more")
    assert as_tree_data(found)[0]["children"][0]["exec_id"] == "g"


def test_a_family_without_end_is_bounded() -> None:
    found = family_of(lambda parent, limit: [execution(exec_id=parent + "x")], "")
    assert text(family_lines(found, Screen(columns=40)))[0].split() == ["children", "200+"]
