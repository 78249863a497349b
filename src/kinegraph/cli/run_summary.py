"""Test results of a run: evaluation, report, and a summary on standard output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kinegraph.cli.console import echo, print_table, progress
from kinegraph.files import exclusive_lock

if TYPE_CHECKING:
    from kinegraph.inference.evaluate import Evaluation
    from kinegraph.inference.evaluate_segmentation import SegmentationEvaluation
    from kinegraph.inference.pose_errors import PoseErrors


class RunResults(NamedTuple):
    """Results of a run on its test split; None where they do not apply to its objective."""

    evaluation: Evaluation | None = None
    poses: PoseErrors | None = None
    segmentation: SegmentationEvaluation | None = None


def evaluate_and_report(run: Path) -> RunResults:
    """Evaluate a new run on its test split, if it has one; write its scores and report.html."""
    from kinegraph.inference.evaluate import (
        SupportedTasks,
        evaluate_poses,
        evaluate_run,
        supported_tasks,
    )
    from kinegraph.inference.evaluate_segmentation import evaluate_segmentation, segment_split
    from kinegraph.reports.run_report import write_run_report

    tasks = supported_tasks(run) if _has_test_clips(run) else SupportedTasks(names_actions=False)
    scores = result = poses = None
    recordings = []
    if tasks.names_actions:
        with progress("evaluating test") as bar:
            scores, result = evaluate_run(run, progress=bar)
    if tasks.predicts_poses:
        with progress("scoring poses") as bar:
            poses = evaluate_poses(run, progress=bar)
    if tasks.names_frames:
        with progress("segmenting test") as bar:
            recordings = segment_split(run, progress=bar)
    with exclusive_lock(run):
        if scores:
            scores.save(run / "scores-test.npz")
        write_run_report(run, scores, result, poses, recordings)
    segmentation = evaluate_segmentation(recordings) if recordings else None
    return RunResults(result, poses, segmentation)


def print_summary(
    run: Path,
    result: Evaluation | None,
    poses: PoseErrors | None,
    segmentation: SegmentationEvaluation | None = None,
) -> None:
    """Print the results of a training run."""
    from kinegraph.training.checkpoint import find_checkpoint, load_header, training_seconds

    header = load_header(find_checkpoint(run))
    seconds = training_seconds(run)
    if "selection" in header.training:
        echo(format_selection(header.training))
    if result:
        echo(f"test: {format_evaluation(result)}")
        if header.recipe["validation"].get("split") == "test":
            echo("the best epoch was chosen on these test clips, so the figures are optimistic")
    if poses:
        echo(f"test poses: {format_pose_errors(poses)}")
    if segmentation:
        echo(f"test: {format_segmentation(segmentation)}")
    unlabeled = header.training.get("unlabeled")
    echo(
        f"trained on {header.training['clips']} clips in {seconds / 60:.1f} minutes"
        + (f"; {unlabeled} without a label were left out" if unlabeled else "")
        + f"\n"
        f"report: {run / 'report.html'}"
    )
    if not (result or poses or segmentation or _has_test_clips(run)):
        echo(f"test: none, protocol {header.recipe['protocol']} has no test clips")
    objective = header.create_objective()
    if objective.is_classifier or poses:
        echo(f"next:   kinegraph predict {run} FILE")
    elif objective.names_frames:
        echo(f"next:   kinegraph segment FILE --model {run}")


def _has_test_clips(run: Path) -> bool:
    from kinegraph.clips.splits import split_by_protocol
    from kinegraph.clips.store import ClipStore
    from kinegraph.training.checkpoint import find_checkpoint, load_header

    recipe = load_header(find_checkpoint(run)).recipe
    return len(split_by_protocol(ClipStore(Path(recipe["store"])), recipe["protocol"])[1]) > 0


def format_selection(training: Mapping[str, Any]) -> str:
    """Return how the number of epochs of a training was selected, as one line."""
    chosen = training["selection"]
    metrics, by = chosen["metrics"], chosen["by"]
    whole = f" ({by}s that are in no other part)" if by else ""
    listed = ", ".join(
        f"{key} {metrics[f'val_{key}']:.3f}"
        for key in ("loss", "accuracy", "mpjpe")
        if f"val_{key}" in metrics
    )
    return (
        f"epochs: {chosen['epochs']} of {chosen['of']}, the latest that is not worse than the best "
        f"({chosen['best']}) on {chosen['held_out']} held-out clips{whole}: {listed}; then trained "
        f"anew on all {training['clips']} training clips"
    )


def format_evaluation(result: Evaluation) -> str:
    """Return the metrics of an evaluation as one line; what they are without leaked clips, too."""
    metrics = (
        f"{result.clips} clips, top-1 {result.top1:.1%}, top-5 {result.top5:.1%}, "
        f"mean class {result.mean_class:.1%}, calibration error {result.ece:.3f}"
    )
    if result.unknown is not None:
        metrics += f", unknown {result.unknown:.1%}"
    if result.clean:
        clean = result.clean
        top1 = "" if clean.top1 is None else f", top-1 {clean.top1:.1%}"
        metrics += (
            f"; without the {clean.leaked} that equal a training clip: {clean.clips} clips{top1}"
        )
    if result.left_out:
        listed = ", ".join(f"{name} ({clips})" for name, clips in result.left_out.items())
        metrics += f"; left out, as the model does not have their classes: {listed}"
    return metrics


def format_segmentation(found: SegmentationEvaluation) -> str:
    """Return the metrics of a segmentation as one line."""
    f1 = ", ".join(f"F1@{float(least) * 100:.0f} {value:.1%}" for least, value in found.f1.items())
    return (
        f"{found.recordings} recordings, {found.frames} frames, frame accuracy "
        f"{found.frame_accuracy:.1%}, edit score {found.edit:.1%}, {f1}, "
        f"mAP at IoU 0.5 {found.mean_average_precision['0.5']:.1%}"
    )


def print_segmented_classes(found: SegmentationEvaluation) -> None:
    """Print the metrics of each class of actions, and the mean average precisions."""
    rows = [
        (
            row.name,
            row.intervals,
            "-" if row.frame_recall is None else f"{row.frame_recall:.1%}",
            f"{row.f1['0.50']:.1%}",
            "-" if row.average_precision is None else f"{row.average_precision['0.5']:.1%}",
        )
        for row in found.per_class
    ]
    header = ("class", "intervals", "frame recall", "F1@50", "AP at IoU 0.5")
    print_table("Actions", header, rows)
    precisions = [(least, f"{p:.1%}") for least, p in found.mean_average_precision.items()]
    print_table("Mean average precision", ("IoU", "mAP"), precisions)


def format_pose_errors(poses: PoseErrors) -> str:
    """Return pose errors as one line."""
    metrics = poses.to_dict()
    if not metrics["clips"]:
        return "no clip has a scored joint"
    return (
        f"{metrics['clips']} clips, mean joint error {metrics['mpjpe']:.4g} "
        f"(baseline {metrics['baseline_mpjpe']:.4g}; better in "
        f"{metrics['better_than_baseline']:.1%} of the clips)"
    )


def print_class_accuracy(result: Evaluation) -> None:
    """Print the per-class accuracy."""
    rows = [
        (row.name, row.clips, "-" if row.accuracy is None else f"{row.accuracy:.1%}")
        for row in result.per_class
    ]
    print_table("Per-class accuracy", ("class", "clips", "accuracy"), rows)
