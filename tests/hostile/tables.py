"""Values of other libraries: scalars, arrays, tables and images, each made anew.

``KEPT`` comes back as it went in; ``REFUSED`` is refused but as an argument, where it may
count by its type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
from pydantic import BaseModel, SecretStr

import kitaru

Make = Callable[[], Any]


class Login(BaseModel):
    password: SecretStr


def strided() -> Any:
    return np.arange(24).reshape(4, 6)[::2, ::-3]


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number": [1, 2, 3],
            "float": [1.5, float("nan"), -0.0],
            "text": ["a", None, "\u202e"],
            "when": pd.to_datetime(["2020-01-01", None, "1999-12-31"]),
            "kind": pd.Categorical(["x", "y", "x"], categories=["y", "x", "z"], ordered=True),
            "flag": [True, False, True],
        }
    )


def multi_index() -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["x", None])
    return pd.DataFrame({"v": [1, 2, 3]}, index=index)


KEPT: dict[str, Make] = {
    "float64": lambda: np.float64("nan"),
    "int8": lambda: np.int8(-128),
    "uint64": lambda: np.uint64(2**64 - 1),
    "bool_": lambda: np.bool_(True),
    "complex64": lambda: np.complex64(1 - 2j),
    "float16": lambda: np.float16("inf"),
    "datetime64": lambda: np.datetime64("2020-01-01T00:00:00.123456789"),
    "NaT": lambda: np.datetime64("NaT"),
    "timedelta64": lambda: np.timedelta64(-5, "ns"),
    "array": lambda: np.arange(5),
    "empty array": lambda: np.empty((0, 3)),
    "array of no dimensions": lambda: np.array(3.5),
    "array with strides": strided,
    "array in the order of Fortran": lambda: np.asfortranarray(np.arange(6).reshape(2, 3)),
    "array of the other byte order": lambda: np.arange(3, dtype=">i4"),
    "structured array": lambda: np.array([(1, "a")], dtype=[("n", "i4"), ("t", "U3")]),
    "array of texts": lambda: np.array(["a", "bcd"]),
    "array of NaN": lambda: np.array([float("nan"), -0.0, float("inf")]),
    "an array in a dict": lambda: {"weights": [np.ones(2), (np.zeros(0),)]},
    "a large array": lambda: np.arange(100_000, dtype="f8"),
    "frame": frame,
    "empty frame": lambda: pd.DataFrame(),
    "frame with a MultiIndex": multi_index,
    "series": lambda: pd.Series([1, 2], name="s"),
    "image": lambda: PIL.Image.new("RGB", (3, 2), (1, 2, 3)),
    "image with alpha": lambda: PIL.Image.new("RGBA", (3, 2), (1, 2, 3, 4)),
    "the name of a secret": lambda: kitaru.Secret(env="SHOP_API_KEY"),
}

REFUSED: dict[str, Make] = {
    "array of objects": lambda: np.array([object()], dtype=object),
    "a secret in the clear": lambda: SecretStr("hunter2"),
    "a model with a secret": lambda: Login(password=SecretStr("hunter2")),
}
