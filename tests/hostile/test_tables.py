"""Arrays, tables, images and secrets through the doors: equal, of equal types, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from kitaru import KitaruClient

from . import doors
from .doors import Kept, Verdict
from .tables import KEPT, REFUSED
from .test_values import check_refused, newest

pytestmark = [
    pytest.mark.usefixtures("shared_store"),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore"),
]

DOORS: dict[str, Callable[[doors.Make], Verdict]] = {
    name: (doors.INPUT | doors.ARGUMENT | doors.RESULT)[name]
    for name in ("input", "argument", "argument, async", "result", "result of the flow, async")
}


def check_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            check_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            check_same(a, b)
    elif isinstance(one, (np.ndarray, np.generic)):
        assert one.dtype == other.dtype
        assert one.dtype.byteorder == other.dtype.byteorder
        assert one.shape == other.shape
        assert np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()
    elif isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True, check_freq=True)
    elif isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other, check_exact=True)
    elif isinstance(one, PIL.Image.Image):
        assert (one.mode, one.size, one.tobytes()) == (other.mode, other.size, other.tobytes())
    else:
        assert one == other


@pytest.mark.parametrize("name", KEPT)
def test_it_comes_back_as_it_went_in(name: str) -> None:
    make = KEPT[name]
    for door in DOORS.values():
        verdict = door(make)
        assert isinstance(verdict, Kept), verdict
        check_same(make(), verdict.value)
    verdict = DOORS["result"](make)
    assert isinstance(verdict, Kept)
    assert verdict.exec_id is not None
    (call,) = KitaruClient().executions.get(verdict.exec_id).list_checkpoints()
    check_same(make(), call.result())


@pytest.mark.parametrize("name", KEPT)
def test_it_is_no_metadata(name: str) -> None:
    for door in doors.METADATA.values():
        check_refused(door(KEPT[name]), newest())


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_store_should_hold_is_refused(name: str) -> None:
    for where in ("input", "result", "result of the flow, async"):
        verdict = DOORS[where](REFUSED[name])
        check_refused(verdict, newest())
        assert "hunter2" not in str(verdict)
