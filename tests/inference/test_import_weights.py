"""Published weights to runs: raw files to the published logits, and every way it can go wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from conftest import real_data
from kinegraph.bench.reference.shiftgcn import ReferenceShiftGCN
from kinegraph.clips.clip import Clip
from kinegraph.errors import CheckpointError, ModelError, RecipeError, UnknownNameError
from kinegraph.inference.import_weights import import_weights
from kinegraph.inference.recognizer import Recognizer
from kinegraph.readers import read_clip
from kinegraph.skeleton.graph import adjacency
from kinegraph.skeleton.layouts import get_layout
from models.reference_asgcn import ReferenceASGCN, ReferenceLinks


def saved(path, classes: int = 60, **changes):
    """A file of weights with the published keys."""
    torch.manual_seed(0)
    state = {**ReferenceShiftGCN(classes).state_dict(), **changes}
    torch.save(state, path)
    return path


@pytest.mark.parametrize("protocol", ["xsub", "xview"])
def test_the_published_weights_give_the_published_logits_from_raw_files(tmp_path, protocol):
    name = f"ntu_ShiftGCN_joint_{protocol}"
    weights = real_data(f"weights/shift_gcn/{name}.pt")
    reference = json.loads(real_data("weights/shift_gcn/reference_logits.json").read_text())
    run = import_weights("shiftgcn", weights, tmp_path / "run", protocol=protocol)
    recognizer = Recognizer.load(run)
    files = sorted(real_data("ntu_samples").glob("*.skeleton"))
    assert len(files) == 4
    for file in files:
        answer = recognizer(read_clip(file, **recognizer.header.reader["options"]))
        assert np.abs(answer.logits - reference["logits"][name][file.stem]).max() < 1e-3
        assert answer.candidates[0].label == int(file.stem[-3:]) - 1


def test_a_run_of_120_classes_has_the_names_of_ntu120(tmp_path):
    weights = saved(tmp_path / "w.pt", classes=120)
    run = import_weights("shiftgcn", weights, tmp_path / "run", protocol="xset", stream="bone")
    header = Recognizer.load(run).header
    assert len(header.classes) == 120
    assert header.recipe["protocol"] == "xset"
    assert header.stream == "bone"
    assert header.reader == {"name": "ntu", "options": {"persons": "agcn"}}


def test_keys_that_are_unknown_missing_or_misshapen_are_named(tmp_path):
    def attempt(**changes) -> str:
        weights = saved(tmp_path / "w.pt", **changes)
        with pytest.raises(ModelError) as error:
            import_weights("shiftgcn", weights, tmp_path / "run", protocol="xsub")
        assert not (tmp_path / "run").exists()
        return str(error.value)

    assert "'l11.what'" in attempt(**{"l11.what": torch.zeros(1)})
    assert "'l3.gcn1.Linear_bias'" in attempt(**{"l3.gcn1.Linear_bias": torch.zeros(1, 1, 63)})
    assert "'l3.gcn1.Feature_Mask' has shape (1, 24, 64)" in attempt(
        **{"l3.gcn1.Feature_Mask": torch.zeros(1, 24, 64)}
    )
    assert "'fc.bias' twice" in attempt(**{"module.fc.bias": torch.zeros(60)})
    assert "'fc.bias' holds numbers that are not finite" in attempt(
        **{"fc.bias": torch.full((60,), torch.nan)}
    )
    turned = torch.arange(25 * 64).roll(1)
    assert "'l2.gcn1.shift_in' of the state dict shifts" in attempt(**{"l2.gcn1.shift_in": turned})


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["l2.tcn1.shift_in.ypos"], "'l2.tcn1.shift_in.ypos'"),
        (["l10.gcn1.Linear_weight", "fc.bias"], "'l10.gcn1.Linear_weight', 'fc.bias'"),
        (["l3.gcn1.shift_out"], "'l3.gcn1.shift_out'"),
    ],
)
def test_missing_keys_are_named_as_the_file_names_them(tmp_path, keys, told):
    state = torch.load(saved(tmp_path / "w.pt"), weights_only=True)
    for key in keys:
        del state[key]
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=f"lacks {told}$"):
        import_weights("shiftgcn", tmp_path / "w.pt", tmp_path / "run", protocol="xsub")


@pytest.mark.parametrize("protocol", ["xsub", "xview"])
def test_asgcn_of_two_files_becomes_a_run_that_predicts(tmp_path, protocol):
    torch.manual_seed(0)
    graph = torch.from_numpy(adjacency("ntu25", max_hop=4, center_distance="truncated"))
    torch.save(ReferenceASGCN(graph, 60).state_dict(), tmp_path / "main.pt")
    torch.save(ReferenceLinks(25, 50).state_dict(), tmp_path / "links.pt")
    files = {"links": tmp_path / "links.pt", "protocol": protocol}
    run = import_weights("asgcn", tmp_path / "main.pt", tmp_path / "run", **files)
    clip = Clip(np.random.default_rng(0).normal(size=(1, 40, 25, 3)), get_layout("ntu25"))
    answer = Recognizer.load(run)(clip)
    assert np.isfinite(answer.logits).all()
    assert len(answer.logits) == 60


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\x80\x02c__main__\nEvil\n."])
def test_files_that_hold_no_weights(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot read weights from .*w\.pt: "):
        import_weights("shiftgcn", tmp_path / "w.pt", tmp_path / "run", protocol="xsub")


def test_what_else_is_refused(tmp_path):
    weights = saved(tmp_path / "w.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    cases = [
        (UnknownNameError, "did you mean 'shiftgcn'", "shift-gcn", weights, {"protocol": "xsub"}),
        (CheckpointError, "expected a state dict", "shiftgcn", tmp_path / "list.pt", {}),
        (CheckpointError, r"lacks 'fcn\.weight'", "stgcn", weights, {}),
        (CheckpointError, "--links FILE", "asgcn", weights, {}),
        (CheckpointError, "does not take --links", "shiftgcn", weights, {"links": weights}),
        (RecipeError, "known: .*shiftgcn_ntu60_xsub", "shiftgcn", weights, {"protocol": "xset"}),
    ]
    for kind, message, family, file, options in cases:
        with pytest.raises(kind, match=message):
            import_weights(family, file, tmp_path / "run", **{"protocol": "xsub", **options})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(CheckpointError, match="is not empty"):
        import_weights("shiftgcn", weights, tmp_path / "full", protocol="xsub")
