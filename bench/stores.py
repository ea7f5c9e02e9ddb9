"""Fresh stores in folders of their own, opened in this process one after another.

A program opens one store; a benchmark opens hundreds, so this file closes what
the library leaves to the end of the process.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw

import kitaru
from bench.bare import BareStore
from kitaru import app as kitaru_app

_END_SECONDS = 60.0
"""A flow that was left behind by an error must not keep the benchmark from saying so."""


@dataclass
class Bench:
    """Where and how much to measure."""

    folder: Path
    full: bool
    rounds: int
    say: Callable[[str], None]
    _made: int = 0

    def fresh(self, name: str) -> Path:
        """A path that nothing stands at."""
        self._made += 1
        return self.folder / f"{self._made:04d}-{name}"

    def bare(self, row_bytes: int, *, log_grows: bool = False) -> BareStore:
        return BareStore(self.fresh("bare.db"), row_bytes, log_grows=log_grows)

    @contextmanager
    def store(self, path: Path | None = None) -> Iterator[Path]:
        """A store that this process's flows use, closed and, if it was fresh, removed."""
        where = path or self.fresh("store")
        app = open_store(where)
        try:
            yield where
        finally:
            close_store(app)
            if path is None:
                shutil.rmtree(where)


def open_store(path: Path) -> kitaru_app.Kitaru:
    kitaru_app.use(None)
    kitaru.configure(store=path)
    return kitaru_app.current()


def close_store(app: kitaru_app.Kitaru) -> None:
    app.runner.wait_idle(_END_SECONDS)
    app.runner.ownership.retire()
    app.store.close()
    kitaru_app.use(None)


def recorded_row_bytes(path: Path) -> int:
    """The bytes of the values of the last recorded call: what the bare row has to carry.

    Read when the store is closed.
    """
    connection = apsw.Connection(str(path / "kitaru.db"))
    columns = [row[1] for row in connection.execute("pragma table_info(calls)")]
    total = " + ".join(f"coalesce(length(cast({name} as blob)), 0)" for name in columns)
    query = f"select {total} from calls order by id desc limit 1"
    ((found,),) = connection.execute(query).fetchall()
    connection.close()
    assert isinstance(found, int)
    return found


def database_bytes(path: Path) -> int:
    """All that a closed store takes: the database, a log that is left, the blobs."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
