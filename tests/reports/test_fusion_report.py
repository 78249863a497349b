"""The report of a fusion: its figure, its table, its words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinegraph.clips.scores import Scores
from kinegraph.inference.evaluate import evaluate
from kinegraph.inference.fuse_runs import FusedRun, Fusion
from kinegraph.inference.fusion import FoundWeights, fuse_scores
from kinegraph.reports.fusion_report import describe_weights, draw_fusion, write_fusion_report

STREAMS = ("joint", "bone")
NARROW = "\N{NO-BREAK SPACE}%"


@pytest.fixture(scope="module")
def fusion() -> Fusion:
    """Two runs, each right in three of four clips, together in all."""
    labels = np.array([0, 1, 0, 1])
    ids = tuple("abcd")
    right = np.eye(2)[labels]
    both = []
    for wrong in (0, 1):
        logits = right.copy()
        logits[wrong] = 0.5 * right[wrong][::-1]
        both.append(Scores(ids, labels, logits.astype(np.float32)))
    fused = fuse_scores(both, [0.6, 0.6])
    return Fusion(
        runs=tuple(
            FusedRun(Path(f"runs/<{s}>"), f"<{s}>", s, 0.6, evaluate(own, "class {}".format))
            for s, own in zip(STREAMS, both, strict=True)
        ),
        scores=fused,
        evaluation=evaluate(fused, "class {}".format),
        weights_from="published",
        found=None,
        store=Path("stores/made.arrow"),
        protocol="holdout",
        split="test",
    )


def test_the_page_shows_every_run_and_all_together(fusion, tmp_path):
    path = write_fusion_report(fusion, tmp_path / "report.html")
    page = path.read_text(encoding="utf-8")
    assert "<h1>Fusion: joint + bone</h1>" in page
    assert "stores/made.arrow, protocol holdout" in page
    rows = page.split('<section id="comparison">')[1].split("</section>")[0].split("<tr")[2:]
    cells = [[cell.split("</td>")[0] for cell in row.split("<td>")[1:]] for row in rows]
    assert [row[:4] for row in cells] == [
        ["&lt;joint&gt;", "joint", "0.6", f"75.0{NARROW}"],
        ["&lt;bone&gt;", "bone", "0.6", f"75.0{NARROW}"],
        ["fused", "", "", f"100.0{NARROW}"],
    ]
    assert cells[0][4] == f"30.1{NARROW} to 95.4{NARROW}"
    assert 'class="total"' in rows[-1]
    assert page.count("<h3>Confusion matrix</h3>") == 1
    assert f"<h2>test: top-1 accuracy 100.0{NARROW} on 4 clips</h2>" in page
    assert '<a href="#comparison">runs</a>' in page


def test_the_figure_has_a_bar_a_run_and_one_for_all(fusion):
    (ax,) = draw_fusion(fusion).axes
    grounds, bars = ax.patches[::2], ax.patches[1::2]
    assert [bar.get_width() for bar in grounds] == [1.0] * 3
    assert [bar.get_width() for bar in bars] == pytest.approx([0.75, 0.75, 1.0])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["joint", "bone", "fused"]
    assert [line.get_xdata()[0] for line in ax.lines] == pytest.approx(
        [0.301, 0.301, 0.510], abs=1e-3
    )
    texts = [text.get_text() for text in ax.texts]
    assert texts.count("weight 0.6") == 2
    assert bars[2].get_facecolor() != bars[0].get_facecolor() == bars[1].get_facecolor()


def test_runs_of_one_stream_are_told_apart_by_their_names(fusion):
    runs = tuple(replace(run, stream="joint") for run in fusion.runs)
    (ax,) = draw_fusion(replace(fusion, runs=runs)).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["<joint>", "<bone>", "fused"]


def test_where_the_weights_come_from_is_told(fusion):
    assert describe_weights(fusion) == "the published ones of Shift-GCN"
    assert describe_weights(replace(fusion, weights_from="equal")) == "equal"
    found = FoundWeights((0.3, 0.7), tuple("efgh"), 0.75, 0.5)
    told = describe_weights(replace(fusion, weights_from="held-out clips", found=found))
    assert told == (
        f"tuned on 4 held-out clips (accuracy there 75.0{NARROW}, with equal weights 50.0{NARROW})"
    )
