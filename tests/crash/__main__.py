"""``python -m tests.crash --seed S --minutes M``: kill the corpus at random for as long as asked.

Prints the scenario, the deaths and the seed of what fails, to be made a test.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from .corpus import SCENARIOS
from .harness import ForkServer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, printed")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--only", choices=sorted(SCENARIOS), default=None)
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 31) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    die = random.Random(seed)
    until = time.monotonic() + asked.minutes * 60
    trials = deaths = 0
    with tempfile.TemporaryDirectory() as folder:
        server = ForkServer(Path(folder))
        while time.monotonic() < until:
            name = asked.only or die.choice(sorted(SCENARIOS))
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
        server.close()
    print(f"{trials} trials, {deaths} deaths: nothing lost, nothing done twice, nothing stuck")
    return 0 if deaths else 1


if __name__ == "__main__":
    sys.exit(main())
