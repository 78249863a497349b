"""Batches: the same bits whatever the workers, errors that name the clip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import made_up_clips
from kinegraph.clips.splits import get_split_indices
from kinegraph.clips.store import ClipStore
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import RecipeError, TransformError
from kinegraph.skeleton.joint_mapping import group_joints
from kinegraph.training.batch import Preprocessor, Sample, collate
from kinegraph.training.data import (
    ClipDataset,
    balanced_class_weights,
    create_loader,
    split_training_clips,
)
from kinegraph.training.recipe import parse_recipe
from kinegraph.transforms import Pipeline


def batches(store: ClipStore, recipe, workers: int, epoch: int) -> torch.Tensor:
    """All of an epoch, in order."""
    dataset = ClipDataset(store, range(12), Preprocessor(recipe.pipeline(), 2, True), seed=3)
    made = create_loader(dataset, 4, workers=workers)
    made.sampler.set_epoch(epoch)
    return torch.cat([batch.x for batch in made])


def test_workers_change_nothing_and_epochs_do(tiny_store, tiny_recipe):
    store, recipe = ClipStore(tiny_store), parse_recipe(tiny_recipe, "tiny")
    alone = batches(store, recipe, 0, epoch=1)
    assert alone.shape == (12, 3, 8, 15, 2)
    assert torch.equal(alone, batches(store, recipe, 2, epoch=1))
    assert not torch.equal(alone, batches(store, recipe, 0, epoch=2))


def test_draws_of_a_clip_are_next_to_each_other_and_differ(tiny_store, tiny_recipe):
    store, recipe = ClipStore(tiny_store), parse_recipe(tiny_recipe, "tiny")
    preprocess = Preprocessor(recipe.pipeline(), 1, False)
    single = ClipDataset(store, range(11), preprocess, seed=3)
    dataset = ClipDataset(store, range(11), preprocess, seed=3, views=(None, None))
    loaders = [create_loader(made, 4, workers=0) for made in (single, dataset)]
    alone, paired = ([batch.x for batch in loader] for loader in loaders)
    assert [len(x) for x in paired] == [8, 8, 6]
    for one, two in zip(alone, paired, strict=True):
        assert torch.equal(one, two[::2])
        for first, second in two.unflatten(0, (-1, 2)):
            assert 0 < (first - second).abs().max() < 0.1  # the jitter of the recipe


def test_a_mixing_step_gets_a_clip_of_the_same_class_after_the_steps_before_it(tiny_store):
    store = ClipStore(tiny_store)
    pipeline = Pipeline.from_list([{"resize": {"frames": 8}}, {"mix_parts": {"p": 1}}])
    preprocess = Preprocessor(pipeline, 1, False)
    indices = range(12)
    plain = [Preprocessor(Pipeline.from_list([{"resize": {"frames": 8}}]), 1, False)(store[i])
             for i in indices]  # fmt: skip
    head = store.layout.index("face")
    groups = group_joints(store.layout)
    partners = set()
    for epoch in range(3):
        for i in indices:
            x = ClipDataset(store, indices, preprocess, seed=3)[epoch, i].x
            again = ClipDataset(store, indices, preprocess, seed=3)[epoch, i].x
            np.testing.assert_array_equal(x, again)
            own = np.diff(plain[i].x[:, :, [*groups["trunk"]]], axis=1)
            same = np.allclose(own, np.diff(x[:, :, [*groups["trunk"]]], axis=1), atol=1e-5)
            if not same:  # the trunk is the partner's
                (found,) = [
                    j for j in indices if np.allclose(plain[j].x[:, :, head], x[:, :, head])
                ]
                partners.add((i, found))
    assert partners
    assert all(store.labels[i] == store.labels[j] and i != j for i, j in partners)
    evaluated = ClipDataset(store, indices, preprocess)[0, 3].x
    np.testing.assert_array_equal(evaluated, plain[3].x)


def test_a_class_of_one_clip_is_its_own_partner(tiny_store):
    store = ClipStore(tiny_store)
    preprocess = Preprocessor(Pipeline.from_list([{"mix_parts": {"p": 1}}]), 1, False)
    alone = ClipDataset(store, [0, 1], preprocess, seed=0)[0, 0].x
    np.testing.assert_allclose(alone, preprocess(store[0]).x, atol=1e-6)


def test_splits_hold_out_a_part_of_training_only(tiny_store, tiny_recipe):
    store, recipe = ClipStore(tiny_store), parse_recipe(tiny_recipe, "tiny")
    splits = split_training_clips(recipe, store)
    assert len(splits.train) == 9
    assert len(splits.val) == 3
    assert not set(splits.train) & set(splits.val)
    subjects = [store.metas[int(i)]["subject"] for i in (*splits.train, *splits.val)]
    assert all(subject % 2 == 1 for subject in subjects)
    recipe.validation.fraction = 0
    assert len(split_training_clips(recipe, store).train) == 12


def test_the_test_split_can_select_the_epoch_as_in_released_code(tiny_store, tiny_recipe):
    store = ClipStore(tiny_store)
    tiny_recipe["validation"] = {"split": "test", "fraction": 0}
    splits = split_training_clips(parse_recipe(tiny_recipe, "tiny"), store)
    assert splits.train.tolist() == get_split_indices(store, "odd-even-subjects", "train").tolist()
    assert splits.val.tolist() == get_split_indices(store, "odd-even-subjects", "test").tolist()


def test_a_share_keeps_some_clips_of_every_class_and_all_that_are_held_out(tiny_store, tiny_recipe):
    store, recipe = ClipStore(tiny_store), parse_recipe({**tiny_recipe, "share": 0.3}, "tiny")
    splits = split_training_clips(recipe, store)
    assert sorted(store.labels[splits.train]) == [0, 1, 2]
    assert len(splits.val) == 3
    other = split_training_clips(recipe.model_copy(update={"seed": 5}), store)
    assert set(other.train) != set(splits.train)


def test_clips_of_different_lengths_are_refused_with_the_remedy():
    samples = [Sample(np.zeros((3, t, 5, 1), np.float32), 0, t) for t in (8, 12)]
    with pytest.raises(TransformError, match="8 to 12 frames: add a transform"):
        collate(samples)


def test_a_transform_that_does_not_fit_names_the_clip(tiny_store):
    pipeline = Pipeline.from_list([{"scale": {"by": "torso"}}, "flip_y", "image_normalize"])
    dataset = ClipDataset(ClipStore(tiny_store), [0], Preprocessor(pipeline, 1, False))
    with pytest.raises(TransformError, match="clip 'clip000': "):
        dataset[0, 0]


def test_balanced_weights_give_every_class_the_same_sum():
    labels = np.array([0, 0, 0, 1, 3, 3])
    weights = balanced_class_weights(labels, 5)
    assert weights.tolist() == pytest.approx([2 / 3, 2, 0, 1, 0])
    assert weights[labels].mean() == pytest.approx(1)


def store_of(path, clips) -> ClipStore:
    with StoreWriter(path, clips[0].layout, ("here", "there", "away")) as writer:
        for clip in clips:
            writer.write(clip)
    return ClipStore(path)


def with_splits(clips, names):
    """Clips whose meta states these splits in turn."""
    return [replace(c, meta={"split": names[i % len(names)]}) for i, c in enumerate(clips)]


def official(tiny_recipe, **changes):
    return parse_recipe({**tiny_recipe, "protocol": "official", **changes}, "tiny")


def test_stated_validation_clips_select_the_epoch(tmp_path, tiny_recipe):
    clips = with_splits(made_up_clips(), ["train", "train", "val", "test", "train"])
    store, recipe = store_of(tmp_path / "s.arrow", clips), official(tiny_recipe)
    splits = split_training_clips(recipe, store)
    assert {store.metas[i]["split"] for i in splits.train} == {"train"}
    assert len(splits.train) == 14
    assert {store.metas[i]["split"] for i in splits.val} == {"val"}
    test = get_split_indices(store, "official", "test")
    assert {store.metas[i]["split"] for i in test} == {"test"}
    none = official(tiny_recipe, validation={"fraction": 0})
    assert len(split_training_clips(none, store).val) == 0


def test_validation_clips_are_test_clips_if_there_are_no_others(tmp_path, tiny_recipe):
    store = store_of(tmp_path / "s.arrow", with_splits(made_up_clips(), ["train", "val"]))
    splits = split_training_clips(official(tiny_recipe), store)
    assert {store.metas[i]["split"] for i in (*splits.train, *splits.val)} == {"train"}
    assert len(splits.val) == 3


def test_clips_without_a_label_are_left_out(tmp_path, tiny_recipe):
    clips = with_splits(made_up_clips(), ["train", "test"])
    clips = [replace(clip, label=None) if i % 3 == 0 else clip for i, clip in enumerate(clips)]
    store, recipe = store_of(tmp_path / "s.arrow", clips), official(tiny_recipe)
    splits = split_training_clips(recipe, store)
    assert splits.unlabeled == 4
    assert (store.labels[[*splits.train, *splits.val]] >= 0).all()
    none = store_of(tmp_path / "none.arrow", [replace(clip, label=None) for clip in clips])
    with pytest.raises(RecipeError, match="no training clip has a label"):
        split_training_clips(recipe, none)


def test_resampling_needs_the_rate_of_all_clips_or_of_none(tmp_path, tiny_recipe):
    clips = with_splits(made_up_clips(), ["train", "test"])
    recipe = official(tiny_recipe, transforms=["resample", {"resize": {"frames": 8}}])
    unknown = [replace(clip, fps=None) for clip in clips]
    for number, same in enumerate((clips, unknown)):
        assert split_training_clips(recipe, store_of(tmp_path / f"{number}.arrow", same))
    store = store_of(tmp_path / "mixed.arrow", [*clips[:5], *unknown[5:]])
    with pytest.raises(RecipeError, match=r"9 of 12 training clips state none: .* --fps"):
        split_training_clips(recipe, store)
