"""What differs between a call that ran anew and what was recorded before: old against new.

Reads only what is recorded: previews of arguments, and the sources kept with
each version of a checkpoint's code. Where something was not kept it says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kitaru._core.drift import differing_arguments, parse_arguments
from kitaru._engine.fingerprint.cutting import home_of, part_of
from kitaru._engine.fingerprint.kept import keep_files, restore
from kitaru._store.protocol import RecordedCall, RecordedCode, Sample, Store
from kitaru.model import Difference

MAX_VERSIONS = 50
MAX_SAMPLES = 64
MAX_EXECUTIONS = 5
MAX_DIFFERENCES = 20
MAX_COMPARED = 1_000

NOT_KEPT = (
    "its source was not kept: recorded by an older Kitaru, larger than 512 KiB, or changed while "
    "the program ran"
)
SAME_SOURCE = "its source is the same: the value that it has when the program runs is another one"
NO_PREVIEW = "no preview of it was recorded"
SAME_PREVIEW = "it differs beyond what the recorded preview shows"


class Compared(NamedTuple):
    """The differences, and the execution that recorded what they are told from."""

    with_exec_id: str | None = None
    differences: tuple[Difference, ...] = ()


class Comparison:
    """The comparisons of one execution's calls; what several of them need is read once."""

    def __init__(self, store: Store, *, project: str, flow_id: str, execution: int) -> None:
        self._store = store
        self._project = project
        self._flow_id = flow_id
        self._execution = execution
        self._versions: dict[str, list[RecordedCode]] = {}
        self._code: dict[tuple[str, bytes], Compared] = {}
        self._samples: dict[tuple[str, bytes | None], list[tuple[int, list[Sample]]]] = {}
        self._before: list[int] | None = None
        self._rows: dict[int, str] = {}
        self._compared = 0
        self._today: dict[bytes, bytes] = {}
        """Sources as they are now, compressed like those that are kept."""

    def of(self, call: RecordedCall) -> Compared:
        """What made this call run anew, as far as its reason says: code or inputs.

        Inputs are compared for the first so many calls only: whoever asks about
        a hundred thousand is told their reasons, but not made to wait.
        """
        row = call.row
        kind = _kind(row.reason)
        if kind == "code" and row.code is not None:
            key = (row.checkpoint, row.code)
            if key not in self._code:
                self._code[key] = self._of_code(*key)
            return self._code[key]
        by_place = kind == "carried" and row.reused_from is not None
        if (kind not in ("input", "changed") and not by_place) or self._compared >= MAX_COMPARED:
            return Compared()
        self._compared += 1
        return self._of_inputs(call)

    def unseen(self, call: RecordedCall) -> tuple[str, ...] | None:
        """What the fingerprint of the call's code could not see; None if that is not recorded."""
        for version in self._versions_of(call.row.checkpoint):
            if version.digest == call.row.code and version.unseen is not None:
                found = _json(version.unseen)
                return tuple(map(str, found)) if isinstance(found, list) else None
        return None

    def _versions_of(self, checkpoint: str) -> list[RecordedCode]:
        if checkpoint not in self._versions:
            self._versions[checkpoint] = self._store.list_codes(
                project=self._project, checkpoint=checkpoint, limit=MAX_VERSIONS
            )
        return self._versions[checkpoint]

    # --- code ---------------------------------------------------------------------------

    def _of_code(self, checkpoint: str, digest: bytes) -> Compared:
        versions = self._versions_of(checkpoint)
        places = [place for place, version in enumerate(versions) if version.digest == digest]
        if not places or places[0] + 1 >= len(versions):
            return Compared()
        after, before = versions[places[0]], versions[places[0] + 1]
        names = differing_arguments(before.parts, after.parts)[:MAX_DIFFERENCES]
        found = tuple(self._part(name, before, after) for name in names)
        return Compared(self._exec_id(before.execution), found)

    def with_today(
        self,
        checkpoint: str,
        recorded: bytes,
        *,
        digest: bytes,
        parts: str,
        files: Mapping[str, str],
    ) -> list[Difference]:
        """What differs between a recorded version of a checkpoint's code and what is loaded now."""
        kept = keep_files(files)
        self._today = dict(kept.values())
        now = RecordedCode(
            digest,
            parts,
            0,
            json.dumps({name: source.digest.hex() for name, source in kept.items()}),
            None,
        )
        for version in self._versions_of(checkpoint):
            if version.digest == recorded:
                names = differing_arguments(version.parts, parts)[:MAX_DIFFERENCES]
                return [self._part(name, version, now) for name in names]
        return []

    def _part(self, name: str, before: RecordedCode, after: RecordedCode) -> Difference:
        was, now = parse_arguments(before.parts), parse_arguments(after.parts)
        if name == "version":
            return Difference("code", name, was.get(name), now.get(name), None)
        old = self._text(name, before) if name in was else None
        new = self._text(name, after) if name in now else None
        note = None
        if (old is None and name in was) or (new is None and name in now):
            note = NOT_KEPT
        elif old == new:
            note = SAME_SOURCE
        return Difference("code", name, old, new, note)

    def _text(self, part: str, version: RecordedCode) -> str | None:
        files = _json(version.files)
        home = home_of(part, files) if isinstance(files, dict) else None
        if home is None:
            return None
        try:
            digest = bytes.fromhex(files[home])
        except (ValueError, TypeError):
            return None
        source = restore(digest, self._today.get(digest) or self._store.load_source(digest))
        if source is None:
            return None
        found = part_of(source, part[len(home) + 1 :])
        # Kept under its own name (a notebook's cell): the path begins after the module.
        return found if found or part != home else part_of(source, part.rpartition(".")[2])

    # --- inputs ----------------------------------------------------------------------------

    def _of_inputs(self, call: RecordedCall) -> Compared:
        nearest = self._nearest(call)
        if nearest is None:
            return Compared()
        exec_id, sample = nearest
        names = differing_arguments(sample.arguments, call.row.arguments)[:MAX_DIFFERENCES]
        was, now = parse_arguments(sample.arguments), parse_arguments(call.row.arguments)
        old, new = _json(sample.inputs), _json(call.row.inputs)
        found = tuple(
            _argument(name, name in was and _shown(old, name), name in now and _shown(new, name))
            for name in names
        )
        return Compared(exec_id, found)

    def _in_source(self, exec_id: str, checkpoint: str) -> list[tuple[int, Sample]]:
        """Calls of the execution that a replay was made from; it may be gone."""
        rows = self._store.search_executions(exec_id, project=self._project, limit=1)
        return [
            (row.id, sample)
            for row in rows
            for sample in self._store.list_samples(
                row.id, checkpoint=checkpoint, before=1 << 62, limit=MAX_SAMPLES
            )
        ]

    def _nearest(self, call: RecordedCall) -> tuple[str | None, Sample] | None:
        """The recorded call with most equal arguments; of equals the newest.

        Another execution's, because that is what could have been reused; only
        where there is none one that this execution made before.
        """
        row = call.row
        source = _detail(row.reason, "source") if _kind(row.reason) != "input" else None
        if source is not None:
            found = self._in_source(source, row.checkpoint)
            self._rows.update((execution, source) for execution, _ in found)
        else:
            found = [
                (execution, sample)
                for execution, samples in self._others(row.checkpoint, row.code)
                for sample in samples
            ]
        if not found:
            own = self._store.list_samples(
                self._execution, checkpoint=row.checkpoint, before=call.id, limit=MAX_SAMPLES
            )
            found = [(self._execution, sample) for sample in own]
        ranked = [
            (len(differing), -sample.id, execution, sample)
            for execution, sample in found
            if (differing := differing_arguments(sample.arguments, row.arguments))
        ]
        if not ranked:
            return None
        _, _, execution, sample = min(ranked)
        return self._exec_id(execution), sample

    def _others(self, checkpoint: str, code: bytes | None) -> Sequence[tuple[int, list[Sample]]]:
        """Samples of the executions of this flow just before, and of the first with this code."""
        key = (checkpoint, code)
        if key not in self._samples:
            first = [v.execution for v in self._versions_of(checkpoint) if v.digest == code]
            others = dict.fromkeys([*self._flow_before(), *first])
            self._samples[key] = [
                (
                    number,
                    self._store.list_samples(
                        number, checkpoint=checkpoint, before=1 << 62, limit=MAX_SAMPLES
                    ),
                )
                for number in others
                if number != self._execution
            ]
        return self._samples[key]

    def _flow_before(self) -> Sequence[int]:
        if self._before is None:
            rows = self._store.list_executions(
                project=self._project,
                flow=self._flow_id,
                before=self._execution,
                limit=MAX_EXECUTIONS,
            )
            self._rows.update((row.id, row.exec_id) for row in rows)
            self._before = [row.id for row in rows]
        return self._before

    def _exec_id(self, execution: int) -> str | None:
        if execution not in self._rows:
            rows = self._store.list_executions(
                project=self._project, before=execution + 1, since=execution, limit=1
            )
            self._rows.update((row.id, row.exec_id) for row in rows)
        return self._rows.get(execution)


def _kind(reason: str) -> object:
    return _detail(reason, "why")


def _detail(reason: str, name: str) -> Any:
    found = _json(reason)
    return found.get(name) if isinstance(found, dict) else None


def _json(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _shown(inputs: Any, name: str) -> str | None:
    """An argument as JSON text over lines; None where there is no preview of it."""
    if not isinstance(inputs, Mapping) or name not in inputs:
        return None
    return json.dumps(inputs[name], ensure_ascii=False, indent=2)


def _argument(name: str, old: str | bool | None, new: str | bool | None) -> Difference:
    """``False``: it was not passed then, or is not now."""
    before = old if isinstance(old, str) else None
    after = new if isinstance(new, str) else None
    note = None
    if old is None or new is None:
        note = NO_PREVIEW
    elif before == after:
        note = SAME_PREVIEW
    return Difference("argument", name, before, after, note)
