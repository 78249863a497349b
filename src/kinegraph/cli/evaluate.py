"""`kinegraph evaluate`: how good a run is on a split."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kinegraph.cli.console import Cluster, Precision, progress
from kinegraph.cli.run_summary import format_evaluation, format_pose_errors, print_class_accuracy
from kinegraph.errors import CheckpointError, ClusterError


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder, a checkpoint or an exported file.")],
    protocol: Annotated[str | None, typer.Option(help="Default: the recipe's.")] = None,
    split: Annotated[str, typer.Option(help="test, train, val or all.")] = "test",
    store: Annotated[Path | None, typer.Option(help="Default: the recipe's store.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead.")] = False,
    precision: Precision = "fp32",
    cluster: Cluster = None,
) -> None:
    """Evaluate a run: accuracy, calibration and confusion, or the errors of predicted poses."""
    from kinegraph.clips.store import ClipStore
    from kinegraph.cluster.score import ClusterScorer
    from kinegraph.inference.evaluate import evaluate_poses, evaluate_run, supported_tasks
    from kinegraph.inference.recognizer import Recognizer

    if cluster is not None and precision != "fp32":
        raise ClusterError("a cluster answers in fp32: give --precision or --cluster")
    opened = ClipStore(store) if store else None
    wanted: dict[str, Any] = {"store": opened, "protocol": protocol, "split": split}
    precise: Any = precision
    remote = ClusterScorer(cluster, run) if cluster is not None else None
    answers, poses_too = supported_tasks(run)
    told_json: dict[str, object] = {}
    if answers:
        with progress(f"evaluating {split}") as bar:
            score = remote.score if remote else None
            scores, result = evaluate_run(
                run, **wanted, progress=bar, score=score, precision=precise
            )
        if precision != "fp32":
            told_precision = Recognizer.load(run, precise).precision_summary
            print(f"answered in {told_precision}", file=sys.stderr)
        told_json |= result.to_dict()
        if not as_json:
            print(format_evaluation(result))
            print_class_accuracy(result)
    if not (answers or poses_too):
        raise CheckpointError(f"{run} names no actions and predicts no poses: see its history.csv")
    if poses_too:
        with progress(f"measuring poses of {split}") as bar:
            measure = remote.score_poses if remote else None
            poses = evaluate_poses(run, **wanted, progress=bar, score=measure)
        told_json["poses"] = poses.to_dict()
        if not as_json:
            print(f"poses: {format_pose_errors(poses)}")
    if as_json:
        print(json.dumps(told_json))
    if answers and run.is_dir():  # last, as a folder that cannot be written to costs no answer
        other = [part for part in (protocol, store.stem if store else None) if part]
        scores.save(run / f"scores-{'-'.join([split, *other])}.npz")
