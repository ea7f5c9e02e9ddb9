"""``client.artifacts``: what executions saved by name, and what their calls came to.

Needs a store and no engine. An artifact is named after the attempt that made it,
so its id says where it comes from, and stays the same in another store.
"""

from __future__ import annotations

from collections.abc import Sequence

from kitaru._core.names import did_you_mean, shortened
from kitaru._store.protocol import ExecutionRow, Store
from kitaru.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.lookup import checked_limit, find_row
from kitaru.model import ArtifactRef
from kitaru.records import artifacts_of, newest_of

KINDS = ("saved", "result")

DEFAULT_LIMIT = 100

MAX_CANDIDATES = 10

Found = list[ArtifactRef]


class Artifacts:
    """``client.artifacts``: looks at what executions saved and returned, and reads it.

    Two kinds: ``saved``, by ``kitaru.save()`` in a checkpoint, and ``result``, what a
    call of a checkpoint returned. Those of a call that was reused or carried over are
    what its source saved.

    >>> import kitaru
    >>> @kitaru.checkpoint
    ... def answer(question: str) -> str:
    ...     kitaru.save("prompt", f"Q: {question}", type="prompt")
    ...     return "42"
    >>> @kitaru.flow
    ... def ask(question: str) -> str:
    ...     return answer(question)
    >>> handle = ask.run("why?")
    >>> handle.wait()
    '42'
    >>> for found in kitaru.KitaruClient().artifacts.list(handle.exec_id):
    ...     print(found.kind, found.name, found.load())
    saved prompt Q: why?
    result answer 42
    """

    def __init__(self, store: Store, project: str) -> None:
        self._store = store
        self._project = project

    def get(self, artifact_id: str) -> ArtifactRef:
        """The artifact with this id, or ``KitaruNotFoundError``."""
        if not isinstance(artifact_id, str):
            raise KitaruUsageError(
                f"artifact_id is {shortened(artifact_id)}: pass the id of an artifact as a str",
                code="option-invalid",
            )
        exec_id, colon, _ = artifact_id.partition(":")
        if colon:
            row = find_row(self._store, self._project, exec_id)
            wanted = f"{row.exec_id}{artifact_id[len(exec_id) :]}"
            for artifact in artifacts_of(self._store, row):
                if artifact.artifact_id == wanted:
                    return artifact
        raise KitaruNotFoundError(
            f"there is no artifact {shortened(artifact_id)}: see those of an execution with "
            "client.artifacts.list(exec_id)",
            code="artifact-not-found",
        )

    def list(
        self,
        exec_id: str,
        *,
        kind: str | None = None,
        producing_call: str | None = None,
        name: str | None = None,
        limit: int = DEFAULT_LIMIT,
    ) -> Found:
        """Artifacts of an execution in the order in which its calls were made, of failed tries too.

        ``kind`` is ``saved`` or ``result``, ``producing_call`` the id of a call, ``name`` a
        saved name or the name of a checkpoint. At most ``limit``, the first ones.
        """
        if kind is not None and kind not in KINDS:
            raise KitaruUsageError(
                f"kind={shortened(kind)}: pass one of {', '.join(KINDS)}."
                + (did_you_mean(kind, KINDS) if isinstance(kind, str) else ""),
                code="option-invalid",
            )
        limit = checked_limit(limit)
        row = find_row(self._store, self._project, exec_id)
        return [
            artifact
            for artifact in artifacts_of(self._store, row)
            if kind in (None, artifact.kind)
            and producing_call in (None, artifact.producing_call)
            and name in (None, artifact.name)
        ][:limit]


def choose(store: Store, row: ExecutionRow, name: str) -> ArtifactRef:
    """The one artifact of an execution that ``name`` means: a saved name, a checkpoint's, an id.

    Of a call that was tried several times it is what the last of these tries saved.
    """
    all_ = list(artifacts_of(store, row))
    by_id = [each for each in all_ if each.artifact_id == name]
    kept = newest_of(all_)
    found = by_id or [each for each in kept if each.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise KitaruStateError(
            f"execution {row.exec_id} has several artifacts {name!r}: pass the id of one of "
            f"them instead of its name:{_listed(found)}",
            code="artifact-ambiguous",
        )
    there = list(dict.fromkeys(each.name for each in kept))
    hint = did_you_mean(name, there) or (
        f" It has {', '.join(map(repr, there[:MAX_CANDIDATES]))}" if there else " It has none"
    )
    raise KitaruNotFoundError(
        f"execution {row.exec_id} has no artifact {name!r}: nothing of that name was saved, and "
        f"no checkpoint of that name has completed in it.{hint}",
        code="artifact-not-found",
    )


def _listed(found: Sequence[ArtifactRef]) -> str:
    lines = "".join(f"\n  {each.artifact_id}  {each.kind}" for each in found[:MAX_CANDIDATES])
    return lines + ("\n  and more" if len(found) > MAX_CANDIDATES else "")
