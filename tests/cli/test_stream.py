"""`kinegraph stream`: a line whenever the answer changes, an object with every frame."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from cli.test_cli import run
from conftest import made_up_clips
from kinegraph.clips.writer import StoreWriter
from kinegraph.inference.recognizer import Recognizer
from kinegraph.training.checkpoint import load_model, save_checkpoint


def test_a_file_is_followed_to_its_end(capsys, tiny_run, tiny_store):
    code, out, err = run(capsys, "stream", tiny_run, tiny_store, "--every", 3)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    ends = [line for line in lines if " frames: " in line]
    assert len(ends) == 24 and ends[4].startswith("clip004, ")
    recognizer = Recognizer.load(tiny_run)
    answer = recognizer(made_up_clips()[4])
    assert ends[4].endswith(f"{answer.name} {answer.probability:.1%}")
    assert len(lines) > len(ends)


def test_frames_on_standard_input_as_json(capsys, monkeypatch, tiny_run):
    clip = made_up_clips()[4]
    lines = []
    for t in range(clip.num_frames):
        joints = clip.joints[:, t].tolist()
        joints[0][3] = None if t == 2 else joints[0][3]
        lines.append(json.dumps(joints if t % 2 else {"joints": joints}))
    monkeypatch.setattr("sys.stdin", io.StringIO("\n\n".join(lines)))
    code, out, err = run(capsys, "stream", tiny_run, "-", "--json", "--every", 1)
    assert code == 0 and "read as layout jhmdb15, image (y down)" in err
    told = [json.loads(line) for line in out.splitlines()]
    assert [t["frame"] for t in told[:-1]] == list(range(clip.num_frames))
    assert told[-1]["frames"] == clip.num_frames
    assert told[-1]["name"] == told[-2]["name"] == Recognizer.load(tiny_run)(clip).name
    assert set(told[0]) == {"id", "frame", "label", "name", "probability"}


def test_nobody_in_view(capsys, monkeypatch, tiny_run):
    lines = "\n".join(["[]", "[null]", json.dumps([None, *ONE]), "[null, null]"])
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    code, out, err = run(capsys, "stream", tiny_run, "-", "--json", "--every", 1)
    assert code == 0 and "read as layout jhmdb15, image (y down)" in err
    told = [json.loads(line) for line in out.splitlines()]
    assert [t["name"] for t in told[:2]] == [None, None] and told[-1]["frames"] == 4


def test_the_size_of_the_images_comes_with_the_file(capsys, tmp_path, tiny_run):
    clip = replace(made_up_clips()[4], meta={"width": 64, "height": 48})
    with StoreWriter(tmp_path / "sized.arrow", clip.layout, ("a",) * 3, {}) as writer:
        writer.write(clip)
    model, header = load_model(tiny_run)
    header = replace(header, transforms=["image_normalize"])
    save_checkpoint(tmp_path / "plain.safetensors", model.state_dict(), header)
    code, _, err = run(capsys, "stream", tmp_path / "plain.safetensors", tmp_path / "sized.arrow")
    assert (code, err) == (0, "")


ONE = [[[0.5, 0.5]] * 15]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("hello", "standard input:1: expected a frame as JSON"),
        ('{"joint": []}', "standard input:1: expected a frame as JSON"),
        ("[[1, 2], [3, 4]]", "expected (M, 15, 2), or (15, 2) of one person, got (2, 2)"),
        ('[[["a", "b"]]]', "standard input:1: expected a frame as JSON"),
        ("[[[1.0, 2.0]]]", "of one person, got (1, 1, 2)"),
        ("{}", "standard input:1: expected a frame as JSON"),
        ('{"joints": {}}', "got values that are not numbers"),
        (f"[[[1{'0' * 400}, 2]]]", "standard input:1: expected a frame as JSON"),
        (json.dumps([[[1e39, 0]] * 15]), "infinite coordinates"),
        (json.dumps({"joints": ONE, "confidence": 0.5}), "confidences (persons, joints)"),
        (json.dumps({"joints": ONE, "confidence": [[1] * 15] * 2}), "expected confidences (1, 15)"),
        (json.dumps({"joints": ONE, "confidence": {"a": 1}}), "standard input:1: expected a frame"),
        ("[" * 100_000, "standard input:1: expected a frame as JSON"),
        ("1" * (2**20 + 2), "standard input:1: a frame longer than 1048576 characters"),
    ],
)
def test_lines_that_are_no_frames(capsys, monkeypatch, tiny_run, line, message):
    monkeypatch.setattr("sys.stdin", io.StringIO(line))
    code, out, err = run(capsys, "stream", tiny_run, "-")
    assert code == 2 and message in err and out == ""
    assert len([one for one in err.splitlines() if "read as" not in one]) == 1


def test_nothing_on_standard_input(capsys, monkeypatch, tiny_run):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(capsys, "stream", tiny_run, "-")[:2] == (0, "standard input, 0 frames: no frames\n")


def test_a_mode_that_the_run_cannot_have(capsys, tiny_run, tiny_store):
    code, _, err = run(capsys, "stream", tiny_run, tiny_store, "--mode", "stepp")
    assert code == 2 and "did you mean 'step'" in err
