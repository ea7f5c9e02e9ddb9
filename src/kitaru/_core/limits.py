"""What values and names may measure, and what holds in this process.

The settings say it (``limits``), and push what they found here: what is checked by
it stands below them. What was recorded under higher limits stays readable under lower ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Limits(NamedTuple):
    """What a value may measure. Beyond it: ``KitaruValueError``, before anything is recorded."""

    max_payload_bytes: int = 64 * 1024 * 1024
    max_depth: int = 100
    max_name_characters: int = 200

    def __str__(self) -> str:
        return ", ".join(f"{name}={limit}" for name, limit in self._asdict().items())


DEFAULT_LIMITS = Limits()

BOUNDS: dict[str, tuple[int, int]] = {
    "max_payload_bytes": (1024, 1 << 30),
    # Python's own stack ends at 1,000 frames, of which a level of some kinds takes five.
    "max_depth": (10, 200),
    # Names of 200 characters may stand in any store, so no program may refuse them.
    "max_name_characters": (200, 1000),
}
"""The least and the most that each limit may be set to."""

READABLE = Limits(max_payload_bytes=BOUNDS["max_payload_bytes"][1], max_depth=200)
"""What may be read back, whatever holds now for what is written."""

_in_force = DEFAULT_LIMITS
_find: Callable[[], Limits] | None = None


def in_force() -> Limits:
    """The limits of this process, as the settings said them last."""
    return _in_force


def use(limits: Limits) -> None:
    """These hold from now on."""
    global _in_force
    _in_force = limits


def found_by(find: Callable[[], Limits]) -> None:
    """``find`` says what the settings of this moment are; it may look at files."""
    global _find
    _find = find


def looked_up() -> Limits:
    """What the settings say at this moment, also before the first run asked them.

    For what is about to be refused: it may look at files.
    """
    return _in_force if _find is None else _find()
