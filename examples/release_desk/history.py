"""Reading a git history: plain functions around `git`, and one error that says what is missing."""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import dataclass


class NoHistory(Exception):
    """There is no git history to write about; the message says what to do."""


@dataclass(frozen=True)
class Commit:
    sha: str
    subject: str
    component: str
    """The top folder that most of its files are in."""


def head_of(folder: str) -> str:
    """The commit that is checked out: what a draft is about, whatever is committed later."""
    return git(folder, "rev-parse", "HEAD").strip()


def commits_up_to(folder: str, head: str, count: int) -> list[Commit]:
    """The last ``count`` commits, newest first; a shallow clone has fewer, at least one."""
    form = "--format=%x00%h%x09%s"
    text = git(folder, "log", f"--max-count={count}", "--no-merges", "--name-only", form, head)
    return [_commit(entry) for entry in text.split("\0") if entry.strip()]


def _commit(entry: str) -> Commit:
    first, *paths = entry.strip("\n").split("\n")
    sha, _, subject = first.partition("\t")
    tops = Counter(path.split("/")[0] if "/" in path else "project" for path in paths if path)
    return Commit(sha, subject, tops.most_common(1)[0][0] if tops else "project")


def git(folder: str, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", folder, *words],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        raise NoHistory("git is not installed: install it, and retry the execution") from None
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
    raise NoHistory(
        f"there is no git history in {folder!r} ({said[0]}): run this where a repository is "
        "checked out, or name one with --folder"
    )
