"""`kinegraph draw`: pictures of graphs, clips and runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinegraph.cli.console import FIGURE_SUFFIXES, check_figure_path, echo, progress, save_figure
from kinegraph.errors import FigureError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kinegraph.skeleton.layout import SkeletonLayout

app = typer.Typer(help="Draw the graph of a layout, a clip, or a run.", no_args_is_help=True)
Out = Annotated[Path | None, typer.Option(help=f"Output file: {', '.join(FIGURE_SUFFIXES)}.")]
SubjectArgument = Annotated[
    str,
    typer.Argument(
        metavar="LAYOUT|RUN", help="Layout name, layout file (.yaml or .json), or folder of a run."
    ),
]


@app.command("graph")
def graph(
    subject: SubjectArgument,
    strategy: Annotated[
        str | None,
        typer.Option(help="Partition strategy: spatial (default), distance, uniform or agcn."),
    ] = None,
    max_hop: Annotated[
        int | None, typer.Option(help="Largest hop distance of neighbors. Default: 1.")
    ] = None,
    center_distance: Annotated[
        str | None,
        typer.Option(
            help="Distance to the center, for spatial: full (default), or truncated at --max-hop "
            "as in the released code."
        ),
    ] = None,
    steps: Annotated[bool, typer.Option("--steps", help="Explain the graph step by step.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"Output file: {', '.join(FIGURE_SUFFIXES)}; with --steps also a folder, which "
            "gets one picture for each step."
        ),
    ] = None,
) -> None:
    """Draw a skeleton with its hop distances, adjacency matrix and partitions.

    Of a run, draw the graph that its network uses.
    """
    from kinegraph.reports.draw_graph import draw_graph, draw_network_graph
    from kinegraph.reports.draw_graph_tutorial import draw_graph_tutorial, step_boxes
    from kinegraph.reports.model_figures import network_graph
    from kinegraph.skeleton import identify_adjacency
    from kinegraph.skeleton.layout import SkeletonLayout

    single = steps and out is not None and not out.suffix
    if not single:
        check_figure_path(out)
    chosen = {"strategy": strategy, "max_hop": max_hop, "center_distance": center_distance}
    options: dict[str, Any] = {key: value for key, value in chosen.items() if value is not None}
    opened = _open_subject(subject)
    if isinstance(opened, SkeletonLayout):
        layout, name = opened, opened.name
    else:
        layout, name = opened.layout, Path(subject).name
        if options:
            given = ", ".join("--" + key.replace("_", "-") for key in options)
            raise FigureError(f"{subject}: the graph of a run is fixed; leave out {given}")
        A = network_graph(opened, subject)
        if not steps:
            _save(draw_network_graph(layout, A), out or Path(f"graph-{name}.png"))
            return
        found = identify_adjacency(layout, A)
        if found is None:
            raise FigureError(
                f"{subject}: --steps explains graphs of a partition strategy, and the network's "
                "adjacency is of none; leave out --steps"
            )
        options = found._asdict()
    figure = (draw_graph_tutorial if steps else draw_graph)(layout, **options)
    if single and out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for number, box in enumerate(step_boxes(figure), start=1):
            _save(figure, out / f"step-{number}.png", bbox_inches=box)
        return
    _save(figure, out or Path(f"{'steps' if steps else 'graph'}-{name}.png"))


@app.command("shift")
def shift(
    subject: SubjectArgument,
    channels: Annotated[
        int | None, typer.Option(min=1, help="Channels of a layout's picture. Default: 20.")
    ] = None,
    out: Out = None,
) -> None:
    """Draw the spatial and temporal shifts of Shift-GCN: from where each channel reads."""
    from kinegraph.reports.draw_shift import draw_layout_shifts
    from kinegraph.reports.model_figures import draw_spatial_shifts
    from kinegraph.skeleton.layout import SkeletonLayout

    check_figure_path(out)
    opened = _open_subject(subject)
    if isinstance(opened, SkeletonLayout):
        figure, name = draw_layout_shifts(opened, channels or 20), opened.name
    elif channels is not None:
        raise FigureError(f"{subject}: the channels of a run are fixed; leave out --channels")
    else:
        figure, name = draw_spatial_shifts(opened, subject), Path(subject).name
    _save(figure, out or Path(f"shift-{name}.png"))


@app.command("clip")
def clip(
    store: Annotated[Path, typer.Argument(help="Clip store.")],
    clip_id: Annotated[str, typer.Argument(metavar="ID", help="Clip id.")],
    gif: Annotated[bool, typer.Option("--gif", help="Write an animated GIF.")] = False,
    out: Out = None,
) -> None:
    """Draw a clip as a strip of frames, or as an animated GIF."""
    check_figure_path(out, (".gif",) if gif else FIGURE_SUFFIXES)
    from kinegraph.clips.store import ClipStore
    from kinegraph.reports.draw_clip import animate_clip, draw_clip

    opened = ClipStore(store)
    chosen = opened[opened.find(clip_id)]
    if gif:
        path = out or _default_path(clip_id, "gif")
        with progress("drawing") as bar:
            animate_clip(chosen, path, progress=bar)
        echo(path)
    else:
        _save(draw_clip(chosen), out or _default_path(clip_id, "png"))


@app.command("run")
def run(
    run: Annotated[Path, typer.Argument(help="Folder of the run.")],
    clip: Annotated[
        str | None, typer.Option(metavar="ID", help="Clip for inferred links and predicted poses.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder. Default: pictures/ in the run.")
    ] = None,
) -> None:
    """Draw the training curves of a run, its learned parts, inferred links and predicted poses."""
    from kinegraph.reports.run_report import run_figures

    folder = out or run / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in run_figures(run, clip).items():
        _save(figure, folder / f"{name}.png")


def _open_subject(subject: str) -> SkeletonLayout | Any:
    """Return the layout, or the model of a run or of bundled weights."""
    from kinegraph.skeleton.layouts import LAYOUTS, get_layout, read_layout
    from kinegraph.training.checkpoint import load_model
    from kinegraph.training.model_zoo import list_pretrained

    path = Path(subject)
    if path.suffix in (".yaml", ".yml", ".json"):
        return read_layout(path)
    if subject not in LAYOUTS and (path.exists() or subject in list_pretrained()):
        return load_model(path)[0]
    return get_layout(subject)


def _default_path(clip_id: str, ending: str) -> Path:
    """Return a file name in the current folder; the id may be a path."""
    plain = re.sub(r"[^\w.-]+", "-", clip_id).strip(".-") or "clip"
    return Path(f"{plain}.{ending}")


def _save(figure: Figure, path: Path, **options: Any) -> None:
    save_figure(figure, path, **options)
    echo(path)
