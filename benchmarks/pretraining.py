"""Pre-training without labels: small sets with and without it, the table of docs/pretraining.md.

    python benchmarks/pretraining.py DATA [--out runs/pretraining] [--encoder RUN] [--jobs 2]
        [--only NAME ...]

DATA is the folder of the raw datasets, by name; stores that lie in OUT/stores are taken as they
are. One encoder (recipe pretrain) learns from the training clips of all sets, without labels; then
each set is trained from random weights and from the encoder's (``init_from``), three seeds each.
Finished runs are kept, so that an interrupted benchmark continues; a set has a row as soon as all
of its runs are finished. With ``--encoder`` a run that exists is taken.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from accuracy import TABLE, accuracy, get_store, mean_and_spread, run, train_run, write_table

HEADER = (
    "dataset and protocol", "random weights: test top-1 (%)", "pre-trained (%)", "difference",
    "seeds",
)  # fmt: skip
STARTS = ("random", "encoder")
SEEDS = 3
PAGE = TABLE.with_name("pretraining.md")


@dataclass(frozen=True)
class Case:
    """A row: a recipe with changes, evaluated on the protocol that the encoder was trained with."""

    name: str
    source: str
    title: str
    recipe: str
    changes: tuple[str, ...] = ()


CASES = (
    Case("utd_mhad", "utd_mhad", "UTD-MHAD, odd/even subjects", "utd_mhad"),
    Case("florence3d", "florence3d", "Florence 3D, odd/even subjects", "florence3d"),
    Case("utkinect", "utkinect", "UTKinect, odd/even subjects", "utkinect"),
    Case("sbu", "sbu", "SBU, fold 1", "sbu"),
    Case("jhmdb14", "jhmdb14", "JHMDB, 14 classes, split 1", "jhmdb14"),
    Case("penn_action", "penn_action", "Penn Action, official split", "penn_action"),
    # the encoder's temporal kernel
    Case(
        "nw_ucla", "nw_ucla", "NW-UCLA, views 1 and 2 / 3", "nw_ucla", ("model.temporal_kernel=9",)
    ),
    Case("few_labels", "utd_mhad", "UTD-MHAD, a tenth of the labels", "utd_mhad_few_labels"),
)


def train_encoder(stores: Path, out: Path) -> Path:
    """Return the run of the encoder, trained on all stores of a folder if it is not finished."""
    folder, store = out / "encoder", out / "pretrain.arrow"
    if not (folder / "report.html").exists():
        if not store.exists():
            run(["convert", "stores", stores, store])
        resume = ["--resume"] if (folder / "resume.ckpt").exists() else []
        run(["train", "pretrain", f"store={store}", "--out", folder, *resume])
    return folder


def run_folder(case: Case, start: str, seed: int, out: Path) -> Path:
    """Return the folder of a run; ``start`` is one of STARTS."""
    return out / f"{case.name}-{start}-{seed}"


def train(case: Case, start: str, seed: int, store: Path, encoder: Path, out: Path) -> None:
    """Train a run; an unfinished one is continued, a finished one is kept."""
    changes = [f"store={store}", f"seed={seed}", *case.changes]
    changes += [f"init_from={encoder}"] if start == "encoder" else []
    train_run(case.recipe, run_folder(case, start, seed, out), *changes)


def row(case: Case, out: Path) -> str | None:
    """Return the row of a case, None if a run of it is not finished."""
    runs = [[run_folder(case, start, seed, out) for seed in range(SEEDS)] for start in STARTS]
    if not all((folder / "report.html").exists() for own in runs for folder in own):
        return None
    without, pretrained = ([accuracy(folder) for folder in own] for own in runs)
    gain = statistics.mean(pretrained) - statistics.mean(without)
    cells = (case.title, mean_and_spread(without), mean_and_spread(pretrained), f"{gain:+.1f}")
    return f"| {' | '.join(cells)} | {SEEDS} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert, pre-train, train, evaluate and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/pretraining"))
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[case.name for case in CASES])
    options = parser.parse_args(arguments)
    stores = options.out / "stores"
    stores.mkdir(parents=True, exist_ok=True)
    chosen = [case for case in CASES if case.name in options.only]
    needed = chosen if options.encoder else CASES
    paths = {case.source: get_store(case.source, options.data, stores) for case in needed}
    encoder = options.encoder or train_encoder(stores, options.out)
    jobs = [(case, start, seed) for case in chosen for seed in range(SEEDS) for start in STARTS]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda job: train(*job, paths[job[0].source], encoder, options.out), jobs))
    lines = [line for case in CASES if (line := row(case, options.out))]
    write_table("pretraining", HEADER, lines, PAGE)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
