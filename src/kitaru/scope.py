"""What a running flow or checkpoint may say: log, now, uuid4, random, current.

Each finds where it stands through the context; in the wrong place it raises
``KitaruContextError`` that names the right one.
"""

from __future__ import annotations

import json
import uuid as _uuid
from datetime import UTC, datetime
from typing import Any

from kitaru._core.identity import (
    asked_identity,
    derive_random,
    derive_uuid4,
    idempotency_key,
)
from kitaru._core.metadata import MAX_METADATA_BYTES, checked_metadata
from kitaru._core.names import check_name
from kitaru._core.values.secrets import masked_tree
from kitaru._engine.context import Place, here
from kitaru._engine.unwind import Why
from kitaru._store.protocol import LearntRow
from kitaru.errors import KitaruContextError, KitaruUsageError
from kitaru.masking import NEEDLES


def _place(what: str, right_place: str = "inside a function decorated with @flow") -> Place:
    place = here.get()
    if place is None:
        raise KitaruContextError(
            f"kitaru.{what} was called outside a flow: call it {right_place}", code="outside-flow"
        )
    place.check()
    return place


def _identity(place: Place, kind: str, name: str | None) -> bytes:
    if name is not None:
        name = check_name(kind, name)
    n = place.branch.ask(kind, name)
    attempt = place.attempt
    return asked_identity(attempt.identity, attempt.number, place.branch.digest, kind, name, n)


def now(name: str | None = None) -> datetime:
    """The time at which this execution first asked, in every life the same: aware UTC.

    Recorded with the next transaction, and before any body starts. ``name``
    tells askings apart that may come in another order.

    >>> import kitaru
    >>> @kitaru.flow
    ... def year() -> int:
    ...     return kitaru.now().year
    >>> year.run().wait() > 2000
    True
    """
    place = _place("now()")
    run = place.run
    identity = _identity(place, "now", name)
    recorded = run.learnt.get(identity)
    if recorded is None:
        recorded = str(run.env.now())
        run.learnt[identity] = recorded
        run.queue(LearntRow(identity, "now", recorded))
    value = datetime.fromtimestamp(int(recorded) / 1e6, UTC)
    run.learnt_values.add(value)
    return value


def uuid4(name: str | None = None) -> _uuid.UUID:
    """A random UUID that is the same in every life: derived from the execution's seed.

    >>> import kitaru
    >>> @kitaru.flow
    ... def version() -> int | None:
    ...     return kitaru.uuid4().version
    >>> version.run().wait()
    4
    """
    place = _place("uuid4()")
    value = _uuid.UUID(derive_uuid4(place.run.row.seed, _identity(place, "uuid4", name)))
    place.run.learnt_values.add(value)
    return value


def random(name: str | None = None) -> float:
    """A random float in [0, 1) that is the same in every life of this execution.

    >>> import kitaru
    >>> @kitaru.flow
    ... def roll() -> bool:
    ...     return 0 <= kitaru.random() < 1
    >>> roll.run().wait()
    True
    """
    place = _place("random()")
    value = derive_random(place.run.row.seed, _identity(place, "random", name))
    place.run.learnt_values.add(value)
    return value


def current_execution_id() -> str | None:
    """The id of the execution in which this code runs; None outside a flow.

    >>> current_execution_id() is None
    True
    """
    place = here.get()
    return None if place is None else place.run.exec_id


class Current:
    """Where the calling code runs; every property is fresh."""

    __slots__ = ("_place",)

    def __init__(self, place: Place) -> None:
        self._place = place

    def __repr__(self) -> str:
        return f"<current {self.flow_name!r} {self.exec_id} checkpoint={self.checkpoint!r}>"

    @property
    def exec_id(self) -> str:
        return self._place.run.exec_id

    @property
    def flow_name(self) -> str:
        return self._place.run.row.flow_name

    @property
    def checkpoint(self) -> str | None:
        """The name of the checkpoint whose body this is; None in the flow itself."""
        call = self._place.call
        return None if call is None else call.spec.name

    @property
    def attempt(self) -> int:
        """Which try this is, from 1: of the checkpoint, else of the execution."""
        call = self._place.call
        return self._place.run.attempt if call is None else self._place.attempt.number

    @property
    def idempotency_key(self) -> str:
        """For services outside: the same for every attempt of this call, in every life.

        In the flow itself: the same for the whole execution.
        """
        run, call = self._place.run, self._place.call
        return idempotency_key(run.exec_id, run.key_root if call is None else call.key)

    @property
    def scheduled_at(self) -> datetime | None:
        """The fire time for which a schedule started this execution, however late it was: aware
        UTC. None if somebody else started it. A replay has that of its source."""
        fired = self._place.run.spec.get("schedule")
        return None if fired is None else datetime.fromtimestamp(fired["at"] / 1e6, UTC)

    @property
    def cancelled(self) -> bool:
        """Whether this code is to stop: its execution is cancelled or out of time, or the
        ``timeout=`` of a checkpoint whose body this is has passed."""
        run = self._place.run
        if run.ended is not None and run.ended.why in (Why.CANCELLED, Why.TIMED_OUT):
            return True
        return bool(run.lost) and run.is_lost(self._place.attempt)

    @property
    def parking(self) -> bool:
        """Whether this code is being unwound because the execution leaves this process."""
        ended = self._place.run.ended
        return ended is not None and ended.why in (Why.HANDED_BACK, Why.PARKED)


def current() -> Current:
    """Where the calling code runs: execution, flow, checkpoint, attempt, idempotency key.

    >>> import kitaru
    >>> @kitaru.flow
    ... def who() -> str:
    ...     return kitaru.current().flow_name
    >>> who.run().wait()
    'who'
    """
    place = here.get()
    if place is None:
        raise KitaruContextError(
            "kitaru.current() was called outside a flow: call it inside a function decorated "
            "with @flow or @checkpoint; kitaru.current_execution_id() returns None there",
            code="outside-flow",
        )
    return Current(place)


def check() -> None:
    """A point at which this code may be ended: raises if it is to stop, else costs nothing.

    For loops that run long without a call of Kitaru. Raises where the execution is cancelled,
    out of time or leaving this process, and in the body of a checkpoint whose ``timeout=``
    has passed; what it raises is no ``Exception``, so ``finally`` and ``with`` blocks run and
    ``except Exception`` does not catch it.

    >>> import kitaru
    >>> @kitaru.checkpoint
    ... def total(numbers: list[int]) -> int:
    ...     found = 0
    ...     for number in numbers:
    ...         kitaru.check()
    ...         found += number
    ...     return found
    >>> @kitaru.flow
    ... def report() -> int:
    ...     return total([1, 2, 3])
    >>> report.run().wait()
    6
    """
    _place("check()", "inside a function decorated with @flow or @checkpoint")


def log(**metadata: Any) -> None:
    """Attach metadata to the checkpoint whose body this is, else to the execution.

    Plain JSON values (None, bool, int, float, str, list, dict with text keys), kept
    exactly; of a name logged twice dicts are merged and otherwise the last wins.
    Recorded with the next transaction of its scope. At most 64 KiB in all.
    Values of resolved secrets are masked.

    >>> import kitaru
    >>> @kitaru.flow
    ... def noted() -> None:
    ...     kitaru.log(cost={"tokens": 3})
    >>> noted.run().wait()
    """
    place = _place("log()", "inside a function decorated with @flow or @checkpoint")
    checked = {
        check_name("metadata", name): checked_metadata(name, value)
        for name, value in metadata.items()
    }
    if NEEDLES:
        checked = masked_tree(checked)
    call = place.call
    merged = dict(place.run.metadata if call is None else call.metadata)
    _merge(merged, checked)
    _check_size(merged)
    if call is None:
        place.run.set_metadata(lambda all_: _merge(all_, checked))
    else:
        call.metadata = merged


def _check_size(merged: dict[str, Any]) -> None:
    size = len(json.dumps(merged, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if size > MAX_METADATA_BYTES:
        raise KitaruUsageError(
            f"kitaru.log(): the metadata of this scope would have {size:,} bytes, more than "
            f"{MAX_METADATA_BYTES:,} in all: return large values from a checkpoint instead",
            code="metadata-refused",
        )


def _merge(into: dict[str, Any], metadata: dict[str, Any]) -> None:
    for name, value in metadata.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            into[name] = {**into[name], **value}
        else:
            into[name] = value
