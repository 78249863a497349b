"""`kinegraph inspect`: what is in a store, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinegraph.cli.console import print_table

if TYPE_CHECKING:
    from kinegraph.clips.validate import StoreReport

WORST_JOINTS = 5


def inspect(
    store: Annotated[Path, typer.Argument(help="A store written by kinegraph convert.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead.")] = False,
) -> None:
    """Examine a store: classes, lengths, missing joints, duplicates across splits, outliers."""
    from kinegraph.clips.store import ClipStore
    from kinegraph.clips.validate import validate_store

    report = validate_store(ClipStore(store))
    if as_json:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        _print_text(report)


def _print_text(report: StoreReport) -> None:
    persons = ", ".join(f"{count} with {m}" for m, count in report.persons.items())
    frames = ", ".join(f"{name} {value:g}" for name, value in report.frames.items())
    worst = sorted(report.missing["joints"].items(), key=lambda item: -item[1])[:WORST_JOINTS]
    joints = ", ".join(f"{name} {share:.1%}" for name, share in worst if share)
    facts = [
        ("clips", f"{report.clips} ({report.unlabelled} without a label)"),
        ("layout", report.layout),
        ("persons a clip", persons),
        ("frames a clip", frames),
        ("joints not seen", f"{report.missing['all']:.1%}{f' (most: {joints})' if joints else ''}"),
        ("empty frames", f"{report.empty_frames:.1%}"),
    ]
    print_table(report.path, ("", ""), facts)
    print_table("Classes", ("class", "clips"), list(report.classes.items()))
    rows = [(name, p.train, p.test, p.leaked) for name, p in report.protocols.items()]
    if rows:
        header = ("protocol", "train", "test", "test clips equal to a training clip")
        print_table("Splits", header, rows)
    if report.findings:
        found = [(finding.severity, finding.text) for finding in report.findings]
        print_table("Findings", ("severity", "what"), found)
    else:
        print("Nothing to complain of")
