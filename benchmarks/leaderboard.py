"""Leaderboard: write docs/leaderboard.md from leaderboard.yaml and the tables of docs/numbers.md.

    python benchmarks/leaderboard.py DATA [--page docs/leaderboard.md]

Score files of other code within DATA are scored again, and must give the figures of
leaderboard.yaml; without DATA these are taken as they are.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from accuracy import split_page
from records import HEADER as RECORD_COLUMNS
from records import describe_epoch

from kinegraph.inference.score import score_files
from kinegraph.training.recipe import load_recipe

FACTS = Path(__file__).with_suffix(".yaml")
PAGE = Path(__file__).parents[1] / "docs" / "leaderboard.md"
RECORD_TABLES = ("records", "records-gpu")
COLUMNS = ("method", "streams", "top-1 (%)", "clean (%)", "epoch", "kind", "source")
EPOCH_COLUMNS = ("run", "best on test (%)", "clean (%)", "last epoch (%)", "clean (%)")
PAGE_WIDTH = 118  # characters


def make_page(data: Path) -> str:
    """Return the page.

    Raises:
        SystemExit: score files give other figures than leaderboard.yaml.
    """
    facts = yaml.safe_load(FACTS.read_text(encoding="utf-8"))
    parts = [facts["introduction"], format_table(EPOCH_COLUMNS, facts["epochs"])]
    for dataset in facts["datasets"]:
        about = f"Protocol: {dataset['protocol']}. {dataset['leak']}"
        parts += [
            f"## {dataset['title']}\n",
            f"{textwrap.fill(about, PAGE_WIDTH)}\n",
            format_table(COLUMNS, list(_rows(dataset, data))),
        ]
    return "\n".join(parts)


def format_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, *rows)]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:], ""])


def _rows(dataset: Mapping[str, Any], data: Path) -> Iterator[list[str]]:
    for method, streams, top1, epoch, kind, source in dataset["published"]:
        yield [method, streams, top1, "–", epoch, kind, source]
    if scored := dataset.get("scored"):
        check_scores(scored, data)
        for stream, (full, clean) in scored["expected"].items():
            cells = [f"{full:.2f}", f"{clean:.2f}", scored["epoch"], "scored again"]
            yield [scored["method"], stream, *cells, scored["source"]]
    for name, title, clean_title in dataset["ours"]:
        recipe = load_recipe(name)
        top1, seeds = find_row("table", title)[1:3]
        clean = find_row("table", clean_title)[1] if clean_title else "–"
        method, epoch = (
            f"`{name}` ({recipe.model.name})",
            describe_epoch(recipe, recipe.train.epochs),
        )
        yield [method, recipe.stream, top1, clean, epoch, "kinegraph", describe_seeds(seeds)]
    for record in read_records():
        if record["dataset and protocol"] == dataset["records"]:
            yield [
                record["model"],
                record["stream"],
                record["test top-1 (%)"],
                record["clean (%)"],
                record["epoch"],
                "kinegraph",
                describe_seeds(record["seeds"]),
            ]


def describe_seeds(count: str) -> str:
    """Return the source of a figure of this package."""
    return f"[results](numbers.md), {count} {'seed' if count == '1' else 'seeds'}"


def check_scores(scored: Mapping[str, Any], data: Path) -> None:
    """Stop if the score files give other figures than expected; without the files do nothing."""
    expected = scored["expected"]
    paths = [data / scored["folder"] / f"{name}.npz" for name in expected if name != "fused"]
    if not all(path.exists() for path in paths):
        print(f"{scored['folder']} is absent: its figures are not checked", file=sys.stderr)
        return
    result = score_files(paths)
    for file in [*result.files, *([result.fused] if result.fused else [])]:
        found = [round(100 * part.top1, 2) for part in (file.full, file.clean) if part]
        if found != expected[file.name]:
            raise SystemExit(f"{file.name}: expected {expected[file.name]}, the files give {found}")


def read_rows(table: str) -> list[list[str]]:
    """Return the cells of the rows of a table of docs/numbers.md, without its header."""
    lines = [line for line in split_page(table)[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]


def find_row(table: str, title: str) -> list[str]:
    """Return the row of a table of docs/numbers.md with this title.

    Raises:
        SystemExit: there is no such row.
    """
    found = [row for row in read_rows(table) if row[0] == title]
    if not found:
        raise SystemExit(f"docs/numbers.md has no row {title!r} in the table {table!r}")
    return found[0]


def read_records() -> Iterator[dict[str, str]]:
    """Yield the records of docs/numbers.md, each with the cells by column."""
    for table in RECORD_TABLES:
        for row in read_rows(table):
            yield dict(zip(RECORD_COLUMNS, row, strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    options.page.write_text(make_page(options.data), encoding="utf-8")


if __name__ == "__main__":
    main()
