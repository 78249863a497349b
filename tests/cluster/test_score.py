"""Scores and answers of shards are those of one machine, bit for bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import made_up_clips
from kinegraph.clips.store import ClipStore
from kinegraph.clips.writer import StoreWriter
from kinegraph.cluster import predict as predict_module
from kinegraph.cluster.predict import InputFiles, create_predict_task, merge_predictions
from kinegraph.cluster.score import score_on_cluster
from kinegraph.cluster.sharding import Shard
from kinegraph.cluster.worker_model import WorkerModel
from kinegraph.errors import CheckpointError, ClusterError, KinegraphError
from kinegraph.inference.evaluate import evaluate_run
from kinegraph.inference.predict import Predictor, predict_files
from workers_here import WorkersHere


@pytest.fixture
def here(monkeypatch) -> list[WorkersHere]:
    """No cluster: this process does the tasks. The workers of every job, the last one last."""
    crews: list[WorkersHere] = []

    @contextmanager
    def workers(model: WorkerModel, cluster: str) -> Iterator[WorkersHere]:
        crews.append(WorkersHere(stop_after=2 if cluster == "impatient" else None))
        yield crews[-1]

    monkeypatch.setattr(WorkerModel, "workers", workers)
    return crews


@pytest.fixture
def run(tiny_run, tmp_path) -> Path:
    """A run of one's own."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def test_scores_of_shards_are_those_of_one_machine(run, here, tmp_path):
    told = []
    progress = lambda *counts: told.append(counts)  # noqa: E731
    options = {"split": "all", "batch_size": 5}
    one, result = evaluate_run(run, **options)
    scorer = partial(score_on_cluster, "local", run)
    many, again = evaluate_run(run, **options, score=scorer, progress=progress)
    one.save(tmp_path / "one.npz")
    many.save(tmp_path / "many.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "many.npz").read_bytes()
    assert json.dumps(result.to_dict()) == json.dumps(again.to_dict())
    assert here[0].seen == [(20, 24), (15, 20), (10, 15), (5, 10), (0, 5)]
    assert told[-1] == (24, 24)
    assert not list(run.glob("*.shards"))


def test_an_interrupted_evaluation_goes_on(run, here):
    evaluate = partial(evaluate_run, run, split="all", batch_size=5)
    with pytest.raises(KeyboardInterrupt, match="2 of 5 shards"):
        evaluate(score=partial(score_on_cluster, "impatient", run))
    scores, _ = evaluate(score=partial(score_on_cluster, "local", run))
    assert here[1].seen == [(10, 15), (5, 10), (0, 5)]
    np.testing.assert_array_equal(scores.logits, evaluate()[0].logits)


def test_a_damaged_shard_is_scored_again(run, here):
    evaluate = partial(evaluate_run, run, split="all", batch_size=5)
    with pytest.raises(KeyboardInterrupt):
        evaluate(score=partial(score_on_cluster, "impatient", run))
    next(run.glob("*.shards/*.npy")).write_bytes(b"\x93NUMPY")
    with pytest.raises(ClusterError, match="was damaged"):
        evaluate(score=partial(score_on_cluster, "local", run))
    scores, _ = evaluate(score=partial(score_on_cluster, "local", run))
    assert len(here[2].seen) == 1
    np.testing.assert_array_equal(scores.logits, evaluate()[0].logits)


def test_clips_that_do_not_fit_give_the_sentence_of_one_machine(run, here, tmp_path):
    clips = [replace(c, joints=np.ones((1, 9, 15, 3))) for c in made_up_clips()]
    with StoreWriter(tmp_path / "3d.arrow", clips[0].layout, ("here", "there", "away")) as writer:
        for clip in clips:
            writer.write(clip)
    store = ClipStore(tmp_path / "3d.arrow")
    with pytest.raises(CheckpointError, match="has 3 coordinates a joint"):
        evaluate_run(run, store=store, split="all", score=partial(score_on_cluster, "local", run))


def test_a_node_that_sees_another_run_says_so(run):
    model = WorkerModel.from_run(run)
    model.configure()
    with pytest.raises(ClusterError, match=r"reads a different .*run"):
        replace(model, digest="0" * 64).configure()
    with pytest.raises(ClusterError, match=r"computes on cpu, this machine on cuda"):
        replace(model, device="cuda").configure()


def test_a_node_computes_with_as_many_threads_as_the_machine_of_the_command(run):
    before = torch.get_num_threads()
    try:
        replace(WorkerModel.from_run(run), threads=before + 2).configure()
        assert torch.get_num_threads() == before + 2
    finally:
        torch.set_num_threads(before)


# --------------------------------------------------------------------- predictions


@pytest.fixture
def files(tmp_path, tiny_store) -> list[Path]:
    """A store, what is none, a folder of arrays with a bad one in the middle, and a file."""
    folder = tmp_path / "arrays"
    folder.mkdir()
    clips = made_up_clips()[:5]
    for clip in clips:
        np.save(folder / f"{clip.id}.npy", clip.joints)
    (folder / f"{clips[3].id}.npy").write_bytes(b"no array")
    (tmp_path / "notes.txt").write_text("no recording")
    return [
        tiny_store,
        tmp_path / "notes.txt",
        folder,
        tmp_path / "none.npy",
        folder / f"{clips[0].id}.npy",
        tiny_store,
    ]


def words(answers) -> list[str]:
    """What a person sees."""
    return [str(a) if isinstance(a, KinegraphError) else json.dumps(a) for a in answers]


@pytest.mark.parametrize("size", [1, 4, 100])
def test_answers_of_shards_come_as_on_one_machine(run, files, here, monkeypatch, size):
    predictor = Predictor.load(run, top=2)
    one = words(predict_files(predictor, files))
    job = predict_module.open_prediction_job
    resized = lambda *a: replace(job(*a), size=size)  # noqa: E731
    monkeypatch.setattr(predict_module, "open_prediction_job", resized)
    many = words(predict_module.predict_on_cluster(predictor, run, files, cluster="local"))
    assert many == one
    assert len(one) == 24 + 1 + 3 + 1 + 1 + 1 + 24
    assert [line[0] for line in one].count("{") == 24 + 3 + 1 + 24
    assert len(here[0].seen) == -(-54 // size)
    assert not list(run.glob("*.shards"))


def test_an_empty_folder_is_the_same_error(run, tmp_path, here):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.npy").write_bytes(b"no array")
    predictor = Predictor.load(run)
    one = words(predict_files(predictor, [tmp_path / "empty"], "arrays"))
    many = predict_module.predict_on_cluster(
        predictor, run, [tmp_path / "empty"], "arrays", cluster="local"
    )
    assert words(many) == one
    assert len(one) == 1


def test_pieces_are_counted_over_all_files(run, files):
    opened = InputFiles(files, None, Predictor.load(run))
    assert opened.starts == [0, 24, 24, 29, 29, 30, 54]
    slices = opened.slice(Shard(22, 31))
    assert [(number, len(s.parts)) for number, s in slices] == [(0, 2), (2, 5), (4, 1), (5, 1)]
    assert list(slices[-1][1].parts) == [0]


def test_an_interrupted_prediction_goes_on(run, files):
    model, opened = WorkerModel.from_run(run), InputFiles(files, None, Predictor.load(run))
    job = replace(predict_module.open_prediction_job(model, 5, opened), size=10)
    task = partial(create_predict_task, model, 5, opened, job)
    with pytest.raises(KeyboardInterrupt, match="2 of 6 shards"):
        job.run(WorkersHere(stop_after=2), task)
    workers = WorkersHere()
    job.run(workers, task)
    assert len(workers.seen) == 4
    assert len(list(merge_predictions(opened, job))) == 55
