"""What was decided when a replay was made, as text that is frozen on the new execution.

A life that goes on after a crash decides by the same text, whatever became of the source
meanwhile. Knows no store and no calls.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple

from kitaru._core.payload import Payload, is_intact
from kitaru.errors import KitaruValueError


class ReplaySpec(NamedTuple):
    """What was decided when a replay was made: frozen on the execution, as JSON."""

    source: str
    """The execution that is replayed, and the number of its row."""
    row: int
    upto: int
    """The last attempt that counts: a retry of the source may record more."""
    from_: str | None
    """The call from which it runs anew, as somebody wrote it."""
    named: bytes | None
    changed: tuple[str, ...]
    """Inputs of the flow that are not those of the source."""
    failed: tuple[bytes, ...]
    """Final failures of the source, which a retry may open again."""
    calls: Mapping[bytes, tuple[str, Payload]]
    """Call -> (key, outcome) given."""
    waits: Mapping[bytes, tuple[str, str, Payload]]
    """Wait -> (key, label, answer) given."""

    def as_data(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "row": self.row,
            "upto": self.upto,
            "from": self.from_,
            "named": None if self.named is None else self.named.hex(),
            "changed": list(self.changed),
            "failed": [identity.hex() for identity in self.failed],
            "calls": {
                identity.hex(): {"key": key, **_payload_data(payload)}
                for identity, (key, payload) in self.calls.items()
            },
            "waits": {
                identity.hex(): {"key": key, "label": label, **_payload_data(payload)}
                for identity, (key, label, payload) in self.waits.items()
            },
        }

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> ReplaySpec:
        return cls(
            data["source"],
            data["row"],
            data["upto"],
            data["from"],
            None if data["named"] is None else bytes.fromhex(data["named"]),
            tuple(data["changed"]),
            tuple(map(bytes.fromhex, data["failed"])),
            {
                bytes.fromhex(identity): (given["key"], _payload_of(given))
                for identity, given in data["calls"].items()
            },
            {
                bytes.fromhex(identity): (given["key"], given["label"], _payload_of(given))
                for identity, given in data["waits"].items()
            },
        )


def _payload_data(payload: Payload) -> dict[str, str]:
    data = {"codec": payload.codec, "digest": payload.digest.hex()}
    try:
        return {**data, "text": payload.data.decode()}
    except UnicodeDecodeError:
        return {**data, "base64": base64.b64encode(payload.data).decode()}


def _payload_of(data: Mapping[str, Any]) -> Payload:
    raw = data["text"].encode() if "text" in data else base64.b64decode(data["base64"])
    payload = Payload(data["codec"], raw, bytes.fromhex(data["digest"]))
    if not is_intact(payload):
        raise KitaruValueError(
            "an outcome that was given to this replay is not what was recorded: run the "
            "replay of its source again",
            code="record-corrupt",
        )
    return payload
