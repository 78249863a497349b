"""`kinegraph predict`: raw files to named actions."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kinegraph.cli.console import Cluster, Precision, progress
from kinegraph.errors import ClusterError, KinegraphError


def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder, a checkpoint or an exported file.")],
    files: Annotated[list[Path], typer.Argument(help="Raw files, or stores.")],
    reader: Annotated[str | None, typer.Option(help="Default: guessed from each file.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many guesses.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a clip.")] = False,
    precision: Precision = "fp32",
    cluster: Cluster = None,
) -> None:
    """Name the actions in raw files. A bad file does not keep the others from being answered."""
    from kinegraph.cluster.predict import predict_files as predict_on
    from kinegraph.inference.predict import Predictor, predict_files

    if cluster is not None and precision != "fp32":
        raise ClusterError("a cluster answers in fp32: give --precision or --cluster")
    predictor = Predictor.load(run, top, precision)  # type: ignore[arg-type]
    if precision != "fp32" and predictor.recognizer:
        print(f"answered in {predictor.recognizer.precision_summary}", file=sys.stderr)
    if cluster is None:
        answers = predict_files(predictor, files, reader)
    else:
        with progress("predicting") as bar:
            answers = predict_on(predictor, run, files, reader, cluster=cluster, progress=bar)
    failed = False
    for told in answers:
        if isinstance(told, KinegraphError):
            failed = True
            print(f"kinegraph: {told}", file=sys.stderr)
        else:
            print(json.dumps(told) if as_json else _text(told))
    if failed:
        raise typer.Exit(2)


def _text(told: dict[str, Any]) -> str:
    guesses = [f"{guess['name']} {guess['probability']:.1%}" for guess in told.get("top", [])]
    if guesses and not told["is_confident"]:
        guesses[0] = f"unknown (nearest: {guesses[0]})"
    if "pose_error" in told:
        error, baseline = told["pose_error"], told["baseline_error"]
        nothing = "no joint counts"
        guesses.append(
            nothing
            if error is None
            else f"mean joint error {error:.4g} (without a model {baseline:.4g})"
        )
    return f"{told['id']}: {', '.join(guesses)}"
