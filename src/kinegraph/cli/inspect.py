"""`kinegraph inspect`: what is in a store, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def inspect(
    store: Annotated[Path, typer.Argument(help="A store written by kinegraph convert.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead.")] = False,
) -> None:
    """Examine a store: classes, lengths, missing joints, duplicates across splits, outliers."""
    from kinegraph.clips.doctor import examine
    from kinegraph.clips.store import ClipStore

    report = examine(ClipStore(store))
    print(json.dumps(report.to_dict(), indent=1) if as_json else report.to_text())
