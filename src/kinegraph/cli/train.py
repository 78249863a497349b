"""`kinegraph train`: train a recipe, evaluate it and write a report; or one run per stream."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinegraph.cli.console import echo, find_free_folder, number_folders
from kinegraph.cli.run_summary import evaluate_and_report, print_summary
from kinegraph.errors import RecipeError

REPORT = "report.html"

if TYPE_CHECKING:
    from kinegraph.training.recipe import Recipe


def train(
    recipe: Annotated[str, typer.Argument(help="Recipe file, or name of a bundled recipe.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Recipe values to change, such as train.epochs=2."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run, or of all runs with --streams. Default: runs/NAME-STREAM."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue after the last finished epoch.")] = False,
    streams: Annotated[
        str | None, typer.Option(help="Train one run per stream, such as joint,bone.")
    ] = None,
) -> None:
    """Train a recipe, evaluate it on the test split, and write report.html."""
    # with several processes PyTorch warns if a model has no unused parameters
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from kinegraph.training.distributed import is_rank_zero
    from kinegraph.training.recipe import load_recipe

    if streams is None:
        loaded = load_recipe(recipe, overrides or ())
        name = f"{loaded.name}-{loaded.stream}"
        _train(loaded, out or _default_folder(name, resume=resume), resume=resume)
        return
    names = _stream_names(streams)
    recipes = [load_recipe(recipe, [*(overrides or ()), f"stream={name}"]) for name in names]
    folder = out or Path("runs")
    runs = [folder / f"{loaded.name}-{loaded.stream}" for loaded in recipes]
    for number, (loaded, run) in enumerate(zip(recipes, runs, strict=True), start=1):
        if is_rank_zero():
            echo(f"stream {number} of {len(recipes)}: {loaded.stream}")
        _train(loaded, run, resume=resume and run.exists())
    if is_rank_zero():
        echo(f"next:   kinegraph fuse {' '.join(map(str, runs))}")


def _train(recipe: Recipe, folder: Path, *, resume: bool) -> None:
    """Train in all processes; rank 0 evaluates and prints."""
    from kinegraph.training.distributed import is_rank_zero
    from kinegraph.training.train import train as run

    if recipe.init_from and is_rank_zero():
        _warn_about_preprocessing(recipe, recipe.init_from)
    run(recipe, folder, resume=resume)
    if not is_rank_zero():
        return
    if resume and (folder / REPORT).is_file():
        echo(f"{folder} is finished: see {folder / REPORT}")
    else:
        print_summary(folder, *evaluate_and_report(folder))


def _warn_about_preprocessing(recipe: Recipe, start: str) -> None:
    """Warn if the initial weights were trained with other transforms or another stream."""
    from kinegraph.training.checkpoint import find_checkpoint, load_header
    from kinegraph.transforms import Pipeline

    header = load_header(find_checkpoint(Path(start)))
    theirs = Pipeline.from_list(header.transforms, header.stream)
    before, now = (p.for_evaluation().to_list() for p in (theirs, recipe.pipeline()))
    if (before, theirs.stream) != (now, recipe.stream):
        echo(
            f"kinegraph: warning: {start} was trained with different preprocessing: {before}, "
            f"stream {theirs.stream}; this recipe has {now}, stream {recipe.stream}",
            error=True,
        )


def _stream_names(text: str) -> list[str]:
    from kinegraph.transforms.input_streams import normalize_stream_name

    names = [normalize_stream_name(name) for name in text.split(",")]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if not all(names) or twice:
        raise RecipeError(
            f"expected different streams separated by commas, such as joint,bone, got {text!r}"
        )
    return names


def _default_folder(name: str, *, resume: bool) -> Path:
    """Return the first unused folder of runs/NAME, runs/NAME-2, ...; to resume, the last used."""
    folder = Path("runs") / name
    if not resume:
        return find_free_folder(folder)
    used = list(itertools.takewhile(Path.exists, number_folders(folder)))
    if not used:
        raise RecipeError(f"{folder} does not exist: there is nothing to resume")
    return used[-1]
