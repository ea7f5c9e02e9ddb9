"""For tests of programs that use Kitaru: a store for each test, and a clean end.

One process works with one store from its first flow on. A suite wants a fresh
one for every test, and nothing of the last test running into the next.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kitaru import app as _app
from kitaru import settings as _settings
from kitaru.errors import KitaruStateError


@contextmanager
def isolated_store(folder: str | os.PathLike[str], *, timeout: float = 5.0) -> Iterator[Path]:
    """Let flows run against a store of their own in ``folder`` while inside.

    It wins over whatever else names a store; all other settings stay. At the
    end executions get ``timeout`` seconds to finish; if some are running even
    then they are handed back, the store is closed, and ``KitaruStateError``
    says so, because a test that leaves something running has not seen all
    that it did. Not for threads that run flows elsewhere meanwhile: a process
    has one store at a time.

    >>> import tempfile, kitaru
    >>> @kitaru.flow
    ... def greet(name: str) -> str:
    ...     return f"hello {name}"
    >>> with tempfile.TemporaryDirectory() as folder, isolated_store(folder):
    ...     greet.run("you").wait()
    ...     len(kitaru.KitaruClient().executions.list())
    'hello you'
    1
    """
    outside = _app.set_aside()
    with _settings.also("kitaru.testing", {"store": os.fspath(folder)}):
        try:
            yield Path(folder)
        finally:
            left = _app.close(timeout)
            _app.use(outside)
    if left:
        raise KitaruStateError(
            f"{left} execution(s) were still running {timeout:g} s after the end: wait() for "
            "what you start, or allow more with isolated_store(folder, timeout=...)",
            code="executions-still-running",
        )
