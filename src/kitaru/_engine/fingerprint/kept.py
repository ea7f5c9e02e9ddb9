"""Source files as they are kept with a new version of a checkpoint's code.

The fingerprint says *that* code changed; to show *how*, the old text has to be
somewhere. Whole files are kept, once for each digest, because to read and
compress one costs a tenth of what parsing it does, and this happens while a
program runs; whoever compares two versions cuts out the parts and parses them then.
Values are never kept: only what stands in the source.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

from kitaru._engine.fingerprint.sources import changed_since_start

MAX_FILE_BYTES = 512 * 1024
MAX_FILES = 200
_LEVEL = 1
_known: dict[str, tuple[tuple[int, int], Kept]] = {}


class Kept(NamedTuple):
    digest: bytes
    text: bytes
    """Compressed."""


def keep_files(files: Mapping[str, str]) -> dict[str, Kept]:
    """Module or part -> file, to its source; what is too large, gone or changed is left out."""
    found: dict[str, Kept] = {}
    for name, file in sorted(files.items())[:MAX_FILES]:
        kept = None if os.path.exists(file) and changed_since_start(file) else _keep(file)
        if kept is not None:
            found[name] = kept
    return found


def _keep(file: str) -> Kept | None:
    try:
        stat = os.stat(file)
    except (OSError, ValueError):
        return _from_memory(file)
    if stat.st_size > MAX_FILE_BYTES:
        return None
    state = (stat.st_mtime_ns, stat.st_size)
    known = _known.get(file)
    if known is None or known[0] != state:
        try:
            with open(file, "rb") as stream:
                kept = compress(stream.read(MAX_FILE_BYTES + 1))
        except OSError:
            return None
        known = _known[file] = (state, kept)
    return known[1]


def _from_memory(file: str) -> Kept | None:
    """A notebook's cell: its text is where tracebacks find it, if that was ever loaded."""
    linecache = sys.modules.get("linecache")
    try:
        lines = linecache.getlines(file) if linecache is not None else []
    except ValueError:  # a name that no file can have
        return None
    text = "".join(lines).encode("utf-8", "surrogatepass")
    return compress(text) if 0 < len(text) <= MAX_FILE_BYTES else None


def compress(text: bytes) -> Kept:
    return Kept(blake2b(text, digest_size=32).digest(), zlib.compress(text, _LEVEL))


def restore(digest: bytes, text: bytes | None) -> bytes | None:
    """The source again; None if it is not there, is too long or not what the digest names."""
    if text is None:
        return None
    unpacker = zlib.decompressobj()
    try:
        source = unpacker.decompress(text, MAX_FILE_BYTES + 1)
    except zlib.error:
        return None
    intact = blake2b(source, digest_size=32).digest() == digest
    return source if intact and len(source) <= MAX_FILE_BYTES else None
