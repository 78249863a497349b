"""`make records` on a tiny store: runs, rows of streams and their sum, and runs that are kept."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from kinegraph.cli import main
from kinegraph.clips.scores import Scores
from kinegraph.clips.splits import get_split_indices
from kinegraph.clips.store import ClipStore
from kinegraph.training.recipe import load_recipe
from test_architecture import SOURCE

BENCHMARKS = SOURCE.parents[1] / "benchmarks"
OLD = "| Other | its model | joint | 50.0 | – | 1 | last of 3 | 1.0 |"
PROTOCOL = "odd-even-subjects"


@pytest.fixture
def records(tmp_path, tiny_store, tiny_recipe, monkeypatch) -> ModuleType:
    """Return the script, with a tiny store, recipe and page in place of the real ones."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    accuracy, made = map(importlib.import_module, ("accuracy", "records"))
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(tiny_store, out / "tiny.arrow")
    recipe = {**tiny_recipe, "validation": {"fraction": 0}}
    recipe["train"] = {**recipe["train"], "epochs": 1}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    row = {
        "title": "Tiny",
        "model": "ST-GCN",
        "source": "tiny",
        "recipe": str(tmp_path / "tiny.yaml"),
        "changes": ["train.batch_size=6"],
        "protocols": [PROTOCOL],
        "seeds": [0, 1],
        "streams": ["joint", "bone"],
        "fusion": [1, 1],
    }
    (tmp_path / "records.yaml").write_text(yaml.safe_dump({"cpu": [row], "gpu": [row]}))
    page = "".join(
        f"<!-- {name}: begin -->\n| header |\n|---|\n{OLD}\n<!-- {name}: end -->\n"
        for name in ("records", "records-gpu")
    )
    (tmp_path / "numbers.md").write_text(page)
    monkeypatch.setattr(made, "RECORDS", tmp_path / "records.yaml")
    monkeypatch.setattr(accuracy, "TABLE", tmp_path / "numbers.md")
    return made


class FakeTraining:
    """Training that copies a finished run and writes scores in which the last clips are wrong."""

    def __init__(self, run: Path, store: Path) -> None:
        self.run, self.store = run, ClipStore(store)
        self.commands: list[list[str]] = []
        self.wrong: dict[str, int] = {"joint": 3, "bone": 6}

    def __call__(self, words: Any, timeout_s: float | None = None) -> str:
        self.commands.append([*map(str, words)])
        folder = Path(words[words.index("--out") + 1])
        shutil.copytree(self.run, folder, dirs_exist_ok=True)
        stream = folder.name.split("-")[-2]
        test = get_split_indices(self.store, PROTOCOL, "test")
        labels = self.store.labels[test]
        logits = np.eye(3, dtype=np.float32)[labels] * (2 if stream == "joint" else 1)
        wrong = self.wrong[stream]
        logits[-wrong:] = 3 - logits[-wrong:]
        Scores(tuple(self.store.ids[i] for i in test), labels, logits).save(
            folder / "scores-test.npz"
        )
        (folder / "report.html").write_text("")
        return ""


@pytest.fixture
def training(records, tiny_run, tiny_store, monkeypatch) -> FakeTraining:
    made = FakeTraining(tiny_run, tiny_store)
    monkeypatch.setattr(records, "run", made)
    return made


def rows(page: Path, table: str = "records") -> list[str]:
    """Return the rows of a table of the page, without its header."""
    inside = page.read_text().split(f"<!-- {table}: begin -->")[1].split("<!--")[0]
    return [line for line in inside.splitlines() if line.startswith("|")][2:]


def test_rows_of_streams_and_their_sum_are_written_beside_the_others(records, training, tmp_path):
    records.main([str(tmp_path), "--out", str(tmp_path / "out"), "--jobs", "1"])
    assert len(training.commands) == 4
    assert training.commands[0][2:6] == [
        *("train.batch_size=6", f"store={tmp_path / 'out' / 'tiny.arrow'}"),
        *(f"protocol={PROTOCOL}", "seed=0"),
    ]
    old, joint, bone, fused = rows(tmp_path / "numbers.md")
    assert old == OLD
    assert joint.startswith("| Tiny | ST-GCN | joint | 75.0 ± 0.0 | – | 2 | last of 20 | ")
    assert bone.startswith("| Tiny | ST-GCN | bone | 50.0 ± 0.0 | ")
    assert fused.startswith("| Tiny | ST-GCN | fused | 75.0 ± 0.0 | ")
    assert rows(tmp_path / "numbers.md", "records-gpu") == [OLD]


def test_finished_runs_are_kept_others_resumed_and_rows_replaced(records, training, tmp_path):
    arguments = [str(tmp_path), "--out", str(tmp_path / "out")]
    records.main(arguments)
    before = rows(tmp_path / "numbers.md")
    joint = next((tmp_path / "out").glob("tiny/tiny-*/*-joint-1"))
    shutil.rmtree(joint)
    joint.mkdir()
    (joint / "resume.ckpt").touch()
    training.wrong["joint"] = 6
    records.main(arguments)
    assert len(training.commands) == 5
    assert training.commands[-1][-3:] == ["--out", str(joint), "--resume"]
    after = rows(tmp_path / "numbers.md")
    assert len(after) == len(before) == 4
    assert "| joint | 62.5 ± 17.7 |" in after[1]
    assert after[2] == before[2]


def test_datasets_that_share_a_recipe_and_a_protocol_have_their_own_runs(
    records, training, tmp_path
):
    rows = yaml.safe_load((tmp_path / "records.yaml").read_text())
    rows["cpu"].append({**rows["cpu"][0], "title": "Other", "source": "other"})
    (tmp_path / "records.yaml").write_text(yaml.safe_dump(rows))
    shutil.copy(tmp_path / "out" / "tiny.arrow", tmp_path / "out" / "other.arrow")
    records.main([str(tmp_path), "--out", str(tmp_path / "out")])
    folders = [command[command.index("--out") + 1] for command in training.commands]
    assert len(set(folders)) == len(folders) == 8


def test_changed_recipes_are_trained_anew(records, training, tmp_path):
    arguments = [str(tmp_path), "--out", str(tmp_path / "out")]
    records.main(arguments)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(recipe.read_text().replace("lr: 0.05", "lr: 0.01"))
    records.main([*arguments, "--only", "other"])
    assert len(training.commands) == 4
    records.main([*arguments, "--only", "tiny"])
    assert len(training.commands) == 8


def test_a_gpu_run_that_needs_longer_has_no_row(records, training, tmp_path, monkeypatch, capsys):
    def stop(words: Any, timeout_s: float | None = None) -> str:
        assert timeout_s == 25 * 60
        raise subprocess.TimeoutExpired("train", timeout_s)

    monkeypatch.setattr(records, "run", stop)
    records.main([str(tmp_path), "--out", str(tmp_path / "out"), "--gpu"])
    assert rows(tmp_path / "numbers.md", "records-gpu") == [OLD]
    assert "stopped, it needs more than 25 minutes" in capsys.readouterr().err
    monkeypatch.setattr(records, "run", training)
    records.main([str(tmp_path), "--out", str(tmp_path / "out"), "--gpu"])
    assert len(rows(tmp_path / "numbers.md", "records-gpu")) == 4
    assert rows(tmp_path / "numbers.md") == [OLD]


def test_a_record_never_chooses_its_epoch_on_test_clips(records, tmp_path):
    recipe = tmp_path / "tiny.yaml"
    text = recipe.read_text().replace("fraction: 0", "fraction: 0\n  split: test")
    recipe.write_text(text)
    with pytest.raises(SystemExit, match="may not choose its epoch on test clips"):
        records.main([str(tmp_path), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("group", ["cpu", "gpu"])
def test_the_listed_records_are_of_bundled_recipes(group, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for record in importlib.import_module("records").read_records(group):
        recipe = record.load()
        for job in record.jobs():
            changes = [*record.changes, f"protocol={job.protocol}", f"stream={job.stream}"]
            assert load_recipe(record.recipe, changes).name == recipe.name


@pytest.mark.slow
def test_real_training_on_a_tiny_store(records, tmp_path, monkeypatch):
    def here(words: Any, timeout_s: float | None = None) -> str:
        with pytest.raises(SystemExit) as end:
            main([*map(str, words)])
        assert not end.value.code
        return ""

    monkeypatch.setattr(records, "run", here)
    records.main([str(tmp_path), "--out", str(tmp_path / "out"), "--jobs", "1"])
    old, *made = rows(tmp_path / "numbers.md")
    assert old == OLD
    assert [line.split(" | ")[2] for line in made] == ["joint", "bone", "fused"]
