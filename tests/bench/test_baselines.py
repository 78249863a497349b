"""Every family has a reference network, and a model with something to compare."""

from __future__ import annotations

import pytest
import torch

from kinegraph.bench.baselines import (
    OTHER_CLIP_FRAMES,
    REFERENCE_BUILDERS,
    create_reference,
    create_released_model,
    create_warmed_up_model,
    random_clips,
)
from kinegraph.errors import UnknownNameError
from kinegraph.runtime.fuse import relative_error

NARROW = {"channels": [16, 16, 32], "strides": [1, 2, 2]}


@pytest.mark.parametrize(
    "options", [NARROW, pytest.param({}, id="published", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", list(REFERENCE_BUILDERS))
def test_both_sides_have_the_same_logits_which_differ_between_clips(name, options):
    model = create_released_model(name, **options)
    x = random_clips(2, frames=OTHER_CLIP_FRAMES.get(name, 40), channels=model.in_channels)
    with torch.inference_mode():
        expected = model(x)
        assert relative_error(create_reference(model).eval()(x), expected) < 1e-5
    assert float((expected[0] - expected[1]).abs().max()) > 1e-3 * float(expected.abs().max())


def test_the_same_model_every_time_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    one, two = (create_warmed_up_model("stgcn", channels=[8, 8], strides=[1, 2]) for _ in "12")
    assert torch.equal(torch.get_rng_state(), state)
    assert not one.training
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name


def test_random_clips_have_the_shape_that_is_asked_for():
    assert random_clips(2, 7, 1, 17, 2).shape == (2, 2, 7, 17, 1)


def test_models_without_a_reference_network_are_compared_with_themselves():
    with pytest.raises(UnknownNameError, match="did you mean 'stgcn'"):
        create_released_model("st-gcn")
    model = create_released_model("stgcn_autoencoder", channels=[8], strides=[1])
    reference, x = create_reference(model), random_clips(1, frames=9)
    assert reference is not model
    with torch.inference_mode():
        assert torch.equal(reference(x), model(x))
