"""What somebody meant who misspelt a name."""

from __future__ import annotations

from collections.abc import Iterable

MAX_CHARACTERS = 100


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known name that is nearest, if any is near; letter case does not count.

    >>> nearest("Compelted", ["completed", "failed"])
    ['completed']
    """
    import difflib

    by_folded = {each.casefold(): each for each in known}
    found = difflib.get_close_matches(name[:MAX_CHARACTERS].casefold(), by_folded, n=1, cutoff=0.6)
    return [by_folded[each] for each in found]
