"""Evaluations that average several inputs of each clip: sampled clips and mirror images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from kinegraph.clips.store import ClipStore
from kinegraph.errors import RecipeError
from kinegraph.inference.evaluate import evaluate_run
from kinegraph.inference.predict import Predictor
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.views import average_views, list_views
from kinegraph.training.checkpoint import BEST_FILE, load_header, load_model, save_checkpoint
from kinegraph.training.recipe import parse_recipe
from kinegraph.transforms import Pipeline
from kinegraph.transforms.registry import View


@pytest.fixture
def sampled_run(tiny_run, tmp_path):
    """Return a function that copies the run with other transforms and keys of the evaluation."""

    def make(transforms, classes=("here", "there", "away"), **keys):
        model, header = load_model(tiny_run)
        recipe = {**header.recipe, "transforms": transforms, **keys}
        header = replace(header, recipe=recipe, transforms=transforms, classes=[*classes])
        folder = tmp_path / "run"
        folder.mkdir()
        save_checkpoint(folder / BEST_FILE, model.state_dict(), header)
        return folder

    return make


SAMPLED = [{"uniform_sample": {"frames": 8}}, "stream"]


def test_class_scores_of_the_sampled_clips_are_averaged(sampled_run, tiny_store):
    run = sampled_run(SAMPLED, test_clips=4)
    recognizer, store = Recognizer.load(run), ClipStore(tiny_store)
    scores = recognizer.score_store(store, range(6), batch_size=4)
    assert scores.labels.tolist() == store.labels[:6].tolist()
    for i in range(6):
        steps = [("uniform_sample", {"frames": 8})]
        views = [Pipeline(steps)(store[i], view=View(n, 4)) for n in range(4)]
        one = Recognizer(recognizer.model, replace(recognizer.header, recipe={}, transforms=[]))
        probabilities = softmax(one.score(views).logits, axis=1).mean(axis=0)
        np.testing.assert_allclose(scores.probabilities[i], probabilities, atol=1e-5)
    single = recognizer.score(store[i] for i in range(6))
    np.testing.assert_allclose(single.logits, scores.logits, rtol=1e-4, atol=1e-5)
    usual = Recognizer(recognizer.model, replace(recognizer.header, recipe={}))
    assert not np.allclose(usual.score_store(store, range(6)).logits, scores.logits)


def test_every_way_in_averages_and_progress_counts_clips(sampled_run, tiny_store):
    run, store, done = sampled_run(SAMPLED, test_clips=3), ClipStore(tiny_store), []
    scores, result = evaluate_run(
        run, batch_size=5, progress=lambda n, total: done.append((n, total))
    )
    assert done == [(5, 12), (10, 12), (12, 12)]
    assert result.clips == 12
    clip = store[store.ids.index(scores.ids[2])]
    answer = Predictor.load(run)(clip)
    np.testing.assert_allclose(answer["logits"], scores.logits[2], rtol=1e-4, atol=1e-5)
    assert sum(c["probability"] for c in answer["top"]) == pytest.approx(1, abs=1e-5)


def test_a_mirrored_view_is_taken_at_the_step_mirror(sampled_run, tiny_store):
    steps = [{"resize": {"frames": 8}}, {"mirror": {"p": 0.0}}, "stream"]
    recognizer = Recognizer.load(sampled_run(steps, test_mirror=True))
    clip = ClipStore(tiny_store)[0]
    assert recognizer.views == (View(0, 1, False), View(0, 1, True))
    own, mirrored = recognizer.batch(clip, recognizer.views).x
    order = list(clip.layout.mirror)
    np.testing.assert_array_equal(mirrored[0], -own[0][:, order])
    np.testing.assert_array_equal(mirrored[1], own[1][:, order])
    both = softmax(recognizer.logits(recognizer.batch(clip, recognizer.views)), axis=1)
    averaged = recognizer.score([clip]).probabilities[0]
    np.testing.assert_allclose(averaged, both.mean(axis=0), atol=1e-5)
    np.testing.assert_array_equal(recognizer.batch(clip).x[0], own)


def test_mirrored_scores_count_for_the_opposite_class():
    logits = np.log(np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]], np.float32))
    views = [View(), View(mirrored=True)]
    swapped = average_views(logits, views, ["swipe left", "swipe right", "clap"])
    np.testing.assert_allclose(np.exp(swapped), [[0.65, 0.25, 0.1]], rtol=1e-5)
    plain = average_views(logits, views, None)
    np.testing.assert_allclose(np.exp(plain), [[0.4, 0.5, 0.1]], rtol=1e-5)
    alone = average_views(logits, views, ["left turn", "walk", "clap"])
    expected = np.array([0.6, 0.5, 0.1])
    np.testing.assert_allclose(np.exp(alone), [expected / expected.sum()], rtol=1e-5)


@pytest.mark.parametrize(
    ("classes", "mirrors"),
    [(("bow", "clap", "wave"), True), (("turn left", "turn right", "clap"), True),
     (("turn left", "clap", "wave"), False), (None, False)],
)  # fmt: skip
def test_auto_mirrors_if_every_mirrored_clip_has_a_class(tiny_run, classes, mirrors):
    header = load_header(tiny_run / BEST_FILE)
    header = replace(header, recipe={"test_mirror": "auto"}, classes=classes and [*classes])
    assert list_views(header) == ((View(), View(mirrored=True)) if mirrors else (None,))


def test_recipes_refuse_what_no_step_can_follow(tiny_recipe):
    with pytest.raises(
        RecipeError, match="'test_clips: 10' needs a step that samples clips: one of"
    ):
        parse_recipe({**tiny_recipe, "test_clips": 10}, "tiny")
    with pytest.raises(RecipeError, match="'test_mirror' needs the step mirror"):
        parse_recipe({**tiny_recipe, "test_mirror": "auto"}, "tiny")
    steps = ["mirror", {"random_frames": {"frames": 8}}]
    recipe = {**tiny_recipe, "transforms": steps, "test_clips": 10, "test_mirror": True}
    assert parse_recipe(recipe, "tiny").test_clips == 10
