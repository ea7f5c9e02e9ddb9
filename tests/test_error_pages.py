"""Each error code has a page: what happened, why, what to do, and an example that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from tests.test_error_codes import ROOT, sites
from tools.error_index import HEADINGS, index

import kitaru
from kitaru import KitaruError, remembering
from kitaru.codes import CODES
from kitaru.testing import isolated_store

PAGES = ROOT / "docs" / "errors"
SECTIONS = ["What happened", "Why", "What to do", "Example"]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.M | re.S)
ALONE = "<!-- a program of its own -->"
WITHOUT = "No example here. "
MAX_SECONDS = 240


def text_of(code: str) -> str:
    return (PAGES / f"{code}.md").read_text(encoding="utf-8")


def sections_of(code: str) -> dict[str, str]:
    _, *parts = re.split(r"^## (.*)\n", text_of(code), flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks_of(code: str) -> list[tuple[str, str]]:
    return [(found[1], found[2]) for found in BLOCK.finditer(sections_of(code)["Example"])]


# --- the pages -----------------------------------------------------------------------------


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    pages = {path.stem for path in PAGES.glob("*.md")} - {"README"}
    missing = [f"write docs/errors/{code}.md, as the others are" for code in CODES.keys() - pages]
    left = [
        f"docs/errors/{page}.md: no such code in src/kitaru/codes.py"
        for page in pages - CODES.keys()
    ]
    assert not missing + left, "\n" + "\n".join(missing + left)


@pytest.mark.parametrize("code", CODES)
def test_a_page_says_what_happened_why_and_what_to_do(code: str) -> None:
    kind, meaning = CODES[code]
    assert text_of(code).startswith(
        f"# {code}\n\n**{meaning}**\n\nKind: [{HEADINGS[kind].lower()}]"
    ), f"docs/errors/{code}.md begins with its code, its meaning and its kind as in codes.py"
    sections = sections_of(code)
    assert list(sections) == SECTIONS
    for title in SECTIONS[:3]:
        assert len(sections[title].split()) >= 4, f"{code}: {title} says nothing"
    assert blocks_of(code) or sections["Example"].strip().startswith(WITHOUT), (
        f"{code}: show an example, or say why there is none: {WITHOUT}…"
    )


def test_a_page_names_the_classes_of_its_error() -> None:
    classes: dict[str, set[str]] = defaultdict(set)
    for site in sites():
        if site.is_literal and site.code is not None and site.maker in vars(kitaru):
            classes[site.code].add(site.maker)
    lacking = [
        f"docs/errors/{code}.md: name the class `{name}`"
        for code, names in classes.items()
        for name in names
        if f"`{name}`" not in text_of(code)
    ]
    assert not lacking, "\n" + "\n".join(lacking)


def test_the_table_of_codes_is_as_generated() -> None:
    assert (PAGES / "README.md").read_text(encoding="utf-8") == index(), (
        "run: python tools/error_index.py"
    )


# --- their examples --------------------------------------------------------------------------


def _runs_alone(code: str) -> bool:
    return ALONE in text_of(code) or any(language == "console" for language, _ in blocks_of(code))


WITH_EXAMPLE = [code for code in CODES if (PAGES / f"{code}.md").exists() and blocks_of(code)]
HERE = [code for code in WITH_EXAMPLE if not _runs_alone(code)]
ALONES = [code for code in WITH_EXAMPLE if _runs_alone(code)]


def test_most_codes_have_an_example() -> None:
    assert len(WITH_EXAMPLE) >= 0.7 * len(CODES)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "example"\nversion = "0"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    # What another test of this process, or a docstring, has said outside of flows.
    monkeypatch.setattr(remembering, "_outside", None)
    return tmp_path


@pytest.mark.parametrize("code", HERE)
def test_an_example_raises_the_error_of_its_page(code: str, project: Path) -> None:
    (_, source), *others = blocks_of(code)
    assert not others
    name = f"example_{code.replace('-', '_')}"
    (project / f"{name}.py").write_text(source, encoding="utf-8")
    with isolated_store(project / "store"), pytest.raises(KitaruError) as caught:
        __import__(name)
    assert caught.value.code == code


def run(command: str, project: Path) -> str:
    """What a command says on stderr."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
    done = subprocess.run(
        command,
        shell=True,
        cwd=project,
        env={
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(project.parent),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=MAX_SECONDS,
        check=False,
    )
    return done.stderr


@pytest.mark.parametrize("code", ALONES)
def test_an_example_that_is_a_program_ends_with_the_error_of_its_page(
    code: str, project: Path
) -> None:
    said = retry = ""
    for language, source in blocks_of(code):
        if language == "python":
            named = re.match(r"# ([\w/]+\.py)\n", source)
            script = project / (named[1] if named else "example.py")
            script.parent.mkdir(exist_ok=True)
            script.write_text(source, encoding="utf-8")
            if named is None:
                said = run(f"python {script}", project)
            continue
        for command in re.findall(r"^\$ (.*)$", source, re.M):
            said = run(re.sub(r"\bID\b", retry, command), project)
            retry = newest_failure(said) or retry
    last = (said.splitlines() or [""])[-1]
    assert last == f"kitaru explain {code}" or f'"code": "{code}"' in last, said


def newest_failure(said: str) -> str:
    """The id of the execution that a command says has failed."""
    return (re.findall(r"kitaru executions retry (\S+)", said) or [""])[-1]
