"""Large payloads in a table of the database: compressed, named by their digest, never changed.

Committed by itself before the transaction that names it begins, so a crash leaves at worst
a row that nobody names; inside that transaction the row is locked, so that a housekeeper
who is about to drop it waits and looks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

from kitaru._core.payload import Payload
from kitaru._store.blobs import compressed, unpacked
from kitaru._store.postgres.database import Database
from kitaru._store.queries import Queries
from kitaru.env import Env


class TableBlobs:
    """What :class:`kitaru._store.blobs.Blobs` is in a folder, in the table ``blobs``."""

    def __init__(self, database: Database, queries: Queries, env: Env) -> None:
        self._database = database
        self._queries = queries
        self._env = env

    def path(self, digest: bytes) -> str:
        """Where it is, in words."""
        return f"blob {digest.hex()} of {self._database.place}"

    def keep(self, payload: Payload) -> None:
        values = (payload.digest, compressed(payload.data), self._env.now())
        self._database.read(self._queries.keep_blob, values)
        self._env.crash_point("blob_written")

    def find(self, digest: bytes) -> bytes | None:
        found = self._database.read(self._queries.find_blob, (digest,))
        if not found:
            return None
        data = unpacked(found[0][0])
        return data if data is not None and _names(digest, data) else None

    def is_there(self, digest: bytes) -> bool:
        """Inside the transaction that is about to name it; it stays until that ends."""
        return bool(self._database.rows(self._queries.lock_blob, (digest,)))

    def drop(self, digest: bytes) -> None:
        self._database.change(self._queries.drop_blob, (digest,))
        self._env.crash_point("blob_dropped")

    def list_files(self, *, before: int) -> Iterator[tuple[bytes, int]]:
        for digest, size in self._database.read(self._queries.list_blobs, (before,)):
            yield bytes(digest), int(size)

    def drop_leftovers(self, *, before: int) -> int:
        return 0  # a row is whole or not there


def _names(digest: bytes, data: bytes) -> bool:
    return blake2b(data, digest_size=32).digest() == digest
