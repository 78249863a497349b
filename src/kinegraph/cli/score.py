"""`kinegraph score`: accuracy of score files of any code, with and without leaked clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinegraph.cli.console import JsonOption, echo, parse_weights, print_table

if TYPE_CHECKING:
    from kinegraph.inference.score import ScoredFile, ScoreResult


def score(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Score files, usually one per stream.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Label list: a store, a folder of raw files, or a file. Default: by the files."
        ),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Protocol of a store or folder; default: the data set's.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights such as 0.6,0.4, or equal, or published. Default: published, or equal."
        ),
    ] = None,
    streams: Annotated[
        str | None,
        typer.Option(help="Streams of the files, such as joint,bone. Default: by their names."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate score files of other code: accuracy per stream and fused, with and without leaks."""
    from kinegraph.inference.score import score_files

    named = weights is None or weights.isalpha()
    result = score_files(
        files,
        labels=labels,
        protocol=protocol,
        weights=weights if weights is None or named else parse_weights(weights),
        streams=None if streams is None else streams.split(","),
    )
    if as_json:
        echo(json.dumps(result.to_dict()))
    else:
        _print_scores(result)


def _print_scores(result: ScoreResult) -> None:
    rows = [_format_scores(file) for file in (*result.files, *filter(None, [result.fused]))]
    header = ("file", "stream", "weight", "top-1", "top-5", "clean top-1", "clean top-5")
    title = f"{result.clips} clips" + (
        f", the test split of {result.split}" if result.split else ""
    )
    print_table(title, header, rows)
    if result.fused:
        echo(f"weights: {result.weights_from}")
    if result.leaked is None:
        echo("clean: not known, a store or a folder of raw files as --labels shows leaked clips")
    else:
        kept = result.clips - result.leaked
        echo(f"clean: {kept} clips, without {result.leaked} that equal a training clip")


def _format_scores(file: ScoredFile) -> list[str]:
    results = [file.full, file.clean]
    return [
        file.name,
        file.stream,
        "" if file.weight is None else f"{file.weight:.3g}",
        *(
            "-" if value is None else f"{100 * value:.2f}"
            for result in results
            for value in ((result.top1, result.top5) if result else (None, None))
        ),
    ]
