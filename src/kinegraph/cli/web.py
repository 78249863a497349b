"""`kinegraph web`: a folder with a page that recognizes actions in the browser alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinegraph.cli.console import echo


def web(
    model: Annotated[Path, typer.Argument(help="Run folder, checkpoint, or bundled model name.")],
    out: Annotated[Path, typer.Argument(help="Output folder, new or empty.")],
) -> None:
    """Write a page that recognizes actions in the browser, for any web server; no image leaves
    the browser.
    """
    from kinegraph.inference.recognizer import Recognizer
    from kinegraph.server.web_folder import write_web_folder
    from kinegraph.video.estimators.base import movenet_path

    files = write_web_folder(Recognizer.load(model), model.name or str(model), movenet_path(), out)
    size = sum((out / name).stat().st_size for name in files)
    echo(f"wrote {out}: {len(files)} files, {size / 1e6:.1f} MB")
    echo(f"try it: python -m http.server --directory {out} 8080")
