"""`kinegraph convert`: raw files to one store."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinegraph.cli.console import ClusterOption, echo, print_table, progress
from kinegraph.errors import ClusterError, ReadError
from kinegraph.plain_text import PlainTextError, parse_yaml

if TYPE_CHECKING:
    from kinegraph.readers import Reader

#: Share of refused clips and files above which the last line is a warning.
MAX_REFUSED_SHARE = 0.1
CONTEXT = {"ignore_unknown_options": True}


def convert(
    reader: Annotated[
        str,
        typer.Argument(help="Name of the reader (kinegraph list readers); with --to the store."),
    ],
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE [LABELS] STORE",
            help="Folder or file of raw recordings, its label file if it has one of another name, "
            "and the store to write, such as my.arrow; with --to the file or folder to write.",
        ),
    ],
    workers: Annotated[
        int | None, typer.Option(help="Number of reading processes (default: all cores).")
    ] = None,
    float16: Annotated[
        bool,
        typer.Option("--float16", help="Store as float16 (half the size); prints rounding error."),
    ] = False,
    cluster: ClusterOption = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="Write a store as other tools read it: stacked, pyskl or ctrgcn "
            "(kinegraph convert STORE OUT --to stacked)."
        ),
    ] = None,
    intervals: Annotated[
        Path | None,
        typer.Option(help="Annotation file: the actions of each recording, with start and end."),
    ] = None,
    point_frames: Annotated[
        int | None,
        typer.Option(min=1, help="Frames of an action that --intervals marks by a point in time."),
    ] = None,
    point_seconds: Annotated[
        float | None,
        typer.Option(min=0.001, help="The same as --point-frames, in seconds."),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="With --to: protocol of the split (default: the data set's).")
    ] = None,
) -> None:
    """Read raw recordings into one store, or write a store as other tools read it.

    Further --key value pairs are the reader's options; with --to those of the format.
    """
    from kinegraph.clips.store import ClipStore
    from kinegraph.cluster.convert import convert_on_cluster
    from kinegraph.readers import get_reader
    from kinegraph.readers.convert import convert as convert_here
    from kinegraph.readers.label_recordings import RecordingLabels

    if to is not None:
        _export([reader, *words], to, protocol)
        return
    if protocol is not None:
        raise ReadError("--protocol belongs to --to: a store keeps every protocol of its data set")
    chosen = get_reader(reader)
    paths, options = split_words(words)
    source, store = _resolve_paths(chosen, paths, options)
    dtype = "float16" if float16 else "float32"
    if cluster is not None and workers is not None:
        raise ClusterError("--workers applies to one machine: give --workers or --cluster")
    labels = None if intervals is None else RecordingLabels(intervals, point_frames, point_seconds)
    if cluster is not None and labels is not None:
        raise ClusterError("--intervals applies to one machine: give --intervals or --cluster")
    run = (
        partial(convert_here, workers=workers, labels=labels)
        if cluster is None
        else partial(convert_on_cluster, cluster=cluster)
    )
    with progress(f"converting {source}") as bar:
        result = run(chosen, source, store, options=options, dtype=dtype, progress=bar)
    classes = list(result.per_class.items())
    if result.unlabeled:
        classes.append(("(no label)", result.unlabeled))
    print_table("Read", ("class", "clips" if labels is None else "actions"), classes)
    if result.refused:
        print_table(f"Refused: {len(result.refused)}", ("file", "reason"), result.refused)
    echo(ClipStore(store).describe())
    for note, clips in result.notes.items():
        echo(f"note: {note} ({clips} of {result.stored} clips)")
    echo(
        f"{store}: {result.stored} clips, {result.persons} person tracks, {result.frames} frames, "
        f"{store.stat().st_size / 1e6:.1f} MB; {len(result.refused)} refused"
        + (f"; maximum rounding error {result.rounding:.3g}" if float16 else "")
    )
    units = result.stored + len(result.refused)
    if len(result.refused) > MAX_REFUSED_SHARE * units:
        echo(
            f"WARNING: {len(result.refused)} of {units} clips and files were REFUSED; only "
            f"{result.stored} clips are in the store"
        )


def _export(words: Sequence[str], to: str, protocol: str | None) -> None:
    from kinegraph.writers import get_array_format
    from kinegraph.writers.export import export_store

    chosen, (paths, options) = get_array_format(to), split_words(words)
    if len(paths) != 2:
        raise ReadError(f"convert --to {to}: expected STORE OUT, got {' '.join(paths)}")
    with progress(f"writing {paths[1]}") as bar:
        result = export_store(chosen, *paths, protocol=protocol, options=options, progress=bar)
    for name, counts in result.counts.items():
        echo(f"protocol {name}: {counts['train']} clips in train, {counts['val']} in val")
    for note in result.notes:
        echo(f"note: {note}")
    files = [result.path] if result.path.is_file() else sorted(result.path.iterdir())
    for file in files:
        echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB, reads back equal")


def _resolve_paths(
    reader: Reader, paths: Sequence[str], options: dict[str, Any]
) -> tuple[Path, Path]:
    """Return the source and the store; a label file between them becomes the option ``labels``."""
    taken = "SOURCE [LABELS] STORE" if "labels" in reader.options else "SOURCE STORE"
    if not 2 <= len(paths) <= len(taken.split()):
        raise ReadError(
            f"convert {reader.name}: expected {taken}, got {' '.join(paths) or 'nothing'}"
        )
    if len(paths) == 3:
        if "labels" in options:
            raise ReadError(f"two label files: {paths[1]} and --labels {options['labels']}")
        if not Path(paths[1]).exists():
            raise ReadError(f"label file {paths[1]} does not exist")
        options["labels"] = str(Path(paths[1]).absolute())
    return Path(paths[0]), Path(paths[-1])


def split_words(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the words that are not options, and the ``--key value`` or ``--key=value`` pairs.

    Values are as in YAML.

    Raises:
        ReadError: an option has no value, or one that is not YAML.
    """
    paths: list[str] = []
    options: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            paths.append(word)
            continue
        key, equals, value = word.removeprefix("--").partition("=")
        if not equals and not rest:
            raise ReadError(f"{word!r}: a reader's options are --key value pairs")
        try:
            options[key.replace("-", "_")] = parse_yaml(value if equals else rest.pop(0))
        except PlainTextError as error:
            raise ReadError(f"{word!r:.80}: {error}") from error
    return paths, options
