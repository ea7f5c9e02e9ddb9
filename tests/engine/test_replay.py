"""Replays: a new execution from an old one, with what is kept, given and run anew."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, configure, flow
from kitaru.errors import (
    FailureOrigin,
    KitaruContextError,
    KitaruDivergenceError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
    KitaruValueError,
)

from .looking import Gate, calls, execution, notes

RAN: list[Any] = []
"""Of this module, because what a checkpoint captures belongs to its identity."""
PLAN: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()
    PLAN.clear()


@checkpoint
def work(what: Any) -> str:
    RAN.append(what)
    return f"<{what}{PLAN.get('mark', '')}>"


@checkpoint
def other(what: Any) -> str:
    RAN.append(("other", what))
    return f"({what}{PLAN.get('mark', '')})"


@checkpoint
def fails(what: Any) -> str:
    RAN.append(("fails", what))
    raise ValueError(f"no {what}")


@flow
def chain(topic: str) -> str:
    return other(work(work(topic) + "!"))


def sources(exec_id: str) -> list[str]:
    return [call.source.value for call in calls(exec_id)]


def records(exec_id: str) -> list[Any]:
    return KitaruClient().executions.list_checkpoints(exec_id)


def ran_in(handle: Any, expected: Any) -> list[Any]:
    RAN.clear()
    assert handle().wait() == expected
    return list(RAN)


# --- everything kept ---------------------------------------------------------------------


def test_a_replay_without_anything_changed_runs_nothing_and_is_like_its_source() -> None:
    first = chain.run("t")
    value = first.wait()
    RAN.clear()
    second = chain.replay(first.exec_id)
    assert second.wait() == value
    assert RAN == []
    assert second.exec_id != first.exec_id
    before, after = records(first.exec_id), records(second.exec_id)
    assert [(c.name, c.seq, c.result()) for c in before] == [
        (c.name, c.seq, c.result()) for c in after
    ]
    assert {c.source for c in after} == {"carried"}
    assert [c.original_call_id for c in after] == [c.call_id for c in before]
    assert {c.reused_from for c in after} == {None}
    assert after[0].reason == f"carried from {first.exec_id}"
    shown = KitaruClient().executions.get(second.exec_id)
    assert shown.original_exec_id == first.exec_id
    assert sources(first.exec_id) == ["ran"] * 3


def test_a_replay_has_its_own_copies_of_the_values() -> None:
    first = chain.run("t")
    first.wait()
    second = chain.replay(first.exec_id)
    second.wait()
    ours, theirs = calls(second.exec_id), calls(first.exec_id)
    assert [call.payload for call in ours] == [call.payload for call in theirs]
    assert {call.reuse_key for call in ours} == {None}


def test_what_a_replay_keeps_costs_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    first = chain.run("t")
    first.wait()
    store = kitaru.app.current().store
    written: list[str] = []
    apply = store.apply

    def count(write: Any) -> Any:
        written.append(type(write).__name__)
        return apply(write)

    monkeypatch.setattr(store, "apply", count)
    chain.replay(first.exec_id).wait()
    assert [name for name in written if name != "RegisterOwner"] == ["Start", "Finish"]


def test_the_past_of_the_world_is_kept_too() -> None:
    first = clocks.run()
    value = first.wait()
    RAN.clear()
    assert clocks.replay(first.exec_id).wait() == value
    assert RAN == []


@flow
def clocks() -> Any:
    at, identifier, number = kitaru.now(), kitaru.uuid4(), kitaru.random()
    work(at)
    other(identifier)
    return [str(at), str(identifier), number]


def test_a_failure_is_an_outcome_and_is_kept() -> None:
    first = catches.run()
    value = first.wait()
    RAN.clear()
    second = catches.replay(first.exec_id)
    assert second.wait() == value
    assert RAN == []
    assert next((c.status, c.source) for c in records(second.exec_id)) == ("failed", "carried")


@flow
def catches() -> str:
    try:
        return fails("luck")
    except ValueError as error:
        return work(str(error))


@flow(retries=2)
def uncaught() -> str:
    return fails("luck")


def test_a_replay_of_a_failed_execution_fails_alike_and_a_retry_of_it_runs_what_failed() -> None:
    first = uncaught.run()
    with pytest.raises(kitaru.KitaruUserCodeError, match="no luck"):
        first.wait()
    assert len(RAN) == 3
    second = uncaught.replay(first.exec_id)
    with pytest.raises(kitaru.KitaruUserCodeError, match="no luck"):
        second.wait()
    assert len(RAN) == 3, "the tries of the flow were made where it ran"
    with pytest.raises(kitaru.KitaruUserCodeError):
        KitaruClient().executions.retry(second.exec_id).wait()
    assert len(RAN) > 3


@checkpoint(retries=kitaru.Retry(max_attempts=3, initial_seconds=0), cache=False)
def third_time(what: str) -> str:
    RAN.append(what)
    if kitaru.current().attempt < 3:
        raise ValueError("not yet")
    return nested(what)


@checkpoint
def nested(what: str) -> str:
    RAN.append(("nested", what))
    kitaru.log(cost=2)
    return f"{{{what}}}"


@flow
def tries() -> str:
    return work(third_time("a")) + work("last")


def test_earlier_tries_and_what_is_below_come_along() -> None:
    first = tries.run()
    value = first.wait()
    RAN.clear()
    second = tries.replay(first.exec_id)
    assert second.wait() == value
    assert RAN == []
    before, after = records(first.exec_id), records(second.exec_id)
    assert [(c.name, c.seq, len(c.attempts), c.metadata) for c in after] == [
        (c.name, c.seq, len(c.attempts), c.metadata) for c in before
    ]
    assert [c.parent_call_ids != () for c in after] == [c.parent_call_ids != () for c in before]
    third = tries.replay(second.exec_id)
    assert third.wait() == value
    assert RAN == []


def test_a_replay_may_be_replayed_and_an_execution_replayed_twice() -> None:
    first = chain.run("t")
    value = first.wait()
    RAN.clear()
    second, third = chain.replay(first.exec_id), chain.replay(first.exec_id)
    assert (second.wait(), third.wait()) == (value, value)
    fourth = chain.replay(third.exec_id)
    assert fourth.wait() == value
    assert RAN == []
    assert execution(fourth.exec_id).original_exec_id == third.exec_id


# --- from a call on -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("from_", "again"),
    [("work#1", ["t", "<t>!", ("other", "<<t>!>")]), ("work#2", ["<t>!", ("other", "<<t>!>")]),
     ("other", [("other", "<<t>!>")])],
)  # fmt: skip
def test_the_named_call_and_what_comes_after_it_run_anew(from_: str, again: list[Any]) -> None:
    first = chain.run("t")
    value = first.wait()
    assert ran_in(lambda: chain.replay(first.exec_id, from_), value) == again


def test_a_call_is_named_by_its_id_too() -> None:
    first = chain.run("t")
    value = first.wait()
    call = records(first.exec_id)[1]
    for words in (call.call_id, call.call_id.rpartition(":")[2], call.call_id[:-4]):
        assert ran_in(lambda words=words: chain.replay(first.exec_id, words), value) == [
            "<t>!",
            ("other", "<<t>!>"),
        ]


def test_reuse_is_off_in_a_replay_unless_it_is_asked_for_explicitly() -> None:
    first = chain.run("t")
    value = first.wait()
    configure(cache=True)
    assert len(ran_in(lambda: chain.replay(first.exec_id, "other"), value)) == 1
    assert ran_in(lambda: chain.options(cache=True).replay(first.exec_id, "other"), value) == []
    last = KitaruClient().executions.latest()
    assert [c.source for c in last.checkpoints] == ["carried", "carried", "reused"]


def test_what_a_replay_runs_says_why() -> None:
    first = chain.run("t")
    first.wait()
    second = chain.replay(first.exec_id, "work#2")
    second.wait()
    reasons = [why.reason for why in KitaruClient().executions.why(second.exec_id)]
    assert reasons == [
        f"carried from {first.exec_id}",
        f"the replay of {first.exec_id} runs anew from here",
        f"it had not completed in {first.exec_id} when work#2 started",
    ]


def test_now_is_kept_up_to_the_point_and_asked_anew_behind_it() -> None:
    first = times.run()
    early, late = first.wait()
    second = times.replay(first.exec_id, "work")
    again_early, again_late = second.wait()
    assert again_early == early
    assert again_late > late


@flow
def times() -> list[str]:
    early = kitaru.now()
    work(early)
    return [str(early), str(kitaru.now())]


@checkpoint
def outer(what: str) -> str:
    RAN.append(("outer", what))
    return work(f"{what}1") + other(f"{what}2") + work(f"{what}3")


@flow
def nests() -> str:
    return outer("a") + outer("b")


def test_a_nested_call_is_addressed_and_what_holds_it_runs_anew() -> None:
    first = nests.run()
    value = first.wait()
    assert ran_in(lambda: nests.replay(first.exec_id, "other#2"), value) == [
        ("outer", "b"),
        ("other", "b2"),
        "b3",
    ]
    last = KitaruClient().executions.latest()
    reasons = {c.name: c.reason for c in last.checkpoints if c.source == "ran"}
    assert "other#2 is called in it" in reasons["outer"]
    # and of that replay, where most is carried already
    assert ran_in(lambda: nests.replay(last.exec_id, "other#1"), value)[:3] == [
        ("outer", "a"),
        ("other", "a2"),
        "a3",
    ]


@flow
def fan_out(items: list[int]) -> list[str]:
    return [*work.map(items).results(), other("end")]


def test_an_item_of_a_map_is_addressed() -> None:
    first = fan_out.run([1, 2, 3])
    value = first.wait()
    again = ran_in(lambda: fan_out.replay(first.exec_id, overrides={"checkpoint.work#2": "x"}),
                   ["<1>", "x", "<3>", "(end)"])  # fmt: skip
    assert again == []
    assert ("other", "end") in ran_in(lambda: fan_out.replay(first.exec_id, "work#3"), value)


@flow
def changed_code(topic: str) -> str:
    found = work(topic)
    if PLAN.get("skip"):
        return found
    return other(found)


def test_a_point_that_is_never_reached_is_a_divergence() -> None:
    first = changed_code.run("t")
    first.wait()
    PLAN["skip"] = True
    second = changed_code.replay(first.exec_id, "other")
    with pytest.raises(KitaruDivergenceError, match="never came to that call") as caught:
        second.wait()
    assert caught.value.failure_origin is FailureOrigin.DIVERGENCE
    assert caught.value.code == "replay-point-not-reached"
    assert second.status.value == "failed"


def test_a_point_whose_inputs_the_code_changed_is_reached_all_the_same() -> None:
    first = edited.run()
    first.wait()
    PLAN["prompt"] = "new"
    assert ran_in(lambda: edited.replay(first.exec_id, "other"), "(<a>new)") == [
        ("other", "<a>new")
    ]


@flow
def edited() -> str:
    return other(work("a") + PLAN.get("prompt", "old"))


# --- changed inputs ---------------------------------------------------------------------------


@flow
def two_inputs(topic: str, tone: str) -> str:
    return other(work(topic) + tone)


def test_without_a_point_only_what_depends_on_a_changed_input_runs() -> None:
    first = two_inputs.run("t", tone="kind")
    first.wait()
    assert ran_in(lambda: two_inputs.replay(first.exec_id, tone="dry"), "(<t>dry)") == [
        ("other", "<t>dry")
    ]
    (_, ran) = KitaruClient().executions.latest().checkpoints
    assert ran.reason == f"input changed since {first.exec_id}: what"
    assert execution(first.exec_id).inputs != execution(ran.call_id.partition(":")[0]).inputs


def test_with_a_point_outcomes_are_kept_by_place_and_say_so() -> None:
    first = two_inputs.run("t", tone="kind")
    first.wait()
    assert ran_in(lambda: two_inputs.replay(first.exec_id, "other", topic="new"), "(<t>kind)") == [
        ("other", "<t>kind")
    ]
    kept, _ = KitaruClient().executions.latest().checkpoints
    assert kept.source == "carried"
    assert kept.reason == f"carried from {first.exec_id} by its place: what differs"


def test_an_input_that_is_given_as_it_was_changes_nothing() -> None:
    first = two_inputs.run("t", tone="kind")
    value = first.wait()
    assert ran_in(lambda: two_inputs.replay(first.exec_id, topic="t"), value) == []


@flow
def maps(items: list[str]) -> str:
    found = work.map(items).results()
    return other("".join(found))


def test_nothing_is_kept_by_place_inside_a_map_whose_length_changed() -> None:
    first = maps.run(["a", "b"])
    first.wait()
    again = ran_in(lambda: maps.replay(first.exec_id, "other", items=["a", "c", "d"]),
                   "(<a><c><d>)")  # fmt: skip
    assert sorted(map(str, again)) == ["('other', '<a><c><d>')", "c", "d"]
    again = ran_in(lambda: maps.replay(first.exec_id, "other", items=["a", "c"]), "(<a><b>)")
    assert again == [("other", "<a><b>")]


@flow
def map_and_more(items: list[str]) -> str:
    return "".join(work.map(items).results()) + work("last") + other("end")


def test_nothing_is_kept_by_place_behind_a_map_whose_length_changed() -> None:
    first = map_and_more.run(["a", "b", "c"])
    first.wait()
    again = ran_in(lambda: map_and_more.replay(first.exec_id, "other", items=["x", "y"]),
                   "<x><y><last>(end)")  # fmt: skip
    assert sorted(map(str, again)) == ["('other', 'end')", "x", "y"]


@checkpoint
def wraps(what: str) -> str:
    RAN.append(("wraps", what))
    return work("inside") + other(what)


@flow
def by_place_inside(topic: str) -> str:
    return wraps(topic)


def test_below_a_call_that_is_known_by_its_place_calls_are_found_too() -> None:
    first = by_place_inside.run("t")
    first.wait()
    again = ran_in(lambda: by_place_inside.replay(first.exec_id, "other", topic="n"),
                   "<inside>(n)")  # fmt: skip
    assert again == [("wraps", "n"), ("other", "n")]


# --- outcomes that are given --------------------------------------------------------------------


def test_what_depends_on_an_override_runs_and_nothing_else() -> None:
    first = diamond.run()
    first.wait()
    again = ran_in(lambda: diamond.replay(first.exec_id, overrides={"checkpoint.work#1": "L"}),
                   "((L)/(<r>))")  # fmt: skip
    assert again == [("other", "L"), ("other", "(L)/(<r>)")]
    given = KitaruClient().executions.latest().checkpoints[0]
    assert (given.source, given.reason) == ("override", "its outcome was given: checkpoint.work#1")
    assert given.result() == "L"


@flow
def diamond() -> str:
    left, right = work("l"), work("r")
    return other(f"{other(left)}/{other(right)}")


@pytest.mark.parametrize("value", [None, False, 0, "", [], (1, 2), {"a": 1}])
def test_any_value_can_be_given(value: Any) -> None:
    first = returns_what_is_given.run()
    first.wait()
    given = returns_what_is_given.replay(
        first.exec_id, overrides={"checkpoint.anything": value}
    ).wait()
    assert (type(given), given) == (type(value), value)


@checkpoint
def anything() -> Any:
    return "something"


@flow
def returns_what_is_given() -> Any:
    return anything()


def test_a_nested_call_may_be_given_its_outcome() -> None:
    first = nests.run()
    first.wait()
    again = ran_in(lambda: nests.replay(first.exec_id, overrides={"checkpoint.other#1": "X"}),
                   "<a1>X<a3><b1>(b2)<b3>")  # fmt: skip
    assert again == [("outer", "a")]


def test_an_override_of_what_comes_after_another_one_is_used_by_its_place() -> None:
    first = chain.run("t")
    first.wait()
    overrides = {"checkpoint.work#1": "W", "checkpoint.work#2": "V"}
    assert ran_in(lambda: chain.replay(first.exec_id, overrides=overrides), "(V)") == [
        ("other", "V")
    ]


def test_an_override_of_a_failure_lets_the_flow_go_on() -> None:
    first = uncaught.run()
    with pytest.raises(kitaru.KitaruUserCodeError):
        first.wait()
    given = uncaught.replay(first.exec_id, overrides={"checkpoint.fails": "luck"})
    assert given.wait() == "luck"


def test_an_override_that_nobody_asks_for_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    first = changed_code.run("t")
    first.wait()
    PLAN["skip"] = True
    second = changed_code.replay(first.exec_id, overrides={"checkpoint.other": "x"})
    assert second.wait() == "<t>"
    assert "'checkpoint.other' was not used" in notes(second.exec_id)[0]
    assert "'checkpoint.other' was not used" in capsys.readouterr().err


def test_an_override_and_a_point_together() -> None:
    first = chain.run("t")
    first.wait()
    handle = chain.replay(first.exec_id, "other", {"checkpoint.work#1": "W"})
    assert handle.wait() == "(<W!>)"
    assert RAN[-2:] == ["W!", ("other", "<W!>")]


# --- async, branches ------------------------------------------------------------------------------


@checkpoint
async def work_async(what: str) -> str:
    RAN.append(what)
    await asyncio.sleep(0)
    return f"<{what}>"


@flow
async def branches() -> list[str]:
    async def one(name: str) -> str:
        return await work_async(await work_async(name) + str(kitaru.random()))

    return list(await asyncio.gather(one("a"), one("b"), one("c")))


def test_branches_are_kept_apart() -> None:
    first = branches.run()
    value = first.wait()
    RAN.clear()
    assert branches.replay(first.exec_id).wait() == value
    assert RAN == []
    calls_of_b = [c for c in records(first.exec_id) if c.inputs["what"] == "b"]
    handle = branches.replay(first.exec_id, overrides={f"checkpoint.{calls_of_b[0].call_id}": "B"})
    found = handle.wait()
    assert (found[0], found[2]) == (value[0], value[2])
    assert found[1].startswith("<B")
    assert len(RAN) == 1


@flow
def stops(items: list[int]) -> str:
    try:
        return "".join(fails_at_two.map(items, concurrency=1).results())
    except ValueError as error:
        return str(error)


@checkpoint
def fails_at_two(number: int) -> str:
    RAN.append(number)
    if number == 2:
        raise ValueError("two")
    return str(number)


def test_what_a_map_did_not_start_is_not_started_by_a_replay() -> None:
    first = stops.run([1, 2, 3, 4])
    assert first.wait() == "two"
    assert RAN == [1, 2]
    for _ in range(5):
        assert ran_in(lambda: stops.replay(first.exec_id), "two") == []


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"from_": "work"}, r"fits 2 calls.*\n  work#1  [0-9a-f]{12}\n  work#2  [0-9a-f]{12}"),
        ({"from_": "wrok"}, r"no recorded call.*Did you mean 'work'.*\n  work#1.*\n.*\n  other"),
        ({"from_": "work#3"}, "no recorded call"),
        ({"from_": "work#0"}, "no recorded call"),
        ({"overrides": {"checkpoint.work": 1}}, "override 'work' fits 2 calls"),
        ({"overrides": {"checkpoint.gone": 1}}, "override 'gone' is no recorded call"),
    ],
)
def test_a_call_that_is_unknown_or_ambiguous_is_refused_with_the_candidates(
    words: dict[str, Any], says: str
) -> None:
    first = chain.run("t")
    first.wait()
    with pytest.raises(KitaruStateError) as caught:
        chain.replay(first.exec_id, **words)
    assert re.search(says, str(caught.value), re.DOTALL), str(caught.value)
    assert caught.value.code == "replay-call-unclear"
    assert len(KitaruClient().executions.list()) == 1


@pytest.mark.parametrize(
    "overrides",
    [
        {"work#1": 1},
        {"checkpoint": 1},
        {3: 1},
        ["checkpoint.work#1"],
        "checkpoint.work#1",
        {"checkpoint.work#1": 5},
        {"checkpoint.work#1": "x" * (1 << 20)},
    ],
    ids=["no prefix", "no name", "no text", "list", "text", "wrong type", "large"],
)
def test_an_override_that_makes_no_sense_is_refused(overrides: Any) -> None:
    first = chain.run("t")
    first.wait()
    with pytest.raises(KitaruUsageError) as caught:
        chain.replay(first.exec_id, overrides=overrides)
    assert caught.value.code == "override-invalid"
    assert len(KitaruClient().executions.list()) == 1


def test_two_overrides_of_one_call_are_refused() -> None:
    first = chain.run("t")
    first.wait()
    call_id = records(first.exec_id)[0].call_id
    with pytest.raises(KitaruUsageError, match="mean the same call"):
        chain.replay(
            first.exec_id, overrides={"checkpoint.work#1": "a", f"checkpoint.{call_id}": "b"}
        )


def test_inputs_are_checked_as_for_a_run() -> None:
    first = two_inputs.run("t", tone="kind")
    first.wait()
    with pytest.raises(KitaruUsageError, match="tone is an int, not str"):
        two_inputs.replay(first.exec_id, tone=3)
    with pytest.raises(KitaruUsageError, match="unexpected keyword argument 'tune'"):
        two_inputs.replay(first.exec_id, tune="x")


def test_an_execution_of_another_flow_and_one_that_is_not_there_are_refused() -> None:
    first = chain.run("t")
    first.wait()
    with pytest.raises(KitaruStateError, match="is one of flow"):
        nests.replay(first.exec_id)
    with pytest.raises(KitaruNotFoundError):
        chain.replay("0198ffff")


def test_an_execution_that_is_not_finished_is_not_replayed() -> None:
    gate = PLAN["gate"] = Gate()
    first = held.run()
    gate.wait_until_reached()
    with pytest.raises(KitaruStateError, match="is running: only a finished one") as caught:
        held.replay(first.exec_id)
    assert caught.value.code == "source-not-finished"
    gate.open()
    first.wait()


@flow
def held() -> None:
    PLAN["gate"].pass_through()


def test_a_replay_inside_a_flow_is_refused() -> None:
    first = chain.run("t")
    first.wait()
    PLAN["source"] = first.exec_id
    assert replays_inside.run().wait() == "replay-inside-flow"


@flow
def replays_inside() -> str | None:
    try:
        chain.replay(PLAN["source"])
    except KitaruContextError as error:
        return error.code
    return None


def damage(exec_id: str, seq: int) -> None:
    import apsw

    store = kitaru.app.current().store
    connection = apsw.Connection(str(store.info()["location"]) + "/kitaru.db")
    row = execution(exec_id)
    connection.execute(
        "update calls set data = ? where execution = ? and seq = ?", (b'"changed"', row.id, seq)
    )
    connection.close()


@pytest.mark.sqlite
def test_a_source_that_cannot_be_read_is_said_before_anything_runs() -> None:
    first = chain.run("t")
    first.wait()
    damage(first.exec_id, 1)
    with pytest.raises(KitaruValueError, match="replay from that call") as caught:
        chain.replay(first.exec_id)
    assert caught.value.code == "record-corrupt"
    assert len(KitaruClient().executions.list()) == 1
    handle = chain.replay(first.exec_id, overrides={"checkpoint.work#2": "ok"})
    assert handle.wait() == "(ok)"
    assert chain.replay(first.exec_id, "work#2").wait() == "(<<t>!>)"


def test_the_same_key_is_the_same_replay() -> None:
    first = chain.run("t")
    first.wait()
    keyed = chain.options(key="once")
    second = keyed.replay(first.exec_id, "other")
    second.wait()
    assert keyed.replay(first.exec_id, "other").exec_id == second.exec_id
    with pytest.raises(KitaruStateError, match="other inputs"):
        keyed.replay(first.exec_id, "work#1")


def test_the_client_and_a_record_replay_too() -> None:
    first = chain.run("t")
    value = first.wait()
    executions = KitaruClient().executions
    assert executions.replay(first.exec_id[-8:], from_="other").wait() == value
    assert executions.get(first.exec_id).replay(topic="u").wait() == "(<<u>!>)"


def test_a_bound_flow_replays_with_its_instance() -> None:
    first = Shop("tea").order.run()
    assert first.wait() == "<tea>"
    assert Shop("tea").order.replay(first.exec_id).wait() == "<tea>"
    assert Shop("pen").order.replay(first.exec_id).wait() == "<pen>"


@dataclasses.dataclass
class Shop:
    goods: str

    @flow
    def order(self) -> str:
        return work(self.goods)
