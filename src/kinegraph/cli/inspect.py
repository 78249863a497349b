"""`kinegraph inspect`: the contents of a store, and problems with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinegraph.cli.console import JsonOption, echo, print_table

if TYPE_CHECKING:
    from kinegraph.clips.validate import StoreReport

MAX_LISTED_JOINTS = 5


def inspect(
    store: Annotated[Path, typer.Argument(help="A store written by kinegraph convert.")],
    as_json: JsonOption = False,
) -> None:
    """Check a store: classes, lengths, bodies, missing joints, outliers, duplicates in splits."""
    from kinegraph.clips.store import ClipStore
    from kinegraph.clips.validate import validate_store

    report = validate_store(ClipStore(store))
    if as_json:
        echo(json.dumps(asdict(report), indent=1))
    else:
        _print_text(report)


def _print_text(report: StoreReport) -> None:
    tracks = sum(persons * clips for persons, clips in report.persons.items())
    missing = sorted(report.missing["joints"].items(), key=lambda item: -item[1])
    joints = [f"{name} {share:.1%}" for name, share in missing[:MAX_LISTED_JOINTS] if share]
    most = f" (most: {', '.join(joints)})" if joints else ""
    facts = [
        ("clips", f"{report.clips} clips, {tracks} person tracks"),
        ("without a label", f"{report.unlabeled}"),
        ("layout", report.layout),
        ("persons per clip", ", ".join(f"{n} with {m}" for m, n in report.persons.items())),
        ("frames per clip", ", ".join(f"{key} {n:g}" for key, n in report.frames.items())),
        ("missing joints", f"{report.missing['all']:.1%}{most}"),
        ("empty frames", f"{report.empty_frames:.1%}"),
    ]
    print_table(report.path, ("", ""), facts)
    print_table("Classes", ("class", "clips"), list(report.classes.items()))
    rows = [
        (name, p.train, p.test, "{} / {}".format(*p.published or "--"), p.leaked)
        for name, p in report.protocols.items()
    ]
    if rows:
        header = ("protocol", "train", "test", "published", "test clips equal to a training clip")
        print_table("Splits", header, rows)
    if report.findings:
        findings = [(finding.severity, finding.text) for finding in report.findings]
        print_table("Findings", ("severity", "finding"), findings)
    else:
        echo("No problems found")
