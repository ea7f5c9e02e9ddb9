"""Build the documentation into `site/`, strictly: `python tools/docs.py` (or `make docs`).

The generator refuses links to pages and headings that are not there. What it
made is then read as a browser would read it: every link in every page leads
somewhere, every page can be reached, and nothing is fetched from elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))
import setup_env

ROOT = setup_env.ROOT
SITE = ROOT / "site"

HERE = "http://site"
"""Stands for wherever the site is put."""

# What a browser loads without being asked, by tag and attribute.
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src")}

# For what bears one of these classes the theme fetches a script from a public host.
FETCHED_FOR = {"mermaid", "pyodide"}


@dataclass
class Page(HTMLParser):
    """What a page refers to, and what others may refer to in it."""

    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        self.anchors |= {said[name] for name in ("id", "name") if name in said}
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        if tag == "link" and {"stylesheet", "icon"} & set(said.get("rel", "").split()):
            self.loaded.append(said["href"])
        self.loaded += [said[name] for name in said if (tag, name) in LOADED]
        if FETCHED_FOR & set(said.get("class", "").split()):
            self.loaded.append(f"https://unpkg.com/{said['class']}")


def read_site(site: Path) -> dict[str, Page]:
    """Address on the site (`/store/`) -> what its page says."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        address = "/" + path.relative_to(site).as_posix().removesuffix("index.html")
        pages[address] = Page()
        pages[address].feed(path.read_text(encoding="utf-8"))
    return pages


def problem_of(link: str, address: str, pages: dict[str, Page], site: Path) -> str | None:
    """What is wrong with a link on the page of that address, or None."""
    parts = urlsplit(urljoin(HERE + address, link))
    if parts.netloc != "site":
        return None
    target = pages.get(parts.path)
    if target is None:
        missing = not (site / unquote(parts.path).lstrip("/")).is_file()
        return "there is no such page or file" if missing else None
    if parts.fragment and unquote(parts.fragment) not in target.anchors:
        return "the page has no such heading"
    return None


def reached_from_the_start(pages: dict[str, Page]) -> set[str]:
    seen: set[str] = set()
    ahead = ["/"]
    while ahead:
        address = ahead.pop()
        if address in seen or address not in pages:
            continue
        seen.add(address)
        ahead += [urlsplit(urljoin(HERE + address, link)).path for link in pages[address].links]
    return seen


def problems_of(site: Path) -> list[str]:
    """Dead links, pages that nobody finds, and what would need the network to be shown."""
    # The page for addresses that are not there lies at no fixed depth.
    pages = {k: v for k, v in read_site(site).items() if k != "/404.html"}
    found = []
    for address, page in pages.items():
        for link in sorted({*page.links, *page.loaded}):
            problem = problem_of(link, address, pages, site)
            if problem is not None:
                found.append(f"{address}: {link}: {problem}")
        for source in page.loaded:
            if urlsplit(source).netloc:
                found.append(f"{address}: {source}: is fetched from elsewhere: keep it in docs/")
    for address in sorted(set(pages) - reached_from_the_start(pages)):
        found.append(f"{address}: nothing leads here: add it to `nav` in zensical.toml, or link it")
    return found


def build() -> int:
    """Build and check -> an exit status."""
    python = setup_env.ensure()
    done = subprocess.run(
        [str(python.with_name("zensical")), "build", "--clean", "--strict"],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        # Past the issues there is only the generator's own traceback.
        print(done.stdout.partition("Traceback")[0].rstrip(), file=sys.stderr)
        return 1
    problems = problems_of(SITE)
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    if not problems:
        print("docs  built into site/; to look at it while you write: .venv/bin/zensical serve")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(build())
