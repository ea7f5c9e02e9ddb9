"""The documentation as a whole: what must be on some page is, and the site has no dead ends.

`tools/docs.py` builds and reads the real site, as a step of `make check`; here
its rules are tried on small sites of their own.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import kitaru
import kitaru.later
import kitaru.testing
from kitaru import setting_values, settings

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"kitaru_tool_{name}", ROOT / f"tools/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def docs_tool() -> ModuleType:
    return load_tool("docs")


def make_site(folder: Path, **pages: str) -> Path:
    """Pages by name: `index` is the start, others lie in folders of their own."""
    for name, body in pages.items():
        place = folder if name == "index" else folder / name
        place.mkdir(parents=True, exist_ok=True)
        (place / "index.html").write_text(f"<html><body>{body}</body></html>")
    return folder


# --- the reader of the built site ------------------------------------------------------


def test_a_whole_site_has_no_problems(docs_tool: ModuleType, tmp_path: Path) -> None:
    site = make_site(
        tmp_path,
        index='<a href="store/#views">x</a><a href="https://example.org/">y</a><img src="a.svg">',
        store='<h2 id="views">Views</h2><a href="..">up</a>',
    )
    (site / "a.svg").write_text("<svg/>")
    assert docs_tool.problems_of(site) == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="nowhere/">x</a>', "/: nowhere/: there is no such page or file"),
        ('<img src="a.png">', "/: a.png: there is no such page or file"),
        ('<a href="#top">x</a>', "/: #top: the page has no such heading"),
        ('<script src="https://cdn.example/x.js">', "is fetched from elsewhere"),
        ('<link rel="stylesheet" href="//fonts.example/f.css">', "is fetched from elsewhere"),
        ('<pre class="mermaid">a --> b</pre>', "is fetched from elsewhere"),
    ],
)
def test_a_dead_link_or_a_thing_from_elsewhere_is_a_problem(
    docs_tool: ModuleType, tmp_path: Path, body: str, problem: str
) -> None:
    [found] = docs_tool.problems_of(make_site(tmp_path, index=body))
    assert problem in found


def test_a_page_that_nothing_leads_to_is_a_problem(docs_tool: ModuleType, tmp_path: Path) -> None:
    [found] = docs_tool.problems_of(make_site(tmp_path, index="", lonely=""))
    assert found.startswith("/lonely/: nothing leads here")


def test_docstrings_become_markdown() -> None:
    as_markdown = load_tool("docstrings").as_markdown
    assert as_markdown("Made by :func:`~kitaru.flow`.") == "Made by `kitaru.flow`."
    example = as_markdown("Adds.\n\n    >>> 1 + 1\n    2")
    assert example == "Adds.\n\n```pycon\n>>> 1 + 1\n2\n```"


# --- what must be documented -----------------------------------------------------------


def api_names(page: str = "*") -> list[str]:
    """The names that pages of `docs/api` tell of, each as often as it is there."""
    pages = sorted((DOCS / "api").glob(f"{page}.md"))
    return re.findall(r"^::: kitaru\.(\w+)$", "\n".join(p.read_text() for p in pages), re.M)


def test_every_public_name_is_in_the_api_pages_once_and_no_other() -> None:
    assert sorted(api_names()) == kitaru.__all__


def test_every_public_name_of_the_test_kit_is_in_the_api_pages() -> None:
    public = set(kitaru.testing.__all__)
    page = (DOCS / "api" / "testing.md").read_text()
    assert set(re.findall(r"^::: kitaru\.testing\.(\w+)$", page, re.M)) == public


NOW = sorted(set(kitaru.__all__) - set(api_names("later")))


@pytest.mark.parametrize("name", NOW)
def test_a_public_name_and_all_that_it_offers_have_docstrings(name: str) -> None:
    thing = getattr(kitaru, name)
    assert inspect.getdoc(thing)
    members = vars(thing) if inspect.isclass(thing) else {}
    silent = [
        member
        for member, found in members.items()
        if not member.startswith("_")
        and (callable(found) or isinstance(found, property))
        and not inspect.getdoc(found)
    ]
    assert silent == []


@pytest.mark.parametrize("name", [n for n in NOW if inspect.isfunction(getattr(kitaru, n))])
def test_a_public_function_has_an_example(name: str) -> None:
    assert ">>> " in str(inspect.getdoc(getattr(kitaru, name)))


def test_names_of_later_releases_stand_apart_until_they_are_there() -> None:
    later = json.loads((ROOT / "tests/data/public_names.json").read_text())["later"]
    assert set(api_names("later")) == {*later["functions"], *later["classes"], *later["values"]}


def test_every_error_has_its_place_among_the_errors() -> None:
    errors = json.loads((ROOT / "tests/data/public_names.json").read_text())["errors"]
    assert sorted(api_names("errors")) == sorted(errors)


def test_pages_in_the_navigation_exist() -> None:
    config = tomllib.loads((ROOT / "zensical.toml").read_text())
    pages = re.findall(r"'([\w/-]+\.md)'", str(config["project"]["nav"]))
    assert len(pages) == len(set(pages))
    assert [page for page in pages if not (DOCS / page).is_file()] == []


# --- settings --------------------------------------------------------------------------


def settings_rows() -> dict[str, list[str]]:
    """Setting -> the cells of its row on the page of configuration."""
    page = (DOCS / "configuration.md").read_text()
    table = page.partition("| setting |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return {cells[0].strip("`"): cells for cells in rows}


def test_every_setting_is_on_the_page_of_configuration_with_its_default() -> None:
    rows = settings_rows()
    assert set(rows) == set(settings.BUILT_IN)
    for name, (setting, variable, values, default, meaning) in rows.items():
        assert (setting, variable) == (f"`{name}`", f"`KITARU_{name.upper()}`")
        assert values
        assert meaning
        if settings.BUILT_IN[name] is not None:
            assert default == f"`{settings.BUILT_IN[name]!r}`".replace("'", '"')


def test_what_the_page_says_of_each_setting_is_what_configure_takes() -> None:
    assert set(settings.BUILT_IN) < set(inspect.signature(settings.configure).parameters)
    assert f"1 to {setting_values.MAX_CONCURRENCY:,}" == settings_rows()["max_concurrency"][2]


def test_every_variable_that_the_sources_read_is_on_the_page() -> None:
    page = (DOCS / "configuration.md").read_text()
    lines = [line for p in (ROOT / "src").rglob("*.py") for line in p.read_text().splitlines()]
    sources = "\n".join(line for line in lines if ">>>" not in line)
    read = set(re.findall(r"environ(?:\.get\(|\[)\"(\w+)\"", sources))
    assert {name for name in read if f"`{name}`" not in page} == set()


# --- what lies outside the site ----------------------------------------------------------


def headings(page: Path) -> set[str]:
    """What may stand behind `#` in a link to that page, as code hosts make it of headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "page",
    [*ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md"), *(ROOT / "bench").rglob("*.md")],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_a_page_outside_the_site_links_to_what_is_there(page: Path) -> None:
    dead = []
    text = re.sub(r"`[^`\n]*`", "", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, heading = target.partition("#")
        if "://" in target:
            continue
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (heading and heading not in headings(linked)):
            dead.append(target)
    assert dead == []
