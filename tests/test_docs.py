"""The documentation under test: what README.md and docs/ show is run as it stands.

Every ```python block is run as a script in an empty project of its own; the
commands of every ```console block are run there too, and what is printed is
compared where the block shows it (`…` stands for anything). A block whose first
line is `# name.py` is there under that name for the blocks after it in the same
document. A block under `<!-- not run -->` is left alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(
    r"^(?P<skip><!-- not run -->\n+)?```(?P<language>\w+)\n(?P<body>.*?)^```$", re.M | re.S
)
FILE_NAME = re.compile(r"# ([\w/]+\.py)\n")
MAX_SECONDS = 60


@dataclass(frozen=True)
class Block:
    """A fenced block, with the named files that its document showed before it."""

    document: str
    line: int
    language: str
    body: str
    files: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def read_blocks(document: Path, name: str) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    files: dict[str, str] = {}
    blocks = []
    for found in FENCE.finditer(text):
        language, body = found["language"], found["body"]
        named = FILE_NAME.match(body) if language == "python" else None
        if named:
            files[named[1]] = body
        if language in ("python", "console") and not found["skip"]:
            line = text.count("\n", 0, found.start("language")) + 1
            blocks.append(Block(name, line, language, body, tuple(files.items())))
    return blocks


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def all_blocks() -> list[Block]:
    return [
        block
        for document in documents()
        for block in read_blocks(document, document.relative_to(ROOT).as_posix())
    ]


def make_project(folder: Path, block: Block) -> None:
    """An empty project, so that the store is made there and nowhere above."""
    (folder / "pyproject.toml").write_text('[project]\nname = "example"\nversion = "0"\n')
    for name, body in block.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(body, encoding="utf-8")


def run(command: str | list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    kept["HOME"] = str(folder)
    kept["COLUMNS"] = "100"
    return subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env=kept,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=MAX_SECONDS,
        check=False,
    )


def commands_of(body: str) -> list[tuple[str, str]]:
    """(command, what it is shown to print) of a console block."""
    pairs = [part.partition("\n") for part in re.split(r"^\$ ", body, flags=re.M)[1:]]
    return [(command, shown) for command, _, shown in pairs]


def looks_like(printed: str, shown: str) -> bool:
    """Whether output is as shown; trailing blanks do not count, `…` is anything."""
    expected = "\n".join(line.rstrip() for line in shown.strip().splitlines())
    actual = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    return re.fullmatch(re.escape(expected).replace("…", ".*"), actual, re.S) is not None


@pytest.mark.parametrize("block", all_blocks(), ids=str)
def test_an_example_in_the_documentation_works_as_shown(block: Block, tmp_path: Path) -> None:
    make_project(tmp_path, block)
    if block.language == "python":
        named = FILE_NAME.match(block.body)
        script = tmp_path / (named[1] if named else "example.py")
        script.write_text(block.body, encoding="utf-8")
        done = run([sys.executable, str(script)], tmp_path)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        return
    for command, shown in commands_of(block.body):
        done = run(command, tmp_path)
        assert done.returncode == 0, f"{block}: {command}\n{done.stdout}{done.stderr}"
        assert looks_like(done.stdout, shown) or not shown.strip(), (
            f"{block}: {command}\nprinted:\n{done.stdout}\nthe document shows:\n{shown}"
        )


def test_the_collector_finds_files_commands_and_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\n# one.py\nprint(1)\n```\n\n<!-- not run -->\n```console\n$ rm -r x\n```\n"
        "\n```console\n$ python one.py\n1\n$ true\n```\n"
    )
    python, console = read_blocks(page, "page.md")
    assert (python.language, python.line) == ("python", 1)
    assert console.files == (("one.py", "# one.py\nprint(1)\n"),)
    assert commands_of(console.body) == [("python one.py", "1\n"), ("true", "")]


def test_shown_output_is_compared_but_for_what_an_ellipsis_hides() -> None:
    assert looks_like("id 0192\ndone \n", "id …\ndone\n")
    assert not looks_like("id 0192\nfailed\n", "id …\ndone\n")
