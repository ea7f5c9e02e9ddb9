"""Flows that are defined where nothing can be imported from: -c, stdin, a zip, exec, a notebook.

They run, and they go on by their key where they are defined. What only an import could find is
refused with words, and the recorded outcomes stay.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from .programs import Program

BODY = """
import json, os
from kitaru import checkpoint, flow

@checkpoint(cache=False)
def before():
    with open("journal", "a") as file:
        file.write("before\\n")
    return "before"

@checkpoint(cache=False)
def hostile():
    with open("journal", "a") as file:
        file.write("hostile\\n")
    if not os.path.exists("calm"):
        os._exit(7)
    return "calm"

@flow
def agent():
    return [before(), hostile()]

print(json.dumps(agent.options(key="k").run().wait()))
"""

NOTEBOOK = f"""
import sys
main = sys.modules["__main__"]
main.__dict__.pop("__file__", None)
for number, cell in enumerate({BODY.strip()!r}.split("\\n\\n")):
    exec(compile(cell, f"<ipython-input-{{number}}>", "exec"), main.__dict__)
"""


def _zip(folder: Path) -> list[str]:
    with zipfile.ZipFile(folder / "app.zip", "w") as archive:
        archive.writestr("__main__.py", BODY)
    return ["app.zip"]


MAINS: dict[str, Callable[[Path], list[str]]] = {
    "-c": lambda folder: ["-c", BODY],
    "a zip": _zip,
    "exec": lambda folder: ["-c", f"exec({BODY!r}, {{'__name__': 'nowhere'}})"],
    "exec without a name": lambda folder: ["-c", f"exec({BODY!r}, {{}})"],
    "exec in a function": lambda folder: ["-c", f"def f(): exec({BODY!r}, globals())\nf()"],
    "a notebook": lambda folder: ["-c", NOTEBOOK],
    "no main at all": lambda folder: ["-c", f"import sys\ndel sys.modules['__main__']\n{BODY}"],
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in ("-c", "a zip") else pytest.mark.slow) for n in MAINS],
)
def test_a_flow_from_nowhere_goes_on_where_it_is_defined(name: str, tmp_path: Path) -> None:
    program = Program(tmp_path, BODY)
    (tmp_path / "app.py").unlink()
    words = MAINS[name](tmp_path)
    assert program.run(*words).returncode == 7

    listed = program.kitaru("executions", "list", "-o", "json")
    (execution,) = json.loads(listed.stdout)["items"]
    assert execution["status"] == "interrupted"
    resumed = program.kitaru("executions", "resume", execution["exec_id"])
    assert resumed.returncode in (1, 2), "nothing can import it"
    assert "error" in resumed.stderr
    assert "Traceback" not in resumed.stderr

    program.calm()
    again = program.run(*words)
    assert (again.returncode, again.stdout) == (0, '["before", "calm"]\n'), again.stderr
    assert program.journal() == ["before", "hostile", "hostile"]
