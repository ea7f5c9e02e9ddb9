"""A person with pdb or IPython in a checkpoint or a flow, on a real terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .terminal import CTRL_C, CTRL_D, Terminal

pytestmark = pytest.mark.slow

PDB = r"\(Pdb\) "
IPDB = r"ipdb> "

PROGRAM = """
import sys
from kitaru import checkpoint, flow

@checkpoint(retries=3)
def price(item: str) -> int:
    print("pricing", item)
    cents = len(item) * 100
    if item == "lamp":
        breakpoint()
    cents += 1
    return cents

@flow
def order(items: list[str]) -> int:
    total = 0
    for item in items:
        try:
            total += price(item)
        except Exception as error:
            print("never mind", error)
    return total

@checkpoint(retries=3)
async def price_async(item: str) -> int:
    print("pricing", item)
    cents = len(item) * 100
    if item == "lamp":
        breakpoint()
    cents += 1
    return cents

@flow
async def order_async(items: list[str]) -> int:
    return sum([await price_async(item) for item in items])

@flow
def order_flow(items: list[str]) -> int:
    total = sum(price(item) for item in items[:1])
    breakpoint()
    return total

if __name__ == "__main__":
    chosen = globals()[sys.argv[1]].options(key="monday")
    print("total", chosen.run(["desk", "lamp", "rug"]).wait())
"""


class Desk:
    """A project with the program, and terminals on which it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pyproject.toml").write_text('[project]\nname = "mine"\nversion = "0"\n')
        (folder / "app.py").write_text(PROGRAM)
        self._open: list[Terminal] = []

    def start(self, *arguments: str, **environment: str) -> Terminal:
        terminal = Terminal(*arguments, folder=self.folder, **environment)
        self._open.append(terminal)
        return terminal

    def execution(self) -> dict[str, Any]:
        """The only one, as `kitaru executions get` shows it."""
        listed = self._kitaru("list")["items"]
        assert len(listed) == 1
        found: dict[str, Any] = self._kitaru("get", listed[0]["exec_id"])["item"]
        return found

    def _kitaru(self, *words: str) -> Any:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
        done = subprocess.run(
            [sys.executable, "-m", "kitaru", "executions", *words, "-o", "json"],
            cwd=self.folder,
            env={**kept, "HOME": str(self.folder.parent)},
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    def close(self) -> None:
        for terminal in self._open:
            terminal.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "project"
    folder.mkdir()
    desk = Desk(folder)
    yield desk
    desk.close()


@pytest.mark.parametrize("flow", ["order", "order_async"])
def test_pdb_steps_prints_and_goes_on_and_the_checkpoint_is_recorded(desk: Desk, flow: str) -> None:
    terminal = desk.start("app.py", flow)
    terminal.see(PDB)
    terminal.type("p item, cents")
    terminal.see(r"\('lamp', 400\)\n")
    terminal.see(PDB)
    terminal.type("n")
    terminal.see(r"-> return cents\n" + PDB)
    terminal.type("cents = 5")
    terminal.see(PDB)
    terminal.type("c")
    terminal.see("total 707")
    assert terminal.end() == 0
    found = desk.execution()
    assert [call["status"] for call in found["checkpoints"]] == ["completed"] * 3


def test_pdb_works_in_the_flow_itself(desk: Desk) -> None:
    terminal = desk.start("app.py", "order_flow")
    terminal.see(PDB)
    terminal.type("p total")
    terminal.see("401\n" + PDB)
    terminal.type("c")
    terminal.see("total 401")
    assert terminal.end() == 0


def test_a_temporary_breakpoint_leads_from_a_checkpoint_back_to_the_flow(desk: Desk) -> None:
    lines = PROGRAM.splitlines()
    line = lines.index("    breakpoint()") + 2
    (desk.folder / "app.py").write_text(
        PROGRAM.replace('"lamp"', '"desk"').replace(
            "    breakpoint()\n    return total", "    total += 1\n    return total"
        )
    )
    terminal = desk.start("app.py", "order_flow")
    terminal.see(PDB)
    terminal.type(f"tbreak {line}")
    terminal.see(PDB)
    terminal.type("c")
    terminal.see(r"-> return total\n" + PDB)
    terminal.type("p total")
    terminal.see("402\n" + PDB)
    terminal.type("c")
    assert terminal.end() == 0


def leave_with_q(terminal: Terminal) -> None:
    terminal.type("q")


def leave_with_ctrl_d(terminal: Terminal) -> None:
    terminal.press(CTRL_D)


@pytest.mark.parametrize("leave", [leave_with_q, leave_with_ctrl_d])
@pytest.mark.parametrize("flow", ["order", "order_async", "order_flow"])
def test_quitting_a_debugger_is_no_outcome_and_the_next_run_goes_on(
    desk: Desk, flow: str, leave: Callable[[Terminal], None]
) -> None:
    terminal = desk.start("app.py", flow)
    terminal.see(PDB)
    leave(terminal)
    terminal.see("handed back because a debugger in it was quit; it goes on with: kitaru")
    assert terminal.end() == 1
    assert "never mind" not in terminal.shown, "the flow may not swallow it"
    assert terminal.shown.count("pricing lamp") <= 1, "it may not be retried"
    found = desk.execution()
    assert found["status"] == "pending"
    assert [call["status"] for call in found["checkpoints"]] == ["completed"]

    again = desk.start("app.py", flow)
    again.see(PDB)
    again.type("c")
    again.see("total")
    assert again.end() == 0
    assert "pricing desk" not in again.shown, "what was recorded is not run again"


def test_ctrl_c_at_the_prompt_is_not_taken_for_the_programs(desk: Desk) -> None:
    terminal = desk.start("app.py", "order")
    terminal.see(PDB)
    terminal.press(CTRL_C)
    terminal.see("a debugger is open in this program: type c to go on or q to leave")
    terminal.type("c")
    terminal.see("total 1103")
    assert terminal.end() == 0


def test_a_second_ctrl_c_ends_the_program_and_the_terminal_is_usable(desk: Desk) -> None:
    terminal = desk.start("app.py", "order")
    terminal.see(PDB)
    terminal.press(CTRL_C)
    terminal.see("a debugger is open")
    terminal.press(CTRL_C)
    terminal.see("bodies get 5 s")
    terminal.press(CTRL_C)
    assert terminal.end() == 130
    assert terminal.modes() == terminal.modes_before
    assert desk.execution()["status"] in ("interrupted", "pending")


def test_a_breakpoint_that_was_forgotten_fails_where_there_is_no_terminal(desk: Desk) -> None:
    done = subprocess.run(
        [sys.executable, "app.py", "order_async"],
        cwd=desk.folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("KITARU_")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "failed in checkpoint 'price_async': bdb.BdbQuit" in done.stderr


@pytest.mark.parametrize("flow", ["order", "order_async"])
def test_the_debugger_of_ipython_works_in_sync_and_async_checkpoints(desk: Desk, flow: str) -> None:
    pytest.importorskip("IPython")
    terminal = desk.start("app.py", flow, PYTHONBREAKPOINT="IPython.core.debugger.set_trace")
    terminal.see(IPDB)
    terminal.type("p item, cents")
    terminal.see(r"\('lamp', 400\)\n")
    terminal.see(IPDB)
    terminal.type("q")
    terminal.see("a debugger in it was quit")
    assert terminal.end() == 1
    assert desk.execution()["status"] == "pending"


def test_an_ipython_shell_opens_in_a_sync_checkpoint_and_goes_on_when_it_is_left(
    desk: Desk,
) -> None:
    pytest.importorskip("IPython")
    terminal = desk.start("app.py", "order", PYTHONBREAKPOINT="IPython.embed")
    terminal.see(r"In \[1\]: ")
    terminal.type("print('it is', cents + 1)")
    terminal.see("it is 401")
    terminal.see(r"In \[2\]: ")
    terminal.type("exit")
    terminal.see("total 1103")
    assert terminal.end() == 0


def test_pdb_looks_at_the_dead_body_behind_the_error_of_wait(desk: Desk) -> None:
    (desk.folder / "dead.py").write_text(
        "import pdb\nfrom kitaru import KitaruUserCodeError, checkpoint, flow\n"
        "@checkpoint\ndef parse(line: str) -> float:\n"
        "    number = line.strip()\n    return float(number)\n"
        "@flow\ndef load(line: str) -> float:\n    return parse(line)\n"
        "try:\n    load.run(' 12,5 ').wait()\n"
        "except KitaruUserCodeError as error:\n    pdb.post_mortem(error.__cause__.__traceback__)\n"
    )
    terminal = desk.start("dead.py")
    terminal.see(PDB)
    terminal.type("p number")
    terminal.see("'12,5'\n" + PDB)
    terminal.type("q")
    assert terminal.end() == 0
