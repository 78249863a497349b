"""Properties of every registered transform."""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.skeleton.layouts import get_layout
from kinegraph.transforms import TRANSFORMS, Pipeline, check_steps

NAMES = sorted(TRANSFORMS)
FLAT_ONLY = {"kinetics_normalize", "prenormalize_pyskl_2d", "crop_view"}
FIXED_LENGTH = {
    "uniform_sample", "random_frames", "crop_resize", "crop_sample", "resize", "repeat_pad",
    "zero_pad", "random_choose", "auto_pad",
}  # fmt: skip
SAMPLERS = FIXED_LENGTH | {
    "random_shift", "downsample", "reduce_frame", "trim", "drop_empty_frames", "random_crop",
    "random_speed", "random_window", "resample",
}  # fmt: skip
AUGMENTATIONS = {
    "random_move", "random_rotate", "random_view", "random_scale", "random_shear", "jitter",
    "joint_dropout", "joint_gaps", "person_swap", "mirror", "swap_sides", "random_shift",
    "random_crop", "random_speed", "random_window", "mix_parts", "drop_joints", "drop_axis",
    "drop_person", "pose_noise", "crop_view", "take_bone_lengths", "skateformer_augment",
}  # fmt: skip
HIDE_OR_CHOOSE = {
    "persons", "mask_confidence", "forget_confidence", "joint_dropout", "joint_gaps",
    "kinetics_normalize", "prenormalize_pyskl_2d", "drop_joints", "drop_person", "crop_view",
}  # fmt: skip
CHANGES_LAYOUT = {"layout", "join_persons"}
FILLS = {"fill_missing", "hold_missing", "zero_missing"}


def clip_for(name: str, seed: int = 0) -> Clip:
    """Return two persons with gaps: single joints, frames at both ends, frames of one person."""
    draw = np.random.default_rng(seed)
    layout = get_layout("body25" if name in FLAT_ONLY or name == "skeleton_norm" else "ntu25")
    shape = (2, 20, layout.num_joints, 2 if name in FLAT_ONLY else 3)
    joints = draw.normal(size=shape).astype(np.float32) + 2
    joints[draw.random(shape[:3]) < 0.2] = np.nan
    joints[:, [0, 1, 18, 19]] = np.nan
    joints[1, 5:9] = np.nan
    confidence = draw.uniform(0.2, 1, shape[:3]).astype(np.float32)
    meta = {"width": 640, "height": 480}
    return Clip(joints, layout, confidence=confidence, label=4, id="c", fps=30.0, meta=meta)


def test_the_registry_is_whole() -> None:
    assert len(NAMES) == 61
    assert set(NAMES) >= (SAMPLERS | AUGMENTATIONS | FLAT_ONLY | HIDE_OR_CHOOSE)


@pytest.mark.parametrize("name", NAMES)
def test_is_a_documented_function_with_defaults(name: str) -> None:
    function = TRANSFORMS[name]
    assert function.__name__ == name
    assert inspect.getdoc(function)
    clip, *options = inspect.signature(function).parameters.values()
    assert clip.name == "clip"
    if options and options[0].name == "rng":
        rng = options.pop(0)
        assert rng.default is (rng.empty if function.random else None)
    else:
        assert not function.random
    for name, is_used in (("partner", function.uses_partner), ("view", function.uses_view)):
        if is_used:
            assert options.pop(0).name == name
    assert all(o.kind is o.KEYWORD_ONLY and o.default is not o.empty for o in options)
    assert function.find_errors({o.name: o.default for o in options}) == []
    assert list(function.options) == [o.name for o in options]


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("name", NAMES)
def test_never_changes_its_input_and_keeps_what_the_clip_is(name: str, seed: int | None) -> None:
    clip = clip_for(name)
    rng = None if seed is None else np.random.default_rng(seed)
    made = TRANSFORMS[name](clip, rng)
    again = clip_for(name)
    np.testing.assert_array_equal(clip.joints, again.joints)
    np.testing.assert_array_equal(clip.confidence, again.confidence)
    assert (made.label, made.id, made.fps) == (4, "c", 30.0)
    assert (made.layout == clip.layout) == (name not in CHANGES_LAYOUT)
    assert dict(made.meta) == dict(clip.meta)
    assert made.joints.dtype == np.float32
    assert made.confidence is not None
    assert made.confidence.shape == made.joints.shape[:3]


@pytest.mark.parametrize(
    "name",
    sorted(
        set(NAMES)
        - SAMPLERS
        - CHANGES_LAYOUT
        - {
            "fill_missing",
            "frame_index",
            "hold_missing",
            "persons",
            "skateformer_augment",
            "zero_missing",
            "prenormalize_pyskl",
        }
    ),
)
def test_absent_stays_absent(name: str) -> None:
    for seed in range(4):
        clip = clip_for(name, seed)
        seen = TRANSFORMS[name](clip, np.random.default_rng(seed)).valid
        if name in ("mirror", "swap_sides"):
            assert sorted(seen.sum(axis=(1, 2))) == sorted(clip.valid.sum(axis=(1, 2)))
        elif name == "person_swap":
            assert seen.sum() == clip.valid.sum()
        elif name in HIDE_OR_CHOOSE:
            assert not (seen & ~clip.valid).any()
        else:
            np.testing.assert_array_equal(seen, clip.valid)


@pytest.mark.parametrize(
    "name", sorted(SAMPLERS - {"crop_resize", "crop_sample", "resize", "random_speed"})
)
def test_samplers_only_choose_frames(name: str) -> None:
    clip = clip_for(name)
    rows = {person[t].tobytes() for person in clip.joints for t in range(clip.num_frames)}
    rows.add(np.full_like(clip.joints[0, 0], np.nan).tobytes())
    for rng in (None, np.random.default_rng(1)):
        made = TRANSFORMS[name](clip, rng)
        assert {p[t].tobytes() for p in made.joints for t in range(made.num_frames)} <= rows


@pytest.mark.parametrize("name", sorted(FIXED_LENGTH))
@pytest.mark.parametrize("frames", [1, 7, 20, 33])
def test_fixed_samplers_give_the_frames_they_are_asked_for(name: str, frames: int) -> None:
    lengths = (1, 2, 20)
    for length in lengths:
        whole = clip_for(name)
        confidence = whole.confidence[:, 2 : 2 + length]
        clip = whole.with_joints(whole.joints[:, 2 : 2 + length], confidence)
        for rng in (None, np.random.default_rng(length)):
            assert TRANSFORMS[name](clip, rng, frames=frames).num_frames == frames
    with pytest.raises(TransformError, match=f"transform '{name}': frames must be .* got 0"):
        TRANSFORMS[name](clip_for(name), None, frames=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_rng_gives_the_same_bits_and_none_is_evaluation(name: str) -> None:
    clip = clip_for(name)
    first, second = (TRANSFORMS[name](clip, np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(first.joints, second.joints)
    fixed = [TRANSFORMS[name](clip, None).joints for _ in range(2)]
    np.testing.assert_array_equal(*fixed)
    if name in AUGMENTATIONS:
        assert TRANSFORMS[name](clip, None) is clip
        partner = [lambda: clip_for(name, 1)] if TRANSFORMS[name].uses_partner else []
        draws = map(np.random.default_rng, range(8))
        drawn = [TRANSFORMS[name](clip, draw, *partner).joints for draw in draws]
        assert any(d.tobytes() != clip.joints.tobytes() for d in drawn)


def frames_of(clip: Clip, start: int, stop: int) -> Clip:
    return clip.with_joints(clip.joints[:, start:stop], clip.confidence[:, start:stop])


def test_which_transforms_are_random_and_which_only_pad() -> None:
    assert {name for name in NAMES if TRANSFORMS[name].random} == AUGMENTATIONS
    pads = {name for name in NAMES if TRANSFORMS[name].pads}
    assert pads == {"zero_pad", "repeat_pad", "random_choose", "auto_pad"} < FIXED_LENGTH


SCOPED = [name for name in NAMES if TRANSFORMS[name].scope != "clip"]


@pytest.mark.parametrize("name", SCOPED)
def test_no_later_frame_matters_within_the_scope(name: str) -> None:
    clip = clip_for(name)
    if name in ("center", "prenormalize"):  # these bridge gaps from both sides
        joints = np.random.default_rng(0).normal(size=clip.joints.shape).astype(np.float32)
        clip = clip.with_joints(joints)
    whole = TRANSFORMS[name](clip)
    for t in range(4, clip.num_frames):  # the first joints are seen by then
        before = 0 if TRANSFORMS[name].scope == "history" else t
        last = TRANSFORMS[name](frames_of(clip, before, t + 1))
        np.testing.assert_array_equal(last.joints[:, -1], whole.joints[:, t])
        np.testing.assert_array_equal(last.confidence[:, -1], whole.confidence[:, t])


@pytest.mark.parametrize("name", [name for name in NAMES if TRANSFORMS[name].per_person])
def test_no_other_person_matters_per_person(name: str) -> None:
    clip = clip_for(name)
    whole = TRANSFORMS[name](clip)
    for m in range(clip.num_persons):
        alone = TRANSFORMS[name](clip.with_joints(clip.joints[[m]], clip.confidence[[m]]))
        np.testing.assert_array_equal(alone.joints[0], whole.joints[m])
        np.testing.assert_array_equal(alone.confidence[0], whole.confidence[m])


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_evaluation_leaves_random_steps_out(name: str) -> None:
    pipeline = Pipeline([(name, {}), ("center", {})])
    assert pipeline.for_evaluation().to_list() == ["center"]
    assert pipeline.whole_clip_steps() == []


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_and_a_one_frame_clip_pass(name: str) -> None:
    whole = clip_for(name)
    nobody = whole.with_joints(np.full_like(whole.joints, np.nan))
    single = whole.with_joints(whole.joints[:1, 2:3], whole.confidence[:1, 2:3])
    for clip in (nobody, single)[: 1 if TRANSFORMS[name].joins_persons else 2]:
        for rng in (None, np.random.default_rng(0)):
            made = TRANSFORMS[name](clip, rng)
            assert made.num_frames >= 1
            assert not made.valid.any() or clip is single or name == "zero_missing"


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused_in_calls_and_in_recipes(name: str) -> None:
    with pytest.raises(TransformError, match=f"transform '{name}': unknown option 'colour'"):
        TRANSFORMS[name](clip_for(name), None, colour=1)
    (mistake,) = check_steps([(name, {"colour": 1})])
    assert mistake.startswith(f"step 1 ({name}): unknown option 'colour'")


@pytest.mark.parametrize("name", NAMES)
def test_transforms_and_their_pipelines_pickle(name: str) -> None:
    assert pickle.loads(pickle.dumps(TRANSFORMS[name])) is TRANSFORMS[name]
    pipeline = Pipeline([(name, {})])
    assert pickle.loads(pickle.dumps(pipeline)).to_list() == [name]
