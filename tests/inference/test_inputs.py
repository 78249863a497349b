"""Inputs of predictions: raw files read as the training clips of the run were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conftest import made_up_clips
from kinegraph.errors import ReadError
from kinegraph.inference.predict import Predictor, predict_files
from kinegraph.readers import READERS, get_reader, guess_reader
from kinegraph.readers.convert import convert
from kinegraph.training.recipe import parse_recipe
from kinegraph.training.train import train
from kinegraph.transforms import to_array

RECIPE = {
    "name": "tiny",
    "protocol": "holdout",
    "transforms": [{"resize": {"frames": 8}}, "stream"],
    "model": {"channels": [8, 8], "strides": [1, 2]},
    "train": {"epochs": 1, "batch_size": 4},
}


def arrays(folder, labels: str = ""):
    """Clips stacked in one file (N, C, T, V, M), with a file of their labels or without."""
    folder.mkdir()
    clips = made_up_clips()
    stacked = np.stack([to_array(clip, 1)[:, :10] for clip in clips])
    np.save(folder / "train_data.npy", stacked)
    if labels:
        np.save(folder / labels, np.array([clip.label for clip in clips]))
    return folder


@pytest.mark.parametrize("name", READERS)
def test_dataset_only_options_are_options(name):
    assert get_reader(name).dataset_only <= set(get_reader(name).options)


def test_a_label_file_of_the_training_set_is_not_looked_for_beside_a_new_recording(tmp_path):
    store = tmp_path / "s.arrow"
    options = {"labels": "classes.npy", "layout": "jhmdb15", "prepared": "recorded"}
    convert(get_reader("stacked"), arrays(tmp_path / "old", "classes.npy"), store, options=options)
    run = train(parse_recipe({**RECIPE, "store": str(store)}, "tiny"), tmp_path / "run")
    new = arrays(tmp_path / "new") / "train_data.npy"
    told = list(predict_files(Predictor.load(run), [new], "stacked"))
    assert len(told) == 24
    assert not [answer for answer in told if isinstance(answer, Exception)]


def forbid_other_readers(name, monkeypatch):
    """Let every reader but one fail when it is asked whether a file is of its kind."""

    def fail(path):
        raise AssertionError("another reader was asked")

    for other in set(READERS) - {name}:
        monkeypatch.setitem(READERS, other, replace(READERS[other], matches=fail))


def test_the_reader_of_the_run_is_asked_before_the_others(tmp_path, monkeypatch):
    path = tmp_path / "clip.npy"
    np.save(path, np.zeros((3, 1, 25, 3), np.float32))
    with pytest.raises(ReadError, match="could be read by"):
        guess_reader(path)
    with pytest.raises(ReadError, match="could be read by"):
        guess_reader(path, "ntu")
    with pytest.raises(ReadError, match="could be read by"):
        guess_reader(path, "a reader of another package")
    forbid_other_readers("arrays", monkeypatch)
    assert guess_reader(path, "arrays").name == "arrays"


def test_predict_reads_with_the_reader_of_the_run(tmp_path, monkeypatch):
    folder, store = tmp_path / "own", tmp_path / "s.arrow"
    folder.mkdir()
    lines = ["file,label"]
    for number, clip in enumerate(made_up_clips()):
        np.save(folder / f"{number}.npy", clip.joints)
        lines.append(f"{number}.npy,{clip.label}")
    (folder / "clips.csv").write_text("\n".join(lines))
    convert(get_reader("arrays"), folder, store, options={"layout": "jhmdb15"})
    run = train(parse_recipe({**RECIPE, "store": str(store)}, "tiny"), tmp_path / "run")
    forbid_other_readers("arrays", monkeypatch)
    answers = list(predict_files(Predictor.load(run), [folder / "0.npy"]))
    assert [answer["id"] for answer in answers] == ["0"]
