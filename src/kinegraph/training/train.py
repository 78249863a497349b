"""From a recipe to a run: a folder with checkpoints, history and logs."""

from __future__ import annotations

import json
import logging
import os
import platform
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from numpy.typing import NDArray
from torch import nn

from kinegraph.clips.store import ClipStore
from kinegraph.errors import RecipeError, TrainingError
from kinegraph.files import atomic_write, exclusive_lock
from kinegraph.models import create_model
from kinegraph.training.callbacks import (
    Checkpoints,
    HistoryWriter,
    Progress,
    ProgressBar,
    ResumableEarlyStopping,
)
from kinegraph.training.checkpoint import CheckpointHeader, collect_versions, load_initial_weights
from kinegraph.training.data import (
    ClipDataset,
    Share,
    TrainingSplits,
    collate,
    create_loader,
    split_training_clips,
)
from kinegraph.training.devices import default_device, device_name, is_out_of_memory
from kinegraph.training.distributed import (
    DDP_OPTIONS,
    ExternalClusterEnvironment,
    ProcessLayout,
    broadcast_from_rank_zero,
    is_rank_zero,
    launched_by_torchrun,
    rank,
    resolve_processes,
)
from kinegraph.training.launcher import launch_workers
from kinegraph.training.lightning_module import TrainingModule
from kinegraph.training.npu import adapt_trainer_options
from kinegraph.training.objectives import Objective
from kinegraph.training.recipe import TENSORBOARD_FOLDER, Recipe, TrainConfig
from kinegraph.training.resume import ResumeCheckpointIO
from kinegraph.training.stages import (
    RECIPE_FILE,
    StageRun,
    remaining_stages,
    stages_from_json,
    stages_to_json,
)


def train(
    recipe: Recipe, out: str | Path, *, resume: bool = False, progress: Progress | None = None
) -> Path:
    """Run a recipe.

    Args:
        recipe: what to train, on what.
        out: the run's folder; must be new unless ``resume``.
        resume: go on from the last finished epoch of the run in ``out``; a finished one stays.
        progress: shows how far it is; a bar on standard error by default.

    Returns:
        ``out``, which then holds recipe.yaml, environment.json, history.csv, the checkpoints
        best.safetensors (if a part was held out) and last.safetensors, resume.ckpt and the one
        before it, TensorBoard's event files, and a folder of this kind for each stage.

    Raises:
        RecipeError: the recipe does not fit the store, or this machine.
        CheckpointError: ``out`` holds another run, nothing to resume, or a damaged file, or another
            training is writing to it.
        TrainingError: memory was not enough, or another process was lost.
    """
    out = Path(out)
    crew = resolve_processes(recipe.train)
    job = stages_to_json(remaining_stages(recipe, out, resume=resume) if is_rank_zero() else [])
    if launched_by_torchrun():
        job = broadcast_from_rank_zero(job)
    alone = crew.size == 1 or launched_by_torchrun() or not stages_from_json(job)
    with nullcontext() if alone else launch_workers(crew.local - 1, job):
        _fit_all(
            stages_from_json(job),
            crew,
            progress or (ProgressBar() if is_rank_zero() else Progress()),
        )
    return out


def follow(job: str) -> None:
    """Take part in a training that another process leads; ``job`` says in what."""
    legs = stages_from_json(job)
    _fit_all(legs, resolve_processes(legs[0].whole.train), Progress())


def _fit_all(legs: Sequence[StageRun], crew: ProcessLayout, progress: Progress) -> None:
    for leg in legs:
        try:
            _fit(leg, crew, progress)
        except (RuntimeError, OSError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(_less(leg.recipe.train)) from error


def _less(settings: TrainConfig) -> str:
    """What to try when memory is not enough: smaller batches, steps of as many clips."""
    size, times = settings.batch_size, settings.accumulate
    text = f"out of memory with train.batch_size={size} train.accumulate={times}: try "
    if size == 1:
        return f"{text}train.precision=bf16-mixed, fewer frames, or a smaller model"
    parts = next(n for n in range(2, size + 1) if size % n == 0)
    return (
        f"{text}train.batch_size={size // parts} train.accumulate={times * parts} in a new folder"
    )


def _fit(leg: StageRun, crew: ProcessLayout, progress: Progress) -> None:
    """One leg, from the weights it starts with or where it broke off."""
    started = time.monotonic()
    recipe, share = leg.recipe, Share(rank(), crew.size)
    store = ClipStore(Path(recipe.store))
    splits = split_training_clips(recipe, store)
    _check_shares(splits, crew)
    _set_threads(recipe.train, crew)
    seed_everything(recipe.seed, workers=True, verbose=False)
    train_set = _dataset(recipe, store, splits.train, seed=recipe.seed)
    header = _header(recipe, store, in_channels=train_set[0, 0][0].shape[0], splits=splits)
    model, objective = header.build_model(), header.create_objective()
    if leg.start is not None:
        load_initial_weights(model, header, leg.start)
    size, workers = recipe.train.batch_size, recipe.train.workers
    batches = create_loader(train_set, size, workers=workers, share=share)
    module = TrainingModule(
        model,
        objective,
        recipe.train,
        steps_per_epoch=max(1, -(-len(batches) // recipe.train.accumulate)),
        seed=recipe.seed,
    )
    val_set = _dataset(recipe, store, splits.val, seed=None)
    val_batches = create_loader(val_set, size, workers=workers, share=share)
    _try_one(model, objective, train_set)
    with _folders(leg, crew) if is_rank_zero() else nullcontext():
        checkpoints = Checkpoints(leg.folder, header, started, objective.best_metric)
        trainer = _trainer(
            leg, crew, [HistoryWriter(leg.folder), checkpoints, progress], objective.best_metric
        )
        with _quiet_lightning(), _interruptible(trainer):
            held_out = val_batches if len(splits.val) else None
            trainer.fit(module, batches, held_out, ckpt_path=leg.resume)


def _check_shares(splits: TrainingSplits, crew: ProcessLayout) -> None:
    """Every process needs clips of its own to tell the same figures at the same time."""
    fewest = min((len(p) for p in (splits.train, splits.val) if len(p)), default=crew.size)
    if fewest < crew.size:
        raise RecipeError(
            f"{crew.size} processes cannot share {len(splits.train)} training and "
            f"{len(splits.val)} held-out clips: take fewer (train.devices, train.nodes)"
        )


def _set_threads(settings: TrainConfig, crew: ProcessLayout) -> None:
    """As the recipe says, or the CPU's cores divided among the processes that compute on them."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    elif crew.local > 1 and default_device().type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // crew.local))


def _try_one(model: nn.Module, objective: Objective, clips: ClipDataset) -> None:
    """One clip through model and objective, so that what cannot work leaves nothing behind."""
    model.eval()
    with torch.no_grad():
        objective.compute_loss(model, collate([clips[0, 0]]))
    model.train()


@contextmanager
def _folders(leg: StageRun, crew: ProcessLayout) -> Iterator[None]:
    """Made only once the recipe is known to fit the store: a mistake leaves nothing behind."""
    leg.folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(leg.out):
        for folder, recipe in {leg.out: leg.whole, leg.folder: leg.recipe}.items():
            atomic_write(folder / RECIPE_FILE, recipe.to_yaml())
            atomic_write(folder / "environment.json", json.dumps(environment(crew), indent=1))
        yield


def environment(crew: ProcessLayout) -> dict[str, Any]:
    """What the run's figures depend on beside the recipe."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "device": device_name(),
        "processes": crew.size,
        "threads": torch.get_num_threads(),
        **collect_versions(),
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


def _header(
    recipe: Recipe, store: ClipStore, *, in_channels: int, splits: TrainingSplits
) -> CheckpointHeader:
    provenance = store.provenance
    layout = recipe.pipeline().output_layout(store.layout)
    options = recipe.model.options
    create_model(  # before anything is trained: do the options make a model for this layout?
        recipe.model.name,
        layout=layout,
        num_classes=max(1, store.num_classes),
        in_channels=in_channels,
        **options,
    )
    return CheckpointHeader(
        model={"name": recipe.model.name, "options": options},
        layout=layout.to_dict(),
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
        versions=collect_versions(),
        objective=recipe.objective.model_dump(),
    )


def _trainer(
    leg: StageRun, crew: ProcessLayout, callbacks: list[Callback], best_by: tuple[str, int]
) -> Trainer:
    s = leg.recipe.train
    if s.early_stop:
        figure, sign = best_by
        mode = "max" if sign > 0 else "min"
        callbacks.append(ResumableEarlyStopping(figure, mode=mode, patience=s.early_stop))
    options = {
        "accelerator": "auto",
        "devices": crew.local,
        "num_nodes": crew.nodes,
        "strategy": DDPStrategy(**DDP_OPTIONS) if crew.size > 1 else "auto",
        "precision": s.precision,
        "plugins": [ExternalClusterEnvironment(crew), ResumeCheckpointIO()],
    }
    with _quiet_lightning():
        return Trainer(
            **adapt_trainer_options(options),
            max_epochs=s.epochs,
            gradient_clip_val=s.clip_grad,
            accumulate_grad_batches=s.accumulate,
            callbacks=callbacks,
            logger=TensorBoardLogger(leg.folder, name="", version=TENSORBOARD_FOLDER),
            default_root_dir=leg.folder,
            deterministic=True,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )


@contextmanager
def _interruptible(trainer: Trainer) -> Iterator[None]:
    """Lightning turns Ctrl-C into an exit; here it stays what it is."""
    try:
        yield
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    if trainer.interrupted:
        raise KeyboardInterrupt


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
