"""Trains every model family and variant on two real sets and writes the tables of docs/numbers.md.

    python benchmarks/models.py DATA [--out runs/numbers] [--jobs 2] [--seeds 3]

Florence 3D with so many seeds, UTD-MHAD with one. Finished runs are kept, as in accuracy.py.
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

from accuracy import accuracy, minutes, run, store_of, write_table

SETS = ("utd_mhad", "florence3d")
SHIFT, ASGCN, STREAMS = "_shiftgcn", "_asgcn", ("joint", "bone", "joint_motion", "bone_motion")
NO_HEAD = ("model.future=0", "objective={name: recognition}")
NO_LINKS = ("model.actional=false", "stages=[]")
FEW = 3  # seeds of the runs with few labels


@dataclass(frozen=True)
class Variant:
    """A row: a recipe of each set (the set's name and a suffix) with some options changed.

    Attributes:
        title: what the row is called.
        tag: of its runs' folders.
        suffix: of the recipe's name.
        changes: as on the command line.
    """

    title: str
    tag: str
    suffix: str
    changes: tuple[str, ...] = ()


def shift(spatial: str, temporal: str) -> Variant:
    """One of the four Shift-GCNs."""
    words = {"nonlocal": "non-local"}.get(spatial, spatial)
    changes = (f"model.spatial={spatial}", f"model.temporal={temporal}")
    title = f"Shift-GCN, {words} and {temporal} shifts"
    return Variant(title, f"shift-{spatial}-{temporal}", SHIFT, changes)


def excited(number: int, name: str, words: str) -> Variant:
    """Shift-GCN with one of the six wirings."""
    title = f"Shift-GCN, wiring {number}: {words}"
    return Variant(title, f"shift-{name}", SHIFT, (f"model.excitation={name}",))


MODELS = (
    Variant("ST-GCN", "stgcn", ""),
    shift("nonlocal", "adaptive"),
    shift("nonlocal", "naive"),
    shift("local", "adaptive"),
    shift("local", "naive"),
    Variant("AS-GCN", "asgcn", ASGCN),
    Variant("AS-GCN without actional links", "asgcn-nolinks", ASGCN, NO_LINKS),
    Variant("AS-GCN without the future-pose head", "asgcn-nohead", ASGCN, NO_HEAD),
    Variant("AS-GCN without either", "asgcn-neither", ASGCN, (*NO_LINKS, *NO_HEAD)),
    excited(1, "me_series", "ME in series"),
    excited(2, "me_parallel", "ME and a temporal unit beside"),
    excited(3, "ce_parallel", "CE and a temporal unit beside"),
    excited(4, "ce_parallel_plain", "CE beside"),
    excited(5, "me_ce_action", "ME and CE in series"),
    excited(6, "mta", "MTA"),
)
STREAM_RUNS = tuple(
    Variant(f"ST-GCN, {name.replace('_', ' ')}", f"stgcn-{name}", "", (f"stream={name}",))
    for name in STREAMS
)
FORECAST = Variant("the last 8 of 40 frames", "forecast", "_forecast")
AUTOENCODER = Variant("hidden joints and frames", "autoencoder", "_autoencoder")


def train(data_set: str, variant: Variant, seed: int, store: Path, out: Path) -> Path:
    """One run; an unfinished one goes on, a finished one is kept."""
    folder = out / f"{data_set}-{variant.tag}-{seed}"
    if (folder / "report.html").exists():
        return folder
    begun = any(folder.glob("**/resume.ckpt"))
    words = [f"store={store}", f"seed={seed}", *variant.changes, "--out", folder]
    run(["train", f"{data_set}{variant.suffix}", *words, *(["--resume"] if begun else [])])
    print(folder.name, file=sys.stderr, flush=True)
    return folder


def figure(values: Sequence[float], digits: int = 1) -> str:
    """Mean and, over seeds, standard deviation."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def parameters(folder: Path) -> int:
    """Of a run's model."""
    from kinegraph.training.checkpoint import load_model

    return sum(p.numel() for p in load_model(folder)[0].parameters())


class Runs:
    """Every run of the tables, trained side by side."""

    def __init__(self, data: Path, out: Path, jobs: int, seeds: int) -> None:
        self.out, self.jobs = out, jobs
        self.seeds = {"utd_mhad": 1, "florence3d": seeds}
        self.stores = {name: store_of(name, data, out) for name in SETS}

    def folder(self, data_set: str, variant: Variant, seed: int) -> Path:
        """Where a run is."""
        return self.out / f"{data_set}-{variant.tag}-{seed}"

    def train(self, wanted: Sequence[tuple[str, Variant, int]]) -> None:
        """Train what is not there yet."""
        with ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(lambda w: train(*w, self.stores[w[0]], self.out), wanted))

    def all_of(self, data_set: str, variant: Variant) -> list[Path]:
        """The runs of all seeds."""
        return [self.folder(data_set, variant, seed) for seed in range(self.seeds[data_set])]

    def accuracies(self, data_set: str, variant: Variant) -> list[float]:
        """Test top-1 of all seeds in per cent."""
        return [accuracy(folder) for folder in self.all_of(data_set, variant)]


def model_lines(runs: Runs) -> list[str]:
    """A row a variant."""
    lines = []
    for variant in MODELS:
        own = {name: runs.all_of(name, variant) for name in SETS}
        size = parameters(own["utd_mhad"][0])
        times = [statistics.mean(minutes(folder) for folder in own[name]) for name in SETS]
        florence = figure(runs.accuracies("florence3d", variant))
        utd = figure(runs.accuracies("utd_mhad", variant))
        cells = (variant.title, florence, utd, f"{size:,}", f"{times[1]:.1f} / {times[0]:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def fused(runs: Runs, data_set: str, count: int, seed: int) -> float:
    """Test top-1 in per cent of the first ``count`` streams, with the published weights."""
    folders = [runs.folder(data_set, variant, seed) for variant in STREAM_RUNS[:count]]
    target = runs.out / f"{data_set}-fused{count}-{seed}"
    told = target / "scores-test.npz"
    if not told.exists():
        run(["fuse", *folders, "--out", target])
    return accuracy(target)


def fusion_lines(runs: Runs) -> list[str]:
    """A row a stream, then two and four streams."""
    rows = {v.title: {name: runs.accuracies(name, v) for name in SETS} for v in STREAM_RUNS}
    for count in (2, 4):
        rows[f"the first {count} fused"] = {
            name: [fused(runs, name, count, seed) for seed in range(runs.seeds[name])]
            for name in SETS
        }
    return [
        f"| {title} | {figure(own['florence3d'])} | {figure(own['utd_mhad'])} |"
        for title, own in rows.items()
    ]


def pose_errors(folder: Path) -> dict[str, float]:
    """What `kinegraph evaluate --json` says of a run's poses, kept beside it."""
    told = folder / "poses-test.json"
    if not told.exists():
        told.write_text(json.dumps(json.loads(run(["evaluate", folder, "--json"]))["poses"]))
    return json.loads(told.read_text())


def pose_lines(runs: Runs) -> list[str]:
    """A row a task and set: the error, that without a model, in how many clips it is less."""
    lines = []
    for variant, data_set, unit, scale in (
        (FORECAST, "florence3d", "% of the torso", 100),
        (FORECAST, "utd_mhad", "mm", 1000),
        (AUTOENCODER, "utd_mhad", "mm", 1000),
    ):
        found = [pose_errors(folder) for folder in runs.all_of(data_set, variant)]
        error = figure([scale * f["mpjpe"] for f in found])
        baseline = figure([scale * f["baseline_mpjpe"] for f in found[:1]])
        better = figure([100 * f["better_than_baseline"] for f in found])
        what = f"{variant.title}, {data_set} ({unit})"
        lines.append(f"| {what} | {error} | {baseline} | {better} |")
    return lines


def few_label_variants(runs: Runs) -> list[Variant]:
    """UTD-MHAD from a tenth of its labels: afresh, and from two kinds of pre-training."""
    starts = {"afresh": None, "from poses predicted": FORECAST, "from poses rebuilt": AUTOENCODER}
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
    """A row a start: everything learnt on, or only the classifier."""
    variants = few_label_variants(runs)
    lines = []
    for whole, probe in zip(variants[::2], variants[1::2], strict=True):
        cells = [
            figure([accuracy(runs.folder("utd_mhad", v, seed)) for seed in range(FEW)])
            for v in (whole, probe)
        ]
        lines.append(f"| {whole.title} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Convert, train, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/numbers"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    words = parser.parse_args()
    words.out.mkdir(parents=True, exist_ok=True)
    runs = Runs(words.data, words.out, words.jobs, words.seeds)
    variants = [*MODELS, *STREAM_RUNS, FORECAST]
    wanted = [("utd_mhad", v, 0) for v in (FORECAST, AUTOENCODER)]
    wanted += [
        (name, v, seed)
        for seed in range(words.seeds)
        for v in variants
        for name in SETS
        if seed < runs.seeds[name]
    ]
    runs.train(list(dict.fromkeys(wanted)))
    runs.train([("utd_mhad", v, s) for s in range(FEW) for v in few_label_variants(runs)])
    on_two = (f"Florence 3D, {words.seeds} seeds", "UTD-MHAD, 1 seed")
    write_table(
        "models",
        ("model", *on_two, "parameters", "minutes a run"),
        model_lines(runs),
    )
    write_table("fusion", ("streams", *on_two), fusion_lines(runs))
    header = ("what is predicted", "error", "without a model", "better in (%)")
    write_table("poses", header, pose_lines(runs))
    header = ("start", "everything trained on", "only the classifier")
    write_table("few", header, few_label_lines(runs))


if __name__ == "__main__":
    main()
