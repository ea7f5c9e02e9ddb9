"""The model and the database agree on every answer, refusal and snapshot."""

from __future__ import annotations

import pytest

from .differential import OPERATIONS, missing_kinds, run


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_random_stream_of_writes_and_reads_is_answered_like_the_model(seed: int) -> None:
    seen = run(2_000, seed)
    assert missing_kinds(seen) == [], "a kind of write or refusal never occurred"
    assert sum(seen.values()) >= 2_000


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [4, 5])
def test_both_databases_answer_like_the_model(seed: int, postgres_url: str) -> None:
    seen = run(2_000, seed, postgres=postgres_url, look_every=12)
    assert missing_kinds(seen) == [], "a kind of write or refusal never occurred"
    assert seen[OPERATIONS] >= 20_000
