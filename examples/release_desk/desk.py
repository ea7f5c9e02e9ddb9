"""A release desk: notes are drafted from git, read by a person, held back, published once.

    kitaru run examples/release_desk/desk.py:release -- --version 1.2.0

Read `release` first. It runs for seconds or for weeks: while a person thinks, and while the
embargo lasts, it is parked and takes no process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import history
import notes
from history import Commit
from pydantic import BaseModel, Field

import kitaru
from kitaru import Done, NotDone, checkpoint, flow

HERE = Path(__file__).resolve().parent


class Review(BaseModel):
    """What a person says to a draft."""

    verdict: Literal["publish", "reject"]
    headline: str = Field(default="", max_length=80, description="stands above the notes")
    reason: str | None = Field(default=None, description="for whoever wrote the commits")


# The disk is looked at anew in every execution; within one, the record is what counts.
@checkpoint(cache=False)
def find_head(folder: str) -> str:
    return history.head_of(folder)


@checkpoint
def read_commits(folder: str, head: str, count: int) -> list[Commit]:
    return history.commits_up_to(folder, head, count)


@checkpoint
def write_section(component: str, commits: list[Commit]) -> str:
    return notes.section(component, commits)


@checkpoint
def write_draft(version: str, sections: list[str]) -> str:
    return notes.draft(version, sections)


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def was_published(target: Path, version: str, text: str) -> Done | type[NotDone]:
    """After a crash between publishing and recording it: look, instead of doing it twice."""
    return Done(str(target)) if f"<!-- {version} -->" in text_of(target) else NotDone


@checkpoint(effect="once", verify=was_published)
def publish(target: Path, version: str, text: str) -> str:
    """Put the notes on top of the file. Twice would be embarrassing."""
    new = target.with_suffix(".new")
    new.write_text(f"<!-- {version} -->\n{text}\n{text_of(target)}", encoding="utf-8")
    new.replace(target)
    return str(target)


@flow
def component_notes(component: str, commits: list[Commit]) -> str:
    return write_section(component, commits)


@flow
def release(
    version: str,
    folder: str = "",
    target: str = "RELEASES.md",
    commits: int = 50,
    embargo_seconds: float = 2.0,
    answer_within_seconds: float = 7 * 86_400.0,
) -> str:
    """Draft, ask, wait, publish -> what became of it, in words."""
    # Not the working folder: whoever resumes it may stand somewhere else.
    folder = str(HERE / folder)
    found = read_commits(folder, find_head(folder), commits)
    # A child for each component: they run side by side, and `executions get` shows each.
    children = [component_notes.run(name, some) for name, some in notes.by_component(found).items()]
    text = write_draft(version, [child.wait() for child in children])

    review = kitaru.wait(
        name="approve",
        question=f"Publish the notes of {version}?",
        schema=Review,
        metadata={"draft": text},
        expires=answer_within_seconds,
        on_expire=Review(verdict="reject", reason="nobody answered in time"),
    )
    if review.verdict == "reject":
        return f"rejected: {review.reason or 'no reason given'}"
    if review.headline:
        text = text.replace("\n", f"\n\n*{review.headline}*\n", 1)

    kitaru.sleep(embargo_seconds)
    return f"published in {publish(Path(folder, target), version, text)}"
