"""pandas: what stands in a cell and is no plain value: instants, spans, periods, intervals.

pandas is never imported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kitaru._core.values.arrays import numpy
from kitaru._core.values.leaves import read_zone, write_zone
from kitaru._core.values.pandas_columns import ZONE, pandas
from kitaru._core.values.paths import Path
from kitaru._core.values.text import TAG

if TYPE_CHECKING:
    from kitaru._core.values.codecs import Read, Write
    from kitaru._core.values.reader import Reader
    from kitaru._core.values.writer import Writer


def _write_instant(writer: Writer, value: Any, path: Path, depth: int) -> Any:
    fold = {}
    if value.tz is None:
        # With a zone, the instant itself says on which side of the change it lies.
        fold = {"fold": 1} if value.fold else {}
        moment, zone = value.asm8, None
    else:
        zone = write_zone(value.tz)
        if zone is None:
            return writer.refuse(value, path, ZONE)
        moment = value.tz_convert(None).asm8
    number = int(moment.view("i8"))
    return {TAG: "pandas.Timestamp", "unit": value.unit, "zone": zone, **fold, "v": number}


def _write_span(writer: Writer, value: Any, path: Path, depth: int) -> Any:
    return {TAG: "pandas.Timedelta", "unit": value.unit, "v": int(value.asm8.view("i8"))}


def _write_period(writer: Writer, value: Any, path: Path, depth: int) -> Any:
    return {TAG: "pandas.Period", "freq": value.freqstr, "v": int(value.ordinal)}


def _write_interval(writer: Writer, value: Any, path: Path, depth: int) -> Any:
    ends = writer.items((value.left, value.right), 2, path, depth)
    return {TAG: "pandas.Interval", "closed": value.closed, "v": ends}


def _read_instant(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    moment = pandas().Timestamp(numpy().datetime64(_whole(tree), _unit(tree)))
    if tree["zone"] is None:
        return moment.replace(fold=1) if tree.get("fold") == 1 else moment
    return moment.tz_localize("UTC").tz_convert(read_zone(tree["zone"]))


def _read_span(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    return pandas().Timedelta(numpy().timedelta64(_whole(tree), _unit(tree)))


def _read_period(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    return pandas().Period(ordinal=_whole(tree), freq=tree["freq"])


def _read_interval(reader: Reader, tree: dict[str, Any], path: Path, depth: int) -> Any:
    left, right = reader.items(tree, path, depth)
    return pandas().Interval(left, right, closed=tree["closed"])


def _whole(tree: dict[str, Any]) -> int:
    number = tree["v"]
    if type(number) is not int:
        raise TypeError("not a whole number")
    return number


def _unit(tree: dict[str, Any]) -> str:
    unit: str = tree["unit"]
    if unit not in ("s", "ms", "us", "ns"):
        raise ValueError("no unit of pandas")
    return unit


SCALAR_WRITERS: dict[str, Write] = {
    "Timestamp": _write_instant,
    "Timedelta": _write_span,
    "Period": _write_period,
    "Interval": _write_interval,
}

SCALAR_READERS: dict[str, Read] = {
    "pandas.Timestamp": _read_instant,
    "pandas.Timedelta": _read_span,
    "pandas.Period": _read_period,
    "pandas.Interval": _read_interval,
    "pandas.NaT": lambda reader, tree, path, depth: pandas().NaT,
    "pandas.NA": lambda reader, tree, path, depth: pandas().NA,
}
