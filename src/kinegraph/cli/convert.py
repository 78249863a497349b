"""`kinegraph convert`: raw files to one store."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from kinegraph.cli.console import ClusterOption, print_table, progress
from kinegraph.errors import ClusterError, ReadError

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}


def convert(
    context: typer.Context,
    reader: Annotated[str, typer.Argument(help="Name of the reader (kinegraph list readers).")],
    source: Annotated[Path, typer.Argument(help="Folder or file of raw recordings.")],
    store: Annotated[Path, typer.Argument(help="Store to write, such as my.arrow.")],
    workers: Annotated[
        int | None, typer.Option(help="Number of reading processes (default: all cores).")
    ] = None,
    float16: Annotated[
        bool,
        typer.Option("--float16", help="Store as float16 (half the size); prints rounding error."),
    ] = False,
    cluster: ClusterOption = None,
) -> None:
    """Read raw recordings into one store. Further --key value pairs are the reader's options."""
    from kinegraph.clips.store import ClipStore
    from kinegraph.cluster.convert import convert_on_cluster
    from kinegraph.readers import get_reader
    from kinegraph.readers.convert import convert as convert_here

    chosen = get_reader(reader)
    options, dtype = reader_options(context.args), "float16" if float16 else "float32"
    if cluster is not None and workers is not None:
        raise ClusterError("--workers applies to one machine: give --workers or --cluster")
    run = (
        partial(convert_here, workers=workers)
        if cluster is None
        else partial(convert_on_cluster, cluster=cluster)
    )
    with progress(f"converting {source}") as bar:
        result = run(chosen, source, store, options=options, dtype=dtype, progress=bar)
    classes = list(result.per_class.items())
    if result.unlabeled:
        classes.append(("(no label)", result.unlabeled))
    print_table("Read", ("class", "clips"), classes)
    if result.refused:
        print_table(f"Refused: {len(result.refused)}", ("file", "reason"), result.refused)
    print(ClipStore(store).describe())
    for note, clips in result.notes.items():
        print(f"note: {note} ({clips} of {result.stored} clips)")
    print(
        f"{store}: {result.stored} clips, {result.persons} person tracks, {result.frames} frames, "
        f"{store.stat().st_size / 1e6:.1f} MB; {len(result.refused)} refused"
        + (f"; maximum rounding error {result.rounding:.3g}" if float16 else "")
    )


def reader_options(words: Sequence[str]) -> dict[str, Any]:
    """Return ``--key value`` and ``--key=value`` pairs as a dictionary, values as in YAML."""
    import yaml

    options: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not (equals or rest):
            raise ReadError(f"{word!r}: a reader's options are --key value pairs")
        options[key.replace("-", "_")] = yaml.safe_load(value if equals else rest.pop(0))
    return options
