"""``client.memories``: durable memory as a program or a person outside of flows works with it.

Needs a store, a project and a clock, and no engine. What flows do with their memory
is ``remembering.py``: there reads and writes are facts of the execution.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from kitaru._core.memory import Scope, check_key, check_scope, check_version
from kitaru._core.payload import Payload
from kitaru._core.values import decode, encode
from kitaru._store.protocol import Forget, MemoryRow, RecordedMemory, Remember, Store
from kitaru.env import Env
from kitaru.errors import KitaruNotFoundError
from kitaru.lookup import checked_limit, find_row
from kitaru.model import MemoryEntry, MemoryScope
from kitaru.records import instant

DEFAULT_LIMIT = 100

Entries = list[MemoryEntry]
Scopes = list[MemoryScope]


class Memories:
    """``client.memories``: versioned values under keys, in scopes.

    ``scope_type`` is ``namespace`` (any name, shared by who knows it), ``flow`` (a flow's name
    or id) or ``execution`` (an execution's id, or a unique part of it).

    >>> import kitaru
    >>> memories = kitaru.KitaruClient().memories
    >>> memories.set("tone", "formal", scope="house").version
    1
    >>> memories.set("tone", "friendly", scope="house").version
    2
    >>> memories.get("tone", scope="house").load()
    'friendly'
    >>> [entry.load() for entry in memories.history("tone", scope="house")]
    ['friendly', 'formal']
    >>> memories.purge("tone", scope="house")
    2
    """

    def __init__(self, store: Store, project: str, env: Env) -> None:
        self._store = store
        self._project = project
        self._env = env

    def get(
        self,
        key: str,
        *,
        scope: str,
        scope_type: str = "namespace",
        version: int | None = None,
    ) -> MemoryEntry:
        """The newest version of a key, or this one.

        Raises ``KitaruNotFoundError`` if there is none, or if the newest is a tombstone.
        """
        key, where = check_key(key), self.find_scope(scope, scope_type)
        version = check_version(version)
        found = find(self._store, self._project, where, key, version)
        if found is None or (version is None and found.row.payload is None):
            raise not_found(where, key, version, deleted=found is not None)
        return self._entry(where, found)

    def list(
        self, *, scope: str, scope_type: str = "namespace", limit: int = DEFAULT_LIMIT
    ) -> Entries:
        """The newest version of each key of a scope, by key; deleted ones are left out."""
        where = self.find_scope(scope, scope_type)
        found = self._store.list_memories(
            project=self._project,
            scope_type=where.type,
            scope=where.name,
            limit=checked_limit(limit),
        )
        return [self._entry(where, each) for each in found]

    def history(
        self,
        key: str,
        *,
        scope: str,
        scope_type: str = "namespace",
        limit: int = DEFAULT_LIMIT,
    ) -> Entries:
        """Every version of a key, tombstones too, newest first; empty if there is none."""
        key, where = check_key(key), self.find_scope(scope, scope_type)
        found = versions(self._store, self._project, where, key, checked_limit(limit))
        return [self._entry(where, each) for each in found]

    def set(
        self, key: str, value: Any, *, scope: str, scope_type: str = "namespace"
    ) -> MemoryEntry:
        """Write a new version of a key -> that version. Durable on return."""
        key, where = check_key(key), self.find_scope(scope, scope_type)
        return self._write(where, key, encode(value, what=f"memory {key!r}"))

    def delete(self, key: str, *, scope: str, scope_type: str = "namespace") -> MemoryEntry:
        """Leave a tombstone as the newest version of a key -> that; its history stays.

        Raises ``KitaruNotFoundError`` if there is nothing to delete.
        """
        self.get(key, scope=scope, scope_type=scope_type)
        return self._write(self.find_scope(scope, scope_type), key, None)

    def purge(self, key: str, *, scope: str, scope_type: str = "namespace") -> int:
        """Remove every version of a key for good -> how many there were.

        Raises ``KitaruNotFoundError`` if there is none. Executions keep what they have read of
        it, but for values beyond 32 KiB, which a resume then cannot read any more.
        """
        key, where = check_key(key), self.find_scope(scope, scope_type)
        removed = self._forget(where, key)
        if not removed:
            raise not_found(where, key, None, deleted=False)
        return removed

    def purge_scope(self, scope: str, *, scope_type: str = "namespace") -> int:
        """Remove every version of every key of a scope -> how many there were."""
        where = self.find_scope(scope, scope_type)
        removed = self._forget(where, None)
        if not removed:
            raise KitaruNotFoundError(
                f"there is nothing in the memory of {described(where)}: scopes() lists those "
                "that there are",
                code="memory-not-found",
            )
        return removed

    def scopes(self, *, limit: int = DEFAULT_LIMIT) -> Scopes:
        """All scopes in which something was ever written, but for purged ones."""
        found = self._store.list_scopes(project=self._project, limit=checked_limit(limit))
        return [MemoryScope(scope_type, scope) for scope_type, scope in found]

    def find_scope(self, scope: str, scope_type: str = "namespace") -> Scope:
        """The scope that somebody means who names a flow, or part of an execution's id."""
        where = check_scope(scope, scope_type)
        if where.type == "execution":
            return Scope(where.type, find_row(self._store, self._project, where.name).exec_id)
        if where.type == "flow":
            rows = self._store.list_executions(project=self._project, flow=where.name, limit=1)
            return Scope(where.type, rows[0].flow_id if rows else where.name)
        return where

    def _write(self, where: Scope, key: str, payload: Payload | None) -> MemoryEntry:
        row = MemoryRow(where.type, where.name, key, None, self._env.now(), payload)
        version: int = self._store.apply(Remember(self._project, row))
        return self._entry(where, RecordedMemory(row, version, None))

    def _forget(self, where: Scope, key: str | None) -> int:
        removed: int = self._store.apply(Forget(self._project, where.type, where.name, key))
        return removed

    def _entry(self, where: Scope, found: RecordedMemory) -> MemoryEntry:
        return entry_of(
            self._store,
            self._project,
            where,
            key=found.row.key,
            version=found.version,
            at=found.row.at,
            exec_id=found.exec_id,
            deleted=found.row.payload is None,
        )


# --- shared with what flows say ----------------------------------------------------------


def find(
    store: Store, project: str, where: Scope, key: str, version: int | None
) -> RecordedMemory | None:
    return store.find_memory(
        project=project, scope_type=where.type, scope=where.name, key=key, version=version
    )


def versions(
    store: Store, project: str, where: Scope, key: str, limit: int
) -> list[RecordedMemory]:
    return store.list_versions(
        project=project, scope_type=where.type, scope=where.name, key=key, limit=limit
    )


def entry_of(
    store: Store,
    project: str,
    where: Scope,
    *,
    key: str,
    version: int,
    at: int,
    exec_id: str | None,
    deleted: bool,
) -> MemoryEntry:
    """The record of a version; its value is read when it is asked for."""
    return MemoryEntry(
        key=key,
        version=version,
        scope_type=where.type,
        scope=where.name,
        written_at=instant(at),
        exec_id=exec_id,
        deleted=deleted,
        _read=partial(payload_of, store, project, where, key, version),
        _load=partial(value_of, store, project, where, key, version),
    )


def payload_of(store: Store, project: str, where: Scope, key: str, version: int) -> Payload:
    """The value of a version that was seen; ``KitaruNotFoundError`` if it was purged since."""
    found = find(store, project, where, key, version)
    if found is None or found.row.payload is None:
        raise not_found(where, key, version, deleted=False)
    return found.row.payload


def value_of(store: Store, project: str, where: Scope, key: str, version: int) -> object:
    what = f"memory {key!r}, version {version}"
    return decode(payload_of(store, project, where, key, version), what=what)


def not_found(where: Scope, key: str, version: int | None, *, deleted: bool) -> KitaruNotFoundError:
    of = "" if version is None else f"version {version} of "
    what = f"there is no {of}{key!r} in the memory of {described(where)}"
    if deleted:
        what += " any more, it was deleted"
    return KitaruNotFoundError(
        f"{what}: look at its history(), or at list() for what there is", code="memory-not-found"
    )


def described(where: Scope) -> str:
    return f"{where.type} {where.name!r}"
