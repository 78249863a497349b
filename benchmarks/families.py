"""Every classifying model family as a small network for own clips: a table of docs/numbers.md.

    python benchmarks/families.py DATA [--out runs/families] [--no-train]

Each family takes the transforms and the training of the recipe own_data, and keeps the last epoch.
Finished runs are kept, as in accuracy.py; the speed of all networks is measured last, in turns. A
family without a finished run of Florence 3D has no row.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accuracy import (
    SUBJECTS,
    accuracy,
    count_parameters,
    get_store,
    mean_and_spread,
    minutes,
    train_run,
    write_table,
)
from torch import Tensor, nn

from kinegraph.bench.train import make_training_step
from kinegraph.runtime.fuse import optimize_for_inference
from kinegraph.runtime.streams import StreamBatch, WindowStreams, open_streams
from kinegraph.training.checkpoint import load_model
from kinegraph.training.devices import fastest_dtype

HEADER = (
    "family", "Florence 3D: test top-1 (%)", "seeds", "UTD-MHAD, 1 seed", "parameters",
    "minutes per run", "ms per training step", "ms per clip", "ms per frame of a stream",
    "stream by",
)  # fmt: skip
SMALL = {"channels": [48, 48, 96, 96], "strides": [1, 2, 1, 2], "head_dropout": 0.5}
JOINTS = {**SMALL, "pool": "joints"}
SHORT = {**SMALL, "channels": [48, 96, 96], "strides": [1, 2, 2]}
#: Title and options of each family; what is not set is the family's default.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "stgcn": ("ST-GCN", {**JOINTS, "adaptive": True, "dropout": 0}),
    "shiftgcn": ("Shift-GCN", JOINTS),
    "asgcn": ("AS-GCN, structural links", {**JOINTS, "dropout": 0, "actional": False, "future": 0}),
    "stgcnpp": ("ST-GCN++", JOINTS),
    "agcn": ("2s-AGCN, one stream", JOINTS),
    "aagcn": ("AAGCN", JOINTS),
    "ctrgcn": ("CTR-GCN", JOINTS),
    "dgstgcn": ("DG-STGCN", JOINTS),
    "msg3d": (
        "MS-G3D",
        {**SHORT, "pool": "joints", "scales": 5, "window_scales": 3, "windows": [3]},
    ),
    "efficientgcn": ("EfficientGCN-B0", {"scale": "B0", "pool": "joints", "head_dropout": 0.5}),
    "skateformer": ("SkateFormer", {**SHORT, "depth": 1, "mlp_ratio": 1.0}),
}
SEEDS = {"florence3d": 3, "utd_mhad": 1}
CLIP_FRAMES = 32
BATCH_SIZE = 16
SPEED_ROUNDS = 8
CLIPS_PER_ROUND = 8


def train(data_set: str, family: str, seed: int, store: Path, out: Path) -> None:
    """Train a run; an unfinished one is continued, a finished one is kept."""
    model = {"name": family, **FAMILIES[family][1]}
    train_run(
        "own_data",
        run_folder(data_set, family, seed, out),
        f"store={store}",
        f"protocol={SUBJECTS[0]}",
        f"seed={seed}",
        f"model={json.dumps(model)}",
        "train.precision=auto",
        "validation.fraction=0",
        "validation.retrain=false",
    )


def run_folder(data_set: str, family: str, seed: int, out: Path) -> Path:
    """Return the folder of a run."""
    return out / f"{data_set}-{family}-{seed}"


def finished_runs(data_set: str, family: str, out: Path) -> list[Path]:
    """Return the runs of a family that are trained and evaluated, by seed."""
    runs = [run_folder(data_set, family, seed, out) for seed in range(SEEDS[data_set])]
    return [folder for folder in runs if (folder / "report.html").exists()]


class Speed(NamedTuple):
    """Median times of a network, and how its streams are computed: by ``step`` or ``window``."""

    clip_ms: float
    frame_ms: float
    training_step_ms: float
    stream: str


def measure_speed(folders: dict[str, Path]) -> dict[str, Speed]:
    """Return the speed of each network for one person, with one thread.

    Clips and streams are computed by the fused network in fp32, training steps on 16 clips in the
    precision in which this processor trains. The networks take turns in every round. Times are
    those of the processor, so that other programs on it count less.
    """
    torch.set_num_threads(1)
    is_bf16 = fastest_dtype(torch.device("cpu")) == torch.bfloat16
    streams: dict[str, str] = {}
    calls: dict[str, list[Callable[[], Any]]] = {}
    for name, folder in folders.items():
        model, _ = load_model(folder)
        network = optimize_for_inference(model)
        x = torch.randn(1, model.in_channels, CLIP_FRAMES, model.layout.num_joints, 1)
        stream = open_streams(network, window=CLIP_FRAMES)
        batch, labels = x.expand(BATCH_SIZE, -1, -1, -1, -1), torch.zeros(BATCH_SIZE).long()
        training_step = make_training_step(
            load_model(folder)[0].train(), batch, labels, "bf16" if is_bf16 else "fp32"
        )
        streams[name] = "window" if isinstance(stream, WindowStreams) else "step"
        calls[name] = [
            partial(run_clips, network, x),
            partial(push_frames, stream, stream.open(), x),
            partial(training_step, 0),
        ]
    times: dict[str, list[list[float]]] = {name: [] for name in folders}
    for number in range(SPEED_ROUNDS + 1):
        for name, own in calls.items():
            seconds = [time_on_processor(call) for call in own]
            if number:  # the first round is the warm-up
                times[name].append(seconds)
    speeds = {}
    for name, rounds in times.items():
        clip, frames, step = (
            1000 * statistics.median(taken) for taken in zip(*rounds, strict=True)
        )
        speeds[name] = Speed(clip / CLIPS_PER_ROUND, frames / CLIP_FRAMES, step, streams[name])
    return speeds


def time_on_processor(call: Callable[[], Any]) -> float:
    """Return the seconds of processor time that a call takes."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


@torch.inference_mode()
def run_clips(network: nn.Module, x: Tensor) -> None:
    """Compute a clip (1, C, T, V, M) several times."""
    for _ in range(CLIPS_PER_ROUND):
        network(x)


@torch.inference_mode()
def push_frames(streams: StreamBatch, key: int, x: Tensor) -> None:
    """Push the frames of a clip (1, C, T, V, M) into a stream."""
    for frame in x[0].unbind(1):
        streams.push({key: frame})


def row(family: str, out: Path, speed: Speed) -> str:
    """Return the row of a family with a finished run of Florence 3D."""
    florence, utd = (finished_runs(data_set, family, out) for data_set in SEEDS)
    cells = (
        FAMILIES[family][0],
        mean_and_spread([accuracy(folder) for folder in florence]),
        len(florence),
        mean_and_spread([accuracy(folder) for folder in utd]) if utd else "–",
        f"{count_parameters(florence[0]):,}",
        " / ".join(f"{statistics.mean(map(minutes, own)):.1f}" for own in (florence, utd) if own),
        f"{speed.training_step_ms:.0f}",
        f"{speed.clip_ms:.1f}",
        f"{speed.frame_ms:.1f}",
        speed.stream,
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Convert, train, measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/families"))
    parser.add_argument("--no-train", action="store_true", help="write what is finished")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.no_train:
        stores = {name: get_store(name, options.data, options.out) for name in SEEDS}
        for seed in range(max(SEEDS.values())):
            for data_set in (name for name in SEEDS if seed < SEEDS[name]):
                for family in FAMILIES:
                    train(data_set, family, seed, stores[data_set], options.out)
    runs = {name: finished_runs("florence3d", name, options.out) for name in FAMILIES}
    speeds = measure_speed({name: folders[0] for name, folders in runs.items() if folders})
    lines = [row(name, options.out, speed) for name, speed in speeds.items()]
    write_table("families", HEADER, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
