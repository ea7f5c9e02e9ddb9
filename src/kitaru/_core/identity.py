"""Which call is this call: the digests by which outcomes are found again.

    call = (parent call, branch, checkpoint, digest of the inputs, n)
           or, where the caller names it: (parent call, checkpoint, id)

An identity is valid within one execution, an idempotency key everywhere. Parts
are framed by their lengths and every kind of digest has its own domain, so that
two different things never hash the same bytes. This file knows only bytes and
names; what a digest of inputs is made of is in ``inputs.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from struct import Struct
from typing import Any

IDENTITY_BYTES = 16

ID_DIGITS = 12
"""Hex digits of a call's identity in its id; more where two calls agree in these."""

_NO_PARENT = 0xFFFF_FFFF
_CALL = Struct("<IqIIIQ")
_LENGTH = Struct("<I")
_REUSE = Struct(f"<I{IDENTITY_BYTES}sIq")


def _domain(name: bytes) -> Any:
    return blake2b(digest_size=IDENTITY_BYTES, person=name)


_call = _domain(b"kitaru.call")
_call_key = _domain(b"kitaru.callkey")
_named = _domain(b"kitaru.named")
_named_key = _domain(b"kitaru.namedkey")
_asked = _domain(b"kitaru.asked")
_child = _domain(b"kitaru.child")
_keyed_child = _domain(b"kitaru.namedchil")
_branch = _domain(b"kitaru.branch")
_reuse = _domain(b"kitaru.reuse")
_idempotency = _domain(b"kitaru.idem")
_uuid = _domain(b"kitaru.uuid4")
_random = _domain(b"kitaru.random")


def _finish(domain: Any, data: bytes) -> bytes:
    hasher = domain.copy()
    hasher.update(data)
    digest: bytes = hasher.digest()
    return digest


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def id_digits(identities: Iterable[bytes]) -> int:
    """How many hex digits tell these identities apart.

    >>> id_digits([bytes(16), b"\\x01" + bytes(15)])
    12
    """
    names = {identity.hex() for identity in identities}
    digits = ID_DIGITS
    while len({name[:digits] for name in names}) < len(names):
        digits += 4
    return digits


def framed(*parts: bytes | None) -> bytes:
    """The parts, each behind its length, so that no other parts give the same bytes.

    >>> framed(b"a", b"") != framed(b"", b"a")
    True
    """
    pieces = []
    for part in parts:
        if part is None:
            pieces.append(_LENGTH.pack(_NO_PARENT))
        else:
            pieces += (_LENGTH.pack(len(part)), part)
    return b"".join(pieces)


def _number(number: int) -> bytes:
    return number.to_bytes(8, "little", signed=True)


def call_identity(
    parent: bytes | None,
    parent_attempt: int,
    branch: bytes,
    checkpoint: str,
    inputs: bytes,
    n: int,
) -> bytes:
    """The identity of a call that is known by its inputs: 16 bytes.

    A call of the flow itself has no parent, and then the attempt does not count:
    neither a resume nor a retry of an execution gives the flow fresh calls.
    """
    name = checkpoint.encode("utf-8", "surrogatepass")
    if parent is None:
        parent, length, parent_attempt = b"", _NO_PARENT, 0
    else:
        length = len(parent)
    header = _CALL.pack(length, parent_attempt, len(branch), len(name), len(inputs), n)
    hasher = _call.copy()
    hasher.update(b"".join((header, parent, branch, name, inputs)))
    digest: bytes = hasher.digest()
    return digest


def call_key(
    parent_key: bytes | None, branch: bytes, checkpoint: str, inputs: bytes, n: int
) -> bytes:
    """The key path of a call: its identity without any attempt of its parents.

    ``parent_key`` is the parent's own key path.
    """
    return _finish(_call_key, framed(parent_key, branch, _text(checkpoint), inputs, _number(n)))


def named_identity(parent: bytes | None, parent_attempt: int, checkpoint: str, id: str) -> bytes:
    """The identity of a call that its caller named with ``id=``: the branch does not matter."""
    attempt = 0 if parent is None else parent_attempt
    return _finish(_named, framed(parent, _number(attempt), _text(checkpoint), _text(id)))


def named_key(parent_key: bytes | None, checkpoint: str, id: str) -> bytes:
    """The key path of a call that its caller named with ``id=``."""
    return _finish(_named_key, framed(parent_key, _text(checkpoint), _text(id)))


def asked_identity(
    parent: bytes | None, parent_attempt: int, branch: bytes, kind: str, name: str | None, n: int
) -> bytes:
    """The identity of an asking for a fact: ``kind`` is ``"now"``, ``"uuid4"`` or ``"random"``."""
    attempt = 0 if parent is None else parent_attempt
    asked_name = None if name is None else _text(name)
    return _finish(
        _asked, framed(parent, _number(attempt), branch, _text(kind), asked_name, _number(n))
    )


def child_identity(
    parent: bytes | None, parent_attempt: int, branch: bytes, flow: str, inputs: bytes, n: int
) -> bytes:
    """The identity of a child execution in its parent: like that of a call, in its own domain.

    ``parent`` is the checkpoint's call that starts it; None: the flow itself does.
    """
    attempt = 0 if parent is None else parent_attempt
    return _finish(
        _child, framed(parent, _number(attempt), branch, _text(flow), inputs, _number(n))
    )


def keyed_child_identity(flow: str, key: str) -> bytes:
    """The identity of a child that its key names, wherever in its parent it is asked for."""
    return _finish(_keyed_child, framed(_text(flow), _text(key)))


def branch_digest(parent: bytes, qualname: str, arguments: bytes, n: int) -> bytes:
    """The digest of a concurrent branch: what runs in it with what, beside which equals."""
    return _finish(_branch, framed(parent, _text(qualname), arguments, _number(n)))


def reuse_scope(project: str, checkpoint: str, code: bytes) -> Any:
    """What all reuse keys of one version of a checkpoint begin with: for :func:`reuse_key`.

    ``code`` is the digest of the code fingerprint, or what :func:`version_digest` gives.
    """
    scope = _reuse.copy()
    scope.update(framed(_text(project), _text(checkpoint), code))
    return scope


def reuse_key(scope: Any, inputs_ordered: bytes, n: int) -> bytes:
    """What another execution's outcome must have in common to be reused: 16 bytes."""
    hasher = scope.copy()
    # framed(inputs_ordered, _number(n)), in one step: this is asked at every call.
    hasher.update(_REUSE.pack(len(inputs_ordered), inputs_ordered, 8, n))
    digest: bytes = hasher.digest()
    return digest


def version_digest(version: str) -> bytes:
    """What stands for the code where ``@checkpoint(version=...)`` says it."""
    return blake2b(_text(version), digest_size=IDENTITY_BYTES, person=b"kitaru.version").digest()


def idempotency_key(exec_id: str, key_path: bytes) -> str:
    """The text by which services outside recognise a call, the same for all its attempts.

    At most 64 characters of ``[a-z0-9-]``, because some services allow no more.

    >>> idempotency_key("0198c0de-0000-7000-8000-000000000000", bytes(16))
    'kitaru-44640cd3bc79db66111c2c473197f51f'
    """
    return f"kitaru-{_finish(_idempotency, framed(_text(exec_id), key_path)).hex()}"


def derive_uuid4(seed: bytes, identity: bytes) -> str:
    """The UUID (version 4, RFC 9562) that this asking gets in every life of the execution.

    >>> derive_uuid4(bytes(16), bytes(16))[14]
    '4'
    """
    value = int.from_bytes(_finish(_uuid, framed(seed, identity)), "big")
    value = value & ~(0xF << 76) | 4 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def derive_random(seed: bytes, identity: bytes) -> float:
    """The float in [0, 1) that this asking gets in every life: 53 bits, evenly spread."""
    bits = int.from_bytes(_finish(_random, framed(seed, identity))[:8], "big") >> 11
    return bits / (1 << 53)
