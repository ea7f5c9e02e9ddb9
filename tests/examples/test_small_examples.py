"""The examples that are one program: each does what its first lines say."""

from __future__ import annotations

import hashlib
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from .conftest import EXAMPLES, Workbench


def test_the_index_names_every_example_and_nothing_else() -> None:
    index = (EXAMPLES / "README.md").read_text()
    present = {
        path.name
        for path in EXAMPLES.iterdir()
        if path.name != "README.md" and not path.name.startswith((".", "__"))
    }
    linked = {part.split(")")[0].split("/")[0] for part in index.split("](")[1:]}
    assert {name for name in linked if not name.startswith(("..", "http"))} == present


# --- quickstart ------------------------------------------------------------------------------


def test_the_quickstart_prints_what_sha256sum_would(bench: Workbench) -> None:
    script = bench.copy("quickstart.py")
    folder = bench.folder / "data" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"durable" * 1000)
    printed = bench.run(script, "data")
    assert printed == f"{hashlib.sha256(b'durable' * 1000).hexdigest()}  data/deep/a.bin\n"


def test_the_quickstart_reads_only_what_changed(bench: Workbench) -> None:
    script = bench.copy("quickstart.py")
    folder = bench.folder / "data"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_text(name)
    first = bench.run(script, "data")
    (folder / "b").write_text("b, and more")
    second = bench.run(script, "data")
    lines = zip(first.splitlines(), second.splitlines(), strict=True)
    assert [old == new for old, new in lines] == [True, False, True]
    latest = bench.run("-m", "kitaru", "executions", "list", "-o", "json", "--limit", "1")
    exec_id = latest.split('"exec_id": "')[1].split('"')[0]
    why = bench.run("-m", "kitaru", "executions", "why", exec_id, "checksum")
    assert why.count("reused") == 2
    assert why.count(": ran: ") == 1


# --- async fan-out ---------------------------------------------------------------------------


class Site(BaseHTTPRequestHandler):
    """Has /here, moved /old there, lacks /gone, and stammers once at /busy."""

    asked: Counter[str]
    lock = threading.Lock()

    def do_HEAD(self) -> None:
        with self.lock:
            self.asked[self.path] += 1
            tries = self.asked[self.path]
        status = {"/here": 200, "/old": 301, "/gone": 404}.get(self.path, 500)
        if self.path == "/busy":
            status = 503 if tries == 1 else 200
        self.send_response(status)
        if status == 301:
            self.send_header("Location", "/here")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[tuple[str, Counter[str]]]:
    Site.asked = Counter()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", Site.asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_fan_out_finds_dead_links_and_asks_a_busy_server_again(
    bench: Workbench, site: tuple[str, Counter[str]]
) -> None:
    pytest.importorskip("httpx")
    script = bench.copy("fan_out.py")
    base, asked = site
    pages = ["/here", "/old", "/gone", "/busy"]
    text = "\n".join(f"[a link]({base}{page}) and <{base}{page}>" for page in pages)
    (bench.folder / "page.md").write_text(text)

    printed = bench.run(script, "page.md", status=1)
    assert printed == f"{base}/gone: no such page\n4 links, 1 of them dead\n"
    assert asked["/busy"] == 2

    (bench.folder / "page.md").write_text(text + f"\n{base}/broken")
    before = asked.copy()
    printed = bench.run(script, "page.md", status=1)
    assert "5 links, 2 of them dead" in printed
    assert asked - before == Counter({"/broken": 3}), "good answers are good for a day"


# --- retries ---------------------------------------------------------------------------------


def test_the_retries_charge_each_order_once_and_show_every_try(bench: Workbench) -> None:
    script = bench.copy("retries.py")
    assert bench.run(script).splitlines() == [
        "order 1001: ch-1",
        "order 1002: ch-2",
        "order 1003: ch-3",
        "order 1004: declined",
        "charge: ok",
        "charge: Busy, ok",
        "charge: RemoteDisconnected, ok",
        "charge: CardDeclined",
        "3 charges at the service",
    ]


# --- reuse and why ---------------------------------------------------------------------------


def reasons(printed: str) -> list[str]:
    """`#0 read: ran: never recorded` -> `read ran: never recorded`; sources without their id."""
    lines = [line.split(" ", 1)[1] for line in printed.splitlines() if line.startswith("#")]
    return [line.split(" from ")[0] for line in lines]


def test_the_log_report_runs_again_only_what_a_change_concerns(bench: Workbench) -> None:
    folder = bench.copy("log_report")
    script = folder / "report.py"
    first = bench.run(script)
    assert first.startswith("3 days, 38 visitors\n    43 /\n")

    assert reasons(bench.run(script)) == [*["read: reused"] * 3, "rank: reused", "render: reused"]

    assert reasons(bench.run(script, "--top", "3")) == [
        *["read: reused"] * 3,
        "rank: ran: input changed: top",
        "render: ran: input changed: ranking",
    ]

    log = folder / "logs" / "access-2026-03-03.log"
    other = folder / "logs" / "access-2026-03-01.log"
    log.write_text(log.read_text() + other.read_text().splitlines()[0] + "\n")
    sources = [reason.split(":")[1].strip() for reason in reasons(bench.run(script))]
    assert sources == ["reused", "reused", "ran", "ran", "ran"]

    script.write_text(
        script.read_text().replace('"bot" in agent.lower()', '"bot" in agent or "curl" in agent')
    )
    changed = reasons(bench.run(script))
    assert changed[:3] == ["read: ran: code changed: report.is_robot"] * 3


# --- the agent -------------------------------------------------------------------------------

DIES_IN_THE_THIRD_TURN = """
import logging, os, signal, agent, model

complete = model.complete

def complete_or_die(conversation):
    if sum(message.role == "assistant" for message in conversation) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return complete(conversation)

logging.basicConfig(level=logging.INFO)
model.complete = complete_or_die
agent.agent.options(key="monday").run("How did our spending develop this quarter?").wait()
"""


def test_the_agent_answers_and_its_tokens_are_on_record(bench: Workbench) -> None:
    folder = bench.copy("agent")
    printed = bench.run(folder / "agent.py").splitlines()
    assert printed[-2].startswith("Research spent 156 % more in March than in January")
    assert printed[-2].endswith("101,506.50 in the quarter.")
    assert printed[-1] == "(9 calls on record, 151 tokens paid for)"


def test_an_agent_that_was_killed_mid_thought_pays_for_no_turn_twice(bench: Workbench) -> None:
    folder = bench.copy("agent")
    (folder / "dies.py").write_text(DIES_IN_THE_THIRD_TURN)
    killed = bench.start(folder / "dies.py")
    _, progress = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL, progress
    assert progress.count("thinking") == 3

    resumed = bench.start(folder / "agent.py", "--key", "monday")
    said, progress = resumed.communicate(timeout=60)
    assert progress.count("thinking") == 2, "the third turn, which was cut off, and the fourth"
    assert progress.count("using query") == 0
    assert progress.count("using calculate") == 2
    assert said.endswith("(9 calls on record, 151 tokens paid for)\n")


def test_the_tools_of_the_agent_cannot_write_and_run_no_code(bench: Workbench) -> None:
    folder = bench.copy("agent")
    (folder / "try_it.py").write_text(
        "from tools import calculate, query\n"
        "for work in (lambda: query('delete from expenses'),\n"
        "             lambda: calculate('__import__(\"os\").getpid()')):\n"
        "    try:\n        print('did', work())\n"
        "    except Exception as error:\n        print(type(error).__name__)\n"
    )
    assert bench.run(folder / "try_it.py").split() == ["OperationalError", "ValueError"]


def test_examples_are_described_by_their_first_line_or_a_readme() -> None:
    for path in sorted(EXAMPLES.iterdir()):
        if path.suffix == ".py":
            assert path.read_text().startswith('"""'), path.name
        if path.is_dir() and not path.name.startswith((".", "__")):
            assert (path / "README.md").is_file(), path.name
