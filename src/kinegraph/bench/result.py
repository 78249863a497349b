"""What a benchmark found: two sides, the ratio of them, and what else was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kinegraph.bench.count import Work
from kinegraph.bench.machine import PRECISIONS, in_words, roof
from kinegraph.bench.timing import Comparison, Spread

Figures = dict[str, float | int | bool | str]


@dataclass(frozen=True)
class Side:
    """One side.

    Attributes:
        name: what it is.
        amount: what it had to do, or what it needs, in ``unit`` of the result.
        figures: what else there is to say of it, by name.
    """

    name: str
    amount: Spread
    figures: Figures = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A comparison, ready to be told.

    Attributes:
        what: the work.
        unit: of the sides' amounts.
        sides: the baseline first; only one where there is nothing to compare.
        ratio: how many times ours is better; None with one side.
        figures: what else was measured, by name.
        machine: where.
    """

    what: str
    unit: str
    sides: tuple[Side, ...]
    ratio: Spread | None
    figures: Figures
    machine: str = field(default_factory=in_words)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "what": self.what,
            "unit": self.unit,
            "sides": [{"name": s.name, **s.amount.to_dict(), **s.figures} for s in self.sides],
            "ratio": None if self.ratio is None else self.ratio.to_dict(),
            **self.figures,
            "machine": self.machine,
        }


def milliseconds(seconds: tuple[float, ...], each: int = 1) -> Spread:
    """The time of one of the ``each`` things that are done in a round."""
    return Spread.of([1000 * s / each for s in seconds])


def timed_result(
    what: str,
    comparison: Comparison,
    *,
    item: str,
    names: tuple[str, str],
    each: tuple[int, int] = (1, 1),
    per_side: tuple[Figures, Figures] = ({}, {}),
    figures: Mapping[str, Any] | None = None,
) -> Result:
    """The result of two sides that were timed against each other.

    Args:
        what: the work.
        comparison: their times.
        item: of what so many are done a second, such as ``clips``.
        names: of the sides.
        each: how many items a round of each side is.
        per_side: what else there is to say of them.
        figures: what else was measured.
    """
    sides = []
    for name, seconds, count, told in zip(
        names, (comparison.baseline, comparison.ours), each, per_side, strict=True
    ):
        amount = milliseconds(seconds, count)
        sides.append(Side(name, amount, {f"{item}/s": 1000 / amount.median, **told}))
    ratio, part = comparison.ratio, each[0] / each[1]
    scaled = Spread(ratio.median / part, ratio.low / part, ratio.high / part)
    rounds = {"rounds": len(comparison.ours)}
    return Result(what, "ms", tuple(sides), scaled, {**(figures or {}), **rounds})


def roofline(work: Work, seconds: float, precision: str = "fp32") -> Figures:
    """How near to the roof a side is that does this work, as shares of what was measured."""
    dtype = PRECISIONS[precision]
    best = roof(dtype)
    return {
        "share of peak GEMM": work.flops / seconds / best.gemm,
        "share of bandwidth": work.moved * dtype.itemsize / seconds / best.copy,
    }
