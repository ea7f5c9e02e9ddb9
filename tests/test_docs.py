"""The documentation under test: what README.md and docs/ show is run as it stands.

Every ```python block is run as a script in an empty project of its own; the
commands of every ```console block are run there too, and what is printed is
compared where the block shows it (`…` stands for anything). A block whose first
line is `# name.py` (or `# name.toml`) is there under that name for the blocks after
it in the same document; it is run by itself unless a command of one of them runs it.
A ```diff block whose first line is `# name.py` changes that file for the blocks after it.

In a command `ID` stands for the newest execution's id. Where the output that is
shown ends with `Killed` or `^C`, the program is killed, or interrupted, as soon as
it has printed what stands above.

Remarks for this file, each on a line of its own, invisible to readers:

`<!-- not run -->` above a block: it is left alone.
`<!-- fails -->` above a block: its commands must fail; what they say on stderr is
compared too.
`<!-- one project -->` in a document: its blocks are followed from top to bottom, as
a reader would, in one project.
`<!-- on PostgreSQL -->` in a document: `KITARU_STORE` names a database for each project of it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(
    r"^(?:<!-- (?P<remark>not run|fails) -->\n+)?"
    r"```(?P<language>\w+)(?: [^\n]*)?\n(?P<body>.*?)^```$",
    re.M | re.S,
)
ONE_PROJECT = "<!-- one project -->"
ON_POSTGRESQL = "<!-- on PostgreSQL -->"
VARIABLES = "variables.json"
"""Beside a project: what its environment has on top."""
FILE_NAME = re.compile(r"# ([\w/]+\.(?:py|toml))\n")
FILES = ("python", "toml", "diff")
STOPS = {"Killed": signal.SIGKILL, "^C": signal.SIGINT}
MAX_SECONDS = 240


@dataclass(frozen=True)
class Block:
    """A fenced block, with the named files that its document showed before it."""

    document: str
    line: int
    language: str
    body: str
    files: tuple[tuple[str, str], ...] = ()
    remark: Literal["fails", None] = None

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def name(self) -> str | None:
        named = FILE_NAME.match(self.body) if self.language in FILES else None
        return named[1] if named else None


def read_blocks(document: Path, name: str) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    files: dict[str, str] = {}
    blocks = []
    for found in FENCE.finditer(text):
        language, remark = found["language"], found["remark"]
        line = text.count("\n", 0, found.start("language")) + 1
        block = Block(name, line, language, found["body"], remark=remark)
        if block.name and language == "diff":
            files[block.name] = edited(files[block.name], block)
        elif block.name:
            files[block.name] = block.body
        if remark != "not run" and (language in ("python", "console") or block.name):
            blocks.append(Block(name, line, language, block.body, tuple(files.items()), remark))
    return [block for place, block in enumerate(blocks) if not is_run_later(block, blocks[place:])]


def is_run_later(block: Block, behind: list[Block]) -> bool:
    """Whether a file is only read, or a command further down runs it."""
    if block.name is None:
        return False
    commands = [c for b in behind if b.language == "console" for c, _ in commands_of(b.body)]
    return block.language != "python" or f"python {block.name}" in commands


def edited(text: str, block: Block) -> str:
    """A file after the change that a block of the kind `diff` shows."""
    lines = block.body.splitlines(keepends=True)[1:]
    before = "".join(line[1:] for line in lines if not line.startswith("+"))
    after = "".join(line[1:] for line in lines if not line.startswith("-"))
    assert text.count(before) == 1, f"{block}: the lines before the change are not in {block.name}"
    return text.replace(before, after)


def documents() -> list[Path]:
    """Without the pages of errors, whose examples fail: tests/test_error_pages.py runs those."""
    pages = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", *(p for p in pages if p.parent != ROOT / "docs" / "errors")]


def all_stories() -> list[list[Block]]:
    """What is run in one project: each block for itself, or all of a document."""
    stories: list[list[Block]] = []
    for document in documents():
        blocks = read_blocks(document, document.relative_to(ROOT).as_posix())
        if ONE_PROJECT in document.read_text(encoding="utf-8"):
            stories.append(blocks)
        else:
            stories += [[block] for block in blocks]
    return [story for story in stories if story]


def make_project(folder: Path) -> None:
    """An empty project, so that the store is made there and nowhere above."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[project]\nname = "example"\nversion = "0"\n')


def write_files(folder: Path, block: Block) -> None:
    for name, body in block.files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != body:
            path.write_text(body, encoding="utf-8")


def environment(folder: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    kept["HOME"] = str(folder.parent)
    kept["COLUMNS"] = "100"
    kept["PYTHONUNBUFFERED"] = "1"  # as on a terminal: lines are seen when they are printed
    kept["PYTHONDONTWRITEBYTECODE"] = "1"  # a file may change twice in a second here
    more = folder.parent / VARIABLES
    return {**kept, **json.loads(more.read_text())} if more.exists() else kept


def run(command: str | list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=MAX_SECONDS,
        check=False,
    )


def stop(command: str, shown: list[str], number: signal.Signals, folder: Path) -> list[str]:
    """Run a command, stop it once it has printed as many lines as are shown -> those lines."""
    process = subprocess.Popen(
        shlex.split(command),
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        printed = [process.stdout.readline().rstrip() for _ in shown]
        process.send_signal(number)
        process.communicate(timeout=MAX_SECONDS)
    assert process.returncode not in (0, None), f"{command} came to its end before it was stopped"
    return printed


def commands_of(body: str) -> list[tuple[str, str]]:
    """(command, what it is shown to print) of a console block."""
    pairs = [part.partition("\n") for part in re.split(r"^\$ ", body, flags=re.M)[1:]]
    return [(command, shown) for command, _, shown in pairs]


def looks_like(printed: str, shown: str) -> bool:
    """Whether output is as shown; trailing blanks do not count, `…` is anything."""
    expected = "\n".join(line.rstrip() for line in shown.strip().splitlines())
    actual = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    return re.fullmatch(re.escape(expected).replace("…", ".*"), actual, re.S) is not None


def newest_execution(folder: Path) -> str:
    listed = run("kitaru executions list --limit 1 --output json", folder)
    found: str = json.loads(listed.stdout)["items"][0]["exec_id"]
    return found


def follow(block: Block, folder: Path) -> None:
    """Do what a reader of the block would do, and see what is shown."""
    write_files(folder, block)
    if block.language == "python":
        script = folder / (block.name or "example.py")
        script.write_text(block.body, encoding="utf-8")
        done = run([sys.executable, str(script)], folder)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        return
    for wanted, shown in commands_of(block.body):
        command = re.sub(r"\bID\b", lambda _: newest_execution(folder), wanted)
        lines = shown.rstrip().splitlines()
        if lines and lines[-1] in STOPS:
            printed = stop(command, lines[:-1], STOPS[lines[-1]], folder)
            assert looks_like("\n".join(printed), "\n".join(lines[:-1])), f"{block}: {printed}"
            continue
        done = run(command, folder)
        said = done.stdout + (done.stderr if block.remark == "fails" else "")
        what = f"{block}: {command}\nprinted:\n{done.stdout}{done.stderr}"
        assert (done.returncode != 0) is (block.remark == "fails"), what
        assert looks_like(said, shown) or not shown.strip(), f"{what}\nthe document shows:\n{shown}"


def as_parameter(story: list[Block]) -> Any:
    marks = [pytest.mark.slow] if len(story) > 1 else []  # a story takes a reader's time
    return pytest.param(story, id=str(story[0]), marks=marks)


@pytest.mark.parametrize("story", [as_parameter(story) for story in all_stories()])
def test_an_example_in_the_documentation_works_as_shown(
    story: list[Block], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if ON_POSTGRESQL in (ROOT / story[0].document).read_text(encoding="utf-8"):
        url = request.getfixturevalue("postgres_url")
        variables = {"KITARU_STORE": url, "KITARU_PROJECT": "shop"}
        (tmp_path / VARIABLES).write_text(json.dumps(variables))
    folder = tmp_path / "project"  # below the home folder, as people have it
    make_project(folder)
    for block in story:
        follow(block, folder)


def test_the_collector_finds_files_commands_and_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\n# one.py\nprint(1)\n```\n\n<!-- not run -->\n```console\n$ rm -r x\n```\n"
        "\n```console\n$ python two.py\n1\n$ true\n```\n"
    )
    python, console = read_blocks(page, "page.md")
    assert (python.language, python.line) == ("python", 1)
    assert console.files == (("one.py", "# one.py\nprint(1)\n"),)
    assert commands_of(console.body) == [("python two.py", "1\n"), ("true", "")]


def test_a_file_that_a_command_further_down_runs_is_not_run_twice(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ python one.py\n```\n```python\n# one.py\n```\n```toml\n# a.toml\n```\n"
        "```console\n$ python one.py\n```\n"
    )
    assert [block.line for block in read_blocks(page, "page.md")] == [1, 10]


def test_a_diff_changes_a_file_for_what_comes_after(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\n# one.py\nx = 1\ny = 2\nprint(x)\n```\n"
        "```diff\n# one.py\n x = 1\n-y = 2\n+y = 3\n```\n```console\n$ python one.py\n1\n```\n"
    )
    [console] = read_blocks(page, "page.md")
    assert console.files == (("one.py", "# one.py\nx = 1\ny = 3\nprint(x)\n"),)


def test_shown_output_is_compared_but_for_what_an_ellipsis_hides() -> None:
    assert looks_like("id 0192\ndone \n", "id …\ndone\n")
    assert not looks_like("id 0192\nfailed\n", "id …\ndone\n")


def test_a_program_is_stopped_where_the_block_shows_it(tmp_path: Path) -> None:
    body = "import threading\nprint('one')\nprint('two')\nthreading.Event().wait(60)\n"
    shown = "$ python wait.py\none\ntwo\nKilled\n$ python wait.py\none\n^C\n"
    block = Block("page.md", 1, "console", shown, (("wait.py", body),))
    follow(block, tmp_path)


def test_what_fails_must_fail_and_says_what_is_shown(tmp_path: Path) -> None:
    shown = "$ python -c 'raise SystemExit(\"no such thing\")'\nno such thing\n"
    follow(Block("page.md", 1, "console", shown, remark="fails"), tmp_path)
    with pytest.raises(AssertionError, match="no such thing"):
        follow(Block("page.md", 1, "console", shown), tmp_path)


def test_a_document_in_one_project_is_followed_from_top_to_bottom(tmp_path: Path) -> None:
    first, second = (("a.txt.py", "x"),), (("a.txt.py", "y"),)
    for files, seen in ((first, "x"), (second, "y")):
        follow(Block("page.md", 1, "console", f"$ cat a.txt.py\n{seen}\n", files), tmp_path)
