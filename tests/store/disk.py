"""A disk that may lose whatever was not synced: the model behind the power cuts.

Written to be read. It keeps what POSIX promises and nothing more. A file's bytes
are safe once that file was synced, a name once its folder was. All else may be on
the platter or not, in any order: each sector in any version that it ever had in
memory, a length without the bytes or bytes without the length, a name without
what was written under it. It knows nothing of databases or of traces.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field

SECTOR_BYTES = 512

MODES = ("none", "all", "prefix", "some")
"""What survives of the unsynced operations of one file or folder."""


@dataclass
class Content:
    """Bytes and length; behind ``data`` stand zeros, so that long empty logs cost nothing."""

    data: bytearray = field(default_factory=bytearray)
    length: int = 0

    def copy(self) -> Content:
        return Content(bytearray(self.data), self.length)

    def put(self, offset: int, data: bytes) -> None:
        """Write bytes; the length is the caller's."""
        if offset >= len(self.data):
            data = data.rstrip(b"\0")
            if not data:
                return
        end = offset + len(data)
        if len(self.data) < end:
            self.data.extend(bytes(end - len(self.data)))
        self.data[offset:end] = data

    def cut(self, length: int) -> None:
        del self.data[length:]
        self.length = length


@dataclass
class Write:
    at: int
    """When it was called, in the order of the trace."""
    offset: int
    data: bytes

    def perform(self, content: Content) -> None:
        content.put(self.offset, self.data)
        content.length = max(content.length, self.offset + len(self.data))


@dataclass
class SetLength:
    at: int
    length: int

    def perform(self, content: Content) -> None:
        content.cut(self.length)


class File:
    def __init__(self) -> None:
        self.durable = Content()
        self.length = 0
        """What a program would see now."""
        self.pending: list[Write | SetLength] = []

    def write(self, operation: Write) -> None:
        self.pending.append(operation)
        self.length = max(self.length, operation.offset + len(operation.data))

    def set_length(self, operation: SetLength) -> None:
        self.pending.append(operation)
        self.length = operation.length

    def sync(self, before: int) -> None:
        while self.pending and self.pending[0].at < before:
            self.pending.pop(0).perform(self.durable)

    def survive(self, mode: str, die: random.Random) -> Content:
        """What is on the platter after a power cut now."""
        if not self.pending or mode == "none":
            return self.durable
        content = self.durable.copy()
        if mode == "some":
            _write_some(content, self.pending, die)
            return content
        count = len(self.pending) if mode == "all" else die.randint(0, len(self.pending))
        for operation in self.pending[:count]:
            operation.perform(content)
        return content


def _write_some(content: Content, pending: list[Write | SetLength], die: random.Random) -> None:
    """Stop each sector, and the length, at a version of its own.

    A sector is written as a whole, and as it stood in memory then: so it never
    holds a later write without an earlier one to the same sector.
    """
    chance = die.choice((0.02, 0.2, 0.5, 0.9))
    stopped: set[int] = set()
    length, length_stopped = content.length, False
    if die.random() < 0.3:
        _leave_rubbish(content, die)
    for operation in pending:
        length_stopped = length_stopped or die.random() < chance
        if isinstance(operation, SetLength):
            if not length_stopped:
                length = operation.length
                content.cut(length)
            continue
        if not length_stopped:
            length = max(length, operation.offset + len(operation.data))
        if operation.offset >= len(content.data) and not operation.data.strip(b"\0"):
            continue  # Zeros behind the end: there is nothing of it but the length.
        _write_sectors(content, operation, stopped, chance, die)
    content.cut(length)


def _leave_rubbish(content: Content, die: random.Random) -> None:
    """Let what stood in those sectors before show where the file grew, but was not written.

    Its own older bytes are the nastiest: they look right, and stand in the wrong place.
    """
    sectors = len(content.data) // SECTOR_BYTES
    start = die.randint(0, sectors) * SECTOR_BYTES
    rubbish = die.choice((die.randbytes(16_384), bytes(content.data[start : start + 65_536])))
    end = -(-content.length // SECTOR_BYTES) * SECTOR_BYTES
    content.put(end, rubbish)


def _write_sectors(
    content: Content, operation: Write, stopped: set[int], chance: float, die: random.Random
) -> None:
    offset, data = operation.offset, operation.data
    end = offset + len(data)
    for sector in range(offset // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1):
        if sector in stopped or die.random() < chance:
            stopped.add(sector)
            continue
        start = max(offset, sector * SECTOR_BYTES)
        stop = min(end, (sector + 1) * SECTOR_BYTES)
        content.put(start, data[start - offset : stop - offset])


@dataclass
class Names:
    """One change of a folder: names that vanish and names that appear, together or not at all."""

    at: int
    gone: str | None
    new: str | None
    node: File | Folder | None

    def perform(self, entries: dict[str, File | Folder]) -> None:
        if self.gone is not None:
            entries.pop(self.gone, None)
        if self.new is not None and self.node is not None:
            entries[self.new] = self.node


class Folder:
    def __init__(self) -> None:
        self.durable: dict[str, File | Folder] = {}
        self.now: dict[str, File | Folder] = {}
        self.pending: list[Names] = []

    def change(self, change: Names) -> None:
        change.perform(self.now)
        self.pending.append(change)

    def sync(self, before: int) -> None:
        while self.pending and self.pending[0].at < before:
            self.pending.pop(0).perform(self.durable)

    def survive(self, mode: str, die: random.Random) -> dict[str, File | Folder]:
        entries = dict(self.durable)
        count = die.randint(0, len(self.pending)) if mode == "prefix" else len(self.pending)
        for change in self.pending[:count]:
            if mode in ("all", "prefix") or (mode == "some" and die.random() < 0.5):
                change.perform(entries)
        return entries


class Disk:
    """A tree of folders and files below ``root``, which itself is safe."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.top = Folder()

    @classmethod
    def of_folder(cls, root: str) -> Disk:
        """What stands in ``root`` now, all of it durable."""
        disk = cls(root)
        for path, folders, files in os.walk(root):
            folder = disk.folder(path)
            for name in folders:
                folder.durable[name] = folder.now[name] = Folder()
            for name in files:
                file = folder.durable[name] = folder.now[name] = File()
                with open(os.path.join(path, name), "rb") as source:
                    file.durable = Content(bytearray(source.read()))
                file.length = file.durable.length = len(file.durable.data)
        return disk

    def find(self, path: str) -> File | Folder | None:
        node: File | Folder | None = self.top
        for name in _parts(self.root, path):
            node = node.now.get(name) if isinstance(node, Folder) else None
        return node

    def folder(self, path: str) -> Folder:
        node = self.find(path)
        assert isinstance(node, Folder), path
        return node

    def file(self, path: str) -> File:
        node = self.find(path)
        assert isinstance(node, File), path
        return node

    def add(self, at: int, path: str, node: File | Folder) -> None:
        self.folder(os.path.dirname(path)).change(Names(at, None, os.path.basename(path), node))

    def remove(self, at: int, path: str) -> None:
        self.folder(os.path.dirname(path)).change(Names(at, os.path.basename(path), None, None))

    def rename(self, at: int, old: str, new: str) -> None:
        assert os.path.dirname(old) == os.path.dirname(new), "a move between folders"
        node = self.file(old)
        self.folder(os.path.dirname(old)).change(
            Names(at, os.path.basename(old), os.path.basename(new), node)
        )

    def unsynced(self) -> int:
        """How many operations a power cut now could undo."""

        def count(node: File | Folder) -> int:
            inside = node.now.values() if isinstance(node, Folder) else ()
            return len(node.pending) + sum(map(count, inside))

        return count(self.top)

    def write_image(self, into: str, die: random.Random) -> None:
        """Write one of the states in which a power cut now may leave the disk."""
        mode = die.choice((*MODES, "mixed", "mixed"))
        # One version of each file, though it may have two names.
        seen: dict[File, Content] = {}

        def write(node: File | Folder, path: str) -> None:
            own = die.choice(MODES) if mode == "mixed" else mode
            if isinstance(node, Folder):
                os.mkdir(path, 0o700)
                for name, child in node.survive(own, die).items():
                    write(child, os.path.join(path, name))
                return
            if node not in seen:
                seen[node] = node.survive(own, die)
            _write_file(path, seen[node], die)

        write(self.top, into)


def _write_file(path: str, content: Content, die: random.Random) -> None:
    with open(path, "wb") as file:
        if path.endswith("-shm"):
            # Shared memory, which nobody syncs: anything may stand in it.
            file.write(die.choice((b"", bytes(32768), die.randbytes(32768))))
            return
        file.write(content.data)
        file.truncate(content.length)


def _parts(root: str, path: str) -> list[str]:
    relative = os.path.relpath(path, root)
    return [] if relative == "." else relative.split(os.sep)
