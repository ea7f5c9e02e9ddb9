"""Real processes, real locks, real kill -9. Nothing sleeps: pipes and process ends are waited for.

The kernel lets go of a dead process's locks before its end can be waited for,
so each assertion after a ``wait`` is final.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kitaru._engine.liveness import (
    FakeLiveness,
    Liveness,
    LockFiles,
    OwnerLock,
    forget,
    is_alive,
)
from kitaru.errors import KitaruBackendError

Process = subprocess.Popen[str]
Start = Callable[[str], tuple[Process, list[str]]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process that runs some lines with `lock` taken, then prints one line and waits."""
    started: list[Process] = []

    def start(lines: str) -> tuple[Process, list[str]]:
        program = "\n".join(
            [
                "import os, subprocess, sys, warnings",
                "from kitaru._engine.liveness import OwnerLock, is_alive",
                "lock = OwnerLock.create(sys.argv[1])",
                "words = [lock.name]",
                textwrap.dedent(lines),
                "print(*words, flush=True)",
                "sys.stdin.read()",
            ]
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().split()

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()


def kill(process: Process) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_an_owner_is_alive_until_it_is_killed(start: Start, tmp_path: Path) -> None:
    process, [name] = start("")
    assert is_alive(str(tmp_path), name)
    kill(process)
    assert not is_alive(str(tmp_path), name)
    assert (tmp_path / "owners" / name).exists()


def test_an_owner_that_exits_without_releasing_is_dead(start: Start, tmp_path: Path) -> None:
    process, [name] = start("")
    process.communicate("")
    assert not is_alive(str(tmp_path), name)


def test_an_owner_that_released_left_no_file(start: Start, tmp_path: Path) -> None:
    _, [name] = start("lock.release(); lock.release()")
    assert not (tmp_path / "owners" / name).exists()
    assert not is_alive(str(tmp_path), name)


def test_a_stopped_owner_stays_alive(start: Start, tmp_path: Path) -> None:
    process, [name] = start("")
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert is_alive(str(tmp_path), name)
    kill(process)
    assert not is_alive(str(tmp_path), name)


def test_an_owner_is_dead_though_its_forked_child_lives(start: Start, tmp_path: Path) -> None:
    process, [name, child] = start(
        """
        import signal
        ready, say = os.pipe()
        child = os.fork()
        if not child:
            os.write(say, b"r")
            while True: signal.pause()
        os.read(ready, 1)
        words.append(child)
        """
    )
    try:
        assert is_alive(str(tmp_path), name)
        kill(process)
        os.kill(int(child), 0)  # it lives
        assert not is_alive(str(tmp_path), name)
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_a_forked_child_that_ends_does_not_end_its_parents_lock(
    start: Start, tmp_path: Path
) -> None:
    _, [name, held] = start(
        """
        child = os.fork()
        if not child:
            lock.release()
            sys.exit()
        os.waitpid(child, 0)
        words.append(lock.is_held())
        """
    )
    assert held == "True"
    assert is_alive(str(tmp_path), name)


def test_a_forked_child_sees_its_parent_as_another_process(start: Start, tmp_path: Path) -> None:
    _, words = start(
        """
        ready, say = os.pipe()
        child = os.fork()
        if not child:
            mine = OwnerLock.create(sys.argv[1])
            seen = [lock.is_held(), is_alive(sys.argv[1], lock.name, lock), mine.is_held()]
            os.write(say, repr(seen).encode())
            os._exit(0)
        os.waitpid(child, 0)
        words.append(os.read(ready, 100).decode().replace(" ", ""))
        """
    )
    assert words[1] == "[False,True,True]"


def test_an_owner_is_dead_though_a_program_it_forked_and_executed_lives(
    start: Start, tmp_path: Path
) -> None:
    process, [name, child] = start(
        """
        ready, say = os.pipe()
        os.set_inheritable(say, True)
        child = os.fork()
        if not child:
            code = f"import os, signal; os.write({say}, b'r'); signal.pause()"
            os.execv(sys.executable, [sys.executable, "-c", code])
        os.read(ready, 1)
        words.append(child)
        """
    )
    try:
        kill(process)
        os.kill(int(child), 0)
        assert not is_alive(str(tmp_path), name)
    finally:
        os.kill(int(child), signal.SIGKILL)


@pytest.mark.parametrize("options", ["", ", close_fds=False", ", preexec_fn=lambda: None"])
def test_an_owner_is_dead_though_its_subprocess_lives(
    start: Start, tmp_path: Path, options: str
) -> None:
    process, [name, child] = start(
        f"""
        code = "import signal; print(flush=True); signal.pause()"
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE{options})
        child.stdout.readline()
        words.append(child.pid)
        """
    )
    try:
        kill(process)
        os.kill(int(child), 0)
        assert not is_alive(str(tmp_path), name)
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_locks_taken_while_another_thread_forks_are_not_inherited(
    start: Start, tmp_path: Path
) -> None:
    process, [_, *words] = start(
        """
        import signal, threading
        warnings.simplefilter("ignore")
        locks, stop = [], threading.Event()

        def take() -> None:
            while not stop.is_set() and len(locks) < 500:
                locks.append(OwnerLock.create(sys.argv[1]))

        taker = threading.Thread(target=take)
        taker.start()
        ready, say = os.pipe()
        children = []
        for _ in range(40):
            child = os.fork()
            if not child:
                os.write(say, b"r")
                while True: signal.pause()
            children.append(child)
            os.read(ready, 1)
        stop.set()
        taker.join()
        words += [*(lock.name for lock in locks), "--", *children]
        """
    )
    cut = words.index("--")
    try:
        assert all(is_alive(str(tmp_path), name) for name in words[:cut])
        kill(process)
        assert cut > 0
        assert [name for name in words[:cut] if is_alive(str(tmp_path), name)] == []
    finally:
        for child in words[cut + 1 :]:
            os.kill(int(child), signal.SIGKILL)


def test_an_owner_whose_descriptors_were_closed_knows_that_it_lost_its_lock(
    start: Start, tmp_path: Path
) -> None:
    _, [name, before, after, again] = start(
        """
        words.append(lock.is_held())
        os.closerange(3, 100)
        words.append(lock.is_held())
        others = [open(os.devnull) for _ in range(10)]
        words.append(lock.is_held())
        lock.release()
        assert all(os.fstat(other.fileno()) for other in others)
        """
    )
    assert [before, after, again] == ["True", "False", "False"]
    assert not is_alive(str(tmp_path), name)


def test_an_owner_whose_file_was_removed_knows_that_it_was_declared_dead(tmp_path: Path) -> None:
    lock = OwnerLock.create(str(tmp_path))
    forget(str(tmp_path), lock.name)
    assert not lock.is_held()
    assert not is_alive(str(tmp_path), lock.name, lock)


def test_its_own_lock_is_known_without_opening_the_file(tmp_path: Path) -> None:
    lock = OwnerLock.create(str(tmp_path))
    (tmp_path / "owners").rename(tmp_path / "moved")
    assert is_alive(str(tmp_path), lock.name, lock)
    assert not is_alive(str(tmp_path), lock.name, None)


def test_probing_ones_own_file_does_not_lose_the_lock(start: Start, tmp_path: Path) -> None:
    _, [name, alive] = start("words.append(is_alive(sys.argv[1], lock.name))")
    assert alive == "True"
    assert is_alive(str(tmp_path), name)


def test_two_probers_do_not_take_each_other_for_an_owner(start: Start, tmp_path: Path) -> None:
    process, [name] = start("")
    kill(process)
    _, [_, probing] = start(
        f"""
        import fcntl
        probe = os.open(os.path.join(sys.argv[1], "owners", {name!r}), os.O_RDONLY)
        fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
        words.append("probing")
        """
    )
    assert probing == "probing"
    assert not is_alive(str(tmp_path), name)


def test_a_prober_that_has_no_descriptor_left_does_not_say_dead(
    start: Start, tmp_path: Path
) -> None:
    process, [name] = start("")
    kill(process)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        with pytest.raises(KitaruBackendError, match=name) as caught:
            is_alive(str(tmp_path), name)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EMFILE


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_prober_that_may_not_open_the_file_does_not_say_dead(tmp_path: Path) -> None:
    lock = OwnerLock.create(str(tmp_path))
    (tmp_path / "owners" / lock.name).chmod(0)
    with pytest.raises(KitaruBackendError, match=lock.name):
        is_alive(str(tmp_path), lock.name)


def test_a_link_in_place_of_a_lock_file_is_not_followed(tmp_path: Path) -> None:
    name = "ab" * 16
    (tmp_path / "owners").mkdir()
    (tmp_path / "owners" / name).symlink_to(os.devnull)
    with pytest.raises(KitaruBackendError, match=name):
        is_alive(str(tmp_path), name)


@pytest.mark.parametrize("name", ["", "..", "../precious", "/etc/passwd", "a\0b", "AB" * 16])
def test_a_name_that_we_never_give_is_dead_and_touches_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "owners").mkdir()
    (tmp_path / "precious").touch()
    assert not is_alive(str(tmp_path), name)
    forget(str(tmp_path), name)
    assert (tmp_path / "precious").exists()


def test_files_and_folders_are_private_whatever_the_umask(start: Start, tmp_path: Path) -> None:
    _, [_, name] = start("os.umask(0); words.append(OwnerLock.create(sys.argv[1]).name)")
    owners = tmp_path / "owners"
    assert stat.S_IMODE((owners / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(owners.stat().st_mode) == 0o700


def test_names_are_fresh_and_long(tmp_path: Path) -> None:
    locks = [OwnerLock.create(str(tmp_path)) for _ in range(10)]
    assert len({lock.name for lock in locks}) == 10
    assert all(len(bytes.fromhex(lock.name)) >= 16 for lock in locks)
    for lock in locks:
        lock.release()


def test_a_folder_that_is_away_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(KitaruBackendError, match="nowhere"):
        OwnerLock.create(str(tmp_path / "nowhere"))


@pytest.fixture(params=["files", "fake"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Liveness:
    return LockFiles(str(tmp_path)) if request.param == "files" else FakeLiveness()


def test_who_registers_is_alive_until_released(world: Liveness) -> None:
    first, second = world.register(), world.register()
    assert world.alive(first)
    assert world.holds(first)
    world.release(first)
    assert not world.alive(first)
    assert not world.holds(first)
    assert world.alive(second)
    world.release(second)


def test_a_name_that_nobody_registered_is_dead(world: Liveness) -> None:
    assert not world.alive("0" * 32)
    assert not world.holds("0" * 32)
    world.forget("0" * 32)
    world.release("0" * 32)


def test_nobody_forgets_a_name_that_it_holds(world: Liveness) -> None:
    name = world.register()
    world.forget(name)
    assert world.alive(name)
    world.release(name)


def test_files_of_another_process_are_seen_and_cleared_away(start: Start, tmp_path: Path) -> None:
    process, [name] = start("")
    world = LockFiles(str(tmp_path))
    assert world.alive(name)
    assert not world.holds(name)
    kill(process)
    assert not world.alive(name)
    world.forget(name)
    assert list((tmp_path / "owners").iterdir()) == []


def test_the_fake_dies_when_killed() -> None:
    world = FakeLiveness()
    name = world.register()
    world.kill(name)
    assert not world.alive(name)
    assert world.register() != name


def test_a_lock_that_nobody_remembers_is_alive_and_closed_in_a_child(
    start: Start, tmp_path: Path
) -> None:
    process, [name, child] = start(
        """
        import gc, signal
        del lock
        gc.collect()
        ready, say = os.pipe()
        child = os.fork()
        if not child:
            os.write(say, b"r")
            while True: signal.pause()
        os.read(ready, 1)
        words.append(child)
        """
    )
    try:
        assert is_alive(str(tmp_path), name)
        kill(process)
        assert not is_alive(str(tmp_path), name)
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_a_removed_lock_is_closed_all_the_same(tmp_path: Path) -> None:
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    lock = OwnerLock.create(str(tmp_path))
    forget(str(tmp_path), lock.name)
    lock.release()
    with pytest.raises(OSError):
        os.fstat(lowest)
