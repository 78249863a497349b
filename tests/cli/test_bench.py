"""`kinegraph bench`: every command on small work, valid JSON, and mistakes found before work."""

from __future__ import annotations

import json

import pytest

from bench.conftest import small, small_work
from kinegraph.bench import targets
from kinegraph.bench.fixtures import write_synthetic_ntu_files, write_synthetic_store
from kinegraph.bench.targets import TABLE_BEGIN, TABLE_END, TARGETS
from kinegraph.cli import main

__all__ = ["small", "small_work"]  # the fixture acts here too


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """(store, raw folder)."""
    folder = tmp_path_factory.mktemp("recordings")
    write_synthetic_ntu_files(folder / "raw", 2)
    return write_synthetic_store(folder / "store.arrow", 20), folder / "raw"


def run(capsys, *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["bench", *map(str, words)])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_infer_as_text(capsys):
    code, out, _ = run(capsys, "infer", "--model", "shiftgcn", "--rounds", 2, "--threads", 1)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "shiftgcn, 1 dense clip of 32 frames, 2 persons"
    assert any(line.startswith("reference fp32") for line in lines)
    assert any(line.startswith("ratio ") and "quartiles" in line for line in lines)
    assert "PyTorch" in lines[-1]


@pytest.mark.parametrize(
    "words",
    [
        ("infer",),
        ("stream",),
        ("stream", "--streams", 2),
        ("train", "--epochs", 0, "--batch", 1),
    ],
    ids=lambda words: "-".join(map(str, words)),
)
def test_json_and_figure(capsys, tmp_path, words):
    rounds = () if "--streams" in words else ("--rounds", 1)
    code, out, _ = run(capsys, *words, *rounds, "--json", "--figure", tmp_path / "p.png")
    assert code == 0
    result = json.loads(out)
    assert result["machine"]
    assert result["sides"][-1]["name"] == "kinegraph fp32" or "Step" in result["sides"][-1]["name"]
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_data_and_conversion(capsys, recordings):
    store, raw = recordings
    result = json.loads(run(capsys, "data", "--store", store, "--rounds", 1, "--json")[1])
    assert result["bytes"]["ratio in float32"] > 3
    code, out, _ = run(capsys, "data", "--store", store, "--rounds", 1)
    assert code == 0
    assert "bytes: dense float32 (MB) " in out
    result = json.loads(run(capsys, "convert", "--raw", raw, "--rounds", 1, "--json")[1])
    assert result["what"].startswith("2 .skeleton files")


def test_training_a_recipe(capsys, tmp_path, tiny_recipe):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(json.dumps(tiny_recipe))
    code, out, _ = run(capsys, "train", recipe, "--epochs", 1)
    assert code == 0
    assert out.startswith(f"tiny on {tiny_recipe['store']}: epochs 1, clips an epoch 9, devices 1")
    result = json.loads(run(capsys, "train", recipe, "seed=1", "train.epochs=2", "--json")[1])
    assert (result["recipe"], result["epochs"]) == ("tiny", 2)


def test_roofline(capsys, recordings):
    store, raw = recordings
    result = json.loads(run(capsys, "roofline", "--store", store, "--raw", raw, "--json")[1])
    assert [bound["target"] for bound in result["bounds"]] == [target.key for target in TARGETS]
    code, out, _ = run(capsys, "roofline", "--store", store, "--raw", raw)
    assert code == 0
    assert out.count("\n") > len(TARGETS)


def test_selected_targets_into_a_page(capsys, recordings, tmp_path):
    store, raw = recordings
    page, figure = tmp_path / "page.md", tmp_path / "all.svg"
    page.write_text(f"# Page\n{TABLE_BEGIN}\n{TABLE_END}\n")
    words = ("--store", store, "--raw", raw, "--rounds", 1, "--page", page, "--figure", figure)
    code, out, _ = run(capsys, "all", "convert", "bytes", "crops", "--threads", 3, *words)
    assert code == 0
    assert out.splitlines()[0] == f"| {' | '.join(targets.TABLE_HEADER)} |"
    assert "| bytes on disk against dense float32 | 6x | 12x |" in page.read_text()
    assert ", 3 threads, " in page.read_text().partition("Measured on: ")[2]
    assert figure.read_text().startswith("<?xml")
    result = json.loads(run(capsys, "all", "bytes", "--store", store, "--json")[1])
    assert result["targets"][0]["measured"] > 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("infer", "--model", "stgnc"), "did you mean 'stgcn'"),
        (("infer", "--against", "onyx"), "unknown backend 'onyx'"),
        (("infer", "--figure", "p.bmp"), "expected a figure named .png, .svg, .pdf, .jpg"),
        (("infer", "--figure", "none/p.png"), "the folder none does not exist"),
        (("infer", "--recorded", "none.arrow"), "there is no clip store none.arrow"),
        (("stream", "--model", "asgcn"), "asgcn has no step network"),
        (("convert", "--raw", "none"), "none: expected .skeleton files"),
        (("data", "--store", "none.arrow"), "there is no clip store"),
        (("train", "nw_ulca"), "did you mean 'nw_ucla'"),
        (("train", "nw_ucla", "--batch", 4), "--batch: only without a recipe; give recipe values"),
        (("all", "bites"), "unknown target 'bites'"),
        (("all", "--page", "none.md"), "cannot read the page none.md"),
        (("roofline", "--raw", "none"), "none: expected .skeleton files"),
    ],
)
def test_mistakes(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *words)
    assert code == 2
    assert not out
    assert err.startswith("kinegraph: ")
    assert message in err
    assert len(err.splitlines()) == 1
