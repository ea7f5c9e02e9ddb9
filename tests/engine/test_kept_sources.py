"""The source of what a checkpoint consists of is kept with each new version of its code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kitaru._engine.fingerprint.kept import MAX_FILE_BYTES, compress, keep_files, restore
from kitaru._store.sqlite.store import SqliteStore
from kitaru.env import SystemEnv

HELPERS = "def rounded(amount):\n    return round(amount, 1)  # pence\n"
SHOP = """
from kitaru import checkpoint, flow
from helpers import rounded

PASSWORD = __import__("os").environ["PASSWORD"]

@checkpoint
def price(number: int) -> float:
    return rounded(number * 2) + len(PASSWORD)

@flow
def buy(count: int) -> float:
    return sum(price(n) for n in range(count))

if __name__ == "__main__":
    buy.run(2).wait()
"""


def run(folder: Path, password: str = "hunter2") -> None:
    subprocess.run(
        [sys.executable, "-B", "shop.py"],
        cwd=folder,
        env={"PASSWORD": password, "HOME": str(folder.parent), "PATH": ""},
        check=True,
        timeout=60,
        capture_output=True,
    )


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    (folder / "helpers.py").write_text(HELPERS)
    (folder / "shop.py").write_text(SHOP)
    return folder


def kept(folder: Path) -> list[dict[str, bytes]]:
    """For each version of `price`, newest first, its sources by module."""
    store = SqliteStore.open(str(folder / ".kitaru"), env=SystemEnv(), project=None)
    versions: list[dict[str, bytes]] = []
    for code in store.list_codes(project=store.project, checkpoint="shop.price", limit=9):
        files: dict[str, Any] = json.loads(code.files or "null")
        digests = {name: bytes.fromhex(digest) for name, digest in files.items()}
        texts = {
            name: restore(digest, store.load_source(digest)) for name, digest in digests.items()
        }
        versions.append({name: text for name, text in texts.items() if text is not None})
    counted = store._database.read("select count(*) from sources", ())
    assert counted == [(len({text for texts in versions for text in texts.values()}),)]
    store.close()
    return versions


def test_every_version_has_its_sources_and_a_file_that_stayed_is_kept_once(shop: Path) -> None:
    run(shop)
    run(shop)
    assert kept(shop) == [{"helpers": HELPERS.encode(), "shop": SHOP.encode()}]
    changed = HELPERS.replace("1", "2")
    (shop / "helpers.py").write_text(changed)
    run(shop)
    newest, oldest = kept(shop)
    assert newest == {"helpers": changed.encode(), "shop": SHOP.encode()}
    assert oldest["helpers"] == HELPERS.encode()


def test_no_value_is_kept_but_only_what_stands_in_the_source(shop: Path) -> None:
    run(shop, password="hunter2")
    assert b"hunter2" not in (shop / ".kitaru" / "kitaru.db").read_bytes()


def test_what_is_too_large_or_gone_is_left_out(tmp_path: Path) -> None:
    large, gone = tmp_path / "large.py", tmp_path / "gone.py"
    large.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    assert keep_files({"large": str(large), "gone": str(gone), "odd": "a\0b"}) == {}


def test_a_source_that_was_tampered_with_or_explodes_is_not_believed() -> None:
    digest, text = compress(b"x = 1\n")
    assert restore(digest, text) == b"x = 1\n"
    assert restore(digest, None) is None
    assert restore(digest, b"nonsense") is None
    assert restore(digest, compress(b"x = 2\n").text) is None
    bomb = compress(bytes(50_000_000))
    assert restore(bomb.digest, bomb.text) is None
