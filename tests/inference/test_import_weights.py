"""Published weights to runs: raw files to the published logits, and every way it can go wrong."""

from __future__ import annotations

import argparse
import json
import pickle

import numpy as np
import pytest
import torch

from conftest import real_data
from kinegraph.bench.reference.shiftgcn import ReferenceShiftGCN
from kinegraph.bench.reference.stgcn import build_reference_stgcn
from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore
from kinegraph.errors import (
    CheckpointError,
    ModelError,
    ReadError,
    RecipeError,
    UnknownNameError,
)
from kinegraph.inference.import_weights import import_weights
from kinegraph.inference.recognizer import Recognizer
from kinegraph.models import create_model
from kinegraph.readers import get_reader, read_clip, read_clips
from kinegraph.readers.convert import convert
from kinegraph.skeleton.graph import adjacency
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import PREPARATIONS
from models.reference_asgcn import ReferenceASGCN, ReferenceLinks
from prepared_arrays import stack_2s_agcn, write_arrays


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


def test_the_published_weights_give_the_published_logits_from_prepared_arrays(tmp_path):
    name = "ntu_ShiftGCN_joint_xsub"
    weights = real_data(f"weights/shift_gcn/{name}.pt")
    reference = json.loads(real_data("weights/shift_gcn/reference_logits.json").read_text())
    run = import_weights("shiftgcn", weights, tmp_path / "run", protocol="xsub")
    recognizer = Recognizer.load(run)
    recorded = read_clips(real_data("ntu_samples"), "ntu", persons="agcn")
    labels = [clip.id for clip in recorded], [clip.label for clip in recorded]
    path = write_arrays(tmp_path / "arrays", stack_2s_agcn(recorded), labels)
    convert(get_reader("stacked"), path, tmp_path / "s.arrow")
    for clip in ClipStore(tmp_path / "s.arrow"):
        expected = reference["logits"][name][clip.id]
        assert np.abs(recognizer(clip).logits - expected).max() < 1e-3


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


def released_stgcn(layout: str, num_classes: int, in_channels: int):
    """A network with the keys of the released ST-GCN, and random weights."""
    torch.manual_seed(0)
    options = {"layout": layout, "num_classes": num_classes, "in_channels": in_channels}
    return build_reference_stgcn(create_model("stgcn", **options, faithful=True)).eval()


def test_kinetics_weights_become_a_run_of_400_named_classes(tmp_path):
    network = released_stgcn("openpose18", 400, 3)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    run = import_weights("stgcn", tmp_path / "w.pt", tmp_path / "run", protocol="official")
    recognizer = Recognizer.load(run)
    assert (recognizer.header.layout["name"], recognizer.header.num_classes) == ("openpose18", 400)
    assert recognizer.header.recipe["name"] == "stgcn_kinetics"
    labels = json.loads(real_data("kinetics_skeleton/kinetics_val_label.json").read_text())
    for entry in labels.values():
        assert recognizer.header.class_name(entry["label_index"]) == entry["label"]
    file = real_data("kinetics_skeleton/kinetics_val") / "__lt03EF4ao.json"
    answer = recognizer(read_clip(file, **recognizer.header.reader["options"]))
    with torch.inference_mode():
        expected = network(recognizer.batch(read_clip(file)).x.cpu())
    np.testing.assert_allclose(answer.logits, expected[0].numpy(), atol=1e-4)


@pytest.mark.parametrize("as_pairs", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_fsd_weights_of_paddle_become_a_run(tmp_path, as_pairs):
    network = released_stgcn("body25", 30, 2)
    names = {"running_mean": "_mean", "running_var": "_variance"}
    arrays = {}
    for key, value in network.state_dict().items():
        stem, _, last = key.rpartition(".")
        if last != "num_batches_tracked":
            own = f"{stem}.{names[last]}" if last in names else key
            arrays[f"{'head' if own.startswith('fcn') else 'backbone'}.{own}"] = value.numpy()
    content = {key: (f"p_{key}", value) for key, value in arrays.items()} if as_pairs else arrays
    content["StructuredToParameterName@@"] = dict.fromkeys(arrays, "conv2d_0.w_0")
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps(content, 4))
    files = tmp_path / "w.pdparams", tmp_path / "run"
    recognizer = Recognizer.load(import_weights("stgcn", *files, protocol="holdout"))
    assert recognizer.header.recipe["name"] == "stgcn_fsd_paddle"
    assert recognizer.header.class_name(27) == "class 27"
    joints = np.random.default_rng(0).uniform(-1, 1, (1, 40, 25, 2))
    clip = Clip(joints, get_layout("body25"), space=PREPARATIONS["fsd"].result)
    with torch.inference_mode():
        expected = network(recognizer.batch(clip).x.cpu())
    np.testing.assert_allclose(recognizer(clip).logits, expected[0].numpy(), atol=1e-4)


def test_a_pickle_that_calls_anything_but_containers_is_not_loaded_as_paddle_weights(tmp_path):
    (tmp_path / "w.pdparams").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ReadError, match=r"names os\.system"):
        import_weights("stgcn", tmp_path / "w.pdparams", tmp_path / "run", protocol="holdout")


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "net", "model", "model.net"])
def test_state_dicts_beside_other_things(tmp_path, wrapper):
    content = ReferenceShiftGCN(60).state_dict()
    for key in reversed(wrapper.split(".")):
        content = {"epoch": 3, key: content}
    torch.save(content, tmp_path / "w.pt")
    run = import_weights("shiftgcn", tmp_path / "w.pt", tmp_path / "run", protocol="xsub")
    assert Recognizer.load(run).header.num_classes == 60


def test_other_wrappers_are_refused_with_the_keys_that_are_there(tmp_path):
    def refuse(content, kind=CheckpointError) -> str:
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(kind) as error:
            import_weights("shiftgcn", tmp_path / "w.pt", tmp_path / "run", protocol="xsub")
        return str(error.value)

    weights = {"fc.weight": torch.zeros(60, 256)}
    assert "it holds the keys 'epoch', 'ema'" in refuse({"epoch": 3, "ema": weights})
    assert "w.pt under model, by itself or" in refuse({"model": {"weights": weights}})
    assert "'0', " in (many := refuse({str(number): number for number in range(20)}))
    assert "and 12 more" in many
    assert "but it holds the keys 'fcn.weight'" in refuse({"fcn.weight": torch.zeros(60, 2)})
    assert "; it holds 'fc.weight'" in refuse({"net": weights}, ModelError)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_whole_saved_module_is_refused_in_one_plain_sentence(tmp_path):
    for content in (released_stgcn("openpose18", 2, 3), {"args": argparse.Namespace()}):
        for zipped in (True, False):
            torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
            with pytest.raises(CheckpointError) as error:
                import_weights("stgcn", tmp_path / "w.pt", tmp_path / "run", protocol="xsub")
            assert "a pickle of Python objects such as " in str(error.value)
            assert "torch.save(model.state_dict(), FILE)" in str(error.value)
            assert str(error.value).isprintable()
    torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="TorchScript program, not a state dict"):
        import_weights("stgcn", tmp_path / "w.pt", tmp_path / "run", protocol="xsub")


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
