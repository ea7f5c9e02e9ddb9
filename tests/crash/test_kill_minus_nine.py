"""Real processes, killed with SIGKILL at instants that nobody chose."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import pytest

from .corpus import SCENARIOS
from .harness import ForkServer

KILLS_OF_FORKS = 260
KILLS_OF_INTERPRETERS = 64
BLOCKS = 4
"""The kills are spread over this many tests, so that workers share them."""


@pytest.mark.slow
@pytest.mark.parametrize("block", range(BLOCKS))
def test_nothing_is_lost_doubled_or_stuck_when_forks_are_killed_at_random_instants(
    server: ForkServer, block: int
) -> None:
    die = random.Random(f"forks {block}")
    kills = 0
    when: Counter[str] = Counter()
    while kills < KILLS_OF_FORKS / BLOCKS:
        name = die.choice(sorted(SCENARIOS))
        seconds = _usual_seconds(server, name)
        deaths = [die.uniform(0.001, seconds) for _ in range(die.choice([1, 1, 2]))]
        ended = server.trial(name, *deaths, seed=die.randrange(1 << 30))["ended"]
        kills += sum(life["status"] == -9 for life in ended)
        _seconds[name] = _learnt(seconds, deaths[0], ended[0])
        when.update(["early" if d < seconds / 3 else "middle" for d in deaths])
    assert when["early"] > 3
    assert when["middle"] > 3


@pytest.mark.slow
@pytest.mark.parametrize("block", range(BLOCKS))
def test_nothing_is_lost_doubled_or_stuck_when_interpreters_are_killed_at_random_instants(
    server: ForkServer, block: int
) -> None:
    die = random.Random(f"interpreters {block}")
    began = time.monotonic()
    server.trial("fan_out", interpreter=True)
    usual = dict.fromkeys(SCENARIOS, time.monotonic() - began)
    kills = 0
    while kills < KILLS_OF_INTERPRETERS / BLOCKS:
        name = die.choice(sorted(SCENARIOS))
        seconds = usual[name]
        deaths = [die.uniform(seconds * 0.3, seconds * 1.05) for _ in range(die.choice([1, 1, 2]))]
        trial = server.trial(name, *deaths, seed=die.randrange(1 << 30), interpreter=True)
        kills += sum(life["status"] == -9 for life in trial["ended"])
        usual[name] = _learnt(seconds, deaths[0], trial["ended"][0])


def _learnt(usual: float, death: float, life: dict[str, Any]) -> float:
    """What is usual, knowing when this life was to be killed, and how it ended.

    It was measured once, and the machine may have been busy then: hardly any life would be
    killed from then on.
    """
    return min(usual, death) if life["status"] == 0 else usual


_seconds: dict[str, float] = {}


def _usual_seconds(server: ForkServer, name: str) -> float:
    if name not in _seconds:
        server.trial(name)
        folder = server.new_folder(SCENARIOS[name])
        began = time.monotonic()
        server._live(folder, SCENARIOS[name], number=1, seed=0)
        _seconds[name] = time.monotonic() - began
    return _seconds[name]
