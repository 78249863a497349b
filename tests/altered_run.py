"""Runs like another one but for parts of the header and noise on the weights: made, not trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kinegraph.training.checkpoint import BEST_FILE, load_model, save_checkpoint


def altered_run(
    run: Path,
    folder: Path,
    *,
    noise: float = 0.0,
    recipe: dict[str, Any] | None = None,
    **parts: Any,
) -> Path:
    """A run in ``folder``: its header has other ``parts``, its recipe other keys.

    Weights that do not fit the other header are fresh ones.
    """
    model, header = load_model(run)
    header = replace(header, recipe=header.recipe | (recipe or {}), **parts)
    generator = torch.Generator().manual_seed(0)
    state = header.build_model().state_dict()
    for key, value in model.state_dict().items():
        if value.shape == state[key].shape:
            moved = "running" not in key and value.is_floating_point()
            state[key] = value + noise * torch.randn(value.shape, generator=generator) * moved
    folder.mkdir(parents=True)
    save_checkpoint(folder / BEST_FILE, state, header)
    return folder
