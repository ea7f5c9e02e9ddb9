"""Make the development environment: `.venv` in the checkout, with everything that `check` runs.

With `all`, also those beside it, in which the tests run on other Pythons and versions.

Runs under any Python from 3.8 on, because it has to find a newer one first.
Installs only when `pyproject.toml`, the interpreter or the place of the
checkout has changed since the last time. Knows nothing of the checks.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".installed-for"
PIP = (PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")
OLDEST = (3, 11)
MINORS = (13, 12, 11)

# A candidate must be new enough *and* able to make an environment: the system
# Python of Debian and Ubuntu lacks ensurepip until python3-venv is installed.
PROBE = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"


def say(message: str) -> None:
    print(f"env   {message}", flush=True)


def give_up(message: str) -> None:
    sys.stderr.write(f"env   {message}\n")
    raise SystemExit(1)


def probed_version(python: str) -> tuple[int, ...] | None:
    """The (major, minor) of an interpreter that can make an environment, else None."""
    try:
        found = subprocess.run(
            [python, "-c", PROBE], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if found.returncode != 0:
        return None
    return tuple(int(part) for part in found.stdout.strip().split("."))


def candidates() -> list[str]:
    """Interpreters worth a try, the likeliest first."""
    named = [shutil.which(f"python3.{minor}") for minor in MINORS]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    kept = [
        str(path)
        for minor in MINORS
        for path in sorted(pyenv.glob(f"3.{minor}.*/bin/python3"), reverse=True)
    ]
    return [python for python in [sys.executable, *named, *kept] if python]


def find_python() -> str:
    for python in candidates():
        version = probed_version(python)
        if version is not None and version >= OLDEST:
            return python
    give_up(
        "no Python >= 3.11 with venv and ensurepip was found, neither the one that runs this "
        f"({sys.executable}, {sys.version.split()[0]}) nor python3.13, python3.12 or python3.11 "
        "on PATH or in pyenv's folder.\n      Install one (on Debian and Ubuntu: "
        "`apt install python3 python3-venv`), then run this again."
    )
    raise AssertionError  # give_up does not return


def wanted_stamp() -> str:
    """What the environment depends on: change any of it and it is installed again."""
    project = (ROOT / "pyproject.toml").read_bytes()
    return f"{hashlib.sha256(project).hexdigest()} {ROOT}"


def run(*command: str | Path) -> None:
    """Run a step quietly; show all that it said if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout)
        give_up(f"failed: {' '.join(str(part) for part in command)}")


def make_venv() -> None:
    """A usable `.venv`: one that is broken, too old or moved is made anew.

    Its pip installs into the others too.
    """
    version = probed_version(str(PYTHON)) if PYTHON.exists() else None
    if version is None or version < OLDEST:
        python = find_python()
        say(f"making .venv with {python}")
        run(python, "-m", "venv", "--clear", VENV)
    if not is_installed(VENV) and not pip_is_new_enough(PYTHON):
        say("upgrading pip in .venv")
        run(*PIP, "install", "--upgrade", "pip>=25.1")


def pip_is_new_enough(python: Path) -> bool:
    """Dependency groups (PEP 735) need pip 25.1."""
    shown = subprocess.run(
        [str(python), "-m", "pip", "--version"], capture_output=True, text=True, check=False
    )
    found = re.match(r"pip (\d+)\.(\d+)", shown.stdout)
    return found is not None and (int(found[1]), int(found[2])) >= (25, 1)


def is_installed(folder: Path) -> bool:
    stamp = folder / STAMP.name
    return stamp.exists() and stamp.read_text() == wanted_stamp()


def install(folder: Path, group: str, *more: str | Path) -> None:
    """The package, editable, and a dependency group of it; nothing if that is there already."""
    if is_installed(folder):
        return
    # An interrupted install must not look finished.
    (folder / STAMP.name).unlink(missing_ok=True)
    say(f"installing into {folder.name} (a minute or two the first time)")
    into = ("--python", folder / "bin" / "python")
    run(*PIP, *into, "install", "-e", ".", "--group", group, *more)
    (folder / STAMP.name).write_text(wanted_stamp())


def install_elsewhere(python: str, folder: Path, *more: str | Path) -> bool:
    """An environment beside ours, for the tests alone; False if it could not be made."""
    try:
        if not is_installed(folder):
            say(f"making {folder.name} with {python}")
            run(python, "-m", "venv", "--clear", "--without-pip", folder)
            # Most of what is there is never imported: what is, Python compiles itself.
            install(folder, "test", "--no-compile", *more)
    except SystemExit:
        return False  # it has said why
    return True


def other_pythons() -> dict[str, str]:
    """Version -> interpreter, for each that is here and new enough but is not that of `.venv`."""
    found: dict[str, str] = {}
    own = probed_version(str(PYTHON))
    for python in candidates():
        version = probed_version(python)
        if version is not None and version >= OLDEST and version != own:
            found.setdefault(".".join(map(str, version)), python)
    return dict(sorted(found.items()))


def ensure_others() -> dict[str, Path | None]:
    """An environment for each other Python that is here: name -> interpreter, None if none."""
    made: dict[str, Path | None] = {}
    for version, python in other_pythons().items():
        folder = ROOT / f".venv-{version}"
        done = install_elsewhere(python, folder)
        made[f"Python {version}"] = folder / "bin" / "python" if done else None
    return made


LOWEST = ROOT / ".venv-lowest"


def lowest_versions(project: str) -> list[str]:
    """A pin at its lower bound for each `"name>=version"` of a pyproject.toml.

    Read line by line, because Python 3.8, which may run this, has no tomllib.
    """
    return [
        f"{name}=={version}"
        for name, version in re.findall(r'^ {4}"([\w-]+)(?:\[[\w,]+\])?>=([\w.]+)', project, re.M)
    ]


def ensure_lowest() -> Path | None:
    """An environment with every dependency at its lower bound; None if it cannot be made.

    With the oldest Python that is here: to have both from the same time.
    """
    pythons = {
        **other_pythons(),
        ".".join(map(str, probed_version(str(PYTHON)) or ())): str(PYTHON),
    }
    oldest = min(pythons, key=lambda version: [int(part) for part in version.split(".")])
    pins = ROOT / "build" / "lowest-versions.txt"
    pins.parent.mkdir(exist_ok=True)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pins.write_text("\n".join(lowest_versions(project)) + "\n")
    done = install_elsewhere(pythons[oldest], LOWEST, "--constraint", pins)
    return LOWEST / "bin" / "python" if done else None


def ensure() -> Path:
    """Make the environment if need be; return its interpreter."""
    make_venv()
    install(VENV, "dev")
    return PYTHON


def ensure_all() -> dict[str, Path | None]:
    """Ours, and at the same time those beside it, one after another -> the latter by name."""
    make_venv()
    with ThreadPoolExecutor(max_workers=1) as beside:
        others = beside.submit(lambda: {**ensure_others(), "lowest versions": ensure_lowest()})
        ensure()
        return others.result()


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["all"]):
        sys.stderr.write("usage: python tools/setup_env.py [all]\n")
        return 2
    if arguments:
        ensure_all()
    else:
        ensure()
    say(f"ready: {PYTHON.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
