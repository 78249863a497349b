"""benchmarks/pretraining.py: equal runs with and without an encoder, rows of finished sets."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from kinegraph.models import model_options
from kinegraph.training.recipe import load_recipe
from test_architecture import SOURCE


@pytest.fixture
def pretraining(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SOURCE.parents[1] / "benchmarks"))
    return importlib.import_module("pretraining")


def test_only_the_start_differs_and_only_finished_sets_have_rows(
    pretraining, tmp_path, monkeypatch, capsys
):
    trained: dict[str, tuple] = {}
    tables = {}

    def train_run(recipe: str, folder: Path, *changes: str) -> None:
        trained[folder.name] = (recipe, *changes)
        folder.mkdir()
        if folder.name != "sbu-random-2":
            (folder / "report.html").touch()

    monkeypatch.setattr(pretraining, "train_run", train_run)
    monkeypatch.setattr(pretraining, "get_store", lambda source, data, out: out / source)
    monkeypatch.setattr(pretraining, "accuracy", lambda folder: 90.0 + ("encoder" in folder.name))
    monkeypatch.setattr(pretraining, "write_table", lambda *table: tables.update({table[0]: table}))
    only = ["--only", "few_labels", "sbu", "--encoder", "enc", "--out", str(tmp_path)]
    pretraining.main(["data", *only])
    assert len(trained) == 12
    for name, words in trained.items():
        twin = trained[name.replace("encoder", "random")]
        assert words == (twin if "random" in name else (*twin, "init_from=enc"))
    row = "| UTD-MHAD, a tenth of the labels | 90.0 ± 0.0 | 91.0 ± 0.0 | +1.0 | 3 |"
    assert tables["pretraining"][2] == [row]
    assert capsys.readouterr().out == row + "\n"


def test_the_encoder_fits_the_model_of_every_case(pretraining):
    encoder = load_recipe("pretrain").model_spec()
    free = {"pool", "head_dropout"}
    known = {key: value for key, value in encoder["options"].items() if key not in free}
    for case in pretraining.CASES:
        model = load_recipe(case.recipe, case.changes).model_spec()
        assert encoder["name"] in (model["name"], f"{model['name']}_autoencoder")
        options = {**model_options("stgcn"), **model["options"]}
        assert known.items() <= options.items(), case.name
        others = options.keys() - known.keys() - free
        assert all(options[key] == model_options("stgcn")[key] for key in others), case.name
