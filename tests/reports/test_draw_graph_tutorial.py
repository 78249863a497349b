"""The step-by-step picture states what the graph really holds, for any layout and strategy."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from kinegraph.cli import main
from kinegraph.errors import ModelError, UnknownNameError
from kinegraph.reports.draw_graph_tutorial import draw_graph_tutorial, step_boxes
from kinegraph.skeleton import (
    LAYOUTS,
    SkeletonLayout,
    adjacency,
    hop_distance,
    normalized_adjacency,
)


@cache
def tutorial(layout: str, **options: object) -> Figure:
    """Draw each picture once for all tests that read it."""
    return draw_graph_tutorial(layout, **options)  # type: ignore[arg-type]


def words(figure: Figure) -> str:
    """All that stands beside the steps, on one line."""
    return " ".join(" ".join(text.get_text().split()) for text in figure.texts)


def matrices(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.images]


def bodies(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if not ax.images]


def arrows(ax: Axes) -> int:
    return sum(isinstance(patch, FancyArrowPatch) for patch in ax.patches)


def labels(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def test_the_steps_of_ntu25_in_their_order() -> None:
    ntu = tutorial("ntu25")
    texts = [" ".join(t.get_text().split("\n")) for t in ntu.texts]
    titles = [
        text.replace("self- links", "self-links") for text in texts if re.match(r"\d  ", text)
    ]
    assert titles == [
        "1  Skeleton",
        "2  Adjacency matrix with self-links",
        "3  Hop distance",
        "4  Normalized adjacency",
        "5  Partition 1 of 3: root",
        "6  Partition 2 of 3: close 1",
        "7  Partition 3 of 3: further 1",
        "8  Sum of the partitions",
    ]
    assert "73 in all" in words(ntu)
    assert "24 of the 73 entries" in words(ntu)
    assert (len(bodies(ntu)), len(matrices(ntu))) == (8, 7)


def test_the_matrices_are_those_of_the_graph() -> None:
    linked, hops, whole, *parts, _ = matrices(tutorial("penn13", strategy="distance"))
    distance = hop_distance("penn13")
    assert np.array_equal(linked.images[0].get_array(), distance <= 1)
    assert np.array_equal(hops.images[0].get_array(), distance)
    assert np.array_equal(whole.images[0].get_array(), normalized_adjacency("penn13"))
    drawn = [ax.images[0].get_array() for ax in parts]
    assert np.array_equal(drawn, adjacency("penn13", strategy="distance"))


def test_rows_and_columns_carry_the_names() -> None:
    layout = LAYOUTS["penn13"]
    for ax in matrices(tutorial("penn13", strategy="uniform")):
        assert labels(ax) == [f"{name}  {joint}" for joint, name in enumerate(layout.joints)]
        assert [label.get_text() for label in ax.get_xticklabels()] == labels(ax)


def test_values_stand_in_their_cells() -> None:
    whole = matrices(tutorial("ntu25"))[2]
    cells = {t.get_position(): t.get_text() for t in whole.texts if t.get_text()[0] in ".1"}
    weights = normalized_adjacency("ntu25")
    assert len(cells) == np.count_nonzero(weights)
    assert cells[20, 1] == ".20"
    assert cells[3, 2] == ".50"


def test_every_entry_off_the_diagonal_is_an_arrow_from_its_source() -> None:
    _, linked, _, _, root, close, further, total = bodies(tutorial("penn13", strategy="spatial"))
    assert [arrows(ax) for ax in (linked, root, close, further, total)] == [24, 0, 12, 12, 24]


def test_the_body_shows_hops_to_the_center_and_degrees() -> None:
    layout = LAYOUTS["penn13"]
    _, _, hops, degrees, *_ = bodies(tutorial("penn13", strategy="spatial"))
    numbers = [int(t.get_text()) for t in hops.texts]
    assert numbers == hop_distance(layout)[layout.center].tolist()
    counted = [int(t.get_text()) for t in degrees.texts]
    assert counted == (hop_distance(layout) <= 1).sum(axis=0).tolist()


@pytest.mark.parametrize("strategy", ["uniform", "distance", "spatial"])
def test_partitions_that_sum_are_said_to(strategy: str) -> None:
    said = words(tutorial("penn13", strategy=strategy))
    assert "the normalized adjacency of step 4: largest difference 0." in said


def test_the_difference_of_agcn_is_computed_and_explained() -> None:
    total = adjacency("penn13", strategy="agcn").sum(axis=0)
    difference = np.abs(total - normalized_adjacency("penn13")).max()
    said = words(tutorial("penn13", strategy="agcn"))
    assert difference > 0.1
    assert "do not sum to the normalized adjacency of step 4: largest difference" in said
    assert f"largest difference {difference:.2g}" in said
    assert "divided by its own column sums" in said
    assert f"reach {total.sum(axis=0).max():.3g} instead of 1" in said


def test_the_identity_is_not_taken_for_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    from kinegraph.reports import draw_graph_tutorial as module

    def halved(*args: object, **options: object) -> np.ndarray:
        return adjacency(*args, **options) / 2  # type: ignore[arg-type]

    monkeypatch.setattr(module, "adjacency", halved)
    assert "do not sum to" in words(draw_graph_tutorial("penn13"))


def test_truncated_distances_are_said_to_be() -> None:
    said = words(tutorial("penn13", center_distance="truncated"))
    assert "joints beyond 1 bone count as equally far" in said
    pairs = np.count_nonzero(hop_distance("penn13") > 1)
    assert f"{pairs} pairs are infinitely far apart" in said
    assert "the normalized adjacency of step 5" in said
    counts = np.count_nonzero(adjacency("penn13", center_distance="truncated"), axis=(1, 2))
    assert counts[1] != counts[2]
    assert all(f"{count} of the {counts.sum()} entries" in said for count in counts)


def test_infinite_distances_stand_in_their_cells() -> None:
    figure = tutorial("penn13", center_distance="truncated")
    hops, center = hop_distance("penn13"), LAYOUTS["penn13"].center
    numbers = [text.get_text() for text in bodies(figure)[3].texts]
    assert numbers == [str(hop) if hop <= 1 else "∞" for hop in hops[center]]
    cells = [text.get_text() for text in matrices(figure)[2].texts]
    assert cells.count("∞") == np.count_nonzero(hops > 1)


def test_the_parts_of_the_steps_cover_their_titles_and_axes() -> None:
    figure = tutorial("penn13", strategy="spatial")
    boxes = step_boxes(figure)
    height = figure.get_figheight()
    titles = [t for t in figure.texts if re.match(r"\d  ", t.get_text())]
    assert len(boxes) == len(titles) == 8
    for box, title, body in zip(boxes, titles, bodies(figure), strict=True):
        assert box.y0 < title.get_position()[1] * height < box.y1
        assert box.y0 <= body.get_position().y0 * height
        assert body.get_position().y1 * height <= box.y1


@pytest.mark.parametrize("name", ["hand21", "penn13"])
def test_texts_do_not_overlap(name: str) -> None:
    figure = tutorial(name, strategy="agcn")
    beside = [text.get_window_extent() for text in figure.texts]
    assert [1 for i, a in enumerate(beside) for b in beside[:i] if a.overlaps(b)] == []
    matrix = matrices(figure)[0]
    names = matrix.yaxis.get_tightbbox()
    assert names.x0 > max(box.x1 for box in beside[1:])
    corner = next(t for t in matrix.texts if t.get_text().startswith("row"))
    assert not corner.get_window_extent().overlaps(names)


def test_a_single_joint_is_drawn() -> None:
    dot = SkeletonLayout("dot", ("a $x$",), (), 0)
    draw_graph_tutorial(dot, strategy="uniform").draw_without_rendering()


def test_mistakes_are_those_of_the_graph() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'ntu25'"):
        draw_graph_tutorial("ntu-25")
    with pytest.raises(ModelError, match="max_hop"):
        draw_graph_tutorial("ntu25", max_hop=0)


def test_the_command_draws_one_tall_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, layout = tmp_path / "steps.png", tmp_path / "stick.yaml"
    layout.write_text("{name: stick, joints: [a, b, c], bones: [[0, 1], [2, 1]], center: 1}")
    with pytest.raises(SystemExit) as end:
        main(["draw", "graph", str(layout), "--steps", "--strategy", "agcn", "--out", str(path)])
    assert not end.value.code
    assert path.name in capsys.readouterr().out.replace("\n", "")
    from PIL import Image

    with Image.open(path) as picture:
        assert picture.height > 2 * picture.width
