"""The writes about what outlasts executions, or goes with them: memory, deleting, importing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kitaru._store.protocol.reads import Bundle
from kitaru._store.protocol.rows import MemoryRow


class Remember(NamedTuple):
    """Write a version of a key of memory from outside any flow -> int: its version."""

    project: str
    row: MemoryRow


class Delete(NamedTuple):
    """Delete a finished execution with all its descendants -> list of their exec_ids.

    They are gone for who reads, at once, but for a :class:`Tombstone` each; their rows are
    removed by :class:`Sweep`. :class:`NotInState` if one of them is not finished, or if
    somebody unfinished needs it: its parent, or a replay of it. Memory of its own scope
    goes with it. Conditioned on the epoch seen.
    """

    execution: int
    epoch: int
    at: int


class Sweep(NamedTuple):
    """Remove rows of a deleted execution, ``limit`` at most -> int: how many.

    Fewer than ``limit``: none is left. What others have reused of it stays named.
    """

    exec_id: str
    limit: int


class DropBlobs(NamedTuple):
    """Remove the files of these large values that no row names -> list of digests removed.

    Asked and done inside the transaction, in which every writer makes sure of the files
    that it is about to name.
    """

    digests: Sequence[bytes]


class Forget(NamedTuple):
    """Remove every version of a key of memory, or (None) of all keys of its scope -> int:
    how many versions there were."""

    project: str
    scope_type: str
    scope: str
    key: str | None


class Import(NamedTuple):
    """Record executions that were exported elsewhere, each with all that is of it -> list of
    their :class:`ExecutionRow`.

    All of them, or :class:`AlreadyRecorded` if an id, or a key, is taken. They are finished;
    what they reused and is not here stays named.
    """

    bundles: Sequence[Bundle]
