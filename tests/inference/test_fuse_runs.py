"""Fusing runs: which go together, which weights they get, and on which clips those are found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from altered_run import altered_run
from conftest import made_up_clips
from kinegraph.clips.store import ClipStore
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import CheckpointError, RecipeError
from kinegraph.inference.evaluate import evaluate_run
from kinegraph.inference.fuse_runs import fuse_runs, run_names
from kinegraph.inference.trained_model import ProgressCallback


@pytest.fixture
def bone(tmp_path: Path, tiny_run: Path) -> Path:
    """A run of the bone stream with weights a little beside those of ``tiny_run``."""
    return altered_run(tiny_run, tmp_path / "bone", noise=0.3, stream="bone")


def test_published_weights_fuse_the_runs_own_scores(tiny_run, bone):
    fusion = fuse_runs([tiny_run, bone])
    (one, first), (other, _) = evaluate_run(tiny_run), evaluate_run(bone)
    np.testing.assert_allclose(
        fusion.scores.logits, 0.6 * one.logits + 0.6 * other.logits, rtol=1e-5, atol=1e-5
    )
    assert fusion.weights_from == "published"
    assert [run.stream for run in fusion.runs] == ["joint", "bone"]
    assert [run.name for run in fusion.runs] == ["tiny", "bone"]
    assert fusion.runs[0].evaluation.top1 == first.top1
    assert fusion.evaluation.clips == 12
    assert fusion.evaluation.per_class[0].name == "here"


def test_streams_without_published_weights_count_alike(tmp_path, tiny_run):
    both = altered_run(tiny_run, tmp_path / "both", stream="joint+bone", in_channels=4)
    fusion = fuse_runs([tiny_run, both])
    assert fusion.weights_from == "equal"
    assert [run.weight for run in fusion.runs] == [0.5, 0.5]
    assert fusion.runs[1].to_dict().keys() == {"run", "stream", "weight", "top1", "top5"}


def test_given_weights_are_taken_as_they_are(tiny_run, bone):
    fusion = fuse_runs([tiny_run, bone], weights=[2, 0])
    scores, _ = evaluate_run(tiny_run)
    np.testing.assert_allclose(fusion.scores.logits, 2 * scores.logits, rtol=1e-5)
    assert fusion.weights_from == "given"
    with pytest.raises(RecipeError, match="not both"):
        fuse_runs([tiny_run, bone], weights=[1, 1], search=True)
    with pytest.raises(RecipeError, match="a weight for each of 2 runs, got 3"):
        fuse_runs([tiny_run, bone], weights=[1, 1, 1])


def test_weights_are_found_on_held_out_training_clips_alone(tiny_run, bone, tiny_store):
    fusion = fuse_runs([tiny_run, bone], search=True)
    found = fusion.found
    assert found is not None
    held_out, _ = evaluate_run(tiny_run, split="val")
    assert set(found.ids) == set(held_out.ids)
    assert not set(found.ids) & set(fusion.scores.ids)
    assert fusion.weights_from == "held-out clips"
    assert [run.weight for run in fusion.runs] == list(found.weights)
    told = fusion.to_dict()
    assert told["held_out"]["clips"] == len(held_out.ids) == 3
    assert told["held_out"]["accuracy"] >= told["held_out"]["equal_accuracy"]
    again = fuse_runs([tiny_run, bone], search=True, store=ClipStore(tiny_store))
    assert again.found == found


@pytest.mark.parametrize("split", ["train", "all", "val"])
def test_found_weights_are_not_praised_on_the_clips_they_were_found_on(tiny_run, bone, split):
    with pytest.raises(CheckpointError, match=r"searched on 3 of the .* would be too high"):
        fuse_runs([tiny_run, bone], search=True, split=split)
    assert fuse_runs([tiny_run, bone], split=split).evaluation.clips in (12, 24, 3)


def test_a_run_that_held_out_nothing_has_no_weights_to_find(tmp_path, tiny_run):
    nothing = {"fraction": 0, "by": None, "seed": 0}
    other = altered_run(tiny_run, tmp_path / "whole", recipe={"validation": nothing})
    with pytest.raises(CheckpointError, match=r"whole held out no .*validation\.fraction=0\.1"):
        fuse_runs([tiny_run, other], search=True)
    assert fuse_runs([tiny_run, other]).weights_from == "published"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fraction": 0.5}, r"validation\.fraction is 0\.25 and 0\.5"),
        ({"seed": 3}, r"validation\.seed is 0 and 3"),
        ({"by": "subject"}, r"validation\.by is None and 'subject'"),
    ],
)
def test_runs_that_held_out_different_clips_are_not_searched(tmp_path, tiny_run, change, told):
    part = {"fraction": 0.25, "by": None, "seed": 0} | change
    other = altered_run(tiny_run, tmp_path / "other", recipe={"validation": part})
    with pytest.raises(CheckpointError, match=told):
        fuse_runs([tiny_run, other], search=True)


def test_another_store_has_no_clips_that_the_runs_held_out(tmp_path, tiny_run, bone):
    path = tmp_path / "other.arrow"
    clips = made_up_clips(per_class=12)
    provenance = {"reader": "arrays", "options": {}}
    with StoreWriter(path, clips[0].layout, ("here", "there", "away"), provenance) as writer:
        for clip in clips:
            writer.write(clip)
    with pytest.raises(CheckpointError, match=r"held out 3 clips .* this store gives \d"):
        fuse_runs([tiny_run, bone], search=True, store=ClipStore(path))
    fusion = fuse_runs([tiny_run, bone], store=ClipStore(path))
    assert (fusion.evaluation.clips, fusion.store) == (18, path)


def test_runs_of_other_classes_are_told_apart(tmp_path, tiny_run):
    named = altered_run(tiny_run, tmp_path / "named", classes=["here", "gone", "away"])
    with pytest.raises(CheckpointError, match=r"tiny and .*named .*label 1 is 'there' and 'gone'"):
        fuse_runs([tiny_run, named])


def test_runs_of_another_number_of_classes_are_told_apart(tmp_path, tiny_run):
    more = altered_run(tiny_run, tmp_path / "more", num_classes=4, classes=None)
    with pytest.raises(CheckpointError, match="differ in their classes: 3 and 4 of them"):
        fuse_runs([tiny_run, more])


def test_a_run_that_names_no_actions_is_told_apart(tmp_path, tiny_run):
    poses = altered_run(tiny_run, tmp_path / "poses", objective={"name": "reverse"})
    with pytest.raises(CheckpointError, match=r"poses does not name actions, .*'reverse'"):
        fuse_runs([tiny_run, poses])


def test_another_protocol_or_store_must_be_asked_for(tmp_path, tiny_run, tiny_store):
    other = altered_run(
        tiny_run, tmp_path / "other", recipe={"protocol": "holdout", "store": "gone.arrow"}
    )
    with pytest.raises(CheckpointError, match="'odd-even-subjects' and 'holdout': give --protocol"):
        fuse_runs([tiny_run, other])
    with pytest.raises(CheckpointError, match=r"tiny\.arrow' and .*gone\.arrow': give --store"):
        fuse_runs([tiny_run, other], protocol="odd-even-subjects")
    store = ClipStore(tiny_store)
    fusion = fuse_runs([tiny_run, other], protocol="odd-even-subjects", store=store)
    assert fusion.protocol == "odd-even-subjects"
    assert fusion.evaluation.clips == 12


def test_a_store_is_the_same_by_another_path(tmp_path, tiny_run, tiny_store):
    roundabout = tiny_store.parent / ".." / tiny_store.parent.name / tiny_store.name
    other = altered_run(tiny_run, tmp_path / "other", recipe={"store": str(roundabout)})
    assert fuse_runs([tiny_run, other]).evaluation.clips == 12


def test_a_run_is_not_fused_with_itself(tiny_run):
    for again in (tiny_run, tiny_run / "best.safetensors", tiny_run.parent / "." / "tiny"):
        with pytest.raises(CheckpointError, match="is given twice"):
            fuse_runs([tiny_run, again])
    with pytest.raises(CheckpointError, match="two runs or more to fuse, got 1"):
        fuse_runs([tiny_run])


def test_checkpoints_of_one_folder_are_named_by_their_paths(tiny_run):
    files = [tiny_run / "best.safetensors", tiny_run / "last.safetensors"]
    assert run_names(files) == [str(file) for file in files]
    assert run_names([files[0], Path("runs/bone")]) == ["tiny", "bone"]


def test_every_scoring_has_its_bar(tiny_run, bone):
    titles = []

    @contextmanager
    def bar(title: str) -> Iterator[ProgressCallback]:
        done = []
        yield lambda *counts: done.append(counts)
        titles.append((title, done[-1]))

    fuse_runs([tiny_run, bone], search=True, progress=bar)
    assert titles == [
        ("tiny: held-out clips", (3, 3)),
        ("bone: held-out clips", (3, 3)),
        ("tiny: test", (12, 12)),
        ("bone: test", (12, 12)),
    ]
