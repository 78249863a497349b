"""`kinegraph train`: a recipe to a run with its report, or to one run a stream."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinegraph.cli.console import find_free_folder, number_folders
from kinegraph.cli.run_summary import evaluate_and_report, print_summary
from kinegraph.errors import RecipeError

REPORT = "report.html"

if TYPE_CHECKING:
    from kinegraph.training.recipe import Recipe


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or a shipped recipe's name.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as train.epochs=2.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The run's folder; default runs/NAME. With --streams, of all runs."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last finished epoch.")] = False,
    streams: Annotated[
        str | None, typer.Option(help="One run for each of these, such as joint,bone.")
    ] = None,
) -> None:
    """Train by a recipe, evaluate on the test split, and write report.html."""
    # several processes look for unused parameters; PyTorch warns if a model has none of them
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from kinegraph.training.recipe import load_recipe

    if streams is None:
        settled = load_recipe(recipe, overrides or ())
        name = f"{settled.name}-{settled.stream}"
        _train(settled, out or _default_folder(name, resume=resume), resume=resume)
        return
    names = _stream_names(streams)
    wanted = [load_recipe(recipe, [*(overrides or ()), f"stream={name}"]) for name in names]
    folder = out or Path("runs")
    runs = [folder / f"{settled.name}-{settled.stream}" for settled in wanted]
    for number, (settled, run) in enumerate(zip(wanted, runs, strict=True), start=1):
        _tell(f"stream {number} of {len(wanted)}: {settled.stream}")
        _train(settled, run, resume=resume and run.exists())
    _tell(f"next:   kinegraph fuse {' '.join(map(str, runs))}")


def _train(recipe: Recipe, folder: Path, *, resume: bool) -> None:
    """Train in all processes; the first one evaluates, and speaks."""
    from kinegraph.training.distributed import is_rank_zero
    from kinegraph.training.train import train as run

    if recipe.init_from and is_rank_zero():
        _tell_other_preparation(recipe, recipe.init_from)
    run(recipe, folder, resume=resume)
    if not is_rank_zero():
        return
    if resume and (folder / REPORT).is_file():
        print(f"{folder} is finished: see {folder / REPORT}")
    else:
        print_summary(folder, evaluate_and_report(folder))


def _tell_other_preparation(recipe: Recipe, start: str) -> None:
    """Weights know one way of preparing clips: to go on with another is legal, but seldom meant."""
    from kinegraph.training.checkpoint import find_checkpoint, load_header
    from kinegraph.transforms import Pipeline

    header = load_header(find_checkpoint(Path(start)))
    theirs = Pipeline.from_list(header.transforms, header.stream)
    before, now = (p.for_evaluation().to_list() for p in (theirs, recipe.pipeline()))
    if (before, theirs.stream) != (now, recipe.stream):
        print(
            f"kinegraph: {start} learnt from clips prepared otherwise: {before}, stream "
            f"{theirs.stream}; this recipe: {now}, stream {recipe.stream}",
            file=sys.stderr,
        )


def _tell(text: str) -> None:
    from kinegraph.training.distributed import is_rank_zero

    if is_rank_zero():
        print(text)


def _stream_names(text: str) -> list[str]:
    from kinegraph.transforms.input_streams import normalize_stream_name

    names = [normalize_stream_name(name) for name in text.split(",")]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if not all(names) or twice:
        raise RecipeError(
            f"expected different streams joined by commas, such as joint,bone, got {text!r}"
        )
    return names


def _default_folder(name: str, *, resume: bool) -> Path:
    """The first of runs/NAME, runs/NAME-2, ... that is free; to resume, the last that is there."""
    folder = Path("runs") / name
    if not resume:
        return find_free_folder(folder)
    begun = list(itertools.takewhile(Path.exists, number_folders(folder)))
    if not begun:
        raise RecipeError(f"{folder} does not exist: there is nothing to resume")
    return begun[-1]
