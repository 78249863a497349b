"""Test results of a run: evaluation, report, and a summary on standard output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinegraph.cli.console import echo, print_table, progress

if TYPE_CHECKING:
    from kinegraph.inference.evaluate import Evaluation
    from kinegraph.inference.pose_errors import PoseErrors


def evaluate_and_report(run: Path) -> tuple[Evaluation | None, PoseErrors | None]:
    """Evaluate a new run on its test split; write its scores and report.html.

    Returns:
        The evaluation and the pose errors, None where they do not apply to the run's objective or
        the protocol has no test clips.
    """
    from kinegraph.inference.evaluate import evaluate_poses, evaluate_run, supported_tasks
    from kinegraph.reports.run_report import write_run_report

    names_actions, predicts_poses = supported_tasks(run) if _has_test_clips(run) else (False, False)
    scores = result = poses = None
    if names_actions:
        with progress("evaluating test") as bar:
            scores, result = evaluate_run(run, progress=bar)
        scores.save(run / "scores-test.npz")
    if predicts_poses:
        with progress("scoring poses") as bar:
            poses = evaluate_poses(run, progress=bar)
    write_run_report(run, scores, result, poses)
    return result, poses


def print_summary(run: Path, result: Evaluation | None, poses: PoseErrors | None) -> None:
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
    unlabeled = header.training.get("unlabeled")
    echo(
        f"trained on {header.training['clips']} clips in {seconds / 60:.1f} minutes"
        + (f"; {unlabeled} without a label were left out" if unlabeled else "")
        + f"\n"
        f"report: {run / 'report.html'}"
    )
    if not (result or poses or _has_test_clips(run)):
        echo(f"test: none, protocol {header.recipe['protocol']} has no test clips")
    if header.create_objective().is_classifier or poses:
        echo(f"next:   kinegraph predict {run} FILE")


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
