"""Records of arrays, tables and images that somebody edited: a typed error or a value, no more.

A store may be somebody else's. Each record is changed in one or two places at random, by
values that fit the place or do not, and sealed again.
"""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image

from kitaru._core.payload import seal
from kitaru._core.values import decode, encode
from kitaru.errors import KitaruValueError

EDITS = 200
"""Of each value."""

DATES = pd.date_range("2024", periods=2, tz="UTC")
VALUES = {
    "array": np.arange(6).reshape(2, 3),
    "records": np.zeros(2, [("a", "i1"), ("b", "f8")]),
    "texts": np.array(["a"], np.dtypes.StringDType()),
    "scalars": [np.float32(1.5), np.str_("a"), np.datetime64("2024"), pd.Timestamp("2024")],
    "frame": pd.DataFrame(
        {"a": pd.Categorical(["x", "y"]), "b": pd.array([1, None]), "c": ["t", "u"], "d": DATES},
        index=pd.MultiIndex.from_product([["a"], [1, 2]], names=["x", None]),
    ),
    "series": pd.Series([1, "x"], index=pd.interval_range(0, 2), dtype=object),
    "index": DATES.tz_localize(None).to_period("D"),
    "arrow": pa.table({"a": [1, None], "s": ["x", "y"], "l": [[1], [2, 3]]}),
    "polars": pl.DataFrame({"a": [1, None], "s": ["x", "y"], "l": [[1], [2]]}),
    "image": Image.new("P", (2, 2)),
}
OTHERS: list[Any] = [
    *(None, True, 0, -1, 2**63, 1e308, "", "x", "<i8", "|O", "|V0", "Int64", "UTC", [], [1]),
    *([0, 1], [0, 10**15, 1], {}),
    {"$kitaru": "numpy.ndarray", "dtype": "<i8", "shape": [1], "v": "AAAAAAAAAAA="},
    {"$kitaru": "pandas.RangeIndex", "name": None, "v": [0, 10**15, 1]},
    {"$kitaru": "set", "v": [1]},
]


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    parts = tree.items() if type(tree) is dict else enumerate(tree) if type(tree) is list else ()
    return [path, *[place for step, part in parts for place in places(part, (*path, step))]]


def edited(tree: Any, die: random.Random) -> Any:
    place = die.choice(places(tree)[1:])
    holder = tree
    for step in place[:-1]:
        holder = holder[step]
    part = holder[place[-1]]
    if type(part) is str and part and die.random() < 0.5:
        at = die.randrange(len(part))
        holder[place[-1]] = part[:at] + die.choice("AB/+gx0") + part[at + 1 :]
    elif die.random() < 0.2:
        del holder[place[-1]]
    else:
        holder[place[-1]] = die.choice(OTHERS)
    return tree


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.filterwarnings("ignore")
def test_an_edited_record_gives_a_typed_error_or_a_value(name: str) -> None:
    data = encode(VALUES[name], what="a test").data
    die = random.Random(name)
    refused = 0
    for _ in range(EDITS):
        tree = edited(json.loads(data), die)
        if die.random() < 0.3 and places(tree)[1:]:
            tree = edited(tree, die)
        try:
            decode(seal("json", json.dumps(tree).encode()), what="a test")
        except KitaruValueError:
            refused += 1
    assert refused > EDITS // 20
