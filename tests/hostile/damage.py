"""What may have become of a store's folder; each does it to a folder with a good store in it.

The database is edited with the standard library's SQLite, which no test may do to a store that is
open: these are closed.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

Damage = Callable[[Path], None]


def database(folder: Path) -> Path:
    return folder / "kitaru.db"


def log(folder: Path) -> Path:
    return folder / "kitaru.db-wal"


def sql(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database(folder))) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def replaced(make: Callable[[Path], object]) -> Damage:
    """The database is gone, and something else stands there."""

    def damage(folder: Path) -> None:
        database(folder).unlink()
        make(database(folder))

    return damage


def edited(change: Callable[[bytearray], object]) -> Damage:
    def damage(folder: Path) -> None:
        data = bytearray(database(folder).read_bytes())
        change(data)
        database(folder).write_bytes(data)

    return damage


def _is_file(name: str) -> Damage:
    def damage(folder: Path) -> None:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).write_text("mine")

    return damage


def _other_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table precious (a)")
        connection.execute("insert into precious values (1)")
        connection.commit()


def _linked(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere.db"
    database(folder).rename(elsewhere)
    database(folder).symlink_to(elsewhere)


def _drop_tables(folder: Path) -> None:
    names = ("notes", "learnt", "calls", "attempts", "executions", "owners")
    sql(folder, *(f"drop table {name}" for name in names))


def _each_blob(change: Callable[[Path], object]) -> Damage:
    def damage(folder: Path) -> None:
        blobs = [path for path in (folder / "blobs").rglob("*") if path.is_file()]
        assert blobs, "there is nothing to damage"
        for blob in blobs:
            blob.chmod(0o600)
            change(blob)

    return damage


USABLE: dict[str, Damage] = {
    "a log of garbage": lambda folder: _write(log(folder), os.urandom(50_000)),
    "an empty log": lambda folder: _write(log(folder), b""),
    "shared memory of garbage": lambda f: _write(f / "kitaru.db-shm", os.urandom(32_768)),
    "strange files beside it": lambda folder: _write(folder / "thesis.txt", b"mine"),
    "everybody may read it": lambda folder: folder.chmod(0o777),
    "no folder of owners": lambda folder: shutil.rmtree(folder / "owners", ignore_errors=True),
    "no .gitignore": lambda folder: (folder / ".gitignore").unlink(),
}
"""Nothing that was recorded is lost by it: the store works on."""

REFUSED: dict[str, Damage] = {
    "empty": replaced(lambda path: path.touch()),
    "a directory": replaced(lambda path: path.mkdir()),
    "a pipe": replaced(lambda path: os.mkfifo(path)),
    "endless": replaced(lambda path: path.symlink_to("/dev/zero")),
    "full": replaced(lambda path: path.symlink_to("/dev/full")),
    "a link to nothing": replaced(lambda path: path.symlink_to("nowhere")),
    "a link to itself": replaced(lambda path: path.symlink_to(path)),
    "a link to the database": _linked,
    "a text": replaced(lambda path: path.write_text("this is no database\n" * 100)),
    "a database of another program": replaced(_other_program),
    "cut in half": edited(lambda data: data.__delitem__(slice(len(data) // 2, None))),
    "cut within a page": edited(lambda data: data.__delitem__(slice(5000, None))),
    "cut to a hundred bytes": edited(lambda data: data.__delitem__(slice(100, None))),
    "zeros": edited(lambda data: data.__setitem__(slice(None), bytes(len(data)))),
    "zeros in its header": edited(lambda data: data.__setitem__(slice(0, 100), bytes(100))),
    "of a newer schema": lambda folder: sql(folder, "update meta set schema_version = 999"),
    "of a schema that never was": lambda folder: sql(folder, "update meta set schema_version = -5"),
    "without its first row": lambda folder: sql(folder, "delete from meta"),
    "without its first table": lambda folder: sql(folder, "drop table meta"),
    "without its tables": _drop_tables,
    "with a log that is a folder": lambda folder: log(folder).mkdir(),
    "with a file for its owners": _is_file("owners"),
    "with a folder for its .gitignore": lambda folder: _folder_for(folder / ".gitignore"),
}
"""Every use of it says what is wrong and what to do, and changes nothing."""

BLOBS: dict[str, Damage] = {
    "gone": _each_blob(lambda blob: blob.unlink()),
    "cut": _each_blob(lambda blob: os.truncate(blob, blob.stat().st_size // 2)),
    "empty": _each_blob(lambda blob: os.truncate(blob, 0)),
    "changed": _each_blob(lambda blob: blob.write_bytes(_other_byte(blob.read_bytes()))),
    "a folder": _each_blob(lambda blob: _folder_for(blob)),
    "garbage": _each_blob(lambda blob: blob.write_bytes(os.urandom(5000))),
}
"""The rows are good, and large values are not: they raise when they are read, and nothing else."""


def _other_byte(data: bytes) -> bytes:
    return data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _folder_for(path: Path) -> None:
    path.unlink()
    path.mkdir()
