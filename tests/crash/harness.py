"""Kill a scenario at a chosen point, resume it in another process, and judge what is left."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from .corpus import SCENARIOS, Scenario
from .promises import Trial
from .server import STUCK_SECONDS, inspect

_PACKAGE = __package__ or "crash"
_ROOT = str(Path(__file__).parents[_PACKAGE.count(".") + 1])

_HOW = {int: "crash_at", str: "crash_named", float: "kill_after_seconds"}

FIRST = next(iter(SCENARIOS))

BEFORE_START = [
    "before_begin",
    "before_commit:RegisterOwner",
    "after_commit:RegisterOwner",
    "before_begin",
    "before_commit:Start",
]
"""The points until a scenario's execution is there."""

MARK = re.compile(r"~[0-9a-f]{12}")


def without_marks(outcome: Any) -> Any:
    """The same in every run: who made a result is left out."""
    return json.loads(MARK.sub("~", json.dumps(outcome)))


class ForkServer:
    """The process that forks lives; one for a test session."""

    all_is_in_files = True
    """Whatever a dead life leaves is in the folder of its trial."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
        environment["PYTHONPATH"] = os.pathsep.join(
            [_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        self._environment = environment
        self._process = self._start()
        self._templates: dict[str, Path] = {}
        self._references: dict[tuple[str, str], dict[str, Any]] = {}

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", f"{_PACKAGE}.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self._environment,
            start_new_session=True,
        )

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._exchange(order)
        except BaseException:
            # Out of time: what it says later must not be taken for the answer to the next order.
            self._kill()
            self._process = self._start()
            raise

    def _kill(self) -> None:
        """End it and the life that it waits for."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def _exchange(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the fork server is gone"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    # --- what trials begin with ---------------------------------------------------------

    def settings(self, folder: Path) -> dict[str, str]:
        """Environment variables that name the store of a trial."""
        return {"KITARU_STORE": str(folder / "store")}

    def new_folder(self, scenario: Scenario) -> Path:
        """A folder with a fresh store in it, in which the scenario's prelude was played."""
        name = scenario.name if scenario.prelude else ""
        template = self._templates.get(name)
        if template is None:
            template = self.folder / f"template-{name}"
            shutil.rmtree(template, ignore_errors=True)
            template.mkdir()
            (template / "store").mkdir(mode=0o700)
            ended = self._live(template, scenario, number=0, seed=0)
            assert ended["status"] == 0, ended
            (template / "journal").unlink(missing_ok=True)
            self._templates[name] = template
        folder = self.folder / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template, folder)
        return folder

    def _live(
        self, folder: Path, scenario: Scenario, *, number: int, seed: int, **how: Any
    ) -> dict[str, Any]:
        return self.ask(self._order(folder, scenario, number=number, seed=seed, **how))

    def _order(
        self, folder: Path, scenario: Scenario, *, number: int, seed: int, **how: Any
    ) -> dict[str, Any]:
        return {
            "scenario": scenario.name,
            "settings": self.settings(folder),
            "journal": str(folder / "journal"),
            "log": str(folder / "log"),
            "life": number,
            "seed": seed,
            "variant": how.pop("variant", None) or scenario.variant_of(max(number, 1)),
            **how,
        }

    def _live_anew(self, folder: Path, scenario: Scenario, **how: Any) -> dict[str, Any]:
        """A life in an interpreter of its own, as people start theirs."""
        order = self._order(folder, scenario, **how)
        with open(order["log"], "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"{_PACKAGE}.play", json.dumps(order)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env=self._environment,
            )
            try:
                said, _ = process.communicate(
                    timeout=order.get("kill_after_seconds", STUCK_SECONDS)
                )
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
        # What bodies print stands before it; who was killed has come to nothing.
        last = said.rstrip().rpartition("\n")[2]
        found = json.loads(last) if last.startswith('{"result"') else {}
        return {"status": process.returncode, **found}

    def _inspect(self, folder: Path) -> dict[str, Any]:
        return inspect(self.settings(folder)["KITARU_STORE"])

    # --- trials -------------------------------------------------------------------------

    def reference(self, scenario: Scenario, variant: str) -> dict[str, Any]:
        """How it ends, and which points it passes, when nobody kills it."""
        found = self._references.get((scenario.name, variant))
        if found is None:
            folder = self.new_folder(scenario)
            look = {"look_at": str(folder)} if scenario.sequential and self.all_is_in_files else {}
            ended = self._live(folder, scenario, number=1, seed=0, variant=variant, **look)
            assert "result" in ended, f"{scenario.name} fails by itself: {ended}\n{_log(folder)}"
            self._judge(Trial(scenario.name, scenario.sequential), folder, [ended])
            found = self._references[scenario.name, variant] = ended
        return found

    def trial(
        self,
        name: str,
        *deaths: int | str | float,
        seed: int = 0,
        fresh: bool = False,
        interpreter: bool = False,
    ) -> dict[str, Any]:
        """Lives that die at these points, then one that must finish.

        A death is a point's number or its name, or a time in seconds after
        which the process is killed wherever it is. ``fresh``: the store does
        not exist before the first life. ``interpreter``: each life is a new
        interpreter, not a fork.
        """
        scenario = SCENARIOS[name]
        references = {v: self.reference(scenario, v) for v in scenario.variants}
        folder = self.new_folder(scenario)
        if fresh:
            shutil.rmtree(folder / "store")
        trial = Trial(f"{name} died at {deaths}, seed {seed}", scenario.sequential)
        ended: list[dict[str, Any]] = []
        for number, death in enumerate([*deaths, None], start=1):
            how = {} if death is None else {_HOW[type(death)]: death}
            one = (self._live_anew if interpreter else self._live)(
                folder, scenario, number=number, seed=seed, **how
            )
            ended.append(one)
            self._judge(trial, folder, ended)
            if one["status"] == 0:
                break
        expected = [without_marks(one.get("result")) for one in references.values()]
        expected += scenario.also
        trial.check("R6, nothing stuck", without_marks(ended[-1].get("result")) in expected, ended)
        return {"ended": ended, "final": trial.last}

    def _judge(self, trial: Trial, folder: Path, ended: list[dict[str, Any]]) -> None:
        one = ended[-1]
        seen = self._inspect(folder)
        lines = (folder / "journal").read_text() if (folder / "journal").exists() else ""
        trial.context = f"{ended}\n{_log(folder)}\n{lines}"
        trial.check("a life ends killed or well", one["status"] in (0, -9), one)
        trial.judge(len(ended), [json.loads(line) for line in lines.splitlines()], seen)

    def visit(self, name: str, *, seed: int) -> int:
        """Die once at each kind of point of a scenario: at a random one of that kind."""
        scenario = SCENARIOS[name]
        points = self.reference(scenario, scenario.variants[0])["points"]
        die = random.Random(f"{seed}/{name}")
        kinds: dict[str, list[int]] = {kind: [] for kind in points}
        for number, kind in enumerate(points, 1):
            kinds[kind].append(number)
        for numbers in kinds.values():
            self.trial(name, die.choice(numbers), seed=die.randrange(1 << 30))
        return len(kinds)

    def sweep(self, name: str, *, seed: int, thrice: int = 3) -> int:
        """Die at every point of a scenario, and at random points of the second life too.

        Of neighbours that leave the same files, byte by byte, one is tried: who died at the one
        or at the other is the same to all who come. That is known where things happen one after
        another. And what dies before its start is committed leaves nothing of its own: to die
        there is to die there in any scenario, and one without a prelude does it for all of these.
        """
        scenario = SCENARIOS[name]
        reference = self.reference(scenario, scenario.variants[0])
        points, left = reference["points"], reference["left"]
        count = len(points)
        nothing_yet = 0
        if not scenario.prelude and name != FIRST and points[: len(BEFORE_START)] == BEFORE_START:
            nothing_yet = len(BEFORE_START)
        die = random.Random(f"{seed}/{name}")
        deaths = range(nothing_yet + 1, count + 1)
        for _, alike in groupby(deaths, lambda death: left[death - 1] if left else death):
            death = die.choice(list(alike))
            self.trial(name, death, seed=seed + death)
        for _ in range(thrice):
            self.trial(
                name, die.randint(1, count), die.randint(1, count), seed=die.randrange(1 << 30)
            )
        return count


def _log(folder: Path) -> str:
    path = folder / "log"
    return path.read_text(errors="replace")[-6000:] if path.exists() else ""
