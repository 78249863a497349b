"""CTR-GCN: the released networks' answers, its start, its invariances, both contractions."""

from __future__ import annotations

import pytest
import torch

from kinegraph.models import create_model
from kinegraph.models.ctrgcn import CTRGCN
from kinegraph.models.published_weights import load_renamed
from models.reference_weights import (
    fill,
    published_state,
    reference_input,
)

GRAPHS = {"ctrgcn": r".*\.PA", "ctrgcn_pyskl": r"backbone\.net\..*\.A"}
PYSKL = {"contraction": "source", "temporal_relu": True}


def released(family: str, layout: str, classes: int, persons: int = 2) -> CTRGCN:
    """Return the released network with the weights by formula, float64."""
    options = PYSKL if family == "ctrgcn_pyskl" else {}
    model = create_model(
        family.partition("_")[0],
        layout=layout,
        num_classes=classes,
        persons=persons,
        faithful=True,
        **options,
    ).double()
    unused = {"backbone.A": model.blocks[0].gcn.topology.detach()} if options else {}
    state = {**published_state(model, family), **unused}
    load_renamed(
        model, fill(state, graph=GRAPHS[family], keep=r"backbone\.A"), family, unused=unused
    )
    return model.eval()


CASES = [
    ("ctrgcn", "ntu60", "ntu25", 60, (2, 3, 32, 25, 2), [0.510413, -0.498868, 0.261725]),
    ("ctrgcn", "ucla", "kinect20", 10, (2, 3, 52, 20, 1), [0.440414, -0.461161, 0.293996]),
    (
        "ctrgcn_pyskl",
        "ntu60_3d",
        "ntu25_pyskl",
        60,
        (2, 3, 32, 25, 2),
        [-1.269993, -0.290414, 0.458935],
    ),
]


@pytest.mark.parametrize(("family", "case", "layout", "classes", "shape", "first"), CASES)
def test_logits_are_the_released_networks(family, case, layout, classes, shape, first):
    model = released(family, layout, classes, shape[-1])
    with torch.no_grad():
        logits = model(reference_input(shape))
    assert (logits[0, :3] - torch.tensor(first)).abs().max() < 1e-6
