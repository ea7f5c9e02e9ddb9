"""What a measurement is: samples, the limit beside them, and the ratio of the two.

Knows nothing of what is measured or how it is shown.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sample:
    """Median, minimum, maximum and mean of what was measured."""

    median: float
    minimum: float
    maximum: float
    mean: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Sample:
        return cls(
            statistics.median(values),
            min(values),
            max(values),
            statistics.fmean(values),
            len(values),
        )

    def map(self, scale: float) -> Sample:
        """In another unit."""
        return Sample(
            self.median * scale,
            self.minimum * scale,
            self.maximum * scale,
            self.mean * scale,
            self.count,
        )


@dataclass(frozen=True)
class Target:
    """What DESIGN asks for: a bound on the ratio or on the figure, from above or below."""

    bound: float
    of: str = "ratio"
    """``"ratio"``, ``"median"``, ``"maximum"`` or ``"p99"``."""
    at_least: bool = False
    unit: str = ""

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        what = "×" if self.of == "ratio" else f" {self.unit}".rstrip()
        return f"{sign} {self.bound:g}{what}"

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    unit: str
    figure: Sample
    limit: Sample | None = None
    limit_name: str = ""
    ratio: Sample | None = None
    """Of rounds that ran side by side, not of the two medians."""
    cpu: Sample | None = None
    """Of the calling thread, in the unit of the figure: steadier than time on a busy machine."""
    limit_cpu: Sample | None = None
    target: Target | None = None
    p99: float | None = None
    note: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        target = self.target
        if target is None:
            return None
        if target.of == "ratio":
            return None if self.ratio is None else target.is_met(self.ratio.median)
        if target.of == "p99":
            return None if self.p99 is None else target.is_met(self.p99)
        return target.is_met(getattr(self.figure, target.of))


@dataclass
class Rounds:
    """Rounds of figure and limit that ran one after the other: A B A B …"""

    figures: list[list[float]] = field(default_factory=list)
    limits: list[list[float]] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)
    limit_cpus: list[float] = field(default_factory=list)

    def add(
        self,
        figure: Sequence[float],
        limit: Sequence[float] = (),
        cpu: float | None = None,
        limit_cpu: float | None = None,
    ) -> None:
        self.figures.append(list(figure))
        self.limits.append(list(limit))
        if cpu is not None:
            self.cpus.append(cpu)
        if limit_cpu is not None:
            self.limit_cpus.append(limit_cpu)

    def row(self, name: str, unit: str, *, scale: float = 1.0, **rest: Any) -> Row:
        """The row of all rounds; ``scale`` turns what was measured into ``unit``."""
        limits = [value for part in self.limits for value in part]
        ratios = [
            statistics.median(figure) / statistics.median(limit)
            for figure, limit in zip(self.figures, self.limits, strict=True)
            if limit
        ]
        return Row(
            name,
            unit,
            Sample.of([value for part in self.figures for value in part]).map(scale),
            limit=Sample.of(limits).map(scale) if limits else None,
            ratio=Sample.of(ratios) if ratios else None,
            cpu=Sample.of(self.cpus).map(scale) if self.cpus else None,
            limit_cpu=Sample.of(self.limit_cpus).map(scale) if self.limit_cpus else None,
            **rest,
        )


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of the values do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]
