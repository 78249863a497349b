"""Trainings in processes of their own, which can be killed at a chosen point or at any time."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from interrupted import SERVER, count_writes


def make_recipe(store: Path) -> dict[str, Any]:
    """Return a recipe with all that has a state: averaged weights, early stopping, accumulation."""
    return {
        "name": "killed",
        "store": str(store),
        "protocol": "odd-even-subjects",
        "transforms": [{"jitter": {"std": 0.01}}, {"resize": {"frames": 8}}, "stream"],
        "model": {"channels": [8, 8], "strides": [1, 2], "dropout": 0.1},
        "train": {
            **{"epochs": 4, "batch_size": 2, "lr": 0.05, "ema": 0.9, "threads": 1},
            **{"accumulate": 2, "early_stop": 3},
        },
        "validation": {"fraction": 0.25},
    }


def facts(run: Path) -> tuple:
    """Return weights, history without its clock, and which epoch was the best."""
    from safetensors.torch import load_file

    from kinegraph.training.checkpoint import BEST_FILE, LAST_FILE, load_header
    from kinegraph.training.history import HISTORY_FILE

    with (run / HISTORY_FILE).open(newline="") as file:
        rows = [
            {k: v for k, v in row.items() if k not in ("clips_per_second", "seconds")}
            for row in csv.DictReader(file)
        ]
    states = [load_file(run / name) for name in (BEST_FILE, LAST_FILE)]
    bits = [{key: value.numpy().tobytes() for key, value in s.items()} for s in states]
    return bits, rows, [load_header(run / n).training["epoch"] for n in (BEST_FILE, LAST_FILE)]


def start(recipe: dict[str, Any], out: Path, *, resume: bool = False, kill_at: int = 0) -> Any:
    """Start a process that trains; with ``kill_at``, it kills itself at that fsync or rename."""
    process = SERVER.Process(target=_train, args=(recipe, str(out), resume, kill_at))
    process.start()
    return process


def run(recipe: dict[str, Any], out: Path, *, resume: bool = False, kill_at: int = 0) -> int | None:
    """Return the exit code of a training, negative if a signal ended it."""
    process = start(recipe, out, resume=resume, kill_at=kill_at)
    process.join()
    return process.exitcode


def _train(recipe: dict[str, Any], out: str, resume: bool, kill_at: int) -> None:
    from kinegraph.training.recipe import parse_recipe
    from kinegraph.training.train import train

    count_writes(kill_at)
    train(parse_recipe(recipe, "killed"), out, resume=resume)
