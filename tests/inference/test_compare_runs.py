"""Comparison of runs: groups by settings, spread over seeds, paired differences."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from kinegraph.cli import main
from kinegraph.clips.scores import Scores
from kinegraph.errors import CheckpointError, UnknownNameError
from kinegraph.inference.compare_runs import compare_runs
from kinegraph.reports.draw_compare import draw_comparison
from kinegraph.training.checkpoint import load_header, load_model, save_checkpoint

IDS = tuple("abcdefghij")


@pytest.fixture
def make_run(tmp_path, tiny_run):
    """Return a function that writes a run of a recipe with so many of ten clips right."""
    model, header = load_model(tiny_run)
    recipe = header.recipe

    def make(folder_name, right, *, seed=0, ids=IDS, **model_options):
        folder = tmp_path / folder_name
        folder.mkdir()
        changed = recipe | {"name": folder_name, "seed": seed, "model": model_options}
        own = dataclasses.replace(header, recipe=changed)
        save_checkpoint(folder / "last.safetensors", model.state_dict(), own)
        answers = np.where(np.arange(10) < right, 0, 1)
        logits = np.eye(3, dtype=np.float32)[answers]
        Scores(ids, np.zeros(10, np.int64), logits).save(folder / "scores-test.npz")
        return folder

    return make


@pytest.fixture
def wirings(make_run):
    """Two settings with the seeds 0, 1, 2 and a third with one of them."""
    rows = [("plain", None, (5, 6, 8)), ("me", "me_parallel", (7, 8, 9)), ("ce", "ce", (6,))]
    return [
        make_run(f"{name}{seed}", right, seed=seed, name="shiftgcn", excitation=value)
        for name, value, results in rows
        for seed, right in enumerate(results)
    ]


def test_settings_are_runs_that_differ_in_their_seed(wirings):
    found = compare_runs(wirings)
    assert (found.metric, found.clips) == ("top1", 10)
    names = ["excitation=null", "excitation=me_parallel", "excitation=ce"]
    assert [setting.name for setting in found.settings] == names
    plain, me, ce = found.settings
    assert plain.values == pytest.approx({0: 0.5, 1: 0.6, 2: 0.8})
    assert (plain.mean, plain.std) == pytest.approx((19 / 30, np.std([0.5, 0.6, 0.8], ddof=1)))
    assert plain.difference is None
    assert me.difference.by_seed == pytest.approx({0: 0.2, 1: 0.2, 2: 0.1})
    mean, std = 0.5 / 3, np.std([0.2, 0.2, 0.1], ddof=1)
    half = 4.302653 * std / np.sqrt(3)  # Student's t, 2 degrees of freedom
    assert (me.difference.mean, me.difference.std) == pytest.approx((mean, std))
    assert me.difference.interval == pytest.approx((mean - half, mean + half), rel=1e-5)
    assert (ce.std, ce.difference.std, ce.difference.interval) == (None, None, None)
    assert ce.difference.mean == pytest.approx(0.1)


def test_epochs_that_were_selected_do_not_make_another_setting(make_run):
    runs = []
    for seed, epochs in enumerate((3, 7)):
        run = make_run(f"s{seed}", 5, seed=seed)
        header = load_header(run / "last.safetensors")
        train = header.recipe["train"] | {"epochs": epochs, "cosine_epochs": 9}
        chosen = dataclasses.replace(
            header,
            recipe=header.recipe | {"train": train},
            training=header.training | {"selection": {"epochs": epochs, "of": 9}},
        )
        save_checkpoint(run / "last.safetensors", header.build_model().state_dict(), chosen)
        runs.append(run)
    (setting,) = compare_runs(runs).settings
    assert set(setting.values) == {0, 1}


def test_seeds_without_a_partner_are_not_paired(make_run):
    runs = [make_run("a", 5, seed=0, lr=1), make_run("b", 6, seed=1, lr=2)]
    assert compare_runs(runs).settings[1].difference is None


def test_long_values_are_numbered_and_equal_keys_stay_apart(make_run):
    long = [list(range(20)), list(range(21))]
    runs = [make_run(str(i), 5, channels=long[i], epochs=1 + i) for i in range(2)]
    names = [setting.name for setting in compare_runs(runs).settings]
    assert names == ["channels=#1, epochs=1", "channels=#2, epochs=2"]
    again = make_run("2", 5, seed=1, channels=long[0], epochs=1)
    (setting,) = compare_runs([runs[0], again]).settings
    assert setting.name == "0"  # of the first run


def test_runs_that_cannot_be_compared_are_refused(make_run, wirings):
    with pytest.raises(CheckpointError, match="two or more runs to compare, got 1"):
        compare_runs(wirings[:1])
    with pytest.raises(CheckpointError, match=r"have the same settings and seed \(0\)"):
        compare_runs([wirings[0], wirings[0]])
    other = make_run("other", 5, ids=(*IDS[:9], "z"))
    with pytest.raises(CheckpointError, match="different clips: 9 of 10 and 10 are the same"):
        compare_runs([wirings[0], other])
    with pytest.raises(UnknownNameError, match="unknown metric 'top2'"):
        compare_runs(wirings, metric="top2")


def test_a_run_without_scores_is_evaluated(tiny_run, tmp_path):
    model, header = load_model(tiny_run)
    folder = tmp_path / "again"
    folder.mkdir()
    own = dataclasses.replace(header, recipe=header.recipe | {"seed": 5})
    save_checkpoint(folder / "last.safetensors", model.state_dict(), own)
    (setting,) = compare_runs([tiny_run, folder]).settings
    assert len(set(setting.values.values())) == 1
    assert setting.std == 0


def test_the_figure_has_a_dot_for_each_run_and_each_pair(wirings):
    values, differences = draw_comparison(compare_runs(wirings)).axes
    assert [len(ax.collections) for ax in (values, differences)] == [7, 4]
    labels = [label.get_text() for label in values.get_yticklabels()]
    assert labels == ["excitation=null", "excitation=me_parallel", "excitation=ce"]


def test_the_command_prints_a_table_and_writes_a_figure(wirings, tmp_path, capsys):
    figure = tmp_path / "c.png"
    with pytest.raises(SystemExit) as end:
        main(["compare", *map(str, wirings), "--figure", str(figure)])
    assert not end.value.code
    printed = capsys.readouterr().out
    assert "top-1 (%) on 10 clips" in printed
    assert "80.0 ± 10.0  +16.7 (+2.3 to +31.0)  3 of 3" in printed
    assert "fewer than three seeds" in printed
    assert figure.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):
        main(["compare", *map(str, wirings), "--json"])
    assert json.loads(capsys.readouterr().out)["settings"][1]["difference"]["by_seed"]["2"] > 0
