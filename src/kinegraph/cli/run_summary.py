"""What a run reached: evaluated on its test split, written into its folder, told on a screen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kinegraph.cli.console import print_table, progress

if TYPE_CHECKING:
    from kinegraph.inference.evaluate import Evaluation
    from kinegraph.inference.pose_errors import PoseErrors


@dataclass(frozen=True)
class RunResults:
    """Figures of a run on its test split; None where its objective has none of the kind."""

    evaluation: Evaluation | None
    poses: PoseErrors | None


def evaluate_and_report(run: Path) -> RunResults:
    """Evaluate a fresh run on its test split; write scores and report.html into it."""
    from kinegraph.inference.evaluate import evaluate_poses, evaluate_run, supported_tasks
    from kinegraph.reports.run_report import write_run_report

    answers, poses_too = supported_tasks(run)
    scores = result = poses = None
    if answers:
        with progress("evaluating test") as bar:
            scores, result = evaluate_run(run, progress=bar)
        scores.save(run / "scores-test.npz")
    if poses_too:
        with progress("measuring poses") as bar:
            poses = evaluate_poses(run, progress=bar)
    write_run_report(run, scores, result, poses)
    return RunResults(result, poses)


def print_summary(run: Path, outcome: RunResults) -> None:
    """The one-screen end of a training run."""
    from kinegraph.training.checkpoint import find_checkpoint, load_header

    header = load_header(find_checkpoint(run))
    seconds = header.training["seconds"]
    if outcome.evaluation:
        print(f"test: {format_evaluation(outcome.evaluation)}")
    if outcome.poses:
        print(f"test poses: {format_pose_errors(outcome.poses)}")
    print(
        f"trained on {header.training['clips']} clips in {seconds / 60:.1f} minutes\n"
        f"report: {run / 'report.html'}"
    )
    if outcome.evaluation or outcome.poses:
        print(f"next:   kinegraph predict {run} FILE")


def format_evaluation(result: Evaluation) -> str:
    """An evaluation's figures in a line."""
    figures = (
        f"{result.clips} clips, top-1 {result.top1:.1%}, top-5 {result.top5:.1%}, "
        f"mean class {result.mean_class:.1%}, calibration error {result.ece:.3f}"
    )
    return figures if result.unknown is None else f"{figures}, unknown {result.unknown:.1%}"


def format_pose_errors(poses: PoseErrors) -> str:
    """Pose errors in a line."""
    figures = poses.to_dict()
    if not figures["clips"]:
        return "no clip shows a joint that counts"
    return (
        f"{figures['clips']} clips, mean joint error {figures['mpjpe']:.4g} "
        f"(without a model {figures['baseline_mpjpe']:.4g}; better in "
        f"{figures['better_than_baseline']:.1%} of the clips)"
    )


def print_class_accuracy(result: Evaluation) -> None:
    """The per-class table."""
    rows = [
        (row.name, row.clips, "-" if row.accuracy is None else f"{row.accuracy:.1%}")
        for row in result.per_class
    ]
    print_table("Per class", ("class", "clips", "accuracy"), rows)
