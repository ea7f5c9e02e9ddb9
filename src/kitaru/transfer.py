"""One execution as one file: all that is recorded of it and of its children, checked on the way in.

The file is a zip archive: ``manifest.json`` says what it is, ``rows.jsonl`` holds one record a
line, ``values/`` the large values by their digest. It is read as anybody's: every record has
to have the fields and types of today, every value the digest that it is named by, and nothing
is written before all of it has been read. The import is one transaction.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import enum
import io
import json
import lzma
import os
import re
import types
import typing
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, NoReturn

from kitaru._core.lifecycle import FINISHED, WaitState
from kitaru._core.limits import READABLE
from kitaru._core.payload import Payload, is_intact
from kitaru._store.blobs import INLINE_BYTES
from kitaru._store.protocol import (
    ArtifactRow,
    Bundle,
    CodeRow,
    ExecutionRow,
    IntentRow,
    KeptCall,
    LearntRow,
    NoteRow,
    RecordedAttempt,
    RecordedWait,
    Store,
)
from kitaru._store.rows import UNREADABLE
from kitaru._store.syncing import sync, sync_folder
from kitaru.env import Env
from kitaru.errors import KitaruBackendError, KitaruStateError, KitaruUsageError, KitaruValueError

FORMAT = "kitaru-execution"
VERSION = 1
MAX_ROWS_BYTES = 1 << 32
MAX_MANIFEST_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 26
"""Of a record. What is large stands beside the records; the rest has limits of its own."""
_INTEGERS = range(-(1 << 63), 1 << 63)
"""What a database keeps."""
_PAGE = 500
_MAX_CHILDREN = 10_000
_TYPES: dict[str, Any] = {
    "execution": ExecutionRow,
    "call": KeptCall,
    "attempt": RecordedAttempt,
    "learnt": LearntRow,
    "note": NoteRow,
    "wait": RecordedWait,
    "intent": IntentRow,
    "artifact": ArtifactRow,
    "code": CodeRow,
}
_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_JSON_TEXTS = {"spec": dict, "metadata": dict, "tags": list, "arguments": dict}


# --- out -----------------------------------------------------------------------------------


class Exported(NamedTuple):
    path: str
    exec_ids: tuple[str, ...]
    bytes: int


def export(store: Store, row: ExecutionRow, path: str, env: Env) -> Exported:
    """Write the execution and its children to a file that is not there yet."""
    if os.path.lexists(path):
        raise KitaruUsageError(
            f"{path!r} is there already: name a file that is not", code="option-invalid"
        )
    family = list(_family(store, row))
    for member in family:
        if member.status not in FINISHED:
            raise KitaruStateError(
                f"execution {member.exec_id} is {member.status}: only what is finished is "
                "exported. Wait for its end, or cancel it, then export again",
                code="execution-not-finished",
            )
    partial = f"{path}.{env.random_bytes(4).hex()}.partial"
    try:
        handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "w+b") as file:
            _write(store, family, file, env)
            file.flush()
            sync(handle)
        env.crash_point("export_written")
        # Unlike a rename, a link never replaces what somebody has made meanwhile.
        os.link(partial, path)
        sync_folder(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        raise KitaruBackendError(
            f"the export cannot be written to {path}: {error.strerror or error}. Check the folder "
            "and the disk, then export again; the store is as it was",
            code="disk-failed",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(partial)
    return Exported(path, tuple(m.exec_id for m in family), os.stat(path).st_size)


def _family(store: Store, row: ExecutionRow) -> Iterator[ExecutionRow]:
    whole = store.find_execution(row.exec_id)  # strict: a damaged value is told, not carried on
    assert whole is not None
    yield whole
    for child in store.list_children(row.exec_id, limit=_MAX_CHILDREN):
        yield from _family(store, child)


def _write(store: Store, family: Sequence[ExecutionRow], file: Any, env: Env) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        writing = _Writing(archive)
        with archive.open("rows.jsonl", "w", force_zip64=True) as rows:
            for member in family:
                for kind, record in _records(store, member):
                    line = json.dumps({kind: writing.encoded(record)}).encode() + b"\n"
                    writing.digest.update(line)
                    rows.write(line)
        for payload in writing.large.values():
            name = zipfile.ZipInfo(f"values/{payload.digest.hex()}")
            archive.writestr(name, zlib.compress(payload.data, 1), zipfile.ZIP_STORED)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "exec_ids": [member.exec_id for member in family],
            "project": family[0].project,
            "exported_at": env.now(),
            "rows_blake2b": writing.digest.hexdigest(),
            "values": [digest.hex() for digest in writing.large],
        }
        archive.writestr("manifest.json", json.dumps(manifest, indent=1))


class _Writing:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.digest = blake2b(digest_size=32)
        self.large: dict[bytes, Payload] = {}

    def encoded(self, value: Any) -> Any:
        if isinstance(value, Payload):
            if value.codec == UNREADABLE:
                _refuse(f"a value with digest {value.digest.hex()[:16]}… of it is damaged")
            fields = {"codec": value.codec, "digest": value.digest.hex()}
            if len(value.data) <= INLINE_BYTES:
                return {**fields, "data": base64.b64encode(value.data).decode()}
            self.large[value.digest] = value
            return fields
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, enum.Enum):
            return value.value
        names = getattr(value, "_fields", None)
        if isinstance(value, tuple) and names is not None:
            return {name: self.encoded(each) for name, each in zip(names, value, strict=True)}
        if isinstance(value, (tuple, list)):
            return [self.encoded(item) for item in value]
        return value


def _artifacts(store: Store, row: ExecutionRow) -> Iterator[ArtifactRow]:
    for each in store.list_artifacts(row.id, limit=1 << 31):
        found = store.find_artifact(each.id)
        if found is not None:
            yield found.row


def _records(store: Store, row: ExecutionRow) -> Iterator[tuple[str, Any]]:
    yield "execution", row
    versions: set[tuple[str, bytes]] = set()
    after = 0
    while page := store.list_calls(row.id, after=after, limit=_PAGE):
        for call in page:
            kept = call.row._replace(reused_from=None)
            yield "call", KeptCall(kept, call.reopened, call.reused_from)
            if call.row.code is not None:
                versions.add((call.row.checkpoint, call.row.code))
        after = page[-1].id
    for kind, records in (
        ("attempt", store.list_attempts(row.id)),
        ("learnt", store.load_learnt(row.id)),
        ("note", store.list_notes(row.id)),
        ("wait", store.list_waits(row.id)),
        ("intent", store.list_intents(row.id)),
        ("artifact", _artifacts(store, row)),
    ):
        yield from ((kind, record) for record in records)
    for checkpoint in {checkpoint for checkpoint, _ in versions}:
        for code in store.list_codes(project=row.project, checkpoint=checkpoint, limit=1_000):
            if (checkpoint, code.digest) in versions:
                yield (
                    "code",
                    CodeRow(checkpoint, code.digest, code.parts, code.files, code.unseen),
                )


# --- in ------------------------------------------------------------------------------------


def read(path: str) -> list[Bundle]:
    """All that the file holds, or ``KitaruValueError`` if it is not whole."""
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            return _Reading(archive).bundles()
    except FileNotFoundError as error:
        raise KitaruUsageError(
            f"there is no file {path!r}: name one that kitaru executions export has written",
            code="option-invalid",
        ) from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        KeyError,
        RuntimeError,
    ) as error:
        _refuse(f"it is no whole zip archive of ours ({error})", error)
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        _refuse(str(error) or type(error).__name__, error)
    except OSError as error:
        _refuse(error.strerror or str(error), error)


def _refuse(why: str, cause: BaseException | None = None) -> NoReturn:
    raise KitaruValueError(
        f"the export is not what it should be: {why[:500]}. Nothing was changed: fetch the file "
        "again, or run kitaru executions export again",
        code="export-damaged",
    ) from cause


class _Reading:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def bundles(self) -> list[Bundle]:
        if self._archive.getinfo("manifest.json").file_size > MAX_MANIFEST_BYTES:
            raise ValueError("its manifest is too large")
        manifest = json.loads(self._archive.read("manifest.json"))
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ValueError("it is no export of an execution")
        if manifest.get("version") != VERSION:
            raise ValueError(
                f"it has version {manifest.get('version')!r} of the format and this Kitaru knows "
                f"version {VERSION}: upgrade Kitaru"
            )
        bundles = list(self._grouped(manifest))
        if [bundle.row.exec_id for bundle in bundles] != manifest.get("exec_ids") or not bundles:
            raise ValueError("its executions are not those that it lists")
        return bundles

    def _grouped(self, manifest: dict[str, Any]) -> Iterator[Bundle]:
        found: dict[str, list[Any]] = {}
        for kind, record in self._records(manifest):
            if kind == "execution":
                if found:
                    yield _bundle(found)
                found = {name: [] for name in _TYPES}
            elif not found:
                raise ValueError("its first record is no execution")
            found[kind].append(record)
        if found:
            yield _bundle(found)

    def _records(self, manifest: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        if self._archive.getinfo("rows.jsonl").file_size > MAX_ROWS_BYTES:
            raise ValueError("its records are too many")
        digest = blake2b(digest_size=32)
        with self._archive.open("rows.jsonl") as raw:
            lines = io.BufferedReader(raw)  # type: ignore[type-var]
            while line := lines.readline(MAX_LINE_BYTES + 1):
                if len(line) > MAX_LINE_BYTES:
                    raise ValueError("one of its records is too long")
                digest.update(line)
                record = json.loads(line)
                if not isinstance(record, dict) or len(record) != 1:
                    raise ValueError("one of its lines is no record")
                ((kind, fields),) = record.items()
                if kind not in _TYPES:
                    raise ValueError(f"it has records of a kind {kind[:40]!r}: upgrade Kitaru")
                yield kind, self._decoded(fields, _TYPES[kind], kind)
        if digest.hexdigest() != manifest.get("rows_blake2b"):
            raise ValueError("its records are not those that were written (checksum)")

    def _decoded(self, value: Any, hint: Any, where: str) -> Any:
        if typing.get_origin(hint) in (types.UnionType, typing.Union):
            if value is None:
                return None
            (hint,) = (one for one in typing.get_args(hint) if one is not type(None))
        if hint is Payload:
            return self._payload(value, where)
        if hint is bytes:
            return bytes.fromhex(value)
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return hint(value)
        if isinstance(hint, type) and hasattr(hint, "_fields"):
            return self._record(value, hint, where)
        if typing.get_origin(hint) is tuple:
            return tuple(bytes.fromhex(item) for item in value)
        if typing.get_origin(hint) is not None:
            if value != []:
                raise ValueError(f"{where} is {type(value).__name__}")
            return ()
        if type(value) is not hint:
            raise ValueError(f"{where} is {type(value).__name__}, not {hint.__name__}")
        if hint is int and value not in _INTEGERS:
            raise ValueError(f"{where} is a number of more than 64 bits")
        return value

    def _record(self, fields: Any, cls: Any, where: str) -> Any:
        hints = typing.get_type_hints(cls)
        if not isinstance(fields, dict):
            raise ValueError(f"{where} is {type(fields).__name__}")
        # A field that came later has a default, and older exports are without it.
        fields = {**cls._field_defaults, **fields}
        if set(fields) != set(hints):
            odd = sorted(set(fields) ^ set(hints))[:3]
            raise ValueError(f"a record of kind {where} has other fields than today's {odd}")
        made = cls(
            **{
                name: self._decoded(fields[name], hint, f"{where}.{name}")
                for name, hint in hints.items()
            }
        )
        for name, kind in _JSON_TEXTS.items():
            text = fields.get(name)
            if text is not None and not isinstance(json.loads(text), kind):
                raise ValueError(f"{where}.{name} is no JSON {kind.__name__}")
        return made

    def _payload(self, fields: Any, where: str) -> Payload:
        if not isinstance(fields, dict):
            raise ValueError(f"the value of {where} is none")
        digest = bytes.fromhex(fields["digest"])
        if "data" in fields:
            data = base64.b64decode(fields["data"], validate=True)
        else:
            limit = READABLE.max_payload_bytes + 1
            member = self._archive.getinfo(f"values/{digest.hex()}")
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > 2 * limit:
                raise ValueError(f"the value of {where} is not packed as an export packs it")
            packed = self._archive.read(member)
            data = zlib.decompressobj().decompress(packed, limit)
        payload = Payload(str(fields["codec"]), data, digest)
        if payload.codec == UNREADABLE or not is_intact(payload):
            raise ValueError(f"the value of {where} is not what was written (checksum)")
        return payload


def _bundle(found: dict[str, list[Any]]) -> Bundle:
    (row,) = found["execution"]
    if row.status not in FINISHED or row.owner is not None:
        raise ValueError(f"execution {row.exec_id} is {row.status}")
    if not _ID.fullmatch(row.exec_id):
        raise ValueError("the id of an execution is none")
    if any(wait.state is WaitState.OPEN for wait in found["wait"]):
        raise ValueError("a wait of a finished execution is open")
    bundle = Bundle(
        row,
        found["call"],
        found["attempt"],
        found["learnt"],
        found["note"],
        found["wait"],
        found["intent"],
        found["artifact"],
        found["code"],
    )
    if row.failure is not None and bundle.failed_attempt() is None:
        raise ValueError("the failed attempt is missing")
    return bundle


# --- which ids it gets ------------------------------------------------------------------------


def adapted(bundles: Sequence[Bundle], store: Store, project: str, env: Env) -> list[Bundle]:
    """As they are to stand in this store: ids that are free, no claim to a key that is taken."""
    ids = {
        bundle.row.exec_id: bundle.row.exec_id
        if store.find_execution(bundle.row.exec_id) is None
        else env.new_id()
        for bundle in bundles
    }
    return [_adapted(bundle, ids, store, project, env.now()) for bundle in bundles]


def _adapted(bundle: Bundle, ids: dict[str, str], store: Store, project: str, at: int) -> Bundle:
    row = bundle.row
    exec_id = ids[row.exec_id]
    said = [f"imported; it came from project {row.project!r}"]
    if exec_id != row.exec_id:
        said.append(f"its id was {row.exec_id}")
    parent = ids.get(row.parent_exec_id or "")
    if parent is None and row.parent_exec_id is not None:
        said.append(f"it was a child of {row.parent_exec_id}")
    key = row.key
    if key is not None and store.find_by_key(project=project, flow_id=row.flow_id, key=key):
        key = None
        said.append(f"its key {row.key!r} is taken here")
    original = row.original_exec_id
    if original is None and exec_id != row.exec_id:
        original = row.exec_id
    row = row._replace(
        exec_id=exec_id,
        project=project,
        home=None,
        key=key,
        parent_exec_id=parent,
        parent_call=row.parent_call if parent is not None else None,
        original_exec_id=original,
    )
    note = NoteRow("imported", "; ".join(said), at)
    calls = [_renamed(call, ids) for call in bundle.calls]
    return bundle._replace(row=row, calls=calls, notes=[*bundle.notes, note])


def _renamed(call: KeptCall, ids: dict[str, str]) -> KeptCall:
    if call.reused_from is None:
        return call
    exec_id, _, identity = call.reused_from.partition(":")
    bytes.fromhex(identity)
    return call._replace(reused_from=f"{ids.get(exec_id, exec_id)}:{identity}")
