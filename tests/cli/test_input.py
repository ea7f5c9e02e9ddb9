"""``kitaru executions input``, and what other commands say of executions that wait."""

from __future__ import annotations

import json

import pytest

from .desk import make_desk, park, standing, user
from .programs import Project, one_line
from .terminal import Terminal


@pytest.fixture
def desk(project: Project) -> Project:
    return make_desk(project)


# --- run, until it waits ----------------------------------------------------------------------


def test_a_detached_run_leaves_once_it_waits_and_says_how_to_answer(desk: Project) -> None:
    done = desk.run("run", "desk.py:approve", "--detach")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["drafting 1.0"]
    assert "waits for input 'approve' (Publish 1.0?)" in done.stderr
    assert "kitaru executions input" in done.stderr


def test_a_detached_run_that_waits_for_nothing_runs_to_its_end(desk: Project) -> None:
    done = desk.run("run", "shop.py:total", "--detach", "--", "--count", "1")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "0")


# --- one answer -------------------------------------------------------------------------------


def test_an_answer_is_recorded_and_resumed_here(desk: Project) -> None:
    exec_id = park(desk, "approve")
    done = desk.run("executions", "input", exec_id, "--wait", "approve", "--value", "true",
                    "--resume")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["notes of 1.0: True"]
    assert "answered 'approve'" in done.stderr


def test_an_answer_says_that_nobody_serves_it_and_how_to_go_on(desk: Project) -> None:
    exec_id = park(desk, "approve")
    done = desk.run("executions", "input", exec_id, "--value", "false", "--by", "ada")
    assert done.returncode == 0, done.stderr
    assert f"kitaru executions resume {exec_id}" in done.stderr
    assert desk.run("executions", "resume", exec_id).stdout.splitlines() == ["notes of 1.0: False"]


def test_an_answer_as_json_says_who_when_and_who_goes_on(desk: Project) -> None:
    exec_id = park(desk, "approve")
    item = desk.ask("executions", "input", exec_id, "--value", "true")["item"]
    assert (item["exec_id"], item["name"], item["state"]) == (exec_id, "approve", "answered")
    assert (item["by"], item["status"], item["served_by"]) == (user(), "pending", None)
    assert item["at"]


def test_an_answer_that_does_not_fit_changes_nothing(desk: Project) -> None:
    exec_id = park(desk, "review")
    for value, said in (
        ('{"verdict": "maybe"}', "verdict"),
        ('{"verdict": "publish", "score": 9}', "score"),
        ("publish", "object"),
    ):
        done = desk.run("executions", "input", exec_id, "--value", value)
        assert done.returncode == 2
        assert said in done.stderr
        assert "still open" in done.stderr
    found = desk.run("executions", "input", exec_id, "--value", '{"score": 1}', "-o", "json")
    error = one_line(found.stderr)["error"]
    assert (error["type"], error["code"]) == ("KitaruWaitValidationError", "wait-answer-invalid")
    assert standing(desk, exec_id)["status"] == "waiting"


def test_what_the_class_alone_refuses_is_asked_anew(desk: Project) -> None:
    exec_id = park(desk, "review")
    shouted = json.dumps({"verdict": "publish", "note": "NO"})
    done = desk.run("executions", "input", exec_id, "--value", shouted)
    assert done.returncode == 0, done.stderr
    # Whoever runs it next finds out, and it waits again.
    item = desk.run("executions", "resume", exec_id, "--detach")
    assert "no shouting" in item.stderr
    found = standing(desk, exec_id)
    assert found["status"] == "waiting"
    assert "no shouting" in found["notes"][-1]["message"]
    (wait,) = found["pending_waits"]
    assert wait["name"] == "review"
    spoken = json.dumps({"verdict": "publish", "note": "no"})
    done = desk.run("executions", "input", exec_id, "--value", spoken, "--resume")
    assert done.stdout.splitlines() == ["Review publish 3 no"]


def test_words_are_text_where_text_is_asked_for(desk: Project) -> None:
    exec_id = park(desk, "gate")
    assert desk.run("executions", "input", exec_id, "--value", "now").returncode == 2
    done = desk.run("executions", "input", exec_id, "--value", "null", "--resume")
    assert done.stdout.splitlines() == ["gone"]


def test_of_two_waits_of_one_name_the_id_tells(desk: Project) -> None:
    exec_id = park(desk, "both")
    done = desk.run("executions", "input", exec_id, "--wait", "approve", "--value", "true")
    assert done.returncode == 1
    assert "notes" in done.stderr
    assert "tag" in done.stderr
    tag = next(
        each["wait_id"]
        for each in standing(desk, exec_id)["pending_waits"]
        if each["question"] == "tag"
    )
    done = desk.run("executions", "input", exec_id, "--wait", tag, "--value", "false")
    assert "still waits for approve" in done.stderr
    done = desk.run("executions", "input", exec_id, "--value", "true", "--resume")
    assert done.stdout.splitlines() == ["[true, false]"]


def test_an_abort_cancels(desk: Project) -> None:
    exec_id = park(desk, "approve")
    done = desk.run("executions", "input", exec_id, "--wait", "approve", "--abort")
    assert done.returncode == 0, done.stderr
    assert "cancelled" in done.stderr
    assert standing(desk, exec_id)["status"] == "cancelled"
    done = desk.run("executions", "input", exec_id, "--wait", "approve", "--value", "true")
    assert (done.returncode, "was aborted" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "there is no answer"),
        (["--interactive"], "asks in a terminal"),
        (["--value", "true"], "which execution"),
        (["--abort"], "which execution"),
        (["x", "--value", "1", "--abort"], "one of them"),
        (["x", "--abort", "--resume"], "leave out --resume"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(desk: Project, words: list[str], said: str) -> None:
    done = desk.run("executions", "input", *words)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_an_execution_that_waits_for_nothing_says_so(desk: Project) -> None:
    desk.run("run", "shop.py:total", "--", "--count", "1")
    exec_id = desk.ask("executions", "list")["items"][0]["exec_id"]
    done = desk.run("executions", "input", exec_id, "--value", "true")
    assert (done.returncode, "waits for nothing" in done.stderr) == (1, True)


def test_whoever_comes_late_is_told_who_was_first_also_without_a_name(desk: Project) -> None:
    exec_id = park(desk, "approve")
    assert desk.run("executions", "input", exec_id, "--value", "true").returncode == 0
    late = desk.run("executions", "input", exec_id, "--value", "false")
    assert late.returncode == 1
    assert f"was answered by {user()}" in late.stderr


# --- what others say of it ----------------------------------------------------------------------


def test_get_list_and_status_say_what_is_waited_for(desk: Project) -> None:
    exec_id = park(desk, "approve")
    shown = desk.run("executions", "get", exec_id).stdout
    assert "Publish 1.0?" in shown
    assert f"kitaru executions input {exec_id} --interactive   # or --value JSON" in shown
    listed = desk.run("executions", "list", "--status", "waiting").stdout.splitlines()
    assert listed[1].split("\t")[9] == "approve"
    assert "an answer: approve for approve" in desk.run("status").stdout
    assert desk.ask("status")["item"]["pending_waits"][0]["exec_id"] == exec_id
    done = desk.run("executions", "get", exec_id, "--result")
    assert "answer it: kitaru executions input" in done.stderr


# --- asked in a terminal --------------------------------------------------------------------------


def test_a_form_is_filled_in_and_bad_answers_are_explained(desk: Project) -> None:
    exec_id = park(desk, "review")
    terminal = Terminal(desk, "executions", "input", exec_id, "--interactive", "--resume")
    terminal.wait_for("  2. reject\r\nverdict: ")
    terminal.send("3\n")
    terminal.wait_for("none of them")
    terminal.send("publish\n")
    terminal.wait_for("[3]: ")
    terminal.send("9\n")
    terminal.wait_for("less than or equal to 5")
    terminal.send("4\n")
    terminal.wait_for("[none]: ")
    terminal.send("\n")
    assert terminal.finish() == 0
    assert "Review publish 4 None" in terminal.raw


def test_all_that_waits_is_asked_oldest_first_with_skip_and_quit(desk: Project) -> None:
    first, second, third = park(desk, "approve"), park(desk, "gate"), park(desk, "gate")
    terminal = Terminal(desk, "executions", "input", "--interactive")
    terminal.wait_for("1 of 3")
    terminal.wait_for("(A/s/q) ")
    assert first in terminal.raw
    assert "draft: notes of 1.0" in terminal.raw
    terminal.send("s\n")
    terminal.wait_for("(A/s/q) ", times=2)
    terminal.send("\n")
    terminal.wait_for("go on? (y/n) ")
    terminal.send("y\n")
    terminal.wait_for("(A/s/q) ", times=3)
    terminal.send("q\n")
    assert terminal.finish() == 0
    statuses = [standing(desk, each)["status"] for each in (first, second, third)]
    assert statuses == ["waiting", "pending", "waiting"]


def test_an_answer_from_elsewhere_withdraws_the_question(desk: Project) -> None:
    exec_id = park(desk, "approve")
    terminal = Terminal(desk, "executions", "input", exec_id, "--interactive")
    terminal.wait_for("(y/n) ")
    desk.run("executions", "input", exec_id, "--value", "true", "--by", "ada")
    terminal.wait_for("answered by ada meanwhile")
    assert terminal.finish() == 0
    assert standing(desk, exec_id)["status"] == "pending"


# --- asked where it runs --------------------------------------------------------------------------


def test_a_wait_is_asked_in_the_terminal_of_the_run(desk: Project) -> None:
    terminal = Terminal(desk, "run", "desk.py:approve")
    terminal.wait_for("(y/n) ")
    assert "Publish 1.0?" in terminal.raw
    terminal.send("maybe\n")
    terminal.wait_for("answer y or n")
    terminal.send("y\n")
    assert terminal.finish() == 0
    assert "notes of 1.0: True" in terminal.raw
    assert "✔ completed" in "\n".join(terminal.screen)


def test_several_waits_are_asked_one_after_another(desk: Project) -> None:
    terminal = Terminal(desk, "run", "desk.py:both")
    terminal.wait_for("(y/n) ")
    terminal.send("y\n")
    terminal.wait_for("(y/n) ", times=2)
    terminal.send("n\n")
    assert terminal.finish() == 0
    assert "[true, false]" in terminal.raw


def test_an_answer_from_elsewhere_withdraws_the_question_of_a_run(desk: Project) -> None:
    terminal = Terminal(desk, "run", "desk.py:approve")
    terminal.wait_for("(y/n) ")
    exec_id = desk.ask("executions", "list")["items"][0]["exec_id"]
    item = desk.ask("executions", "input", exec_id, "--value", "true", "--by", "ada")["item"]
    assert item["served_by"]["pid"] == terminal.process.pid
    terminal.wait_for("answered by ada meanwhile")
    assert terminal.finish() == 0
    assert "notes of 1.0: True" in terminal.raw


def test_the_end_of_input_leaves_it_open_and_the_run_goes_on_waiting(desk: Project) -> None:
    terminal = Terminal(desk, "run", "desk.py:approve")
    terminal.wait_for("(y/n) ")
    terminal.send("\x04")
    terminal.wait_for("left open")
    exec_id = desk.ask("executions", "list")["items"][0]["exec_id"]
    desk.ask("executions", "input", exec_id, "--value", "false")
    assert terminal.finish() == 0
    assert "notes of 1.0: False" in terminal.raw


def test_ctrl_c_at_the_question_parks_and_says_how_to_answer(desk: Project) -> None:
    terminal = Terminal(desk, "run", "desk.py:approve")
    terminal.wait_for("(y/n) ")
    terminal.send("\x03")
    assert terminal.finish() == 130
    exec_id = desk.ask("executions", "list")["items"][0]["exec_id"]
    assert standing(desk, exec_id)["status"] == "waiting"
    assert f"kitaru executions input {exec_id}" in terminal.raw
    done = desk.run("executions", "input", exec_id, "--value", "true", "--resume")
    assert done.stdout.splitlines() == ["notes of 1.0: True"]


def test_a_no_at_a_gate_may_cancel_it(desk: Project) -> None:
    terminal = Terminal(desk, "run", "desk.py:gate")
    terminal.wait_for("go on? (y/n) ")
    terminal.send("n\n")
    terminal.wait_for("cancelled? ")
    terminal.send("y\n")
    assert terminal.finish() == 1
    assert "was cancelled" in terminal.raw
    item = desk.ask("executions", "list", "--status", "cancelled")["items"][0]
    assert f"'go' was aborted by {user()}" in item["status_reason"]


def test_json_is_never_asked_for(desk: Project) -> None:
    terminal = Terminal(desk, "run", "desk.py:approve", "--detach", "-o", "json")
    assert terminal.finish() == 0
    (line,) = [line for line in terminal.raw.splitlines() if line.startswith("{")]
    assert json.loads(line)["item"]["status"] == "waiting"
    assert "(y/n)" not in terminal.raw
