"""`kinegraph predict`: name the actions in raw files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from kinegraph.cli.clip_options import print_assumptions, takes_clip_options
from kinegraph.cli.console import ClusterOption, PrecisionOption, echo, progress
from kinegraph.errors import ClusterError, KinegraphError


@takes_clip_options
def predict(
    run: Annotated[Path, typer.Argument(help="Run folder, checkpoint or exported file.")],
    files: Annotated[list[Path], typer.Argument(help="Raw files, folders or stores.")],
    reader: Annotated[
        str | None, typer.Option(help="Reader of the files; default: guessed from each file.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of candidate actions per clip.")] = 5,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per clip.")
    ] = False,
    precision: PrecisionOption = "fp32",
    cluster: ClusterOption = None,
    *,
    stated: dict[str, Any],
) -> None:
    """Name the actions in raw files. An unreadable file is reported; the others are processed."""
    from kinegraph.cluster.predict import predict_on_cluster
    from kinegraph.inference.predict import Predictor, predict_files

    if cluster is not None and precision != "fp32":
        raise ClusterError("--cluster computes in fp32: use either --precision or --cluster")
    predictor = Predictor.load(run, top, precision)  # type: ignore[arg-type]
    if precision != "fp32" and predictor.recognizer:
        echo(f"precision: {predictor.recognizer.precision_summary}", error=True)
    if cluster is None:
        results = predict_files(predictor, files, reader, stated)
    else:
        with progress("predicting") as bar:
            results = predict_on_cluster(
                predictor, run, files, reader, stated, cluster=cluster, progress=bar
            )
    failed = False
    for result in results:
        if isinstance(result, KinegraphError):
            failed = True
            echo(f"kinegraph: {result}", error=True)
        else:
            print_assumptions(result.pop("read_as", ""), result.get("notes", ()))
            echo(json.dumps(result) if as_json else _format_prediction(result))
    if failed:
        raise typer.Exit(2)


def _format_prediction(result: dict[str, Any]) -> str:
    parts = [f"{one['name']} {one['probability']:.1%}" for one in result.get("top", [])]
    if parts and not result["is_confident"]:
        parts[0] = f"unknown (nearest: {parts[0]})"
    if "intervals" in result:
        parts = [_format_interval(one) for one in result["intervals"]] or ["no action"]
    if "pose_error" in result:
        error, baseline = result["pose_error"], result["baseline_error"]
        parts.append(
            "no joint counts"
            if error is None
            else f"mean joint error {error:.4g} (without a model {baseline:.4g})"
        )
    return f"{result['id']}: {', '.join(parts)}"


def _format_interval(item: dict[str, Any]) -> str:
    span = f"frames {item['start_frame']} to {item['stop_frame']}"
    if item["start"] is not None:
        span = f"{item['start']:.2f} to {item['end']:.2f} s"
    return f"{item['label']} {span} {item['probability']:.1%}"
