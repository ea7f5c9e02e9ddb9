"""The command line, fed with what no person means: a message and a status, and nothing recorded."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kitaru
from kitaru.cli.entry import perform
from kitaru.testing import isolated_store

from .programs import HANG_SECONDS

pytestmark = pytest.mark.timeout(600)

MODULES: dict[str, bytes] = {
    "shop.py": b"""
import os
from kitaru import checkpoint, flow

@checkpoint
def price(number: int) -> int:
    return number * 10

@checkpoint(cache=False)
def gate() -> int:
    print("at the gate", flush=True)
    with open("gate") as pipe:
        pipe.read()
    return 1

@flow
def total(count: int = 2) -> int:
    return sum(price(number) for number in range(count))

@flow
def text(x=None):
    return x

@flow
def gated() -> int:
    return price(1) + gate()

class Plain: ...
number = 3
""",
    "raises.py": b"raise ValueError('on import \\x1b[31m')\n",
    "exits.py": b"import sys; sys.exit(0)\n",
    "syntax.py": b"def broken(:\n",
    "runs.py": b"from shop import total\ntotal.run().wait()\n",
    "circular.py": b"from circular import nothing\n",
    "nul.py": b"x = 1\0\n",
    "latin.py": b"x = '\xff'\n",
    "deep.py": b"x = " + b"(" * 5000 + b")" * 5000,
    "prints.py": b"""
import sys
print("hello"); print("err", file=sys.stderr)
from shop import total
""",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "demo"\n')
    for name, text in MODULES.items():
        (tmp_path / name).write_bytes(text)
    (tmp_path / "folder.py").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("KITARU_"):
            monkeypatch.delenv(name)
    return tmp_path


WRONG_USE: dict[str, list[str]] = {
    "nothing": [],
    "an unknown command": ["frobnicate"],
    "a misspelt command": ["executionz", "list"],
    "a group": ["executions"],
    "a misspelt subcommand": ["executions", "lst"],
    "a command of 1 MiB": ["x" * 2**20],
    "an unknown option": ["--nope"],
    "an option of 1 MiB": ["--" + "x" * 2**20],
    "no target": ["run"],
    "an empty target": ["run", ""],
    "a target without a flow": ["run", "shop.py"],
    "a target without a name": ["run", "shop.py:"],
    "a target without a file": ["run", ":total"],
    "a target of colons": ["run", ":::"],
    "broken JSON": ["run", "shop.py:total", "--args", "{"],
    "JSON that is too deep": ["run", "shop.py:total", "--args", "[" * 100_000],
    "JSON of a number": ["run", "shop.py:total", "--args", "3"],
    "JSON of nothing": ["run", "shop.py:total", "--args", "null"],
    "empty JSON": ["run", "shop.py:total", "--args", ""],
    "JSON of the wrong type": ["run", "shop.py:total", "--args", '{"count": "3"}'],
    "JSON that is none": ["run", "shop.py:total", "--args", '{"count": NaN}'],
    "JSON with a key twice": ["run", "shop.py:total", "--args", '{"count": 1, "count": 2}'],
    "JSON of an unknown argument": ["run", "shop.py:total", "--args", '{"nope": 1}'],
    "too many arguments": ["run", "shop.py:total", "--args", "[1, 2, 3]"],
    "a text for a number": ["run", "shop.py:total", "--", "--count", "x"],
    "5,000 digits": ["run", "shop.py:total", "--", "--count", "9" * 5000],
    "no value": ["run", "shop.py:total", "--", "--count"],
    "no name": ["run", "shop.py:total", "--", "count=1"],
    "dashes": ["run", "shop.py:total", "--", "--"],
    "a misspelt argument": ["run", "shop.py:total", "--", "--cont", "1"],
    "an argument before --": ["run", "shop.py:total", "--count", "1"],
    "an empty key": ["run", "shop.py:total", "--key", ""],
    "a key with a newline": ["run", "shop.py:total", "--key", "a\nb"],
    "a key that is no UTF-8": ["run", "shop.py:total", "--key", "\udcff"],
    "a limit that is a word": ["executions", "list", "--limit", "many"],
    "an unknown status": ["executions", "list", "--status", "done"],
    "no execution": ["executions", "get"],
}
WRONG_TARGET: dict[str, list[str]] = {
    "a misspelt flow": ["run", "shop.py:totl"],
    "a number for a flow": ["run", "shop.py:number"],
    "a class for a flow": ["run", "shop.py:Plain"],
    "no such file": ["run", "shpo.py:total"],
    "no such module": ["run", "no.module:total"],
    "a module of dots": ["run", "..:total"],
    "a name that is no UTF-8": ["run", "\udcff.py:x"],
    "a flow that is no UTF-8": ["run", "shop.py:\udcff"],
    "a folder": ["run", "folder.py:x"],
    "a device": ["run", "/dev/zero:x"],
    "a module that raises": ["run", "raises.py:x"],
    "a module that exits": ["run", "exits.py:x"],
    "a module that does not parse": ["run", "syntax.py:x"],
    "a module that runs a flow": ["run", "runs.py:total"],
    "a module that imports itself": ["run", "circular.py:x"],
    "a module with a NUL": ["run", "nul.py:x"],
    "a module that is no UTF-8": ["run", "latin.py:x"],
    "a module that is too deep": ["run", "deep.py:x"],
    "an id that is none": ["executions", "get", "zz"],
    "an id that is no UTF-8": ["executions", "get", "\udcff"],
    "a pattern for an id": ["executions", "get", "%"],
    "an empty id": ["executions", "get", ""],
    "an id of 1 MiB": ["executions", "resume", "a" * 2**20],
    "an answer to an unknown execution": ["executions", "input", "0" * 36, "--value", "1"],
    "an answer of 1 MiB": ["executions", "input", "0" * 36, "--value", "[" * 2**20],
    "a wait that is no UTF-8": ["executions", "input", "0" * 36, "--wait", "\udcff", "--abort"],
    "an unknown execution": ["executions", "retry", "0" * 36],
    "an unknown code": ["explain", "nope"],
    "a limit below zero": ["executions", "list", "--limit", "-1"],
    "a folder that is none": ["status", "--store", "/dev/null"],
    "a folder that is not there": ["executions", "list", "--store", "/nope/nope"],
}


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.parametrize("name", [*WRONG_USE, *WRONG_TARGET])
def test_what_makes_no_sense_is_a_message_and_a_status(
    name: str, output: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {**WRONG_USE, **WRONG_TARGET}[name]
    if output == "json":
        at = words.index("--") if "--" in words else len(words)
        words = [*words[:at], "-o", "json", *words[at:]]
    modules, stdout = set(sys.modules), sys.stdout
    try:
        with isolated_store(project / ".kitaru"):
            status = perform(words)
    finally:
        sys.stdout = stdout  # a command with JSON takes it for itself, as its process ends after it
        for module in set(sys.modules) - modules:
            if module.partition(".")[0] + ".py" in MODULES:
                del sys.modules[module]
    said = capsys.readouterr()
    assert status == (2 if name in WRONG_USE else status)
    assert status in (1, 2)
    assert not set("\x1b\x07") & set(said.err + said.out)
    assert len(said.err) < 20_000, "an argument of a megabyte is not echoed"
    if output == "json":
        error = json.loads(said.err.splitlines()[-1])["error"]
        assert error["type"].startswith("Kitaru")
        assert error["message"]
    elif name not in ("nothing", "a group"):
        assert "error in " in said.err or "error on " in said.err
    if not (project / ".kitaru" / "kitaru.db").exists():
        return
    capsys.readouterr()
    with isolated_store(project / ".kitaru"):
        assert perform(["executions", "list", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 0, "it recorded something"


# --- terminals, pipes and signals: real processes ------------------------------------------------


def environment(**changes: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KITARU_", "PYTHON"))}
    return {**kept, "PYTHONPATH": str(Path(kitaru.__file__).parents[1]), **changes}


def command(project: Path, *words: str, **changes: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "kitaru", *words],
        cwd=project,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def shell(project: Path, line: str) -> subprocess.CompletedProcess[bytes]:
    """The line with `kitaru` for this program; bash, because it tells the status in a pipe."""
    function = f'kitaru() {{ "{sys.executable}" -m kitaru "$@"; }}; '
    return subprocess.run(
        ["bash", "-c", function + line],
        cwd=project,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=HANG_SECONDS,
    )


SHELL: dict[str, tuple[str, set[int]]] = {
    "stdout is closed": ("kitaru run shop.py:total >&-", {0, 1}),
    "stderr is closed": ("kitaru run shop.py:total 2>&-", {0}),
    "all three are closed": ("kitaru run shop.py:total <&- >&- 2>&-", {0, 1}),
    "the disk behind stdout is full": ("kitaru run shop.py:total >/dev/full", {1}),
    "the disk behind both is full": ("kitaru run shop.py:total >/dev/full 2>/dev/full", {1}),
    "nobody reads the pipe": ("kitaru run shop.py:total | true; exit ${PIPESTATUS[0]}", {0, 141}),
    "modules print": ("kitaru run prints.py:total", {0}),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if i % 2 else ()) for i, n in enumerate(SHELL)]
)
def test_whatever_becomes_of_the_output_the_execution_is_recorded(name: str, project: Path) -> None:
    line, allowed = SHELL[name]
    done = shell(project, line)
    assert done.returncode in allowed, done.stderr
    assert b"Traceback" not in done.stderr
    listed = shell(project, "kitaru executions list -o json")
    (item,) = json.loads(listed.stdout)["items"]
    assert item["status"] == "completed"


ENVIRONMENTS: dict[str, dict[str, str]] = {
    "no columns": {"COLUMNS": "0"},
    "columns below zero": {"COLUMNS": "-5"},
    "columns that are a word": {"COLUMNS": "wide"},
    "columns without end": {"COLUMNS": "99999999"},
    "an ASCII world": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "no time zone of this world": {"TZ": "Nowhere/Land"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_odd_environment_changes_no_result(name: str, project: Path) -> None:
    for words in (["run", "shop.py:total"], ["executions", "list"], ["--help"]):
        process = command(project, *words, **ENVIRONMENTS[name])
        out, err = process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == 0, err
        assert b"Traceback" not in err
        assert out


@pytest.mark.parametrize("settings", [{"TERM": "dumb"}, {"NO_COLOR": "1"}, {"TERM": "xterm"}])
def test_a_terminal_of_20_columns(settings: dict[str, str], project: Path) -> None:
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "kitaru", "run", "shop.py:total", "--", "--count", "3"],
        cwd=project,
        env=environment(COLUMNS="20", LINES="5", **settings),
        stdin=there,
        stdout=there,
        stderr=there,
    )
    os.close(there)
    said = b""
    while True:
        try:
            chunk = os.read(here, 65536)
        except OSError:  # the last one has closed the terminal
            break
        if not chunk:
            break
        said += chunk
    assert process.wait(timeout=HANG_SECONDS) == 0, said
    os.close(here)
    assert b"Traceback" not in said
    assert b"30" in said
    if settings != {"TERM": "xterm"}:
        assert b"\x1b[3" not in said, "no colours"


@pytest.mark.slow
@pytest.mark.parametrize("milliseconds", [0, 20, 50, 100, 150, 200, 300, 400])
def test_ctrl_c_at_any_moment_and_twice_loses_nothing(milliseconds: int, project: Path) -> None:
    os.mkfifo(project / "gate")
    process = command(project, "run", "shop.py:gated", "--key", "k")
    try:
        process.wait(milliseconds / 1000)
    except subprocess.TimeoutExpired:
        pass
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(0.2)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode in (-signal.SIGINT, 130, 1), err
    (project / "gate").unlink()
    (project / "gate").write_text("")
    again = command(project, "run", "shop.py:gated", "--key", "k")
    out, err = again.communicate(timeout=HANG_SECONDS)
    assert again.returncode == 0, err
    assert out.endswith(b"11\n")
    listed = shell(project, "kitaru executions list -o json")
    assert json.loads(listed.stdout)["count"] == 1


def test_an_argument_as_large_as_the_system_allows_comes_back(project: Path) -> None:
    large = "é" * 15_000 + "\u202e\N{CRAB}"
    words = ["run", "shop.py:text", "-o", "json", "--args", json.dumps({"x": large})]
    process = command(project, *words)
    out, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 0, err
    assert json.loads(out)["item"]["result"] == large
