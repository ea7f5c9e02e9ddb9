"""``python -m bench``: measure the rows that are named, or all, and print the table."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    from bench.rows import ROWS

    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument(
        "--full", action="store_true", help="more of everything, 1,000,000 executions"
    )
    parser.add_argument("--rounds", type=int, default=None, help="figure and limit in turns")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, to a file")
    parser.add_argument(
        "--folder", type=Path, default=ROOT, help="the disk that is measured (here: the project's)"
    )
    options = parser.parse_args()
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"no row {unknown[0]!r}: choose from {', '.join(ROWS)}")
    return run(options, options.rows or list(ROWS))


def run(options: argparse.Namespace, names: list[str]) -> int:
    from bench import table
    from bench.figures import Row
    from bench.rows import ROWS
    from bench.stores import Bench

    folder = Path(tempfile.mkdtemp(prefix=".bench-", dir=options.folder))
    (folder / ".gitignore").write_text("*\n")
    rounds = options.rounds or (9 if options.full else 5)
    bench = Bench(folder, options.full, rounds, Progress(sys.stderr).say)
    # A kill that can be caught cleans up too: a full store is large.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found: list[Row] = []
    failed = 0
    try:
        for name in names:
            try:
                # Notices of the stores and flows that we make by the hundred.
                with contextlib.redirect_stderr(io.StringIO()):
                    for row in ROWS[name](bench):
                        found.append(row)
            except Exception:
                # The other rows are worth having; the exit status tells.
                failed += 1
                bench.say(f"the row {name!r} failed:")
                traceback.print_exc()
    except (KeyboardInterrupt, SystemExit):
        # What was measured until then is worth having too.
        failed += 1
        bench.say("stopped: the rows below were measured before")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        bench.say("")
    about = machine(folder)
    table.show(found, ", ".join(f"{key} {value}" for key, value in about.items()))
    if options.json:
        table.write_json(options.json, found, about)
    return 1 if failed else 0


class Progress:
    """One line on stderr, over itself on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[2K{text}")
        elif text:
            self._stream.write(f"[{time.monotonic() - self._began:4.0f} s] {text}\n")
        self._stream.flush()


def machine(folder: Path) -> dict[str, Any]:
    import apsw

    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "Python": platform.python_version(),
        "SQLite": apsw.sqlite_lib_version(),
        "on": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def _commit() -> str:
    """Of this checkout; it has none if it is a copy."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    with contextlib.suppress(OSError):
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip() or "none"
    return "none"


if __name__ == "__main__":
    sys.exit(main())
