"""Run every check of the project, the quick ones, or all on all: `check.py [quick | all]`.

All steps run even when an earlier one fails, so that one run shows everything.
The static checks run side by side; then the demo; then all tests, and beside them
those on every other Python that is here and with the lowest versions of the
dependencies (what is fast of them; with `all`, everything). What all tests said is
shown last: pytest's summary is the last line. The exit status is non-zero if
anything failed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import setup_env

ROOT = setup_env.ROOT
BIN = setup_env.VENV / "bin"
FOLDERS = [
    name for name in ("src", "tests", "tools", "examples", "bench") if (ROOT / name).is_dir()
]


@dataclass
class Step:
    """A check and how it went; `output` is shown only where it failed."""

    name: str
    command: list[str]
    seconds: float = 0.0
    status: int = 0
    output: str = ""

    @property
    def verdict(self) -> str:
        return "ok" if self.status == 0 else f"FAILED ({self.status})"


def tool(name: str, *arguments: str) -> list[str]:
    return [str(BIN / name), *arguments]


def static_steps() -> list[Step]:
    return [
        Step("ruff check", tool("ruff", "check", "--quiet", *FOLDERS)),
        Step("ruff format", tool("ruff", "format", "--check", "--quiet", *FOLDERS)),
        Step("mypy --strict", tool("mypy", "--no-error-summary")),
        Step("pyright", tool("pyright", "--pythonpath", str(setup_env.PYTHON))),
        Step("import contracts", tool("lint-imports", "--no-cache")),
        Step("docs", [str(setup_env.PYTHON), "tools/docs.py"]),
    ]


CORES = os.cpu_count() or 1
# A test waits now and then, for a process, a lease, a disk: so there are more than cores, and no
# more than it takes to keep these busy, for what waits for an instant has to wait longer then.
WORKERS = min(CORES + (CORES + 1) // 2, 8)
WORKERS_ELSEWHERE = min(CORES, 4)

TESTS_LOG = ROOT / "build" / "tests.log"
TELL_SECONDS = 60.0

# About this repository rather than about an interpreter: seen once is enough.
SAME_EVERYWHERE = (
    "tests/test_docs.py",
    "tests/test_docs_site.py",
    "tests/test_error_pages.py",
    "tests/test_tools.py",
)

# What the usual check leaves out elsewhere, so that it stays within its time; `all` has it.
#
# On another Python: programs that are started by the hundred and differ little between Pythons,
# and what a database and its driver decide, which are the same there, and whose lowest versions
# run all of this. How Python itself drives the stores is seen there too: by the engine's tests,
# by what threads and files do under the stores, and by streams of random writes and reads.
OF_THE_DATABASE = (
    "tests/leases",
    "tests/outages",
    "tests/store/test_conformance.py",
    "tests/store/test_control.py",
    "tests/store/test_housekeeping.py",
    "tests/store/test_leases.py",
    "tests/store/test_postgres_*.py",
    "tests/store/test_queues.py",
    "tests/store/test_schedules.py",
    "tests/test_opening_postgres.py",
    "tests/test_postgres_server.py",
    "tests/transactions",
    "tests/within",
)
LITTLE_OF_A_PYTHON = ("tests/cli", "tests/examples", *OF_THE_DATABASE)

# With the lowest versions: what touches none of what we depend on.
LITTLE_OF_A_VERSION = (
    "tests/crash",
    "tests/engine",
    "tests/examples",
    "tests/hostile",
    "tests/promises",
    "tests/test_fingerprint*.py",
    "tests/test_identity*.py",
    "tests/test_schedules.py",
)


def pytest_command(python: Path, workers: int, *options: str) -> list[str]:
    """One pytest run: the suite, the documentation's examples, the doctests of `src`."""
    # Each worker begins with a stretch of its own: what is made once for a folder's tests, such
    # as a server, few of them make.
    spread = ["-n", str(workers), "--dist", "worksteal"]
    command = [str(python), "-m", "pytest", "-q", *spread, *options]
    # Doctests are looked for in the tests too: not in what is for the type checkers,
    # whose mistakes would raise, nor in plugins, which all bear one name.
    left_out = ["--ignore=tests/typing", "--ignore-glob=*/conftest.py"]
    return [*command, *left_out, "--doctest-modules", "tests", "src"]


def elsewhere(pythons: dict[str, Path | None], everything: bool) -> list[Step]:
    """The tests on the other Pythons, and on the lowest versions of what we depend on."""
    steps = []
    for name, python in pythons.items():
        if python is None:
            print(f"SKIPPED: the tests with {name}: its environment could not be made", flush=True)
        else:
            options = elsewhere_options(name, everything)
            command = pytest_command(python, WORKERS_ELSEWHERE, *options)
            steps.append(perform(Step(name, command)))
    return steps


def elsewhere_options(name: str, everything: bool) -> list[str]:
    left_out = [*SAME_EVERYWHERE]
    if not everything:
        left_out += LITTLE_OF_A_VERSION if name == "lowest versions" else LITTLE_OF_A_PYTHON
    options = [f"--ignore-glob={ROOT / path}" for path in left_out]
    return options if everything else ["-m", "not slow", *options]


def clean_environment(program: str) -> dict[str, str]:
    """Ours without KITARU_*: a developer's own store and settings stay out of it.

    What stands beside the program is found first: `kitaru` of the same environment.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
    kept["PATH"] = f"{Path(program).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    # The wrapper of pyright asks the network for a newer version otherwise.
    kept["PYRIGHT_PYTHON_IGNORE_WARNINGS"] = "1"
    kept.pop("PYTHONPATH", None)
    # The tests start Python by the thousand: it compiles us once, wherever this was started.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept


def perform(step: Step, log: Path | None = None) -> Step:
    """Run it and keep what it says; in a file, to be read meanwhile, if one is named."""
    began = time.monotonic()
    try:
        with tempfile.TemporaryFile("w+b") if log is None else open(log, "w+b") as said:
            process = subprocess.Popen(
                step.command,
                cwd=ROOT,
                env=clean_environment(step.command[0]),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
            step.status = wait(process, step.name, log)
            said.seek(0)
            step.output = said.read().decode(errors="replace")
    except OSError as problem:
        step.status = 127
        step.output = (
            f"{problem}\nThe environment is incomplete: delete .venv and run this again.\n"
        )
    step.seconds = time.monotonic() - began
    print(f"check {step.name:<18} {step.verdict:<12} {step.seconds:6.1f} s", flush=True)
    return step


def wait(process: subprocess.Popen[bytes], name: str, log: Path | None) -> int:
    """Until it has ended -> its status; of one with a log, tell now and then how far it is."""
    with process:
        while True:
            try:
                return process.wait(TELL_SECONDS)
            except subprocess.TimeoutExpired:
                if log is not None:
                    print(f"check {name:<18} {progress(log)}", flush=True)


def progress(log: Path) -> str:
    """How far pytest says it is."""
    told = re.findall(r"\[ *(\d+%)\]", log.read_text(errors="replace"))
    return told[-1] if told else "begun"


def perform_loudly(name: str, command: list[str]) -> Step:
    """A step whose output is the show: nothing is held back."""
    print(f"check {name}", flush=True)
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env=clean_environment(command[0]), stdin=subprocess.DEVNULL, check=False
    )
    return Step(name, command, time.monotonic() - began, done.returncode)


def report(steps: list[Step], *, told_later: Step | None = None) -> None:
    """What failed, with its output; then the table of all steps so far."""
    for step in steps:
        if step.status != 0 and step.output and step is not told_later:
            print(f"\n--- {step.name}: {' '.join(step.command)}\n{step.output.rstrip()}")
    print(f"\n{'step':<20}{'result':<14}{'seconds':>8}")
    for step in steps:
        print(f"{step.name:<20}{step.verdict:<14}{step.seconds:>8.1f}")
    print(flush=True)


def check_quickly() -> int:
    setup_env.ensure()
    steps = static()
    report(steps)
    command = pytest_command(setup_env.PYTHON, WORKERS, "-m", "not slow")
    steps.append(perform_loudly("tests", command))
    return 1 if any(step.status for step in steps) else 0


def static() -> list[Step]:
    with ThreadPoolExecutor(max_workers=CORES) as pool:
        return list(pool.map(perform, static_steps()))


def check(everything: bool) -> int:
    pythons = setup_env.ensure_all()
    steps = static()
    demo = [str(setup_env.PYTHON), "examples/code_census/demo.py", "--short", "--plain"]
    steps.append(perform_loudly("demo, shortened", demo))
    TESTS_LOG.parent.mkdir(exist_ok=True)
    print(f"check tests              running: {TESTS_LOG.relative_to(ROOT)}", flush=True)
    with ThreadPoolExecutor(max_workers=1) as beside:
        others = beside.submit(elsewhere, pythons, everything)
        tests = perform(Step("tests", pytest_command(setup_env.PYTHON, WORKERS)), TESTS_LOG)
        steps += others.result()
    report([*steps, tests], told_later=tests)
    print(tests.output.rstrip(), flush=True)
    return 1 if any(step.status for step in [*steps, tests]) else 0


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["quick"], ["all"]):
        print("usage: python tools/check.py [quick | all]", file=sys.stderr)
        return 2
    return check_quickly() if arguments == ["quick"] else check(everything=arguments == ["all"])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
