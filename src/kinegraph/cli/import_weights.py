"""`kinegraph import`: published weights to a run that predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_weights(
    family: Annotated[str, typer.Argument(help="stgcn, stgcn_twostream, shiftgcn or asgcn.")],
    weights: Annotated[Path, typer.Argument(help="The published file of weights.")],
    out: Annotated[Path, typer.Argument(help="The run's folder to write.")],
    protocol: Annotated[str, typer.Option(help="What they were trained on: xsub, xview, xset.")],
    stream: Annotated[str, typer.Option(help="What they were trained on, such as bone.")] = "joint",
    links: Annotated[Path | None, typer.Option(help="AS-GCN's link inference.")] = None,
) -> None:
    """Turn published NTU RGB+D weights into a run; every tensor must find its place."""
    from kinegraph.inference.import_weights import import_weights as imported
    from kinegraph.training.checkpoint import find_checkpoint, load_header

    run = imported(family, weights, out, protocol=protocol, stream=stream, links=links)
    header = load_header(find_checkpoint(run))
    print(
        f"{run}: {header.model['name']}, {header.num_classes} classes, {header.stream} stream, "
        f"protocol {header.recipe['protocol']}\nnext: kinegraph predict {run} FILE.skeleton"
    )
