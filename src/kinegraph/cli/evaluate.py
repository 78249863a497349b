"""`kinegraph evaluate`: how good a run is on a split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinegraph.cli.console import print_table, progress

if TYPE_CHECKING:
    from kinegraph.inference.evaluate import Evaluation


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint file.")],
    protocol: Annotated[str | None, typer.Option(help="Default: the recipe's.")] = None,
    split: Annotated[str, typer.Option(help="test, train, val or all.")] = "test",
    store: Annotated[Path | None, typer.Option(help="Default: the recipe's store.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead.")] = False,
) -> None:
    """Evaluate a run: top-1, top-5, mean class accuracy, calibration, per class, confusion."""
    from kinegraph.clips.store import ClipStore
    from kinegraph.inference.evaluate import evaluate_run

    opened = ClipStore(store) if store else None
    with progress(f"evaluating {split}") as bar:
        scores, result = evaluate_run(
            run, store=opened, protocol=protocol, split=split, progress=bar
        )
    if run.is_dir():
        scores.save(run / f"scores-{split}{f'-{protocol}' if protocol else ''}.npz")
    if as_json:
        print(json.dumps(result.to_dict()))
    else:
        _print_text(result)


def _print_text(result: Evaluation) -> None:
    print(
        f"{result.clips} clips: top-1 {result.top1:.1%}, top-5 {result.top5:.1%}, "
        f"mean class {result.mean_class:.1%}, calibration error {result.ece:.3f}"
    )
    rows = [
        (row.name, row.clips, "-" if row.accuracy is None else f"{row.accuracy:.1%}")
        for row in result.per_class
    ]
    print_table("Per class", ("class", "clips", "accuracy"), rows)


def write_outcome(run: Path) -> Evaluation:
    """Evaluate a fresh run on its test split; write scores and report.html into it."""
    from kinegraph.inference.evaluate import evaluate_run
    from kinegraph.reports.run_report import report_run

    with progress("evaluating test") as bar:
        scores, result = evaluate_run(run, progress=bar)
    scores.save(run / "scores-test.npz")
    report_run(run, scores, result)
    return result


def print_summary(run: Path, result: Evaluation) -> None:
    """The one-screen end of a training run."""
    from kinegraph.training.checkpoint import find_checkpoint, load_header

    header = load_header(find_checkpoint(run))
    seconds = header.training["seconds"]
    print(
        f"test: {result.clips} clips, top-1 {result.top1:.1%}, top-5 {result.top5:.1%}, "
        f"mean class {result.mean_class:.1%}, calibration error {result.ece:.3f}\n"
        f"trained on {header.training['clips']} clips in {seconds / 60:.1f} minutes\n"
        f"report: {run / 'report.html'}\n"
        f"next:   kinegraph predict {run} FILE"
    )
