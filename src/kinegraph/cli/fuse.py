"""`kinegraph fuse`: fuse the scores of several runs, usually one for each stream."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinegraph.cli.console import (
    JsonOption,
    echo,
    find_free_folder,
    parse_weights,
    print_table,
    progress,
)
from kinegraph.cli.run_summary import format_evaluation
from kinegraph.errors import CheckpointError

if TYPE_CHECKING:
    from kinegraph.inference.fuse_runs import Fusion

MAX_NAME_CHARS = 80  # file systems allow 255 bytes


def fuse(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of two or more runs.")],
    weights: Annotated[
        str | None,
        typer.Option(help="Weights such as 0.6,0.4. Default: the published ones, or equal."),
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Search the weights on held-out training clips.")
    ] = False,
    protocol: Annotated[str | None, typer.Option(help="Protocol; default: the recipes'.")] = None,
    store: Annotated[Path | None, typer.Option(help="Clip store; default: the recipes'.")] = None,
    split: Annotated[str, typer.Option(help="Split: test, train, val or all.")] = "test",
    out: Annotated[
        Path | None, typer.Option(help="Folder of scores and report; default: runs/fused-NAMES.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fuse the scores of several runs, and evaluate the sum."""
    given = None if weights is None else parse_weights(weights)
    from kinegraph.clips.store import ClipStore
    from kinegraph.inference.fuse_runs import fuse_runs
    from kinegraph.reports.fusion_report import write_fusion_report
    from kinegraph.training.checkpoint import require_empty_folder

    if out:
        require_empty_folder(out)  # before anything is scored
    fusion = fuse_runs(
        runs,
        weights=given,
        search=search,
        store=ClipStore(store) if store else None,
        protocol=protocol,
        split=split,
        progress=progress,
    )
    folder = out or find_free_folder(Path("runs") / fused_name([run.name for run in fusion.runs]))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fusion.scores.save(folder / f"scores-{fusion.split}.npz")
        write_fusion_report(fusion, folder / "report.html")
    except OSError as error:
        raise CheckpointError(f"cannot write into {folder}: {error}") from error
    if as_json:
        echo(json.dumps(fusion.to_dict()))
    else:
        _print_fusion(fusion, folder)


def fused_name(names: Sequence[str]) -> str:
    """Return ``fused-`` and the names, with their common beginning only once.

    >>> fused_name(["ucla-joint", "ucla-bone"])
    'fused-ucla-joint-bone'
    """
    parts = [name.replace(os.sep, "-").strip("-").split("-") for name in names]
    shared = itertools.takewhile(lambda same: len(set(same)) == 1, zip(*parts, strict=False))
    start = [same[0] for same in shared][: min(map(len, parts)) - 1]
    rest = (part for own in parts for part in own[len(start) :])
    return "-".join(["fused", *start, *rest])[:MAX_NAME_CHARS]


def _print_fusion(fusion: Fusion, folder: Path) -> None:
    from kinegraph.reports.fusion_report import describe_weights

    results = [run.evaluation for run in fusion.runs] + [fusion.evaluation]
    named = [(run.name, run.stream, f"{run.weight:.3g}") for run in fusion.runs]
    print_table(
        f"{fusion.split} of {fusion.protocol}",
        ("run", "stream", "weight", "top-1", "top-5"),
        [
            (*cells, f"{result.top1:.1%}", f"{result.top5:.1%}")
            for cells, result in zip([*named, ("fused", "", "")], results, strict=True)
        ],
    )
    echo(f"weights: {describe_weights(fusion)}")
    echo(f"fused: {format_evaluation(fusion.evaluation)}")
    echo(f"report: {folder / 'report.html'}")
