"""From commits to release notes: pure text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from history import Commit

MAX_COMPONENTS = 4
OTHERS = "everything else"

HEADINGS = {"Added": ("add", "new", "show", "let", "give"), "Mended": ("fix", "mend", "repair")}


def by_component(commits: Sequence[Commit]) -> dict[str, list[Commit]]:
    """The components with most commits, by name; the others together."""
    found: dict[str, list[Commit]] = defaultdict(list)
    for commit in commits:
        found[commit.component].append(commit)
    ranked = sorted(found, key=lambda name: (-len(found[name]), name))
    kept = {name: found[name] for name in sorted(ranked[:MAX_COMPONENTS])}
    rest = [commit for name in ranked[MAX_COMPONENTS:] for commit in found[name]]
    return {**kept, OTHERS: rest} if rest else kept


def section(component: str, commits: Sequence[Commit]) -> str:
    """The notes of one component: what was added, mended and changed."""
    lines: dict[str, list[str]] = defaultdict(list)
    for commit in commits:
        lines[_heading(commit.subject)].append(f"- {commit.subject} ({commit.sha})")
    parts = [f"## {component}"]
    for heading in (*HEADINGS, "Changed"):
        if heading in lines:
            parts.append("\n".join([f"**{heading}**", "", *lines[heading]]))
    return "\n\n".join(parts)


def _heading(subject: str) -> str:
    word = subject.split(" ")[0].lower().rstrip(":")
    return next((name for name, words in HEADINGS.items() if word in words), "Changed")


def draft(version: str, sections: Sequence[str]) -> str:
    return "\n\n".join([f"# {version}", *sections]) + "\n"
