"""One line on stderr for a person who did not ask: the only door for notices.

Knows nothing of why; results and errors never come this way. A notice that
cannot be shown is dropped: no program may fail because nobody listens.
"""

from __future__ import annotations

import sys

from kitaru.masking import NEEDLES, mask

_said: set[str] = set()


def notice(line: str) -> None:
    """Say one line on stderr; what would break out of it is escaped, secrets are masked."""
    shown = one_line(mask(line) if NEEDLES else line)
    try:
        # stderr is None under pythonw and in some daemons, and may be closed
        # or unable to encode: none of that is the caller's affair.
        stream = sys.stderr
        stream.write(f"kitaru: {shown}\n")
        stream.flush()
    except (AttributeError, OSError, ValueError):
        pass


def one_line(text: str) -> str:
    r"""The text with all that would break out of a line escaped.

    >>> one_line("two\nlines")
    'two\\nlines'
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def notice_once(line: str) -> None:
    """Say a line that this process has not said yet."""
    if line not in _said:
        _said.add(line)
        notice(line)
