"""Queues, limits, turns, priorities and delays, as real workers keep them: on either database."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.leases.kit import until

from .programs import Project
from .test_worker import PATIENCE_SECONDS, Fleet

pytestmark = pytest.mark.slow

MORE = """
@checkpoint(cache=False)
def leave(name):
    journal(f"leave {name}")


@flow
def others(name):
    return work(name, 0)


@flow
def visits(name):
    hold(name)
    leave(name)
"""

IN_TURNS = """
import json
from fleet import others, parts

done = [parts.enqueue(f"many-{n}", 1) for n in range(5)]
done += [others.enqueue(f"few-{n}") for n in range(2)]
done.append(parts.options(priority=5).enqueue("first", 1))
late = parts.options(delay=36000).enqueue("late", 1)
soon = parts.options(delay=2).enqueue("soon", 1)
print(json.dumps([[handle.exec_id for handle in done], late.exec_id, soon.exec_id]))
"""

LIMITED = """
import json

import kitaru
from fleet import parts, visits

kitaru.configure(limits={"slow": 1, "customer": 2})
held = [visits.options(queue="slow").enqueue(f"slow-{n}") for n in range(3)]
held += [visits.options(limit_key="customer").enqueue(f"customer-{n}") for n in range(3)]
for n in range(4):
    parts.enqueue(f"free-{n}", 1)
print(json.dumps([handle.exec_id for handle in held]))
"""


class Queues(Fleet):
    def fill(self, program: str) -> Any:
        """Run a program that enqueues -> what it says it has."""
        (self.project.folder / "fill.py").write_text(program)
        done = subprocess.run(
            [sys.executable, "fill.py"],
            cwd=self.project.folder,
            env=self.project.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def count(self, begin: str) -> int:
        return sum(line.startswith(begin) for line in self.project.journal())

    def open_gate(self) -> None:
        """Let those pass that wait at the gate, and all that come."""
        always_open = self.project.folder / "open"
        always_open.write_text("")
        with open(self.project.folder / "gate", "w"):
            always_open.replace(self.project.folder / "gate")

    def get(self, exec_id: str) -> dict[str, Any]:
        item: dict[str, Any] = self.project.ask("executions", "get", exec_id)["item"]
        return item


@pytest.fixture
def queues(anywhere: Project) -> Iterator[Queues]:
    queues = Queues(anywhere)
    with open(anywhere.folder / "fleet.py", "a") as module:
        module.write(MORE)
    yield queues
    queues.end()


def test_priorities_come_first_then_flows_take_turns_and_delays_are_kept(queues: Queues) -> None:
    done, late, soon = queues.fill(IN_TURNS)
    worker = queues.worker("--concurrency", "1")
    queues.finish([*done, soon], worker)

    order = [line.split()[0] for line in queues.project.journal() if line != "soon 0"]
    assert order[0] == "first"
    assert [name for name in order if name.startswith("many")] == [f"many-{n}" for n in range(5)]
    # They were enqueued behind all five.
    assert {"few-0", "few-1"} <= set(order[:5])
    assert "late" not in order

    delayed = queues.get(late)
    assert delayed["status"] == "pending"
    assert "delayed" in delayed["status_reason"]
    begun = queues.get(soon)
    waited = datetime.fromisoformat(begun["started_at"]) - datetime.fromisoformat(
        begun["created_at"]
    )
    # How far a process is off the database's clock is known to a moment only.
    assert waited >= timedelta(seconds=1)


def test_limits_of_a_queue_and_of_a_key_hold_over_all_workers(queues: Queues) -> None:
    held = queues.fill(LIMITED)
    workers = [queues.worker("--concurrency", "8", "--name", f"w{n}") for n in range(2)]
    until(lambda: queues.count("hold ") == 3 and queues.count("free-") == 4)
    # Whoever had room for those has had room for more of the limited, too.
    limits = queues.project.ask("limits", "list")["items"]
    assert {each["name"]: (each["max"], each["taken"]) for each in limits} == {
        "customer": (2, 2),
        "slow": (1, 1),
    }
    shown = queues.project.ask("executions", "list", "--status", "pending")["items"]
    assert {each["exec_id"] for each in shown} < set(held)
    assert len(shown) == 3
    assert all("limit" in each["status_reason"] for each in shown)

    queues.open_gate()
    until(lambda: queues.count("leave ") == 6)
    assert most_at_once(queues.project.journal(), "slow") == 1
    assert most_at_once(queues.project.journal(), "customer") == 2
    assert [worker.stop()[0] for worker in workers] == [0, 0]


def test_whoever_follows_what_is_queued_is_not_told_that_it_runs(project: Project) -> None:
    following = project.start("run", "shop.py:total", "--queue", "slow", "--", "--count", "2")
    assert following.stderr is not None
    said = ""
    while "is pending: 0 outcomes recorded" not in said:
        line = following.stderr.readline()
        assert line, said
        said += line
    following.send_signal(signal.SIGINT)
    said += following.communicate(timeout=PATIENCE_SECONDS)[1]

    assert following.returncode == 128 + signal.SIGINT
    assert "running for" not in said
    assert "is pending, and needs nothing of this command" in said
    assert [each["status"] for each in project.ask("executions", "list")["items"]] == ["pending"]


def most_at_once(journal: list[str], kind: str) -> int:
    """How many were there between their `hold` and their `leave`, at most."""
    inside = most = 0
    for line in journal:
        word, _, name = line.partition(" ")
        if name.startswith(kind) and word in ("hold", "leave"):
            inside += 1 if word == "hold" else -1
            most = max(most, inside)
    return most
