"""`kinegraph bench`: benchmarks of this machine against reference implementations."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from kinegraph.cli.bench_output import check_figure_path, draw_bars, make_target_bar, run_benchmark
from kinegraph.cli.console import print_table, progress

app = typer.Typer(
    help="Measure training, recognition, streaming and data on this machine, interleaved with "
    "reference implementations of the papers.",
    no_args_is_help=True,
)


class BenchPrecision(enum.StrEnum):
    """Precision of ours; the baseline is always in fp32."""

    fp32 = "fp32"
    bf16 = "bf16"


ModelOption = Annotated[str, typer.Option(help="A model of `kinegraph list models`.")]
BenchPrecisionOption = Annotated[
    BenchPrecision, typer.Option(help="Precision of ours; the baseline is in fp32.")
]
RoundsOption = Annotated[int | None, typer.Option(min=1, help="How often both sides are timed.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="Threads of PyTorch; default: its own choice.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
FigureOption = Annotated[Path | None, typer.Option(help="A figure to write, such as bench.png.")]
StoreOption = Annotated[Path | None, typer.Option(help="A clip store; default: synthetic clips.")]
RawOption = Annotated[
    Path | None, typer.Option(help="Folder of .skeleton files; default: synthetic files.")
]


@app.command("infer")
def infer(
    model: ModelOption = "stgcn",
    against: Annotated[
        str, typer.Option(help="reference, module, onnx, openvino or torch.")
    ] = "reference",
    precision: BenchPrecisionOption = BenchPrecision.fp32,
    batch: Annotated[int, typer.Option(min=1, help="Clips at a time.")] = 1,
    recorded: Annotated[
        Path | None, typer.Option(metavar="STORE", help="Recorded clips at their own lengths.")
    ] = None,
    rounds: RoundsOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    figure: FigureOption = None,
) -> None:
    """Recognize dense clips of 300 frames and two persons, or the clips of a store."""
    from kinegraph.bench.infer import bench_infer, bench_recorded
    from kinegraph.bench.result import BenchOptions, BenchResult
    from kinegraph.clips.store import ClipStore

    def measure(options: BenchOptions) -> BenchResult:
        if recorded is not None:
            return bench_recorded(model, ClipStore(recorded), options)
        return bench_infer(model, options, against=against, batch=batch)

    run_benchmark("recognition", measure, precision, rounds, threads, as_json, figure)


@app.command("stream")
def bench_stream_command(
    model: ModelOption = "stgcn",
    precision: BenchPrecisionOption = BenchPrecision.fp32,
    streams: Annotated[
        int | None,
        typer.Option(min=0, help="Persons at 30 frames/s; 0: search the largest number."),
    ] = None,
    rounds: RoundsOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    figure: FigureOption = None,
) -> None:
    """Process frame by frame, against running the last 300 frames again for every frame."""
    from kinegraph.bench.result import BenchOptions, BenchResult
    from kinegraph.bench.streaming import bench_stream, bench_streams

    def measure(options: BenchOptions) -> BenchResult:
        if streams is None:
            return bench_stream(model, options)
        return bench_streams(model, streams or None, options)

    run_benchmark("streaming", measure, precision, rounds, threads, as_json, figure)


@app.command("train")
def bench_train_command(
    model: ModelOption = "stgcn",
    precision: BenchPrecisionOption = BenchPrecision.fp32,
    batch: Annotated[int, typer.Option(min=1, help="Clips a step.")] = 2,
    epochs: Annotated[
        int, typer.Option(min=0, help="Also train the demo for so many epochs; 0: do not.")
    ] = 3,
    devices: Annotated[
        int, typer.Option(min=1, help="Processes or devices that train the demo.")
    ] = 1,
    rounds: RoundsOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    figure: FigureOption = None,
) -> None:
    """Time training steps; then train the demo: clips and steps a second, and accuracy."""
    from kinegraph.bench.train import bench_demo, bench_train

    extra = {}
    if epochs:
        with TemporaryDirectory(prefix="kinegraph-bench-") as folder:
            extra["demo"] = bench_demo(Path(folder), epochs=epochs, devices=devices)
    run_benchmark(
        "training",
        lambda options: bench_train(model, options, batch=batch),
        precision,
        rounds,
        threads,
        as_json,
        figure,
        extra,
    )


@app.command("data")
def data(
    store: StoreOption = None,
    rounds: RoundsOption = None,
    as_json: JsonOption = False,
    figure: FigureOption = None,
) -> None:
    """Compare a store with a dense float32 array: size, and random crops of 64 frames."""
    from kinegraph.bench.data import bench_bytes, bench_crops
    from kinegraph.clips.store import ClipStore

    with _provide_recordings(store=store) as (clips, _):
        opened = ClipStore(clips)
        size = bench_bytes(opened)
        megabytes = {f"{side.name} (MB)": side.amount.median for side in size.sides}
        run_benchmark(
            "crops",
            lambda options: bench_crops(opened, options),
            rounds=rounds,
            as_json=as_json,
            figure=figure,
            extra={"bytes": megabytes | size.figures},
        )


@app.command("convert")
def bench_convert_command(
    raw: RawOption = None,
    rounds: RoundsOption = None,
    as_json: JsonOption = False,
    figure: FigureOption = None,
) -> None:
    """Read `.skeleton` text into a store with one process, against reading it line by line."""
    from kinegraph.bench.data import bench_convert

    with _provide_recordings(raw=raw) as (_, files):
        run_benchmark(
            "conversion",
            lambda options: bench_convert(files, options),
            rounds=rounds,
            as_json=as_json,
            figure=figure,
        )


@app.command("roofline")
def roofline(
    store: StoreOption = None,
    raw: RawOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute the least time of each target on this machine, by operations and by bytes."""
    from dataclasses import asdict, astuple

    from kinegraph.bench.machine import describe_machine
    from kinegraph.bench.roofline import compute_lower_bounds
    from kinegraph.bench.targets import BenchInputs
    from kinegraph.bench.timing import use_threads

    with _provide_recordings(store, raw) as (clips, files), use_threads(threads):
        bounds = compute_lower_bounds(BenchInputs(clips, files))
        machine = describe_machine()
    if as_json:
        print(json.dumps({"bounds": [asdict(b) for b in bounds], "machine": machine}))
        return
    header = ("target", "item", "GFLOP", "MB", "ms by operations", "ms by bytes")
    rows = [(*astuple(b)[:2], *(f"{value:.3g}" for value in astuple(b)[2:])) for b in bounds]
    print_table("Lower bounds", header, rows)
    print(machine)


@app.command("all")
def measure_all(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="[TARGET]...", help="Only these targets.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="A Markdown page whose table is replaced.")
    ] = None,
    store: StoreOption = None,
    raw: RawOption = None,
    rounds: RoundsOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    figure: FigureOption = None,
) -> None:
    """Measure every row of the target table."""
    from kinegraph.bench.machine import describe_machine
    from kinegraph.bench.targets import (
        BenchInputs,
        format_table,
        measure_targets,
        select_targets,
        split_page,
        update_page,
    )
    from kinegraph.bench.timing import use_threads

    selected = select_targets(targets or ())
    check_figure_path(figure)
    if page is not None:
        split_page(page)
    with (
        _provide_recordings(store, raw) as (clips, files),
        use_threads(threads),
        progress("targets") as bar,
    ):
        results = measure_targets(selected, BenchInputs(clips, files), rounds, bar)
        machine = describe_machine()
    if page is not None:
        update_page(page, results, machine)
    if figure is not None:
        draw_bars([make_target_bar(result) for result in results], machine, figure)
    if as_json:
        print(json.dumps({"targets": [r.to_dict() for r in results], "machine": machine}))
    else:
        print("\n".join(format_table(results)))
        print(machine)


@contextmanager
def _provide_recordings(
    store: Path | None = None, raw: Path | None = None
) -> Iterator[tuple[Path, Path]]:
    """Provide the given store and folder of raw files, and synthetic ones for those not given."""
    from kinegraph.bench.fixtures import write_synthetic_ntu_files, write_synthetic_store

    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="kinegraph-bench-")))
        if raw is None:
            raw = folder / "raw"
            write_synthetic_ntu_files(raw)
        yield store or write_synthetic_store(folder / "synthetic.arrow"), raw
