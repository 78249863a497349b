"""SkateFormer: the released network's answers, the equations, invariances, absent persons."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kinegraph.models import create_model
from kinegraph.models.published_weights import load_renamed
from kinegraph.models.skateformer import SkateFormer
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
