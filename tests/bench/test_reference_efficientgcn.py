"""The reference EfficientGCN: the released names, the published cost, a faithful model's logits."""

from __future__ import annotations

import pytest
import torch

from kinegraph.bench.count import count_cost
from kinegraph.bench.reference.efficientgcn import build_reference_efficientgcn
from kinegraph.errors import ModelError
from kinegraph.models import create_model
from kinegraph.runtime.fuse import relative_error
from models.reference_weights import published_state

GMACS = {("B0", "sg"): 3.232043008, ("B0", "sep"): 3.575922944, ("B4", "sg"): 8.981810368}


def released(**options):
    options = {"in_channels": 18, "faithful": True, "head_dropout": 0, **options}
    return create_model("efficientgcn", layout="ntu25", num_classes=60, **options)


@pytest.mark.parametrize("variant", ["sg", "sep"])
def test_logits_and_names_are_those_of_a_faithful_model(variant):
    torch.manual_seed(0)
    model = released(variant=variant, channels=[8, 16], branch_channels=[8], branch_depth=1)
    torch.nn.init.normal_(model.head.weight)
    model.train()(torch.randn(4, 18, 9, 25, 2))
    reference, x = build_reference_efficientgcn(model.eval()), torch.randn(2, 18, 11, 25, 2)
    with torch.inference_mode():
        assert relative_error(reference(x), model(x)) < 1e-5
    assert {*reference.state_dict()} == {*published_state(model, "efficientgcn")}


@pytest.mark.parametrize(
    ("scale", "variant"),
    [pytest.param(*case, marks=[] if case[0] == "B0" else pytest.mark.slow) for case in GMACS],
)
def test_the_cost_of_a_clip_is_the_recorded_one(scale, variant):
    reference = build_reference_efficientgcn(released(scale=scale, variant=variant).eval())
    cost = count_cost(reference.to("meta"), torch.empty(1, 18, 288, 25, 2, device="meta"))
    assert cost.flops == 2e9 * GMACS[scale, variant]


def test_other_models_are_refused():
    with pytest.raises(ModelError, match="faithful=True"):
        build_reference_efficientgcn(released(faithful=False))
