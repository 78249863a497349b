"""SkateFormer: the released network's answers, the equations, invariances, absent persons."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kinegraph.errors import KinegraphError, ModelError, RecipeError
from kinegraph.models import create_model
from kinegraph.models.published_weights import load_renamed
from kinegraph.models.skateformer import SkateFormer, token_parts
from kinegraph.models.skateformer_layers import PersonGroup
from kinegraph.skeleton.layouts import get_layout, list_layouts
from kinegraph.training.recipe import load_recipe
from models.reference_weights import (
    fill,
    published_keys,
    published_state,
    reference_answer,
    reference_input,
)

UCLA: dict[str, Any] = {"layout": "kinect20", "num_classes": 10, "persons": 1, "mlp_ratio": 1}
NTU: dict[str, Any] = {"layout": "ntu25", "num_classes": 60, "persons": 2}


def released(options: dict[str, Any]) -> SkateFormer:
    """Return the faithful network in float64, its weights by formula."""
    model = create_model("skateformer", faithful=True, frame_index=True, in_channels=4, **options)
    assert isinstance(model, SkateFormer)
    state = fill(published_state(model, "skateformer"))
    load_renamed(model.double(), state, "skateformer")
    return model.eval()


def released_clips(model: SkateFormer) -> Tensor:
    """Return the reference input, tokens at their joints, with the reference frame index."""
    V, M = len(model.joint_of_token), model.persons
    clips = torch.zeros(2, 4, 64, model.layout.num_joints, M, dtype=torch.float64)
    clips[:, :3, :, model.joint_of_token] = reference_input((2, 3, 64, V, M))
    t = torch.arange(64) / 64
    clips[:, 3] = (2 * torch.stack([t, t.sqrt()]) - 1)[:, :, None, None]
    return clips


def test_the_released_network_on_nw_ucla():
    model = released(UCLA)
    with torch.inference_mode():
        logits = model(released_clips(model))[0, :3]
    expected = torch.tensor([-0.988800, -0.182892, 0.185216], dtype=torch.float64)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)


def test_the_released_network_on_ntu():
    model = released(NTU)
    with torch.inference_mode():
        logits = model(released_clips(model)[:1])[0, :3]
    expected = torch.tensor([0.073154, -0.295408, -0.291007], dtype=torch.float64)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("ucla", UCLA),
        pytest.param("ntu60", NTU, marks=pytest.mark.slow),
        pytest.param("ntu120", {**NTU, "num_classes": 120}, marks=pytest.mark.slow),
    ],
)
def test_the_recorded_answers_of_the_released_network(case, options):
    answer = reference_answer("skateformer", case)
    model = released(options)
    assert sum(p.numel() for p in model.parameters()) == answer["params"]
    clips = released_clips(model).requires_grad_()
    logits = model(clips)
    expected = torch.tensor(answer["logits"], dtype=torch.float64)
    assert (logits - expected).abs().max() < 1e-6 * answer["logit_scale"]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
    assert float(loss.detach()) == pytest.approx(answer["loss"], rel=1e-6)
    loss.backward()
    gradients = torch.stack([p.grad.norm() for p in model.parameters()])
    assert float(gradients.norm()) == pytest.approx(answer["grad_norm_params"], rel=1e-6)
    assert float(clips.grad[:, :3].norm()) == pytest.approx(answer["grad_norm_input"], rel=1e-6)


@pytest.mark.parametrize(("case", "options"), [("ntu60", NTU), ("ucla", UCLA)])
def test_the_keys_of_the_released_network(case, options):
    model = SkateFormer(**options, faithful=True)
    ours = {**published_state(model, "skateformer"), **model.released_constants()}
    shapes = {name: tuple(value.shape) for name, value in ours.items()}
    theirs = published_keys(f"skateformer_{case}")
    stems = {name: shape[:2] for name, shape in theirs.items() if name.startswith("stem")}
    matrices = {name: shape for name, shape in stems.items() if name.endswith("weight")}
    assert shapes == {**theirs, **matrices}


def small(**options: Any) -> SkateFormer:
    """Return a small network in float64, off its start."""
    torch.manual_seed(0)
    sizes = {"channels": (16, 32), "strides": (1, 2), "depth": 1}
    model = SkateFormer("kinect20", 5, **{**sizes, **options}).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model.eval()


def some_clips(frames: int) -> Tensor:
    """Return clips of both persons, of the first only, of the second only, of nobody."""
    x = torch.randn(4, 3, frames, 20, 2, generator=torch.Generator().manual_seed(0)).double()
    x[1, ..., 1] = x[2, ..., 0] = x[3] = 0
    return x


@pytest.mark.parametrize("relative_position", ["released", "fixed"])
@pytest.mark.parametrize("frames", [32, 19, 3, 1])
def test_blocks_and_groups_are_a_mask_over_all_tokens(frames, relative_position, monkeypatch):
    model, x = small(relative_position=relative_position), some_clips(frames)
    with torch.inference_mode():
        logits = model(x)
        monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
        torch.testing.assert_close(model(x), logits)


def test_absent_persons_take_no_part():
    model, x = small(), some_clips(16)
    with torch.inference_mode():
        logits = model(x)
        model.joint_embedding[:, 20:] += 1
        again = model(x)
    assert torch.equal(again[1], logits[1])
    assert not torch.allclose(again[0], logits[0])
    assert not torch.allclose(again[2], logits[2])


def test_released_persons_are_counted_where_they_are_absent():
    model, x = small(faithful=True), some_clips(16)
    with torch.inference_mode():
        logits = model(x)
        model.joint_embedding[:, 20:] += 1
        assert not torch.allclose(model(x)[1], logits[1])


def test_persons_that_are_swapped_change_the_answer():
    model, x = small(), some_clips(16)
    with torch.inference_mode():
        assert not torch.allclose(model(x)[0], model(x.flip(4))[0])


def test_the_frame_index_is_read_from_the_persons_who_are_present():
    model, x = small(frame_index=True, in_channels=4), some_clips(16)
    plain = small()
    plain.load_state_dict(model.state_dict())
    index = (torch.arange(16) / 8 - 1)[:, None, None]
    present = (x != 0).any(dim=1, keepdim=True)
    present[:, :, :, 3:] = False
    with torch.inference_mode():
        same = model(torch.cat([x, present * index], dim=1))[:3]
        torch.testing.assert_close(same, plain(x)[:3])
        other = model(torch.cat([x, present * index * 0.5], dim=1))[:3]
        assert ((other - same).abs().amax(dim=1) > 1e-4).all()


def test_released_relative_positions_differ_from_fixed_ones():
    released, fixed = small(relative_position="released"), small(relative_position="fixed")
    fixed.load_state_dict(released.state_dict())
    with torch.inference_mode():
        assert not torch.allclose(released(some_clips(16)), fixed(some_clips(16)))


@pytest.mark.parametrize("layout", list_layouts())
def test_every_layout_has_parts_of_one_size_with_all_joints(layout):
    parts = token_parts(get_layout(layout))
    assert len({len(part) for part in parts}) == 1
    joints = get_layout(layout).joints
    held = {joints[joint] for part in parts for joint in part}
    left_out = {"spine_shoulder"} if layout.startswith("ntu25") else set()
    assert {*joints} - held == left_out


def test_whole_paths_are_dropped_by_clip_in_training():
    block = small(drop_path=0.5, attention_dropout=0).stages[1].blocks[0].train()
    x = torch.randn(6, 8, 20, 32).double()
    clip_of_row = torch.tensor([0, 0, 1, 1, 2, 2])
    groups = [PersonGroup(3, (0, 1))]
    with torch.no_grad():
        kept = block.eval()(x, groups)
        block.train()
        drawn = torch.stack([block(x, groups, clip_of_row) for _ in range(20)])
    unchanged = (drawn == x).flatten(2).all(dim=2)
    assert torch.equal(unchanged[:, ::2], unchanged[:, 1::2])
    assert 0 < unchanged.float().mean() < 0.6
    assert not torch.equal(kept, x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": (12, 16)}, "multiples of 8"),
        ({"strides": (2, 2)}, "first of the strides"),
        ({"persons": 0}, "persons of at least 1"),
        ({"relative_position": "mended"}, "unknown relative_position"),
        ({"frame_index": True, "in_channels": 1}, "transform frame_index"),
        ({"drop_path": 1.0}, "below 1"),
    ],
)
def test_options_that_make_no_network_are_refused(options, message):
    with pytest.raises(KinegraphError, match=message):
        small(**options)


def test_clips_of_another_number_of_persons_are_refused():
    with pytest.raises(ModelError, match="takes 2 persons together"):
        small()(some_clips(16)[..., :1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["confidence=true"], "with 'confidence: true': set confidence to false"),
        (["transforms=[stream]"], "make it the last of the transforms"),
        (["transforms=[frame_index, stream]"], "make it the last of the transforms"),
    ],
)
def test_recipes_without_the_frame_index_as_last_channel_are_refused(changes, message):
    with pytest.raises(RecipeError, match=f"'model.frame_index' reads the last.*{message}"):
        load_recipe("skateformer_ntu60_xsub", changes)
