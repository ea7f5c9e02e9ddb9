"""Parents and children in real processes that are killed, separately and together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .programs import World

FAMILY = """
@flow
def child():
    return [work("c before"), gated("c"), work("c after")]

@flow
def parent():
    before = work("p before")
    handle = child.run()
    note("child", handle.exec_id)
    return [before, handle.wait(), work("p after")]

if __name__ == "__main__":
    if "child" in sys.argv:
        client = kitaru.KitaruClient()
        (found,) = client.executions.list(flow="child")
        handle = client.executions.resume(found.exec_id)
    else:
        handle = parent.options(key="one").run()
    print(json.dumps(handle.wait()))
"""

KILLER = """
@flow
def child():
    note("start", "killer")
    os.kill(os.getpid(), signal.SIGKILL)

@flow
def innocent():
    return work("innocent")

@flow
def parent():
    handles = [child.run(), innocent.run()]
    try:
        handles[0].wait()
    except kitaru.KitaruExecutionError as error:
        return [type(error).__name__, handles[1].wait()[0]]

if __name__ == "__main__":
    print(json.dumps(parent.options(key="one").run().wait()))
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[[str], World]]:
    made: list[World] = []

    def make(program: str) -> World:
        made.append(World(tmp_path, program))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.mark.slow
def test_a_child_goes_on_in_one_process_and_its_parent_in_another(
    world: Callable[[str], World],
) -> None:
    """Both die; each is resumed elsewhere; then the child's process dies too."""
    here = world(FAMILY)
    first = here.start()
    here.wait_until_noted("at gate", "gate-c")
    first.kill()
    first.wait()
    with_child = here.start("child")
    here.wait_until_noted("start", "c")
    here.wait_until_noted("start", "c", times=2)
    with_parent = here.start()
    here.wait_until_noted("child", times=2)
    assert here.starts() == ["p before", "c before", "c", "c"]
    with_child.kill()
    with_child.wait()
    here.open_gate("c")
    result = here.result(with_parent)
    assert [result[0][0], [each[0] for each in result[1]], result[2][0]] == [
        "p before",
        ["c before", "c", "c after"],
        "p after",
    ]
    assert here.starts() == ["p before", "c before", "c", "c", "c", "c after", "p after"]
    rows = {row["flow"]: row for row in here.rows()}
    assert {row["status"] for row in rows.values()} == {"completed"}
    assert len(rows) == len(here.rows()) == 2


@pytest.mark.slow
def test_a_child_that_kills_its_process_fails_alone_and_its_parent_is_told(
    world: Callable[[str], World],
) -> None:
    here = world(KILLER)
    for _ in range(12):
        process = here.start()
        said, _ = process.communicate(timeout=60)
        if process.returncode == 0:
            break
    assert process.returncode == 0
    assert '["KitaruExecutionError", "innocent"]' in said
    rows = {row["flow"]: row for row in here.rows()}
    assert {name: row["status"] for name, row in rows.items()} == {
        "parent": "completed",
        "child": "failed",
        "innocent": "completed",
    }
    assert here.starts("killer") == ["killer"] * 5
