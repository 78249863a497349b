"""`kinegraph bench`: benchmarks of this machine against reference implementations."""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinegraph.cli.console import (
    JsonOption,
    check_figure_path,
    echo,
    print_table,
    progress,
    save_figure,
)
from kinegraph.errors import BenchError

if TYPE_CHECKING:
    from kinegraph.bench.result import BenchOptions, BenchResult
    from kinegraph.bench.targets import TargetResult
    from kinegraph.reports.draw_bench import Bar

Benchmark = Callable[["BenchOptions"], "BenchResult"]

app = typer.Typer(
    help="Measure training, recognition, streaming and data on this machine, interleaved with "
    "reference implementations of the papers.",
    no_args_is_help=True,
)


class BenchPrecision(enum.StrEnum):
    """Precision of kinegraph; the baseline is always in fp32."""

    fp32 = "fp32"
    bf16 = "bf16"


ModelOption = Annotated[str, typer.Option(help="A model of `kinegraph list models`.")]
BenchPrecisionOption = Annotated[
    BenchPrecision, typer.Option(help="Precision of kinegraph; the baseline is in fp32.")
]
RoundsOption = Annotated[int | None, typer.Option(min=1, help="Number of timings of each side.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="PyTorch threads; default: chosen by PyTorch.")
]
FigureOption = Annotated[Path | None, typer.Option(help="Figure file to write, such as bench.png.")]
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
    batch: Annotated[int, typer.Option(min=1, help="Clips per batch.")] = 1,
    recorded: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE", help="Measure the clips of this store, each at its own length."
        ),
    ] = None,
    rounds: RoundsOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    figure: FigureOption = None,
) -> None:
    """Recognize dense clips of 300 frames and two persons, or the clips of a store."""
    from kinegraph.bench.infer import bench_infer, bench_recorded
    from kinegraph.clips.store import ClipStore

    measure: Benchmark = partial(bench_infer, model, against=against, batch=batch)
    if recorded is not None:
        measure = partial(bench_recorded, model, ClipStore(recorded))
    _run_benchmark("recognition", measure, precision, rounds, threads, as_json, figure)


@app.command("stream")
def bench_stream_command(
    model: ModelOption = "stgcn",
    precision: BenchPrecisionOption = BenchPrecision.fp32,
    streams: Annotated[
        int | None,
        typer.Option(min=0, help="Persons at 30 frames/s; 0: find the largest number."),
    ] = None,
    rounds: RoundsOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    figure: FigureOption = None,
) -> None:
    """Process frame by frame, compared with running the last 300 frames again for each frame."""
    from kinegraph.bench.streaming import bench_stream, bench_streams

    measure: Benchmark = partial(bench_stream, model)
    if streams is not None:
        measure = partial(bench_streams, model, streams or None)
    _run_benchmark("streaming", measure, precision, rounds, threads, as_json, figure)


@app.command("train")
def bench_train_command(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE]",
            help="Recipe file or name: train it on its own clips instead, and report the speed.",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Recipe values, such as store=my.arrow."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A model of `kinegraph list models`. Default: stgcn.")
    ] = None,
    precision: Annotated[
        BenchPrecision | None,
        typer.Option(help="Precision of kinegraph; the baseline is in fp32. Default: fp32."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Clips per training step. Default: 2.")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=0, help="Epochs of the recipe or the demo; 0: no demo. Default: 3."),
    ] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="Devices of the recipe or the demo. Default: 1.")
    ] = None,
    rounds: RoundsOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    figure: FigureOption = None,
) -> None:
    """Time training steps, then train the demo; or train a recipe: its speed and accuracy."""
    from kinegraph.bench.train import bench_demo, bench_train

    if recipe is not None:
        steps_only = {"model": model, "precision": precision, "batch": batch, "rounds": rounds}
        given = [f"--{key}" for key, value in {**steps_only, "figure": figure}.items() if value]
        if given:
            raise BenchError(
                f"{', '.join(given)}: only without a recipe; give recipe values as KEY=VALUE, "
                "such as model.name=stgcn train.precision=bf16-mixed train.batch_size=16"
            )
        _bench_recipe(recipe, overrides or (), epochs, devices, threads, as_json)
        return
    extra = {}
    if epochs != 0:
        with TemporaryDirectory(prefix="kinegraph-bench-") as folder:
            extra["demo"] = bench_demo(Path(folder), epochs=epochs or 3, devices=devices or 1)
    measure = partial(bench_train, model or "stgcn", batch=batch or 2)
    shown = precision or BenchPrecision.fp32
    _run_benchmark("training", measure, shown, rounds, threads, as_json, figure, extra)


def _bench_recipe(
    name: str,
    overrides: Sequence[str],
    epochs: int | None,
    devices: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Train a recipe in a temporary folder and print its speed."""
    # with several processes PyTorch warns if a model has no unused parameters
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from kinegraph.bench.machine import describe_machine
    from kinegraph.bench.timing import use_threads
    from kinegraph.bench.train import bench_recipe
    from kinegraph.training.recipe import load_recipe

    changes = {"train.epochs": epochs, "train.devices": devices, "train.threads": threads}
    given = [f"{key}={value}" for key, value in changes.items() if value is not None]
    given += ["train.min_steps=0", "validation.retrain=false"]  # the epochs given, once
    if epochs is None and not any(item.startswith("train.epochs=") for item in overrides):
        given.append("train.epochs=3")
    recipe = load_recipe(name, [*overrides, *given])
    with TemporaryDirectory(prefix="kinegraph-bench-") as folder, use_threads(threads):
        figures = bench_recipe(recipe, Path(folder))
        machine = describe_machine()
    if as_json:
        facts = {"recipe": recipe.name, "store": recipe.store}
        echo(json.dumps({**facts, **figures, "machine": machine}))
        return
    echo(f"{recipe.name} on {recipe.store}: {_format_figures(figures)}")
    echo(machine)


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
        extra = {"bytes": megabytes | size.figures}
        measure = partial(bench_crops, opened)
        _run_benchmark("crops", measure, "fp32", rounds, None, as_json, figure, extra)


@app.command("convert")
def bench_convert_command(
    raw: RawOption = None,
    rounds: RoundsOption = None,
    as_json: JsonOption = False,
    figure: FigureOption = None,
) -> None:
    """Read `.skeleton` text into a store with one process, compared with line by line."""
    from kinegraph.bench.data import bench_convert

    with _provide_recordings(raw=raw) as (_, files):
        measure = partial(bench_convert, files)
        _run_benchmark("conversion", measure, "fp32", rounds, None, as_json, figure)


@app.command("roofline")
def roofline(
    store: StoreOption = None,
    raw: RawOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute the minimum time of each target on this machine from its operations and bytes."""
    from dataclasses import asdict, astuple

    from kinegraph.bench.machine import describe_machine
    from kinegraph.bench.roofline import compute_lower_bounds
    from kinegraph.bench.targets import BenchInputs
    from kinegraph.bench.timing import use_threads

    with _provide_recordings(store, raw) as (clips, files), use_threads(threads):
        bounds = compute_lower_bounds(BenchInputs(clips, files))
        machine = describe_machine()
    if as_json:
        echo(json.dumps({"bounds": [asdict(b) for b in bounds], "machine": machine}))
        return
    header = ("target", "item", "GFLOP", "MB", "ms by operations", "ms by bytes")
    rows = [(*astuple(b)[:2], *(f"{value:.3g}" for value in astuple(b)[2:])) for b in bounds]
    print_table("Lower bounds", header, rows)
    echo(machine)


@app.command("all")
def measure_all(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TARGET]...", help="Targets to measure; default: all."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Markdown page in which the table is replaced.")
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
        _draw_bars([_make_target_bar(result) for result in results], machine, figure)
    if as_json:
        echo(json.dumps({"targets": [r.to_dict() for r in results], "machine": machine}))
    else:
        echo("\n".join(format_table(results)))
        echo(machine)


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


def _run_benchmark(
    title: str,
    measure: Benchmark,
    precision: str,
    rounds: int | None,
    threads: int | None,
    as_json: bool,
    figure: Path | None,
    extra: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Run a benchmark under a progress bar, then print its result and draw it.

    ``extra`` holds further figures to print, by their subject.
    """
    from kinegraph.bench.result import BenchOptions
    from kinegraph.bench.timing import use_threads

    check_figure_path(figure)
    with use_threads(threads), progress(title) as bar:
        result = measure(BenchOptions(str(precision), rounds, bar))
    if figure is not None:
        _draw_bars([_make_bar(result)], result.machine, figure)
    if as_json:
        echo(json.dumps({**result.to_dict(), **(extra or {})}))
        return
    _print_result(result)
    for name, figures in (extra or {}).items():
        echo(f"{name}: {_format_figures(figures)}")


def _print_result(result: BenchResult) -> None:
    columns = list(dict.fromkeys(name for side in result.sides for name in side.figures))
    header = ("", result.unit, *(name.split(" of ")[-1] for name in columns))
    rows = [
        (
            side.name,
            f"{side.amount.median:.4g}",
            *(_format_figure(name, side.figures.get(name)) for name in columns),
        )
        for side in result.sides
    ]
    echo(result.what)
    print_table("", header, rows)
    if result.ratio is not None:
        ratio = result.ratio
        echo(f"ratio {ratio.median:.3g} (quartiles {ratio.low:.3g} to {ratio.high:.3g})")
    echo(_format_figures(result.figures))
    echo(result.machine)


def _format_figures(figures: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_format_figure(name, value)}" for name, value in figures.items())


def _format_figure(name: str, value: Any) -> str:
    """Format a figure with a sensible number of digits."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case str():
            return value
        case _ if name.startswith(("share", "top-")):
            return f"{value:.1%}"
        case _ if "error" in name:
            return f"{value:.1e}"
        case int():
            return f"{value:,}"
    return f"{value:.4g}"


def _make_bar(result: BenchResult) -> Bar:
    from kinegraph.reports.draw_bench import Bar

    ratio = result.ratio
    if ratio is None:
        return Bar(result.what, float(result.figures["persons"]), unit="persons")
    return Bar(result.what, ratio.median, ratio.low, ratio.high)


def _make_target_bar(row: TargetResult) -> Bar:
    """Return a row of the target table as a bar of the figure."""
    from kinegraph.reports.draw_bench import Bar

    target, ratio = row.target, row.result and row.result.ratio
    low, high = (ratio.low, ratio.high) if ratio else (None, None)
    name = target.what.replace("`", "")
    return Bar(name, row.measured, low, high, target.minimum, target.goal, target.unit)


def _draw_bars(bars: Sequence[Bar], machine: str, path: Path) -> None:
    from kinegraph.reports.draw_bench import draw_bench

    save_figure(draw_bench(bars, machine), path)
