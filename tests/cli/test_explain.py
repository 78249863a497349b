"""`kinegraph explain`: pictures, summary and JSON of a clip, and what it refuses."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from kinegraph.cli import main


@pytest.fixture
def explain(capsys, tmp_path):
    """Return a function that runs the command: exit code, standard output and error."""

    def run(*words: object) -> tuple[int, str, str]:
        code = 0
        try:
            main(["explain", *map(str, words), "--out", str(tmp_path / "out")])
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


def test_pictures_and_summary_of_a_clip(explain, tiny_run, tiny_store, tmp_path):
    code, out, _ = explain(tiny_run, tiny_store, "--clip", "clip003")
    assert code == 0
    assert out.startswith("clip003: here ")
    assert out.count("than chance") == 2
    folder = tmp_path / "out"
    assert {path.name for path in folder.iterdir()} == {"skeleton.png", "heatmap.png", "clip.gif"}
    with Image.open(folder / "clip.gif") as image:
        assert image.n_frames > 5
    code, out, error = explain(tiny_run, tiny_store, "--json", "--class", "away")
    assert code == 0
    found = json.loads(out)
    assert (found["id"], found["name"]) == ("clip000", "away")
    assert str(tmp_path / "out-2") in error


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--clip", "clip99"), "unknown clip"), (("--class", "nowhere"), "unknown action")],
)
def test_unknown_clips_and_classes_are_one_sentence(
    explain, tiny_run, tiny_store, tmp_path, words, message
):
    code, _, error = explain(tiny_run, tiny_store, *words)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
