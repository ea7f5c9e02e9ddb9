"""The model of a store: the protocol over plain dicts, written to be read.

What a sentence of the protocol means is decided here first; the databases are
held against it by the conformance suite and by a stream of random operations.
It keeps nothing when the process ends, and asks nothing of threads but that
one at a time is inside.
"""

from __future__ import annotations

from kitaru._store.reference.store import ReferenceStore

__all__ = ["ReferenceStore"]
