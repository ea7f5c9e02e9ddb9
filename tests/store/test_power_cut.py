"""Promise R1 at a power cut: nothing acknowledged is lost, nothing is damaged.

Needs strace (Linux); ``powercut.py`` tells how it works. More images than here:
``python -m tests.store.powercut --images 100000``.

Why it is safe to lengthen SQLite's log with zeros (``Database._grow_log``):

- *Recovery does not look at the length.* It reads frames from the first on and stops
  at the first that is not valid; what counts is the last valid commit before that
  (sqlite.org/walformat.html, "Recovery"). A frame is valid if it carries both salts of
  the log's header and a checksum over the header and all frames up to it
  (sqlite.org/fileformat2.html, "WAL File Format"). Zeros carry no salt; and page 0,
  which they would be, does not exist. Zeros that are partly on the disk, or of which
  there is only the length, or old blocks in place of them, are as invalid: only frames
  of this life of the log have its salts, and those all stand in front.
- *It overwrites nothing.* The zeros are appended at the end of the file, and every frame
  lies before that end. The write lock makes sure that the end does not move meanwhile:
  who appends a frame, begins the log anew, cuts it back or recovers it needs that lock.
  A reader, and a checkpoint that copies frames, need not care: they go by the frames
  that the shared index names.
- *It is the state that SQLite makes itself.* A log that was begun anew has old, invalid
  frames behind the new ones; SQLite has always had to stop reading there.
- *It is a commit's fsync that makes a commit durable, not the length.* What is
  overwritten, not appended, needs no new length: fewer things can be missing.
- *Cutting it back* (``journal_size_limit``) happens inside a commit, at the first one of
  a new life of the log, behind its frames; unlinking it happens when the last connection
  closes, after all of it stands in the database and that was synced. While the zeros are
  written the connection is open, so nobody's is the last.
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import powercut
from .disk import Disk
from .powercut import DAMAGED, LOST, Job, Promised, Report, Stages

IMAGES = 1_500
SEED = 7
SCENARIOS = list(powercut.scenarios(""))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def tracing() -> None:
    reason = powercut.why_not()
    if reason is None:
        return
    if os.environ.get("CI") and shutil.which("strace"):
        pytest.fail(f"continuous integration has strace, but {reason}")
    pytest.skip(f"NO POWER WAS CUT, promise R1 stands untested: {reason}")


@pytest.fixture
def where() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=powercut.scratch()) as folder:
        yield Path(folder)


def cut(
    where: Path, stages: Stages, store: str, *, images: int, made: bool = True, **more: Any
) -> Report:
    """Trace ``stages`` on the disk ``where/disk``, and cut its power."""
    if made:
        os.makedirs(store)
    disk = Disk.of_folder(str(where / "disk"))
    events = powercut.trace(stages, where)
    return powercut.cut(events, disk, where, images=images, seed=SEED, store=store, **more)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_power_cut_loses_nothing_acknowledged_and_damages_nothing(where: Path, name: str) -> None:
    images = IMAGES // len(SCENARIOS)
    report = powercut.run(name, where, images=images, seed=SEED)
    print(f"{name}: {report}")
    assert not report.bad, report
    # That there was something to lose.
    assert report.images == images
    assert report.unsynced > images * 0.9
    assert report.promises > 50
    for fault in ("log lengthened", "sync -wal", "rename .tmp", "sync folder", "write .db", "link"):
        assert report.counts[fault] > 0, fault
    assert report.counts["log begun"] > 2, "the log was begun anew"
    assert report.counts["unlink -wal"] > 0, "a last connection closed"
    if name == "the log begins anew and is cut back":
        assert report.counts["cut -wal"] > 0


def test_a_second_power_cut_while_the_first_is_recovered_loses_nothing_either(
    where: Path,
) -> None:
    seconds: list[Report] = []

    def cut_again(store: str, promised: Promised) -> Counter[str]:
        job: Job = {"folder": store, "small_log": True, "executions": 2, "records": 2}
        inner = where / "again"
        inner.mkdir(exist_ok=True)
        disk = Disk.of_folder(os.path.dirname(store))
        events = powercut.trace([[{**job, "seed": 50}]], inner)
        report = powercut.cut(
            events,
            disk,
            inner,
            images=30,
            seed=len(seconds),
            store=store,
            promised=copy.deepcopy(promised),
        )
        seconds.append(report)
        return report.bad

    store = str(where / "disk" / "store")
    stages = powercut.scenarios(store)["killed in the middle of lengthening the log"]
    report = cut(where, stages, store, images=6, each=cut_again)
    assert not report.bad, [str(second) for second in seconds]
    assert len(seconds) == 6
    assert all(second.images == 30 and second.unsynced > 20 for second in seconds)


# --- what the simulator must see, or it proves nothing --------------------------------


def test_with_synchronous_normal_the_same_cuts_lose_acknowledged_calls(where: Path) -> None:
    report = powercut.run(SCENARIOS[0], where, images=60, seed=SEED, synchronous=1)
    assert report.bad[LOST] > 20, report
    assert not report.bad[DAMAGED], report  # NORMAL loses commits; it keeps the file whole.


def test_with_synchronous_off_the_same_cuts_damage_the_database(where: Path) -> None:
    report = powercut.run(SCENARIOS[1], where, images=100, seed=SEED, synchronous=0)
    assert report.bad[DAMAGED] > 20, report


@pytest.mark.parametrize("left_out", ["blobs_synced", "folders_synced"])
def test_without_a_sync_of_blob_or_folder_the_same_cuts_leave_rows_without_blobs(
    where: Path, left_out: str
) -> None:
    store = str(where / "disk" / "store")
    job: Job = {"folder": store, "seed": 1, "executions": 6, "records": 3, "large": 0.3}
    report = cut(where, [[{**job, left_out: False}]], store, images=60)
    assert report.bad["dangling"] > 10, report


# --- folders that are new -------------------------------------------------------------


def test_the_folder_of_a_new_store_survives_a_power_cut(where: Path) -> None:
    store = str(where / "disk" / "new" / "project" / ".kitaru")
    (where / "disk").mkdir()
    job: Job = {"folder": store, "seed": 1, "executions": 3, "records": 3, "make_folder": True}
    report = cut(where, [[job]], store, images=60, made=False)
    assert not report.bad, report


def test_a_blob_survives_in_a_folder_that_a_killed_process_had_just_made(where: Path) -> None:
    store = str(where / "disk" / "store")
    job: Job = {"folder": store, "seed": 1, "executions": 6, "records": 2, "large": 0.0}
    job["large_first"] = 1
    killed = {**job, "killed_after_making_a_blob_folder": True}
    report = cut(where, [[killed], [job]], store, images=60)
    assert not report.bad, report
