"""Large payloads of a database: compressed, named by their digest, never changed.

Each has a row in the table ``blobs``; the bytes stand in it, or in an object store. The row
is committed by itself before the transaction that names it begins, so a crash leaves at
worst a row that nobody names; inside that transaction the row is locked, so that a
housekeeper who is about to drop it waits and looks again.

An object has its row before it is there, and a name that is never used again: so one without
a row is nobody's, for ever, and may be removed at any time and however late.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Protocol

from kitaru._core.payload import Payload
from kitaru._store.blobs import compressed, unpacked
from kitaru._store.facts import Session
from kitaru._store.objects import Objects
from kitaru._store.queries import Queries
from kitaru._store.rows import Row
from kitaru.env import Env
from kitaru.errors import KitaruBackendError

CRASH_POINTS: tuple[str, ...] = ("blob_dropped", "blob_named", "blob_written")


class Asked(Session, Protocol):
    """Where the table is."""

    place: str

    def read(self, sql: str, parameters: Row) -> list[Row]:
        """Beside the transaction that is under way, where there is one beside it."""
        ...


class TableBlobs:
    """What :class:`kitaru._store.blobs.Blobs` is in a folder, in the table ``blobs``.

    ``objects``: where new ones are put; None: into the table. Either way those that stand
    elsewhere already are found.
    """

    def __init__(
        self, database: Asked, queries: Queries, env: Env, objects: Objects | None = None
    ) -> None:
        self._database = database
        self._queries = queries
        self._env = env
        self.objects = objects

    def path(self, digest: bytes) -> str:
        """Where it is, in words."""
        return f"blob {digest.hex()} of {self._database.place}"

    def keep(self, payload: Payload) -> None:
        packed = compressed(payload.data)
        if self.objects is not None:
            self._keep_object(self.objects, payload.digest, packed)
        else:
            self._keep_row(payload.digest, packed, None, len(packed))
        self._env.crash_point("blob_written")

    def _keep_row(
        self, digest: bytes, data: bytes | None, address: str | None, size: int
    ) -> str | None:
        """Make its row if there is none -> where the bytes stand by that row; None: in it."""
        now = self._env.now()
        found = self._database.read(self._queries.touch_blob, (digest, now))
        if not found or (data is not None and found[0][0] is not None):
            values = (digest, data, address, size, now)
            found = self._database.read(self._queries.keep_blob, values)
        ((address,),) = found
        return address

    def _keep_object(self, objects: Objects, digest: bytes, packed: bytes) -> None:
        name = f"{digest.hex()[:2]}/{digest.hex()[2:]}-{self._env.random_bytes(8).hex()}"
        address = self._keep_row(digest, None, objects.address(name), len(packed))
        self._env.crash_point("blob_named")
        # Somebody else's object may be on its way, or never have come.
        if address is not None and objects.size(address) is None:
            objects.put(address, packed)

    def find(self, digest: bytes) -> bytes | None:
        found = self._database.read(self._queries.find_blob, (digest,))
        if not found:
            return None
        packed, address = found[0]
        if packed is None:
            packed = self._fetch(address)
        data = unpacked(packed) if packed is not None else None
        return data if data is not None and _names(digest, data) else None

    def _fetch(self, address: str) -> bytes | None:
        if self.objects is None:
            raise KitaruBackendError(
                f"a large value stands in {address}, and this process was not told of an object "
                "store: set KITARU_OBJECTS (or objects= of kitaru.configure) and the credentials "
                "as they are where flows run",
                code="objects-unknown",
            )
        return self.objects.get(address)

    def is_there(self, digest: bytes) -> bool:
        """Inside the transaction that is about to name it; it stays until that ends."""
        return bool(self._database.rows(self._queries.lock_blob, (digest,)))

    def drop(self, digest: bytes) -> None:
        """Its row only: the object goes when that is committed, with the leftovers."""
        self._database.change(self._queries.drop_blob, (digest,))
        self._env.crash_point("blob_dropped")

    def list_files(self, *, before: int) -> Iterator[tuple[bytes, int]]:
        for digest, size in self._database.read(self._queries.list_blobs, (before,)):
            yield bytes(digest), int(size)

    def drop_leftovers(self, *, before: int) -> int:
        """Remove objects without a row -> how many. (A row is whole or not there.)"""
        if self.objects is None:
            return 0
        count = 0
        for page in self.objects.list(before=before):
            known = {
                address for (address,) in self._database.read(self._queries.known_objects, (page,))
            }
            left = [address for address in page if address not in known]
            self.objects.remove(left)
            count += len(left)
        return count


def _names(digest: bytes, data: bytes) -> bool:
    return blake2b(data, digest_size=32).digest() == digest
