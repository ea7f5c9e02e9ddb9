"""Flows that wait, for the tests of commands that answer; and a person at a terminal."""

from __future__ import annotations

import os
from typing import Any

from .programs import Project

DESK = """
import asyncio
from typing import Literal

import kitaru
from kitaru import checkpoint, flow
from pydantic import BaseModel, Field, field_validator


class Review(BaseModel):
    verdict: Literal["publish", "reject"]
    score: int = Field(default=3, ge=1, le=5)
    note: str | None = None

    @field_validator("note")
    @classmethod
    def no_shouting(cls, note):
        if note is not None and note.isupper():
            raise ValueError("no shouting")
        return note


@checkpoint
def draft(version: str) -> str:
    print("drafting", version)
    return f"notes of {version}"


@flow
def approve(version: str = "1.0") -> str:
    text = draft(version)
    fine = kitaru.wait(name="approve", question=f"Publish {version}?", schema=bool,
                       metadata={"draft": text})
    return f"{text}: {fine}"


@flow
def review() -> str:
    found = kitaru.wait(name="review", schema=Review)
    return f"{type(found).__name__} {found.verdict} {found.score} {found.note}"


@flow
def gate() -> str:
    kitaru.wait(name="go")
    return "gone"


@flow
async def both() -> list:
    async def ask(what):
        return await kitaru.wait(name="approve", question=what, schema=bool)

    return await asyncio.gather(ask("notes"), ask("tag"))


@flow
def twice() -> list:
    return [kitaru.wait(name="first", schema=int), kitaru.wait(name="second", schema=int)]
"""


def make_desk(project: Project) -> Project:
    (project.folder / "desk.py").write_text(DESK)
    return project


def park(project: Project, flow: str, *words: str) -> str:
    """Run a flow until it waits -> its id."""
    item = project.ask("run", f"desk.py:{flow}", "--detach", *words)["item"]
    assert item["status"] == "waiting", item
    exec_id: str = item["exec_id"]
    return exec_id


def standing(project: Project, exec_id: str) -> dict[str, Any]:
    item = project.ask("executions", "get", exec_id)["item"]
    assert isinstance(item, dict)
    return item


def user() -> str:
    import getpass

    return f"{getpass.getuser()}@{os.uname().nodename}"
