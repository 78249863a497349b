"""Options of the commands that read clips: what the user states of the coordinates."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cache, wraps
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from kinegraph.cli.console import echo

Command = TypeVar("Command", bound=Callable[..., None])

_HELP: dict[str, tuple[type, str]] = {
    "layout": (str, "Layout of the joints; default: that of the files, else the run's."),
    "space": (str, "image (y down) or world; default: by the layout, or guessed from the joints."),
    "up": (str, "World: the axis that points up, such as y, z or -y (as --up=-y)."),
    "away": (str, "World: the horizontal axis that points away from the viewer."),
    "handedness": (str, "World: right or left."),
    "unit": (str, "pixel or share (of the image); m, cm or mm."),
    "confidence": (str, "true: the last number of a joint is its confidence."),
    "prepared": (str, "How the coordinates were prepared: recorded, agcn, ctrgcn, ..."),
    "fps": (float, "Frames per second of clips that do not state it."),
    "width": (float, "Width of the image in pixels, for clips that do not state it."),
    "height": (float, "Height of the image in pixels."),
}


def takes_clip_options(command: Command) -> Command:
    """Add the options of clips to a command, which gets those that were given as ``stated``."""

    @wraps(command)
    def run(**given: Any) -> None:
        _print_once.cache_clear()
        options = {name: given.pop(name) for name in _HELP}
        stated = {name: value for name, value in options.items() if value is not None}
        if "confidence" in stated:
            stated["confidence"] = _parse_truth(stated["confidence"])
        command(**given, stated=stated)

    hints = get_type_hints(command, include_extras=True)
    kept = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "stated"
    ]
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, typer.Option(help=text)],  # type: ignore[valid-type]
        )
        for name, (kind, text) in _HELP.items()
    ]
    run.__signature__ = inspect.Signature([*kept, *added])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in [*kept, *added]}
    return run  # type: ignore[return-value]


def print_assumptions(read_as: str, notes: Iterable[str] = ()) -> None:
    """Print on standard error how a clip was read, and its notes, each once a command."""
    if read_as:
        _print_once(f"read as {read_as}")
    for note in notes:
        _print_once(f"note: {note}")


@cache
def _print_once(text: str) -> None:
    echo(text, error=True)


def _parse_truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise typer.BadParameter(f"expected true or false, got {text!r}", param_hint="--confidence")
    return text.lower() == "true"
