"""What people may call things: flows, checkpoints, keys, tags, waits, projects.

One rule for every kind of name, so that what was accepted once can be stored,
shown in a terminal, typed back and found again. Knows nothing of what a name
stands for, nor whether it is taken.
"""

from __future__ import annotations

from collections.abc import Iterable

from kitaru._core.limits import DEFAULT_LIMITS, looked_up
from kitaru.errors import KitaruUsageError

MAX_NAME_LENGTH = DEFAULT_LIMITS.max_name_characters

_SHOWN = 60

_qualname = type.__dict__["__qualname__"].__get__
"""Past the metaclass, whose attributes are the user's code."""

# Line and paragraph separators, and the characters that reorder the text around
# them (Unicode UAX #9): a name that shows as another name is no name.
_UNSHOWABLE = frozenset("\u2028\u2029\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e") | frozenset(
    "\u2066\u2067\u2068\u2069"
)


def check_name(kind: str, name: object) -> str:
    """Return ``name`` in its one spelling (Unicode NFC), or say what is wrong with it.

    ``kind`` says whose name it is ("flow", "key" …) and only serves the
    message. Raises ``KitaruUsageError`` for anything but an exact ``str`` of 1
    to 200 characters (or what the limits say) without control characters and surrogates.

    >>> check_name("key", "order-42")
    'order-42'
    >>> len(check_name("tag", "cafe\\u0301"))
    4
    """
    if type(name) is not str:
        raise KitaruUsageError(
            f"a {kind} name is a str, not {_described(name)}: pass str(...) of what you mean",
            code="name-invalid",
        )
    # NFC shortens a text to a quarter at most in practice; what is longer than
    # that is refused before any work in proportion to its size.
    limit = MAX_NAME_LENGTH
    if len(name) > limit:
        limit = looked_up().max_name_characters
    if len(name) <= 4 * limit:
        name = _checked(kind, name)
        if len(name) <= limit:
            return name
    raise KitaruUsageError(
        f"the {kind} name {shortened(name)} has {len(name):,} characters: use at most {limit}",
        code="name-invalid",
    )


def shortened(value: object) -> str:
    """The repr of ``value``, at most 60 characters long, made without running user code.

    >>> shortened("x" * 1000)[-5:]
    "xxx…'"
    """
    cls = type(value)
    if cls is str:
        assert isinstance(value, str)
        return repr(value) if len(value) <= _SHOWN else repr(value[: _SHOWN - 1] + "…")
    # One by one with `is`: `in` would ask a metaclass's __eq__.
    if cls is int or cls is float or cls is bool or value is None:
        return _number(value)
    if cls is bytes:
        assert isinstance(value, bytes)
        return repr(value[: _SHOWN - 1]) + ("…" if len(value) >= _SHOWN else "")
    return f"an object of type {_qualname(cls)[:_SHOWN]}"


def _number(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an int of more than 4,300 digits
        return "an enormous int"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _described(value: object) -> str:
    shown = shortened(value)
    return shown if shown.startswith("an ") else f"{type(value).__name__} {shown}"


def _checked(kind: str, name: str) -> str:
    if not name or name.isspace():
        raise KitaruUsageError(
            f"the {kind} name {shortened(name)} is empty: give it a name", code="name-invalid"
        )
    if name.isascii() and name.isprintable():
        return name
    import unicodedata

    for character in name:
        if unicodedata.category(character) in ("Cc", "Cs") or character in _UNSHOWABLE:
            raise KitaruUsageError(
                f"the {kind} name {shortened(name)} contains {character!a}, a control "
                "character, separator or surrogate: use characters that can be seen",
                code="name-invalid",
            )
    return unicodedata.normalize("NFC", name)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that somebody meant who misspelt it, if one is near; case does not count.

    >>> nearest("Compelted", ["completed", "failed"])
    'completed'
    """
    import difflib

    by_folded = {each.casefold(): each for each in known}
    found = difflib.get_close_matches(name[:MAX_NAME_LENGTH].casefold(), by_folded, n=1)
    return by_folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``nearest`` as the end of a message: `` Did you mean 'completed'?``, or nothing."""
    meant = nearest(name, known)
    return "" if meant is None else f" Did you mean {meant!r}?"
