"""`kitaru.save` and `kitaru.load`: recorded with the attempt's outcome, found again by name."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apsw
import pytest

import kitaru
from kitaru import (
    KitaruClient,
    KitaruContextError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
    KitaruUserCodeError,
    KitaruValueError,
    app,
    checkpoint,
    flow,
)

from .own_saving import save_far, save_far_and_load

SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    SEEN.clear()


@checkpoint(retries=0)
def draft(topic: str) -> str:
    SEEN.append(topic)
    kitaru.save("prompt", f"about {topic}", type="prompt", tags=["v1"])
    kitaru.save("raw", {"tokens": (1, 2)}, type="response")
    return topic.upper()


@flow
def write(*topics: str) -> list[str]:
    return [draft(topic) for topic in topics]


@flow
def read(exec_id: str, name: str) -> Any:
    return kitaru.load(exec_id, name)


def run(*topics: str) -> str:
    handle = write.run(*topics)
    handle.wait()
    return handle.exec_id


def names(exec_id: str) -> list[tuple[str, str]]:
    return [(ref.kind, ref.name) for ref in KitaruClient().artifacts.list(exec_id)]


# --- saving --------------------------------------------------------------------------------


def test_what_a_body_saves_stands_beside_its_result() -> None:
    exec_id = run("rivers")
    prompt, raw, result = KitaruClient().executions.get(exec_id).artifacts
    assert (prompt.name, prompt.save_type, prompt.tags) == ("prompt", "prompt", ("v1",))
    assert (prompt.kind, raw.kind, result.kind) == ("saved", "saved", "result")
    assert (prompt.load(), raw.load(), result.load()) == (
        "about rivers",
        {"tokens": (1, 2)},
        "RIVERS",
    )
    (call,) = KitaruClient().executions.get(exec_id).checkpoints
    assert call.artifacts == (prompt, raw, result)
    assert {ref.producing_call for ref in call.artifacts} == {call.call_id}


def test_falsy_values_are_values() -> None:
    @checkpoint
    def empty() -> None:
        for number, value in enumerate([None, False, 0, "", [], ()]):
            kitaru.save(f"value {number}", value)

    @flow
    def empties() -> None:
        empty()

    handle = empties.run()
    handle.wait()
    refs = KitaruClient().artifacts.list(handle.exec_id, kind="saved")
    assert [ref.load() for ref in refs] == [None, False, 0, "", [], ()]


def test_a_large_value_is_saved_as_a_blob() -> None:
    @checkpoint
    def large() -> None:
        kitaru.save("large", "x" * 100_000, type="blob")

    @flow
    def larges() -> None:
        large()

    handle = larges.run()
    handle.wait()
    assert read.run(handle.exec_id, "large").wait() == "x" * 100_000


def test_a_value_is_saved_as_it_was() -> None:
    @checkpoint
    def changing() -> list[int]:
        found = [1]
        kitaru.save("before", found)
        found.append(2)
        return found

    @flow
    def changes() -> list[int]:
        return changing()

    handle = changes.run()
    assert handle.wait() == [1, 2]
    assert read.run(handle.exec_id, "before").wait() == [1]


def test_what_failed_attempts_saved_is_kept() -> None:
    @checkpoint(retries=1)
    def second_time() -> str:
        attempt = kitaru.current().attempt
        kitaru.save("tried", attempt)
        if attempt == 1:
            raise ValueError("not yet")
        return "done"

    @flow
    def tries() -> str:
        return second_time()

    handle = tries.run()
    handle.wait()
    first, second, _ = KitaruClient().artifacts.list(handle.exec_id)
    assert [(ref.attempt, ref.load()) for ref in (first, second)] == [(1, 1), (2, 2)]
    # The newest try is what the name means.
    assert read.run(handle.exec_id, "tried").wait() == 2
    assert read.run(handle.exec_id, first.artifact_id).wait() == 1


def test_what_a_failed_call_saved_is_there() -> None:
    @checkpoint
    def failing() -> None:
        kitaru.save("prompt", "the cause")
        raise ValueError("no")

    @flow
    def fails() -> None:
        failing()

    handle = fails.run()
    with pytest.raises(KitaruUserCodeError):
        handle.wait()
    assert names(handle.exec_id) == [("saved", "prompt")]


def test_a_name_is_saved_once_in_an_attempt() -> None:
    @checkpoint
    def twice() -> str:
        kitaru.save("x", 1)
        with pytest.raises(KitaruUsageError, match="another name") as refused:
            kitaru.save("x", 2)
        assert refused.value.code == "artifact-refused"
        return "went on"

    @flow
    def doubles() -> str:
        return twice()

    handle = doubles.run()
    assert handle.wait() == "went on"
    assert read.run(handle.exec_id, "x").wait() == 1


def test_of_two_threads_that_save_one_name_one_is_told() -> None:
    barrier = threading.Barrier(2, timeout=30)

    def save(number: int) -> str:
        barrier.wait()
        try:
            kitaru.save("x", number)
        except KitaruUsageError:
            return "told"
        return "saved"

    @checkpoint
    async def racing() -> list[str]:
        return sorted(await asyncio.gather(*[asyncio.to_thread(save, n) for n in (1, 2)]))

    @flow
    async def races() -> list[str]:
        return await racing()

    assert races.run().wait() == ["saved", "told"]


def test_only_so_much_is_saved_in_an_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kitaru.saving.MAX_SAVED", 2)

    @checkpoint
    def much() -> None:
        for number in range(3):
            kitaru.save(f"number {number}", number)

    @flow
    def too_much() -> None:
        much()

    with pytest.raises(KitaruUserCodeError, match="which is the limit"):
        too_much.run().wait()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("", 1), {}, "artifact name '' is empty"),
        ((3, 1), {}, "artifact name is a str"),
        (("x", 1), {"type": "promt"}, "Did you mean 'prompt'"),
        (("x", 1), {"type": 3}, "type=3: pass one of"),
        (("x", 1), {"tags": "v1"}, "pass a list of names"),
        (("x", 1), {"tags": [3]}, "tag name is a str"),
        (("x", threading.Lock()), {}, "artifact 'x' of checkpoint"),
    ],
)
def test_what_cannot_be_saved_is_refused_at_once(
    arguments: Any, options: Any, message: str
) -> None:
    @checkpoint(cache=False)
    def odd() -> str:
        with pytest.raises((KitaruUsageError, KitaruValueError), match=message):
            kitaru.save(*arguments, **options)
        return "went on"

    @flow
    def odds() -> str:
        return odd()

    handle = odds.run()
    assert handle.wait() == "went on"
    assert [kind for kind, _ in names(handle.exec_id)] == ["result"]


def test_save_belongs_in_a_checkpoint() -> None:
    @flow
    def alone() -> None:
        kitaru.save("x", 1)

    with pytest.raises(KitaruContextError, match="outside a flow: call it inside a function"):
        kitaru.save("x", 1)
    with pytest.raises(KitaruUserCodeError, match="in a flow, outside its checkpoints"):
        alone.run().wait()


def test_what_a_body_left_running_saves_nothing() -> None:
    returned = threading.Event()
    refused: list[str | None] = []
    pool = ThreadPoolExecutor(1)

    def late() -> None:
        returned.wait(30)
        try:
            kitaru.save("late", 1)
        except KitaruContextError as error:
            refused.append(error.code)

    @checkpoint
    def leaving() -> None:
        import contextvars

        pool.submit(contextvars.copy_context().run, late)

    @flow
    def leaves() -> None:
        leaving()
        returned.set()
        pool.shutdown(wait=True)

    handle = leaves.run()
    handle.wait()
    assert refused == ["attempt-is-over"]
    assert [kind for kind, _ in names(handle.exec_id)] == ["result"]


def test_a_reused_call_has_what_its_source_saved() -> None:
    first, second = run("reused"), run("reused")
    assert SEEN == ["reused"]
    assert names(second) == names(first)
    assert read.run(second, "prompt").wait() == "about reused"
    ref = KitaruClient().artifacts.list(second, name="prompt")[0]
    assert KitaruClient().artifacts.get(ref.artifact_id).load() == "about reused"


def test_a_replayed_call_has_what_its_source_saved() -> None:
    replayed = write.replay(run("carried"))
    replayed.wait()
    assert SEEN == ["carried"]
    assert read.run(replayed.exec_id, "prompt").wait() == "about carried"


def test_a_body_in_a_process_of_its_own_saves_too() -> None:
    handle = save_far.run("rivers")
    assert handle.wait() == "RIVERS"
    assert [name for _, name in names(handle.exec_id)][:1] == ["prompt"]
    assert read.run(handle.exec_id, "prompt").wait() == "about rivers"


def test_a_body_in_a_process_of_its_own_loads_nothing() -> None:
    with pytest.raises(KitaruUserCodeError, match="has no store"):
        save_far_and_load.run().wait()


# --- loading -------------------------------------------------------------------------------


def test_a_name_means_a_saved_value_or_what_a_checkpoint_returned() -> None:
    exec_id = run("rivers")
    (call,) = KitaruClient().executions.get(exec_id).checkpoints
    assert read.run(exec_id, "prompt").wait() == "about rivers"
    assert read.run(exec_id, call.name).wait() == "RIVERS"
    assert read.run(exec_id[-12:], "raw").wait() == {"tokens": (1, 2)}


def test_a_name_that_nothing_has_lists_what_there_is() -> None:
    exec_id = run("rivers")
    with pytest.raises(KitaruUserCodeError, match="Did you mean 'prompt'") as failed:
        read.run(exec_id, "promt").wait()
    assert isinstance(failed.value.__cause__, KitaruNotFoundError)
    with pytest.raises(KitaruUserCodeError, match="has 'prompt', 'raw'"):
        read.run(exec_id, "zzzzzz").wait()


def test_a_name_that_several_have_lists_them() -> None:
    exec_id = run("rivers", "lakes")
    with pytest.raises(KitaruUserCodeError, match="several artifacts 'prompt'") as failed:
        read.run(exec_id, "prompt").wait()
    assert isinstance(failed.value.__cause__, KitaruStateError)
    ids = [ref.artifact_id for ref in KitaruClient().artifacts.list(exec_id, name="prompt")]
    assert all(each in str(failed.value) for each in ids)
    assert [read.run(exec_id, each).wait() for each in ids] == ["about rivers", "about lakes"]


def test_load_outside_a_flow_names_the_client() -> None:
    with pytest.raises(KitaruContextError, match=r"KitaruClient\(\)\.artifacts"):
        kitaru.load("01a2", "x")


def test_a_checkpoint_loads_whenever_its_body_runs() -> None:
    exec_id = run("rivers")

    @checkpoint
    def loading(of: str) -> Any:
        return kitaru.load(of, "prompt")

    @flow
    def loads(of: str) -> Any:
        return loading(of)

    assert loads.run(exec_id).wait() == "about rivers"


@pytest.mark.sqlite
def test_what_a_flow_loaded_is_the_same_in_every_attempt() -> None:
    source = run("rivers")

    @flow(retries=1)
    def loads_twice(of: str) -> Any:
        found = kitaru.load(of, "prompt")
        SEEN.append(found)
        if SEEN.count(found) == 1:
            _delete_artifacts()
            SEEN.append("deleted")
            raise ValueError("try again")
        return found

    assert loads_twice.run(source).wait() == "about rivers"
    assert SEEN == ["rivers", "about rivers", "deleted", "about rivers"]


def _delete_artifacts() -> None:
    """Take the source away: what was read from it is a fact all the same."""
    connection = apsw.Connection(f"{app.current().store.info()['location']}/kitaru.db")
    connection.execute("delete from artifacts")
    connection.close()


# --- the client ------------------------------------------------------------------------------


def test_artifacts_are_listed_by_kind_name_and_call() -> None:
    exec_id = run("rivers", "lakes")
    artifacts = KitaruClient().artifacts
    first, second = KitaruClient().executions.get(exec_id).checkpoints
    assert len(artifacts.list(exec_id)) == 6
    assert [ref.load() for ref in artifacts.list(exec_id, kind="result")] == ["RIVERS", "LAKES"]
    of_second = artifacts.list(exec_id, producing_call=second.call_id, kind="saved")
    assert [ref.load() for ref in of_second] == ["about lakes", {"tokens": (1, 2)}]
    assert [ref.name for ref in artifacts.list(exec_id, limit=2)] == ["prompt", "raw"]
    assert artifacts.list(exec_id, name="prompt", producing_call=first.call_id, kind="result") == []


@pytest.mark.parametrize("options", [{"kind": "savd"}, {"kind": 3}, {"limit": 0}])
def test_a_list_of_artifacts_refuses_what_means_nothing(options: Any) -> None:
    exec_id = run("rivers")
    with pytest.raises(KitaruUsageError):
        KitaruClient().artifacts.list(exec_id, **options)


def test_an_artifact_is_found_by_its_id_only() -> None:
    exec_id = run("rivers")
    artifacts = KitaruClient().artifacts
    for ref in artifacts.list(exec_id):
        assert artifacts.get(ref.artifact_id) == ref
        shortened = f"{exec_id[-12:]}{ref.artifact_id[len(exec_id) :]}"
        assert artifacts.get(shortened) == ref
    for unknown in ("x", f"{exec_id}:", f"{exec_id}:00#1", "00000000:1#1"):
        with pytest.raises(KitaruNotFoundError):
            artifacts.get(unknown)
    with pytest.raises(KitaruUsageError):
        artifacts.get(3)  # type: ignore[arg-type]
