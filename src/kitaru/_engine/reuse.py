"""Whether another execution's outcome serves this call, and the reason either way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru._core import reuse as rules
from kitaru._core.identity import reuse_key, reuse_scope, version_digest
from kitaru._core.payload import Payload
from kitaru._core.values import PICKLED
from kitaru._core.values.codec import is_readable
from kitaru._engine.call import hints_of
from kitaru._engine.fingerprint import Fingerprint, fingerprint
from kitaru._engine.fingerprint.kept import keep_files
from kitaru._store.protocol import CodeRow, SourceRow

if TYPE_CHECKING:
    from kitaru._engine.call import Call


MAX_UNSEEN = 50
MAX_UNSEEN_CHARACTERS = 200


class Source(NamedTuple):
    """The success to reuse."""

    id: int
    payload: Payload
    reason: str
    seconds: float
    """How long its body took."""


def find_source(call: Call) -> Source | None:
    """The outcome to reuse, or None with the reason left on the call."""
    value, who = call.cache
    if value is False:
        call.inputs_reason = call.inputs_reason or rules.ran_without_asking(who)
        return None
    if call.inputs.opaque:
        call.inputs_reason = call.inputs_reason or rules.opaque(call.inputs.opaque)
        return None
    call.code = code_of(call)
    run, spec = call.run, call.spec
    call.reuse_key = key = _key(call, spec.id)
    if run.store.is_remote:
        run.services.history(spec.id)  # here, where the store may be waited for: `remember` asks
    if call.fresh or call.attempt > 1:
        call.inputs_reason = call.inputs_reason or rules.later_attempt(call.attempt)
        return None
    if value == "refresh":
        call.inputs_reason = call.inputs_reason or rules.refreshed(who)
        return None
    unreadable: list[str] = []
    found = _newest_unused(call, key, unreadable)
    for alias in spec.aliases:
        # What the checkpoint recorded under a former name is its own.
        found = found or _newest_unused(call, _key(call, alias), unreadable)
    if found is None:
        missed = rules.unreadable(unreadable[0]) if unreadable else _why_missed(call, key)
        call.inputs_reason = call.inputs_reason or missed
        return None
    run.services.say(
        f"checkpoint {spec.name!r} reuses a result recorded by execution {found[0]} "
        "(switch off with cache=False; ask with `kitaru executions why`)",
        once=("reuse", spec.id),
    )
    return found[1]


def _key(call: Call, checkpoint: str) -> bytes:
    assert call.code is not None
    services = call.run.services
    about = (checkpoint, call.code.digest)
    scope = services.reuse_scopes.get(about)
    if scope is None:
        scope = services.reuse_scopes[about] = reuse_scope(services.project, *about)
    return reuse_key(scope, call.inputs.ordered, call.n)


def _newest_unused(call: Call, key: bytes, unreadable: list[str]) -> tuple[str, Source] | None:
    """The newest source that no call of this execution has used and this process can read."""
    run = call.run
    ttl_seconds = call.spec.cache_ttl_seconds
    now = run.env.now()
    since = None if ttl_seconds is None else now - int(ttl_seconds * 1e6)
    before = None
    while True:
        found = run.store.find_reusable(key, execution=run.id, before=before, since=since)
        if found is None:
            return None
        # One source serves one call of an execution: two samples stay two.
        if not _is_readable(call, found.payload):
            unreadable.append(found.exec_id)
        elif run.use_source(found.id):
            reason = rules.reused(found.exec_id)
            seconds = (found.ended_at - found.started_at) / 1e6
            return found.exec_id, Source(found.id, found.payload, reason, seconds)
        before = found.id


def _is_readable(call: Call, payload: Payload) -> bool:
    """Whether this process can read a source without running code of the user's."""
    if payload.codec == PICKLED:
        # A pickle is read only for a checkpoint that asks for it: for others it is none.
        return call.spec.pickled
    return is_readable(payload, hints_of(call))


def _why_missed(call: Call, key: bytes) -> str:
    run, spec = call.run, call.spec
    expired = None
    if spec.cache_ttl_seconds is not None:
        older = run.store.find_reusable(key, execution=run.id, before=None, since=None)
        if older is not None:
            age_seconds = (run.env.now() - older.ended_at) / 1e6
            expired = rules.Expired(age_seconds, spec.cache_ttl_seconds)
    history = run.services.history(spec.id)
    assert call.code is not None
    if expired is None and history.knows(call.code.digest):
        new = history.unseen(call.inputs.arguments)
        if new:
            return rules.input_changed(tuple(new))
    return rules.miss_reason(
        code=call.code.digest,
        parts=parts_json(call.code),
        arguments=call.inputs.arguments_json(),
        n=call.n,
        codes=history.codes,
        under=_version_with_these_inputs(call, history.codes),
        samples=list(history.samples),
        expired=expired,
    )


def _version_with_these_inputs(call: Call, codes: list[Any]) -> Any | None:
    """The newest version of the code, but today's, under which this very call was recorded."""
    assert call.code is not None
    run = call.run
    for code in codes:
        if code.digest == call.code.digest:
            continue
        scope = reuse_scope(run.services.project, call.spec.id, code.digest)
        key = reuse_key(scope, call.inputs.ordered, call.n)
        if run.store.find_reusable(key, execution=run.id, before=None, since=None) is not None:
            return code
    return None


def code_of(call: Call) -> Fingerprint:
    spec = call.spec
    if spec.version is not None:
        return version_fingerprint(spec.version)
    return fingerprint(spec.fn, root=call.run.services.root, what=spec.name)


def version_fingerprint(version: str) -> Fingerprint:
    """What stands for the code where ``@checkpoint(version=...)`` says it."""
    return Fingerprint(version_digest(version), {"version": version}, ())


def parts_json(code: Fingerprint) -> str:
    return json.dumps(code.parts, separators=(",", ":"))


def remember(call: Call, arguments: str) -> CodeRow | None:
    """Let later misses in this process compare with this call -> its code, if it is new."""
    if call.code is None:
        return None
    history = call.run.services.history(call.spec.id)
    history.add(arguments, call.inputs.arguments)
    if history.keeps(call.code.digest):
        return None
    files, sources = _sources(call)
    unseen = json.dumps([each[:MAX_UNSEEN_CHARACTERS] for each in call.code.unseen[:MAX_UNSEEN]])
    row = CodeRow(call.spec.id, call.code.digest, parts_json(call.code), files, unseen, sources)
    history.add_code(row)
    return row


def _sources(call: Call) -> tuple[str, tuple[SourceRow, ...]]:
    """What is kept of a new version for ``why``: once a version, never once a call."""
    assert call.code is not None
    kept = keep_files(call.code.files)
    files = {name: source.digest.hex() for name, source in kept.items()}
    new = call.run.services.not_kept_yet(dict(kept.values()))
    rows = tuple(SourceRow(digest, text) for digest, text in new.items())
    return json.dumps(files, separators=(",", ":")), rows
