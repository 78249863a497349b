"""The recipe own_data on datasets written out as a user's own arrays: a table of docs/numbers.md.

    python benchmarks/own_data.py DATA [--out runs/own_data] [--only NAME ...] [--seeds N]

DATA is the folder of the raw datasets. Each one is written as .npy files with a clips.csv (label,
subject, split) and a layout.yaml whose joints have other names, so that nothing is known of the
dataset but its arrays. Finished runs are kept, as in accuracy.py.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from accuracy import FOLDS, SUBJECTS, accuracy, get_store, run, train_run, write_table

from kinegraph.clips.splits import get_split_indices
from kinegraph.clips.store import ClipStore
from kinegraph.training.checkpoint import find_checkpoint, load_header, training_seconds

HEADER = (
    "dataset", "own_data: test top-1 (%)", "runs", "epochs selected", "minutes per run",
    "shipped recipe", "its test top-1 (%)", "difference",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        source: raw folder within DATA.
        title: title of the row.
        protocols: protocols whose runs are averaged for each seed.
        subject: meta key that becomes the column subject.
        seeds: number of seeds.
        shipped: the best bundled recipe, and its figure in docs/numbers.md.
    """

    source: str
    title: str
    protocols: tuple[str, ...]
    subject: str
    seeds: int
    shipped: tuple[str, float]


CASES = (
    Case("florence3d", "Florence 3D", SUBJECTS, "subject", 3, ("florence3d", 93.7)),
    Case("utd_mhad", "UTD-MHAD", SUBJECTS, "subject", 3, ("utd_mhad", 96.7)),
    Case("sbu", "SBU, mean of 5 folds", FOLDS, "pair", 3, ("sbu", 95.6)),
)


def write_arrays(store: ClipStore, case: Case, protocol: str, folder: Path) -> None:
    """Write the clips of a protocol's splits as own arrays, with clips.csv and layout.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"P{number:02d}" for number in range(store.layout.num_joints)]
    layout = {
        "name": "own",
        "joints": names,
        "bones": [[names[a], names[b]] for a, b in store.layout.bones],
        "center": names[store.layout.center],
        "mirror_pairs": [[names[a], names[b]] for a, b in store.layout.mirror_pairs],
    }
    (folder / "layout.yaml").write_text(yaml.safe_dump(layout, sort_keys=False), encoding="utf-8")
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "label", "subject", "split", "fps"])
        for split in ("train", "test"):
            for index in get_split_indices(store, protocol, split):
                clip = store[int(index)]
                name = f"clip{int(index):04d}.npy"
                np.save(folder / name, clip.joints)
                label = store.classes[clip.label] if store.classes else clip.label
                rows.writerow([name, label, clip.meta[case.subject], split, clip.fps or ""])


def train(case: Case, data: Path, protocol: str, seed: int, out: Path) -> Path:
    """Write the arrays, convert and train; a finished run is kept."""
    folder = out / f"{case.source}-{protocol}-{seed}"
    own = out / f"{case.source}-{protocol}.arrow"
    if not own.exists():
        arrays = own.with_suffix("")
        write_arrays(ClipStore(get_store(case.source, data, out)), case, protocol, arrays)
        run(["convert", "arrays", arrays, own, "--space", "world", "--up", "y"])
    train_run("own_data", folder, f"store={own}", f"seed={seed}")
    return folder


def row(case: Case, runs: dict[tuple[str, int], Path], seeds: int) -> str:
    """Return the row of a case; ± is the standard deviation over seeds."""
    protocols = [p for p in case.protocols if (p, 0) in runs]
    figures = [statistics.mean(accuracy(runs[p, seed]) for p in protocols) for seed in range(seeds)]
    mean = statistics.mean(figures)
    spread = f" ± {statistics.stdev(figures):.1f}" if seeds > 1 else ""
    chosen = [load_header(find_checkpoint(f)).training["selection"] for f in runs.values()]
    numbers = [c["epochs"] for c in chosen]
    epochs = "-".join(map(str, sorted({min(numbers), max(numbers)})))
    time = statistics.mean(training_seconds(folder) / 60 for folder in runs.values())
    recipe, shipped = case.shipped
    cells = (
        case.title, f"{mean:.1f}{spread}", len(runs), f"{epochs} of {chosen[0]['of']}",
        f"{time:.1f}", f"`{recipe}`", shipped, f"{mean - shipped:+.1f}",
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Write, convert, train, evaluate and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/own_data"))
    parser.add_argument("--only", nargs="*", default=[case.source for case in CASES])
    parser.add_argument("--seeds", type=int, help="default: those of each dataset")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for case in CASES:
        if case.source not in options.only:
            continue
        seeds = options.seeds or case.seeds
        jobs = [(protocol, seed) for seed in range(seeds) for protocol in case.protocols]
        runs = {job: train(case, options.data, *job, options.out) for job in jobs}
        lines.append(row(case, runs, seeds))
    if len(options.only) == len(CASES):
        write_table("own", HEADER, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
