"""``effect="once"``: a body starts at most once; what nobody knows is settled, never guessed."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest

import kitaru
from kitaru import Done, NotDone, Unknown, app, checkpoint, flow
from kitaru._engine.draining import drain
from kitaru.errors import (
    KitaruCancelledError,
    KitaruContextError,
    KitaruExecutionError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
    KitaruUserCodeError,
)
from kitaru.status import ExecutionStatus

from .looking import PATIENCE_SECONDS

RAN: list[Any] = []
PLAN: dict[str, Any] = {}
BEGUN = threading.Event()
GATE = threading.Event()


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()
    PLAN.clear()
    BEGUN.clear()
    GATE.clear()


def client() -> Any:
    return kitaru.KitaruClient().executions


def until(what: Any) -> None:
    patience = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / 0.01)):
        if what():
            return
        patience.wait(0.01)
    raise AssertionError("it did not come about")


def cut_off(handle: Any) -> None:
    """This process's Kitaru ends while a body runs: the next one finds its intent only."""
    assert BEGUN.wait(PATIENCE_SECONDS)
    running = app.current()
    drain(running.runner, 0.0)
    GATE.set()
    app.close(5)
    app.use(None)


def waits_for_a_decision(exec_id: str) -> None:
    until(lambda: client().get(exec_id).status is ExecutionStatus.WAITING)


@checkpoint(cache=False)
def work(what: Any) -> Any:
    RAN.append(what)
    return what


@checkpoint(effect="once")
def charge(amount: int) -> str:
    RAN.append(amount)
    if PLAN.get("cut") == len(RAN):
        BEGUN.set()
        GATE.wait(PATIENCE_SECONDS)
    if PLAN.get("raise"):
        raise ValueError("declined")
    return f"receipt {amount}"


def _ask_the_bank(amount: int) -> Any:
    RAN.append("verify")
    PLAN["key"] = kitaru.current().idempotency_key
    said = PLAN["verdict"]
    if isinstance(said, Exception):
        raise said
    return said


@checkpoint(effect="once", verify=_ask_the_bank)
def verified(amount: int) -> str:
    RAN.append(amount)
    PLAN.setdefault("keys", []).append(kitaru.current().idempotency_key)
    if PLAN.get("cut") == len(RAN):
        BEGUN.set()
        GATE.wait(PATIENCE_SECONDS)
    return f"receipt {amount}"


@flow
def shop(amount: int) -> list[Any]:
    return [work("before"), charge(amount), work("after")]


@flow
def shop_verified(amount: int) -> list[Any]:
    return [verified(amount), work("after")]


# --- when nothing goes wrong -------------------------------------------------------------


def test_it_runs_once_and_is_recalled_and_never_reused() -> None:
    first = shop.run(1)
    assert first.wait() == ["before", "receipt 1", "after"]
    assert shop.run(1).wait() == ["before", "receipt 1", "after"]
    assert RAN.count(1) == 2
    (why,) = client().why(first.exec_id, "charge")
    assert "never reused" in why.reason
    assert [each.name for each in client().list_checkpoints(first.exec_id)][1] == "charge"


def test_an_exception_is_an_outcome_and_retries_count_it() -> None:
    @checkpoint(effect="once", retries=2)
    def flaky() -> str:
        RAN.append("try")
        if len(RAN) < 3:
            raise ValueError("not yet")
        return "done"

    @flow
    def outer() -> str:
        return flaky()

    handle = outer.run()
    assert handle.wait() == "done"
    (call,) = client().list_checkpoints(handle.exec_id)
    assert [each.status for each in call.attempts] == ["failed", "failed", "completed"]


def test_a_failed_one_runs_again_when_a_person_retries_the_execution() -> None:
    PLAN["raise"] = True
    handle = shop.run(2)
    with pytest.raises(KitaruUserCodeError, match="declined"):
        handle.wait()
    PLAN.clear()
    assert client().retry(handle.exec_id).wait() == ["before", "receipt 2", "after"]
    assert RAN == ["before", 2, 2, "after"]


# --- uncertain ---------------------------------------------------------------------------


def uncertain(flow_: Any = shop, amount: int = 5, at: int = 2) -> str:
    PLAN["cut"] = at
    handle = flow_.options(key="k").run(amount)
    cut_off(handle)
    del PLAN["cut"]
    return str(handle.exec_id)


def test_a_body_that_began_in_an_earlier_life_is_not_begun_again_and_a_person_is_asked() -> None:
    exec_id = uncertain()
    resumed = shop.options(key="k").run(5)
    waits_for_a_decision(exec_id)
    (wait,) = client().pending_waits(exec_id)
    assert (wait.kind, wait.name) == ("decision", "charge")
    assert "charge" in (client().get(exec_id).status_reason or "")
    client().decide(exec_id, "charge", "adopt", value=None)
    assert resumed.wait(timeout=PATIENCE_SECONDS) == ["before", None, "after"]
    assert RAN == ["before", 5, "after"]
    (why,) = client().why(exec_id, "charge")
    assert why.source == "override"
    assert "decided to adopt" in why.reason


def test_run_begins_the_body_again_and_the_lost_try_is_on_record() -> None:
    exec_id = uncertain()
    resumed = shop.options(key="k").run(5)
    waits_for_a_decision(exec_id)
    client().decide(exec_id, client().pending_waits(exec_id)[0].metadata["call"], "run")
    assert resumed.wait(timeout=PATIENCE_SECONDS) == ["before", "receipt 5", "after"]
    call = client().list_checkpoints(exec_id)[1]
    assert [each.status for each in call.attempts] == ["failed", "completed"]
    assert RAN == ["before", 5, 5, "after"]


def test_after_run_a_second_death_is_asked_about_again() -> None:
    exec_id = uncertain()
    shop.options(key="k").run(5)
    waits_for_a_decision(exec_id)
    PLAN["cut"] = 3
    BEGUN.clear()
    GATE.clear()
    client().decide(exec_id, "charge", "run")
    cut_off(None)
    PLAN.clear()
    resumed = shop.options(key="k").run(5)
    waits_for_a_decision(exec_id)
    assert RAN == ["before", 5, 5]
    client().decide(exec_id, "charge", "adopt", value="by hand")
    assert resumed.wait(timeout=PATIENCE_SECONDS) == ["before", "by hand", "after"]


def test_abort_cancels_the_execution() -> None:
    exec_id = uncertain()
    resumed = shop.options(key="k").run(5)
    waits_for_a_decision(exec_id)
    client().decide(exec_id, "charge", "abort")
    with pytest.raises(KitaruCancelledError):
        resumed.wait(timeout=PATIENCE_SECONDS)
    assert RAN == ["before", 5]


def test_the_first_of_two_deciders_wins_and_the_other_is_told() -> None:
    exec_id = uncertain()
    resumed = shop.options(key="k").run(5)
    waits_for_a_decision(exec_id)
    both = threading.Barrier(2, timeout=PATIENCE_SECONDS)
    said: list[str] = []

    def decides(value: str) -> None:
        both.wait()
        try:
            client().decide(exec_id, "charge", "adopt", value=value)
            said.append(value)
        except KitaruStateError as error:
            said.append(f"late: {error.code}")

    threads = [threading.Thread(target=decides, args=(value,)) for value in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert sorted(each.partition(":")[0] for each in said)[0] == "late"
    (winner,) = [each for each in said if not each.startswith("late")]
    assert resumed.wait(timeout=PATIENCE_SECONDS) == ["before", winner, "after"]


def test_what_makes_no_sense_is_refused_and_changes_nothing() -> None:
    exec_id = uncertain()
    shop.options(key="k").run(5)
    waits_for_a_decision(exec_id)
    for wrong in (
        {"decision": "adopt"},
        {"decision": "run", "value": 1},
        {"decision": "adopt", "record": "abcd1234", "value": 1},
        {"decision": "perhaps"},
    ):
        with pytest.raises(KitaruUsageError):
            client().decide(exec_id, "charge", **wrong)
    with pytest.raises(KitaruNotFoundError, match="Did you mean 'charge'"):
        client().decide(exec_id, "chrage", "run")
    with pytest.raises(KitaruStateError, match="decide"):
        client().input(exec_id, wait="charge", value="run")
    assert len(client().pending_waits(exec_id)) == 1
    client().decide(exec_id, "charge", "abort")
    with pytest.raises(KitaruStateError):
        client().decide(exec_id, "charge", "run")


# --- verify= -----------------------------------------------------------------------------


def test_verify_may_know_what_the_call_came_to() -> None:
    uncertain(shop_verified, at=1)
    PLAN["verdict"] = Done("receipt from the bank")
    resumed = shop_verified.options(key="k").run(5)
    assert resumed.wait(timeout=PATIENCE_SECONDS) == ["receipt from the bank", "after"]
    assert RAN == [5, "verify", "after"]
    assert PLAN["key"] == PLAN["keys"][0]


@pytest.mark.parametrize("verdict", [NotDone, NotDone()])
def test_verify_may_know_that_it_was_not_done(verdict: Any) -> None:
    uncertain(shop_verified, at=1)
    PLAN["verdict"] = verdict
    resumed = shop_verified.options(key="k").run(5)
    assert resumed.wait(timeout=PATIENCE_SECONDS) == ["receipt 5", "after"]
    assert RAN == [5, "verify", 5, "after"]


@pytest.mark.parametrize("verdict", [Unknown, Unknown(), OSError("no line"), "yes"])
def test_a_person_decides_where_verify_does_not_know(verdict: Any) -> None:
    exec_id = uncertain(shop_verified, at=1)
    PLAN["verdict"] = verdict
    resumed = shop_verified.options(key="k").run(5)
    waits_for_a_decision(exec_id)
    assert RAN == [5, "verify"]
    client().decide(exec_id, "verified", "run")
    assert resumed.wait(timeout=PATIENCE_SECONDS) == ["receipt 5", "after"]
    assert RAN == [5, "verify", 5, "after"]


# --- drift -------------------------------------------------------------------------------


@flow
def drifting() -> list[Any]:
    first = charge(PLAN["amount"])
    work("between")
    if PLAN.get("cut"):
        BEGUN.set()
        GATE.wait(PATIENCE_SECONDS)
        kitaru.check()
    return [first, work("after")]


@pytest.mark.parametrize("decision", ["run", "adopt", "abort"])
def test_with_other_inputs_it_never_runs_by_itself(decision: str) -> None:
    PLAN.update(amount=1, cut=-1)
    handle = drifting.options(key="k").run()
    cut_off(handle)
    PLAN.update(amount=2, cut=None)
    resumed = drifting.options(key="k").run()
    waits_for_a_decision(handle.exec_id)
    assert RAN == [1, "between"]
    client().decide(handle.exec_id, "charge", decision)
    if decision == "abort":
        with pytest.raises(KitaruCancelledError):
            resumed.wait(timeout=PATIENCE_SECONDS)
        return
    expected = {"run": "receipt 2", "adopt": "receipt 1"}[decision]
    assert resumed.wait(timeout=PATIENCE_SECONDS) == [expected, "after"]
    ran = [1, "between", 2, "after"] if decision == "run" else [1, "between", "after"]
    assert ran == RAN


@flow
def drifting_twice() -> list[Any]:
    found = [charge(PLAN["amount"])]
    work("between")
    if PLAN.get("more"):
        found.append(charge(99))
    if PLAN.get("cut"):
        BEGUN.set()
        GATE.wait(PATIENCE_SECONDS)
        kitaru.check()
    return found


def test_a_record_that_was_adopted_is_no_drift_of_another_call_in_any_later_life() -> None:
    PLAN.update(amount=1, cut=-1)
    handle = drifting_twice.options(key="k").run()
    cut_off(handle)
    BEGUN.clear()
    GATE.clear()
    PLAN["amount"] = 2
    drifting_twice.options(key="k").run()
    waits_for_a_decision(handle.exec_id)
    client().decide(handle.exec_id, "charge", "adopt")
    cut_off(handle)
    PLAN.update(cut=None, more=True)
    resumed = drifting_twice.options(key="k").run()
    assert resumed.wait(timeout=PATIENCE_SECONDS) == ["receipt 1", "receipt 99"]
    assert RAN == [1, "between", 99]


def test_an_uncertain_call_with_other_inputs_is_asked_about_too() -> None:
    PLAN["cut"] = 1

    @flow
    def outer() -> str:
        return charge(PLAN["amount"])

    PLAN["amount"] = 1
    handle = outer.options(key="k").run()
    cut_off(handle)
    PLAN.clear()
    PLAN["amount"] = 2
    resumed = outer.options(key="k").run()
    waits_for_a_decision(handle.exec_id)
    assert RAN == [1]
    client().decide(handle.exec_id, "charge", "adopt", value="it was done")
    assert resumed.wait(timeout=PATIENCE_SECONDS) == "it was done"


# --- inside checkpoints ------------------------------------------------------------------


def test_a_new_attempt_of_its_caller_keeps_what_it_came_to() -> None:
    @checkpoint(cache=False, retries=2)
    def caller() -> list[Any]:
        found = [charge(7), work(f"plain {kitaru.current().attempt}")]
        if kitaru.current().attempt < 3:
            raise ValueError("again")
        return found

    @checkpoint(cache=False, retries=1)
    def above() -> list[Any]:
        found = caller()
        if kitaru.current().attempt == 1:
            raise ValueError("and again")
        return list(found)

    @flow
    def outer() -> list[Any]:
        return list(above())

    assert outer.run().wait() == ["receipt 7", "plain 3"]
    assert RAN.count(7) == 1


def test_a_failure_is_tried_again_with_its_caller() -> None:
    @checkpoint(cache=False, retries=1)
    def caller() -> str:
        PLAN["raise"] = kitaru.current().attempt == 1
        return charge(8)

    @flow
    def outer() -> str:
        return caller()

    handle = outer.run()
    assert handle.wait() == "receipt 8"
    assert RAN == [8, 8]


def test_a_body_that_its_caller_cancelled_is_uncertain() -> None:
    @checkpoint(effect="once", verify=lambda: PLAN["verdict"])
    async def slow() -> str:
        RAN.append("slow")
        PLAN["scope"].reschedule(asyncio.get_running_loop().time())
        await asyncio.sleep(PATIENCE_SECONDS)
        return "never"

    @checkpoint(cache=False, retries=1)
    async def caller() -> str:
        if kitaru.current().attempt == 1:
            async with asyncio.timeout(None) as PLAN["scope"]:
                return await slow()
        return await slow()

    PLAN["verdict"] = Done("it was done")

    @flow
    async def outer() -> str:
        return await caller()

    assert outer.run().wait(timeout=PATIENCE_SECONDS) == "it was done"
    assert RAN == ["slow"]


def test_a_body_that_timed_out_is_uncertain() -> None:
    @checkpoint(effect="once", timeout=0.05, verify=lambda: Done("late, but done"))
    async def slow() -> str:
        await asyncio.sleep(10 * PATIENCE_SECONDS)
        return "never"

    @flow
    async def outer() -> str:
        return await slow()

    assert outer.run().wait(timeout=PATIENCE_SECONDS) == "late, but done"


@checkpoint(effect="once", runtime="process", verify=lambda: Done("done all the same"))
def dies_in_its_process() -> str:
    os._exit(3)


@pytest.mark.slow
def test_a_body_whose_own_process_died_is_uncertain() -> None:
    @flow
    def outer() -> str:
        return dies_in_its_process()

    assert outer.run().wait(timeout=60) == "done all the same"


def test_a_timeout_that_its_body_raised_is_an_outcome() -> None:
    @checkpoint(cache=False, timeout=0.05)
    async def slow() -> None:
        await asyncio.sleep(10 * PATIENCE_SECONDS)

    @checkpoint(effect="once", verify=lambda: Done("never asked"))
    async def calls_it() -> None:
        await slow()

    @flow
    async def outer() -> None:
        await calls_it()

    with pytest.raises(KitaruExecutionError, match="did not end within"):
        outer.run().wait(timeout=PATIENCE_SECONDS)


# --- refused -----------------------------------------------------------------------------


def test_options_that_make_no_sense_are_refused_at_decoration() -> None:
    async def later() -> Any: ...

    for options in (
        {"effect": "twice"},
        {"verify": lambda: None},
        {"effect": "once", "verify": 3},
        {"effect": "once", "verify": later},
    ):
        with pytest.raises(KitaruUsageError):
            checkpoint(**options)(lambda: None)


def test_a_plain_one_is_not_called_on_the_event_loop_where_nobody_could_be_waited_for() -> None:
    @flow
    async def outer() -> list[Any]:
        with pytest.raises(KitaruContextError, match=r"charge\.submit"):
            charge(1)
        return [await charge.submit(1)]

    assert outer.run().wait() == ["receipt 1"]
