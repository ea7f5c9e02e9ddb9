"""Messages between an owner and the process of a body: framed, over one socket.

Pickled, because both ends are this very program of this very user, one started by the
other; what users return and pass goes in them as payloads of our own encoding.
"""

from __future__ import annotations

import pickle
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

STATUS = struct.Struct("<iq")
"""How a body ended, as ``wait`` has it, and the most memory that it had, in the kernel's unit."""

_LENGTH = struct.Struct("<Q")
_READ_BYTES = 1 << 20


class Order(NamedTuple):
    """Everything that a process needs to know of the one call that it is to run."""

    module: str
    """The lasting name of the module of the checkpoint, importable from ``folder``."""
    folder: str
    path: str
    """Where in the module the checkpoint is found: ``Class.method``."""
    main: tuple[str, str] | None
    """(module, folder) of the owner's main script: classes of values may be its."""
    checkpoint: str
    argv: list[str]
    working_folder: str
    arguments: tuple[str, bytes]
    """(codec, data) of ``[args, kwargs]``."""
    pickled: bool
    memory_bytes: int | None
    limits: tuple[int, ...]
    levels: dict[str, int]
    """Levels of loggers that the owner has set; the root's is under ``""``."""
    code: tuple[bytes, str | None] | None
    """The digest of the code that the owner would record, and the root of its project."""
    exec_id: str
    flow_name: str
    flow_attempt: int
    seed: bytes
    key_root: bytes
    learnt: dict[bytes, str]
    identity: bytes
    attempt: int
    key: bytes
    kind: str | None


class Wire:
    """One end. Any thread may send; one reads."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._sending = threading.Lock()
        self._buffer = bytearray()

    def send(self, *message: Any) -> None:
        data = pickle.dumps(message, protocol=5)
        with self._sending:
            self.socket.sendall(_LENGTH.pack(len(data)))
            self.socket.sendall(data)

    def receive(self) -> Iterator[tuple[Any, ...]]:
        """What is there now, after waiting for something; ``EOFError`` at the end."""
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise EOFError
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            message = pickle.loads(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield message
