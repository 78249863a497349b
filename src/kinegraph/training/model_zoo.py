"""Model zoo: the pretrained weights that are installed with kinegraph."""

from __future__ import annotations

from pathlib import Path

import kinegraph

PRETRAINED_FOLDER = Path(kinegraph.__file__).parent / "pretrained"
CHECKPOINT_SUFFIX = ".safetensors"


def list_pretrained() -> list[str]:
    """Return the names of the bundled models."""
    paths = PRETRAINED_FOLDER.glob(f"*{CHECKPOINT_SUFFIX}")
    return sorted(path.name.removesuffix(CHECKPOINT_SUFFIX) for path in paths)


def bundled_weights(name: str) -> Path | None:
    """Return the checkpoint of a bundled model, None if there is no such model."""
    known = name in list_pretrained()
    return PRETRAINED_FOLDER / f"{name}{CHECKPOINT_SUFFIX}" if known else None


def model_card(name: str) -> Path:
    """Return the path of a model's card: data, licence, accuracy, limits."""
    return PRETRAINED_FOLDER / f"{name}.md"
