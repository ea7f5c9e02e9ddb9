"""Failures are outcomes: what is raised, recorded, seen, retried and charged to whom."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import kitaru
from kitaru import Retry, checkpoint, flow
from kitaru.errors import (
    FailureOrigin,
    KitaruExecutionError,
    KitaruStateError,
    KitaruUserCodeError,
    KitaruValueError,
)
from kitaru.status import ExecutionStatus

from .looking import PATIENCE_SECONDS, Gate, calls, execution, notes, retry

RAN: list[Any] = []
"""Of this module, because what a checkpoint captures belongs to its identity."""
PLAN: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()
    PLAN.clear()


class Declined(ValueError):
    """A class of the program's own."""


@checkpoint(cache=False)
def work(what: Any) -> Any:
    RAN.append(what)
    return what


@checkpoint(cache=False)
def decline(what: str) -> str:
    RAN.append(what)
    if PLAN.get(what, "raise") == "raise":
        raise Declined(what)
    return what


@checkpoint(cache=False)
async def decline_async(what: str) -> str:
    RAN.append(what)
    raise Declined(what)


# --- what the caller of wait() sees -----------------------------------------------------


def test_a_failed_flow_raises_a_typed_error_with_the_users_exception_as_cause() -> None:
    @flow
    def fails() -> None:
        decline("card")

    handle = fails.run()
    with pytest.raises(KitaruUserCodeError, match="card") as caught:
        handle.wait()
    error = caught.value
    assert error.exec_id == handle.exec_id
    assert error.status is ExecutionStatus.FAILED
    assert error.failure_origin is FailureOrigin.USER_CODE
    assert error.failure is not None
    assert "Declined" in error.failure.exception_type
    assert "decline" in (error.checkpoint or "")
    assert isinstance(error.__cause__, Declined)
    assert f"kitaru executions retry {handle.exec_id}" in str(error)
    assert handle.exec_id in str(error)


def test_the_recorded_failure_is_raised_with_the_same_type_by_a_handle_that_only_reads() -> None:
    @flow
    def fails() -> None:
        decline("card")

    handle = fails.run()
    for _ in range(2):
        with pytest.raises(KitaruUserCodeError) as caught:
            fails.handle(handle.exec_id).wait()
        assert isinstance(caught.value.__cause__, Declined)
        assert str(caught.value.__cause__) == "card"


def test_a_recalled_failure_has_the_same_type_and_message() -> None:
    @flow(retries=1)
    def catches() -> list[str]:
        try:
            decline("card")
        except ValueError as error:
            seen = [type(error).__name__, str(error)]
        RAN.append(seen)
        if kitaru.current().attempt == 1:
            raise RuntimeError("the flow itself")
        return seen

    assert catches.run().wait() == ["Declined", "card"]
    assert RAN == ["card", ["Declined", "card"], ["Declined", "card"]]


# --- caught, uncaught, unseen -----------------------------------------------------------


def test_a_failure_that_the_flow_catches_does_not_fail_it() -> None:
    @flow
    def catches() -> str:
        try:
            decline("card")
        except Declined:
            return "cash"
        return "card"

    handle = catches.run()
    assert handle.wait() == "cash"
    assert [call.state.value for call in calls(handle.exec_id)] == ["failed"]


def test_a_failure_that_nobody_looked_at_fails_the_flow() -> None:
    @flow
    def forgets() -> str:
        decline.submit("unseen")
        return "fine"

    with pytest.raises(KitaruUserCodeError, match="unseen") as caught:
        forgets.run().wait()
    assert isinstance(caught.value.__cause__, Declined)


def test_an_async_failure_that_nobody_looked_at_fails_the_flow() -> None:
    @flow
    async def forgets() -> str:
        decline_async.submit("unseen")
        return "fine"

    with pytest.raises(KitaruUserCodeError, match="unseen"):
        forgets.run().wait()


@pytest.mark.parametrize("how", ["result", "await", "results"])
def test_a_submitted_failure_that_was_caught_does_not_fail_the_flow(how: str) -> None:
    @flow
    def looks() -> str:
        try:
            if how == "results":
                decline.map(["a"]).results()
            else:
                decline.submit("a").result()
        except Declined:
            return "caught"
        return "not raised"

    @flow
    async def looks_async() -> str:
        try:
            await decline.submit("a")
        except Declined:
            return "caught"
        return "not raised"

    assert (looks_async if how == "await" else looks).run().wait() == "caught"


def test_a_flow_that_returns_waits_for_what_it_submitted() -> None:
    gate = Gate()
    PLAN["gate"] = gate

    @checkpoint(cache=False)
    def slow() -> None:
        PLAN["gate"].pass_through()
        RAN.append("slow")

    @flow
    def leaves() -> str:
        slow.submit()
        return "returned"

    handle = leaves.run()
    gate.wait_until_reached()
    assert handle.status is ExecutionStatus.RUNNING
    gate.open()
    assert handle.wait() == "returned"
    assert RAN == ["slow"]
    assert len(calls(handle.exec_id)) == 1


# --- attempts of a call -----------------------------------------------------------------


def test_a_checkpoint_is_tried_as_often_as_it_says_and_every_try_is_recorded() -> None:
    @checkpoint(cache=False, retries=Retry(max_attempts=3, initial_seconds=0))
    def flaky() -> int:
        if kitaru.current().attempt < 3:
            raise ConnectionError("away")
        return kitaru.current().attempt

    @flow
    def tries() -> int:
        return flaky()

    handle = tries.run()
    assert handle.wait() == 3
    found = [(call.attempt, call.state.value) for call in calls(handle.exec_id)]
    assert found == [(1, "failed"), (2, "failed"), (3, "completed")]


def test_the_last_failure_is_raised_when_the_attempts_are_used_up() -> None:
    @checkpoint(cache=False, retries=Retry(max_attempts=2, initial_seconds=0))
    def flaky() -> int:
        raise ConnectionError(f"attempt {kitaru.current().attempt}")

    @flow
    def tries() -> int:
        return flaky()

    with pytest.raises(KitaruUserCodeError) as caught:
        tries.run().wait()
    assert str(caught.value.__cause__) == "attempt 2"


def test_programming_errors_are_not_tried_again() -> None:
    @checkpoint(cache=False, retries=5)
    def typo() -> Any:
        RAN.append(1)
        return undefined_name  # type: ignore[name-defined]  # noqa: F821

    @flow
    def tries() -> Any:
        return typo()

    with pytest.raises(KitaruUserCodeError) as caught:
        tries.run().wait()
    assert isinstance(caught.value.__cause__, NameError)
    assert RAN == [1]


def test_options_override_the_retries_of_the_decorator() -> None:
    @checkpoint(cache=False)
    def flaky() -> int:
        if kitaru.current().attempt < 2:
            raise ConnectionError
        return kitaru.current().attempt

    @flow
    def tries() -> int:
        return flaky.options(retries=Retry(max_attempts=2, initial_seconds=0))()

    assert tries.run().wait() == 2


def test_a_new_attempt_of_the_parent_starts_with_fresh_children() -> None:
    @checkpoint(cache=False, retries=Retry(max_attempts=2, initial_seconds=0))
    def parent() -> int:
        work("child")
        if kitaru.current().attempt == 1:
            raise ConnectionError
        return len(RAN)

    @flow
    def family() -> int:
        return parent()

    assert family.run().wait() == 2
    assert RAN == ["child", "child"]


# --- attempts of an execution -----------------------------------------------------------


def test_a_retry_runs_again_only_what_made_the_flow_fail() -> None:
    @flow
    def orders() -> list[Any]:
        found = [work("kept")]
        try:
            decline("caught card")
        except Declined:
            found.append("cash")
        return [*found, decline("the last")]

    handle = orders.run()
    with pytest.raises(KitaruUserCodeError):
        handle.wait()
    assert RAN == ["kept", "caught card", "the last"]
    PLAN.update({"the last": "pass", "caught card": "pass"})
    again = retry(orders, handle.exec_id)
    assert again.wait() == ["kept", "cash", "the last"]
    assert RAN == ["kept", "caught card", "the last", "the last"]
    assert again.exec_id == handle.exec_id
    assert execution(handle.exec_id).attempt == 2


@pytest.mark.parametrize("strict", [False, True])
def test_what_a_retry_mends_is_no_drift_of_the_calls_behind_it(
    strict: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    @flow(strict=strict)
    def orders() -> list[Any]:
        return [decline(what) for what in ("first", "broken", "new")]

    PLAN.update({"first": "pass", "new": "pass"})
    handle = orders.run()
    with pytest.raises(KitaruUserCodeError):
        handle.wait()
    PLAN["broken"] = "pass"
    assert retry(orders, handle.exec_id).wait() == ["first", "broken", "new"]
    assert [note for note in notes(handle.exec_id) if "other inputs" in note] == []
    assert "other inputs" not in capsys.readouterr().err


def test_a_retry_runs_again_what_stands_in_the_chain() -> None:
    @flow
    def wraps() -> Any:
        try:
            return decline("inner")
        except Declined as error:
            raise RuntimeError("outer") from error

    handle = wraps.run()
    with pytest.raises(KitaruUserCodeError, match="outer"):
        handle.wait()
    PLAN["inner"] = "pass"
    assert retry(wraps, handle.exec_id).wait() == "inner"
    assert RAN == ["inner", "inner"]


def test_a_retry_runs_again_what_stands_in_the_group() -> None:
    @flow
    async def groups() -> Any:
        futures = [decline.submit(name) for name in ("a", "b")]
        found = []
        failures = []
        for future in futures:
            try:
                found.append(await future)
            except Declined as error:
                failures.append(error)
        if failures:
            raise ExceptionGroup("both", failures)
        return found

    handle = groups.run()
    with pytest.raises(KitaruUserCodeError) as caught:
        handle.wait()
    assert isinstance(caught.value.__cause__, BaseExceptionGroup)
    PLAN.update(a="pass", b="pass")
    assert retry(groups, handle.exec_id).wait() == ["a", "b"]


def test_a_retry_of_a_failure_of_the_flow_itself_runs_only_the_flow_again() -> None:
    @flow
    def itself() -> Any:
        found = work("kept")
        try:
            decline("handled")
        except Declined:
            pass
        RAN.append("flow")
        if PLAN.get("flow") != "pass":
            raise RuntimeError("itself")
        return found

    handle = itself.run()
    with pytest.raises(KitaruUserCodeError, match="itself"):
        handle.wait()
    PLAN["flow"] = "pass"
    assert retry(itself, handle.exec_id).wait() == "kept"
    assert RAN == ["kept", "handled", "flow", "flow"]


def test_flow_retries_run_the_body_again_in_the_same_execution() -> None:
    @flow(retries=2)
    def thrice() -> list[int]:
        work("once")
        attempt = kitaru.current().attempt
        RAN.append(attempt)
        if attempt < 3:
            raise RuntimeError(f"attempt {attempt}")
        return [attempt]

    handle = thrice.run()
    assert handle.wait() == [3]
    assert RAN == ["once", 1, 2, 3]
    assert execution(handle.exec_id).attempt == 3


def test_flow_retries_that_are_used_up_leave_it_failed() -> None:
    @flow
    def never() -> None:
        RAN.append(kitaru.current().attempt)
        raise RuntimeError

    with pytest.raises(KitaruUserCodeError):
        never.run(retries=1).wait()
    assert RAN == [1, 2]


def test_a_failed_execution_stays_failed_until_somebody_retries() -> None:
    @flow
    def fails() -> None:
        decline("x")

    handle = fails.run()
    with pytest.raises(KitaruUserCodeError):
        handle.wait()
    with pytest.raises(KitaruUserCodeError):
        fails.handle(handle.exec_id).get()
    assert handle.status is ExecutionStatus.FAILED
    assert RAN == ["x"]


# --- maps -------------------------------------------------------------------------------


@checkpoint(cache=False)
def odd_fails(n: int) -> int:
    RAN.append(n)
    if n % 2:
        raise Declined(str(n))
    return n


def test_a_map_that_collects_puts_exceptions_among_the_results() -> None:
    @flow
    def collects() -> list[str]:
        found = odd_fails.map(range(4), on_error="collect").results()
        return [f"{type(one).__name__} {one}" for one in found]

    assert collects.run().wait() == ["int 0", "Declined 1", "int 2", "Declined 3"]


def test_a_map_that_finishes_runs_all_and_then_raises_the_first() -> None:
    @flow
    def finishes() -> Any:
        futures = odd_fails.map(range(4), on_error="finish", concurrency=1)
        with pytest.raises(Declined, match="1"):
            futures.results()
        return [future.done() for future in futures]

    assert finishes.run().wait() == [True] * 4
    assert sorted(RAN) == [0, 1, 2, 3]


def test_a_map_that_stops_starts_nothing_more_and_says_so() -> None:
    @flow
    def stops() -> Any:
        futures = odd_fails.map(range(4), on_error="stop", concurrency=1)
        with pytest.raises(Declined, match="1"):
            futures.results()
        with pytest.raises(KitaruStateError, match="not started"):
            futures[3].result()
        return "stopped"

    handle = stops.run()
    assert handle.wait() == "stopped"
    assert RAN == [0, 1]
    assert any("2 of 4" in note for note in notes(handle.exec_id))


def test_results_come_in_input_order_however_they_finish() -> None:
    gates = PLAN["gates"] = [Gate(), Gate(), Gate()]

    @checkpoint(cache=False)
    def ordered(n: int) -> int:
        PLAN["gates"][n].pass_through()
        return n

    @flow
    def maps() -> list[int]:
        return ordered.map([0, 1, 2]).results()

    handle = maps.run()
    for gate in reversed(gates):
        gate.wait_until_reached()
        gate.open()
    assert handle.wait() == [0, 1, 2]


def test_no_more_than_the_cap_run_at_once() -> None:
    import threading

    lock = threading.Lock()
    PLAN.update(lock=lock, now=0, most=0)

    @checkpoint(cache=False)
    def counted(n: int) -> int:
        with PLAN["lock"]:
            PLAN["now"] += 1
            PLAN["most"] = max(PLAN["most"], PLAN["now"])
        with PLAN["lock"]:
            PLAN["now"] -= 1
        return n

    @flow
    def maps() -> list[int]:
        return counted.map(range(50), concurrency=2).results()

    assert maps.run().wait() == list(range(50))
    assert 1 <= PLAN["most"] <= 2


@checkpoint(cache=False)
def join(*parts: Any, sep: str = "-") -> str:
    return sep.join(str(part) for part in parts)


def test_what_is_iterated_and_what_is_repeated() -> None:
    @flow
    def maps() -> Any:
        return [
            join.map([1, 2], (3, 4)).results(),
            join.map(range(2), "ab").results(),
            join.map((n for n in (1, 2)), kitaru.unmapped([7, 8])).results(),
            join.map([1, 2], sep=["+", "*"]).results(),
            join.map(join.map([1, 2]), 9).results(),
            join.product([1, 2], ["a", "b"]).results(),
            join.map([]).results(),
        ]

    assert maps.run().wait() == [
        ["1-3", "2-4"],
        ["0-ab", "1-ab"],
        ["1-[7, 8]", "2-[7, 8]"],
        ["1", "2"],
        ["1-9", "2-9"],
        ["1-a", "1-b", "2-a", "2-b"],
        [],
    ]


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [(([1], [1, 2]), {}), ((1,), {}), (([1],), {"concurrency": 0}), (([1],), {"on_error": "no"})],
)
def test_maps_that_make_no_sense_are_refused(args: Any, kwargs: Any) -> None:
    @flow
    def maps() -> None:
        with pytest.raises(kitaru.KitaruUsageError):
            join.map(*args, **kwargs)

    maps.run().wait()


# --- odd exceptions ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: SystemExit(3),
        lambda: KeyboardInterrupt(),
        lambda: GeneratorExit(),
        lambda: StopIteration("value"),
        lambda: StopAsyncIteration(),
        lambda: BaseExceptionGroup("both", [ValueError("a"), KeyboardInterrupt()]),
        lambda: ExceptionGroup("two", [ValueError("a"), OSError("b")]),
        lambda: asyncio.CancelledError(),
    ],
    ids=lambda make: type(make()).__name__,
)
@pytest.mark.parametrize("colour", ["sync", "submitted", "async"])
def test_whatever_a_body_raises_ends_the_flow_and_not_the_process(make: Any, colour: str) -> None:
    PLAN["make"] = make

    @checkpoint(cache=False)
    def odd() -> None:
        raise PLAN["make"]()

    @checkpoint(cache=False)
    async def odd_async() -> None:
        raise PLAN["make"]()

    @flow
    def direct() -> None:
        odd()

    @flow
    def submitted() -> None:
        odd.submit().result()

    @flow
    async def awaited() -> None:
        await odd_async()

    chosen = {"sync": direct, "submitted": submitted, "async": awaited}[colour]
    handle = chosen.run()
    with pytest.raises(KitaruExecutionError):
        handle.wait(timeout=PATIENCE_SECONDS)
    assert handle.status is ExecutionStatus.FAILED
    assert work_still_works() == 1


def work_still_works() -> int:
    @flow
    def small() -> int:
        return int(work(1))

    return small.run().wait(timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_whatever_a_flow_raises_fails_it(kind: type[BaseException], colour: str) -> None:
    @flow
    def odd() -> None:
        raise kind("from the flow")

    @flow
    async def odd_async() -> None:
        raise kind("from the flow")

    handle = (odd if colour == "sync" else odd_async).run()
    with pytest.raises(KitaruExecutionError):
        handle.wait(timeout=PATIENCE_SECONDS)
    assert handle.status is ExecutionStatus.FAILED
    assert work_still_works() == 1


def test_an_exception_that_cannot_be_shown_is_recorded_all_the_same() -> None:
    class Nasty(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

        __repr__ = __str__

    PLAN["nasty"] = Nasty

    @checkpoint(cache=False)
    def raises() -> None:
        raise PLAN["nasty"]

    @flow
    def fails() -> None:
        raises()

    handle = fails.run()
    with pytest.raises(KitaruExecutionError):
        handle.wait()
    assert handle.status is ExecutionStatus.FAILED


def test_a_value_that_cannot_be_stored_fails_at_once_and_names_its_path() -> None:
    import threading

    PLAN["thing"] = {"client": threading.Lock()}

    @checkpoint(cache=False)
    def gives() -> Any:
        return PLAN["thing"]

    @flow
    def fails() -> Any:
        return gives()

    with pytest.raises(KitaruExecutionError, match="client") as caught:
        fails.run().wait()
    assert isinstance(caught.value.__cause__, KitaruValueError)
    assert caught.value.__cause__.path is not None
    assert "gives" in (caught.value.__cause__.checkpoint or "")


def test_a_flow_result_that_cannot_be_stored_fails_the_flow() -> None:
    import threading

    @flow
    def fails() -> Any:
        return threading.Lock()

    handle = fails.run()
    with pytest.raises(KitaruExecutionError, match="lock"):
        handle.wait()
    assert handle.status is ExecutionStatus.FAILED
