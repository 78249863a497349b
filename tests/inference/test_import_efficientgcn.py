"""EfficientGCN's files to runs: raw recordings to the published logits, and what is refused."""

from __future__ import annotations

import json
import pickle

import httpx
import numpy as np
import pytest
import torch

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import CheckpointError, ModelError
from kinegraph.inference.export.export_run import export_run
from kinegraph.inference.import_weights import import_weights
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import open_session
from kinegraph.models import create_model
from kinegraph.readers import read_clip
from kinegraph.transforms import to_array
from models.reference_weights import fill, published_state
from server.serving import running

CHECKPOINTS = {"2001": "xsub", "2014": "xview"}
HEAD = "classifier.fc.weight"
CLIPS = ("S001C001P001R001A001", "S001C003P008R002A058")


def released_state(variant: str = "sg", **options) -> dict[str, torch.Tensor]:
    """Return weights by formula with the released names and shapes."""
    options = {"in_channels": 18, "variant": variant, "faithful": True, **options}
    model = create_model("efficientgcn", layout="ntu25", num_classes=60, **options)
    filled = fill(published_state(model, "efficientgcn"), graph=r".*\.edge", keep=r".*\.A")
    state = {k: v.float() if v.is_floating_point() else v for k, v in filled.items()}
    return {**state, HEAD: state[HEAD][..., None, None, None]}


@pytest.fixture(scope="module")
def reference():
    path = real_data("weights/efficientgcn/reference_logits.json")
    return json.loads(path.read_text("utf-8"))["clips"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    runs = {}
    for name, protocol in CHECKPOINTS.items():
        weights = real_data(f"weights/efficientgcn/effgcn_b0_{name}.npz")
        out = tmp_path_factory.mktemp("runs") / name
        runs[name] = import_weights("efficientgcn", weights, out, protocol=protocol)
    return runs


@pytest.fixture(scope="module")
def runs(folders):
    return {name: Recognizer.load(folder) for name, folder in folders.items()}


def recording(clip: str, recognizer: Recognizer) -> Clip:
    folders = ("ntu_samples", "ntu_samples_more")
    files = [real_data(folder) / f"{clip}.skeleton" for folder in folders]
    file = next(file for file in files if file.exists())
    return read_clip(file, **recognizer.header.reader["options"])


def all_clips() -> list[str]:
    return [f"S001C001P001R001A{action:03}" for action in (1, 3, 5, 7, 9, 11)] + [
        "S001C003P008R002A058",
        "S002C001P003R001A003",
    ]


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
@pytest.mark.parametrize(
    "clip",
    [pytest.param(c, marks=[] if c in CLIPS else pytest.mark.slow) for c in all_clips()],
)
def test_raw_recordings_get_the_published_logits(checkpoint, clip, runs, reference):
    answer = runs[checkpoint](recording(clip, runs[checkpoint]))
    expected = reference[clip]["logits"][checkpoint]
    assert np.abs(answer.logits - expected).max() < 1e-3
    assert answer.candidates[0].label == reference[clip]["label"]


@pytest.mark.parametrize(
    ("checkpoint", "kind"), [("2001", "raw"), ("2014", "pre_normalised")], ids=CHECKPOINTS
)
def test_inputs_are_those_of_the_released_loader(checkpoint, kind, runs):
    whole = np.load(real_data("weights/efficientgcn/input_S001C001P001R001A001.npz"))[kind]
    path = real_data("weights/efficientgcn/input_statistics.json")
    statistics = json.loads(path.read_text("utf-8"))
    for clip in CLIPS:
        prepared = runs[checkpoint].pipeline(recording(clip, runs[checkpoint]))
        x = to_array(prepared, persons=2).reshape(whole.shape)
        expected = statistics[f"{clip}/{kind}"]
        assert x.sum(dtype=np.float64) == pytest.approx(expected["sum"], rel=1e-6)
        assert np.abs(x).sum(dtype=np.float64) == pytest.approx(expected["abs_sum"], rel=1e-6)
        if clip == CLIPS[0]:
            np.testing.assert_allclose(x, whole, atol=0 if kind == "raw" else 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_every_layer_has_the_recorded_mean(checkpoint, runs):
    path = real_data("weights/efficientgcn/intermediates.json")
    recorded = json.loads(path.read_text("utf-8"))
    model, means, hooks = runs[checkpoint].model, {}, []

    def note(name):
        return lambda module, given, y: means.update({name: float(y.double().mean())})

    for number, branch in enumerate(model.input_branches):
        parts = {"init_bn": branch.init_bn, "stem_scn": branch.stem_scn}
        for i, block in enumerate(branch.blocks):
            parts |= {f"block-{i}_scn": block.scn, f"block-{i}_att": block.att}
        hooks += [
            module.register_forward_hook(note(f"input_branches.{number}.{name}"))
            for name, module in parts.items()
        ]
    for i, block in enumerate(model.main_stream):
        parts = {"scn": block.scn, "tcn-0": block.tcn, "att": block.att}
        hooks += [
            module.register_forward_hook(note(f"main_stream.block-{i}_{name}"))
            for name, module in parts.items()
        ]
    with torch.inference_mode():
        model(runs[checkpoint].batch(recording(recorded["clip"], runs[checkpoint])).x)
    for hook in hooks:
        hook.remove()
    layers = recorded["layers"][checkpoint]
    assert len(means) == 3 * 6 + 2 * 3
    for name, mean in means.items():
        assert mean == pytest.approx(layers[name]["mean"], abs=1e-5), name


def test_confusion_matrices_have_the_stored_accuracies(reference):
    path = real_data("weights/efficientgcn/reference_logits.json")
    stored = json.loads(path.read_text("utf-8"))["checkpoints"]
    matrices = np.load(real_data("weights/efficientgcn/confusion_matrices.npz"))
    for checkpoint in CHECKPOINTS:
        cm = matrices[checkpoint]
        assert cm.sum() == stored[checkpoint]["clips"]
        assert np.trace(cm) / cm.sum() == pytest.approx(stored[checkpoint]["top1"])


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_a_server_and_exported_files_give_the_published_logits(
    checkpoint, folders, runs, reference, tmp_path
):
    recognizer = runs[checkpoint]
    clip = recording(CLIPS[1], recognizer)
    expected = reference[clip.id]["logits"][checkpoint]
    body = {"joints": np.nan_to_num(clip.joints).tolist(), "fps": 30}
    with running(recognizer=recognizer) as server:
        answer = httpx.post(f"{server.url}/v1/predict", json=body, timeout=60).json()
    assert np.abs(np.array(answer["logits"]) - expected).max() < 1e-3
    export_run(folders[checkpoint], tmp_path / "it.pt2")
    exported = Recognizer.load(tmp_path / "it.pt2")(clip)
    assert np.abs(exported.logits - expected).max() < 1e-3


def test_streams_are_answered_by_windows(runs):
    clip = recording(CLIPS[1], runs["2001"])
    session = open_session(runs["2001"], every=30)
    assert session.mode == "window"
    latest = [session.push(frame) for frame in clip.joints.swapaxes(0, 1)[:60]][-1]
    assert latest.candidates[0].label == clip.label


FILES = {
    "authors": ("w.pth.tar", "sg"),
    "paddle": ("w.pdparams.tar", "sep"),
    "arrays": ("w.npz", "sep"),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_every_kind_become_a_run(kind, tmp_path):
    name, variant = FILES[kind]
    state, file = released_state(variant), tmp_path / name
    best = {"acc_top1": np.float64(0.5), "cm": np.eye(60, dtype=np.int64)}
    if kind == "authors":
        torch.save({"epoch": 66, "model": state, "optimizer": {}, "best_state": best}, file)
    elif kind == "paddle":
        arrays = {_as_paddle(k): (f"p_{k}", v.numpy()) for k, v in state.items()}
        file.write_bytes(pickle.dumps({"model": arrays, "best_state": best}, 4))
    else:
        np.savez(file, **{key: value.numpy() for key, value in state.items()})
    run = import_weights("efficientgcn", file, tmp_path / "run", protocol="xsub")
    recognizer = Recognizer.load(run)
    hops = {"sg": 10, "sep": 3}[variant]
    options = {"scale": "B0", "variant": variant, "faithful": True, "max_hop": hops}
    assert recognizer.header.model["options"] == options
    assert recognizer.header.stream == "position+velocity+bone_angles"
    loaded = published_state(recognizer.model, "efficientgcn")
    torch.testing.assert_close({**loaded, HEAD: state[HEAD]}, state)
    assert torch.equal(loaded[HEAD].flatten(), state[HEAD].flatten())


def _as_paddle(key: str) -> str:
    return key.replace("running_mean", "_mean").replace("running_var", "_variance")


def test_scale_and_graph_are_recognized(tmp_path):
    state = released_state("sg", scale="B2", max_hop=3)
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "w.pt")
    run = import_weights("efficientgcn", tmp_path / "w.pt", tmp_path / "run", protocol="xview")
    options = Recognizer.load(run).header.model["options"]
    assert (options["scale"], options["variant"], options["max_hop"]) == ("B2", "sg", 3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"main_stream.block-1_att.bn.weight": None}, "lacks 'main_stream.block-1_att.bn.weight'"),
        ({"main_stream.block-7_scn.bn.weight": torch.ones(3)}, "'main_stream.block-7_scn.bn.weig"),
        (
            {"input_branches.0.stem_scn.conv.A": torch.ones(3, 25, 25)},
            "'input_branches.0.stem_scn.conv.A' of the state dict is not the model's",
        ),
        ({"main_stream.block-0_scn.conv.edge": torch.ones(3, 24, 24)}, r"has shape \(3, 24, 24\)"),
    ],
)
def test_other_tensors_are_refused_by_their_own_names(change, told, tmp_path):
    state = {k: v for k, v in {**released_state(), **change}.items() if v is not None}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=told):
        import_weights("efficientgcn", tmp_path / "w.pt", tmp_path / "run", protocol="xsub")
    assert not (tmp_path / "run").exists()


def test_arrays_of_another_family_are_refused(tmp_path):
    np.savez(tmp_path / "w.npz", x=np.zeros(3))
    with pytest.raises(CheckpointError, match=f"lacks '{HEAD}'"):
        import_weights("efficientgcn", tmp_path / "w.npz", tmp_path / "run", protocol="xsub")
