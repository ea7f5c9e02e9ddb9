"""One call of a checkpoint: what is called, with what, where, and therefore which call it is.

A call takes its identity here, on the caller's side, before anything runs
(DESIGN.md, section 3). What follows from it is the business of procedures.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kitaru._core.binding import Binder
from kitaru._core.identity import call_identity, call_key, named_identity, named_key
from kitaru._core.inputs import digest_inputs
from kitaru._engine.context import Place
from kitaru._engine.fingerprint import Fingerprint, code_digest
from kitaru.errors import KitaruContextError, KitaruUsageError

if TYPE_CHECKING:
    from kitaru._engine.context import Attempt
    from kitaru._engine.run import Run
    from kitaru._engine.transacted import TransactionAttempt
    from kitaru._store.protocol import ArtifactRow
    from kitaru.retrying import Retry

_KEY_BINDER = Binder(lambda key: None)
"""For checkpoints with ``key=``: their one input is what that function returned."""


VOLATILE_LOOKS = 100
"""Calls of a checkpoint in which a volatile argument is looked for: it shows in the first ones."""


class CheckpointSpec:
    """What the engine knows of a checkpoint; made once, at decoration."""

    __slots__ = (
        "aliases",
        "binder",
        "cache",
        "cache_ttl_seconds",
        "defined_at",
        "fn",
        "hints",
        "id",
        "ignore",
        "is_async",
        "is_plain",
        "key",
        "kind",
        "memory_bytes",
        "name",
        "once",
        "pickled",
        "policy",
        "runtime",
        "said",
        "timeout_seconds",
        "transactional",
        "verify",
        "version",
        "volatile_looks",
    )

    def __init__(
        self,
        *,
        id: str,
        name: str,
        fn: Callable[..., Any],
        is_async: bool,
        binder: Binder,
        aliases: tuple[str, ...] = (),
        kind: str | None = None,
        policy: Retry | None = None,
        cache: bool | None = None,
        cache_ttl_seconds: float | None = None,
        key: Callable[..., Any] | None = None,
        ignore: frozenset[str] = frozenset(),
        version: str | None = None,
        pickled: bool = False,
        timeout_seconds: float | None = None,
        runtime: str = "inline",
        memory_bytes: int | None = None,
        defined_at: tuple[str, str] = ("", ""),
        once: bool = False,
        transactional: bool = False,
        verify: Callable[..., Any] | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self.fn = fn
        self.is_async = is_async
        self.binder = binder
        self.aliases = aliases
        self.kind = kind
        self.policy = policy
        self.cache = cache
        self.cache_ttl_seconds = cache_ttl_seconds
        self.key = key
        self.ignore = ignore
        self.version = version
        self.pickled = pickled
        """Whether outcomes are pickled; what others recorded in that way may be read only then."""
        self.timeout_seconds = timeout_seconds
        """How long one try of it may take."""
        self.runtime = runtime
        self.memory_bytes = memory_bytes
        """What the process of a body may have, if it has one of its own."""
        self.defined_at = defined_at
        """The module, as it is called in this process, and the qualified name of the function."""
        self.is_plain = timeout_seconds is None and runtime == "inline" and not transactional
        self.once = once or transactional
        """``effect="once"``: a body that starts at most once, unless somebody says run. What it
        comes to is kept, and drift asks a person; so it is where the body has a transaction."""
        self.transactional = transactional
        """``transaction=True``: the outcome is recorded in the body's own transaction."""
        self.verify = verify
        self.hints: tuple[type, ...] | None = None
        """Classes of the return annotation, found at the first decoding."""
        self.volatile_looks = VOLATILE_LOOKS
        """How many more calls are looked at for volatile arguments; 0 once one was found."""
        self.said: set[str] = set()
        """Notices that were given once and are not repeated."""

    @property
    def said_once(self) -> str:
        """Which option makes it one of those that are kept, for messages."""
        return "transaction=True" if self.transactional else 'effect="once"'


class Call:
    """A call on its way to its outcome."""

    __slots__ = (
        "args",
        "attempt",
        "binder",
        "bound",
        "branch",
        "cache",
        "code",
        "fresh",
        "identity",
        "inputs",
        "inputs_reason",
        "kwargs",
        "metadata",
        "modules",
        "n",
        "named",
        "number",
        "parent",
        "policy",
        "reuse_key",
        "round_attempts",
        "run",
        "saved",
        "seq",
        "spec",
        "started_at",
        "transacted",
    )

    identity: bytes
    attempt: int
    fresh: bool
    modules: int
    """How many modules were loaded when the body began."""
    transacted: TransactionAttempt | None
    """The try under way, where the body has a transaction; set there alone."""

    def __init__(
        self,
        run: Run,
        spec: CheckpointSpec,
        place: Place,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        policy: Retry | None,
        cache: tuple[bool | str, str],
        named: str | None,
    ) -> None:
        branch = place.branch
        parent = place.attempt
        self.run = run
        self.spec = spec
        self.args = args
        self.kwargs = kwargs
        self.policy = policy
        self.branch = branch
        self.parent = parent
        self.named = named
        self.cache = cache
        """Whether outcomes of others may serve, and who said so."""
        self.inputs_reason = ""
        self.reuse_key: bytes | None = None
        self.code: Fingerprint | None = None
        binder = spec.binder
        if spec.key is None:
            self.bound = bound = binder.bind(args, kwargs)
        else:
            binder = _KEY_BINDER
            self.bound = bound = {"key": spec.key(*args, **kwargs)}
        self.binder = binder
        self.inputs = inputs = digest_inputs(
            bound,
            binder=binder,
            code_digest=code_digest,
            file_facts=file_facts,
            ignore=spec.ignore,
        )
        if named is None:
            self.n, self.number = branch.number(spec.id, inputs)
            self.identity = (
                self.path
                if spec.once
                else call_identity(
                    parent.identity, parent.number, branch.digest, spec.id, inputs.digest, self.n
                )
            )
        else:
            self._take_name(named)
        self.seq = next(run.seq)
        self.attempt = 1
        self.round_attempts = 0
        """Failures since the last retry of the execution opened this call again."""
        self.fresh = parent.fresh
        self.metadata: dict[str, Any] = {}
        self.saved: dict[tuple[int, str], ArtifactRow] = {}
        """(attempt, name) -> what its body saved, until that is recorded."""
        self.started_at = 0

    def _take_name(self, named: str) -> None:
        """Be the one call of its parent that has this id."""
        spec, parent = self.spec, self.parent
        if (spec.id, named) in parent.names:
            raise KitaruUsageError(
                f"checkpoint {spec.name!r} was already called with id={named!r} here: "
                "an id names one call of its parent; give the second call another id",
                code="call-id-taken",
            )
        parent.names.add((spec.id, named))
        self.n, self.number = 0, self.branch.place(spec.id)
        self.identity = (
            self.path
            if spec.once
            else named_identity(parent.identity, parent.number, spec.id, named)
        )

    def keep(self, attempt: Attempt, row: ArtifactRow) -> bool:
        """Keep what the body saves until its outcome is recorded; False: that name is taken."""
        if attempt.is_closed and (attempt.is_over or not self.spec.transactional):
            raise KitaruContextError(
                f"kitaru.save() was called by something that checkpoint {self.spec.name!r} left "
                "running: that attempt is over, and its outcome recorded. Await tasks and threads "
                "before returning",
                code="attempt-is-over",
            )
        # One step, so that of two threads one is told.
        return self.saved.setdefault((row.attempt, row.name), row) is row

    def take_saved(self) -> list[ArtifactRow]:
        """What the current attempt saved. What one that timed out saves later is nobody's."""
        rows = [row for (attempt, _), row in tuple(self.saved.items()) if attempt == self.attempt]
        self.saved = {}
        return rows

    @property
    def key(self) -> bytes:
        """The path of calls that leads here without any attempts: the same in every try."""
        above = self.parent.call
        parent_key = self.run.key_root if above is None else above.key
        if self.named is not None:
            return named_key(parent_key, self.spec.id, self.named)
        return call_key(parent_key, self.branch.digest, self.spec.id, self.inputs.digest, self.n)

    @property
    def path(self) -> bytes:
        """Its identity without the attempts of its callers: by it ``effect="once"`` is kept.

        At the top of a flow it is the identity of any call.
        """
        return self._path(self.spec.id)

    def _path(self, name: str) -> bytes:
        above = self.parent.call
        parent = None if above is None else above.path
        if self.named is not None:
            return named_identity(parent, 0, name, self.named)
        return call_identity(parent, 0, self.branch.digest, name, self.inputs.digest, self.n)

    def alias_identities(self) -> list[bytes]:
        """What this call's identity was under the checkpoint's former names."""
        parent = self.parent
        if self.spec.once:
            return [self._path(alias) for alias in self.spec.aliases]
        if self.named is not None:
            return [
                named_identity(parent.identity, parent.number, alias, self.named)
                for alias in self.spec.aliases
            ]
        return [
            call_identity(
                parent.identity,
                parent.number,
                self.branch.digest,
                alias,
                self.inputs.digest,
                self.n,
            )
            for alias in self.spec.aliases
        ]


def file_facts(path: object) -> str | None:
    """Size and modification time of an existing file: what a reuse key adds to its path."""
    try:
        stat = os.stat(path)  # type: ignore[arg-type]
    except (OSError, ValueError, TypeError):
        return None
    return f"{stat.st_size}:{stat.st_mtime_ns}"


def hints_of(call: Call) -> tuple[type, ...]:
    """The classes that the return annotation of a call's checkpoint mentions."""
    spec = call.spec
    if spec.hints is None:
        from kitaru._core.hints import return_classes

        spec.hints = return_classes(spec.fn)
    return spec.hints
