"""What the tests of codecs share: there and back, and interpreters of their own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from hypothesis import HealthCheck, settings

from kitaru._core.payload import Payload, seal
from kitaru._core.values import decode, dump, encode, to_tree

quick = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def there_and_back(value: Any) -> Any:
    """The value as it is read back; that it encodes to the same bytes again is checked, too."""
    payload = encode(value, what="a test")
    back = decode(payload, what="a test")
    assert type(back) is type(value)
    assert encode(back, what="a test") == payload
    return back


def digest_bytes(value: Any) -> bytes:
    """What an argument counts as."""
    return dump(to_tree(value, drop_defaults=True), sort=True)


def edited(payload: Payload, old: bytes, new: bytes) -> Payload:
    """A payload that somebody changed and sealed again, as the owner of a store can."""
    assert old in payload.data
    return seal(payload.codec, payload.data.replace(old, new))


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{code}\n{done.stderr}"
    return done.stdout


def refused_elsewhere(code: str, library: str, *, first: str = "") -> str:
    """What a fresh interpreter says of a payload that ``code`` bound to ``payload`` in this one.

    The path, the error, and on a line of its own whether it has imported ``library``; ``first``
    is what it runs before.
    """
    names: dict[str, Any] = {}
    exec(code, names)
    payload = names["payload"]
    return run_python(
        f"import sys\n{first}\n"
        "from kitaru import KitaruValueError\n"
        "from kitaru._core.payload import Payload\n"
        "from kitaru._core.values import decode\n"
        "try:\n"
        f"    decode(Payload({payload.codec!r}, {payload.data!r}, {payload.digest!r}), "
        "what='my_checkpoint')\n"
        "except KitaruValueError as error:\n"
        "    print(error.path, error)\n"
        f"print({library!r} in sys.modules)\n"
    )
