"""Concurrent branches of one call, and the numbers of equal things within each.

A branch is a path of (coroutine, its arguments, n), so that neither answers nor
outcomes can reach another branch because it happened to be quicker. Within a
branch this file counts: equal calls, calls of a checkpoint, askings for facts,
equal child branches. It knows nothing of event loops; who creates a branch, and
when, is the engine's business.
"""

from __future__ import annotations

import threading

from kitaru._core.identity import branch_digest
from kitaru._core.inputs import Inputs
from kitaru.errors import KitaruUsageError

_Things = dict[tuple[str, str], object]
"""(path, type name) -> the opaque object there."""


class _Calls:
    """What was numbered of one checkpoint in one branch."""

    __slots__ = ("count", "of_digest", "opaque")

    def __init__(self) -> None:
        self.count = 0
        self.of_digest: dict[bytes, int] = {}
        # Strong references: an id freed and used again would make two clients one.
        self.opaque: dict[bytes, _Things] | None = None


class Branch:
    """One concurrent branch of one attempt of a call, or of the flow.

    ``label`` is for people (``""`` for the root), ``digest`` for identities. All
    methods may be called from several threads at once (``to_thread`` inherits the
    branch): each takes the branch's own lock, holds it for a few dictionary
    look-ups and calls nothing of the user's. Calls that race for equal inputs get
    different numbers; which gets which is up to the race.

    >>> root = Branch()
    >>> root.child("app.worker", bytes(16)).label
    '/app.worker#80d3c94a42'
    """

    __slots__ = ("_asked", "_calls", "_children", "_lock", "digest", "label")

    def __init__(self, label: str = "", digest: bytes = b"") -> None:
        self.label = label
        self.digest = digest
        self._calls: dict[str, _Calls] = {}
        self._asked: dict[tuple[str, str | None], int] = {}
        self._children: dict[tuple[str, bytes], int] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Branch({self.label!r})"

    def number(self, checkpoint: str, inputs: Inputs) -> tuple[int, int]:
        """``(n, place)`` of the next call: among its equals, and among all of the checkpoint.

        Raises ``KitaruUsageError`` if it equals an earlier call only because
        different opaque objects look alike; it is not counted then.
        """
        digest = inputs.digest
        with self._lock:
            calls = self._calls.get(checkpoint)
            if calls is None:
                calls = self._calls[checkpoint] = _Calls()
            if inputs.opaque:
                _refuse_look_alikes(calls, checkpoint, inputs)
            place = calls.count
            calls.count = place + 1
            n = calls.of_digest.get(digest, 0)
            calls.of_digest[digest] = n + 1
        return n, place

    def place(self, checkpoint: str) -> int:
        """The place of the next call, for one that its caller named and that needs no n."""
        with self._lock:
            calls = self._calls.get(checkpoint)
            if calls is None:
                calls = self._calls[checkpoint] = _Calls()
            calls.count += 1
            return calls.count - 1

    def ask(self, kind: str, name: str | None = None) -> int:
        """The number of the next asking of this kind and name (``now``, ``uuid4`` …)."""
        with self._lock:
            n = self._asked.get((kind, name), 0)
            self._asked[kind, name] = n + 1
        return n

    def child(self, qualname: str, arguments: bytes) -> Branch:
        """The next branch that runs ``qualname`` with these arguments; equals are numbered."""
        with self._lock:
            n = self._children.get((qualname, arguments), 0)
            self._children[qualname, arguments] = n + 1
        digest = branch_digest(self.digest, qualname, arguments, n)
        return Branch(f"{self.label}/{qualname}#{digest.hex()[:10]}", digest)


def _refuse_look_alikes(calls: _Calls, checkpoint: str, inputs: Inputs) -> None:
    if calls.opaque is None:
        calls.opaque = {}
    # By path, because dicts that are equal may be in another order.
    now = dict(zip(inputs.opaque, inputs.opaque_objects, strict=True))
    earlier = calls.opaque.setdefault(inputs.digest, now)
    differing = [where for where, thing in now.items() if earlier.get(where) is not thing]
    if not differing:
        return
    paths = ", ".join(f"`{path}`" for path in dict.fromkeys(where for where, _ in differing))
    types = ", ".join(dict.fromkeys(name for _, name in differing))
    raise KitaruUsageError(
        f"two calls of checkpoint {checkpoint!r} cannot be told apart: they differ only in "
        f"{paths}: make it a dataclass, define `__kitaru_key__`, or pass `id=` ({types} has "
        "no encoding of its own and counts by its type)",
        code="calls-indistinguishable",
    )
