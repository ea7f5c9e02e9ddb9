"""An execution as lines: its header, and its calls as a tree that fits any terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru.cli.canvas import Screen, length, painted
from kitaru.cli.showing import MAX_LINES, execution_lines, tree_lines
from kitaru.cli.tree import FOLD_ABOVE, Node, build
from kitaru.errors import FailureOrigin
from kitaru.model import CheckpointAttempt, CheckpointCall, FailureInfo, Note
from kitaru.status import ExecutionStatus

from .test_layouts import NOW, execution

FAILURE = FailureInfo("card declined", "ValueError", "Traceback\n  x\nValueError: card declined\n",
                      FailureOrigin.USER_CODE, "user-code-raised")  # fmt: skip


def call(seq: int, name: str = "price", **changes: Any) -> CheckpointCall:
    begun = changes.pop("started_at", NOW)
    seconds = changes.pop("seconds", 1.0)
    tries = changes.pop("tries", 1)
    attempt = CheckpointAttempt("a", "completed", begun, begun, {}, None)
    values: dict[str, Any] = {
        "call_id": f"e:{seq}",
        "name": name,
        "checkpoint_id": f"shop.{name}",
        "status": "completed",
        "started_at": begun,
        "ended_at": begun + timedelta(seconds=seconds),
        "metadata": {},
        "original_call_id": None,
        "parent_call_ids": (),
        "failure": None,
        "attempts": (attempt,) * tries,
        "artifacts": (),
        "checkpoint_type": None,
        "seq": seq,
        "branch": "",
        "source": "ran",
        "reused_from": None,
        "reason": "never recorded",
        "inputs": {"number": seq},
    }
    return CheckpointCall(**{**values, **changes})


def drawn(calls: list[CheckpointCall], columns: int = 100, **screen: Any) -> list[str]:
    screen_ = Screen(columns=columns, **screen)
    return [painted(line, screen_) for line in tree_lines(build(calls), screen_)]


def shape(nodes: list[Node]) -> list[Any]:
    return [(node.name, node.branches, len(node.calls), shape(node.children)) for node in nodes]


# --- the tree -------------------------------------------------------------------------------


def test_nested_calls_are_children_in_the_order_in_which_they_were_made() -> None:
    calls = [
        call(0, "outer"),
        call(2, "second", parent_call_ids=("e:0",)),
        call(1, "first", parent_call_ids=("e:0",)),
        call(3, "inner", parent_call_ids=("e:2",)),
        call(4, "last"),
    ]
    assert shape(build(calls)) == [
        ("outer", 0, 1, [("first", 0, 1, []), ("second", 0, 1, [("inner", 0, 1, [])])]),
        ("last", 0, 1, []),
    ]


def test_a_call_whose_parent_has_no_record_stands_at_the_top() -> None:
    assert shape(build([call(1, "child", parent_call_ids=("e:gone",))])) == [("child", 0, 1, [])]


def test_many_siblings_of_one_checkpoint_are_one_node_with_the_failed_ones_below() -> None:
    calls = [call(n) for n in range(1000)]
    calls += [call(1000 + n, status="failed", failure=FAILURE) for n in range(5)]
    (node,) = build(calls)
    assert (node.folded, len(node.calls)) == (True, 1005)
    assert [len(child.calls) for child in node.children] == [1, 1, 1]


def test_what_folded_calls_called_is_folded_below_them() -> None:
    parents = [call(n) for n in range(20)]
    below = [call(100 + n, "tax", parent_call_ids=(f"e:{n}",)) for n in range(20)]
    assert shape(build([*parents, *below])) == [("price", 0, 20, [("tax", 0, 20, [])])]


def test_a_branch_is_shown_only_where_it_holds_several_calls() -> None:
    worker = "/app.worker#80d3c94a42"
    calls = [
        call(0, "fetch", branch=worker),
        call(1, "parse", branch=worker),
        call(2, "fetch", branch="/app.fetch#1111111111"),
    ]
    assert shape(build(calls)) == [
        ("worker", 1, 0, [("fetch", 0, 1, []), ("parse", 0, 1, [])]),
        ("fetch", 0, 1, []),
    ]


def test_many_branches_of_one_coroutine_are_one_node() -> None:
    calls = [
        call(10 * n + k, name, branch=f"/app.worker#{n}")
        for n in range(30)
        for k, name in enumerate(("fetch", "parse"))
    ]
    assert shape(build(calls)) == [("worker", 30, 0, [("fetch", 0, 30, []), ("parse", 0, 30, [])])]


def test_a_damaged_store_with_a_circle_of_parents_is_drawn_all_the_same() -> None:
    circle = [call(0, parent_call_ids=("e:1",)), call(1, parent_call_ids=("e:0",))]
    assert build(circle) == []
    own = call(3, parent_call_ids=("e:3",))
    assert build([call(2), own])[0].name == "price"


@settings(max_examples=60, deadline=None)
@given(
    parents=st.lists(st.integers(-1, 12), max_size=40),
    branches=st.lists(
        st.sampled_from(["", "/a.w#1", "/a.w#2", "/a.w#1/b.x#3"]), min_size=40, max_size=40
    ),
)
def test_every_call_is_in_the_tree_once(parents: list[int], branches: list[str]) -> None:
    calls = [
        call(n, "ab"[n % 2], branch=branches[n],
             parent_call_ids=(f"e:{parent}",) if 0 <= parent < n else ())
        for n, parent in enumerate(parents)
    ]  # fmt: skip
    found: list[str] = []

    def walk(nodes: list[Node]) -> None:
        for node in nodes:
            found.extend(each.call_id for each in node.calls)
            walk(node.children)

    walk(build(calls))
    assert sorted(found) == sorted(each.call_id for each in calls)


# --- its lines ----------------------------------------------------------------------------------


def test_a_call_shows_its_arguments_its_time_as_a_bar_and_why_it_ran() -> None:
    lines = drawn([call(0, seconds=2), call(1, "tax", seconds=1, checkpoint_type="tool_call")])
    assert lines[0].startswith("├─ ✔ price(number=0) ████████████ 2.0 s  never recorded")
    assert lines[1].startswith("└─ ✔ tax(number=1)   ██████       1.0 s  never recorded  [tool")


def test_what_was_not_run_has_no_bar_and_names_its_source() -> None:
    (line,) = drawn([call(0, source="reused", reused_from="01a2-bcdc833782da", reason="")])
    assert line.split() == ["└─", "≡", "price(number=0)", "reused", "from", "bcdc833782da"]


def test_failures_and_tries_are_said() -> None:
    lines = drawn([
        call(0, status="failed", failure=FAILURE, tries=3),
        call(1, status="backoff", failure=FAILURE),
        call(2, tries=2),
    ])  # fmt: skip
    assert "✘" in lines[0]
    assert "failed  3 tries  ValueError: card declined" in lines[0]
    assert "↻" in lines[1]
    assert "2 tries" in lines[2]


def test_folded_calls_show_counts_and_the_span_of_their_times() -> None:
    calls = [call(n, seconds=n + 1, tries=2) for n in range(FOLD_ABOVE)]
    calls += [call(n + 50, source="reused", reused_from="x") for n in range(2)]
    (line,) = drawn(calls)
    assert "price ×10" in line
    assert "8 ran  2 reused  8 more tries  1.0 s to 8.0 s" in line


def test_a_tree_of_thousands_of_lines_is_cut_and_says_so() -> None:
    calls = [call(n, f"step{n}") for n in range(MAX_LINES + 50)]
    lines = drawn(calls)
    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == "… and more calls: all of them with -o json"


def test_without_unicode_everything_is_ascii() -> None:
    calls = [call(0, "outer"), call(1, "inner", parent_call_ids=("e:0",)), call(2)]
    assert all(line.isascii() for line in drawn(calls, unicode=False))


def test_in_20_columns_the_times_stand_below_the_names() -> None:
    assert drawn([call(0, seconds=2)], columns=20) == [
        "└─ ✔ price(number=0)",
        "     2.0 s  never r…",
    ]


@settings(max_examples=40, deadline=None)
@given(columns=st.integers(20, 200), name=st.text("abc日\n\x1b", min_size=1, max_size=30))
def test_no_line_is_wider_than_the_terminal_nor_steers_it(columns: int, name: str) -> None:
    calls = [call(0, name), call(1, name, parent_call_ids=("e:0",), inputs={name: name})]
    calls += [call(n, "many", tries=3) for n in range(2, 20)]
    done = execution(flow_name=name, key=name, metadata={name: name})
    screen = Screen(columns=columns)
    lines = execution_lines(done, calls, name, screen, NOW)
    for line in lines:
        assert length(line) <= columns
        assert painted(line, screen).isprintable()


# --- the header -----------------------------------------------------------------------------------


def header(**changes: Any) -> list[str]:
    screen = Screen(columns=80)
    result = changes.pop("result", None)
    lines = execution_lines(execution(**changes), [], result, screen, NOW)
    return [painted(line, screen) for line in lines]


def test_the_header_says_how_it_stands_and_what_came_out() -> None:
    assert header(result={"words": 3}, inputs={"n": 1}, tags=("a", "b"), attempts=2) == [
        "✔ completed  buy",
        "execution  01a21484-f2f8-7bfe-bf3d-bcdc833782da",
        "flow       shop.buy",
        "created    2026-03-01 11:57:00Z  (3 min ago)",
        "took       2.1 s",
        "attempts   2",
        "tags       #a #b",
        'inputs     {"n": 1}',
        'result     {"words": 3}',
    ]


def test_one_that_runs_says_for_how_long() -> None:
    assert "took       3 min so far" in header(status=ExecutionStatus.RUNNING, ended_at=None)


def test_none_is_a_result_too() -> None:
    assert header()[-1] == "result     null"


def test_a_long_result_is_cut_and_says_how_to_see_all_of_it() -> None:
    lines = header(result=["x" * 50] * 100)
    assert len(lines) < 15
    assert lines[-1].endswith("(all of it: -o json)")


def test_a_failed_one_shows_the_traceback_and_the_next_command() -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    lines = header(status=ExecutionStatus.FAILED, failure=FAILURE,
                   notes=(Note("drift", "topic changed", at),))  # fmt: skip
    assert "note       2026-03-01 00:00:00Z  topic changed" in lines
    assert "error      in your code  kitaru explain user-code-raised" in lines
    assert "ValueError: card declined" in lines
    assert lines[-1].startswith("run what failed again: kitaru executions retry 01a2")
