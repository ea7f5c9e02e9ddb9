"""`python -m code_census`: take the census of the standard library of this Python."""

from __future__ import annotations

import argparse
import json
import platform
import sysconfig
import warnings
from pathlib import Path

from code_census.census import census

BROKEN = Path(__file__).resolve().parent / "broken"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="code_census", description=__doc__)
    parser.add_argument("--key", help="name this census: the same key goes on where it stopped")
    parser.add_argument("--root", type=Path, default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--broken", type=Path, default=BROKEN)
    parser.add_argument("--target", type=Path, default=Path("census.html"))
    parser.add_argument("--max-files", type=int, default=None)
    return parser.parse_args()


def main() -> None:
    # The tree holds files with invalid escapes on purpose; the parser need not say so.
    warnings.simplefilter("ignore", SyntaxWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    said = options()
    handle = census.options(key=said.key).run(
        root=said.root.resolve(),
        broken=said.broken.resolve(),
        target=said.target.resolve(),
        title=f"Python {platform.python_version()}, the standard library",
        max_files=said.max_files,
    )
    summary = handle.wait()
    figures = {"files": summary.files, "lines": summary.lines, "problems": len(summary.problems)}
    print(json.dumps({"exec_id": handle.exec_id, "report": str(said.target), **figures}))


if __name__ == "__main__":
    main()
