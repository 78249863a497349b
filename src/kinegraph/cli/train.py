"""`kinegraph train`: a recipe to a run with its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinegraph.cli.evaluate import print_summary, write_outcome
from kinegraph.errors import RecipeError


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or a shipped recipe's name.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as train.epochs=2.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; default runs/NAME.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last finished epoch.")] = False,
) -> None:
    """Train by a recipe, evaluate on the test split, and write report.html."""
    from kinegraph.training.recipe import load_recipe
    from kinegraph.training.train import train as run

    settled = load_recipe(recipe, overrides or ())
    folder = out or _default_folder(f"{settled.name}-{settled.stream}", resume=resume)
    run(settled, folder, resume=resume)
    outcome = write_outcome(folder)
    print_summary(folder, outcome)


def _default_folder(name: str, *, resume: bool) -> Path:
    """runs/NAME, or the first free runs/NAME-2, -3, ...; to resume, the last that is there."""
    number = 1
    folder = last = Path("runs") / name
    while folder.exists():
        last, number = folder, number + 1
        folder = Path("runs") / f"{name}-{number}"
    if resume and not last.exists():
        raise RecipeError(f"{last} does not exist: there is nothing to resume")
    return last if resume else folder
