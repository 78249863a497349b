"""The command line as a user meets it: outputs, exit codes, one sentence for each mistake."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import kinegraph
from conftest import made_up_clips
from kinegraph.cli import main
from kinegraph.clips.writer import StoreWriter
from kinegraph.training.checkpoint import load_model, save_checkpoint


def run(capsys, *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_help_names_every_verb_and_imports_nothing_heavy():
    code = (
        "import sys, kinegraph\n"
        "from kinegraph.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'matplotlib', 'scipy', 'lightning', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    verbs = (
        "demo convert inspect import train evaluate predict stream export compare fuse draw list"
    )
    for verb in verbs.split():
        assert f"  {verb} " in done.stdout


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("readers", "nw_ucla"),
        ("layouts", "ntu25"),
        ("models", "edge_importance=True"),
        ("objectives", "future_weight=0.0"),
        ("protocols", "odd-even-subjects"),
        ("recipes", "stgcn_ntu60_xsub"),
        ("transforms", "repeat_pad"),
        ("conversions", "jhmdb15"),
        ("pretrained", "penn-action"),
        ("classes", "nw_ucla"),
    ],
)
def test_list(capsys, kind, part):
    code, out, _ = run(capsys, "list", kind)
    assert code == 0
    assert part in out


def test_list_joints_of_a_layout_in_order(capsys):
    code, out, _ = run(capsys, "list", "layouts", "alphapose26")
    assert code == 0
    rows = [line.split() for line in out.splitlines() if line[:1].isdigit()]
    assert [row[0] for row in rows] == [str(number) for number in range(26)]
    assert rows[7] == ["7", "left_elbow", "left_shoulder", "right_elbow"]
    assert rows[18] == ["18", "neck", "–", "–"]
    assert run(capsys, "list", "models", "stgcn")[0] == 2


def test_the_version(capsys):
    code, out, _ = run(capsys, "--version")
    assert (code, out) == (0, f"kinegraph {kinegraph.__version__}\n")


def test_list_recipes_names_their_folder(capsys):
    folder = run(capsys, "list", "recipes")[1].rpartition(" files in ")[2].partition(": copy")[0]
    assert (Path(folder) / "nw_ucla.yaml").is_file()


def test_list_recipes_by_a_part_of_their_names(capsys):
    code, out, _ = run(capsys, "list", "recipes", "nw_ucla")
    names = [line.split()[0] for line in out.splitlines() if "nw_ucla" in line.split(" ")[0]]
    assert code == 0
    assert "shiftgcn_nw_ucla" in names
    assert "utd_mhad" not in out
    code, _, err = run(capsys, "list", "recipes", "nw_ucle")
    assert code == 2
    assert "did you mean 'nw_ucla'" in err


def test_list_classes_of_a_set(capsys):
    code, out, _ = run(capsys, "list", "classes", "nw_ucla")
    assert code == 0
    assert len(out.splitlines()) == 10


def test_evaluate_json_has_the_promised_fields(capsys, tiny_run):
    code, out, _ = run(capsys, "evaluate", tiny_run, "--json")
    result = json.loads(out)
    assert code == 0
    assert {"clips", "top1", "top5", "mean_class", "ece"} <= set(result)
    assert 0 <= result["top1"] <= 1
    assert (tiny_run / "scores-test.npz").is_file()


def test_evaluate_text_has_a_row_a_class(capsys, tiny_run):
    code, out, _ = run(capsys, "evaluate", tiny_run, "--split", "train")
    assert code == 0
    assert out.startswith("12 clips, top-1 ")
    assert all(name in out for name in ("here", "there", "away"))


def test_predict_on_a_store_gives_one_object_a_clip(capsys, tiny_run, tiny_store):
    code, out, _ = run(capsys, "predict", tiny_run, tiny_store, "--json", "--top", 2)
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [answer["id"] for answer in answers[:2]] == ["clip000", "clip001"]
    assert all(set(answer) == {"id", "is_confident", "top", "logits"} for answer in answers)
    assert set(answers[0]["top"][0]) == {"label", "name", "probability"}
    assert len(answers[0]["top"]) == 2


def test_inspect_in_words_and_json(capsys, tiny_store):
    code, out, _ = run(capsys, "inspect", tiny_store)
    assert code == 0
    assert "jhmdb15" in out
    code, out, _ = run(capsys, "inspect", tiny_store, "--json")
    assert json.loads(out)["clips"] == 24


def test_train_says_that_the_test_clips_chose_the_epoch(capsys, tmp_path, tiny_recipe):
    tiny_recipe["validation"] = {"split": "test", "fraction": 0}
    tiny_recipe["train"]["epochs"] = 2
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_recipe))
    code, out, _ = run(capsys, "train", tmp_path / "tiny.yaml", "--out", tmp_path / "run")
    assert code == 0
    assert "the best epoch was chosen on these test clips, so the figures are optimistic" in out


def test_train_writes_a_report_and_prints_a_summary(capsys, tmp_path, tiny_recipe):
    recipe = tmp_path / "my.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe))
    out_folder = tmp_path / "run"
    code, out, _ = run(capsys, "train", recipe, "train.epochs=1", "--out", out_folder)
    assert code == 0
    assert "test: 12 clips, top-1 " in out
    assert str(out_folder / "report.html") in out
    page = (out_folder / "report.html").read_text(encoding="utf-8")
    assert "tiny" in page
    assert "epochs: 1" in page
    code, _, err = run(capsys, "train", recipe, "--out", out_folder)
    assert code == 2
    assert "is not empty" in err


def test_draw_graph_clip_and_run(capsys, tmp_path, tiny_run, tiny_store):
    for words in (
        ("draw", "graph", "penn13", "--out", tmp_path / "graph.png"),
        ("draw", "clip", tiny_store, "clip003", "--out", tmp_path / "clip.png"),
        ("draw", "clip", tiny_store, "clip003", "--gif", "--out", tmp_path / "clip.gif"),
        ("draw", "graph", tiny_run, "--out", tmp_path / "of-run.png"),
        ("draw", "shift", "florence15", "--out", tmp_path / "shift.png"),
        ("draw", "run", tiny_run, "--out", tmp_path / "pictures"),
    ):
        code, out, err = run(capsys, *words)
        assert code == 0, err
        assert out.strip()
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "clip.gif").read_bytes().startswith(b"GIF8")
    assert {p.name for p in (tmp_path / "pictures").iterdir()} >= {"curves.png", "graph.png"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("inspect", "absent.arrow"), "there is no clip store absent.arrow"),
        (("evaluate", "absent"), "absent does not exist"),
        (("train", "nw_ulca"), "did you mean 'nw_ucla'"),
        (("draw", "graph", "ntu-25"), "unknown layout 'ntu-25' (did you mean 'ntu25'?)"),
        (("draw", "graph", "ntu25", "--out", "x.bak"), "expected a figure named .png, .svg, .pdf"),
        (("draw", "graph", "ntu25", "--out", "no/x.png"), "the folder no does not exist"),
        (
            ("draw", "clip", "x.arrow", "a", "--gif", "--out", "x.png"),
            "expected a figure named .gif",
        ),
        (("draw", "shift", "ntu-25"), "unknown layout 'ntu-25' (did you mean 'ntu25'?)"),
        (("draw", "shift", "penn-action"), "expected a network with spatial shifts"),
        (("draw", "graph", "penn-action", "--max-hop", "2"), "is fixed; leave out --max-hop"),
        (("draw", "graph", "ntu25", "--center-distance", "half"), "known: full, truncated"),
        (("convert", "ntuu", ".", "x.arrow"), "unknown reader 'ntuu' (did you mean 'ntu'?)"),
        (("convert", "ntu", ".", "x.arrow", "--person", "agcn"), "did you mean 'persons'"),
        (("convert", "ntu", "absent", "x.arrow"), "absent"),
        (("list", "classes", "fsd"), "fsd"),
        (("list", "layouts", "halp26"), "did you mean 'halpe26'"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *words)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_an_answer_that_is_no_number_is_refused_and_never_written_as_json(
    capsys, tmp_path, tiny_run, tiny_store
):
    model, header = load_model(tiny_run)
    state = {
        key: value * torch.nan if "head" in key else value
        for key, value in model.state_dict().items()
    }
    save_checkpoint(tmp_path / "last.safetensors", state, header)
    for words in (("predict", tmp_path, tiny_store, "--json"), ("evaluate", tmp_path, "--json")):
        code, out, err = run(capsys, *words)
        assert (code, out) == (2, "")
        assert "the training has diverged" in err
    code, out, err = run(capsys, "stream", tmp_path, tiny_store, "--json")
    assert code == 0, err
    told = [json.loads(line, parse_constant=pytest.fail) for line in out.splitlines()]
    assert told


def test_a_clip_whose_id_is_a_path_is_drawn_here(capsys, tmp_path, monkeypatch):
    clips = [dataclasses.replace(clip, id=f"../a/{clip.id}") for clip in made_up_clips()]
    with StoreWriter(tmp_path / "s.arrow", clips[0].layout, None, {}) as writer:
        for clip in clips:
            writer.write(clip)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, out, err = run(capsys, "draw", "clip", tmp_path / "s.arrow", clips[0].id)
    assert code == 0, err
    assert out == "a-clip000.png\n"
    assert [path.name for path in tmp_path.joinpath("here").iterdir()] == ["a-clip000.png"]


def test_a_file_that_cannot_be_written_is_told_in_a_sentence(capsys, tmp_path, tiny_store):
    place = tmp_path / "clip.png"
    place.mkdir()
    code, _, err = run(capsys, "draw", "clip", tiny_store, "clip000", "--out", place)
    assert code == 2
    assert err == f"kinegraph: {place}: Is a directory\n"


def test_predict_refuses_what_is_no_recording(capsys, tmp_path, tiny_run):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    code, _, err = run(capsys, "predict", tiny_run, path)
    assert code == 2
    assert "--reader" in err


def test_predict_answers_the_good_files_beside_a_bad_one(capsys, tmp_path, tiny_run, tiny_store):
    bad = tmp_path / "bad.arrow"
    bad.write_bytes(tiny_store.read_bytes()[:500])
    code, out, err = run(capsys, "predict", tiny_run, bad, tiny_store, "--json")
    assert code == 2
    assert len(out.splitlines()) == 24
    assert err.count("\n") == 1
    assert "bad.arrow" in err


def test_predict_prints_notes_of_readers_once(capsys, tiny_run, tmp_path):
    with StoreWriter(tmp_path / "a.arrow", made_up_clips()[0].layout) as writer:
        for clip in made_up_clips()[:3]:
            writer.write(dataclasses.replace(clip, meta={"notes": "scores were capped"}))
    code, out, err = run(capsys, "predict", tiny_run, tmp_path / "a.arrow", "--json")
    assert (code, err) == (0, "note: scores were capped\n")
    assert [json.loads(line)["notes"] for line in out.splitlines()] == [["scores were capped"]] * 3


def test_a_label_file_follows_its_array(capsys, tmp_path):
    from kinegraph.clips.store import ClipStore

    np.save(tmp_path / "a.npy", np.ones((2, 3, 4, 25, 1)) * np.arange(1, 26)[:, None])
    np.save(tmp_path / "numbers.npy", [3, 4])
    store, words = tmp_path / "s.arrow", ("convert", "stacked", tmp_path / "a.npy")
    assert run(capsys, *words, tmp_path / "numbers.npy", store, "--up=y", "--unit", "m")[0] == 0
    assert ClipStore(store).labels.tolist() == [3, 4]
    for more, reason in (
        ((), "expected SOURCE [LABELS] STORE, got"),
        ((tmp_path / "absent.pkl", store), "absent.pkl does not exist"),
        ((tmp_path / "numbers.npy", store, "--labels", "x"), "two label files"),
        ((store, store, store), "expected SOURCE [LABELS] STORE, got"),
        ((store, "--labels"), "'--labels': a reader's options are --key value pairs"),
    ):
        code, _, err = run(capsys, *words, *more)
        assert code == 2 and reason in err
    code, _, err = run(capsys, "convert", "pyskl", store, store, store)
    assert code == 2 and "convert pyskl: expected SOURCE STORE, got" in err


def test_convert_to_half_the_bytes_tells_the_rounding(capsys, tmp_path):
    from kinegraph.clips.store import ClipStore
    from kinegraph.readers.synthetic.reader import write_dataset

    write_dataset(tmp_path / "raw", performers=1, replications=1)
    for options in ((), ("--float16",)):
        store = tmp_path / f"store{len(options)}.arrow"
        code, out, _ = run(capsys, "convert", "synthetic", tmp_path / "raw", store, *options)
        assert code == 0
        assert ("maximum rounding error" in out) == bool(options)
    whole, half = (ClipStore(tmp_path / f"store{n}.arrow") for n in (0, 1))
    assert half.path.stat().st_size < 0.6 * whole.path.stat().st_size
    assert 0 < half.rounding < 0.002


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_bfloat16_says_what_it_does_to_the_answers(capsys, tiny_run, tiny_store, verb):
    files = [tiny_store] if verb == "predict" else []
    code, _, err = run(capsys, verb, tiny_run, *files, "--json", "--precision", "bf16")
    assert code == 0 and "precision: bfloat16: logits change by up to" in err
    code, _, err = run(capsys, verb, tiny_run, *files, "--precision", "half")
    assert code == 2 and "unknown precision 'half'" in err
