"""`kitaru.memory` and `client.memories`: versions, scopes, and what a resume sees of them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import apsw
import pytest

import kitaru
from kitaru import (
    KitaruClient,
    KitaruContextError,
    KitaruNotFoundError,
    KitaruUsageError,
    KitaruUserCodeError,
    KitaruValueError,
    MemoryEntry,
    MemoryScope,
    app,
    checkpoint,
    flow,
    remembering,
)

from .looking import PATIENCE_SECONDS, execution

SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def forget(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    monkeypatch.setattr(remembering, "_outside", None)


def values(entries: list[MemoryEntry]) -> list[tuple[str, int, Any]]:
    return [(entry.key, entry.version, entry.load()) for entry in entries]


def facts(exec_id: str) -> list[str]:
    return [fact.kind for fact in app.current().store.load_learnt(execution(exec_id).id)]


# --- outside of flows ------------------------------------------------------------------------


def test_every_write_is_a_version() -> None:
    kitaru.memory.configure(scope="team")
    for value in ("formal", None, ["a", (1,)]):
        kitaru.memory.set("tone", value)
    assert kitaru.memory.get("tone") == ["a", (1,)]
    assert [kitaru.memory.get("tone", version) for version in (1, 2)] == ["formal", None]
    assert values(kitaru.memory.history("tone")) == [
        ("tone", 3, ["a", (1,)]),
        ("tone", 2, None),
        ("tone", 1, "formal"),
    ]


def test_a_delete_leaves_a_tombstone_and_the_history() -> None:
    kitaru.memory.configure(scope="team")
    kitaru.memory.set("tone", "formal")
    kitaru.memory.set("size", 3)
    kitaru.memory.delete("tone")
    assert kitaru.memory.get("tone") is None
    assert values(kitaru.memory.list()) == [("size", 1, 3)]
    tombstone, first = kitaru.memory.history("tone")
    assert (tombstone.deleted, tombstone.version, tombstone.load()) == (True, 2, None)
    assert (first.deleted, first.load()) == (False, "formal")
    kitaru.memory.delete("tone")
    assert len(kitaru.memory.history("tone")) == 2
    kitaru.memory.set("tone", "friendly")
    assert kitaru.memory.get("tone", 3) == "friendly"


def test_what_was_never_written_is_none_and_a_version_of_it_an_error() -> None:
    kitaru.memory.configure(scope="team")
    assert kitaru.memory.get("tone") is None
    assert kitaru.memory.history("tone") == []
    kitaru.memory.delete("tone")
    assert kitaru.memory.history("tone") == []
    with pytest.raises(KitaruNotFoundError, match="no version 7 of 'tone' in the memory of"):
        kitaru.memory.get("tone", 7)


def test_outside_of_flows_a_scope_has_to_be_said_first() -> None:
    for use in (
        lambda: kitaru.memory.get("x"),
        lambda: kitaru.memory.set("x", 1),
        lambda: kitaru.memory.list(),
        lambda: kitaru.memory.configure(),
        lambda: kitaru.memory.configure(scope_type="flow"),
    ):
        with pytest.raises(KitaruContextError, match="configure") as refused:
            use()  # type: ignore[no-untyped-call]
        assert refused.value.code == "memory-without-scope"


@pytest.mark.parametrize(
    "key", ["", "a b", "ä", "a\n", "x" * 201, None, 3, b"x", "a:b", "tone\x00"]
)
def test_a_key_has_letters_digits_and_four_marks(key: Any) -> None:
    kitaru.memory.configure(scope="team")
    for use in (kitaru.memory.get, kitaru.memory.history, kitaru.memory.delete):
        with pytest.raises(KitaruUsageError, match="memory key"):
            use(key)
    with pytest.raises(KitaruUsageError, match="memory key"):
        kitaru.memory.set(key, 1)


def test_keys_may_look_like_paths() -> None:
    kitaru.memory.configure(scope="team")
    for key in ("a", "A.b_c-d/e", "0", "../x", "x" * 200):
        kitaru.memory.set(key, key)
        assert kitaru.memory.get(key) == key


@pytest.mark.parametrize(
    "options",
    [{"scope": ""}, {"scope": 3}, {"scope": "x", "scope_type": "nmespace"}, {"scope_type": 3}],
)
def test_a_scope_that_cannot_be_is_refused(options: Any) -> None:
    with pytest.raises(KitaruUsageError):
        kitaru.memory.configure(**options)


@pytest.mark.parametrize("version", [0, -1, True, "1", 1.0, 2**63])
def test_a_version_is_a_whole_number_from_one_on(version: Any) -> None:
    kitaru.memory.configure(scope="team")
    with pytest.raises(KitaruUsageError, match="version="):
        kitaru.memory.get("x", version)


def test_a_value_that_cannot_be_stored_changes_nothing() -> None:
    kitaru.memory.configure(scope="team")
    with pytest.raises(KitaruValueError, match="memory 'x'"):
        kitaru.memory.set("x", threading.Lock())
    assert kitaru.memory.history("x") == []


# --- in flows --------------------------------------------------------------------------------


@flow
def visit() -> int:
    count: int = (kitaru.memory.get("visits") or 0) + 1
    kitaru.memory.set("visits", count)
    assert kitaru.memory.get("visits") == count
    return count


@flow
async def visit_async() -> int:
    count: int = (kitaru.memory.get("visits") or 0) + 1
    kitaru.memory.set("visits", count)
    assert kitaru.memory.get("visits") == count
    return count


def test_the_memory_of_a_flow_outlives_its_executions() -> None:
    first = visit.run()
    assert first.wait() == 1
    second = visit.run()
    assert second.wait() == 2
    entries = KitaruClient().memories.list(scope="visit", scope_type="flow")
    assert [entry.key for entry in entries] == ["visits"]
    assert entries[0].exec_id == second.exec_id
    assert (visit_async.run().wait(), visit_async.run().wait()) == (1, 2)


def test_a_flow_chooses_another_scope_for_itself_alone() -> None:
    kitaru.memory.configure(scope="outside")
    kitaru.memory.set("x", "outside's")

    @flow
    def chooses() -> Any:
        seen = [kitaru.memory.get("x")]
        kitaru.memory.configure(scope="team")
        kitaru.memory.set("x", "team's")
        kitaru.memory.configure(scope_type="execution")
        seen.append(kitaru.memory.get("x"))
        kitaru.memory.set("x", "execution's")
        kitaru.memory.configure()
        seen.append(kitaru.memory.get("x"))
        kitaru.memory.configure(scope="outside")
        return [*seen, kitaru.memory.get("x")]

    handle = chooses.run()
    assert handle.wait() == [None, None, None, "outside's"]
    assert kitaru.memory.get("x") == "outside's"
    memories = KitaruClient().memories
    assert memories.get("x", scope="team").load() == "team's"
    own = {"scope": handle.exec_id[-12:], "scope_type": "execution"}
    assert memories.get("x", **own).load() == "execution's"
    assert memories.scopes() == [
        MemoryScope("execution", handle.exec_id),
        MemoryScope("namespace", "outside"),
        MemoryScope("namespace", "team"),
    ]


def test_a_namespace_has_to_be_named() -> None:
    @flow
    def unnamed() -> None:
        kitaru.memory.configure(scope_type="namespace")

    with pytest.raises(KitaruUserCodeError, match="whose memory is meant"):
        unnamed.run().wait()


def test_there_is_no_memory_inside_a_checkpoint() -> None:
    @checkpoint
    def looks() -> list[str | None]:
        codes = []
        for use in (
            lambda: kitaru.memory.get("x"),
            lambda: kitaru.memory.set("x", 1),
            lambda: kitaru.memory.delete("x"),
            lambda: kitaru.memory.list(),
            lambda: kitaru.memory.history("x"),
            lambda: kitaru.memory.configure(scope="x"),
        ):
            with pytest.raises(KitaruContextError, match="in the flow itself") as refused:
                use()  # type: ignore[no-untyped-call]
            codes.append(refused.value.code)
        return codes

    @flow
    def has_it_look() -> list[str | None]:
        return looks()

    assert has_it_look.run().wait() == ["inside-checkpoint"] * 6


def test_another_attempt_sees_what_the_first_saw_and_writes_nothing_twice() -> None:
    memories = KitaruClient().memories

    @flow(retries=1)
    def remembers() -> Any:
        kitaru.memory.configure(scope="team")
        seen = [
            kitaru.memory.get("x"),
            kitaru.memory.get("none"),
            kitaru.memory.get("x", 1),
            values(kitaru.memory.list()),
            [entry.version for entry in kitaru.memory.history("x")],
        ]
        kitaru.memory.set("y", 1)
        kitaru.memory.set("y", 1)
        kitaru.memory.delete("z")
        SEEN.append(seen)
        if len(SEEN) == 1:
            memories.set("x", "changed", scope="team")
            memories.set("none", "not none any more", scope="team")
            raise ValueError("try again")
        return seen

    memories.set("x", "old", scope="team")
    handle = remembers.run()
    assert handle.wait() == ["old", None, "old", [("x", 1, "old")], [1]]
    assert SEEN[0] == SEEN[1]
    assert [entry.version for entry in memories.history("y", scope="team")] == [2, 1]
    assert [entry.deleted for entry in memories.history("z", scope="team")] == [True]
    assert facts(handle.exec_id) == [
        "memory.get()",
        "memory.get()",
        "memory.get()",
        "memory.list()",
        "memory.history()",
        "memory.set()",
        "memory.set()",
        "memory.delete()",
    ]


def test_what_was_read_stays_readable_when_it_is_purged() -> None:
    memories = KitaruClient().memories
    memories.set("x", {"a": (1,), "b": b"\xff"}, scope="team")

    @flow(retries=1)
    def reads() -> Any:
        kitaru.memory.configure(scope="team")
        found = kitaru.memory.get("x")
        SEEN.append(found)
        if len(SEEN) == 1:
            memories.purge("x", scope="team")
            raise ValueError("try again")
        return found

    assert reads.run().wait() == {"a": (1,), "b": b"\xff"}


def test_a_large_value_is_read_again_by_its_version_and_its_loss_is_told() -> None:
    memories = KitaruClient().memories
    memories.set("x", "old " * 20_000, scope="team")

    @flow(retries=2)
    def reads() -> int:
        kitaru.memory.configure(scope="team")
        found = kitaru.memory.get("x")
        SEEN.append(len(found))
        if len(SEEN) == 1:
            memories.set("x", "new", scope="team")
        if len(SEEN) == 2:
            memories.purge("x", scope="team")
        raise ValueError("try again")

    with pytest.raises(KitaruUserCodeError, match="no version 1 of 'x'"):
        reads.run().wait()
    assert SEEN == [80_000, 80_000]


def test_a_write_is_known_by_its_value() -> None:
    """A retry that comes to another value has not written it yet."""

    @flow(retries=1)
    def writes() -> None:
        SEEN.append(None)
        kitaru.memory.configure(scope="team")
        kitaru.memory.set("x", len(SEEN))
        if len(SEEN) == 1:
            raise ValueError("try again")

    writes.run().wait()
    history = KitaruClient().memories.history("x", scope="team")
    assert [entry.load() for entry in history] == [2, 1]


@pytest.mark.sqlite
def test_a_write_is_durable_and_seen_by_others_before_the_flow_goes_on() -> None:
    reached, go_on = threading.Event(), threading.Event()

    @flow
    def writes() -> None:
        kitaru.memory.configure(scope="team")
        kitaru.memory.set("x", 1)
        reached.set()
        go_on.wait(PATIENCE_SECONDS)

    handle = writes.run()
    assert reached.wait(PATIENCE_SECONDS)
    other = apsw.Connection(f"{app.current().store.info()['location']}/kitaru.db")
    assert list(other.execute("select key, version, exec_id from memories")) == [
        ("x", 1, handle.exec_id)
    ]
    other.close()
    go_on.set()
    handle.wait()


def test_two_executions_that_write_one_key_at_once_get_two_versions() -> None:
    barrier = threading.Barrier(4, timeout=PATIENCE_SECONDS)

    @flow
    def writes(number: int) -> None:
        kitaru.memory.configure(scope="team")
        barrier.wait()
        kitaru.memory.set("x", number)

    handles = [writes.run(number) for number in range(4)]
    for handle in handles:
        handle.wait()
    history = KitaruClient().memories.history("x", scope="team")
    assert [entry.version for entry in history] == [4, 3, 2, 1]
    assert {entry.exec_id for entry in history} == {handle.exec_id for handle in handles}


def test_branches_of_a_flow_remember_side_by_side() -> None:
    async def branch(name: str) -> Any:
        kitaru.memory.set("of", name)
        await asyncio.sleep(0)
        kitaru.memory.set(name, 1)
        return kitaru.memory.get(name)

    @flow
    async def branches() -> Any:
        kitaru.memory.configure(scope="team")
        return await asyncio.gather(*[branch(name) for name in "abc"])

    assert branches.run().wait() == [1, 1, 1]
    memories = KitaruClient().memories
    assert len(memories.history("of", scope="team")) == 3
    assert [entry.key for entry in memories.list(scope="team")] == ["a", "b", "c", "of"]


def test_what_a_flow_left_running_writes_nothing() -> None:
    returned = threading.Event()
    refused: list[str | None] = []

    def late() -> None:
        returned.wait(PATIENCE_SECONDS)
        try:
            kitaru.memory.set("x", 1)
        except KitaruContextError as error:
            refused.append(error.code)

    @flow
    def leaves() -> None:
        import contextvars

        SEEN.append(threading.Thread(target=contextvars.copy_context().run, args=(late,)))
        SEEN[0].start()

    handle = leaves.run()
    handle.wait()
    returned.set()
    SEEN[0].join(PATIENCE_SECONDS)
    assert refused == ["attempt-is-over"]


# --- replay ----------------------------------------------------------------------------------


@flow
def counts(step: int) -> Any:
    before = kitaru.memory.get("n") or 0
    kitaru.memory.set("n", before + step)
    kitaru.memory.configure(scope_type="execution")
    kitaru.memory.set("own", before)
    return [before, kitaru.memory.get("own")]


def test_a_replay_sees_what_its_source_saw_and_writes_only_into_its_own_memory() -> None:
    source = counts.run(1)
    assert source.wait() == [0, 0]
    assert counts.run(1).wait() == [1, 1]
    replayed = counts.replay(source.exec_id)
    assert replayed.wait() == [0, 0]
    memories = KitaruClient().memories
    flow_id = KitaruClient().executions.get(source.exec_id).flow_id
    in_flow = {"scope": flow_id, "scope_type": "flow"}
    assert [entry.load() for entry in memories.history("n", **in_flow)] == [2, 1]
    for handle in (source, replayed):
        own = memories.get("own", scope=handle.exec_id, scope_type="execution")
        assert (own.load(), own.exec_id) == (0, handle.exec_id)


# --- the client ------------------------------------------------------------------------------


def test_the_client_tells_what_it_wrote() -> None:
    memories = KitaruClient().memories
    entry = memories.set("x", (1,), scope="team")
    assert (entry.key, entry.version, entry.load()) == ("x", 1, (1,))
    assert (entry.scope_type, entry.scope, entry.exec_id) == ("namespace", "team", None)
    assert entry.written_at.tzinfo is not None
    assert memories.delete("x", scope="team").deleted
    assert memories.get("x", scope="team", version=1) == entry


def test_the_client_says_what_is_not_there() -> None:
    memories = KitaruClient().memories
    memories.set("x", 1, scope="team")
    memories.delete("x", scope="team")
    with pytest.raises(KitaruNotFoundError, match="it was deleted: look at its history"):
        memories.get("x", scope="team")
    for use in (
        lambda: memories.get("y", scope="team"),
        lambda: memories.get("x", scope="team", version=9),
        lambda: memories.delete("x", scope="team"),
        lambda: memories.purge("y", scope="team"),
        lambda: memories.purge_scope("nobody"),
        lambda: memories.list(scope="01a2", scope_type="execution"),
    ):
        with pytest.raises(KitaruNotFoundError):
            use()  # type: ignore[no-untyped-call]


def test_purging_removes_every_version_for_good() -> None:
    memories = KitaruClient().memories
    for value in range(3):
        memories.set("x", value, scope="team")
    memories.set("y", 1, scope="team")
    memories.set("y", 1, scope="other")
    assert memories.purge("x", scope="team") == 3
    assert memories.history("x", scope="team") == []
    assert memories.purge_scope("team") == 1
    assert memories.scopes() == [MemoryScope("namespace", "other")]


def test_a_flow_is_named_by_name_or_id() -> None:
    visit.run().wait()
    execution_ = KitaruClient().executions.latest()
    memories = KitaruClient().memories
    for scope in (execution_.flow_id, execution_.flow_name):
        assert memories.get("visits", scope=scope, scope_type="flow").load() == 1
