"""`kinegraph bench`: every verb in little, JSON that parses, mistakes told before anything runs."""

from __future__ import annotations

import json

import pytest

from bench.conftest import small, small_work
from kinegraph.bench import table
from kinegraph.bench.fixtures import made_up_store, made_up_texts
from kinegraph.bench.table import BEGIN, END
from kinegraph.bench.targets import ROWS
from kinegraph.cli import main

__all__ = ["small", "small_work"]  # the fixture acts here too


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """(store, raw folder)."""
    folder = tmp_path_factory.mktemp("recordings")
    made_up_texts(folder / "raw", 2)
    return made_up_store(folder / "store.arrow", 20), folder / "raw"


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
    assert any(line.startswith("plain fp32") for line in lines)
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
def test_json_and_picture(capsys, tmp_path, words):
    rounds = () if "--streams" in words else ("--rounds", 1)
    code, out, _ = run(capsys, *words, *rounds, "--json", "--picture", tmp_path / "p.png")
    assert code == 0
    told = json.loads(out)
    assert told["machine"]
    assert told["sides"][-1]["name"] == "kinegraph fp32" or "Step" in told["sides"][-1]["name"]
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_data_and_conversion(capsys, recordings):
    store, raw = recordings
    told = json.loads(run(capsys, "data", "--store", store, "--rounds", 1, "--json")[1])
    assert told["bytes"]["ratio in float32"] > 3
    code, out, _ = run(capsys, "data", "--store", store, "--rounds", 1)
    assert code == 0
    assert "bytes: dense float32 (MB) " in out
    told = json.loads(run(capsys, "convert", "--raw", raw, "--rounds", 1, "--json")[1])
    assert told["what"].startswith("2 .skeleton files")


def test_floors(capsys, recordings):
    store, raw = recordings
    told = json.loads(run(capsys, "floors", "--store", store, "--raw", raw, "--json")[1])
    assert [floor["row"] for floor in told["floors"]] == [row.key for row in ROWS]
    code, out, _ = run(capsys, "floors", "--store", store, "--raw", raw)
    assert code == 0
    assert out.count("\n") > len(ROWS)


def test_chosen_rows_into_a_page(capsys, recordings, tmp_path):
    store, raw = recordings
    page, picture = tmp_path / "page.md", tmp_path / "all.svg"
    page.write_text(f"# Page\n{BEGIN}\n{END}\n")
    words = ("--store", store, "--raw", raw, "--rounds", 1, "--page", page, "--picture", picture)
    code, out, _ = run(capsys, "all", "convert", "bytes", "crops", *words)
    assert code == 0
    assert out.splitlines()[0] == f"| {' | '.join(table.HEADER)} |"
    assert "| bytes on disk against dense float32 | 6x | 12x |" in page.read_text()
    assert picture.read_text().startswith("<?xml")
    told = json.loads(run(capsys, "all", "bytes", "--store", store, "--json")[1])
    assert told["rows"][0]["reached"] > 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("infer", "--model", "stgnc"), "did you mean 'stgcn'"),
        (("infer", "--against", "onyx"), "unknown opponent 'onyx'"),
        (("infer", "--picture", "p.bmp"), "expected a picture named .png, .svg, .pdf, .jpg"),
        (("infer", "--picture", "none/p.png"), "there is no folder none"),
        (("infer", "--real", "none.arrow"), "there is no clip store none.arrow"),
        (("stream", "--model", "asgcn"), "asgcn has no step network"),
        (("convert", "--raw", "none"), "none: expected .skeleton files"),
        (("data", "--store", "none.arrow"), "there is no clip store"),
        (("all", "bites"), "unknown row 'bites'"),
        (("all", "--page", "none.md"), "cannot read the page none.md"),
        (("floors", "--raw", "none"), "none: expected .skeleton files"),
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
