"""Arrow and Polars records that unpack to more than there is memory, or that lie."""

from __future__ import annotations

import base64
import json
import random
import zlib
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from kitaru._core.payload import seal
from kitaru._core.values import decode
from kitaru._core.values.ipc import check_file, check_stream
from kitaru._store import blobs
from kitaru._store.blobs import Blobs
from kitaru.env import SystemEnv
from kitaru.errors import KitaruValueError

ROWS = 100_000


def stream_of(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def file_of(frame: pl.DataFrame, compression: Any = "uncompressed") -> bytes:
    file = BytesIO()
    frame.write_ipc(file, compression=compression)
    return file.getvalue()


def opened(tag: str, data: bytes, **more: Any) -> Any:
    tree = {"$kitaru": tag, "v": base64.b64encode(data).decode(), **more}
    return decode(seal("json", json.dumps(tree).encode()), what="a test")


TABLE = pa.table(
    {"zeros": pa.array([0] * ROWS), "texts": pa.array(["x"] * ROWS).dictionary_encode()}
)
FRAME = pl.DataFrame({"zeros": [0] * ROWS, "kinds": pl.Series(["x"] * ROWS, dtype=pl.Categorical)})


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_compressed_record_is_refused_before_it_is_unpacked(compression: str) -> None:
    packed = stream_of(TABLE, compression)
    assert len(packed) < TABLE.nbytes / 20
    with pytest.raises(KitaruValueError):
        opened("pyarrow.Table", packed, rows=ROWS, fields=[])
    packed = file_of(FRAME, compression)
    with pytest.raises(KitaruValueError):
        opened("polars.DataFrame", packed, shape=[ROWS, 2], fields=[])


def test_a_compressed_dictionary_alone_is_refused() -> None:
    words = pa.array([f"word {n}" for n in range(1000)]).dictionary_encode()
    table = pa.table({"words": words})
    for compression in (None, "zstd"):
        messages = pa.ipc.MessageReader.open_stream(stream_of(table, compression))
        schema, dictionary, _ = iter(messages)
        assert dictionary.type == "dictionary"
        alone = schema.serialize().to_pybytes() + dictionary.serialize().to_pybytes()
        if compression is None:
            check_stream(alone)
        else:
            with pytest.raises(ValueError, match="compressed"):
                check_stream(alone)


def test_what_is_not_compressed_is_read_as_before() -> None:
    assert opened("pyarrow.Table", stream_of(TABLE), rows=ROWS, fields=[]).equals(TABLE)
    assert opened("polars.DataFrame", file_of(FRAME), shape=[ROWS, 2], fields=[]).equals(FRAME)


def test_bytes_that_lie_are_refused_or_pass_and_nothing_else_is_raised() -> None:
    die = random.Random(7)
    small = pa.table({"a": [1, None], "w": pa.array(["x", "y"]).dictionary_encode()})
    frame = pl.DataFrame({"a": [1, None], "w": pl.Series(["x", "y"], dtype=pl.Categorical)})
    refused = 0
    for check, data in ((check_stream, stream_of(small)), (check_file, file_of(frame))):
        for _ in range(3000):
            broken = bytearray(data)
            for _ in range(die.randint(1, 4)):
                broken[die.randrange(len(broken))] = die.choice([0, 1, 127, 128, 255])
            if die.random() < 0.2:
                del broken[die.randrange(len(broken)) :]
            try:
                check(bytes(broken))
            except ValueError:
                refused += 1
    assert refused > 500


def test_a_blob_that_unpacks_without_end_is_not_unpacked_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "READABLE", blobs.READABLE._replace(max_payload_bytes=1000))
    kept = Blobs(str(tmp_path), SystemEnv())
    for size, expected in ((1000, b"\0" * 1000), (1_000_000, None)):
        digest = blake2b(b"\0" * size, digest_size=32).digest()
        path = Path(kept.path(digest))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(b"\0" * size))
        assert kept.find(digest) == expected
