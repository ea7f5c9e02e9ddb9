"""``kitaru.memory``: durable state beyond one execution, as programs and flows use it.

In the body of a flow reads and writes are facts of the execution: a resume sees what
its first life saw, and writes nothing twice. In a checkpoint there is no memory: what
its body reads would be no part of what identifies the call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from kitaru import app as _app
from kitaru._core.memory import Scope, check_key, check_scope_type, check_version
from kitaru._core.packed import MAX_PACKED_BYTES, pack, unpack
from kitaru._core.values import decode, encode
from kitaru._engine.context import Attempt, Place, here
from kitaru._engine.learning import learn, write_once
from kitaru._store.protocol import MemoryRow, RecordedMemory, Store
from kitaru.errors import KitaruContextError
from kitaru.lookup import checked_limit
from kitaru.memories import (
    DEFAULT_LIMIT,
    Memories,
    entry_of,
    find,
    not_found,
    payload_of,
    versions,
)
from kitaru.model import MemoryEntry

Entries = list[MemoryEntry]

_outside: Scope | None = None
"""The scope of code outside of flows, once it was configured."""

_inside: ContextVar[tuple[Attempt, Scope] | None] = ContextVar("kitaru_memory", default=None)
"""The scope that a flow chose, and in which attempt: another one begins with its own."""


class Memory:
    """Versioned values under keys, durable beyond one execution.

    >>> import kitaru
    >>> @kitaru.flow
    ... def visit() -> int:
    ...     count = (kitaru.memory.get("visits") or 0) + 1
    ...     kitaru.memory.set("visits", count)
    ...     return count
    >>> visit.run().wait(), visit.run().wait()
    (1, 2)
    """

    def configure(self, scope: str | None = None, scope_type: str | None = None) -> None:
        """Choose whose memory is meant from here on: in this flow's code, or in this process.

        ``scope_type`` is ``namespace`` (what a ``scope`` alone means), ``flow`` or
        ``execution``. In a flow ``scope`` may be left out for the last two: this flow, this
        execution; without any call it is this flow. Outside of flows it has to be said.

        >>> import kitaru
        >>> kitaru.memory.configure(scope="team")
        >>> kitaru.memory.set("tone", "formal")
        >>> kitaru.memory.get("tone")
        'formal'
        """
        global _outside
        place = _place("configure()")
        if scope_type is not None:
            check_scope_type(scope_type)
        if place is None:
            if scope is None:
                raise _without_scope("configure()")
            _outside = _memories().find_scope(scope, scope_type or "namespace")
        elif scope is None:
            own = _own(place, scope_type or "flow")
            if own is None:
                raise _without_scope("configure(scope_type='namespace')")
            _inside.set((place.run.top, own))
        else:
            run = place.run
            memories = Memories(run.store, run.row.project, run.env)
            found = memories.find_scope(scope, scope_type or "namespace")
            _inside.set((run.top, found))

    def get(self, key: str, version: int | None = None) -> Any:
        """The newest value of a key, or that of a version; None if there is none, or a tombstone.

        A ``version`` that there never was raises ``KitaruNotFoundError``.
        """
        key, version = check_key(key), check_version(version)
        place, where = _where("get()")
        if place is None:
            app = _app.current()
            found = _found(app.store, app.project, where, key, version)
            payload = None if found is None else found.row.payload
            return None if payload is None else decode(payload, what=f"memory {key!r}")
        store, project = place.run.store, place.run.row.project
        fact = learn(
            place,
            "memory.get()",
            _asking(place, where, key, version),
            lambda: _read(_found(store, project, where, key, version)),
        )
        if fact["version"] is None:
            return None
        payload = unpack(fact.get("value"))
        if payload is None:
            payload = payload_of(store, project, where, key, fact["version"])
        return decode(payload, what=f"memory {key!r}")

    def set(self, key: str, value: Any) -> None:
        """Write a new version of a key; durable on return.

        A flow writes once: in a later life the same value under the same key, for the n-th
        time in this place, is the write that is recorded.
        """
        key = check_key(key)
        place, where = _where("set()")
        payload = encode(value, what=f"memory {key!r}")
        if place is None:
            _memories().set(key, value, scope=where.name, scope_type=where.type)
            return
        row = MemoryRow(where.type, where.name, key, None, place.run.env.now(), payload)
        name = _writing(where, key, payload.digest.hex())
        write_once(place, "memory.set()", name, row)

    def list(self, *, limit: int = DEFAULT_LIMIT) -> Entries:
        """The newest version of each key, by key; deleted ones are left out."""
        limit = checked_limit(limit)

        def look(store: Store, project: str, where: Scope) -> list[RecordedMemory]:
            return store.list_memories(
                project=project, scope_type=where.type, scope=where.name, limit=limit
            )

        return _entries("list()", [limit], look)

    def history(self, key: str, *, limit: int = DEFAULT_LIMIT) -> Entries:
        """Every version of a key, tombstones too, newest first; empty if there is none."""
        key, limit = check_key(key), checked_limit(limit)

        def look(store: Store, project: str, where: Scope) -> list[RecordedMemory]:
            return versions(store, project, where, key, limit)

        return _entries("history()", [key, limit], look)

    def delete(self, key: str) -> None:
        """Leave a tombstone as the newest version of a key; what was there stays its history."""
        key = check_key(key)
        place, where = _where("delete()")
        if place is None:
            app = _app.current()
            if (found := find(app.store, app.project, where, key, None)) and found.row.payload:
                _memories().delete(key, scope=where.name, scope_type=where.type)
            return
        row = MemoryRow(where.type, where.name, key, None, place.run.env.now(), None)
        write_once(place, "memory.delete()", _writing(where, key, ""), row)


memory = Memory()


# --- whose memory ------------------------------------------------------------------------


def _place(what: str) -> Place | None:
    """Where the caller stands; None: outside of flows. In a checkpoint it raises."""
    place = here.get()
    if place is None:
        return None
    place.check()
    if place.call is not None:
        raise KitaruContextError(
            f"kitaru.memory.{what} was called inside checkpoint {place.call.spec.name!r}: call it "
            "in the flow itself and pass the value to the checkpoint, so that it is part of what "
            "the call is recognised by",
            code="inside-checkpoint",
        )
    return place


def _where(what: str) -> tuple[Place | None, Scope]:
    place = _place(what)
    if place is None:
        if _outside is None:
            raise _without_scope(what)
        return None, _outside
    chosen = _inside.get()
    if chosen is not None and chosen[0] is place.run.top:
        return place, chosen[1]
    own = _own(place, "flow")
    assert own is not None
    return place, own


def _own(place: Place, scope_type: str) -> Scope | None:
    row = place.run.row
    names = {"flow": row.flow_id, "execution": row.exec_id}
    return Scope(scope_type, names[scope_type]) if scope_type in names else None


def _without_scope(what: str) -> KitaruContextError:
    return KitaruContextError(
        f"kitaru.memory.{what} does not know whose memory is meant: in the body of a flow it is "
        'the flow\'s; elsewhere call kitaru.memory.configure(scope="team") first',
        code="memory-without-scope",
    )


def _memories() -> Memories:
    app = _app.current()
    return Memories(app.store, app.project, app.env)


# --- facts -------------------------------------------------------------------------------


def _asking(place: Place, where: Scope, *what: Any) -> str:
    # A replay asks in its own name for what its source asked for in its own.
    is_own = where == _own(place, "execution")
    return json.dumps([where.type, None if is_own else where.name, *what])


def _writing(where: Scope, *what: Any) -> str:
    return json.dumps([*where, *what])


def _found(
    store: Store, project: str, where: Scope, key: str, version: int | None
) -> RecordedMemory | None:
    found = find(store, project, where, key, version)
    if found is None and version is not None:
        raise not_found(where, key, version, deleted=False)
    return found


def _read(found: RecordedMemory | None) -> dict[str, Any]:
    """What a read came to, with all that it takes to read it again."""
    payload = None if found is None else found.row.payload
    if found is None or payload is None:
        return {"version": None}
    if len(payload.data) > MAX_PACKED_BYTES:
        return {"version": found.version}
    return {"version": found.version, "value": pack(payload)}


def _entries(
    what: str, asked: list[Any], look: Callable[[Store, str, Scope], list[RecordedMemory]]
) -> Entries:
    place, where = _where(what)
    if place is None:
        app = _app.current()
        store, project = app.store, app.project
        fact: Mapping[str, Any] = _seen(where, look(store, project, where))
    else:
        store, project = place.run.store, place.run.row.project
        fact = learn(
            place,
            f"memory.{what}",
            _asking(place, where, *asked),
            lambda: _seen(where, look(store, project, where)),
        )
    of = Scope(*fact["scope"])
    return [entry_of(store, project, of, **entry) for entry in fact["entries"]]


def _seen(where: Scope, found: list[RecordedMemory]) -> dict[str, Any]:
    entries = [
        {
            "key": each.row.key,
            "version": each.version,
            "at": each.row.at,
            "exec_id": each.exec_id,
            "deleted": each.row.payload is None,
        }
        for each in found
    ]
    return {"scope": list(where), "entries": entries}
