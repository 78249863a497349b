"""HTML reports: self-contained pages with embedded pictures."""

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
from kinegraph.inference.evaluate_segmentation import evaluate_segmentation
from kinegraph.reports.draw_clip import draw_clip
from kinegraph.reports.draw_run import (
    draw_class_accuracy,
    draw_confusion_matrix,
    draw_reliability_diagram,
    draw_training_curves,
)
from kinegraph.reports.draw_segmentation import draw_segmentations

if TYPE_CHECKING:
    from kinegraph.inference.evaluate import Evaluation
    from kinegraph.inference.evaluate_segmentation import LabeledSegmentation
    from kinegraph.inference.pose_errors import PoseErrors

_EPOCH_KEYS = ("epoch", "val_accuracy", "train_accuracy", "val_loss", "train_loss", "lr")


@dataclass(frozen=True)
class Comparison:
    """Several results side by side: one picture, and a table with a total in its last row."""

    title: str
    figure: Figure
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class RunReport:
    """Contents of a run's report; empty sections are left out of the page.

    Attributes:
        facts: shown at the top: data set, protocol, model, parameters, training time ...
        comparison: results to compare, such as the runs of a fusion.
        history: a row per epoch, see `kinegraph.reports.draw_run.draw_training_curves`.
        evaluations: by name of the split; the first one is summarized at the top.
        poses: errors of predicted poses, by name of the split.
        recordings: segmented recordings, by name of the split.
        clips: a clip, the candidates as (class name, probability) with the most probable first,
            and the name of its true class ("" if unknown).
        explanations: figures of the importance of joints in some of these clips, by clip id.
        model: further figures by title, such as the graph and its learned edge importance.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    comparison: Comparison | None = None
    history: Sequence[Mapping[str, Any]] = ()
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    poses: Mapping[str, PoseErrors] = field(default_factory=dict)
    recordings: Mapping[str, Sequence[LabeledSegmentation]] = field(default_factory=dict)
    clips: Sequence[tuple[Clip, Sequence[tuple[str, float]], str]] = ()
    explanations: Mapping[str, Figure] = field(default_factory=dict)
    recipe_text: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Figure] = field(default_factory=dict)


def write_report(report: RunReport, path: str | Path) -> Path:
    """Write the report as one self-contained HTML file; a failure leaves the old file.

    The page loads nothing from outside, runs no script, and follows the reader's preference for
    light or dark.

    Raises:
        OSError: the file cannot be written.
    """
    return write_page(render_report(report), Path(path))


def write_page(text: str, path: Path) -> Path:
    """Write the HTML of a page, completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def render_report(report: RunReport) -> str:
    """Return the HTML of `write_report`."""
    page = jinja_environment().get_template("reports/page.html.jinja")
    return page.render(
        report=report,
        epochs=_epochs(report.history),
        top_confusions=top_confusions,
        wilson_interval=wilson_interval,
        draw_class_accuracy=draw_class_accuracy,
        draw_clip=draw_clip,
        draw_confusion_matrix=draw_confusion_matrix,
        draw_reliability_diagram=draw_reliability_diagram,
        draw_segmentations=draw_segmentations,
        draw_training_curves=draw_training_curves,
        evaluate_segmentation=evaluate_segmentation,
    )


def jinja_environment() -> Environment:
    """Return the environment of page templates; other rooms may include style and macros."""
    environment = Environment(
        loader=PackageLoader("kinegraph", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": format_percent, "embed": embed_figure}
    return environment


def top_confusions(evaluation: Evaluation, limit: int = 8) -> list[tuple[str, str, int, int]]:
    """Return the pairs of classes confused most often, by number of clips, then by share.

    Each is the true and the predicted class, the clips so confused, and all clips of the class.
    """
    counts = np.asarray(evaluation.confusion)
    clips = counts.sum(axis=1)
    names = [row.name for row in evaluation.per_class]
    pairs = [(int(i), int(j)) for i, j in np.argwhere(counts) if i != j]
    pairs.sort(key=lambda pair: (-counts[pair], clips[pair[0]], pair))
    return [(names[i], names[j], int(counts[i, j]), int(clips[i])) for i, j in pairs[:limit]]


def wilson_interval(share: float, clips: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share of so many clips (Wilson 1927)."""
    from scipy.stats import binomtest

    if clips < 1:
        return 0.0, 1.0
    found = binomtest(round(share * clips), clips).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def _epochs(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return formatted metrics of the first, the best and the last of three or more epochs."""
    losses = np.array([row.get("val_loss") for row in history], dtype=float)
    if len(history) < 3 or np.isnan(losses).all():
        return {}
    chosen = {
        "first": history[0],
        "best": history[int(np.flatnonzero(losses == np.nanmin(losses))[-1])],
        "last": history[-1],
    }
    return {
        label: {key: _format_metric(key, row.get(key)) for key in _EPOCH_KEYS}
        for label, row in chosen.items()
    }


def _format_metric(key: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    if key.endswith("accuracy"):
        return format_percent(value)
    return f"{value:.0f}" if key == "epoch" else f"{value:.3g}"


def embed_figure(figure: Figure, title: str) -> dict[str, Any]:
    """Return a figure as an SVG data URI, with its size in CSS pixels."""
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    buffer = io.BytesIO()
    # Text stays text, so that the reader's fonts can supply glyphs that are missing here. A fixed
    # salt and no date: the same figure gives the same bytes.
    settings = {"svg.fonttype": "none", "svg.hashsalt": "kinegraph"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    source = data_uri("image/svg+xml", buffer.getvalue())
    return {"source": source, "width": width, "height": height, "title": title}


def data_uri(kind: str, content: bytes) -> str:
    """Return bytes as a data URI of a MIME type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def format_percent(share: float | None) -> str:
    """Format a fraction with one decimal and a non-breaking space."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"
