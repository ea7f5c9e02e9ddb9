"""`kitaru worker`: real processes that take what is queued, drain, die and are replaced."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from .programs import Project

PATIENCE_SECONDS = 120

FLEET = """
import os

import kitaru
from kitaru import checkpoint, flow

HERE = os.path.dirname(os.path.abspath(__file__))


def journal(line):
    with open(os.path.join(HERE, "journal"), "a") as file:
        file.write(line + "\\n")


@checkpoint(cache=False)
def work(name, part):
    journal(f"{name} {part}")
    return part


@checkpoint(cache=False)
def hold(name):
    journal(f"hold {name}")
    with open(os.path.join(HERE, "gate")) as pipe:
        pipe.read()
    return name


@checkpoint(cache=False)
def die(name):
    journal(f"die {name}")
    os.kill(os.getpid(), 9)


@flow
def parts(name, count=2):
    return sum(work(name, part) for part in range(count))


@flow
def holds(name):
    return hold(name)


@flow
def dies(name):
    return die(name)


@flow
def asks(name):
    return kitaru.wait(name="answer", schema=int)


if __name__ == "__main__":
    import sys

    kitaru.configure(runner="worker")
    for words in sys.argv[1:]:
        flow_name, name = words.split(":")
        print(globals()[flow_name].run(name).exec_id)
"""


class Worker:
    """A worker process whose JSON lines are read as they come."""

    def __init__(self, project: Project, *words: str) -> None:
        self.process = project.start("worker", "fleet.py", "-o", "json", *words)
        self._stdout = self.process.stdout
        self.heard: list[dict[str, Any]] = []

    def hear(self, event: str) -> dict[str, Any]:
        """The next line of this event: those before it are kept, too."""
        assert self._stdout is not None
        while line := self._stdout.readline():
            found: dict[str, Any] = json.loads(line)
            self.heard.append(found)
            if found["event"] == event:
                item: dict[str, Any] = found["item"]
                return item
        raise AssertionError(f"it ended without {event}: {self.process.communicate()[1]}")

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, dict[str, Any]]:
        self.process.send_signal(number)
        ended = self.hear("ended")
        return self.process.wait(PATIENCE_SECONDS), ended


class Fleet:
    def __init__(self, project: Project) -> None:
        self.project = project
        (project.folder / "fleet.py").write_text(FLEET)
        os.mkfifo(project.folder / "gate")
        self.workers: list[Worker] = []

    def enqueue(self, *words: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "fleet.py", *words],
            cwd=self.project.folder,
            env=self.project.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    def worker(self, *words: str) -> Worker:
        worker = Worker(self.project, *words)
        self.workers.append(worker)
        worker.hear("serving")
        return worker

    def status(self, exec_id: str) -> str:
        return str(self.project.ask("executions", "get", exec_id)["item"]["status"])

    def finish(self, exec_ids: list[str], worker: Worker) -> None:
        """Wait until the worker has said that all of these have completed."""
        left = set(exec_ids)
        left -= {
            line["item"]["exec_id"]
            for line in worker.heard
            if line["event"] == "execution.completed"
        }
        while left:
            left.discard(worker.hear("execution.completed")["exec_id"])

    def end(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.communicate(timeout=PATIENCE_SECONDS)


@pytest.fixture
def fleet(anywhere: Project) -> Iterator[Fleet]:
    """Over SQLite, and again over PostgreSQL."""
    fleet = Fleet(anywhere)
    yield fleet
    fleet.end()


@pytest.fixture
def local_fleet(project: Project) -> Iterator[Fleet]:
    """Over SQLite alone: for what has nothing to do with the store."""
    fleet = Fleet(project)
    yield fleet
    fleet.end()


def test_a_worker_runs_what_is_queued_and_ends_with_0_when_told_to_stop(fleet: Fleet) -> None:
    ids = fleet.enqueue("parts:a", "parts:b")
    worker = fleet.worker("--name", "first", "--concurrency", "2")
    assert worker.heard[0]["item"]["name"] == "first"
    assert worker.heard[0]["item"]["flows"] == ["asks", "dies", "holds", "parts"]

    fleet.finish(ids, worker)
    status, ended = worker.stop()

    assert (status, ended) == (0, {"handed_back": [], "unfinished_bodies": 0})
    assert sorted(fleet.project.journal()) == ["a 0", "a 1", "b 0", "b 1"]


@pytest.mark.slow
def test_a_worker_that_is_stopped_lets_bodies_finish_and_hands_back_the_rest(fleet: Fleet) -> None:
    (exec_id,) = fleet.enqueue("holds:a")
    first = fleet.worker("--drain-seconds", "60")
    first.hear("execution.claimed")
    gate = open(fleet.project.folder / "gate", "w")  # noqa: SIM115  (blocks until the body is there)

    first.process.send_signal(signal.SIGTERM)
    assert first.hear("draining")["running"] == 1
    gate.close()
    ended = first.hear("ended")

    assert first.process.wait(PATIENCE_SECONDS) == 0
    second = fleet.worker()
    if ended["handed_back"]:
        assert ended["handed_back"] == [exec_id]
        fleet.finish([exec_id], second)
    assert fleet.status(exec_id) == "completed"
    assert fleet.project.journal() == ["hold a"]


@pytest.mark.slow
def test_a_body_that_does_not_finish_in_time_runs_again_elsewhere(fleet: Fleet) -> None:
    (exec_id,) = fleet.enqueue("holds:a")
    first = fleet.worker("--drain-seconds", "0")
    gate = open(fleet.project.folder / "gate", "w")  # noqa: SIM115

    status, ended = first.stop(signal.SIGINT)

    assert (status, ended) == (0, {"handed_back": [exec_id], "unfinished_bodies": 1})
    gate.close()
    (fleet.project.folder / "gate").unlink()
    (fleet.project.folder / "gate").write_text("")
    second = fleet.worker()
    fleet.finish([exec_id], second)
    assert fleet.project.journal() == ["hold a", "hold a"]


@pytest.mark.slow
def test_a_second_signal_ends_at_once_and_another_worker_takes_over(fleet: Fleet) -> None:
    (exec_id,) = fleet.enqueue("holds:a")
    first = fleet.worker("--drain-seconds", "600")
    gate = open(fleet.project.folder / "gate", "w")  # noqa: SIM115
    second = fleet.worker()

    first.process.send_signal(signal.SIGTERM)
    first.hear("draining")
    first.process.send_signal(signal.SIGTERM)

    assert first.process.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
    assert second.hear("execution.taken_over")["exec_id"] == exec_id
    gate.close()


@pytest.mark.slow
def test_what_waits_is_gone_on_with_by_another_worker_once_it_is_answered(fleet: Fleet) -> None:
    (exec_id,) = fleet.enqueue("asks:a")
    first = fleet.worker()
    first.hear("execution.waiting")
    assert first.stop()[0] == 0

    answered = fleet.project.run("executions", "input", exec_id, "--value", "3")
    assert answered.returncode == 0, answered.stderr
    second = fleet.worker()

    fleet.finish([exec_id], second)


@pytest.mark.slow
def test_what_kills_its_workers_is_given_up_and_its_neighbours_complete(fleet: Fleet) -> None:
    killer, *others = fleet.enqueue("dies:x", "parts:a", "parts:b")
    for _ in range(5):
        worker = fleet.worker()
        worker.process.wait(PATIENCE_SECONDS)
        assert worker.process.returncode == -signal.SIGKILL
    last = fleet.worker()

    assert last.hear("execution.failed")["exec_id"] == killer
    left = [exec_id for exec_id in others if fleet.status(exec_id) != "completed"]
    fleet.finish(left, last)
    assert last.stop()[0] == 0
    assert fleet.project.journal().count("die x") == 5


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("fleet.py", "--flows", "party"), "did you mean 'parts'"),
        (("nothing.py",), "there is no file"),
        (("fleet.py", "--concurrency", "0"), "concurrency"),
        (("fleet.py", "--queue", "a\tb"), "queue"),
    ],
)
def test_a_worker_that_cannot_serve_says_why(
    local_fleet: Fleet, words: tuple[str, ...], says: str
) -> None:
    done = local_fleet.project.run("worker", *words)

    assert done.returncode == 2
    assert says in done.stderr


def test_what_a_worker_says_is_for_people_on_stderr(local_fleet: Fleet) -> None:
    (exec_id,) = local_fleet.enqueue("parts:a")
    process = local_fleet.project.start("worker", "fleet.py")
    assert process.stderr is not None
    lines: list[str] = []
    alarm = threading.Timer(PATIENCE_SECONDS, process.kill)
    alarm.start()
    while line := process.stderr.readline():
        lines.append(line)
        if "completed" in line and exec_id in line:
            process.send_signal(signal.SIGTERM)
    alarm.cancel()
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == 0
    assert out == ""
    said = "".join(lines)
    assert "serves asks, dies, holds, parts" in said
    assert "ended: nothing was left running" in said


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_worker_answers_probes_and_scrapers(fleet: Fleet) -> None:
    ids = fleet.enqueue("parts:a")
    worker = fleet.worker("--port", "0", "--drain-seconds", "600")
    place = worker.heard[0]["item"]["health"]
    assert place.startswith("http://127.0.0.1:")
    fleet.finish(ids, worker)

    assert get(f"{place}/healthz") == (200, "alive\n")
    assert get(f"{place}/readyz") == (200, "ready\n")
    assert get(f"{place}/elsewhere")[0] == 404
    status, text = get(f"{place}/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(text)}
    events = families["kitaru_worker_events"].samples
    assert {each.labels["event"]: each.value for each in events}["completed"] == 1
    assert [each.value for each in families["kitaru_worker_claimed"].samples] == [1]
    assert [each.value for each in families["kitaru_store_up"].samples] == [1]

    fleet.enqueue("holds:a")
    worker.hear("execution.claimed")
    assert 'kitaru_queue_running{queue="default"} 1' in get(f"{place}/metrics")[1].splitlines()
    gate = open(fleet.project.folder / "gate", "w")  # noqa: SIM115
    worker.process.send_signal(signal.SIGTERM)
    worker.hear("draining")
    assert get(f"{place}/readyz")[0] == 503
    assert get(f"{place}/healthz")[0] == 200
    gate.close()
    worker.hear("ended")


def test_a_port_that_is_taken_is_said(local_fleet: Fleet) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = local_fleet.project.run("worker", "fleet.py", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "cannot listen" in done.stderr


def test_a_folder_for_the_path(tmp_path: Path) -> None:
    """The store is found from where the worker is started."""
    project = Project(tmp_path / "other")
    fleet = Fleet(project)
    try:
        assert fleet.worker().heard[0]["item"]["store"] == str(project.store)
    finally:
        for worker in fleet.workers:
            worker.process.kill()
            worker.process.communicate(timeout=PATIENCE_SECONDS)
