"""Odd errors, odd names and odd decorations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kitaru import KitaruClient, app, checkpoint, configure, flow
from kitaru.env import SystemEnv
from kitaru.errors import KitaruUsageError, KitaruUserCodeError

from .looking import PATIENCE_SECONDS, Gate, calls, execution


class Unshowable(Exception):
    """Rebuilt without ``__init__`` it has no ``thing``, and cannot be shown."""

    def __init__(self, thing: object) -> None:
        super().__init__("unshowable")
        self.thing = thing

    def __repr__(self) -> str:
        return f"Unshowable({self.thing.name})"  # type: ignore[attr-defined]


class Thing:
    name = "thing"


@checkpoint(cache=False)
def unshowable_first(number: int) -> int:
    if number == 0:
        raise Unshowable(Thing())
    return number


@pytest.mark.parametrize("concurrency", [1, 2, None])
def test_a_map_stops_at_a_failure_that_cannot_be_shown(concurrency: int | None) -> None:
    @flow
    def mapped() -> list[int]:
        return unshowable_first.map(range(20), concurrency=concurrency).results()

    with pytest.raises(KitaruUserCodeError, match="unshowable"):
        mapped.run().wait(PATIENCE_SECONDS)


@checkpoint(cache=False)
def stops() -> None:
    raise StopIteration(5)


def test_a_stop_iteration_of_a_body_arrives_as_one() -> None:
    @flow
    def called() -> list[int]:
        found = []
        for call in (stops, stops.submit().result):
            try:
                call()
            except StopIteration as stop:
                found.append(stop.value)
        return found

    assert called.run().wait(PATIENCE_SECONDS) == [5, 5]


@checkpoint(cache=False)
def raises_a_surrogate() -> None:
    raise FileNotFoundError("no file \udcff here")


def test_a_message_with_a_lone_surrogate_is_recorded() -> None:
    @flow
    def of_a_body() -> None:
        raises_a_surrogate()

    @flow
    def of_the_flow() -> None:
        raise ValueError("\ud800")

    one = of_a_body.run()
    with pytest.raises(KitaruUserCodeError, match="no file"):
        one.wait(PATIENCE_SECONDS)
    assert [call.state.value for call in calls(one.exec_id)] == ["failed"]
    with pytest.raises(KitaruUserCodeError):
        of_the_flow.run().wait(PATIENCE_SECONDS)


@checkpoint(cache=False)
def keywords(*args: Any, **options: Any) -> list[Any]:
    return [*args, dict(options)]


def test_a_keyword_named_self_is_the_functions_own() -> None:
    @flow
    def odd_names() -> list[Any]:
        return [keywords(1, self=2), keywords.submit(1, self=3).result()]

    @flow
    def takes_self(**options: Any) -> dict[str, Any]:
        return options

    assert odd_names.run().wait(PATIENCE_SECONDS) == [[1, {"self": 2}], [1, {"self": 3}]]
    assert takes_self.run(self=4).wait(PATIENCE_SECONDS) == {"self": 4}


@checkpoint(cache=False)
def crawl(url: str, concurrency: int = 1) -> int:
    return concurrency


def test_a_map_does_not_take_a_parameter_of_the_function_for_itself_in_silence() -> None:
    @flow
    def crawled() -> list[int]:
        try:
            return crawl.map(["a", "b"], concurrency=5).results()
        except KitaruUsageError:
            return [5, 5]

    assert crawled.run().wait(PATIENCE_SECONDS) == [5, 5]


class Toolbox:
    @checkpoint(cache=False)
    @staticmethod
    def above(x: int) -> int:
        return x

    @staticmethod
    @checkpoint(cache=False)
    def below(x: int) -> int:
        return x

    @classmethod
    @checkpoint(cache=False)
    def of_the_class(cls, x: int = 1) -> list[Any]:
        return [cls.__name__, x]


def test_static_methods_and_class_methods_are_checkpoints() -> None:
    @flow
    def methods() -> list[Any]:
        # How a descriptor over a static method binds is beyond the type checker.
        tools: Any = Toolbox
        box = tools()
        return [
            tools.above(1),
            box.above(2),
            box.above.submit(3).result(),
            tools.below(4),
            box.below(5),
            tools.of_the_class(6),
            box.of_the_class(7),
        ]

    expected = [1, 2, 3, 4, 5, ["Toolbox", 6], ["Toolbox", 7]]
    assert methods.run().wait(PATIENCE_SECONDS) == expected


def test_a_store_chosen_too_late_is_refused(tmp_path: Path) -> None:
    @flow
    def one() -> int:
        return 1

    assert one.run().wait(PATIENCE_SECONDS) == 1
    with pytest.raises(KitaruUsageError):
        configure(store=str(tmp_path / "another"))


class Interrupted(SystemEnv):
    """Ctrl-C, just before or after a certain write is committed."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at
        self.armed = False

    def crash_point(self, name: str) -> None:
        if self.armed and name == self.at:
            self.armed = False
            raise KeyboardInterrupt


def interrupted(at: str) -> Interrupted:
    env = Interrupted(at)
    app.use_env(env)
    try:
        app.current()
    finally:
        app.use_env(SystemEnv())
    return env


@pytest.mark.parametrize("at", ["before_commit:Claim", "after_commit:Claim"])
def test_an_execution_whose_claim_was_interrupted_runs_all_the_same(at: str) -> None:
    env = interrupted(at)
    failing = [True]

    @flow
    def one(number: int) -> int:
        if failing.pop():
            raise ValueError("the first time")
        return number

    handle = one.run(1)
    with pytest.raises(KitaruUserCodeError):
        handle.wait(PATIENCE_SECONDS)
    failing.append(False)
    env.armed = True
    with pytest.raises(KeyboardInterrupt):
        KitaruClient().executions.retry(handle.exec_id)
    assert not env.armed
    # Another start takes along what was not even claimed.
    failing.append(False)
    assert one.run(2).wait(PATIENCE_SECONDS) == 2
    assert KitaruClient().executions.handle(handle.exec_id).wait(PATIENCE_SECONDS) == 1


def test_an_interruption_of_run_leaves_no_execution_without_a_life() -> None:
    env = interrupted("after_commit:Start")
    gate = Gate()
    gate.open()

    @flow
    def one(number: int) -> int:
        gate.pass_through()
        return number

    assert one.run(1).wait(PATIENCE_SECONDS) == 1
    env.armed = True
    with pytest.raises(KeyboardInterrupt):
        one.run(2)
    assert one.run(3).wait(PATIENCE_SECONDS) == 3
    running = app.current()
    assert running.runner.wait_idle(PATIENCE_SECONDS)
    unfinished = running.store.list_unfinished(
        project=running.project, flow_ids=[one.spec.id], limit=10
    )
    alone = [row for row in unfinished if not running.runner.ownership.is_abandoned(row)]
    assert [execution(row.exec_id).status.value for row in alone] == []


@pytest.mark.sqlite
def test_a_registration_that_was_not_recorded_leaves_no_lock_file() -> None:
    env = interrupted("before_commit:RegisterOwner")

    @flow
    def one() -> int:
        return 1

    env.armed = True
    with pytest.raises(KeyboardInterrupt):
        one.run()
    owners = Path(app.current().store.info()["location"]) / "owners"
    assert [path.name for path in owners.iterdir()] == []
    assert one.run().wait(PATIENCE_SECONDS) == 1
