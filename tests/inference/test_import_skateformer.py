"""Weights of the released SkateFormer, made by formula: to runs that predict; refused files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kinegraph.cli import main
from kinegraph.clips.clip import Clip
from kinegraph.errors import ModelError
from kinegraph.inference.import_weights import import_weights
from kinegraph.inference.recognizer import Recognizer
from kinegraph.models.skateformer import SkateFormer
from kinegraph.skeleton.layouts import get_layout
from models.reference_weights import fill, published_state


def released(path: Path, change: Callable[[dict[str, Tensor]], None] = lambda state: None) -> Path:
    """Write a state dict of the released network for NW-UCLA, with its names and shapes."""
    options = {"in_channels": 4, "persons": 1, "mlp_ratio": 1, "frame_index": True}
    model = SkateFormer("kinect20", 10, faithful=True, **options)
    state = fill(published_state(model, "skateformer")) | model.released_constants()
    for name in [name for name in state if name.startswith("stem") and name.endswith("weight")]:
        state[name] = state[name][:, :, None, None]
    change(state)
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    return path


def test_an_imported_network_predicts_with_the_command_line(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["import", "skateformer", str(released(tmp_path / "best.pt")), str(run)]
    with pytest.raises(SystemExit) as end:
        main([*words, "--protocol", "ucla-xview"])
    assert not end.value.code, capsys.readouterr().err
    recognizer = Recognizer.load(run)
    joints = np.random.default_rng(0).normal(0, 0.3, (1, 70, 20, 3)).astype(np.float32)
    clip = Clip(joints, get_layout("kinect20"))
    logits = recognizer(clip).logits
    assert logits.shape == (10,)
    reversed_time = recognizer(clip.with_joints(joints[:, ::-1])).logits
    assert np.abs(logits - reversed_time).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("stages.1.blocks.0.downsample.bn.weight"), "lacks 'stages.1.blocks.0.dow"),
        (lambda s: s.update(extra=torch.zeros(1)), "holds 'module.extra'"),
        (
            lambda s: s.update({"joint_person_embedding": torch.zeros(96, 48)}),
            r"'module.joint_person_embedding' has shape \(96, 48\)",
        ),
        (
            lambda s: s.update(
                {
                    f"stages.0.blocks.0.transformer.attention.{i}.relative_position_index": s[
                        "stages.0.blocks.0.transformer.attention.0.relative_position_index"
                    ].T
                    for i in range(4)
                }
            ),
            "relative_position_index' of the state dict is not the model's",
        ),
    ],
)
def test_other_keys_are_refused_by_their_own_names(change, message, tmp_path):
    weights = released(tmp_path / "best.pt", change)
    with pytest.raises(ModelError, match=message):
        import_weights("skateformer", weights, tmp_path / "run", protocol="ucla-xview")
