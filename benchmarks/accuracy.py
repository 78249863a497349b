"""Accuracy of every bundled recipe of a real dataset: the table of docs/numbers.md.

    python benchmarks/accuracy.py DATA [--out runs/numbers] [--jobs 2] [--only NAME ...]

DATA is the folder of the raw datasets, by name. Finished runs are kept, so that an interrupted
benchmark continues. Each run is one process with one thread, ``--jobs`` of them at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

SETTINGS = {
    "OMP_NUM_THREADS": "1",
    # by default glibc returns large blocks to the system and faults them in again in every batch
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "268435456",
}
KINEGRAPH = (sys.executable, "-m", "kinegraph")
TABLE = Path(__file__).parents[1] / "docs" / "numbers.md"
HEADER = (
    "dataset and protocol", "test top-1 (%)", "seeds", "minutes per run", "baseline", "published",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        recipe: bundled recipe.
        source: raw folder within DATA.
        title: title of the row.
        protocols: protocols whose runs are averaged for each seed.
        seeds: number of seeds.
        baseline, published: for comparison (see docs/numbers.md for their sources).
        also: a further protocol to evaluate the same runs on.
    """

    recipe: str
    source: str
    title: str
    protocols: tuple[str, ...]
    seeds: int
    baseline: str
    published: str
    also: str = ""


READERS = {"jhmdb14": "ddnet"}
FOLDS = tuple(f"sbu-fold{k}" for k in range(1, 6))
SPLITS = tuple(f"ddnet-split{k}" for k in range(1, 4))
SUBJECTS = ("odd-even-subjects",)
CASES = (
    Case(
        "florence3d", "florence3d", "Florence 3D, odd/even subjects", SUBJECTS, 3, "90.6",
        "82.0-95.2",
    ),
    Case(
        "utkinect", "utkinect", "UTKinect, odd/even subjects", SUBJECTS, 3, "93.9",
        "HOJ3D 90.9, ST-LSTM 97.0, Lie group 97.1",
    ),
    Case(
        "sbu", "sbu", "SBU, mean of 5 folds", FOLDS, 3, "90.6",
        "ST-LSTM 93.3, VA-LSTM 97.2, HCN 98.6",
    ),
    Case(
        "jhmdb14", "jhmdb14", "JHMDB, 14 of 21 classes, mean of 3 splits", SPLITS, 3, "77.4",
        "DD-Net 77.2 on these files",
    ),
    Case(
        "utd_mhad", "utd_mhad", "UTD-MHAD, odd/even subjects", SUBJECTS, 3, "95.6",
        "Fusion-GCN 92.3, TSI-CNN 96.3",
    ),
    Case(
        "penn_action", "penn_action", "Penn Action, official split", ("official",), 3, "93.5",
        "JDD 87.4, pose+IDT 92.9",
    ),
    Case(
        "nw_ucla", "nw_ucla", "NW-UCLA, views 1 and 2 / 3", ("ucla-xview",), 3, "83.8",
        "Shift-GCN 92.5, 90.5 as reproduced by users", also="ucla-xview-clean",
    ),
    Case(
        "ctrgcn_small_nw_ucla", "nw_ucla", "NW-UCLA, the same, a small CTR-GCN",
        ("ucla-xview",), 2, "83.8", "CTR-GCN 96.5, four streams", also="ucla-xview-clean",
    ),
    Case(
        "shiftgcn_nw_ucla", "nw_ucla", "NW-UCLA, the same, Shift-GCN as released",
        ("ucla-xview",), 2, "83.8", "92.5, 90.5 as reproduced by users", also="ucla-xview-clean",
    ),
)  # fmt: skip
CLEAN_SUFFIX = {"ucla-xview-clean": (", without the 95 leaked test clips", "79.7", "")}


def run(words: Sequence[object], timeout_s: float | None = None) -> str:
    """Run a command that must succeed, with one thread, and return its standard output.

    Raises:
        subprocess.TimeoutExpired: it took longer than ``timeout_s`` and was stopped.
    """
    done = subprocess.run(
        [*KINEGRAPH, *map(str, words)],
        env={**os.environ, **SETTINGS},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stderr}")
    return done.stdout


def get_store(source: str, data: Path, out: Path) -> Path:
    """Return the store of a raw dataset, converted if it does not exist."""
    store = out / f"{source}.arrow"
    if not store.exists():
        run(["convert", READERS.get(source, source), data / source, store])
    return store


def train(case: Case, store: Path, protocol: str, seed: int, out: Path) -> Path:
    """Train a run of a case, see `train_run`."""
    folder = out / f"{case.recipe}-{protocol}-{seed}"
    train_run(case.recipe, folder, f"store={store}", f"protocol={protocol}", f"seed={seed}")
    return folder


def train_run(recipe: str, folder: Path, *changes: str) -> None:
    """Train a recipe with changes; an unfinished run is continued, a finished one is kept."""
    if (folder / "report.html").exists():
        return
    resume = ["--resume"] if (folder / "resume.ckpt").exists() else []
    run(["train", recipe, *changes, "--out", folder, *resume])
    has_scores = (folder / "scores-test.npz").exists()  # a segmentation has none
    result = f": {accuracy(folder):.1f}" if has_scores else ""
    print(f"{folder.name}{result}", file=sys.stderr, flush=True)


def accuracy(folder: Path, protocol: str = "") -> float:
    """Return the test top-1 of a run in percent, from its scores or on another protocol."""
    from kinegraph.clips.scores import Scores

    if protocol:
        words = ["evaluate", folder, "--protocol", protocol, "--json"]
        return 100 * json.loads(run(words))["top1"]
    scores = Scores.load(folder / "scores-test.npz")
    return 100 * float((scores.logits.argmax(axis=1) == scores.labels).mean())


def minutes(folder: Path) -> float:
    """Return the training time of a run in minutes."""
    from kinegraph.training.checkpoint import training_seconds

    return training_seconds(folder) / 60


def count_parameters(folder: Path) -> int:
    """Return the number of parameters of a run's model."""
    from kinegraph.training.checkpoint import load_model

    return sum(p.numel() for p in load_model(folder)[0].parameters())


def mean_and_spread(figures: Sequence[float]) -> str:
    """Return the mean, with the standard deviation over seeds if there are several."""
    mean = f"{statistics.mean(figures):.1f}"
    return f"{mean} ± {statistics.stdev(figures):.1f}" if len(figures) > 1 else mean


def row(title: str, figures: list[float], time: float, baseline: str, published: str) -> str:
    """Return a row of the table."""
    mean, seeds = mean_and_spread(figures), len(figures)
    return f"| {title} | {mean} | {seeds} | {time:.1f} | {baseline} | {published} |"


def rows(case: Case, runs: dict[tuple[str, int], Path]) -> list[str]:
    """Return the row of a case, and that of its further protocol."""
    time = statistics.mean(minutes(folder) for folder in runs.values())
    lines = []
    for also in ("", case.also) if case.also else ("",):
        figures = [
            statistics.mean(accuracy(runs[protocol, seed], also) for protocol in case.protocols)
            for seed in range(case.seeds)
        ]
        title, baseline, published = case.title, case.baseline, case.published
        if also:
            addition, baseline, published = CLEAN_SUFFIX[also]
            title += addition
        lines.append(row(title, figures, time, baseline, published))
    return lines


def write_table(
    name: str, header: Sequence[str], lines: list[str], page: Path | None = None
) -> None:
    """Replace the lines between the markers of that name in docs/numbers.md, or another page."""
    before, _, after = split_page(name, page)
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head = f"| {' | '.join(header)} |\n{'|---' * len(header)}|\n"
    table = f"{before}{begin}\n{head}" + "\n".join(lines) + f"\n{end}{after}"
    (page or TABLE).write_text(table, encoding="utf-8")


def split_page(name: str, page: Path | None = None) -> tuple[str, str, str]:
    """Return a page before, between and after the markers of that name."""
    before, rest = (page or TABLE).read_text(encoding="utf-8").split(f"<!-- {name}: begin -->")
    inside, after = rest.split(f"<!-- {name}: end -->")
    return before, inside, after


def main() -> None:
    """Convert, train, evaluate and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/numbers"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[case.recipe for case in CASES])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = [case for case in CASES if case.recipe in options.only]
    stores = {case.recipe: get_store(case.source, options.data, options.out) for case in chosen}
    jobs = [(c, p, seed) for c in chosen for seed in range(c.seeds) for p in c.protocols]
    with ThreadPoolExecutor(options.jobs) as pool:
        folders = pool.map(
            lambda job: train(job[0], stores[job[0].recipe], *job[1:], options.out), jobs
        )
        runs = dict(zip(jobs, folders, strict=True))
    lines = []
    for case in chosen:
        own = {(p, seed): folder for (c, p, seed), folder in runs.items() if c is case}
        lines += rows(case, own)
    if len(chosen) == len(CASES):
        write_table("table", HEADER, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
