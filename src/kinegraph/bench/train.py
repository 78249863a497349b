"""Benchmarks of training: our step against the reference network's, and epochs of a recipe."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kinegraph.bench import baselines
from kinegraph.bench.count import count_cost
from kinegraph.bench.machine import PRECISIONS
from kinegraph.bench.result import (
    DEFAULT_OPTIONS,
    BenchFigures,
    BenchOptions,
    BenchResult,
    summarize_comparison,
)
from kinegraph.bench.timing import time_interleaved
from kinegraph.errors import BenchError

if TYPE_CHECKING:
    from kinegraph.training.recipe import Recipe

#: Largest difference of the first loss between the two sides, relative to it.
LOSS_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}
LEARNING_RATE = 1e-3


def bench_train(
    name: str, options: BenchOptions = DEFAULT_OPTIONS, *, batch: int = 2
) -> BenchResult:
    """Take training steps on dense clips: forward, loss, backward, SGD with momentum.

    Both sides start from the same weights, in one process with one memory allocator.

    Args:
        name: a model with a reference network.
        options: rounds, progress, and precision: ``bf16`` trains ours in mixed precision.

    Raises:
        BenchError: the first losses differ.
    """
    model, precision = baselines.create_released_model(name), options.precision
    theirs = baselines.create_reference(model)
    x = baselines.random_clips_for(name, model, batch)
    labels = torch.arange(batch) % baselines.NUM_CLASSES
    flops = count_cost(theirs.eval(), x).flops
    error = _check_losses(
        float(_loss(theirs.train(), x, labels, "fp32").detach()),
        float(_loss(model.train(), x, labels, precision).detach()),
        precision,
    )
    comparison = time_interleaved(
        make_training_step(theirs, x, labels, "fp32"),
        make_training_step(model, x, labels, precision),
        options.rounds or 5,
        options.progress,
    )
    return summarize_comparison(
        f"{name}, a training step on {batch} dense clips of {x.shape[2]} frames, "
        f"{baselines.CLIP_PERSONS} persons",
        comparison,
        item="clips",
        names=("reference fp32", f"kinegraph {precision}"),
        items_per_round=(batch, batch),
        figures={
            "relative error of the first loss": error,
            "step (ms)": 1000 * statistics.median(comparison.ours),
            "GFLOP a clip forward": flops / batch / 1e9,
        },
    )


class _DataTimer(Callback):
    """The seconds that each epoch of the last stage waits for data, and its number of batches."""

    def on_fit_start(self, *_: Any) -> None:
        self.waited: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.waited.append(0.0)
        self.batches, self.ready = 0, time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        self.waited[-1] += time.perf_counter() - self.ready

    def on_train_batch_end(self, *_: Any) -> None:
        self.batches, self.ready = self.batches + 1, time.perf_counter()


def bench_recipe(recipe: Recipe, folder: Path) -> BenchFigures:
    """Train a recipe on its own clips, and measure the speed of its training epochs.

    Args:
        recipe: its ``train`` states the number of epochs and devices.
        folder: that gets the run.

    Returns:
        Clips a second (of all devices), milliseconds of a step and the share of the time spent
        waiting for data, of the median epoch without the first, which warms up; and the accuracy
        on the test split, if the recipe classifies.
    """
    from kinegraph.inference.evaluate import evaluate_run, supported_tasks
    from kinegraph.training.checkpoint import find_checkpoint, load_header
    from kinegraph.training.history import read_history
    from kinegraph.training.train import train

    timer, run = _DataTimer(), folder / "run"
    train(recipe, run, progress=timer)
    clips = int(load_header(find_checkpoint(run)).training["clips"])
    speeds = [row["clips_per_second"] for row in read_history(run)]
    speed = statistics.median(speeds[1:] or speeds)
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    figures: BenchFigures = {
        "epochs": len(speeds),
        "clips an epoch": clips,
        "devices": environment["processes"],
        "FPS": speed,
        "step (ms)": 1000 * clips / speed / timer.batches,
        "share waiting for data": statistics.median(timer.waited[1:] or timer.waited)
        * speed
        / clips,
    }
    if supported_tasks(run)[0]:
        _, evaluation = evaluate_run(run)
        figures |= {"top-1": evaluation.top1, "top-5": evaluation.top5}
    return figures


def bench_demo(
    folder: Path, *, epochs: int, devices: int = 1, overrides: tuple[str, ...] = ()
) -> BenchFigures:
    """Train the demo's recipe on synthetic performers, see `bench_recipe`.

    Args:
        folder: that gets the recordings and the run.
        overrides: of the recipe, ``key=value``.
    """
    from kinegraph.readers import get_reader
    from kinegraph.readers.convert import convert
    from kinegraph.training.recipe import load_recipe

    store = folder / "synthetic.arrow"
    changes = [f"store={store}", f"train.epochs={epochs}", f"train.devices={devices}"]
    recipe = load_recipe("demo", [*changes, *overrides])
    convert(get_reader("synthetic"), folder / "raw", store)
    return bench_recipe(recipe, folder)


def make_training_step(
    network: nn.Module, x: Tensor, labels: Tensor, precision: str
) -> Callable[[int], None]:
    """Return a function that takes one training step."""
    optimizer = torch.optim.SGD(
        network.parameters(), lr=LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=1e-4
    )

    def step(_: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        _loss(network, x, labels, precision).backward()
        optimizer.step()

    return step


def _loss(network: nn.Module, x: Tensor, labels: Tensor, precision: str) -> Tensor:
    mixed = precision != "fp32"
    with torch.autocast(x.device.type, dtype=PRECISIONS["bf16"], enabled=mixed):
        return cross_entropy(network(x).float(), labels)


def _check_losses(theirs: float, ours: float, precision: str) -> float:
    error = abs(theirs - ours) / abs(theirs)
    if not error <= LOSS_TOLERANCE[precision]:
        raise BenchError(
            f"the first losses of the two sides differ: {theirs:.4g} and {ours:.4g}; "
            "nothing was timed"
        )
    return error
