"""What code in a flow keeps by name, and finds again: ``kitaru.save`` and ``kitaru.load``.

Each finds where it stands through the context. What is saved is encoded at once
and recorded with the outcome of the attempt, in the same transaction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kitaru import app as _app
from kitaru._core.names import check_name, did_you_mean, shortened
from kitaru._core.packed import MAX_PACKED_BYTES, pack, unpack
from kitaru._core.values import decode, encode
from kitaru._engine.context import Place, here
from kitaru._engine.learning import learn
from kitaru._store.protocol import ArtifactRow
from kitaru.artifacts import Artifacts, choose
from kitaru.errors import KitaruContextError, KitaruUsageError
from kitaru.lookup import find_row

SAVE_TYPES = ("prompt", "response", "context", "input", "output", "blob")

MAX_SAVED = 1000
"""In one attempt: an attempt's outcome is one transaction."""


def save(name: str, value: Any, *, type: str = "output", tags: Sequence[str] | None = None) -> None:
    """Keep a value by name beside the result of the checkpoint whose body this is.

    Recorded with the outcome of the attempt, also where that is a failure, and not
    before: if the process dies the body runs again and saves again. The value is taken
    as it is now. ``type`` is one of prompt, response, context, input, output, blob;
    a name is saved once in an attempt. Found again with ``kitaru.load`` and
    ``client.artifacts``.

    >>> import kitaru
    >>> @kitaru.checkpoint
    ... def draft(topic: str) -> str:
    ...     kitaru.save("prompt", f"Write about {topic}", type="prompt", tags=["v1"])
    ...     return f"All about {topic}"
    >>> @kitaru.flow
    ... def write(topic: str) -> str:
    ...     return draft(topic)
    >>> handle = write.run("rivers")
    >>> handle.wait()
    'All about rivers'
    >>> kitaru.KitaruClient().artifacts.list(handle.exec_id, name="prompt")[0].load()
    'Write about rivers'
    """
    place = _in_a_checkpoint()
    call = place.call
    assert call is not None
    name = check_name("artifact", name)
    if type not in SAVE_TYPES:
        hint = did_you_mean(type, SAVE_TYPES) if isinstance(type, str) else ""
        raise KitaruUsageError(
            f"type={shortened(type)}: pass one of {', '.join(SAVE_TYPES)}.{hint}",
            code="option-invalid",
        )
    listed = _checked_tags(tags)
    payload = encode(value, what=f"artifact {name!r} of checkpoint {call.spec.name!r}")
    number = place.attempt.number
    row = ArtifactRow(
        call.identity, number, name, type, json.dumps(listed), call.run.env.now(), payload
    )
    if len(call.saved) >= MAX_SAVED:
        raise KitaruUsageError(
            f"kitaru.save({name!r}): checkpoint {call.spec.name!r} has saved {MAX_SAVED:,} values "
            "in this attempt, which is the limit: store a list or a dict of them by one name",
            code="artifact-refused",
        )
    if not call.keep(place.attempt, row):
        raise KitaruUsageError(
            f"kitaru.save({name!r}): checkpoint {call.spec.name!r} has saved a value by this name "
            "in this attempt: give the second one another name",
            code="artifact-refused",
        )


def load(exec_id: str, name: str) -> Any:
    """What an execution saved by this name, or what its checkpoint of this name returned.

    ``exec_id`` is any unique part of an execution's id, this one's too; ``name`` may also be
    the id of an artifact. Raises ``KitaruNotFoundError`` if there is none and
    ``KitaruStateError`` that lists them if there are several. In a flow what was read
    is a fact that every life of the execution sees alike; in a checkpoint it is read
    whenever the body runs. Outside, use ``client.artifacts``.

    >>> import kitaru
    >>> @kitaru.checkpoint
    ... def draft(topic: str) -> str:
    ...     return f"All about {topic}"
    >>> @kitaru.flow
    ... def write(topic: str) -> str:
    ...     return draft(topic)
    >>> @kitaru.flow
    ... def publish(draft_of: str) -> str:
    ...     return kitaru.load(draft_of, "draft").upper()
    >>> written = write.run("rivers")
    >>> written.wait()
    'All about rivers'
    >>> publish.run(written.exec_id).wait()
    'ALL ABOUT RIVERS'
    """
    place = here.get()
    if place is None:
        raise KitaruContextError(
            "kitaru.load() was called outside a flow: call it inside a function decorated with "
            "@flow or @checkpoint; elsewhere use KitaruClient().artifacts",
            code="outside-flow",
        )
    place.check()
    name = _checked_name(name)
    if place.call is not None:
        # Through the program's store: the process of one body has none, and says so.
        app = _app.current()
        return choose(app.store, find_row(app.store, app.project, exec_id), name).load()
    # Where it was found is part of the asking: the same name elsewhere is something else.
    fact = learn(place, "load()", f"{exec_id}/{name}", lambda: _looked_up(place, exec_id, name))
    payload = unpack(fact.get("value"))
    if payload is not None:
        return decode(payload, what=f"artifact {fact['artifact']}")
    run = place.run
    return Artifacts(run.store, run.row.project).get(fact["artifact"]).load()


def _looked_up(place: Place, exec_id: str, name: str) -> dict[str, Any]:
    run = place.run
    found = choose(run.store, find_row(run.store, run.row.project, exec_id), name)
    payload = found._read()
    fact = {"artifact": found.artifact_id}
    return fact if len(payload.data) > MAX_PACKED_BYTES else {**fact, "value": pack(payload)}


def _in_a_checkpoint() -> Place:
    place = here.get()
    if place is None or place.call is None:
        where = "outside a flow" if place is None else "in a flow, outside its checkpoints"
        raise KitaruContextError(
            f"kitaru.save() was called {where}: call it inside a function decorated with "
            "@checkpoint, with whose outcome it is recorded",
            code="outside-checkpoint",
        )
    place.check()
    return place


def _checked_tags(tags: Sequence[str] | None) -> list[str]:
    if tags is None:
        return []
    if not isinstance(tags, (list, tuple)):
        raise KitaruUsageError(
            f"tags={shortened(tags)}: pass a list of names", code="option-invalid"
        )
    return [check_name("tag", tag) for tag in tags]


def _checked_name(name: object) -> str:
    # The id of an artifact is longer than a name.
    if type(name) is str and ":" in name and len(name) < 1000:
        return name
    return check_name("artifact", name)
