"""Records: train the rows of records.yaml, and write them into docs/numbers.md.

    python benchmarks/records.py DATA [--gpu] [--out runs/records] [--jobs 2] [--only DATASET ...]

DATA is the folder of the raw datasets, by name. Finished runs are kept, unfinished ones continue. A
run's folder has the hash of its recipe in its name, so a changed recipe is trained anew. With
``--gpu`` a run that is not finished after 25 minutes is stopped, and its row is not written.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import yaml
from accuracy import get_store, mean_and_spread, minutes, run, split_page, write_table

from kinegraph.inference.score import ScoredFile, score_files
from kinegraph.training.checkpoint import LAST_FILE
from kinegraph.training.history import HISTORY_FILE
from kinegraph.training.recipe import Recipe, load_recipe

RECORDS = Path(__file__).with_suffix(".yaml")
MAX_GPU_MINUTES = 25.0
HEADER = (
    "dataset and protocol", "model", "stream", "test top-1 (%)", "clean (%)", "seeds", "epoch",
    "minutes per run",
)  # fmt: skip
KEY_CELLS = 3  # the first cells of a row, by which it is found in the table


class Job(NamedTuple):
    """One run of a record."""

    protocol: str
    seed: int
    stream: str


@dataclass(frozen=True)
class Record:
    """A row of records.yaml; see there."""

    title: str
    model: str
    source: str
    recipe: str
    protocols: Sequence[str]
    seeds: Sequence[int]
    streams: Sequence[str]
    changes: Sequence[str] = ()
    fusion: str | Sequence[float] = "published"
    start: str = ""

    def load(self) -> Recipe:
        """Return the recipe with the record's changes.

        Raises:
            SystemExit: it chooses the epoch on test clips.
        """
        recipe = load_recipe(self.recipe, self.changes)
        if recipe.validation.split == "test":
            raise SystemExit(f"{self.title}: a record may not choose its epoch on test clips")
        return recipe

    def jobs(self) -> list[Job]:
        """Return the runs of all protocols, seeds and streams."""
        return [
            Job(protocol, seed, stream)
            for seed in self.seeds
            for protocol in self.protocols
            for stream in self.streams
        ]

    def folder(self, job: Job, out: Path) -> Path:
        """Return the folder of a run."""
        stated = yaml.safe_dump(self.load().model_dump(exclude_defaults=True))
        digest = hashlib.sha256(stated.encode()).hexdigest()[:8]
        name = f"{job.protocol}-{job.stream.replace('+', '-')}-{job.seed}"
        return out / self.source / f"{self.load().name}-{digest}" / name


def is_finished(folder: Path) -> bool:
    """Return whether a run is trained and evaluated."""
    return (folder / "report.html").exists()


def train(
    record: Record,
    job: Job,
    store: Path,
    out: Path,
    max_minutes: float | None,
    start: Record | None = None,
) -> bool:
    """Train a run unless it is finished; return whether it is, within ``max_minutes``.

    ``start`` is the record whose first run with the same seed has the initial weights.
    """
    folder = record.folder(job, out)
    if is_finished(folder):
        return True
    spent = minutes(folder) if (folder / LAST_FILE).exists() else 0.0
    resume = ["--resume"] if (folder / "resume.ckpt").exists() else []
    changes = [*record.changes, f"store={store}", f"protocol={job.protocol}"]
    changes += [f"seed={job.seed}", f"stream={job.stream}"]
    if start:
        first = next(other for other in start.jobs() if other.seed == job.seed)
        changes += [f"init_from={start.folder(first, out)}"]
    left = None if max_minutes is None else 60 * (max_minutes - spent)
    try:
        if left is None or left > 0:
            run(["train", record.recipe, *changes, "--out", folder, *resume], left)
    except subprocess.TimeoutExpired:
        pass
    if not is_finished(folder):
        print(f"{folder}: stopped, it needs more than {max_minutes:g} minutes", file=sys.stderr)
        return False
    print(f"{folder}: finished", file=sys.stderr, flush=True)
    return True


def describe_epoch(recipe: Recipe, epochs: int) -> str:
    """Return the rule by which the epoch of a run of so many epochs was chosen."""
    if recipe.validation.retrain:
        return "number chosen on held-out training clips"
    if recipe.validation.fraction:
        return "best on held-out training clips"
    return f"last of {epochs}"


def evaluate(record: Record, store: Path, out: Path) -> Iterator[str]:
    """Yield the rows of a record whose runs are all finished: each stream, and their sum."""
    names = [*record.streams, "fused"] if len(record.streams) > 1 else list(record.streams)
    full: dict[str, list[float]] = {name: [] for name in names}
    clean: dict[str, list[float]] = {name: [] for name in names}
    for seed in record.seeds:
        found = [_score(record, store, out, protocol, seed) for protocol in record.protocols]
        for name, *folds in zip(names, *found, strict=True):
            full[name].append(100 * statistics.mean(fold.full.top1 for fold in folds))
            kept = [fold.clean.top1 for fold in folds if fold.clean]
            clean[name] += [100 * statistics.mean(kept)] if kept else []
    history = record.folder(record.jobs()[0], out) / HISTORY_FILE
    epoch = describe_epoch(record.load(), len(history.read_text().splitlines()) - 1)
    for name in names:
        jobs = [job for job in record.jobs() if name in (job.stream, "fused")]
        spent = statistics.mean(minutes(record.folder(job, out)) for job in jobs)
        cells = [
            record.title,
            record.model,
            name,
            mean_and_spread(full[name]),
            mean_and_spread(clean[name]) if clean[name] else "–",
            str(len(record.seeds)),
            epoch,
            f"{spent * (len(record.streams) if name == 'fused' else 1):.1f}",
        ]
        yield f"| {' | '.join(cells)} |"


def _score(record: Record, store: Path, out: Path, protocol: str, seed: int) -> list[ScoredFile]:
    """Return the accuracy of each stream, and of their sum if there are several."""
    folders = [record.folder(Job(protocol, seed, stream), out) for stream in record.streams]
    result = score_files(
        [folder / "scores-test.npz" for folder in folders],
        labels=store,
        protocol=protocol,
        streams=record.streams,
        weights=record.fusion if len(folders) > 1 else "equal",
    )
    return [*result.files, *([result.fused] if result.fused else [])]


def merge_rows(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Return the old rows with the new ones of equal first cells in their place, others last."""
    rows = {tuple(line.split(" | ")[:KEY_CELLS]): line for line in old}
    rows |= {tuple(line.split(" | ")[:KEY_CELLS]): line for line in new}
    return list(rows.values())


def read_records(group: str) -> list[Record]:
    """Return the records of a group of records.yaml, ``cpu`` or ``gpu``."""
    content = yaml.safe_load(RECORDS.read_text(encoding="utf-8"))
    return [Record(**fields) for fields in content[group]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert, train, evaluate and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--gpu", action="store_true", help="the large recipes, one at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/records"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", metavar="DATASET")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    known = read_records("gpu" if options.gpu else "cpu")
    records = [r for r in known if options.only is None or r.source in options.only]
    max_minutes = MAX_GPU_MINUTES if options.gpu else None
    table = "records-gpu" if options.gpu else "records"
    with ThreadPoolExecutor(1 if options.gpu else options.jobs) as pool:
        for record in records:
            store = get_store(record.source, options.data, options.out)
            start = next((other for other in known if other.source == record.start), None)
            finish = partial(
                train,
                record,
                store=store,
                out=options.out,
                max_minutes=max_minutes,
                start=start,
            )

            if not all(list(pool.map(finish, record.jobs()))):
                continue
            rows = list(evaluate(record, store, options.out))
            print("\n".join(rows))
            old = [line for line in split_page(table)[1].splitlines() if line.startswith("|")]
            write_table(table, HEADER, merge_rows(old[2:], rows))


if __name__ == "__main__":
    main()
