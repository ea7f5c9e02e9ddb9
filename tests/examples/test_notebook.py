"""The notebook, in real kernels: one is killed in the middle of the sweep, the next goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from .conftest import EXAMPLES, PATIENCE_SECONDS

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytestmark = pytest.mark.slow

# nbclient wants an event loop and sockets of its own: both stay out of this process.
DRIVER = """
import json, sys
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

cells = [nbformat.v4.new_code_cell(source) for source in json.load(sys.stdin)]
notebook = nbformat.v4.new_notebook(cells=cells)
client = NotebookClient(notebook, timeout=60, kernel_name="python3", allow_errors=True)
died = False
try:
    client.execute()
except DeadKernelError:
    died = True
json.dump({"died": died, "outputs": [cell.outputs for cell in cells]}, sys.stdout)
"""

# Runs after the cells that define: notes each evaluation in a file, and may die at the fifth.
# Evaluations run side by side: without the lock all might be noted before any is counted.
# Whether it dies is asked of the environment: said in the code, it would make the code of the
# life that is killed another than that of the next, and nothing of the first would be reused.
WATCH = """
import os, signal, threading
plain_moons = moons
one_at_a_time = threading.Lock()

def moons(*args, **kwargs):
    with one_at_a_time:
        with open("journal", "a") as journal:
            print("evaluating", file=journal)
        with open("journal") as journal:
            if os.environ["DEADLY"] == "yes" and len(journal.readlines()) == 5:
                os.kill(os.getpid(), signal.SIGKILL)
    return plain_moons(*args, **kwargs)
"""


class Kernel:
    """Runs cells in a fresh kernel that works in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "pyproject.toml").write_text('[project]\nname = "mine"\nversion = "0"\n')

    def run(self, cells: Sequence[str], *, dies: bool = False) -> list[str]:
        """-> what each cell has put out, errors included; `dies` at the fifth evaluation."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
        done = subprocess.run(
            [sys.executable, "-c", DRIVER],
            input=json.dumps(cells),
            cwd=self.folder,
            env={
                **kept,
                "HOME": str(self.folder.parent),
                "DEADLY": "yes" if dies else "no",
            },
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["died"] is dies, answer
        return ["".join(map(shown, outputs)) for outputs in answer["outputs"]]

    def evaluations(self) -> int:
        return len((self.folder / "journal").read_text().splitlines())


def shown(output: Any) -> str:
    if output["output_type"] == "stream":
        return str(output["text"]) if output["name"] == "stdout" else ""
    if output["output_type"] == "error":
        return f"{output['ename']}: {output['evalue']}"
    return str(output["data"].get("text/plain", ""))


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path / "project")


def cells_of_the_notebook() -> list[str]:
    notebook = json.loads((EXAMPLES / "sweep.ipynb").read_text())
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def watched(cells: list[str]) -> list[str]:
    definitions, rest = cells[:3], cells[3:]
    return [*definitions, WATCH, *rest]


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = json.loads((EXAMPLES / "sweep.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_a_sweep_goes_on_after_its_kernel_was_killed(kernel: Kernel) -> None:
    cells = cells_of_the_notebook()
    kernel.run(watched(cells), dies=True)
    begun = kernel.evaluations()
    assert begun < 10

    outputs = kernel.run(watched(cells))
    *_, sweep, status, finer = outputs
    assert sweep.count("k=") == 3
    assert status == "completed with 10 evaluations\n"
    assert "4 of 10 were there already" in finer
    first = kernel.evaluations() - 6  # what the finer grid evaluated
    unrecorded = first - 10
    assert 1 <= unrecorded <= begun, "only what the kill cut off was evaluated twice"

    kernel.run(watched(cells))
    assert kernel.evaluations() == first + 6, "a third run finds everything"


def test_what_lives_in_a_notebook_says_so_elsewhere(kernel: Kernel) -> None:
    kernel.run(watched(cells_of_the_notebook()), dies=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}

    def kitaru(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kitaru", "executions", *words],
            cwd=kernel.folder,
            env={**kept, "HOME": str(kernel.folder.parent)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    listed = json.loads(kitaru("list", "-o", "json").stdout)["items"]
    assert [(item["flow_name"], item["status"]) for item in listed] == [
        ("knn sweep", "interrupted")
    ]
    resumed = kitaru("resume", listed[0]["exec_id"])
    assert resumed.returncode == 1
    assert "a prompt, a notebook" in resumed.stderr
    assert "only in a program that defines it" in resumed.stderr


DEFINE = """
from kitaru import KitaruClient, checkpoint, flow

@checkpoint(name="fetch")
def {fetch}(x: int) -> int:
    return {result}

@flow(name="collect")
def {collect}(xs: list[int]) -> list[int]:
    return fetch_them(xs)

def fetch_them(xs):
    return {fetch}.map(xs).results()
"""


def test_cells_may_be_edited_renamed_and_run_again(kernel: Kernel) -> None:
    first = DEFINE.format(fetch="fetch", collect="collect", result="x")
    edited = DEFINE.format(fetch="fetch", collect="collect", result="x + 1")
    renamed = DEFINE.format(fetch="fetch_new", collect="collect_new", result="x + 2")
    use = "await collect.run([1, 2])"
    outputs = kernel.run(
        [first, use, first, use, edited, use, renamed, use.replace("t.", "t_new.")]
    )
    assert outputs[1::2] == ["[1, 2]", "[1, 2]", "[2, 3]", "[3, 4]"]
    assert outputs[0::2] == [""] * 4


def test_a_helper_of_another_cell_counts_as_code(kernel: Kernel) -> None:
    define = DEFINE.format(fetch="fetch", collect="collect", result="helper(x)")
    look = (
        "handle = collect.run([1])\nprint(await handle)\n"
        "print(Counter(str(why).split(':', 1)[1] "
        "for why in KitaruClient().executions.why(handle.exec_id)))"
    )
    helper = "from collections import Counter\ndef helper(x):\n    return {} * x"
    outputs = kernel.run([helper.format(2), define, look, look, helper.format(3), look])
    assert "[2]" in outputs[2]
    assert "reused from" in outputs[3]
    assert "[3]" in outputs[5]
    assert "code changed: __main__.helper" in outputs[5]


def test_waiting_in_a_cell_says_to_await(kernel: Kernel) -> None:
    define = DEFINE.format(fetch="fetch", collect="collect", result="x")
    outputs = kernel.run(
        [define, "collect.run([1]).wait()", "handle = collect.run([1])\nawait handle"]
    )
    assert outputs[1].startswith("KitaruContextError: wait() would block the running event loop")
    assert "await handle" in outputs[1]
    assert outputs[2] == "[1]"


def test_a_dead_body_can_be_looked_at_from_a_cell(kernel: Kernel) -> None:
    define = DEFINE.format(fetch="fetch", collect="collect", result="1 / x")
    look = (
        "try:\n    await collect.run([0])\nexcept Exception as error:\n"
        "    trace = error.__cause__.__traceback__\n"
        "    while trace.tb_next:\n        trace = trace.tb_next\n"
        "    print(trace.tb_frame.f_code.co_name, trace.tb_frame.f_locals)"
    )
    assert kernel.run([define, look])[1] == "fetch {'x': 0}\n"


def test_data_classes_of_cells_are_found_again_by_the_next_kernel(kernel: Kernel) -> None:
    define = (
        "from dataclasses import dataclass\nfrom kitaru import checkpoint, flow\n"
        "@dataclass\nclass Pair:\n    x: int\n    y: int\n"
        "@checkpoint\ndef pair(x: int) -> Pair:\n    return Pair(x, x)\n"
        "@flow\nasync def pairs(x: int) -> Pair:\n    return await pair.submit(x)\n"
    )
    use = "await pairs.options(key='one').run(1)"
    assert kernel.run([define, use])[1] == "Pair(x=1, y=1)"
    assert kernel.run([define, use])[1] == "Pair(x=1, y=1)"
    assert Counter(kernel.run([use]))  # without the definitions: an error of Python's, not of ours
