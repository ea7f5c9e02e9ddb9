"""What is noticed about a call before its body runs: drift on a resume, volatile arguments."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru._core.drift import differing_arguments
from kitaru._core.inputs import digest_inputs
from kitaru._core.values.codecs import ARRAYS, module_to_import
from kitaru._core.values.paths import module_of, type_name
from kitaru._core.volatile import find_volatile
from kitaru._engine.events import of_call
from kitaru._engine.fingerprint import code_digest
from kitaru.errors import FailureOrigin, KitaruDivergenceError, KitaruError

if TYPE_CHECKING:
    from kitaru._engine.call import Call
    from kitaru._engine.services import Services
    from kitaru._store.protocol import Place

_REMEDY = (
    "make the argument durable (kitaru.now(), kitaru.uuid4(), kitaru.random()), leave it out "
    "with @checkpoint(ignore=[...]), or name the call with id="
)


class Drift(NamedTuple):
    """A call that is recorded with other inputs, and that a person decides about."""

    record: Place
    what: str
    """Which arguments differ."""


def watch_for_drift(call: Call) -> Drift | None:
    """Warn, note, or stop a strict flow, if an unclaimed success stands where this call is new.

    Never a wrong value, never a stuck execution: a plain call then runs. One with
    ``effect="once"`` never does by itself; nor does any in a strict flow, where a person
    at the terminal is asked.
    """
    run, parent = call.run, call.parent
    places = run.places(
        parent.identity,
        parent.number,
        call.branch.label,
        call.spec.id,
    )
    if not places.by_identity:
        return None
    arguments = call.inputs.arguments_json()
    if call.named is not None:
        drifted = places.by_identity.get(call.identity)
        if drifted is not None and drifted.arguments == arguments:
            drifted = None
    else:
        drifted = places.open.find_drift(run.claimed, call.number, arguments)
    if drifted is None:
        return None
    # Told once: the next new call is not the drift of the same record.
    run.claimed.add(drifted.identity)
    names = differing_arguments(drifted.arguments, arguments)
    what = ", ".join(names) if names else "the order of equal calls"
    strict = bool(run.spec.get("strict"))
    asked = call.named is None and (call.spec.once or (strict and run.services.asker.can_ask()))
    _tell(call, what, strict=strict and not asked, asked=asked)
    return Drift(drifted, what) if asked else None


def _tell(call: Call, what: str, *, strict: bool, asked: bool) -> None:
    run, spec = call.run, call.spec
    happens = (
        "a person decides whether it runs"
        if asked
        else "it was not run"
        if strict
        else f"its recorded result is returned all the same, because id={call.named!r} names it"
        if call.named is not None
        else "it runs again"
    )
    message = (
        f"checkpoint {spec.name!r} of execution {run.exec_id} was recorded with other inputs "
        f"({what} changed): {happens}. To keep recorded results, {_REMEDY}"
    )
    reason = f"{what} changed: {happens}"
    run.note("drift", message, of_call(call, "call.drifted", reason=reason))
    if strict:
        run.stopped_by = run.stopped_by or KitaruDivergenceError(
            f"strict flow: {message}",
            exec_id=run.exec_id,
            failure_origin=FailureOrigin.DIVERGENCE,
            checkpoint=spec.name,
            code="call-drifted",
        )
        raise run.stopped_by
    run.services.say(message, once=("drift", run.exec_id, spec.id))


_MUTABLE = frozenset({list, dict, set, bytearray})
_MAX_ARRAY_BYTES = 1 << 20
"""Arrays beyond are not looked at again: it would double what passing them costs."""


def watch_for_mutation(call: Call) -> None:
    """Say once that a body changed an argument in place: a recalled call would not.

    Looks at lists, dicts, sets and small arrays among the arguments, after the body.
    """
    spec = call.spec
    if call.inputs.preview is None or "mutation" in spec.said:
        return
    suspects = {
        name: value
        for name, value in call.bound.items()
        if type(value) in _MUTABLE or (type(value) in ARRAYS and _is_small(value))
    }
    if not suspects:
        return
    before = call.inputs.arguments
    try:
        # Not the others: an array beside a list may be large.
        after = digest_inputs(
            suspects,
            binder=call.binder,
            code_digest=code_digest,
            file_facts=lambda _: None,
            ignore=spec.ignore,
        ).arguments
    except KitaruError:
        # Filled with what could be no argument: a hint must not cost the body's result.
        after = {}
    changed = [name for name in suspects if before.get(name) != after.get(name)]
    if not changed:
        return
    spec.said.add("mutation")
    names = ", ".join(repr(name) for name in changed)
    message = (
        f"checkpoint {spec.name!r} changed its argument {names} in place: where its result is "
        "recalled or reused the body does not run, and the change does not happen. Work on a "
        "copy and return it"
    )
    call.run.note("mutation", message)
    call.run.services.say(message)


def _is_small(array: Any) -> bool:
    return bool(array.nbytes <= _MAX_ARRAY_BYTES)


def watch_for_classes(call: Call, classes: list[type]) -> None:
    """Say of classes that a result brought along why another process may not find them.

    One that a function made exists where that function has run; one whose module
    was first loaded by this body is there in another life only if that loads it too.
    """
    late = [cls for cls in classes if _was_loaded_late(module_to_import(cls), call.modules)]
    for cls in late:
        module, name = module_to_import(cls), type_name(cls)
        message = (
            f"checkpoint {call.spec.name!r} returned a {name}, whose module was not loaded when "
            "the body began: a resume that recalls the result without running the body would not "
            f"find it. Put `import {module}` at the top of the flow's module"
        )
        call.run.note("class", message)
        call.run.services.say(message, once=("class", call.spec.id, name))
    rest = [cls for cls in classes if cls not in late]
    say_local_classes(call.run.services, f"checkpoint {call.spec.name!r} returned", rest)


def say_local_classes(services: Services, happened: str, classes: list[type]) -> None:
    """Say once of each class that a function made where its values can be read."""
    for cls in classes:
        name = type_name(cls)
        if "<locals>" in name:
            services.say(
                f"{happened} a {name}, a class that is made inside a function: it is recorded, and "
                "can be read only by a process in which that class exists. Move it to the top "
                f"level of {module_of(cls)}",
                once=("class", happened, name),
            )


def _was_loaded_late(module: str, loaded: int) -> bool:
    # Modules stand in the order in which they were loaded.
    return module in islice(sys.modules, loaded, None)


def watch_for_volatile(call: Call) -> None:
    """Say once, in the first run already, that an argument would change after a crash."""
    spec = call.spec
    if spec.volatile_looks <= 0 or call.named is not None or call.parent.call is not None:
        return
    spec.volatile_looks -= 1
    bound = call.bound
    if spec.ignore:
        bound = {name: value for name, value in bound.items() if name not in spec.ignore}
    found = find_volatile(bound, now=call.run.env.now(), known=call.run.learnt_values)
    if found is None:
        return
    spec.volatile_looks = 0
    name, kind = found
    call.run.services.say(
        f"checkpoint {spec.name!r}: argument {name!r} looks like {kind}; after a crash this call "
        "would run again: use kitaru.now(), kitaru.uuid4() or kitaru.random(), or "
        f"@checkpoint(ignore=[{name!r}])"
    )
