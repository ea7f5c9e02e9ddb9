"""Write docs/errors/README.md, the table of all error codes: `python tools/error_index.py`.

The codes and what they mean come from `src/kitaru/codes.py`, the only list.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "errors"

HEADINGS = {
    "your_code": "Your code",
    "usage": "How Kitaru is used",
    "machine": "The machine",
}

INTRODUCTION = """\
# Error codes

Every error has a code, which stays the same when words change: `error.code` in Python, `code` in
the JSON of the command line. Python prints it below the message, and `kitaru explain CODE` prints
its page. There are three kinds, by who has to mend it; the command line says *error in your code*,
*error in use* or *error on this machine*, and JSON says `kind`.
"""

ABOUT = {
    "your_code": (
        "The flow, its checkpoints and classes. Mend the code, then retry: what succeeded is not "
        "run again."
    ),
    "usage": "How Kitaru is called, set or asked. Nothing was recorded, and nothing is lost.",
    "machine": "The store, its disk, this machine or this process. Code and call are right.",
}


def index() -> str:
    """The table as Markdown."""
    sys.path.insert(0, str(ROOT / "src"))
    from kitaru.codes import CODES, Kind

    parts = [INTRODUCTION]
    for kind in Kind:
        rows = [
            f"| [`{code}`]({code}.md) | {meaning} |"
            for code, (of, meaning) in CODES.items()
            if of is kind
        ]
        parts.append(
            f"\n## {HEADINGS[kind]}\n\n{ABOUT[kind]}\n\n| code | what it means |\n|---|---|\n"
            + "\n".join(sorted(rows))
            + "\n"
        )
    return "".join(parts)


if __name__ == "__main__":
    (PAGES / "README.md").write_text(index(), encoding="utf-8")
