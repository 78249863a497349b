"""`kinegraph fuse` as a user meets it: the table, the object, the folder, the mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from altered_run import altered_run
from kinegraph.cli import fuse, main
from kinegraph.clips.scores import Scores


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `kinegraph fuse`."""
    code = 0
    try:
        main(["fuse", *map(str, words)])
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def runs(tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A joint and a bone run, by their names within an else empty current folder."""
    monkeypatch.chdir(tmp_path)
    altered_run(tiny_run, Path("runs/tiny-joint"))
    altered_run(tiny_run, Path("runs/tiny-bone"), noise=0.3, stream="bone")
    return ["runs/tiny-joint", "runs/tiny-bone"]


def test_two_streams_from_training_to_the_fused_report(capsys, tmp_path, tiny_recipe, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text(yaml.safe_dump(tiny_recipe))
    with pytest.raises(SystemExit):
        main(["train", "my.yaml", "train.epochs=1", "--streams", "joint,bone"])
    command = capsys.readouterr().out.splitlines()[-1].split()
    assert command[:3] == ["next:", "kinegraph", "fuse"]
    code, out, err = run(capsys, *command[3:])
    assert code == 0, err
    assert "the published ones of Shift-GCN" in out
    assert "report: runs/fused-tiny-joint-bone/report.html" in out


def test_the_table_has_a_line_a_run_and_one_for_all(capsys, runs):
    code, out, _ = run(capsys, *runs)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].strip() == "test of odd-even-subjects"
    assert lines[1].split() == ["run", "stream", "weight", "top-1", "top-5"]
    assert lines[2].split()[:3] == ["tiny-joint", "joint", "0.6"]
    assert lines[3].split()[:3] == ["tiny-bone", "bone", "0.6"]
    assert lines[4].split()[0] == "fused"
    assert lines[6].startswith("fused: 12 clips, top-1 ")


def test_the_object_has_the_promised_fields_and_nothing_else_is_printed(capsys, runs):
    code, out, _ = run(capsys, *runs, "--json", "--weights", "0.75,0.25")
    told = json.loads(out)
    assert code == 0
    assert set(told) == {"runs", "fused", "weights_from"}
    assert told["weights_from"] == "given"
    assert [row["run"] for row in told["runs"]] == runs
    assert [row["weight"] for row in told["runs"]] == [0.75, 0.25]
    assert {"clips", "top1", "confusion"} <= set(told["fused"])


def test_found_weights_are_told_beside_equal_ones(capsys, runs):
    code, out, _ = run(capsys, *runs, "--search")
    assert code == 0
    assert "weights: tuned on 3 held-out clips (accuracy there " in out
    assert "with equal weights" in out
    assert json.loads(run(capsys, *runs, "--search", "--json")[1])["held_out"]["clips"] == 3


def test_the_folder_holds_scores_and_report(capsys, runs):
    for name in ("fused-tiny-joint-bone", "fused-tiny-joint-bone-2"):
        assert run(capsys, *runs, "--weights", "1,0")[0] == 0
        folder = Path("runs") / name
        assert {path.name for path in folder.iterdir()} == {"scores-test.npz", "report.html"}
    scores = Scores.load(folder / "scores-test.npz")
    assert len(scores.ids) == 12
    assert np.isfinite(scores.logits).all()
    assert "Fusion: joint + bone" in (folder / "report.html").read_text(encoding="utf-8")
    assert run(capsys, *runs, "--split", "val", "--out", "elsewhere")[0] == 0
    assert Path("elsewhere/scores-val.npz").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--weights", "0.6"), "expected a weight for each of 2 runs, got 1"),
        (("--weights", "0.6,-0.4"), "expected weights of 0 or more, not all of them 0, got 0.6, -"),
        (("--weights", "nan,1"), "got nan, 1"),
        (("--weights", "0,0"), "got 0, 0"),
        (("--weights", "a,1"), "such as 0.6,0.4, got 'a,1'"),
        (("--weights", ""), "such as 0.6,0.4, got ''"),
        (("--weights", "1,1", "--search"), "give --weights or --search, not both"),
        (("--split", "tset"), "got 'tset'"),
        (("--out", "runs/tiny-bone"), "runs/tiny-bone is not empty"),
        (("--out", "file"), "file is not empty"),
        (("--out", "file/below"), "cannot write into file/below"),
        (("runs/tiny-joint/",), "is given twice"),
        (("runs/none",), "runs/none does not exist"),
        (("--store", "none.arrow"), "there is no clip store none.arrow"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(capsys, runs, words, message):
    Path("file").write_text("here already")
    before = sorted(Path().rglob("*"))
    code, out, err = run(capsys, *runs, *words)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("names", "folder"),
    [
        (["ucla-joint", "ucla-bone"], "fused-ucla-joint-bone"),
        (["joint", "bone"], "fused-joint-bone"),
        (["a", "a-2"], "fused-a-a-2"),
        (["a-2", "a"], "fused-a-2-a"),
        (["x/best.safetensors", "x/last.safetensors"], "fused-x-best.safetensors-last.safetensors"),
        (["n" * 70, "m" * 70], "fused-" + "n" * 70 + "-mmm"),
    ],
)
def test_the_folders_name_says_once_what_the_names_begin_with(names, folder):
    assert fuse.fused_name(names) == folder
