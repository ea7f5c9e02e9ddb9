"""``python -m tests.crash --seed S --minutes M``: kill the corpus at random for as long as asked.

``--sweep`` kills it at every point instead, once each; ``--store postgres`` does either over
PostgreSQL. Prints the scenario, the deaths and the seed of what fails, to be made a test.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import postgres

from .corpus import SCENARIOS
from .fleet import FleetServer
from .harness import ForkServer


@contextmanager
def serving(store: str) -> Iterator[ForkServer]:
    with tempfile.TemporaryDirectory() as folder:
        if store == "sqlite":
            server = ForkServer(Path(folder))
            yield server
            server.close()
            return
        with postgres.serving() as url, postgres.database(url) as place:
            server = FleetServer(Path(folder), place)
            yield server
            server.close()


def sweep(server: ForkServer, names: list[str], seed: int) -> int:
    points = 0
    for name in names:
        try:
            here = (server.visit if SCENARIOS[name].costly else server.sweep)(name, seed=seed)
        except AssertionError as error:
            print(f"{error}\n\nFAILED: {name}; run seed {seed}")
            return 1
        print(f"{name}: killed at {here} points", flush=True)
        points += here
    print(f"{points} points: nothing lost, nothing done twice, nothing stuck")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, printed")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--only", choices=sorted(SCENARIOS), default=None)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--sweep", action="store_true", help="every point once, and no minutes")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 31) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    with serving(asked.store) as server:
        if asked.sweep:
            return sweep(server, [asked.only] if asked.only else sorted(SCENARIOS), seed)
        return kill_at_random(server, asked.only, seed, asked.minutes)


def kill_at_random(server: ForkServer, only: str | None, seed: int, minutes: float) -> int:
    die = random.Random(seed)
    until = time.monotonic() + minutes * 60
    trials = deaths = 0
    while time.monotonic() < until:
        name = only or die.choice(sorted(SCENARIOS))
        scenario = SCENARIOS[name]
        count = len(server.reference(scenario, scenario.variants[0])["points"])
        points = [die.randint(1, count) for _ in range(die.choice([1, 1, 2, 2, 3]))]
        one = die.randrange(1 << 31)
        try:
            ended = server.trial(name, *points, seed=one)["ended"]
        except AssertionError as error:
            print(f"{error}\n\nFAILED: {name} at {points}, seed {one}; run seed {seed}")
            return 1
        trials += 1
        deaths += sum("died_at" in life for life in ended)
    print(f"{trials} trials, {deaths} deaths: nothing lost, nothing done twice, nothing stuck")
    return 0 if deaths else 1


if __name__ == "__main__":
    sys.exit(main())
