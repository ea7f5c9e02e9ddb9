"""Which call is this call: identity, reuse and drift as flows meet them (DESIGN.md, section 3)."""

from __future__ import annotations

import asyncio
import enum
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, configure, flow
from kitaru.errors import KitaruDivergenceError, KitaruExecutionError, KitaruUsageError

from .looking import PATIENCE_SECONDS, calls, execution, notes, retry

RAN: list[Any] = []
"""Of this module, because what a checkpoint captures belongs to its identity."""
PLAN: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()
    PLAN.clear()


@checkpoint
def shared(what: Any = None) -> Any:
    RAN.append(what)
    return what


@checkpoint(cache=False)
def own(what: Any = None) -> Any:
    RAN.append(what)
    return what


@flow
def shares(what: Any) -> Any:
    return shared(what)


def lives(body: Any, *, times: int = 2, **options: Any) -> Any:
    """Run a flow that fails after its calls, and retry it: what it does in its second life."""

    @flow(name=f"lives of {body.__qualname__}", **options)
    def flow_of_lives() -> Any:
        found = body()
        PLAN["life"] = PLAN.get("life", 0) + 1
        if PLAN["life"] < times:
            raise RuntimeError("this life ends")
        return found

    handle = flow_of_lives.run()
    for _ in range(times - 1):
        with pytest.raises(KitaruExecutionError, match="this life ends"):
            handle.wait()
        handle = retry(flow_of_lives, handle.exec_id)
    return handle


# --- the same call gets the same outcome ------------------------------------------------


def test_equal_calls_are_numbered() -> None:
    def body() -> Any:
        return [sample(), sample()]

    handle = lives(body)
    assert handle.wait() == [1, 2]
    assert [(call.n, call.place, call.seq) for call in calls(handle.exec_id)] == [
        (0, 0, 0),
        (1, 1, 1),
    ]


@checkpoint(cache=False)
def sample() -> int:
    RAN.append("sample")
    return len(RAN)


class Colour(enum.Enum):
    RED = 1


@dataclass
class Point:
    x: int
    y: int = 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1, 2, 3}, {3, 2, 1}),
        (float("nan"), float("nan")),
        (Point(1), Point(1, 0)),
        (Colour.RED, Colour.RED),
    ],
    ids=["dict order", "set order", "nan", "field default", "enum"],
)
def test_equal_inputs_are_one_call(one: Any, other: Any) -> None:
    def body() -> Any:
        return own(other if "life" in PLAN else one) is not None

    assert lives(body).wait() is True
    assert len(RAN) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (1, True), (0, False), ("1", 1), ([1], (1,)), (b"a", "a"), (None, ""), (-0.0, 0.0)],
    ids=repr,
)
def test_different_inputs_are_different_calls(one: Any, other: Any) -> None:
    def body() -> Any:
        return own(other if "life" in PLAN else one)

    handle = lives(body)
    handle.wait()
    assert len(RAN) == 2
    assert any("it runs again" in note for note in notes(handle.exec_id))


def test_an_argument_that_equals_its_default_may_be_left_out() -> None:
    def body() -> Any:
        return own(None) if "life" in PLAN else own()

    lives(body).wait()
    assert len(RAN) == 1


def test_a_named_call_is_found_by_its_name_and_says_when_its_inputs_changed() -> None:
    def body() -> Any:
        return own.options(id="charge-42")("new" if "life" in PLAN else "old")

    handle = lives(body)
    assert handle.wait() == "old"
    assert RAN == ["old"]
    assert any("charge-42" in note for note in notes(handle.exec_id))


def test_one_name_twice_in_one_parent_is_refused() -> None:
    @flow
    def twice() -> None:
        own.options(id="a")(1)
        own(2, id="a")  # type: ignore[call-arg]

    with pytest.raises(KitaruExecutionError, match="id='a'"):
        twice.run().wait()


def test_key_and_ignore_say_what_identifies_a_call() -> None:
    @checkpoint(cache=False, key=lambda order, at: order["id"])
    def by_key(order: dict[str, Any], at: float) -> float:
        RAN.append(at)
        return at

    @checkpoint(cache=False, ignore=["at"])
    def ignoring(order: str, at: float) -> float:
        RAN.append(at)
        return at

    def body() -> Any:
        at = 2.0 if "life" in PLAN else 1.0
        return [by_key({"id": 1, "at": at}, at), ignoring("x", at)]

    assert lives(body).wait() == [1.0, 1.0]
    assert RAN == [1.0, 1.0]


def test_a_renamed_checkpoint_is_found_by_its_alias() -> None:
    def old_name(x: int) -> int:
        RAN.append("old")
        return x

    before = checkpoint(name="before the rename", cache=False)(old_name)
    after = checkpoint(name="after the rename", cache=False, aliases=["before the rename"])(
        old_name
    )

    def body() -> Any:
        return (after if "life" in PLAN else before)(1)

    lives(body).wait()
    assert RAN == ["old"]


def test_different_opaque_objects_that_look_alike_are_refused() -> None:
    class Client:
        pass

    PLAN["clients"] = [Client(), Client()]

    @flow
    def two_clients() -> None:
        for client in PLAN["clients"]:
            takes_client(client)

    with pytest.raises(KitaruExecutionError, match="__kitaru_key__") as caught:
        two_clients.run().wait()
    assert isinstance(caught.value.__cause__, KitaruUsageError)


@checkpoint
def takes_client(client: Any) -> int:
    RAN.append("client")
    return 1


def test_an_iterator_as_an_argument_is_refused() -> None:
    @flow
    def iterates() -> None:
        own(iter([1]))

    with pytest.raises(KitaruExecutionError, match=r"iterator|generator"):
        iterates.run().wait()


def test_what_the_flow_gets_is_the_decoded_record() -> None:
    @flow
    def spoils() -> Any:
        first = gives_list()
        first.append("spoiled")
        return [first, PLAN["given"]]

    assert spoils.run().wait() == [[1, "spoiled"], [1]]


@checkpoint(cache=False)
def gives_list() -> list[Any]:
    PLAN["given"] = [1]
    return PLAN["given"]  # type: ignore[no-any-return]


def test_a_tuple_stays_a_tuple() -> None:
    @flow
    def types() -> Any:
        found = [own((1, 2)), own({"a": (1,)}), own(b"x"), own(Path("/tmp")), own({1})]
        return [type(one).__name__ for one in found]

    assert types.run().wait() == ["tuple", "dict", "bytes", "PosixPath", "set"]


# --- drift ------------------------------------------------------------------------------


def test_a_strict_flow_stops_where_it_would_make_another_call() -> None:
    def body() -> Any:
        return own("new" if "life" in PLAN else "old")

    handle = lives(body, strict=True)
    with pytest.raises(KitaruDivergenceError, match="what") as caught:
        handle.wait()
    assert caught.value.exec_id == handle.exec_id
    assert caught.value.checkpoint is not None
    assert RAN == ["old"]


def test_a_strict_flow_stops_even_if_it_catches_what_stops_it() -> None:
    def body() -> Any:
        try:
            own("new" if "life" in PLAN else "old")
        except Exception:
            RAN.append("caught")
        return shared("after")

    with pytest.raises(KitaruDivergenceError):
        lives(body, strict=True).wait()
    assert RAN == ["old", "after", "caught"], "and nothing starts after it"


def test_a_strict_flow_that_stops_in_a_group_has_diverged() -> None:
    def body() -> Any:
        try:
            own("new" if "life" in PLAN else "old")
        except KitaruDivergenceError as stop:
            raise ExceptionGroup("several", [ValueError("another"), stop]) from None

    with pytest.raises(KitaruDivergenceError) as caught:
        lives(body, strict=True).wait()
    assert caught.value.failure_origin == "divergence"


def test_a_strict_flow_may_make_new_calls() -> None:
    def body() -> Any:
        found = [own("old")]
        if "life" in PLAN:
            found.append(shared("new"))
        return found

    assert lives(body, strict=True).wait() == ["old", "new"]


# --- reuse ------------------------------------------------------------------------------


def test_another_execution_reuses_and_says_from_whom() -> None:
    first = shares.run("x")
    second = shares.run("x")
    assert (first.wait(), second.wait()) == ("x", "x")
    first.wait()
    third = shares.run("x")
    assert third.wait() == "x"
    row = calls(third.exec_id)[0]
    assert row.source.value == "reused"
    assert any(one.exec_id[:8] in row.reason for one in (first, second))


def test_one_source_serves_one_call_of_an_execution() -> None:
    shares.run("x").wait()

    @flow
    def twice() -> Any:
        return [shared("x"), shared("x")]

    RAN.clear()
    twice.run().wait()
    assert RAN == ["x"]


def test_failures_are_never_reused() -> None:
    @checkpoint
    def fails_first() -> str:
        RAN.append(1)
        if len(RAN) == 1:
            raise ValueError("first")
        return "ok"

    @flow
    def uses() -> str:
        return fails_first()

    with pytest.raises(KitaruExecutionError):
        uses.run().wait()
    assert uses.run().wait() == "ok"


def _runs(checkpoint_cache: Any, flow_cache: Any, run_cache: Any, configured: Any) -> int:
    """How often the body runs in two executions with these switches."""
    if configured is not None:
        configure(cache=configured)
    made = checkpoint(cache=checkpoint_cache)(_cached_body)

    @flow(cache=flow_cache)
    def uses() -> None:
        made()

    for _ in range(2):
        uses.run(cache=run_cache).wait()
    return len(RAN)


def _cached_body() -> None:
    RAN.append(1)


@pytest.mark.parametrize(
    ("of_checkpoint", "of_flow", "of_run", "configured", "runs"),
    [
        (None, None, None, None, 1),
        (None, None, None, False, 2),
        (None, True, None, False, 1),
        (None, False, None, True, 2),
        (True, False, None, None, 1),
        (True, None, False, None, 2),
        (None, False, True, None, 1),
        (False, True, True, True, 2),
        (None, None, "refresh", None, 2),
        (True, None, "refresh", None, 2),
    ],
)
def test_the_precedence_of_cache(
    of_checkpoint: Any, of_flow: Any, of_run: Any, configured: Any, runs: int
) -> None:
    assert _runs(of_checkpoint, of_flow, of_run, configured) == runs


def test_refresh_records_anew_for_those_who_come_later() -> None:
    @checkpoint
    def counted() -> int:
        RAN.append(1)
        return len(RAN)

    @flow
    def uses() -> int:
        return counted()

    assert uses.run().wait() == 1
    assert uses.run(cache="refresh").wait() == 2
    assert uses.run().wait() == 2


def test_opaque_inputs_and_later_attempts_do_not_reuse() -> None:
    @flow
    def opaque() -> int:
        return takes_client(threading.Lock())

    opaque.run().wait()
    handle = opaque.run()
    handle.wait()
    assert RAN == ["client", "client"]
    assert "client" in calls(handle.exec_id)[0].reason


def test_changed_code_is_a_miss_that_names_the_function() -> None:
    def version(n: int) -> Any:
        namespace: dict[str, Any] = {"RAN": RAN, "__name__": __name__}
        exec(f"def body():\n    RAN.append({n})\n    return {n}", namespace)
        return checkpoint(name=f"changing {id(RAN)}")(namespace["body"])

    @flow
    def uses() -> int:
        return PLAN["version"]()  # type: ignore[no-any-return]

    PLAN["version"] = version(1)
    assert uses.run().wait() == 1
    PLAN["version"] = version(2)
    handle = uses.run()
    assert handle.wait() == 2
    assert "code" in calls(handle.exec_id)[0].reason


# --- branches ---------------------------------------------------------------------------


def test_each_branch_counts_for_itself() -> None:
    async def branch(name: str) -> list[Any]:
        for _ in range(3 if name == PLAN["slow"] else 0):
            await asyncio.sleep(0)
        return [name, sample()]

    @flow(retries=1)
    async def gathers() -> Any:
        again = kitaru.current().attempt > 1
        PLAN["slow"] = "a" if again else "b"
        found = await asyncio.gather(branch("a"), branch("b"))
        if not again:
            PLAN["first"] = found
            raise RuntimeError
        return found

    assert gathers.run().wait() == PLAN["first"] == [["a", 1], ["b", 2]]


def test_equal_calls_of_threads_keep_to_their_branch() -> None:
    def in_thread(name: str) -> list[Any]:
        if PLAN["quick"] != name:
            assert PLAN["other"].wait(PATIENCE_SECONDS)
        found = [name, sample()]
        PLAN["other"].set()
        return found

    @flow
    async def threads() -> Any:
        PLAN["other"] = threading.Event()
        PLAN["quick"] = "b" if "life" in PLAN else "a"
        found = await asyncio.gather(*[asyncio.to_thread(in_thread, name) for name in "ab"])
        if "life" not in PLAN:
            PLAN["life"] = found
            raise RuntimeError
        return found

    handle = threads.run()
    with pytest.raises(KitaruExecutionError):
        handle.wait()
    assert retry(threads, handle.exec_id).wait() == PLAN["life"]


def test_the_branch_of_a_call_is_on_record() -> None:
    async def branch() -> Any:
        return sample()

    @flow
    async def gathers() -> Any:
        return [sample(), *(await asyncio.gather(branch(), branch()))]

    handle = gathers.run()
    handle.wait()
    found = [call.branch for call in calls(handle.exec_id)]
    assert found[0] == ""
    assert len(set(found)) == 3
    assert "branch" in found[1]


# --- on record --------------------------------------------------------------------------


def test_children_are_recorded_below_their_parent() -> None:
    @checkpoint(cache=False)
    def parent() -> Any:
        return [own("a"), own("b")]

    @flow
    def family() -> Any:
        return parent()

    handle = family.run()
    handle.wait()
    a, b, top = calls(handle.exec_id)
    assert a.parent == b.parent == top.identity
    assert top.parent is None
    assert [a.parent_attempt, b.parent_attempt] == [1, 1]


def test_the_options_of_a_run_are_frozen_on_the_execution() -> None:
    import json

    handle = shares.options(tags=["a", "b"]).run("x", cache=False, retries=3)
    handle.wait()
    row = execution(handle.exec_id)
    assert json.loads(row.tags) == ["a", "b"]
    spec = json.loads(row.spec)
    assert (spec["cache_of_run"], spec["retries"]) == (False, 3)
