"""Where the weights lie that install with kinegraph."""

from __future__ import annotations

from pathlib import Path

import kinegraph

PRETRAINED_FOLDER = Path(kinegraph.__file__).parent / "pretrained"
ENDING = ".safetensors"


def list_pretrained() -> list[str]:
    """Names of the models that come with kinegraph."""
    return sorted(path.name.removesuffix(ENDING) for path in PRETRAINED_FOLDER.glob(f"*{ENDING}"))


def bundled_weights(name: str) -> Path | None:
    """The checkpoint of that name, None if there is none."""
    return PRETRAINED_FOLDER / f"{name}{ENDING}" if name in list_pretrained() else None


def model_card(name: str) -> Path:
    """What is to be known about it: data, licence, figures, limits."""
    return PRETRAINED_FOLDER / f"{name}.md"
