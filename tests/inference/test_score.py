"""Score files of other code: hand-made files of each form, mistakes, and FR-Head's on NW-UCLA."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import real_data
from kinegraph.cli import main
from kinegraph.clips.scores import Scores
from kinegraph.clips.store import ClipStore
from kinegraph.errors import CheckpointError, KinegraphError, ProtocolError, ReadError, RecipeError
from kinegraph.inference.label_lists import read_label_list
from kinegraph.inference.score import score_files
from kinegraph.inference.score_files import read_score_file

ROWS = [[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 2.0, 1.5], [1.0, 0.0, 2.0]]
LABELS = [0, 1, 2, 2]  # the third row is wrong
NAMES = [f"S001C001P001R00{i}A00{label + 1}" for i, label in enumerate(LABELS, 1)]
STREAMS = ("joint", "bone", "joint_motion", "bone_motion")


def save(path: Path, content: Any) -> Path:
    """Write a pickle."""
    path.write_bytes(pickle.dumps(content))
    return path


def rows() -> list[np.ndarray]:
    """Return the rows as the arrays that other code pickles."""
    return [np.array(row, np.float32) for row in ROWS]


@pytest.mark.parametrize(
    ("content", "names", "labels"),
    [
        (dict(zip(NAMES, rows(), strict=True)), NAMES, None),
        ({f"{name}.skeleton": row for name, row in zip(NAMES, rows(), strict=True)}, NAMES, None),
        ({f"test_{i}": rows()[i] for i in (2, 0, 3, 1)}, None, None),
        (rows(), None, None),
        ([row[None] for row in rows()], None, None),
        (np.array(ROWS), None, None),
        ([{"pred_score": row} for row in rows()], None, None),
        (
            [
                {"cls_score": row, "frame_dir": f"folder/{name}", "gt_label": [label]}
                for row, name, label in zip(rows(), NAMES, LABELS, strict=True)
            ],
            NAMES,
            LABELS,
        ),
    ],
)
def test_every_form_of_pickle_gives_the_same_scores(tmp_path, content, names, labels):
    table = read_score_file(save(tmp_path / "scores.pkl", content))
    np.testing.assert_array_equal(table.logits, np.array(ROWS, np.float32))
    assert table.names == (None if names is None else tuple(names))
    assert (None if table.labels is None else table.labels.tolist()) == labels


def test_arrays_and_scores_of_a_run_are_read(tmp_path):
    np.save(tmp_path / "a.npy", np.array(ROWS))
    Scores(tuple(NAMES), np.array(LABELS), np.array(ROWS, np.float32)).save(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", scores=ROWS)
    for name in ("a.npy", "b.npz", "c.npz"):
        np.testing.assert_array_equal(read_score_file(tmp_path / name).logits, np.float32(ROWS))
    assert read_score_file(tmp_path / "b.npz").names == tuple(NAMES)


def label_file(folder: Path, kind: str) -> Path:
    """Write the labels in a form in which they are published."""
    path = folder / f"labels.{kind.split()[0]}"
    if kind == "pkl":
        return save(path, (NAMES[::-1], LABELS[::-1]))
    if kind == "npy":
        np.save(path, LABELS)
    elif kind == "npz":
        np.savez(path, y_test=np.eye(3)[LABELS], x_test=np.zeros((4, 2)))
    else:
        lines = [f"{n}{kind[-1]}{x}" for n, x in zip(NAMES, LABELS, strict=True)]
        path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("kind", ["pkl", "npy", "npz", "csv ,", "txt  ", ""])
def test_labels_come_from_every_list_and_from_names(tmp_path, kind):
    scores = save(tmp_path / "scores.pkl", dict(zip(NAMES, rows(), strict=True)))
    result = score_files([scores], labels=label_file(tmp_path, kind) if kind else None)
    assert result.files[0].full.top1 == 0.75
    assert result.files[0].full.top5 == 1
    assert result.leaked is None
    assert result.fused is None


def test_labels_by_order_and_names_agree_with_a_store(tmp_path, tiny_store):
    store = ClipStore(tiny_store)
    test = [i for i, meta in enumerate(store.metas) if meta["subject"] % 2 == 0]
    perfect = np.eye(3, dtype=np.float32)[store.labels[test]]
    by_name = {store.ids[i]: row for i, row in zip(test[::-1], perfect[::-1], strict=True)}
    files = [save(tmp_path / "bone.pkl", by_name), save(tmp_path / "joint.pkl", list(perfect))]
    result = score_files(files, labels=tiny_store, protocol="odd-even-subjects")
    assert [file.full.top1 for file in result.files] == [1, 1]
    assert result.fused is not None
    assert result.fused.full.top1 == 1
    assert (result.weights_from, result.clips, result.leaked) == ("published", 12, 0)
    with pytest.raises(ProtocolError, match="give --protocol"):
        score_files(files, labels=tiny_store)


def ucla(name: str, label: int) -> str:
    """Return a clip name of NW-UCLA with the action of a label."""
    return f"a{(1, 2, 3, 4, 5, 6, 8, 9, 11, 12)[label]:02d}_{name}"


def test_leaked_clips_are_left_out_and_weights_decide(tmp_path):
    names = [ucla("s01_e00_v03", label) for label in (0, 1, 2, 6)]
    truth = np.eye(10, dtype=np.float32)[[0, 1, 2, 6]]
    wrong = truth.copy()
    wrong[0] = 2 * np.eye(10)[5]
    files = [
        save(tmp_path / "joint.pkl", dict(zip(names, truth, strict=True))),
        save(tmp_path / "joint_motion.pkl", dict(zip(names, wrong, strict=True))),
    ]

    def tops(**options: Any) -> tuple[Any, ...]:
        result = score_files(files, **options)
        assert result.fused is not None
        assert result.fused.clean is not None
        return result.weights_from, result.leaked, result.fused.full.top1, result.fused.clean.top1

    assert tops() == ("published", 2, 0.75, 0.5)
    assert tops(weights="equal") == ("equal", 2, 0.75, 0.5)
    assert tops(weights=[1, 0.1]) == ("given", 2, 1, 1)
    both = score_files(files, streams=["bone", "bone"])
    assert [(file.stream, file.weight) for file in both.files] == [("bone", 0.6)] * 2


def test_a_folder_of_raw_files_is_a_list(tmp_path):
    raw = tmp_path / "all_sqe"
    raw.mkdir()
    rng = np.random.default_rng(0)
    for label in (0, 6):
        for view in (1, 3):
            joints = rng.normal(size=(12, 20, 3)).round(3).tolist()
            clip = {"skeletons": joints, "label": label + 1}
            (raw / f"{ucla(f's01_e00_v0{view}', label)}.json").write_text(json.dumps(clip))
    found = read_label_list(raw, 2)
    assert found.names == ("a01_s01_e00_v03", "a08_s01_e00_v03")
    assert found.labels.tolist() == [0, 6]
    assert found.leaked == frozenset()


NAMED = dict(zip(NAMES, rows(), strict=True))


@pytest.mark.parametrize(
    ("contents", "options", "error", "message"),
    [
        ([{"a": np.ones(3), "b": np.ones(4)}], {}, ReadError, "clip 'b' has scores of 4 classes"),
        ([rows()], {}, ReadError, "give the labels of the test split by --labels"),
        ([rows()[:3]], {"labels": "txt  "}, ReadError, "expected 3 labels, got the shape"),
        (
            [{**NAMED, "other": rows()[0]}, NAMED],
            {"labels": "store"},
            ReadError,
            "of its 5 clips are not in",
        ),
        ([{"clip000": rows()[0]}], {"labels": "store"}, ReadError, "11 of the 12 clips of"),
        ([rows()], {"labels": "store"}, ReadError, "4 rows of scores, but .* has 12 clips"),
        (
            [NAMED, {n: np.ones(4) for n in NAMES}],
            {},
            CheckpointError,
            "differ in their classes: 3 and 4",
        ),
        (
            [{n: np.eye(2)[0] for n in NAMES}],
            {},
            CheckpointError,
            "labels up to 2, the model has 2",
        ),
        ([{n: np.full(3, np.nan) for n in NAMES}], {}, CheckpointError, "not finite"),
        ([NAMED], {"weights": [0.5, 0.5]}, RecipeError, "a weight for each of 1"),
        ([NAMED], {"weights": "published"}, RecipeError, "--streams"),
        ([NAMED], {"weights": "best"}, RecipeError, "got 'best'"),
        ([NAMED], {"streams": ["joint", "bone"]}, RecipeError, "each of 1 files, got 2"),
        ([{"a": Path("x")}], {}, ReadError, "nothing was executed"),
        ([[{"keypoint": 1}]], {}, ReadError, "got a dictionary of keypoint"),
        ([{"test_0": rows()[0], "test_5": rows()[1]}], {}, ReadError, "numbered from 0 to 1"),
        ([{"a": "text"}], {}, ReadError, "scores that are numbers"),
        ([NAMED], {"labels": "txt  ", "protocol": "xsub"}, ProtocolError, "is a list of labels"),
    ],
)
def test_each_mistake_is_one_sentence(tmp_path, tiny_store, contents, options, error, message):
    files = [save(tmp_path / f"s{i}.pkl", content) for i, content in enumerate(contents)]
    chosen = dict(options)
    if chosen.get("labels") == "store":
        chosen |= {"labels": tiny_store, "protocol": "odd-even-subjects"}
    elif "labels" in chosen:
        chosen["labels"] = label_file(tmp_path, chosen["labels"])
    with pytest.raises(error, match=message) as raised:
        score_files(files, **chosen)
    assert isinstance(raised.value, KinegraphError)
    assert "\n" not in str(raised.value)


def test_the_command_prints_a_table_or_an_object(tmp_path, capsys):
    folders = [tmp_path / stream for stream in ("joint", "bone")]
    for folder in folders:
        folder.mkdir()
    files = [str(save(folder / "epoch1_test_score.pkl", NAMED)) for folder in folders]
    for words in ([], ["--json"], ["--weights", "0.7,0.3"]):
        with pytest.raises(SystemExit) as end:
            main(["score", *files, *words])
        assert not end.value.code
    table, printed, other = capsys.readouterr().out.partition('{"files"')
    lines = table.splitlines()
    assert lines[2].split() == ["joint", "joint", "0.6", "75.00", "100.00", "-", "-"]
    assert lines[4].split() == ["fused", "75.00", "100.00", "-", "-"]
    assert "weights: published" in lines
    figures = json.loads((printed + other).splitlines()[0])
    assert figures["fused"]["top1"] == 0.75
    assert figures["weights_from"] == "published"
    assert "weights: given" in other
    with pytest.raises(SystemExit) as end:
        main(["score", str(tmp_path / "none.pkl")])
    assert end.value.code == 2


#: Top-1 in percent on all 464 clips and on the 369 that are not training clips.
FR_HEAD = {
    "joint": (94.40, 92.95),
    "bone": (93.10, 91.33),
    "joint_motion": (92.89, 91.06),
    "bone_motion": (89.44, 87.26),
    "fused": (96.77, 95.93),
}


def test_the_scores_of_fr_head_give_its_published_accuracy():
    folder = real_data("nw_ucla/scores_frhead")
    listed = real_data("nw_ucla/test_clips_identical_to_a_train_clip.txt").read_text().split()
    result = score_files([folder / f"{stream}.npz" for stream in STREAMS])
    found = {
        file.name: tuple(round(100 * part.top1, 2) for part in (file.full, file.clean) if part)
        for file in (*result.files, result.fused)
        if file
    }
    assert found == FR_HEAD
    assert result.split == "NW-UCLA (ucla-xview)"
    assert result.weights_from == "published"
    table = read_score_file(folder / "joint.npz")
    assert result.leaked == len(listed) == len(set(listed) & set(table.names or ()))
