"""An execution as it is shown while it runs: on a real terminal, and where there is none."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from .programs import MAX_SECONDS, Project
from .terminal import Terminal, let_pass, make_gate

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

ASKS = """
import logging, multiprocessing, subprocess, sys
from kitaru import checkpoint, flow

logging.basicConfig(format="LOG %(message)s")  # keeps the stderr that it finds

@checkpoint(cache=False)
def ask() -> str:
    return input("your name? ")

@flow
def asks() -> str:
    return ask()

@checkpoint(cache=False)
def talk(count: int) -> None:
    with open("gate") as gate:
        gate.read()
    for number in range(count):
        print("said", number)
    print("half a ", end="", flush=True)
    logging.getLogger("mine").warning("logged")
    print("line")
    sys.stdout.buffer.write(b"bytes\\n")
    sys.stdout.buffer.flush()

@flow
def talks() -> None:
    talk(50)

@checkpoint(cache=False)
def item(number: int) -> int:
    if number == 60:
        with open("gate") as gate:
            gate.read()
    return number

@checkpoint(cache=False)
def starts_programs() -> None:
    with open("gate") as gate:
        gate.read()
    for _ in range(3):
        subprocess.run(["sh", "-c", "echo one; echo two; echo three"], check=True)

@flow
def programs() -> None:
    starts_programs()

@checkpoint(cache=False)
def forks() -> None:
    context = multiprocessing.get_context("fork")
    for number in range(4):
        child = context.Process(target=print, args=(f"child {number}",))
        child.start()
        child.join()

@flow
def forking() -> None:
    forks()

@checkpoint(cache=False)
def debugged(number: int) -> int:
    breakpoint()
    return number

@flow
def debugging() -> int:
    return debugged(1)

@flow
def maps() -> int:
    return len(item.map(range(100), concurrency=1).results())
"""


@pytest.fixture
def asking(project: Project) -> Project:
    (project.folder / "asking.py").write_text(ASKS)
    return project


def at_the_gate(project: Project, *words: str, **options: str) -> Terminal:
    """`gated` on a terminal, drawn while its last body waits at the gate."""
    make_gate(project)
    terminal = Terminal(project, "run", "shop.py:gated", *words, "--", "--count", "3", **options)  # type: ignore[arg-type]
    terminal.wait_for("running for")
    terminal.wait_for(" gate ")
    return terminal


def test_checkpoints_tick_and_finish_below_what_user_code_prints(project: Project) -> None:
    terminal = at_the_gate(project)
    terminal.wait_for("at the gate")
    *printed, price, gate, footer = terminal.screen
    assert printed[-4:] == ["pricing 0", "pricing 1", "pricing 2", "at the gate"]
    assert re.fullmatch(r"✔ price +[\d.]+ m?s  3 ran", price)
    assert re.fullmatch(rf"[{FRAMES}] gate +[\d.]+ m?s", gate)
    assert re.fullmatch(rf"[{FRAMES}] running for [\d.]+ m?s · 3 ran", footer)
    let_pass(project)
    assert terminal.finish() == 0
    *_, price, gate, summary, result = terminal.screen
    assert gate.startswith("✔ gate")
    assert re.fullmatch(r"✔ completed in [\d.]+ m?s · 4 ran", summary)
    assert result == "33"
    assert "running for" not in "\n".join(terminal.screen)
    assert "\x1b[?25l" not in terminal.raw  # a hidden cursor would stay hidden after a kill


def test_only_the_result_and_what_user_code_prints_come_on_stdout(project: Project) -> None:
    terminal = Terminal(project, "run", "shop.py:total", stdout_is_pipe=True)
    assert terminal.finish() == 2  # no arguments: said on stderr
    assert terminal.out() == ""
    terminal = Terminal(project, "run", "shop.py:total", "--", "--count", "2", stdout_is_pipe=True)
    assert terminal.finish() == 0
    assert terminal.out() == "pricing 0\npricing 1\n10\n"
    assert "completed in" in terminal.screen[-1]


def test_what_a_flow_prints_logs_and_writes_comes_above_the_view_unbroken(asking: Project) -> None:
    make_gate(asking)
    terminal = Terminal(asking, "run", "asking.py:talks")
    terminal.wait_for("running for")
    let_pass(asking)
    assert terminal.finish() == 0
    screen = terminal.screen
    said = screen.index("said 0")
    assert screen[said : said + 50] == [f"said {number}" for number in range(50)]
    rest = screen[said + 50 : -2]
    assert set(rest[:-1]) <= {"LOG logged", "half a line", "bytes"}
    assert sorted(rest[:3]) == ["LOG logged", "bytes", "half a line"]


def test_what_programs_that_are_started_write_is_kept(asking: Project) -> None:
    make_gate(asking)
    terminal = Terminal(asking, "run", "asking.py:programs")
    terminal.wait_for("running for")
    let_pass(asking)
    assert terminal.finish() == 0
    *said, _, _, _ = terminal.screen
    # The rest of a line that was drawn may stand behind what they write.
    for line, written in zip(said[-9:], ["one", "two", "three"] * 3, strict=True):
        assert line.startswith(written)
    assert terminal.screen[-3].startswith("✔ starts_programs")


def test_a_question_gets_the_terminal_for_itself(asking: Project) -> None:
    terminal = Terminal(asking, "run", "asking.py:asks")
    terminal.wait_for("your name? ")
    terminal.send("Ada\r")
    assert terminal.finish() == 0
    assert "your name? Ada" in terminal.screen, terminal.raw
    assert terminal.screen[-1] == "Ada"


def test_a_debugger_gets_the_terminal_for_itself(asking: Project) -> None:
    terminal = Terminal(asking, "run", "asking.py:debugging")
    terminal.wait_for("(Pdb) ")
    terminal.send("p number + 41\r")
    terminal.wait_for("42")
    terminal.send("c\r")
    assert terminal.finish() == 0
    assert "✔ debugged" in terminal.screen[-3]
    assert "running for" not in terminal.raw.partition("(Pdb)")[2]


def test_forked_children_print_and_hang_on_no_lock(asking: Project) -> None:
    terminal = Terminal(asking, "run", "asking.py:forking")
    assert terminal.finish() == 0
    assert [line for line in terminal.screen if line.startswith("child")] == [
        f"child {number}" for number in range(4)
    ]


def test_mapped_items_are_one_bar(asking: Project) -> None:
    make_gate(asking)
    terminal = Terminal(asking, "run", "asking.py:maps")
    terminal.wait_for("60/100")
    (line,) = (line for line in terminal.screen if "60/100" in line)
    assert "━" * 14 + "─" * 10 in line
    let_pass(asking)
    assert terminal.finish() == 0
    assert any(re.fullmatch(r"✔ item +[\d.]+ m?s  100 ran", line) for line in terminal.screen)


def test_reused_results_name_their_source_and_what_was_saved(project: Project) -> None:
    project.run("run", "shop.py:total", "--", "--count", "1")
    source = project.ask("executions", "list")["items"][0]["exec_id"]
    terminal = Terminal(project, "run", "shop.py:total", "--", "--count", "1")
    assert terminal.finish() == 0
    *_, price, summary, result = terminal.screen
    assert price.endswith(f"reused from {source}")
    assert re.fullmatch(r"✔ completed in \d+ ms · 1 reused( · [\d.]+ m?s saved)?", summary)
    assert result == "0"
    # The line of the checkpoint says it; no notice says it again.
    assert not [line for line in terminal.screen if line.startswith("kitaru: checkpoint")]


def test_a_resume_shows_what_is_recalled(project: Project) -> None:
    killed = at_the_gate(project)
    killed.process.kill()
    killed.finish()
    assert killed.raw.endswith("\n")  # the shell's prompt is on a line of its own
    project.open_gate()
    exec_id = project.ask("executions", "list")["items"][0]["exec_id"]
    terminal = Terminal(project, "executions", "resume", exec_id)
    assert terminal.finish() == 0
    *_, price, gate, summary, result = terminal.screen
    assert "3 recalled" in price
    assert gate.startswith("✔ gate")
    assert "1 ran · 3 recalled" in summary
    assert result == "33"


def test_a_failure_is_marked_and_the_traceback_stands_below(project: Project) -> None:
    (project.folder / "declined").touch()
    terminal = Terminal(project, "run", "shop.py:buy", columns=100)
    assert terminal.finish() == 1
    screen = terminal.screen
    summary = next(number for number, line in enumerate(screen) if "failed in" in line)
    assert screen[summary - 1].startswith("✘ charge")
    assert "ValueError: card declined" in screen[summary - 1]
    assert screen[summary + 1].startswith("Traceback")


def test_ctrl_c_leaves_the_terminal_clean_and_says_how_to_go_on(project: Project) -> None:
    terminal = at_the_gate(project)
    terminal.send("\x03")
    terminal.wait_for("stopping")
    let_pass(project)
    assert terminal.finish() == 130
    screen = terminal.screen
    summary = next(number for number, line in enumerate(screen) if "stopped in" in line)
    assert screen[summary - 1].startswith("◐ gate")
    assert screen[summary + 1].startswith("kitaru: stopping")
    assert "go on with" in "".join(screen[summary + 2 :])
    assert "running for" not in "\n".join(screen)


def test_a_second_ctrl_c_ends_at_once_on_a_line_of_its_own(project: Project) -> None:
    terminal = at_the_gate(project)
    terminal.send("\x03")
    terminal.wait_for("stopping")
    terminal.send("\x03")
    assert terminal.finish() == 130
    assert any(line.startswith("kitaru: ended at once") for line in terminal.screen)
    assert terminal.raw.endswith("\n")


@pytest.mark.parametrize(
    ("columns", "environment"),
    [(80, {"NO_COLOR": "1"}), (80, {"TERM": "dumb"}), (20, {})],
    ids=["NO_COLOR", "dumb", "20 columns"],
)
def test_other_terminals_get_plain_lines(
    project: Project, columns: int, environment: dict[str, str]
) -> None:
    terminal = Terminal(
        project, "run", "shop.py:total", "--", "--count", "2", columns=columns, **environment
    )
    assert terminal.finish() == 0
    assert "\x1b" not in terminal.raw
    screen = terminal.screen
    assert "kitaru: price: started" in screen
    assert re.fullmatch(r"kitaru: completed in [\d.]+ m?s, 2 ran", screen[-2])
    assert screen[-1] == "10"


def test_a_terminal_without_unicode_gets_plain_symbols(project: Project) -> None:
    terminal = Terminal(
        project, "run", "shop.py:total", "--", "--count", "2", PYTHONIOENCODING="ascii"
    )
    assert terminal.finish() == 0
    assert terminal.raw.isascii()
    assert terminal.screen[-3].startswith("+ price")
    assert terminal.screen[-2].startswith("+ completed")


def test_a_pipe_gets_sober_lines_with_failures_and_a_summary(project: Project) -> None:
    (project.folder / "declined").touch()
    err = project.run("run", "shop.py:buy").stderr
    lines = [line for line in err.splitlines() if line.startswith("kitaru: ")]
    assert lines[-4:-1] == [
        "kitaru: price: started",
        "kitaru: charge: started",
        "kitaru: charge failed: ValueError: card declined",
    ]
    assert re.fullmatch(r"kitaru: failed in [\d.]+ m?s, 2 ran, 1 failed", lines[-1])
    assert "\x1b" not in err


def test_with_json_nothing_is_shown(project: Project) -> None:
    project.run("init")
    done = project.run("run", "shop.py:everything", "-o", "json", "--", "--name", "x")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full"])
def test_a_stderr_that_takes_nothing_costs_the_flow_nothing(project: Project, closed: str) -> None:
    command = f"{sys.executable} -m kitaru run shop.py:total {closed} -- --count 2"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=project.folder,
        env=project.environment(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=MAX_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "10")


def test_a_terminal_that_is_closed_while_it_is_drawn_on_ends_the_command(
    project: Project,
) -> None:
    terminal = at_the_gate(project)
    os.close(terminal._master)  # the kernel sends SIGHUP, as when a window is closed
    assert terminal.process.wait(MAX_SECONDS) == -signal.SIGHUP
