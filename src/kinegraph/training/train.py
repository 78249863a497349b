"""From a recipe to a run: a folder with checkpoints, history and logs."""

from __future__ import annotations

import json
import logging
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from torch import nn

from kinegraph.clips.store import ClipStore
from kinegraph.errors import CheckpointError
from kinegraph.models import create_model
from kinegraph.training.callbacks import Checkpoints, History, Patience, Progress, ProgressBar
from kinegraph.training.checkpoint import (
    Header,
    current_versions,
    require_new_folder,
    start_from,
)
from kinegraph.training.data import ClipDataset, Splits, collate, loader, training_splits
from kinegraph.training.module import Fitting
from kinegraph.training.objectives import Objective
from kinegraph.training.recipe import LOGS, Recipe

RESUME = "resume.ckpt"


def train(
    recipe: Recipe, out: str | Path, *, resume: bool = False, progress: Progress | None = None
) -> Path:
    """Run a recipe.

    Args:
        recipe: what to train, on what.
        out: the run's folder; must be new unless ``resume``.
        resume: go on from the last finished epoch of the run in ``out``.
        progress: shows how far it is; a bar on standard error by default.

    Returns:
        ``out``, which then holds recipe.yaml, environment.json, history.csv, the checkpoints
        best.safetensors (if a part was held out) and last.safetensors, resume.ckpt,
        TensorBoard's event files, and a folder of this kind for each stage.

    Raises:
        RecipeError: the recipe does not fit the store.
        CheckpointError: ``out`` holds another run, or nothing to resume.
    """
    out = Path(out)
    _check_folder(recipe, out, resume=resume)
    start = Path(recipe.init_from) if recipe.init_from else None
    for number, stage in enumerate(recipe.stages):
        staged, folder = recipe.stage(number), out / stage.name
        begun = (folder / RESUME).is_file()
        if begun:
            _check_folder(staged, folder, resume=True)
        _fit(staged, folder, start, resume=begun, progress=progress)
        start = folder
    _fit(recipe, out, start, resume=(out / RESUME).is_file(), progress=progress)
    return out


def _fit(
    recipe: Recipe, out: Path, start: Path | None, *, resume: bool, progress: Progress | None
) -> None:
    """One stage, or the recipe without its stages, from the weights of ``start`` if given."""
    started = time.monotonic()
    store = ClipStore(Path(recipe.store))
    splits = training_splits(recipe, store)
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    seed_everything(recipe.seed, workers=True, verbose=False)
    train_set = _dataset(recipe, store, splits.train, seed=recipe.seed)
    header = _header(recipe, store, in_channels=train_set[0, 0][0].shape[0], splits=splits)
    model, objective = header.build_model(), header.create_objective()
    if start is not None and not resume:  # to resume, all weights are in resume.ckpt
        start_from(model, header, start)
    batches = loader(train_set, recipe.train.batch_size, workers=recipe.train.workers)
    module = Fitting(
        model,
        objective,
        recipe.train,
        num_classes=header.num_classes,
        steps_per_epoch=max(1, -(-len(batches) // recipe.train.accumulate)),
        seed=recipe.seed,
    )
    _try_one(model, objective, train_set)
    _make_folder(recipe, out)
    checkpoints = Checkpoints(out, header, started, objective.best)
    callbacks = [History(out), checkpoints, progress or ProgressBar()]
    trainer = _trainer(recipe, out, callbacks, objective.best)
    val_set = _dataset(recipe, store, splits.val, seed=None)
    val_batches = loader(val_set, recipe.train.batch_size, workers=recipe.train.workers)
    with _quiet_lightning():
        trainer.fit(
            module,
            batches,
            val_batches if len(splits.val) else None,
            ckpt_path=out / RESUME if resume else None,
        )
    if trainer.interrupted:
        raise KeyboardInterrupt


def _check_folder(recipe: Recipe, out: Path, *, resume: bool) -> None:
    begun = (out, *(out / stage.name for stage in recipe.stages))
    if not resume:
        require_new_folder(out)
    elif not any((folder / RESUME).is_file() for folder in begun):
        raise CheckpointError(
            f"{out} holds no {RESUME}: there is nothing to resume (delete it to start afresh)"
        )
    elif (out / RESUME).is_file() and (
        (out / "recipe.yaml").read_text(encoding="utf-8") != recipe.to_yaml()
    ):
        raise CheckpointError(f"{out} was trained by another recipe: see its recipe.yaml")


def _try_one(model: nn.Module, objective: Objective, clips: ClipDataset) -> None:
    """One clip through model and objective, so that what cannot work leaves nothing behind."""
    model.eval()
    with torch.no_grad():
        objective.outcome(model, collate([clips[0, 0]]))
    model.train()


def _make_folder(recipe: Recipe, out: Path) -> None:
    """Only once the recipe is known to fit the store: a mistake leaves nothing behind."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    (out / "environment.json").write_text(json.dumps(environment(), indent=1), encoding="utf-8")


def environment() -> dict[str, Any]:
    """What the run's figures depend on beside the recipe."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "device": device,
        "threads": torch.get_num_threads(),
        **current_versions(),
    }


def _dataset(
    recipe: Recipe, store: ClipStore, indices: NDArray[np.int64], *, seed: int | None
) -> ClipDataset:
    return ClipDataset(
        store,
        indices,
        recipe.pipeline(),
        persons=recipe.persons,
        confidence=recipe.confidence,
        seed=seed,
    )


def _header(recipe: Recipe, store: ClipStore, *, in_channels: int, splits: Splits) -> Header:
    provenance = store.provenance
    options = recipe.model.options
    create_model(  # before anything is trained: do the options make a model for this layout?
        recipe.model.name,
        layout=store.layout,
        num_classes=max(1, store.num_classes),
        in_channels=in_channels,
        **options,
    )
    return Header(
        model={"name": recipe.model.name, "options": options},
        layout=store.layout.to_dict(),
        num_classes=max(1, store.num_classes),
        in_channels=in_channels,
        classes=list(store.classes) if store.classes else None,
        persons=recipe.persons,
        confidence=recipe.confidence,
        stream=recipe.stream,
        transforms=recipe.pipeline().to_list(),
        reader={"name": provenance.get("reader"), "options": provenance.get("options", {})},
        recipe=recipe.model_dump(),
        training={
            "clips": len(splits.train),
            "held_out": len(splits.val),
            "store": recipe.store,
            "coordinates": store.num_channels,
        },
        versions=current_versions(),
        objective=recipe.objective.model_dump(),
    )


def _trainer(
    recipe: Recipe, out: Path, callbacks: list[Callback], best_by: tuple[str, int]
) -> Trainer:
    s = recipe.train
    if s.early_stop:
        figure, sign = best_by
        mode = "max" if sign > 0 else "min"
        callbacks.append(Patience(figure, mode=mode, patience=s.early_stop))
    with _quiet_lightning():
        return Trainer(
            max_epochs=s.epochs,
            accelerator="auto",
            devices=1,
            precision=s.precision,
            gradient_clip_val=s.clip_grad,
            accumulate_grad_batches=s.accumulate,
            callbacks=callbacks,
            logger=TensorBoardLogger(out, name="", version=LOGS),
            default_root_dir=out,
            deterministic=True,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Hide Lightning's advice on workers and hardware; our own messages say what matters."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", module=r"torch\.utils\.tensorboard.*")
            yield
    finally:
        logger.setLevel(level)
