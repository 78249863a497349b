"""`kinegraph explain`: which joints and frames of a clip decide its action."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinegraph.cli.clip_options import print_assumptions, takes_clip_options
from kinegraph.cli.console import JsonOption, echo, find_free_folder, progress, save_figure

if TYPE_CHECKING:
    from kinegraph.clips.clip import Clip
    from kinegraph.inference.explain import Explanation
    from kinegraph.inference.recognizer import Recognizer

SHOWN_JOINTS = 5


@takes_clip_options
def explain(
    run: Annotated[Path, typer.Argument(help="Run folder, checkpoint or bundled model.")],
    file: Annotated[Path, typer.Argument(help="Raw file, folder or store.")],
    clip_id: Annotated[
        str | None, typer.Option("--clip", metavar="ID", help="Clip of the file; default: first.")
    ] = None,
    action: Annotated[
        str | None, typer.Option("--class", help="Class to explain; default: most probable.")
    ] = None,
    reader: Annotated[
        str | None, typer.Option(help="Reader of the file; default: guessed from the file.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for the pictures, a numbered one if it exists.")
    ] = Path("explanation"),
    as_json: JsonOption = False,
    *,
    stated: dict[str, Any],
) -> None:
    """Explain the prediction for a clip: the importance of each joint in each frame.

    Write skeleton.png, heatmap.png and clip.gif. The deletion curve in heatmap.png shows whether
    the importance is better than chance.
    """
    from kinegraph.inference.explain import explain as explain_clip
    from kinegraph.inference.explain import load_explainable

    model = load_explainable(run)
    clip = _read_clip(model, file, reader, clip_id, stated)
    explanation = explain_clip(model, clip, action)
    folder = find_free_folder(out)
    _draw_explanation(explanation, folder)
    if as_json:
        echo(json.dumps(explanation.to_dict()))
    else:
        _print_explanation(explanation)
    echo(f"wrote {folder}", error=True)


def _read_clip(
    model: Recognizer, file: Path, reader: str | None, clip_id: str | None, stated: dict[str, Any]
) -> Clip:
    from kinegraph.errors import unknown_name
    from kinegraph.inference.inputs import describe_assumptions, open_input

    names = []
    for clip in open_input(file, reader, model, stated).read_clips():
        if clip_id in (None, clip.id):
            print_assumptions(describe_assumptions(clip, model), clip.notes)
            return clip
        names.append(clip.id)
    raise unknown_name("clip", str(clip_id), names)


def _draw_explanation(explanation: Explanation, folder: Path) -> None:
    from kinegraph.reports.draw_clip import animate_clip, draw_clip
    from kinegraph.reports.draw_explanation import draw_heat_map

    folder.mkdir(parents=True)
    importance = explanation.importance[explanation.best]
    title = f"{explanation.name} {explanation.probability:.0%}: {explanation.best}"
    strip = draw_clip(explanation.clip, title=title, importance=importance)
    save_figure(strip, folder / "skeleton.png")
    save_figure(draw_heat_map(explanation), folder / "heatmap.png")
    with progress("drawing") as bar:
        animate_clip(explanation.clip, folder / "clip.gif", importance=importance, progress=bar)


def _print_explanation(explanation: Explanation) -> None:
    echo(f"{explanation.clip.id}: {explanation.name} {explanation.probability:.1%}")
    for method, curve in explanation.curves.items():
        shares = list(explanation.joint_shares(method).items())[:SHOWN_JOINTS]
        joints = ", ".join(f"{joint} {share:.0%}" for joint, share in shares)
        echo(f"{method}: {joints}")
        verdict = "better" if curve.area < explanation.random.area else "not better"
        areas = f"area {curve.area:.3f}, in random order {explanation.random.area:.3f}"
        echo(f"  deletion curve: {areas}: {verdict} than chance")
