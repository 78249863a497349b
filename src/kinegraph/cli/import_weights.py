"""`kinegraph import`: convert published weights into a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinegraph.cli.console import echo


def import_weights(
    family: Annotated[str, typer.Argument(help="Family, see `kinegraph list weights`.")],
    weights: Annotated[Path, typer.Argument(help="File of published weights.")],
    out: Annotated[Path, typer.Argument(help="New folder for the run.")],
    protocol: Annotated[
        str,
        typer.Option(
            help="Protocol of the training: xsub, xview or xset; Kinetics-skeleton: official; "
            "FSD-10: holdout; NW-UCLA: ucla-xview."
        ),
    ],
    stream: Annotated[
        str | None,
        typer.Option(help="Stream of the training, such as bone; default: that of the recipe."),
    ] = None,
    links: Annotated[Path | None, typer.Option(help="File of the link weights of AS-GCN.")] = None,
) -> None:
    """Convert published weights into a run; every tensor must fit the model."""
    from kinegraph.inference.import_weights import import_weights as imported
    from kinegraph.training.checkpoint import find_checkpoint, load_header

    run = imported(family, weights, out, protocol=protocol, stream=stream, links=links)
    header = load_header(find_checkpoint(run))
    echo(
        f"{run}: {header.model['name']}, {header.num_classes} classes, {header.stream} stream, "
        f"protocol {header.recipe['protocol']}\nnext: kinegraph predict {run} FILE"
    )
