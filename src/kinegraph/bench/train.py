"""How fast weights are fitted: our training step against the plain implementation's."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kinegraph.bench.baselines import CLASSES, FRAMES, PERSONS, baseline, dense_clips, released
from kinegraph.bench.count import count
from kinegraph.bench.machine import PRECISIONS
from kinegraph.bench.result import Figures, Result, timed_result
from kinegraph.bench.timing import Progress, interleave
from kinegraph.errors import BenchError

#: Largest difference of the first loss, as a share of it.
AGREE = {"fp32": 1e-4, "bf16": 5e-2}
LR = 1e-3


def bench_train(
    name: str,
    *,
    precision: str = "fp32",
    batch: int = 2,
    rounds: int = 5,
    progress: Progress | None = None,
) -> Result:
    """A step on dense clips: forward, loss, backward, SGD with momentum.

    Both sides start from the same weights and share a process, so that they have the same
    allocator.

    Args:
        name: a model of `BASELINES`.
        precision: ``bf16`` trains ours in mixed precision; the baseline is in fp32.
        batch: clips a step.
        rounds: how often each side takes a step.
        progress: called with (rounds done, rounds in all).

    Raises:
        BenchError: the first losses differ.
    """
    model = released(name)
    theirs, x = baseline(model), dense_clips(batch, FRAMES)
    labels = torch.arange(batch) % CLASSES
    flops = count(theirs.eval(), x).flops
    first = [
        float(_loss(net.train(), x, labels, numbers).detach())
        for net, numbers in ((theirs, "fp32"), (model, precision))
    ]
    error = _same_loss(first[0], first[1], precision)
    comparison = interleave(
        stepper(theirs, x, labels, "fp32"), stepper(model, x, labels, precision), rounds, progress
    )
    return timed_result(
        f"{name}, a training step on {batch} dense clips of {FRAMES} frames, {PERSONS} persons",
        comparison,
        item="clips",
        names=("plain fp32", f"kinegraph {precision}"),
        each=(batch, batch),
        figures={
            "relative error of the first loss": error,
            "step (ms)": 1000 * statistics.median(comparison.ours),
            "GFLOP a clip forward": flops / batch / 1e9,
        },
    )


def bench_demo(
    folder: Path, *, epochs: int, devices: int = 1, overrides: tuple[str, ...] = ()
) -> Figures:
    """A whole training on the made-up performers of the demo, by its recipe.

    Args:
        folder: for the recordings and the run.
        epochs: how many.
        devices: processes or cards.
        overrides: of the recipe, ``key=value``.

    Returns:
        Clips and milliseconds of a step (of the median epoch), and accuracy on unseen performers.
    """
    from kinegraph.inference.evaluate import evaluate_run
    from kinegraph.readers import get_reader
    from kinegraph.readers.convert import convert
    from kinegraph.training.checkpoint import find_checkpoint, load_header
    from kinegraph.training.history import read_history
    from kinegraph.training.recipe import load_recipe
    from kinegraph.training.train import train

    store, out = folder / "synthetic.arrow", folder / "run"
    changes = [f"store={store}", f"train.epochs={epochs}", f"train.devices={devices}"]
    recipe = load_recipe("demo", [*changes, *overrides])
    convert(get_reader("synthetic"), folder / "raw", store)
    train(recipe, out)
    _, evaluation = evaluate_run(out)
    seconds = [row["seconds"] for row in read_history(out)]
    clips = int(load_header(find_checkpoint(out)).training["clips"])
    epoch = statistics.median(seconds[1:] or seconds)  # the first one warms up
    steps = -(-clips // (recipe.train.batch_size * devices))
    return {
        "epochs": epochs,
        "devices": devices,
        "FPS": clips / epoch,
        "step (ms)": 1000 * epoch / steps,
        "top-1": evaluation.top1,
        "top-5": evaluation.top5,
    }


def stepper(network: nn.Module, x: Tensor, labels: Tensor, precision: str) -> Callable[[int], None]:
    """Takes a training step whenever it is called."""
    optimizer = torch.optim.SGD(
        network.parameters(), lr=LR, momentum=0.9, nesterov=True, weight_decay=1e-4
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


def _same_loss(theirs: float, ours: float, precision: str) -> float:
    error = abs(theirs - ours) / abs(theirs)
    if not error <= AGREE[precision]:
        raise BenchError(
            f"the two sides do not train the same: their first losses are {theirs:.4g} and "
            f"{ours:.4g}; nothing was timed"
        )
    return error
