"""What only real processes can show: races, stopped owners, forks, killers."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .programs import PATIENCE_SECONDS, World, interpreters

FIVE = """
@flow
def five():
    return [work(i) for i in range(5)]

if __name__ == "__main__":
    sys.stdin.readline()
    handle = five.options(key="one").run()
    print(json.dumps([handle.exec_id, handle.wait()]))
"""

HALF_WAY = """
@flow
def half_way():
    return [work("before"), gated("middle"), work("after")]

if __name__ == "__main__":
    handle = half_way.options(key="one").run()
    if "impatient" in sys.argv:
        try:
            handle.wait(timeout=1.5)
        except kitaru.KitaruTimeoutError:
            note("timed out", str(handle.status))
    print(json.dumps([handle.exec_id, handle.wait()]))
"""


def _name(python: str) -> str:
    return Path(python).name


@pytest.fixture(params=interpreters(), ids=_name)
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], World]]:
    made: list[World] = []

    def make(program: str) -> World:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(World(folder, program, request.param))
        return made[-1]

    yield make
    for one in made:
        one.end()


# --- two at once ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(4))
def test_of_two_processes_with_one_key_exactly_one_runs_each_body(
    world: Callable[[str], World], attempt: int
) -> None:
    here = world(FIVE)
    racers = [here.start() for _ in range(3)]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    results = [here.result(racer) for racer in racers]
    assert results[0] == results[1] == results[2]
    assert here.starts() == list(range(5))


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_of_two_processes_that_resume_one_execution_exactly_one_runs_each_body(
    world: Callable[[str], World], attempt: int
) -> None:
    here = world(HALF_WAY)
    first = here.start()
    here.wait_until_noted("at gate", "gate-middle")
    first.kill()
    first.wait()
    here.open_gate("middle")
    racers = [here.start() for _ in range(3)]
    results = [here.result(racer) for racer in racers]
    assert results[0] == results[1] == results[2]
    assert here.starts() == ["before", "middle", "middle", "after"]
    row = here.rows()[0]
    assert (row["status"], row["epoch"]) == ("completed", 2)


@pytest.mark.slow
def test_a_process_that_waits_takes_over_when_the_owner_dies(
    world: Callable[[str], World],
) -> None:
    here = world(HALF_WAY)
    first = here.start()
    here.wait_until_noted("at gate", "gate-middle")
    second = here.start("impatient")
    here.wait_until_noted("timed out", "running")
    here.open_gate("middle")  # only the second passes it: the first is dead by then
    os.kill(first.pid, signal.SIGSTOP)
    first.kill()
    first.wait()
    assert here.result(second)[1][2][0] == "after"
    assert here.starts() == ["before", "middle", "middle", "after"]


@pytest.mark.slow
def test_a_stopped_owner_keeps_what_it_owns(world: Callable[[str], World]) -> None:
    here = world(HALF_WAY)
    first = here.start()
    here.wait_until_noted("at gate", "gate-middle")
    first.send_signal(signal.SIGSTOP)
    second = here.start("impatient")
    here.wait_until_noted("timed out", "running")
    here.open_gate("middle")
    assert here.starts() == ["before", "middle"]
    first.send_signal(signal.SIGCONT)
    assert here.result(first) == here.result(second)
    assert here.starts() == ["before", "middle", "after"]
    assert here.rows()[0]["epoch"] == 1


# --- fork and spawn ---------------------------------------------------------------------


FORKS = """
@checkpoint(cache=False)
def forks(what):
    note("start", what)
    child(what)
    return what

def child(what):
    pid = os.fork()
    if pid == 0:
        try:
            work("in the child")
        except BaseException as error:
            note("child of", what, type(error).__name__)
        try:
            other.run().wait()
        except BaseException as error:
            note("flow in child of", what, type(error).__name__)
        os._exit(0)
    os.waitpid(pid, 0)

@flow
def other():
    return 1

@flow
def family():
    first = work("before")
    child("flow")
    second = forks("body")
    return [first, second, work("after")]

@flow
async def family_async():
    first = work("before")
    child("flow")
    return [first, await asyncio.to_thread(forks, "body"), work("after")]

if __name__ == "__main__":
    chosen = {"sync": family, "async": family_async}[sys.argv[1]]
    print(json.dumps(chosen.options(key="one").run().wait()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_fork_in_the_middle_of_a_flow_records_nothing_and_disturbs_nothing(
    world: Callable[[str], World], colour: str
) -> None:
    here = world(FORKS)
    result = here.run(colour)
    assert [one if isinstance(one, str) else one[0] for one in result] == [
        "before",
        "body",
        "after",
    ]
    assert here.starts() == ["before", "body", "after"]
    assert here.noted("child of", "flow", "Unwind")
    assert here.noted("child of", "body", "Unwind")
    assert here.noted("flow in child of", "flow", "KitaruBackendError")
    assert [(row["status"], row["deaths"]) for row in here.rows()] == [("completed", 0)]


SPAWNS = """
def square(x):
    return x * x

def runs_a_flow(x):
    return small.options(key=f"spawned-{x}").run(x).wait()

@flow
def small(x):
    return work(x)[0]

@checkpoint(cache=False)
def pool(how, what):
    note("start", how)
    with multiprocessing.get_context(how).Pool(1) as made:
        return made.map({"square": square, "flow": runs_a_flow}[what], [2, 3])

@flow
def spawns():
    squares = pool("spawn", "square")
    return [squares, pool("spawn", "flow"), pool("fork", "square"), work("after")[0]]

if __name__ == "__main__":
    print(json.dumps(spawns.run().wait()))
"""


@pytest.mark.slow
def test_multiprocessing_works_inside_a_body(world: Callable[[str], World]) -> None:
    here = world(SPAWNS)
    assert here.run() == [[4, 9], [2, 3], [4, 9], "after"]
    assert sorted(row["status"] for row in here.rows()) == ["completed"] * 3


ORPHANS = """
@checkpoint(cache=False)
def leaves_a_child():
    note("start", "parent")
    if "forks" in sys.argv and os.fork() == 0:
        note("child lives")
        gate("gate-child")
        os._exit(0)
    gate("gate-parent")
    return "done"

@flow
def orphans():
    return leaves_a_child()

if __name__ == "__main__":
    print(json.dumps(orphans.options(key="one").run().wait()))
"""


@pytest.mark.slow
def test_a_forked_child_that_outlives_the_owner_does_not_keep_it_alive(
    world: Callable[[str], World],
) -> None:
    here = world(ORPHANS)
    first = here.start("forks")
    here.wait_until_noted("child lives")
    first.kill()
    first.wait()
    here.open_gate("parent")
    try:
        assert here.run() == "done"
        assert here.starts() == ["parent", "parent"]
    finally:
        here.open_gate("child")


# --- killers ----------------------------------------------------------------------------


KILLER = """
@checkpoint(cache=False)
def kill(which):
    note("start", "killer")
    os.kill(os.getpid(), signal.SIGKILL)

@flow
def neighbour(which):
    return [work(f"{which}/{i}") for i in range(3)]

@flow
def killer(which):
    work("the killer's own")
    kill(which)

if __name__ == "__main__":
    kitaru.recover()
    handles = [neighbour.options(key=f"n{i}").run(i) for i in range(8)]
    handles.append(killer.options(key="killer").run("x"))
    handles += [neighbour.options(key=f"n{i}").run(i) for i in range(8, 15)]
    found = {}
    for handle in handles:
        try:
            handle.wait()
            found[handle.exec_id] = "completed"
        except kitaru.KitaruExecutionError as error:
            found[handle.exec_id] = f"{error.status}: {error}"
    print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_killer_fails_alone_and_its_fifteen_neighbours_complete(
    world: Callable[[str], World],
) -> None:
    here = world(KILLER)
    for _deaths in range(12):
        process = here.start()
        process.communicate(timeout=PATIENCE_SECONDS)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    else:
        raise AssertionError(f"it never ends: {here.rows()}")
    rows = {row["key"]: row for row in here.rows()}
    assert len(rows) == 16
    killer = rows.pop("killer")
    assert killer["status"] == "failed"
    assert "died 5 times" in killer["reason"]
    assert "kitaru executions retry" in killer["reason"]
    assert {row["status"] for row in rows.values()} == {"completed"}
    assert {row["attempt"] for row in rows.values()} == {1}
    assert len(here.starts("killer")) == 5
    done = [line[3] for line in here.journal() if line[2] == "end"]
    assert {f"{i}/{j}" for i in range(15) for j in range(3)} <= set(done)


# --- the end of a program ---------------------------------------------------------------


ENDS = """
from kitaru._engine import host

@flow
def three():
    return [work("one"), gated("two"), work("three")]

@checkpoint(cache=False)
async def later(what):
    note("start", what)
    return await asyncio.to_thread(quick, what)

def quick(what):
    note("end", what)
    return what

@flow
async def late():
    await asyncio.to_thread(gate, "gate-two")
    await asyncio.sleep(0.05)
    found = await asyncio.gather(later("a"), asyncio.to_thread(work, "b"), work.submit("c"))
    return found[0]

if __name__ == "__main__":
    how = sys.argv[1]
    if how in ("wait", "await", "sleep", "ending"):
        host.DRAIN_SECONDS = 120.0  # it is the test that ends the body, not the clock
    if how == "leave":
        kitaru.configure(at_exit="leave")
    if how == "soon":
        kitaru.configure(at_exit_seconds=0.1)
    note("begins", how)
    handle = (late if how == "late" else three).options(key="one").run()
    journal = os.path.join(FOLDER, "journal")
    while how in ("leave", "soon") and "at gate" not in open(journal).read():
        time.sleep(0.005)
    if how == "sleep":
        time.sleep(60)
    if how == "await":
        async def main():
            await handle
        asyncio.run(main())
    if how in ("wait", "again"):
        print(json.dumps(handle.wait()))
"""


@pytest.mark.slow
def test_a_program_that_ends_right_after_run_finishes_first(world: Callable[[str], World]) -> None:
    here = world(ENDS)
    process = here.start("plain")
    here.wait_until_noted("at gate", "gate-two")
    here.open_gate("two")
    here.result(process)
    assert here.starts() == ["one", "two", "three"]
    assert here.rows()[0]["status"] == "completed"


@pytest.mark.slow
def test_a_late_async_flow_can_still_use_threads(world: Callable[[str], World]) -> None:
    here = world(ENDS)
    process = here.start("late")
    if refuses_late_threads(here.python):
        # A refusal of the interpreter's is a hand-back, and no failure of the user's.
        here.open_gate("two")
        here.result(process)
        row = here.rows()[0]
        assert (row["status"], row["deaths"], row["owner"]) == ("pending", 0, None)
        return
    here.wait_until_noted("at gate", "gate-two")
    here.open_gate("two")
    here.result(process)
    assert sorted(here.starts()) == ["a", "b", "c"]
    row = here.rows()[0]
    assert (row["status"], row["reason"]) == ("completed", None)


def refuses_late_threads(python: str) -> bool:
    """Python 3.12.0 to 3.12.2 start no thread once the main thread has ended (gh-113964)."""
    asked = [python, "-c", "import sys; print((3, 12) <= sys.version_info[:3] < (3, 12, 3))"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["leave", "soon"])
def test_what_is_left_at_exit_is_handed_back_and_goes_on(
    world: Callable[[str], World], how: str
) -> None:
    here = world(ENDS)
    process = here.start(how)
    here.result(process)
    row = here.rows()[0]
    assert (row["status"], row["deaths"], row["owner"]) == ("pending", 0, None)
    here.open_gate("two")
    assert [one[0] for one in here.run("again")] == ["one", "two", "three"]
    assert here.starts("one") == ["one"]
    assert here.rows()[0]["deaths"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["wait", "await", "sleep", "ending"])
def test_ctrl_c_lets_the_body_finish_and_hands_the_rest_back(
    world: Callable[[str], World], how: str
) -> None:
    """Wherever the main thread stands: in wait(), on a loop, elsewhere, or at its end."""
    here = world(ENDS)
    process = here.start(how)
    here.wait_until_noted("at gate", "gate-two")
    process.send_signal(signal.SIGINT)
    # A signal reaches Python code when the main thread gets to it: from the notice on
    # nothing new starts.
    complained = said_until(process, "bodies get")
    here.open_gate("two")
    complained += process.communicate(timeout=PATIENCE_SECONDS)[1]
    if how != "ending":
        assert process.returncode in (130, -signal.SIGINT), complained
        assert "KeyboardInterrupt" in complained
    row = here.rows()[0]
    assert (row["status"], row["deaths"], row["owner"]) == ("pending", 0, None)
    assert here.starts() == ["one", "two"]
    assert [one[0] for one in here.run("again")] == ["one", "two", "three"]
    assert here.starts() == ["one", "two", "three"], "what it finished was recorded"


def said_until(process: subprocess.Popen[str], words: str) -> str:
    """What the process has said on stderr up to and with the line that has these words."""
    assert process.stderr is not None
    said = ""
    while words not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return said


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(world: Callable[[str], World]) -> None:
    here = world(ENDS)
    process = here.start("wait")
    here.wait_until_noted("at gate", "gate-two")
    process.send_signal(signal.SIGINT)
    said_until(process, "Ctrl-C again")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_SECONDS)  # the gate never opens
    assert process.returncode in (130, -signal.SIGINT)
    assert here.rows()[0]["status"] in ("running", "pending")
    here.open_gate("two")
    assert [one[0] for one in here.run("again")] == ["one", "two", "three"]
    assert here.starts("one") == ["one"]
