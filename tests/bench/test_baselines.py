"""Every family has a plain implementation, and a model with something to compare."""

from __future__ import annotations

import pytest
import torch

from kinegraph.bench.baselines import BASELINES, baseline, dense_clips, released, settled
from kinegraph.errors import ModelError, UnknownNameError
from kinegraph.models import create_model
from kinegraph.runtime.fuse import relative_error


@pytest.mark.parametrize("name", list(BASELINES))
def test_both_sides_answer_alike_and_not_the_same_to_every_clip(name):
    model = released(name)
    x = dense_clips(2, frames=40)
    with torch.inference_mode():
        expected = model(x)
        assert relative_error(baseline(model).eval()(x), expected) < 1e-5
    assert float((expected[0] - expected[1]).abs().max()) > 1e-3 * float(expected.abs().max())


def test_the_same_model_every_time_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    one, two = (settled("stgcn", channels=[8, 8], strides=[1, 2]) for _ in "12")
    assert torch.equal(torch.get_rng_state(), state)
    assert not one.training
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name


def test_made_up_clips_have_the_shape_that_is_asked_for():
    assert dense_clips(2, 7, 1, 17, 2).shape == (2, 2, 7, 17, 1)


def test_models_without_a_plain_implementation_are_named():
    with pytest.raises(UnknownNameError, match="did you mean 'stgcn'"):
        released("st-gcn")
    other = create_model(
        "stgcn_autoencoder", layout="ntu25", num_classes=5, channels=[8], strides=[1]
    )
    with pytest.raises(ModelError, match="STGCNAutoEncoder has no plain implementation; known"):
        baseline(other)
