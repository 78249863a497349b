"""The verbs on runs that predict poses, on several streams, on published weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from cli.test_cli import run
from conftest import real_data
from kinegraph.training.recipe import parse_recipe
from kinegraph.training.train import train


@pytest.fixture(scope="module")
def foretold(tmp_path_factory, tiny_store):
    """A run of an auto-encoder that predicts poses."""
    recipe = {
        "name": "tiny",
        "store": str(tiny_store),
        "protocol": "odd-even-subjects",
        "transforms": [{"resize": {"frames": 12}}, "stream"],
        "model": {
            "name": "stgcn_autoencoder", "channels": [8, 8], "strides": [1, 2], "future": 3,
        },
        "objective": {"name": "predict_future"},
        "train": {"epochs": 2, "batch_size": 4, "lr": 0.01},
    }  # fmt: skip
    return train(parse_recipe(recipe, "tiny"), tmp_path_factory.mktemp("runs") / "poses")


def test_predict_gives_each_clip_its_error_as_a_score(capsys, foretold, tiny_store):
    code, out, _ = run(capsys, "predict", foretold, tiny_store, "--json")
    told = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(told) == 24
    assert told[0].keys() == {"id", "pose_error", "baseline_error"}
    assert all(row["pose_error"] > 0 for row in told)
    code, out, _ = run(capsys, "predict", foretold, tiny_store)
    assert out.splitlines()[0].startswith("clip000: mean joint error ")


def test_evaluate_puts_the_baseline_beside(capsys, foretold):
    code, out, _ = run(capsys, "evaluate", foretold, "--json")
    poses = json.loads(out)["poses"]
    assert code == 0
    assert poses.keys() == {"clips", "mpjpe", "baseline_mpjpe", "better_than_baseline"}
    assert poses["clips"] == 12


def test_a_run_on_poses_names_no_actions(foretold):
    from kinegraph.errors import CheckpointError
    from kinegraph.inference.recognizer import Recognizer

    with pytest.raises(CheckpointError, match=r"does not name actions: .*init_from=RUN"):
        Recognizer.load(foretold)


def test_draw_run_shows_predicted_poses(capsys, foretold, tmp_path):
    code, out, err = run(capsys, "draw", "run", foretold, "--out", tmp_path)
    assert code == 0, err
    names = {path.name for path in tmp_path.iterdir()}
    assert {"curves.png", "graph.png", "poses-median-error.png"} <= names
    assert len(out.splitlines()) == len(names)
    code, out, err = run(capsys, "draw", "run", foretold, "--clip", "clip003", "--out", tmp_path)
    assert code == 0, err
    assert (tmp_path / "poses.png").is_file()
    assert run(capsys, "draw", "run", foretold, "--clip", "absent", "--out", tmp_path)[0] == 2


def test_initial_weights_with_different_preprocessing_cause_a_warning(
    capsys, tiny_recipe, tiny_run, tmp_path
):
    tiny_recipe["train"]["epochs"] = 1
    tiny_recipe["model"]["channels"] = [16, 16]
    file = tmp_path / "tiny.yaml"
    start = f"init_from={tiny_run}"
    for steps, warned in ((["scale"], True), ([{"jitter": {"std": 0.1}}], False)):
        tiny_recipe["transforms"] = [*steps, {"resize": {"frames": 8}}, "stream"]
        file.write_text(yaml.safe_dump(tiny_recipe))
        code, _, err = run(capsys, "train", file, start, "--out", tmp_path / f"run{warned}")
        assert code == 0, err
        assert ("was trained with different preprocessing: [{'resize'" in err) is warned


def test_streams_make_a_run_each_and_finished_ones_are_kept(capsys, tiny_recipe, tmp_path):
    tiny_recipe["train"]["epochs"] = 1
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny_recipe))
    words = ("train", file, "--streams", "joint,bone_motion", "--out", tmp_path / "runs")
    code, out, err = run(capsys, *words)
    assert code == 0, err
    folders = [tmp_path / "runs" / f"tiny-{name}" for name in ("joint", "bone_motion")]
    assert out.splitlines()[-1] == f"next:   kinegraph fuse {folders[0]} {folders[1]}"
    written = [(folder / "last.safetensors").stat().st_mtime_ns for folder in folders]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "is not empty" in err
    (folders[1] / "report.html").unlink()  # as if the second had broken off
    code, out, err = run(capsys, *words, "--resume")
    assert code == 0, err
    assert "stream 2 of 2: bone_motion\ntest: " in out
    assert (folders[0] / "last.safetensors").stat().st_mtime_ns == written[0]
    code, out, err = run(capsys, "fuse", *folders, "--out", tmp_path / "fused", "--json")
    assert code == 0, err
    assert [row["weight"] for row in json.loads(out)["runs"]] == [0.6, 0.4]


@pytest.mark.parametrize("streams", ["joint,,bone", "joint,joint", "bone_motion,bone-motion", ""])
def test_streams_are_names_joined_by_commas(capsys, tiny_recipe, tmp_path, streams):
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny_recipe))
    code, _, err = run(capsys, "train", file, "--streams", streams)
    assert code == 2
    assert "different streams separated by commas" in err


@pytest.mark.parametrize("protocol", ["xsub", pytest.param("xview", marks=pytest.mark.slow)])
def test_published_weights_name_the_actions_in_raw_files(capsys, tmp_path, protocol):
    weights = real_data(f"weights/shift_gcn/ntu_ShiftGCN_joint_{protocol}.pt")
    files = sorted(real_data("ntu_samples").glob("*.skeleton"))
    reference = json.loads(real_data("weights/shift_gcn/reference_logits.json").read_text())
    words = ("import", "shiftgcn", weights, tmp_path / "run", "--protocol", protocol)
    assert run(capsys, *words)[0] == 0
    code, out, err = run(capsys, "predict", tmp_path / "run", *files, "--json")
    assert code == 0, err
    told = [json.loads(line) for line in out.splitlines()]
    assert [row["top"][0]["label"] + 1 for row in told] == [int(f.stem[-3:]) for f in files]
    expected = [reference["logits"][weights.stem][row["id"]] for row in told]
    assert np.abs(np.array([row["logits"] for row in told]) - expected).max() < 1e-3


def test_import_tells_what_is_wrong_in_one_sentence(capsys, tmp_path):
    words = ("import", "shiftgcn", tmp_path / "absent.pt", tmp_path / "run", "--protocol", "xsub")
    code, _, err = run(capsys, *words)
    assert code == 2
    assert err.count("\n") == 1
    assert "cannot read weights from" in err and "absent.pt: " in err
