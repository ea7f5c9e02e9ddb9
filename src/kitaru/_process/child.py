"""Run one body in this process, which was made for it: what stands in for the execution.

What code here says to Kitaru (``log``, ``now``, ``current``, ``check``), prints and logs goes
to the owner, who records it. There is no store here, and no other checkpoint may be
called: the owner alone decides what runs.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from kitaru import app as _app
from kitaru._core.limits import Limits
from kitaru._core.limits import use as use_limits
from kitaru._core.payload import seal
from kitaru._core.values import decode, encode, encode_failure, encode_pickled
from kitaru._engine.capture import formatted
from kitaru._engine.context import Attempt, Place, here
from kitaru._engine.fingerprint import fingerprint
from kitaru._engine.frames import OUR_FOLDER
from kitaru._engine.importable import find_in
from kitaru._engine.procedures import origin_of
from kitaru._engine.unwind import Unwind, Why
from kitaru._engine.wire import Order, Wire
from kitaru._store.protocol import ArtifactRow
from kitaru.env import SystemEnv
from kitaru.errors import KitaruContextError, KitaruError, KitaruStateError, KitaruValueError
from kitaru.importing import import_from
from kitaru.masking import NEEDLES


class FarRun:
    """What code of a body may ask of its execution, where that runs elsewhere."""

    is_far = True
    log = None
    stopped_by = None

    def __init__(self, order: Order, owner: Owner) -> None:
        self._owner = owner
        self.exec_id = order.exec_id
        self.row = SimpleNamespace(flow_name=order.flow_name, seed=order.seed)
        self.attempt = order.flow_attempt
        self.key_root = order.key_root
        self.env = SystemEnv()
        self.ended: Unwind | None = None
        self.lost: frozenset[Attempt] = frozenset()
        self.learnt = dict(order.learnt)
        self.learnt_values: set[Any] = set()

    def check(self) -> None:
        if self.ended is not None:
            raise self.ended

    def queue(self, *facts: Any, event: Any = None) -> None:
        """To be recorded with the outcome of this body."""
        self._owner.tell("facts", facts)

    def note(self, kind: str, message: str) -> None:
        self._owner.tell("note", kind, message)


class FarCall:
    """The call whose body runs here."""

    def __init__(self, order: Order, run: FarRun, spec: Any, owner: Owner) -> None:
        self._owner = owner
        self._metadata: dict[str, Any] = {}
        self.run = run
        self.spec = spec
        self.identity = order.identity
        self.attempt = order.attempt
        self.key = order.key
        self.fresh = False
        self.saved: dict[tuple[int, str], ArtifactRow] = {}

    @property
    def metadata(self) -> dict[str, Any]:
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: dict[str, Any]) -> None:
        # At once: a process may be killed, and what it had logged stays.
        self._metadata = metadata
        self._owner.tell("metadata", metadata)

    def keep(self, attempt: Attempt, row: ArtifactRow) -> bool:
        if self.saved.setdefault((row.attempt, row.name), row) is not row:
            return False
        self._owner.tell("saved", row)
        return True


class Owner:
    """The way to the process that owns the execution."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._needles = 0

    def tell(self, *message: Any) -> None:
        if len(NEEDLES) > self._needles:
            # First: what follows may hold the secret, and is masked over there.
            self._needles = len(NEEDLES)
            self._wire.send("needles", [(needle.text, needle.name) for needle in NEEDLES])
        self._wire.send(*message)

    def hear(self, run: FarRun) -> None:
        """Be told that the execution ends; until this process does."""
        try:
            while True:
                for _, why, message in self._wire.receive():
                    run.ended = run.ended or Unwind(Why[why], message)
        except (EOFError, OSError):
            return  # it is gone, and the guard ends us


def run_body(descriptor: int) -> None:
    faulthandler.enable()
    wire = Wire(socket.socket(fileno=descriptor))
    owner = Owner(wire)
    owner.tell("hello", os.getpid())
    order = _first(wire)
    try:
        _settle_in(order, owner)
        spec, args, kwargs = _prepare(order)
    except BaseException as error:
        _app.refuse(None)
        owner.tell("refused", *_failure(error))
        return
    _app.refuse(_no_store)
    run = FarRun(order, owner)
    call: Any = FarCall(order, run, spec, owner)
    threading.Thread(target=owner.hear, args=(run,), name="kitaru-owner", daemon=True).start()
    attempt = Attempt(call)
    attempt.is_closed = True  # nothing is called in it
    here.set(Place(run, attempt, attempt.root))  # type: ignore[arg-type]
    owner.tell("begun")
    _perform(order, owner, spec, args, kwargs)
    sys.stdout.flush()
    sys.stderr.flush()


def _first(wire: Wire) -> Order:
    while True:
        for (order,) in wire.receive():
            assert type(order) is Order
            return order


def _settle_in(order: Order, owner: Owner) -> None:
    """Be as the owner is, as far as code can tell."""
    sys.argv = order.argv
    os.chdir(order.working_folder)
    use_limits(Limits(*order.limits))
    if order.memory_bytes is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (order.memory_bytes, order.memory_bytes))
    for name, level in order.levels.items():
        logging.getLogger(name or None).setLevel(level)
    logging.Logger.callHandlers = _records_to(owner)  # type: ignore[assignment, method-assign]
    for source in ("stdout", "stderr"):
        _print_to(owner, source, getattr(sys, source))
    _app.refuse(_while_importing)


def _print_to(owner: Owner, source: str, stream: Any) -> None:
    """What is printed here is printed by the owner, who knows where and for whom."""

    def write(text: str, /) -> int:
        if type(text) is not str:
            return int(type(stream).write(stream, text))  # raises as it always would
        if text:
            owner.tell("text", source, text)
        return len(text)

    stream.reconfigure(errors="backslashreplace", line_buffering=True)
    stream.write = write


def _records_to(owner: Owner) -> Callable[[logging.Logger, logging.LogRecord], None]:
    def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
        parts = {**vars(record), "msg": formatted(record), "args": None, "exc_info": None}
        plain = (str, int, float, bool, type(None))
        kept = {name: part for name, part in parts.items() if type(part) in plain}
        owner.tell("record", {**kept, "exc_text": None, "stack_info": None})

    return call_handlers


def _while_importing() -> KitaruError:
    from kitaru.errors import KitaruUsageError

    return KitaruUsageError(
        "a flow is run, or a client made, at the top level of the module, which a checkpoint with "
        'runtime="process" imports into its own process. Put that under\n'
        '    if __name__ == "__main__":\n        ...',
        code="flow-run-during-import",
    )


def _no_store() -> KitaruError:
    return KitaruContextError(
        'the body of a checkpoint with runtime="process" has no store: it can run no flow and make '
        "no client. Do that in the flow",
        code="inside-own-process",
    )


def _prepare(order: Order) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The checkpoint and its arguments; raises what keeps the body from being run."""
    spec = find_in(import_from(order.folder, order.module), order.path, order.checkpoint)
    if spec is None:
        raise KitaruStateError(
            f"module {order.module!r} from {order.folder!r} has no checkpoint {order.path!r} any "
            "more, or it is made only by the running program: define it at the top level",
            code="not-importable",
        )
    if order.code is not None:
        digest, root = order.code
        if fingerprint(spec.fn, root=root, what=spec.name).digest != digest:
            raise KitaruStateError(
                f"the code of checkpoint {spec.name!r}, as a new process imports it, is not what "
                "the running program has: the file was changed meanwhile, or the program changes "
                "it as it runs. Start the program again",
                code="code-changed-meanwhile",
            )
    args, kwargs = _arguments(order, spec.name)
    return spec, tuple(args), kwargs


def _arguments(order: Order, name: str) -> tuple[list[Any], dict[str, Any]]:
    payload = seal(*order.arguments)
    try:
        found: Any = decode(payload, what=f"checkpoint {name}", checked=True)
    except KitaruValueError:
        if order.main is None:
            raise
        # A class of the main script, which nothing imported here until now.
        import_from(order.main[1], order.main[0])
        found = decode(payload, what=f"checkpoint {name}", checked=True)
    args, kwargs = found
    return args, kwargs


def _perform(
    order: Order, owner: Owner, spec: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    write = encode_pickled if order.pickled else encode
    try:
        result = spec.fn(*args, **kwargs)
        if spec.is_async:
            result = asyncio.run(result)
        payload = write(result, what=spec.name)
    except Unwind:
        owner.tell("unwound")
    except BaseException as error:
        owner.tell("failed", *_failure(error))
    else:
        owner.tell("done", payload.codec, payload.data)


def _failure(error: BaseException) -> tuple[str, bytes]:
    payload = encode_failure(error, origin=origin_of(error), drop_frames_of=OUR_FOLDER)
    return payload.codec, payload.data
