"""`kinegraph demo`: from raw files to a named action, with synthetic performers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinegraph.cli.console import echo, find_free_folder, progress
from kinegraph.cli.run_summary import evaluate_and_report, print_summary

NUM_EXAMPLES = 3

if TYPE_CHECKING:
    from kinegraph.clips.store import ClipStore


def demo(out: Annotated[Path, typer.Option(help="Folder for all files.")] = Path("demo")) -> None:
    """Write synthetic recordings as raw files; convert, train, evaluate, report and predict."""
    import numpy as np

    from kinegraph.clips.splits import get_split_indices
    from kinegraph.clips.store import ClipStore
    from kinegraph.inference.recognizer import Recognizer
    from kinegraph.readers import get_reader, read_clip
    from kinegraph.readers.convert import convert
    from kinegraph.training.recipe import load_recipe
    from kinegraph.training.train import train

    raw, store, run = out / "raw", out / "synthetic.arrow", find_free_folder(out / "run")
    echo(f"1/5  raw recordings in {raw}, converted to {store}")
    with progress("converting") as bar:
        convert(get_reader("synthetic"), raw, store, progress=bar)
    echo(f"2/5  inspected: {_summarize(ClipStore(store))}")
    recipe = load_recipe("demo", [f"store={store}"])
    echo(f"3/5  training {recipe.model.name} on {recipe.protocol}: about a minute or two")
    train(recipe, run)
    echo("4/5  evaluating on performers who are not in the training set")
    results = evaluate_and_report(run)
    echo("5/5  naming the actions in three raw files, drawn at random")
    opened, recognizer = ClipStore(store), Recognizer.load(run)
    unseen = get_split_indices(opened, recipe.protocol, "test")
    for index in np.random.default_rng(0).choice(unseen, NUM_EXAMPLES, replace=False):
        clip = opened[int(index)]
        answer = recognizer(read_clip(raw / f"{clip.id}.skeleton"))
        truth = recognizer.header.class_name(int(opened.labels[index]))
        echo(f"     {clip.id}: {answer.name} ({answer.probability:.0%}); it was {truth}")
    echo()
    print_summary(run, *results)


def _summarize(store: ClipStore) -> str:
    from kinegraph.clips.validate import validate_store

    report = validate_store(store)
    worst = [finding.text for finding in report.findings if finding.severity == "error"]
    return f"{report.clips} clips of {len(report.classes)} actions; {worst or 'no problems found'}"
