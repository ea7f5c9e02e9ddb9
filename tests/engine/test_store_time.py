"""The store's clock as a process knows it: near, never back, and deaf to the machine's own."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kitaru._engine.store_time import STEP_BACK_MICROSECONDS, StoreTime
from kitaru.env import SystemEnv, boottime

SECOND = 1_000_000


class Machine(SystemEnv):
    """A machine whose wall clock somebody sets, and a clock that counts its seconds."""

    def __init__(self) -> None:
        self.wall = 5
        self.seconds = 100.0

    def now(self) -> int:
        return self.wall

    def clock(self) -> float:
        return self.seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def time(machine: Machine) -> StoreTime:
    return StoreTime(machine, clock=machine.clock)


def test_before_it_is_measured_it_is_the_machines(time: StoreTime, machine: Machine) -> None:
    assert time.now() == machine.wall


def test_steps_of_the_machines_clock_change_nothing(time: StoreTime, machine: Machine) -> None:
    time.measured(7 * SECOND, 100.0, 100.0)
    for step in (3600 * SECOND, -7200 * SECOND, 0):
        machine.wall += step
        machine.seconds += 1
    assert time.now() == 10 * SECOND


def test_the_error_is_bounded_by_the_round_trip_and_the_drift(machine: Machine) -> None:
    chance = random.Random(3)
    time = StoreTime(machine, clock=machine.clock)
    store, rate = 50.0, 1 + 40e-6  # the store's clock gains 40 µs each second
    worst = 0.0
    took = 0.0
    for _ in range(2_000):
        asked, store_asked = machine.seconds, store
        took, there = chance.expovariate(20), chance.random()
        machine.seconds += took
        store += took * rate
        time.measured(round((store_asked + took * there * rate) * 1e6), asked, machine.seconds)
        machine.seconds += 5
        store += 5 * rate
        error = abs(time.now() - store * 1e6) / 1e6
        assert error <= took + 5 * 40e-6 + 1e-4
        worst = max(worst, error)
    assert worst < 0.5


def test_it_never_goes_back_for_what_answers_correct(time: StoreTime, machine: Machine) -> None:
    time.measured(10 * SECOND, 100.0, 100.4)  # within 0.4 s: the middle is taken
    first = time.now()
    machine.seconds = 100.4
    time.measured(10 * SECOND + 1, 100.39, 100.4)  # in truth it was earlier than that
    assert time.now() >= first
    machine.seconds = 101.4
    assert time.now() == pytest.approx(11 * SECOND, abs=10_001)


def test_a_store_whose_clock_is_set_back_is_followed(time: StoreTime, machine: Machine) -> None:
    time.measured(3600 * SECOND, 100.0, 100.0)
    assert time.now() == 3600 * SECOND
    time.measured(60 * SECOND, 100.0, 100.0)
    assert time.now() == 60 * SECOND
    time.measured(60 * SECOND - STEP_BACK_MICROSECONDS // 2, 100.0, 100.0)
    assert time.now() == 60 * SECOND


def test_a_database_tells_its_clock(postgres_url: str) -> None:
    from kitaru._store.postgres.store import PostgresStore

    store: Any = PostgresStore.open(postgres_url, env=SystemEnv(), project="demo")
    try:
        machine = Machine()
        time = StoreTime(machine, clock=boottime)
        time.measure(store)
        before = store.read_clock(0)
        now = time.now()
        after = store.read_clock(0)
        # The machine says that it is 1970: nobody believes it.
        assert before - 60 * SECOND < now < after + 60 * SECOND
        assert after >= before
    finally:
        store.close()
