"""The report of a run: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from kinegraph.clips.clip import Clip
from kinegraph.files import atomic_path
from kinegraph.reports.draw_clip import draw_clip
from kinegraph.reports.draw_run import (
    draw_class_accuracy,
    draw_confusion_matrix,
    draw_reliability_diagram,
    draw_training_curves,
    number,
)

if TYPE_CHECKING:
    from kinegraph.inference.evaluate import Evaluation
    from kinegraph.inference.pose_errors import PoseErrors

_WORST = 8
_EPOCH_KEYS = ("epoch", "val_accuracy", "train_accuracy", "val_loss", "train_loss", "lr")


@dataclass(frozen=True)
class Comparison:
    """Several results side by side: one picture, and a table whose last row is set off."""

    title: str
    figure: Figure
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class RunReport:
    """What is told of a run; whatever is empty is left out of the page.

    Attributes:
        title: the name of the run.
        facts: what stands at the top: data set, protocol, model, parameters, training time ...
        comparison: what the run is made of, or to be seen beside.
        history: a row an epoch, see `kinegraph.reports.draw_run.draw_training_curves`.
        evaluations: by name of the split; the first one gives the page its big numbers.
        poses: errors of predicted poses, by name of the split.
        clips: a clip, the answers as (class name, probability) with the most probable first, and
            the name of its true class ("" if unknown).
        recipe_text: the recipe as YAML.
        environment: versions, device, seed ...
        model: further figures by title, such as the graph and its learned edge importance.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    comparison: Comparison | None = None
    history: Sequence[Mapping[str, Any]] = ()
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    poses: Mapping[str, PoseErrors] = field(default_factory=dict)
    clips: Sequence[tuple[Clip, Sequence[tuple[str, float]], str]] = ()
    recipe_text: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class ConfusedPair:
    """Clips of one class that were taken for another: ``count`` of its ``clips``."""

    true: str
    taken: str
    count: int
    clips: int


def write_report(report: RunReport, path: str | Path) -> Path:
    """Write the report as one self-contained HTML file, complete or not there at all.

    The page asks for nothing outside itself, runs no script, and follows the reader's choice of
    a light or dark screen.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    text = render_report(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def render_report(report: RunReport) -> str:
    """The HTML of `write_report`."""
    environment = jinja_environment()
    tiles = _tiles(report)
    told = {label for label, _, _ in tiles}
    compared = report.comparison
    return environment.get_template("reports/page.html.jinja").render(
        report=report,
        tiles=tiles,
        facts={key: value for key, value in report.facts.items() if key.lower() not in told},
        compared=embed_figure(compared.figure, compared.title) if compared else None,
        curves=embed_figure(draw_training_curves(report.history), "Curves by epoch")
        if report.history
        else None,
        epochs=_epochs(report.history),
        evaluations=[_evaluation(*named) for named in report.evaluations.items()],
        clips=[_answered(*row) for row in report.clips],
        figures={title: embed_figure(figure, title) for title, figure in report.model.items()},
    )


def jinja_environment() -> Environment:
    """For templates of pages; those of other rooms may include the style and the macros here."""
    environment = Environment(
        loader=PackageLoader("kinegraph", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment


def top_confusions(evaluation: Evaluation, limit: int = _WORST) -> list[ConfusedPair]:
    """The pairs of classes confused most often, by number of clips, then by share."""
    counts = np.asarray(evaluation.confusion)
    clips = counts.sum(axis=1)
    names = [row.name for row in evaluation.per_class]
    pairs = [(int(i), int(j)) for i, j in np.argwhere(counts) if i != j]
    pairs.sort(key=lambda pair: (-counts[pair], clips[pair[0]], pair))
    return [ConfusedPair(names[i], names[j], int(counts[i, j]), int(clips[i])) for i, j in pairs][
        :limit
    ]


def wilson_interval(share: float, clips: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share of so many clips (Wilson 1927)."""
    z2 = 1.959964**2
    if clips < 1:
        return 0.0, 1.0
    middle = (share + z2 / (2 * clips)) / (1 + z2 / clips)
    spread = math.sqrt(z2 * (share * (1 - share) / clips + z2 / (4 * clips**2))) / (1 + z2 / clips)
    return max(0.0, middle - spread), min(1.0, middle + spread)


def _tiles(report: RunReport) -> list[tuple[str, str, str]]:
    """Label, big number and small print of the first split's figures."""
    tiles = []
    for split, found in list(report.evaluations.items())[:1]:
        low, high = (f"{100 * bound:.1f}" for bound in wilson_interval(found.top1, found.clips))
        tiles += [
            ("top-1", percent(found.top1), f"95 % interval {low} to {high}, {split}"),
            ("top-5", percent(found.top5), f"true class among the first five, {split}"),
            ("mean class", percent(found.mean_class), f"every class counts alike, {split}"),
            ("calibration error", percent(found.ece), "how far confidence is from accuracy"),
        ]
    for split, errors in list(report.poses.items())[:1]:
        told = errors.to_dict()
        if told["clips"]:
            share = percent(told["better_than_baseline"])
            tiles += [
                ("mean joint error", f"{told['mpjpe']:.3g}", f"of predicted poses, {split}"),
                ("without a model", f"{told['baseline_mpjpe']:.3g}", f"the baseline, {split}"),
                ("better than that", share, f"of {told['clips']} clips, {split}"),
            ]
    return tiles


def _epochs(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """The first, the best and the last epoch in words, if there are so many."""
    measured = [row for row in history if math.isfinite(number(row.get("val_accuracy")))]
    if len(history) < 3 or not measured:
        return {}
    best = max(measured, key=lambda row: number(row["val_accuracy"]))
    chosen = {"first": history[0], "best": best, "last": history[-1]}
    return {
        label: {key: _told(key, row.get(key)) for key in _EPOCH_KEYS}
        for label, row in chosen.items()
    }


def _told(key: str, value: Any) -> str:
    found = number(value)
    if not math.isfinite(found):
        return "–"
    if key.endswith("accuracy"):
        return percent(found)
    return f"{found:.0f}" if key == "epoch" else f"{found:.3g}"


def _evaluation(name: str, found: Evaluation) -> dict[str, Any]:
    names = [row.name for row in found.per_class]
    return {
        "name": name,
        "found": found,
        "interval": wilson_interval(found.top1, found.clips),
        "worst": top_confusions(found),
        "confusion": embed_figure(
            draw_confusion_matrix(found.confusion, names), f"Confusion matrix of {name}"
        ),
        "per_class": embed_figure(
            draw_class_accuracy(found.per_class), f"Accuracy by class on {name}"
        ),
        "reliability": embed_figure(draw_reliability_diagram(found.bins), f"Reliability on {name}"),
    }


def _answered(clip: Clip, answers: Sequence[tuple[str, float]], true: str) -> dict[str, Any]:
    return {
        "id": clip.id,
        "picture": embed_figure(draw_clip(clip), f"Skeleton of clip {clip.id}"),
        "answers": list(answers)[:5],
        "true": true,
        "right": bool(answers) and answers[0][0] == true,
    }


def embed_figure(figure: Figure, title: str) -> dict[str, Any]:
    """A figure as an SVG data URI, with its size in CSS pixels."""
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    data = base64.b64encode(_svg(figure)).decode("ascii")
    return {
        "source": f"data:image/svg+xml;base64,{data}",
        "width": width,
        "height": height,
        "title": title,
    }


def _svg(figure: Figure) -> bytes:
    """The figure without a background; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    # Text stays text, so that the reader's machine may have letters that this one has not.
    settings = {"svg.fonttype": "none", "svg.hashsalt": "kinegraph"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    return buffer.getvalue()


def percent(share: float | None) -> str:
    """With one decimal and a space that no line is broken at."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"
