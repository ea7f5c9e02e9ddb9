"""What each setting accepts: of what somebody said, the value that counts, or an error.

Every error names who said it, in words that it is given. Knows nothing of who wins.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from kitaru._core.limits import BOUNDS
from kitaru._core.names import MAX_NAME_LENGTH, check_name, shortened
from kitaru._core.queueing import MAX_LIMIT
from kitaru._core.retry import check_retries
from kitaru._store.address import Address, is_address, is_nearly_address, masked
from kitaru._store.objects import Place
from kitaru.errors import KitaruUsageError

Cache = bool | Literal["refresh"]

MAX_CONCURRENCY = 10_000
"""More threads than this no machine serves; it is a slip of the pen."""

MAX_TRANSACTIONS = 1_000
"""Each is a connection; no server is set to serve more of them to one process."""

LEAST_LOG_BYTES = 64 * 1024
"""A log is cut into eight files, and a file should hold more than a line."""


def check_cache(value: object, said_by: str) -> Cache:
    """``value`` if it is one of ``cache=``'s; the error names ``said_by``."""
    if value is True or value is False:
        return value
    if type(value) is str and value == "refresh":
        return "refresh"
    raise KitaruUsageError(
        f'{said_by}={shortened(value)}: pass True, False or "refresh"', code="option-invalid"
    )


def _checked_store(value: object, said_by: str) -> str:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(path, Address):
        return path
    if type(path) is str and is_nearly_address(path):
        raise KitaruUsageError(
            f"{said_by} begins like the address of a PostgreSQL database, and is none: write "
            "postgresql://USER@HOST/DATABASE, without the name of a driver; or, for a folder of "
            "such a name, ./ before it",
            code="store-place-invalid",
        )
    if type(path) is str and path.strip() and "\0" not in path:
        return Address(path) if is_address(path) else path
    raise KitaruUsageError(
        f"{said_by}={shortened(masked(path) if isinstance(path, str) else path)}: pass the path "
        "of a folder, or a PostgreSQL URL",
        code="option-invalid",
    )


def _checked_objects(value: object, said_by: str) -> str:
    return str(Place.parse(value, said_by))


def _checked_project(value: object, said_by: str) -> str:
    try:
        return check_name("project", value)
    except KitaruUsageError as error:
        raise KitaruUsageError(f"{said_by}: {error}", code="name-invalid") from None


def _checked_runner(value: object, said_by: str) -> str:
    return _one_of(value, said_by, "thread", "worker")


def _checked_at_exit(value: object, said_by: str) -> str:
    return _one_of(value, said_by, "finish", "leave")


def _one_of(value: object, said_by: str, *allowed: str) -> str:
    if type(value) is str and value in allowed:
        return value
    choices = " or ".join(f'"{one}"' for one in allowed)
    raise KitaruUsageError(f"{said_by}={shortened(value)}: pass {choices}", code="option-invalid")


def _checked_number(least: int, most: int) -> Callable[[object, str], int]:
    def checked(value: object, said_by: str) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return int(value)
        raise KitaruUsageError(
            f"{said_by}={shortened(value)}: pass a whole number from {least:,} to {most:,}",
            code="option-invalid",
        )

    return checked


def _checked_switch(value: object, said_by: str) -> bool:
    if value is True or value is False:
        return value
    raise KitaruUsageError(
        f"{said_by}={shortened(value)}: pass True or False", code="option-invalid"
    )


def _checked_seconds(least: float, most: float) -> Callable[[object, str], float]:
    def checked(value: object, said_by: str) -> float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and least <= value <= most:  # type: ignore[operator]
            return float(value)  # type: ignore[arg-type]
        raise KitaruUsageError(
            f"{said_by}={shortened(value)}: pass a number of seconds from {least:,} to {most:,}",
            code="option-invalid",
        )

    return checked


def _checked_limits(value: object, said_by: str) -> dict[str, int | None]:
    if not isinstance(value, Mapping):
        raise KitaruUsageError(
            f'{said_by}={shortened(value)}: name each limit, as in {{"max_depth": 150}}',
            code="option-invalid",
        )
    return dict(_checked_limit(*limit, said_by) for limit in value.items())


def _checked_limit(name: object, limit: object, said_by: str) -> tuple[str, int | None]:
    """A limit of values by its name, or one of a queue or a key: whatever else has a name."""
    if name not in BOUNDS:
        _check_queue_or_key(name, said_by)
        if limit is None:
            return str(name), None
    least, most = BOUNDS.get(str(name), (0, MAX_LIMIT))
    if type(limit) is not int or not least <= limit <= most:
        raise KitaruUsageError(
            f"{said_by}: {name}={shortened(limit)}: pass a whole number from {least:,} to {most:,}",
            code="option-invalid",
        )
    return str(name), limit


def checked_queue_limit(name: object, limit: object, said_by: str) -> tuple[str, int]:
    """The limit of a queue or a key, or a ``KitaruUsageError``: those of values are none."""
    if name in BOUNDS:
        raise KitaruUsageError(
            f"{said_by}: {name} is a limit of values, of which each process has its own: say it "
            "with kitaru.configure(limits=…), KITARU_LIMITS or [tool.kitaru.limits]",
            code="option-invalid",
        )
    if limit is None:
        raise KitaruUsageError(
            f"{said_by}: {shortened(name)} cannot be None: pass a number, or take the limit away "
            "with `kitaru limits remove`",
            code="option-invalid",
        )
    found, most = _checked_limit(name, limit, said_by)
    assert most is not None
    return found, most


def _check_queue_or_key(name: object, said_by: str) -> None:
    wrong = f"{said_by}: {shortened(name)} is no limit"
    # What begins like the limits of values is one of them that was mistyped.
    if type(name) is not str or name.startswith("max_"):
        check_is_option(name if type(name) is str else "", wrong, {n: n for n in BOUNDS})
    elif len(name) > MAX_NAME_LENGTH or not name.isprintable() or name != name.strip() or not name:
        raise KitaruUsageError(
            f"{said_by}: {shortened(name)} names neither a queue nor a key: use 1 to "
            f"{MAX_NAME_LENGTH} characters that can be printed, without blanks around them",
            code="name-invalid",
        )


CHECKS: Mapping[str, Callable[[object, str], Any]] = {
    "store": _checked_store,
    "project": _checked_project,
    "cache": check_cache,
    "retries": check_retries,
    "runner": _checked_runner,
    "max_concurrency": _checked_number(1, MAX_CONCURRENCY),
    "max_transactions": _checked_number(1, MAX_TRANSACTIONS),
    "at_exit": _checked_at_exit,
    "at_exit_seconds": _checked_seconds(0, 1_000_000_000),
    "full_traceback": _checked_switch,
    "logs": _checked_switch,
    "max_log_bytes": _checked_number(LEAST_LOG_BYTES, 1 << 34),
    "max_log_folder_bytes": _checked_number(LEAST_LOG_BYTES, 1 << 44),
    "objects": _checked_objects,
    "lease_seconds": _checked_seconds(2, 3600),
    "poll_seconds": _checked_seconds(0.1, 60),
    "limits": _checked_limits,
}


def check_is_option(name: str, wrong: str, known: Mapping[str, str]) -> None:
    if name in known:
        return
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    if near:
        raise KitaruUsageError(f"{wrong}; did you mean {near[0]!r}?", code="option-unknown")
    raise KitaruUsageError(f"{wrong}; there are {', '.join(known)}.", code="option-unknown")


_SWITCHES: Mapping[str, Cache] = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
    "refresh": "refresh",
}


def spelled(name: str, variable: str, text: str) -> object:
    """The value that a variable's text spells; what spells none stays text, and is refused."""
    if name in ("cache", "full_traceback", "logs"):
        known = [word for word in _SWITCHES if name == "cache" or word != "refresh"]
        if text.lower() not in known:
            raise KitaruUsageError(
                f"{variable}={shortened(text)}: use {', '.join(known)}", code="option-invalid"
            )
        return _SWITCHES[text.lower()]
    counts = name == "retries" or name.startswith("max_")
    if counts and re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    if name == "limits":
        pairs = [part.partition("=") for part in text.split(",")]
        return {key.strip(): _number_or_text(number.strip()) for key, _, number in pairs}
    if name.endswith("_seconds") and re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{0,18})?", text):
        return float(text)
    return text


def _number_or_text(text: str) -> object:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else text
