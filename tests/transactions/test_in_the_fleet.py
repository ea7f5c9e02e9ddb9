"""Transactional checkpoints beside all else: drift, callers, replay, a pooler, a stopped owner."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.engine.looking import PATIENCE_SECONDS
from tests.pooler import pooling

import kitaru
from kitaru import app, checkpoint, flow, settings
from kitaru.errors import KitaruCancelledError, KitaruUserCodeError

from .kit import paid, recorded

HANG_SECONDS = 120.0

PLAN: dict[str, Any] = {}
RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    PLAN.clear()
    RAN.clear()


def client() -> Any:
    return kitaru.KitaruClient().executions


@checkpoint(transaction=True)
def pay(what: str) -> str:
    RAN.append(what)
    kitaru.connection().execute("insert into paid (what) values (%s)", (what,))
    return f"paid {what}"


@flow
def shop() -> list[str]:
    found = [pay(PLAN["what"])]
    if PLAN.get("fails"):
        raise LookupError("later")
    return found


@pytest.mark.parametrize("decision", ["run", "adopt", "abort"])
def test_with_other_inputs_it_never_runs_by_itself(decision: str, database: str) -> None:
    PLAN.update(what="tea", fails=True)
    handle = shop.run()
    with pytest.raises(KitaruUserCodeError):
        handle.wait()
    PLAN.update(what="milk", fails=False)
    retried = client().retry(handle.exec_id)
    assert app.current().runner.wait_idle(PATIENCE_SECONDS)
    assert (retried.status.value, RAN) == ("waiting", ["tea"])
    client().decide(handle.exec_id, "pay", decision)
    if decision == "abort":
        with pytest.raises(KitaruCancelledError):
            handle.wait(timeout=PATIENCE_SECONDS)
    else:
        what = {"run": "milk", "adopt": "tea"}[decision]
        assert handle.wait(timeout=PATIENCE_SECONDS) == [f"paid {what}"]
    assert paid(database) == (["tea", "milk"] if decision == "run" else ["tea"])


def test_a_new_attempt_of_its_caller_keeps_what_it_came_to(database: str) -> None:
    @checkpoint(retries=2)
    def caller() -> str:
        found = pay("tea")
        if kitaru.current().attempt < 3:
            raise LookupError("again")
        return found

    @flow
    def nested() -> str:
        return caller()

    assert nested.run().wait() == "paid tea"
    assert paid(database) == ["tea"]


def test_a_replay_carries_it_and_runs_it_where_it_is_asked_to(database: str) -> None:
    PLAN["what"] = "tea"
    source = shop.run()
    assert source.wait() == ["paid tea"]
    assert client().replay(source.exec_id).wait() == ["paid tea"]
    assert paid(database) == ["tea"]
    assert client().replay(source.exec_id, from_="pay").wait() == ["paid tea"]
    assert paid(database) == ["tea", "tea"]
    given = client().replay(source.exec_id, overrides={"checkpoint.pay": "given"})
    assert given.wait() == ["given"]
    assert paid(database) == ["tea", "tea"]


def test_it_is_shown_as_what_it_is(database: str, tmp_path: Path) -> None:
    PLAN["what"] = "tea"
    handle = shop.run()
    handle.wait()
    (why,) = client().why(handle.exec_id, "pay")
    assert "transaction=True is never reused" in str(why)
    plan = client().plan(handle.exec_id)
    assert [(call.name, call.action) for call in plan.calls] == [("pay", "carry")]
    client().export(handle.exec_id, tmp_path / "one.kitaru")
    client().delete(handle.exec_id)
    client().import_(tmp_path / "one.kitaru")
    assert client().get(handle.exec_id).result() == ["paid tea"]
    assert (paid(database), recorded(database)) == (["tea"], 1)


@pytest.mark.slow
def test_it_works_behind_a_pooler_in_transaction_mode(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @checkpoint(transaction=True)
    async def pay_async(n: int) -> int:
        connection = kitaru.async_connection()
        for _ in range(8):  # so often that it would be prepared
            await connection.execute("select %s::int", (n,))
        await connection.execute("insert into paid (what) values (%s)", (str(n),))
        return n

    @flow
    async def many() -> list[Any]:
        return [await pay.submit("tea"), *[await pay_async(n) for n in range(5)]]

    with pooling(database) as through:
        monkeypatch.setenv("KITARU_STORE", through)
        settings.forget_configuration()
        assert many.run().wait() == ["paid tea", *range(5)]
        app.close(5)
    assert len(paid(database)) == recorded(database) == 6


@pytest.mark.slow
def test_an_owner_that_is_stopped_in_a_body_holds_up_nobody_and_adds_nothing_later(
    database: str,
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create unique index on paid (what)")
    first, second = (_process(name, database) for name in ("first", "second"))
    try:
        assert first.stdout is not None
        assert select.select([first.stdout], [], [], HANG_SECONDS)[0]
        assert first.stdout.readline() == "in the body\n"
        first.send_signal(signal.SIGSTOP)
        assert second.communicate("go\n", timeout=HANG_SECONDS)[0] == "paid by second\n"
        first.send_signal(signal.SIGCONT)
        assert first.communicate("\n", timeout=HANG_SECONDS)[0] == "paid by second\n"
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
    assert (paid(database), recorded(database)) == (["tea"], 1)


def _process(name: str, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.transactions.program", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={
            **os.environ,
            "KITARU_STORE": url,
            "KITARU_PROJECT": "shop",
            "KITARU_LEASE_SECONDS": "2",
            "KITARU_POLL_SECONDS": "0.2",
        },
    )
