"""Accuracy of every model family and variant on two real datasets: tables of docs/numbers.md.

    python benchmarks/models.py DATA [--out runs/numbers] [--jobs 2] [--seeds 3]

Florence 3D with ``--seeds`` seeds, UTD-MHAD with one. Finished runs are kept, as in accuracy.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from accuracy import accuracy, count_parameters, get_store, minutes, run, write_table

SETS = ("utd_mhad", "florence3d")
SHIFT, ASGCN, STREAMS = "_shiftgcn", "_asgcn", ("joint", "bone", "joint_motion", "bone_motion")
NO_HEAD = ("model.future=0", "objective={name: recognition}")
NO_LINKS = ("model.actional=false", "stages=[]")
FEW_LABEL_SEEDS = range(3)


@dataclass(frozen=True)
class Variant:
    """A row: a recipe of each dataset (its name and a suffix) with some options changed.

    Attributes:
        title: title of the row.
        tag: part of the names of its runs' folders.
        suffix: suffix of the recipe's name.
        changes: changed options, as on the command line.
    """

    title: str
    tag: str
    suffix: str
    changes: tuple[str, ...] = ()


def shift_variant(spatial: str, temporal: str) -> Variant:
    """Return one of the four Shift-GCN variants."""
    words = {"nonlocal": "non-local"}.get(spatial, spatial)
    changes = (f"model.spatial={spatial}", f"model.temporal={temporal}")
    title = f"Shift-GCN, {words} and {temporal} shifts"
    return Variant(title, f"shift-{spatial}-{temporal}", SHIFT, changes)


def excitation_variant(number: int, name: str, words: str) -> Variant:
    """Return Shift-GCN with one of the six excitation wirings."""
    title = f"Shift-GCN, wiring {number}: {words}"
    return Variant(title, f"shift-{name}", SHIFT, (f"model.excitation={name}",))


MODELS = (
    Variant("ST-GCN", "stgcn", ""),
    shift_variant("nonlocal", "adaptive"),
    shift_variant("nonlocal", "naive"),
    shift_variant("local", "adaptive"),
    shift_variant("local", "naive"),
    Variant("AS-GCN", "asgcn", ASGCN),
    Variant("AS-GCN without actional links", "asgcn-nolinks", ASGCN, NO_LINKS),
    Variant("AS-GCN without the future-pose head", "asgcn-nohead", ASGCN, NO_HEAD),
    Variant("AS-GCN without either", "asgcn-neither", ASGCN, (*NO_LINKS, *NO_HEAD)),
    excitation_variant(1, "me_series", "ME in series"),
    excitation_variant(2, "me_parallel", "ME in parallel, temporal branch"),
    excitation_variant(3, "ce_parallel", "CE in parallel, temporal branch"),
    excitation_variant(4, "ce_parallel_plain", "CE in parallel"),
    excitation_variant(5, "me_ce_action", "ME and CE in series"),
    excitation_variant(6, "mta", "MTA"),
)
STREAM_RUNS = tuple(
    Variant(f"ST-GCN, {name.replace('_', ' ')}", f"stgcn-{name}", "", (f"stream={name}",))
    for name in STREAMS
)
FORECAST = Variant("the last 8 of 40 frames", "forecast", "_forecast")
AUTOENCODER = Variant("hidden joints and frames", "autoencoder", "_autoencoder")


def train(data_set: str, variant: Variant, seed: int, store: Path, out: Path) -> Path:
    """Train a run; an unfinished one is continued, a finished one is kept."""
    folder = out / f"{data_set}-{variant.tag}-{seed}"
    if (folder / "report.html").exists():
        return folder
    is_started = any(folder.glob("**/resume.ckpt"))
    words = [f"store={store}", f"seed={seed}", *variant.changes, "--out", folder]
    run(["train", f"{data_set}{variant.suffix}", *words, *(["--resume"] if is_started else [])])
    print(folder.name, file=sys.stderr, flush=True)
    return folder


def format_mean(values: Sequence[float], digits: int = 1) -> str:
    """Return the mean and, with several seeds, the standard deviation."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


class Runs:
    """All runs of the tables."""

    def __init__(self, data: Path, out: Path, jobs: int, seeds: int) -> None:
        self.out, self.jobs = out, jobs
        self.seeds = {"utd_mhad": 1, "florence3d": seeds}
        self.stores = {name: get_store(name, data, out) for name in SETS}

    def folder(self, data_set: str, variant: Variant, seed: int) -> Path:
        """Return the folder of a run."""
        return self.out / f"{data_set}-{variant.tag}-{seed}"

    def train(self, planned: Sequence[tuple[str, Variant, int]]) -> None:
        """Train the runs that are not finished."""
        with ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(lambda p: train(*p, self.stores[p[0]], self.out), planned))

    def all_of(self, data_set: str, variant: Variant) -> list[Path]:
        """Return the runs of all seeds."""
        return [self.folder(data_set, variant, seed) for seed in range(self.seeds[data_set])]

    def accuracies(self, data_set: str, variant: Variant) -> list[float]:
        """Return the test top-1 of all seeds in percent."""
        return [accuracy(folder) for folder in self.all_of(data_set, variant)]


def model_lines(runs: Runs) -> list[str]:
    """Return a row for each variant."""
    lines = []
    for variant in MODELS:
        own = {name: runs.all_of(name, variant) for name in SETS}
        size = count_parameters(own["utd_mhad"][0])
        times = [statistics.mean(minutes(folder) for folder in own[name]) for name in SETS]
        florence = format_mean(runs.accuracies("florence3d", variant))
        utd = format_mean(runs.accuracies("utd_mhad", variant))
        cells = (variant.title, florence, utd, f"{size:,}", f"{times[1]:.1f} / {times[0]:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def fused_accuracy(runs: Runs, data_set: str, count: int, seed: int) -> float:
    """Return the test top-1 of the first ``count`` streams fused with the published weights."""
    folders = [runs.folder(data_set, variant, seed) for variant in STREAM_RUNS[:count]]
    target = runs.out / f"{data_set}-fused{count}-{seed}"
    if not (target / "scores-test.npz").exists():
        run(["fuse", *folders, "--out", target])
    return accuracy(target)


def fusion_lines(runs: Runs) -> list[str]:
    """Return a row for each stream, then for two and four streams."""
    rows = {v.title: {name: runs.accuracies(name, v) for name in SETS} for v in STREAM_RUNS}
    for title, count in (("joint and bone fused", 2), ("all four fused", 4)):
        rows[title] = {
            name: [fused_accuracy(runs, name, count, seed) for seed in range(runs.seeds[name])]
            for name in SETS
        }
    return [
        f"| {title} | {format_mean(own['florence3d'])} | {format_mean(own['utd_mhad'])} |"
        for title, own in rows.items()
    ]


def pose_errors(folder: Path) -> dict[str, float]:
    """Return the pose errors of `kinegraph evaluate --json`, cached in the run's folder."""
    cache = folder / "poses-test.json"
    if not cache.exists():
        cache.write_text(json.dumps(json.loads(run(["evaluate", folder, "--json"]))["poses"]))
    return json.loads(cache.read_text())


def pose_lines(runs: Runs) -> list[str]:
    """Return a row for each task and dataset: error, baseline, share of clips with less error."""
    lines = []
    for variant, data_set, unit, scale in (
        (FORECAST, "florence3d", "% of the torso", 100),
        (FORECAST, "utd_mhad", "mm", 1000),
        (AUTOENCODER, "utd_mhad", "mm", 1000),
    ):
        found = [pose_errors(folder) for folder in runs.all_of(data_set, variant)]
        error = format_mean([scale * f["mpjpe"] for f in found])
        baseline = format_mean([scale * f["baseline_mpjpe"] for f in found[:1]])
        better = format_mean([100 * f["better_than_baseline"] for f in found])
        what = f"{variant.title}, {data_set} ({unit})"
        lines.append(f"| {what} | {error} | {baseline} | {better} |")
    return lines


def few_label_variants(runs: Runs) -> list[Variant]:
    """Return variants with a tenth of the labels: without and with two kinds of pre-training."""
    starts = {
        "random": None,
        "trained to predict poses": FORECAST,
        "trained to fill in hidden poses": AUTOENCODER,
    }
    return [
        Variant(
            title,
            f"few-{'afresh' if start is None else start.tag}{'-probe' * probe}",
            "_few_labels",
            (
                *((f"init_from={runs.folder('utd_mhad', start, 0)}",) if start else ()),
                *(("train.freeze_backbone=true",) if probe else ()),
            ),
        )
        for title, start in starts.items()
        for probe in (False, True)
    ]


def few_label_lines(runs: Runs) -> list[str]:
    """Return a row for each initialization: all weights trained, or only the classifier."""
    variants = few_label_variants(runs)
    lines = []
    for whole, probe in zip(variants[::2], variants[1::2], strict=True):
        cells = [
            format_mean([accuracy(runs.folder("utd_mhad", v, seed)) for seed in FEW_LABEL_SEEDS])
            for v in (whole, probe)
        ]
        lines.append(f"| {whole.title} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Convert, train, evaluate and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/numbers"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    runs = Runs(options.data, options.out, options.jobs, options.seeds)
    variants = [*MODELS, *STREAM_RUNS, FORECAST]
    planned = [("utd_mhad", v, 0) for v in (FORECAST, AUTOENCODER)]
    planned += [
        (name, v, seed)
        for seed in range(options.seeds)
        for v in variants
        for name in SETS
        if seed < runs.seeds[name]
    ]
    runs.train(list(dict.fromkeys(planned)))
    runs.train([("utd_mhad", v, s) for s in FEW_LABEL_SEEDS for v in few_label_variants(runs)])
    on_two = (f"Florence 3D, {options.seeds} seeds", "UTD-MHAD, 1 seed")
    write_table(
        "models",
        ("model", *on_two, "parameters", "minutes per run"),
        model_lines(runs),
    )
    write_table("fusion", ("streams", *on_two), fusion_lines(runs))
    header = ("predicted poses", "error", "baseline", "better than baseline (%)")
    write_table("poses", header, pose_lines(runs))
    header = ("initialization", "fine-tuning", "linear probe")
    write_table("few", header, few_label_lines(runs))


if __name__ == "__main__":
    main()
