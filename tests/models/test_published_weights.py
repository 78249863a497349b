"""The authors' checkpoints on raw recordings: the published logits, and what breaks them."""

from __future__ import annotations

import json

import pytest
import torch

from conftest import real_data
from kinegraph.models import create_model
from kinegraph.models.published_weights import load_shiftgcn
from kinegraph.models.shift_layers import SpatialShift
from kinegraph.readers.ntu.reader import READER
from kinegraph.transforms import Pipeline, to_array

REPEATED, NORMALISED = {"repeat_pad": {"frames": 300}}, "prenormalize"
XSUB, XVIEW = "ntu_ShiftGCN_joint_xsub", "ntu_ShiftGCN_joint_xview"


@pytest.fixture(scope="module")
def clips():
    plan = READER.scan(real_data("ntu_samples"), persons="agcn")
    return [clip for task in plan.tasks for clip in READER.read(task)]


@pytest.fixture(scope="module")
def xsub_state():
    return weights(XSUB)


def weights(checkpoint):
    return torch.load(real_data(f"weights/shift_gcn/{checkpoint}.pt"), weights_only=True)


def prepared(clips, *steps):
    pipeline = Pipeline.from_list(list(steps))
    return torch.stack([torch.from_numpy(to_array(pipeline(clip), persons=2)) for clip in clips])


def loaded(state):
    model = create_model("shiftgcn", layout="ntu25", num_classes=60, faithful=True)
    load_shiftgcn(model, state)
    return model.eval()


def published_logits(checkpoint, clips):
    reference = json.loads(real_data("weights/shift_gcn/reference_logits.json").read_text())
    return torch.tensor([reference["logits"][checkpoint][clip.id] for clip in clips])


def number_right(logits, clips):
    return int((logits.argmax(dim=1) == torch.tensor([clip.label for clip in clips])).sum())


@pytest.mark.parametrize("checkpoint", [XSUB, XVIEW])
def test_published_weights_give_the_published_logits(checkpoint, clips):
    with torch.inference_mode():
        logits = loaded(weights(checkpoint))(prepared(clips, REPEATED, NORMALISED))
    assert number_right(logits, clips) == 4
    torch.testing.assert_close(logits, published_logits(checkpoint, clips), rtol=0, atol=1e-3)


def assert_broken(logits, clips, right):
    """Every clip's logits are far from the published ones, and few classes are right."""
    distance = (logits - published_logits(XSUB, clips)).abs().amax(dim=1)
    assert float(distance.min()) > 1
    assert number_right(logits, clips) == right


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "right"),
    [
        ([REPEATED, {"prenormalize": {"zaxis": "none", "xaxis": "none"}}], 2),
        ([{"zero_pad": {"frames": 300}}, NORMALISED], 3),
        ([REPEATED], 0),
    ],
    ids=["no rotation", "no repetition", "no normalisation"],
)
def test_every_step_of_the_preparation_is_needed(steps, right, clips, xsub_state):
    with torch.inference_mode():
        assert_broken(loaded(xsub_state)(prepared(clips, *steps)), clips, right)


@pytest.mark.slow
def test_the_order_of_persons_is_part_of_the_preparation(clips, xsub_state):
    swapped = prepared(clips, REPEATED, NORMALISED).flip(-1)
    with torch.inference_mode():
        assert_broken(loaded(xsub_state)(swapped), clips, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "right"), [(torch.round, 4), (torch.neg, 1)], ids=["whole", "sign flipped"]
)
def test_temporal_shifts_are_broken_numbers_of_a_sign(change, right, clips, xsub_state):
    changed = {k: change(v) if k.endswith("ypos") else v for k, v in xsub_state.items()}
    with torch.inference_mode():
        logits = loaded(changed)(prepared(clips, REPEATED, NORMALISED))
    assert_broken(logits, clips, right)


@pytest.mark.slow
def test_without_spatial_shifts_nothing_is_right(clips, xsub_state):
    model = loaded(xsub_state)
    for shift in model.modules():
        if isinstance(shift, SpatialShift):
            shift.index.copy_(torch.arange(len(shift.index)))
    with torch.inference_mode():
        assert_broken(model(prepared(clips, REPEATED, NORMALISED)), clips, 0)
