"""Run a demo in the development environment: `python tools/demo.py [fleet] [--short]`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import setup_env


def main(arguments: list[str]) -> None:
    python = str(setup_env.ensure())
    name = "demo.py"
    if arguments[:1] == ["fleet"]:
        name, arguments = "fleet.py", arguments[1:]
    script = str(setup_env.ROOT / "examples" / "code_census" / name)
    # exec: Ctrl-C and the exit status belong to the demo, not to us.
    os.execv(python, [python, script, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
