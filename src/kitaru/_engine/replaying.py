"""A replay before it exists: what is asked is held against its source, and decided for good.

Whatever is wrong is said here, before anything is recorded or run: an unknown or ambiguous
call, an outcome that does not fit its checkpoint, a source that is not finished, a value
that cannot be read any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kitaru._core.identity import id_digits
from kitaru._core.lifecycle import FINISHED, State, WaitKind
from kitaru._core.names import did_you_mean, shortened
from kitaru._core.naming import shown_name
from kitaru._core.payload import Payload
from kitaru._core.replaying import History, Kept, find_calls, numbered
from kitaru._core.values import decode, encode, encode_pickled
from kitaru._engine import schemas
from kitaru._engine.context import here
from kitaru._engine.execution import FlowSpec, flow_hints
from kitaru._engine.loaded import loaded_spec
from kitaru._engine.replay_spec import ReplaySpec
from kitaru._engine.services import Services
from kitaru._store.protocol import ExecutionRow, PastCall, Store
from kitaru.errors import (
    KitaruContextError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
    KitaruValueError,
)

if TYPE_CHECKING:
    from kitaru._engine.carrying import Past
    from kitaru._engine.children import Child

S = TypeVar("S", "SeenCall", "SeenWait")

EVERYTHING = 1 << 62
"""No row has so high a number."""

MAX_GIVEN_BYTES = 1 << 20
"""Of all outcomes that are given to one replay: they are frozen on the execution."""

MAX_CANDIDATES = 20

_CHECKPOINT, _WAIT = "checkpoint.", "wait."
_WINDOW = 64


class SeenCall(NamedTuple):
    """A call of the source, as people name it."""

    call_id: str
    name: str
    checkpoint_id: str
    identity: bytes
    seq: int


class Replay(NamedTuple):
    """A replay that can be made: its source, what was decided, and the inputs of the flow."""

    source: ExecutionRow
    spec: ReplaySpec
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def prepare_replay(
    services: Services,
    flow: FlowSpec,
    row: ExecutionRow,
    *,
    from_: str | None,
    overrides: Mapping[str, Any] | None,
    inputs: Mapping[str, Any],
) -> Replay:
    """Decide what a replay of ``row`` keeps, runs and is given, or say what stands in the way."""
    _refuse_inside(flow)
    _check_flow(flow, row)
    check_finished(row)
    merged = merge_inputs(flow, row, inputs)
    spec = decide_replay(
        services.store, row, from_=from_, overrides=overrides, changed=merged.changed
    )
    return Replay(row, spec, *flow.binder.unbind(merged.bound))


def replay_of_child(services: Services, past: Past, child: Child) -> Replay | None:
    """What becomes of a child of a replayed execution: it is replayed itself, or is a new one.

    A child with a key is the execution that has the key, as everywhere.
    """
    row = past.child(child) if child.key is None else None
    if row is None:
        return None
    spec = decide_replay(services.store, row, from_=None, overrides=None)
    return Replay(row, spec, (), {})


def decide_replay(
    store: Store,
    row: ExecutionRow,
    *,
    from_: str | None,
    overrides: Mapping[str, Any] | None,
    changed: tuple[str, ...] = (),
) -> ReplaySpec:
    """What a replay by these words does: frozen, so that all of its lives agree."""
    past = store.list_past(row.id, upto=EVERYTHING)
    failed = row.failed_calls if row.status is State.FAILED else ()
    history = History(past, failed=failed)
    calls = seen_calls(row, past)
    named = None if from_ is None else _one_call(row, calls, from_, "from_").identity
    given, waits = _given(row, calls, seen_waits(store, row), overrides)
    _check_readable(store, row, Kept(history, named=named, overridden=given), from_)
    return ReplaySpec(
        source=row.exec_id,
        row=row.id,
        upto=past[-1].id if past else 0,
        from_=from_,
        named=named,
        changed=changed,
        failed=tuple(failed),
        calls=given,
        waits=waits,
    )


def seen_calls(row: ExecutionRow, past: Sequence[PastCall]) -> list[SeenCall]:
    """The calls of an execution, in the order in which they were made."""
    firsts: dict[bytes, PastCall] = {}
    for one in past:
        firsts.setdefault(one.identity, one)
    digits = id_digits(firsts)
    calls = [
        SeenCall(
            f"{row.exec_id}:{one.identity.hex()[:digits]}",
            shown_name(one.checkpoint, row.code_module),
            one.checkpoint,
            one.identity,
            one.seq,
        )
        for one in firsts.values()
    ]
    return sorted(calls, key=lambda call: call.seq)


class SeenWait(NamedTuple):
    """A wait of the source, as people name it."""

    call_id: str
    name: str
    checkpoint_id: str
    identity: bytes
    schema: str | None


def seen_waits(store: Store, row: ExecutionRow) -> list[SeenWait]:
    """What the execution asked of people, in the order of asking."""
    waits = [each.row for each in store.list_waits(row.id) if each.row.kind is WaitKind.INPUT]
    digits = id_digits(wait.identity for wait in waits)
    return [
        SeenWait(
            f"{row.exec_id}:{wait.identity.hex()[:digits]}",
            wait.label,
            wait.label,
            wait.identity,
            wait.schema,
        )
        for wait in waits
    ]


# --- may it be replayed? -----------------------------------------------------------------------


def _refuse_inside(flow: FlowSpec) -> None:
    if here.get() is not None:
        raise KitaruContextError(
            f"a replay of flow {flow.name!r} is made inside a flow, where every resume would make "
            "another one: make it in the program around, or with kitaru executions replay",
            code="replay-inside-flow",
        )


def _check_flow(flow: FlowSpec, row: ExecutionRow) -> None:
    if row.flow_id not in (flow.id, *flow.aliases):
        raise KitaruStateError(
            f"execution {row.exec_id} is one of flow {row.flow_id!r}, not of {flow.id!r}: ask that "
            "flow, or client.executions.replay(...)",
            code="execution-of-another-flow",
        )


def check_finished(row: ExecutionRow) -> None:
    if row.status in FINISHED:
        return
    next_step = {
        State.WAITING: "answer what it waits for, or cancel it",
        State.PENDING: f"go on with it (kitaru executions resume {row.exec_id}), or cancel it",
    }.get(row.status, "wait for its end, or resume it if its process is gone")
    raise KitaruStateError(
        f"execution {row.exec_id} is {row.status}: only a finished one is replayed, because both "
        f"would do what is still to do. First {next_step}; then replay",
        code="source-not-finished",
    )


def _check_readable(
    store: Store, row: ExecutionRow, kept: Kept[PastCall], from_: str | None
) -> None:
    """Read whatever is kept now: found later, a damaged value would stop a replay half-way."""
    attempts = kept.history.attempts
    ids = sorted(
        each.id
        for identity in attempts
        if kept.outcome(identity) is not None
        for each in attempts[identity]
    )
    while ids:
        try:
            loaded = store.load_payloads(row.id, ids[:_WINDOW])
        except KitaruValueError as error:
            raise KitaruValueError(
                f"{error}. A replay would keep it, so none is made: replay from that call "
                "(from_=), or give its outcome (overrides=)",
                checkpoint=error.checkpoint,
                code="record-corrupt",
            ) from None
        if not loaded:
            raise KitaruNotFoundError(
                f"execution {row.exec_id} was deleted meanwhile: see kitaru executions list",
                code="execution-not-found",
            )
        ids = ids[len(loaded) :]


# --- the inputs of the flow --------------------------------------------------------------------


class Merged(NamedTuple):
    """The inputs of a replay, as they were, and the names of those that changed."""

    bound: dict[str, Any]
    before: dict[str, Any]
    changed: tuple[str, ...]


def merge_inputs(flow: FlowSpec, row: ExecutionRow, given: Mapping[str, Any]) -> Merged:
    """The inputs of the source, with those that are given in their places."""
    assert row.inputs is not None
    recorded = decode(row.inputs, what=flow.name, hints=flow_hints(flow))
    assert isinstance(recorded, dict)
    bound: dict[str, Any] = dict(recorded)
    rest = flow.binder.rest_keys
    for name, value in given.items():
        extra = name not in flow.binder.names and rest is not None
        bound[f"**{name}" if extra else name] = value
    changed = tuple(
        name
        for name in bound
        if name not in recorded or not _is_same(flow, bound[name], recorded[name])
    )
    return Merged(bound, recorded, changed)


def _is_same(flow: FlowSpec, one: Any, other: Any) -> bool:
    what = f"flow {flow.name}"
    return one is other or encode(one, what=what) == encode(other, what=what)


# --- which call is meant ------------------------------------------------------------------------


def _one_call(
    row: ExecutionRow, calls: Sequence[S], wanted: object, by: str, what: str = "call"
) -> S:
    if not isinstance(wanted, str) or not wanted:
        raise KitaruUsageError(
            f"{by}={shortened(wanted)}: pass a checkpoint's name, name#2 or a call id, as a str",
            code="option-invalid",
        )
    found = find_calls(calls, wanted)
    if len(found) == 1:
        return found[0]
    if found:
        listed = _listed(calls, found)
        raise KitaruStateError(
            f"{by} {wanted!r} fits {len(found)} {what}s of execution {row.exec_id}: say which one"
            f"{listed}",
            code="replay-call-unclear",
        )
    names = list(dict.fromkeys(call.name for call in calls))
    listed = _listed(calls, calls)
    hint = did_you_mean(wanted.partition("#")[0], names)
    raise KitaruStateError(
        f"{by} {wanted!r} is no recorded {what} of execution {row.exec_id}."
        f"{hint} There are{listed or ' none'}",
        code="replay-call-unclear",
    )


def _listed(calls: Sequence[S], shown: Sequence[S]) -> str:
    names = numbered(calls, shown[:MAX_CANDIDATES])
    lines = [
        f"\n  {name}  {call.call_id.rpartition(':')[2]}"
        for name, call in zip(names, shown, strict=False)
    ]
    more = len(shown) - MAX_CANDIDATES
    return "".join(lines) + (f"\n  and {more} more" if more > 0 else "")


# --- outcomes that are given ----------------------------------------------------------------------


def _given(
    row: ExecutionRow,
    calls: Sequence[SeenCall],
    waits: Sequence[SeenWait],
    overrides: object,
) -> tuple[dict[bytes, tuple[str, Payload]], dict[bytes, tuple[str, str, Payload]]]:
    if overrides is None:
        return {}, {}
    if not isinstance(overrides, Mapping):
        raise KitaruUsageError(
            f"overrides={shortened(overrides)}: pass a dict, for example "
            '{"checkpoint.draft": "another text"}',
            code="override-invalid",
        )
    found: dict[bytes, tuple[str, Payload]] = {}
    answers: dict[bytes, tuple[str, str, Payload]] = {}
    for key, value in overrides.items():
        if not isinstance(key, str) or not key.startswith((_CHECKPOINT, _WAIT)):
            raise KitaruUsageError(
                f"override {shortened(key)}: a key is checkpoint.NAME or wait.NAME, where NAME "
                "may be name#2 or a call id",
                code="override-invalid",
            )
        if key.startswith(_WAIT):
            wait = _one_call(row, waits, key[len(_WAIT) :], "override", "wait")
            _refuse_twice(answers.get(wait.identity), key)
            answers[wait.identity] = (key, wait.name, _answer(row, wait, key, value))
            continue
        call = _one_call(row, calls, key[len(_CHECKPOINT) :], "override")
        _refuse_twice(found.get(call.identity), key)
        found[call.identity] = (key, _encoded(call, key, value))
    _check_size([payload for _, payload in found.values()])
    _check_size([payload for _, _, payload in answers.values()])
    return found, answers


def _refuse_twice(other: tuple[Any, ...] | None, key: str) -> None:
    if other is not None:
        raise KitaruUsageError(
            f"overrides {other[0]!r} and {key!r} mean the same call: leave one out",
            code="override-invalid",
        )


def _answer(row: ExecutionRow, wait: SeenWait, key: str, value: Any) -> Payload:
    """Held against what the wait asked for, as an answer is."""
    data = schemas.answer_of(value, wait=wait.name)
    asked = None if wait.schema is None else schemas.known_type(row.flow_id, wait.schema)
    problems = schemas.find_misfits(data, wait.schema, asked)
    if problems:
        listed = "; ".join(map(str, problems))
        raise KitaruUsageError(
            f"override {key!r} does not fit what the wait asks for: {listed}. Give what fits",
            code="override-invalid",
        )
    return schemas.sealed_answer(data, schema=wait.schema, wait=wait.name)


def _encoded(call: SeenCall, key: str, value: Any) -> Payload:
    from kitaru._core.fitting import misfit
    from kitaru._core.hints import hints_of

    spec = loaded_spec(call.checkpoint_id)
    hint = None if spec is None else hints_of(spec.fn).get("return")
    if spec is not None and "return" in hints_of(spec.fn):
        wrong = misfit(value, hint, "the value")
        if wrong is not None:
            raise KitaruUsageError(
                f"override {key!r}: {wrong}, which {call.name} says that it returns. Give a "
                "value of that type",
                code="override-invalid",
            )
    write = encode_pickled if spec is not None and spec.pickled else encode
    return write(value, what=f"override {key}")


def _check_size(payloads: Sequence[Payload]) -> None:
    size = sum(len(payload.data) for payload in payloads)
    if size > MAX_GIVEN_BYTES:
        raise KitaruUsageError(
            f"the overrides have {size:,} bytes, more than {MAX_GIVEN_BYTES:,} in all: give a "
            "path or a key of what is that large, or change the code that makes it",
            code="override-invalid",
        )
