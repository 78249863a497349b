"""`kinegraph bench`: how fast this is on your machine, beside plain implementations."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinegraph.cli.bench_output import check_picture, draw, row_bar, tell
from kinegraph.cli.console import print_table, progress

if TYPE_CHECKING:
    from kinegraph.bench.result import Result
    from kinegraph.bench.timing import Progress

app = typer.Typer(
    help="Measure training, recognition, streaming and data on this machine, turn by turn with "
    "plain implementations of the papers.",
    no_args_is_help=True,
)


class Precision(enum.StrEnum):
    """Of ours; the baseline is always in fp32."""

    fp32 = "fp32"
    bf16 = "bf16"


Model = Annotated[str, typer.Option(help="stgcn, stgcn_twostream, shiftgcn or asgcn.")]
Numbers = Annotated[Precision, typer.Option(help="Of ours; the baseline is in fp32.")]
Rounds = Annotated[int | None, typer.Option(min=1, help="How often both sides are timed.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Of PyTorch; default: its own choice.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]
Picture = Annotated[Path | None, typer.Option(help="A picture to write, such as bench.png.")]
Store = Annotated[Path | None, typer.Option(help="A clip store; default: made-up clips.")]
Raw = Annotated[Path | None, typer.Option(help="Folder of .skeleton files; default: made-up ones.")]


@app.command("infer")
def infer(
    model: Model = "stgcn",
    against: Annotated[str, typer.Option(help="plain, module, onnx, openvino or torch.")] = "plain",
    precision: Numbers = Precision.fp32,
    batch: Annotated[int, typer.Option(min=1, help="Clips at a time.")] = 1,
    real: Annotated[
        Path | None, typer.Option(metavar="STORE", help="Recorded clips at their real lengths.")
    ] = None,
    rounds: Rounds = None,
    threads: Threads = None,
    as_json: AsJson = False,
    picture: Picture = None,
) -> None:
    """Recognise dense clips of 300 frames and two persons, or the clips of a store."""
    from kinegraph.bench.infer import bench_infer, bench_real
    from kinegraph.clips.store import ClipStore

    def measured(bar: Progress) -> Result:
        common: dict[str, Any] = {"precision": str(precision), "progress": bar}
        if real is not None:
            return bench_real(model, ClipStore(real), rounds=rounds or 5, **common)
        return bench_infer(model, against=against, batch=batch, rounds=rounds or 11, **common)

    tell("recognising", measured, threads, as_json, picture)


@app.command("stream")
def stream(
    model: Model = "stgcn",
    precision: Numbers = Precision.fp32,
    streams: Annotated[
        int | None,
        typer.Option(min=0, help="So many persons at 30 frames/s; 0: as many as there can be."),
    ] = None,
    rounds: Rounds = None,
    threads: Threads = None,
    as_json: AsJson = False,
    picture: Picture = None,
) -> None:
    """Answer frame by frame, against running the last 300 frames again for every frame."""
    from kinegraph.bench.stream import bench_stream, bench_streams

    def measured(bar: Progress) -> Result:
        common: dict[str, Any] = {"precision": str(precision), "progress": bar}
        if streams is None:
            return bench_stream(model, rounds=rounds or 11, **common)
        return bench_streams(model, streams or None, **common)

    tell("streaming", measured, threads, as_json, picture)


@app.command("train")
def train(
    model: Model = "stgcn",
    precision: Numbers = Precision.fp32,
    batch: Annotated[int, typer.Option(min=1, help="Clips a step.")] = 2,
    epochs: Annotated[
        int, typer.Option(min=0, help="Also train the demo so long: its accuracy; 0: do not.")
    ] = 3,
    devices: Annotated[int, typer.Option(min=1, help="Of the demo's training.")] = 1,
    rounds: Rounds = None,
    threads: Threads = None,
    as_json: AsJson = False,
    picture: Picture = None,
) -> None:
    """Time training steps; then train the demo: clips and steps a second, and accuracy."""
    from kinegraph.bench.train import bench_demo, bench_train

    def measured(bar: Progress) -> Result:
        return bench_train(
            model, precision=str(precision), batch=batch, rounds=rounds or 5, progress=bar
        )

    figures = None
    if epochs:
        with TemporaryDirectory(prefix="kinegraph-bench-") as folder:
            figures = bench_demo(Path(folder), epochs=epochs, devices=devices)
    tell("training", measured, threads, as_json, picture, {"demo": figures} if figures else {})


@app.command("data")
def data(
    store: Store = None,
    rounds: Rounds = None,
    as_json: AsJson = False,
    picture: Picture = None,
) -> None:
    """Bytes of a store, and random crops of 64 frames from it, against a dense float32 array."""
    from kinegraph.bench.data import bench_bytes, bench_crops
    from kinegraph.clips.store import ClipStore

    with _recordings(store=store) as (clips, _):
        opened = ClipStore(clips)
        size = bench_bytes(opened)
        told = {f"{side.name} (MB)": side.amount.median for side in size.sides} | size.figures
        tell(
            "cropping",
            lambda bar: bench_crops(opened, rounds=rounds or 11, progress=bar),
            None,
            as_json,
            picture,
            {"bytes": told},
        )


@app.command("convert")
def convert(
    raw: Raw = None,
    rounds: Rounds = None,
    as_json: AsJson = False,
    picture: Picture = None,
) -> None:
    """Read `.skeleton` text into a store with one process, against reading it line by line."""
    from kinegraph.bench.convert import bench_convert

    with _recordings(raw=raw) as (_, files):
        tell(
            "converting",
            lambda bar: bench_convert(files, rounds=rounds or 5, progress=bar),
            None,
            as_json,
            picture,
        )


@app.command("floors")
def floors(
    store: Store = None, raw: Raw = None, threads: Threads = None, as_json: AsJson = False
) -> None:
    """What each row of the table takes at least here: by operations, and by bytes."""
    from dataclasses import asdict

    from kinegraph.bench.machine import in_words
    from kinegraph.bench.roofline import floors as of
    from kinegraph.bench.targets import Given
    from kinegraph.bench.timing import threads as with_threads

    with _recordings(store, raw) as (clips, files), with_threads(threads):
        found = of(Given(clips, files))
        if as_json:
            print(json.dumps({"floors": [asdict(f) for f in found], "machine": in_words()}))
            return
        header = ("row", "of", "GFLOP", "MB", "ms by operations", "ms by bytes")
        rows = [
            (f.row, f.thing, *(f"{v:.3g}" for v in (f.gflop, f.megabytes, f.by_operations,
                                                    f.by_bytes)))
            for f in found
        ]  # fmt: skip
        print_table("Floors", header, rows)
        print(in_words())


@app.command("all")
def everything(
    rows: Annotated[
        list[str] | None, typer.Argument(metavar="[ROW]...", help="Only these rows.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="A Markdown page whose table is written anew.")
    ] = None,
    store: Store = None,
    raw: Raw = None,
    rounds: Rounds = None,
    threads: Threads = None,
    as_json: AsJson = False,
    picture: Picture = None,
) -> None:
    """Measure every row of the target table."""
    from kinegraph.bench.machine import in_words
    from kinegraph.bench.table import check_page, chosen_rows, lines, measure, write_table
    from kinegraph.bench.targets import Given
    from kinegraph.bench.timing import threads as with_threads

    chosen = chosen_rows(rows or ())
    check_picture(picture)
    if page is not None:
        check_page(page)
    with (
        _recordings(store, raw) as (clips, files),
        with_threads(threads),
        progress("measuring") as bar,
    ):
        done = iter(range(len(chosen)))
        given = Given(clips, files, rounds)
        found = measure(chosen, given, lambda _: bar(next(done), len(chosen)))
        where = in_words()
    if page is not None:
        write_table(page, found)
    if picture is not None:
        draw([row_bar(measured) for measured in found], where, picture)
    if as_json:
        print(json.dumps({"rows": [m.to_dict() for m in found], "machine": where}))
    else:
        print("\n".join(lines(found)))
        print(where)


@contextmanager
def _recordings(store: Path | None = None, raw: Path | None = None) -> Iterator[tuple[Path, Path]]:
    """The store and the folder that were given, made-up ones in place of those that were not."""
    from kinegraph.bench.fixtures import made_up_store, made_up_texts

    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="kinegraph-bench-")))
        if raw is None:
            raw = folder / "raw"
            made_up_texts(raw)
        yield store or made_up_store(folder / "made-up.arrow"), raw
