"""`kinegraph draw`: pictures of graphs, clips and runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from kinegraph.cli.console import progress

app = typer.Typer(help="Draw the graph of a layout, a clip, or a run.", no_args_is_help=True)
Out = Annotated[Path | None, typer.Option(help="Output file.")]


@app.command("graph")
def graph(
    layout: Annotated[str, typer.Argument(help="Layout name, or a layout file (.yaml or .json).")],
    strategy: Annotated[
        str, typer.Option(help="Partition strategy: spatial, distance, uniform or agcn.")
    ] = "spatial",
    max_hop: Annotated[int, typer.Option(help="Largest hop distance of neighbors.")] = 1,
    steps: Annotated[bool, typer.Option("--steps", help="Explain the graph step by step.")] = False,
    out: Out = None,
) -> None:
    """Draw a skeleton with its hop distances, adjacency matrix and partitions."""
    from kinegraph.reports.draw_graph import draw_graph
    from kinegraph.reports.draw_graph_tutorial import draw_graph_tutorial
    from kinegraph.skeleton.layouts import get_layout, read_layout

    path = Path(layout)
    chosen = read_layout(path) if path.suffix in (".yaml", ".yml", ".json") else get_layout(layout)
    # an unknown strategy raises there
    draw = draw_graph_tutorial if steps else draw_graph
    figure = draw(chosen, strategy=strategy, max_hop=max_hop)  # type: ignore[arg-type]
    _save(figure, out or Path(f"{'steps' if steps else 'graph'}-{chosen.name}.png"))


@app.command("clip")
def clip(
    store: Annotated[Path, typer.Argument(help="Clip store.")],
    clip_id: Annotated[str, typer.Argument(metavar="ID", help="Clip id.")],
    gif: Annotated[bool, typer.Option("--gif", help="Write an animated GIF.")] = False,
    out: Out = None,
) -> None:
    """Draw a clip as a strip of frames, or as an animated GIF."""
    from kinegraph.clips.store import ClipStore
    from kinegraph.reports.draw_clip import animate_clip, draw_clip

    opened = ClipStore(store)
    chosen = opened[opened.find(clip_id)]
    if gif:
        path = out or _default_path(clip_id, "gif")
        with progress("drawing") as bar:
            animate_clip(chosen, path, progress=bar)
        print(path)
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


def _default_path(clip_id: str, ending: str) -> Path:
    """Return a file name in the current folder; the id may be a path."""
    plain = re.sub(r"[^\w.-]+", "-", clip_id).strip(".-") or "clip"
    return Path(f"{plain}.{ending}")


def _save(figure: object, path: Path) -> None:
    figure.savefig(path, dpi=120)  # type: ignore[attr-defined]
    print(path)
