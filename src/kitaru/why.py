"""Why each call of a checkpoint ran, or whose outcome it reused, from what is recorded.

What the code's fingerprint cannot see is recorded with each version; where it is
not, a process that has loaded the checkpoint can tell.
"""

from __future__ import annotations

from collections.abc import Sequence

from kitaru._core.names import did_you_mean
from kitaru._engine.fingerprint import fingerprint
from kitaru._engine.loaded import loaded_spec
from kitaru.differences import Comparison
from kitaru.errors import KitaruError, KitaruNotFoundError
from kitaru.model import CheckpointCall, Why

MAX_CANDIDATES = 10


def choose_calls(
    calls: Sequence[CheckpointCall], wanted: str | None, exec_id: str
) -> list[CheckpointCall]:
    """The calls that ``wanted`` means: a checkpoint's name or id, the name's last part, a call id.

    None means all. Raises ``KitaruNotFoundError`` that lists what there is.
    """
    if wanted is None:
        return list(calls)
    for fits in (
        lambda call: wanted in (call.name, call.checkpoint_id),
        lambda call: call.checkpoint_id.rpartition(".")[2] == wanted,
        lambda call: call.call_id == wanted or call.call_id.rpartition(":")[2].startswith(wanted),
    ):
        found = [call for call in calls if fits(call)]
        if found:
            return found
    names = list(dict.fromkeys(call.name for call in calls))
    listed = ", ".join(names[:MAX_CANDIDATES]) or "none yet"
    more = f" and {len(names) - MAX_CANDIDATES} more" if len(names) > MAX_CANDIDATES else ""
    raise KitaruNotFoundError(
        f"execution {exec_id} has no recorded call of a checkpoint {wanted!r}; "
        f"recorded are: {listed}{more}.{did_you_mean(wanted, names)}",
        code="call-not-found",
    )


def explain_call(call: CheckpointCall, root: str | None, comparison: Comparison) -> Why:
    """The record that says why; ``root`` is the project whose code counts."""
    compared = comparison.of(call._recorded)
    unseen = comparison.unseen(call._recorded)
    if unseen is None:
        unseen = unseen_by_fingerprint(call.checkpoint_id, root)
    return Why(
        call_id=call.call_id,
        name=call.name,
        seq=call.seq,
        status=call.status,
        source=call.source,
        reason=call.reason,
        reused_from=call.reused_from,
        original_call_id=call.original_call_id,
        changed=call._changed,
        unseen=unseen,
        differences=compared.differences,
        compared_with=compared.with_exec_id,
    )


def unseen_by_fingerprint(checkpoint_id: str, root: str | None) -> tuple[str, ...] | None:
    """What the checkpoint's code fingerprint cannot see; None if it is not loaded here."""
    spec = loaded_spec(checkpoint_id)
    if spec is None:
        return None
    if spec.version is not None:
        return ()
    try:
        return fingerprint(spec.fn, root=root, what=spec.name).unseen
    except KitaruError as error:
        return (str(error),)
