"""``@checkpoint(codec="pickle")``: outcomes that a checkpoint asked to have pickled.

Unpickling runs whatever the bytes say. So this is the one way in which a store could
run code, and it is used for one thing only: the flow's own recall of a checkpoint whose
decorator says ``codec="pickle"`` today. Nothing else decodes such a payload.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kitaru._core.limits import Limits, in_force
from kitaru._core.payload import Payload, seal
from kitaru._core.values.codec import decode
from kitaru._core.values.paths import problem, type_name
from kitaru._core.values.tracebacks import message_of
from kitaru.masking import NEEDLES, secret_in

PICKLED = "pickle"


def encode_pickled(value: Any, *, what: str, limits: Limits | None = None) -> Payload:
    """The sealed pickle of a value that could be unpickled again.

    Raises ``KitaruValueError`` for what cannot be pickled or read back, or is too large.
    """
    import pickle

    limits = limits or in_force()
    try:
        data = pickle.dumps(value, protocol=5)
    except Exception as error:
        raise problem(
            what,
            "$",
            f"it cannot be pickled ({type(error).__name__}: {message_of(error)[:200]}): leave out "
            "what lives in one process only, or return plain data",
            code="value-not-storable",
        ) from error
    if len(data) > limits.max_payload_bytes:
        raise problem(
            what,
            "$",
            f"its pickle takes more than {limits.max_payload_bytes:,} bytes; store it in a file or "
            "bucket of yours and return its path",
            code="value-too-large",
        )
    name = secret_in(data) if NEEDLES else None
    if name is not None:
        raise problem(
            what,
            "$",
            f"the value of the secret {name} would stand in the store in clear: leave it out, or "
            "hand on the kitaru.Secret itself and call .get() where the value is needed",
            code="secret-in-value",
        )
    payload = seal(PICKLED, data)
    # What fails now can still be told; later it would stop an execution.
    back = type(_unpickled(payload, what))
    if back is not type(value):
        raise problem(
            what,
            "$",
            f"a {type_name(type(value))} would come back as a {type_name(back)}: mend its "
            "__reduce__, or return plain data",
            code="value-loses-state",
        )
    return payload


def decode_pickled(payload: Payload, *, what: str, hints: Sequence[type] = ()) -> Any:
    """The value of a checkpoint's own outcome, whose digest was checked by the store."""
    if payload.codec != PICKLED:
        return decode(payload, what=what, hints=hints, checked=True)
    return _unpickled(payload, what)


def _unpickled(payload: Payload, what: str) -> Any:
    import pickle

    try:
        return pickle.loads(payload.data)
    except Exception as error:
        raise problem(
            what,
            "$",
            f"its pickle cannot be read ({type(error).__name__}: {message_of(error)[:200]}): bring "
            "back the classes and versions that it was pickled with. The recorded value is kept as "
            "it is",
            code="pickle-unreadable",
        ) from error
