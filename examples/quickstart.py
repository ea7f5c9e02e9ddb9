"""Checksums of a folder, to compare a backup with later: python quickstart.py FOLDER

Kill it half-way and run it again: the files that were read are not read again.
"""

import hashlib
import sys
from pathlib import Path

from kitaru import checkpoint, flow


@checkpoint
def checksum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@flow
def manifest(folder: Path) -> dict[Path, str]:
    return {file: checksum(file) for file in sorted(folder.rglob("*")) if file.is_file()}


if __name__ == "__main__":
    for file, digest in manifest.run(Path(sys.argv[1])).wait().items():
        print(f"{digest}  {file}")
