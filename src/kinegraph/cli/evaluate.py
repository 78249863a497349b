"""`kinegraph evaluate`: evaluate a run on a split."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from kinegraph.cli.console import ClusterOption, JsonOption, PrecisionOption, echo, progress
from kinegraph.cli.run_summary import (
    format_evaluation,
    format_pose_errors,
    format_segmentation,
    print_class_accuracy,
    print_segmented_classes,
)
from kinegraph.errors import CheckpointError, ClusterError


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run, checkpoint, or exported file.")],
    protocol: Annotated[str | None, typer.Option(help="Protocol; default: the recipe's.")] = None,
    split: Annotated[str, typer.Option(help="Split: test, train, val or all.")] = "test",
    store: Annotated[Path | None, typer.Option(help="Clip store; default: the recipe's.")] = None,
    as_json: JsonOption = False,
    precision: PrecisionOption = "fp32",
    cluster: ClusterOption = None,
) -> None:
    """Evaluate a run: accuracy, calibration, confusion matrix; segmentation; pose errors."""
    from kinegraph.clips.store import ClipStore
    from kinegraph.cluster.score import score_on_cluster
    from kinegraph.inference.evaluate import evaluate_poses, evaluate_run, supported_tasks
    from kinegraph.inference.evaluate_segmentation import evaluate_segmentation, segment_split
    from kinegraph.inference.pose_errors import PoseScorer
    from kinegraph.inference.recognizer import Recognizer

    if cluster is not None and precision != "fp32":
        raise ClusterError("--cluster computes in fp32: use either --precision or --cluster")
    opened = ClipStore(store) if store else None
    options: dict[str, Any] = {"store": opened, "protocol": protocol, "split": split}
    precise: Any = precision
    score = score_poses = None
    if cluster is not None:
        score = partial(score_on_cluster, cluster, run)
        score_poses = partial(score, scorer=PoseScorer)
    names_actions, predicts_poses, names_frames = supported_tasks(run)
    if names_frames and (cluster is not None or precision != "fp32"):
        raise CheckpointError("a segmentation is evaluated here, in fp32")
    output: dict[str, object] = {}
    if names_actions:
        with progress(f"evaluating {split}") as bar:
            scores, result = evaluate_run(
                run, **options, progress=bar, score=score, precision=precise
            )
        if precision != "fp32":
            summary = Recognizer.load(run, precise).precision_summary
            echo(f"precision: {summary}", error=True)
        output |= result.to_dict()
        if not as_json:
            echo(format_evaluation(result))
            print_class_accuracy(result)
    if names_frames:
        with progress(f"segmenting {split}") as bar:
            segmentation = evaluate_segmentation(segment_split(run, **options, progress=bar))
        output |= segmentation.to_dict()
        if not as_json:
            echo(format_segmentation(segmentation))
            print_segmented_classes(segmentation)
    if not (names_actions or predicts_poses or names_frames):
        raise CheckpointError(
            f"{run} neither names actions nor predicts poses: see its history.csv"
        )
    if predicts_poses:
        with progress(f"scoring poses of {split}") as bar:
            poses = evaluate_poses(run, **options, progress=bar, score=score_poses)
        output["poses"] = poses.to_dict()
        if not as_json:
            echo(f"poses: {format_pose_errors(poses)}")
    if as_json:
        echo(json.dumps(output))
    # last, so that a read-only folder does not prevent the output above
    if names_actions and run.is_dir():
        other = [part for part in (protocol, store.stem if store else None) if part]
        scores.save(run / f"scores-{'-'.join([split, *other])}.npz")
