"""Results of benchmarks: two sides, the ratio between them, and further figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kinegraph.bench.count import NetworkCost
from kinegraph.bench.machine import PRECISIONS, describe_machine, measure_peak_rates
from kinegraph.bench.timing import Spread, TimedRounds
from kinegraph.inference.trained_model import ProgressCallback

BenchFigures = dict[str, float | int | bool | str]


@dataclass(frozen=True)
class BenchOptions:
    """Options of every benchmark.

    Attributes:
        precision: of ours; the baseline is always in fp32.
        rounds: how often both sides are timed; None for each benchmark's default.
        progress: called with (rounds done, rounds in all).
    """

    precision: str = "fp32"
    rounds: int | None = None
    progress: ProgressCallback | None = None


DEFAULT_OPTIONS = BenchOptions()


@dataclass(frozen=True)
class BenchSide:
    """One side of a comparison.

    Attributes:
        name: of the implementation.
        amount: time or size, in ``unit`` of the result.
        figures: further figures of this side, by name.
    """

    name: str
    amount: Spread
    figures: BenchFigures = field(default_factory=dict)


@dataclass(frozen=True)
class BenchResult:
    """The result of one benchmark.

    Attributes:
        unit: of the sides' amounts.
        sides: the baseline first; only ours where there is no baseline.
        ratio: how many times better ours is; None with one side.
        figures: further figures, by name.
        machine: description of the machine.
    """

    what: str
    unit: str
    sides: tuple[BenchSide, ...]
    ratio: Spread | None
    figures: BenchFigures
    machine: str = field(default_factory=describe_machine)

    def to_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return {
            "what": self.what,
            "unit": self.unit,
            "sides": [{"name": s.name, **asdict(s.amount), **s.figures} for s in self.sides],
            "ratio": self.ratio and asdict(self.ratio),
            **self.figures,
            "machine": self.machine,
        }


def summarize_comparison(
    what: str,
    comparison: TimedRounds,
    *,
    item: str,
    names: tuple[str, str],
    items_per_round: tuple[int, int] = (1, 1),
    per_side: tuple[BenchFigures, BenchFigures] = ({}, {}),
    figures: Mapping[str, Any] | None = None,
) -> BenchResult:
    """Return milliseconds per item and items per second of two sides, and their ratio.

    Args:
        item: plural of what is processed, such as ``clips``.
        items_per_round: how many items each side processes in a round.
    """
    sides = []
    for name, seconds, items, more in zip(
        names, (comparison.baseline, comparison.ours), items_per_round, per_side, strict=True
    ):
        amount = Spread.of([1000 * s / items for s in seconds])
        sides.append(BenchSide(name, amount, {f"{item}/s": 1000 / amount.median, **more}))
    ratio, scale = comparison.ratio, items_per_round[0] / items_per_round[1]
    scaled = Spread(ratio.median / scale, ratio.low / scale, ratio.high / scale)
    rounds = {"rounds": len(comparison.ours)}
    return BenchResult(what, "ms", tuple(sides), scaled, {**(figures or {}), **rounds})


def peak_shares(cost: NetworkCost, seconds: float, precision: str = "fp32") -> BenchFigures:
    """Return the shares of the machine's peak rates that a forward pass in this time reaches."""
    dtype = PRECISIONS[precision]
    peak = measure_peak_rates(dtype)
    return {
        "share of peak GEMM": cost.flops / seconds / peak.gemm,
        "share of bandwidth": cost.moved_values * dtype.itemsize / seconds / peak.copy,
    }
