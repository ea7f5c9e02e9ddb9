"""What people see when their code fails: their frames, not ours, and what they raised first."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru._engine.frames import OUR_FOLDER
from kitaru.errors import KitaruError, KitaruTimeoutError, KitaruUserCodeError

OURS = str(Path(kitaru.__file__).parent)


@checkpoint
def parse(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise RuntimeError("no number") from error


@checkpoint
async def parse_async(text: str) -> int:
    return int(text)


@flow
def read(texts: list[str]) -> int:
    return sum(parse(text) for text in texts)


@flow
async def read_at_once(texts: list[str]) -> None:
    async with asyncio.TaskGroup() as group:
        for text in texts:
            group.create_task(parse_async(text))


@flow
def read_all(texts: list[str]) -> list[int]:
    return parse_async.map(texts).results()


@flow
def misuse() -> int:
    return read(["1"])


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def failure_of(handle: kitaru.FlowHandle[object]) -> KitaruError:
    with pytest.raises(KitaruError) as caught:
        handle.wait()
    return caught.value


def our_lines(text: str) -> list[str]:
    """What is shown of our files."""
    return [line.strip() for line in text.splitlines() if f'File "{OURS}' in line]


@pytest.mark.parametrize("failing", [read, read_at_once, read_all])
def test_a_traceback_shows_no_frames_of_ours(failing: kitaru.Flow[..., object]) -> None:
    text = shown(failure_of(failing.run(["1", "x"])))
    assert our_lines(text) == []
    assert f"in {failing.spec.name}\n" in text or "TaskGroup" in text
    assert "in parse" in text


def test_the_original_exception_comes_first_and_one_line_of_kitaru_last() -> None:
    error = failure_of(read.run(["x"]))
    assert isinstance(error.__cause__, RuntimeError)
    assert isinstance(error.__cause__.__cause__, ValueError)
    text = shown(error)
    original = text.index("RuntimeError: no number\n")
    assert text.index("ValueError: invalid literal") < original < text.index("KitaruUserCodeError")
    exec_id = error.exec_id
    assert text.endswith(f"kitaru executions retry {exec_id}\nkitaru explain user-code-raised\n")


def test_members_of_a_group_lose_our_frames_and_stay_a_group() -> None:
    error = failure_of(read_at_once.run(["x", "y"]))
    group = error.__cause__
    assert isinstance(group, ExceptionGroup)
    assert {type(member) for member in group.exceptions} == {ValueError}
    assert our_lines(shown(error)) == []


def test_a_misuse_inside_a_flow_ends_at_the_line_that_did_it() -> None:
    error = failure_of(misuse.run())
    assert error.code == "flow-called-directly"
    last = traceback.extract_tb(error.__cause__.__traceback__)[-1]
    assert (last.filename, last.name) == (__file__, "misuse")


def test_awaiting_and_getting_show_the_same() -> None:
    handle = read.run(["x"])
    failure_of(handle)

    async def wait_for_it() -> None:
        await handle

    with pytest.raises(KitaruUserCodeError) as awaited:
        asyncio.run(wait_for_it())
    with pytest.raises(KitaruUserCodeError) as got:
        handle.get()
    assert our_lines(shown(awaited.value)) == our_lines(shown(got.value)) == []


def test_a_timeout_shows_who_waited_only() -> None:
    handle = read.run(["x"])
    with pytest.raises(KitaruTimeoutError) as caught:
        handle.wait(timeout=0)
    assert our_lines(shown(caught.value)) == []
    failure_of(handle)


def test_what_an_exception_came_from_keeps_its_frames() -> None:
    error = failure_of(read.run(["x"]))
    first = error.__cause__.__cause__
    assert [frame.name for frame in traceback.extract_tb(first.__traceback__)] == ["parse"]


def test_frames_inside_a_flow_are_the_users_too() -> None:
    seen = []

    @flow
    def careful() -> None:
        try:
            parse("x")
        except RuntimeError as error:
            seen.append(shown(error))

    careful.run().wait()
    assert our_lines(seen[0]) == []
    assert seen[0].count(" in parse\n") == 2


def refused_calls() -> dict[str, object]:
    return {
        "run": lambda: read.run(wrong=1),
        "direct": lambda: read(["1"]),
        "outside": lambda: parse("1"),
        "flow": lambda: flow("text"),
        "options": lambda: flow(retries=-1)(shown),
        "checkpoint": lambda: checkpoint("text"),
        "options of a checkpoint": lambda: checkpoint(retries=-1)(shown),
    }


@pytest.mark.parametrize("name", refused_calls())
def test_a_refusal_ends_at_the_line_that_is_refused(name: str) -> None:
    with pytest.raises(KitaruError) as caught:
        refused_calls()[name]()
    assert our_lines(shown(caught.value)) == []


def test_a_recorded_exception_shows_the_frames_that_were_recorded() -> None:
    exec_id = read.run(["x"]).exec_id
    failure_of(KitaruClient().executions.handle(exec_id))
    error = failure_of(KitaruClient().executions.handle(exec_id))
    assert isinstance(error.__cause__, RuntimeError)
    text = shown(error)
    assert "Recorded where it was raised" in text
    assert text.index(f'File "{__file__}"') < text.index("KitaruUserCodeError")
    assert "in parse\n    raise RuntimeError" in text
    assert our_lines(text) == []


def test_all_frames_are_shown_if_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_FULL_TRACEBACK", "1")
    assert "in perform" in "".join(our_lines(shown(failure_of(read.run(["x"])))))


SCRIPT = """
import sys
from kitaru import checkpoint, flow

@checkpoint
def fetch(url: str) -> int:
    return int(url)

@flow
def crawl(url: str) -> int:
    return fetch(url)

if __name__ == "__main__":
    before = sys.excepthook
    try:
        crawl.run("x").wait()
    finally:
        assert sys.excepthook is before is sys.__excepthook__
"""


def test_a_script_that_fails_shows_its_own_lines_and_nothing_is_hooked(tmp_path: Path) -> None:
    script = tmp_path / "crawl.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script)],
        env={"KITARU_STORE": str(tmp_path / "store"), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert our_lines(done.stderr) == []
    frames = [
        line.split(" in ")[-1]
        for line in done.stderr.splitlines()
        if " in " in line[:200] and "File" in line
    ]
    assert frames == ["crawl", "fetch", "<module>"]


@dataclass(frozen=True)
class Frozen(Exception):
    """Nothing can be set on it, its traceback included."""

    reason: str


class Lying(Exception):
    """Attributes that Python itself does not ask for."""

    __cause__ = property(lambda self: 1 / 0)
    __context__ = property(lambda self: 1 / 0)
    __traceback__ = property(lambda self: 1 / 0)

    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError(f"{name} cannot be set")


@pytest.mark.parametrize("kind", [Frozen, Lying])
def test_an_exception_on_which_nothing_can_be_set_is_raised_as_it_is(
    kind: type[Exception],
) -> None:
    @checkpoint(name=f"refuse {kind.__name__}")
    def refuse() -> None:
        raise kind("no")

    @flow(name=f"use {kind.__name__}")
    def use() -> str:
        try:
            refuse()
        except kind as error:
            caught.append(error)
            raise

    caught: list[BaseException] = []
    handle = use.run()
    failure_of(handle)
    assert [type(error) for error in caught] == [kind]
    again = failure_of(KitaruClient().executions.handle(handle.exec_id))
    assert isinstance(again, KitaruUserCodeError)


def test_a_package_whose_name_begins_like_ours_is_not_ours() -> None:
    assert not "/site-packages/kitaru_shop/till.py".startswith(
        OUR_FOLDER.replace(OURS, "/site-packages/kitaru")
    )
