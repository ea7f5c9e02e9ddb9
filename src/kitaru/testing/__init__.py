"""For tests of programs that use Kitaru: stores for each test, time that obeys, crashes on demand.

``isolated_store`` gives a test a store of its own on the disk, ``in_memory`` one that
is gone afterwards, with a clock that passes long sleeps at once and answers that were
prepared; ``crash_everywhere`` kills a flow at every point and looks whether it comes to
the same. Loaded at first use, so that pytest's plugin costs nothing where none is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kitaru.testing.crashing import CrashReport, crash_everywhere
    from kitaru.testing.isolated import isolated_store
    from kitaru.testing.world import World, in_memory

__all__ = ("CrashReport", "World", "crash_everywhere", "in_memory", "isolated_store")

_WHERE = {
    "CrashReport": "crashing",
    "World": "world",
    "crash_everywhere": "crashing",
    "in_memory": "world",
    "isolated_store": "isolated",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
