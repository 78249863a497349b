"""Training: from a recipe to a run, a folder with checkpoints, history and logs."""

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

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from kinegraph.clips.intervals import frame_classes
from kinegraph.clips.store import ClipStore
from kinegraph.errors import RecipeError, TrainingError
from kinegraph.files import atomic_write, exclusive_lock
from kinegraph.training.auto_settings import describe_settings, fit_recipe
from kinegraph.training.batch import collate
from kinegraph.training.callbacks import (
    Checkpoints,
    PeriodicEvaluation,
    PlainSigterm,
    ProgressBar,
    ResumableEarlyStopping,
    SpeedMeter,
)
from kinegraph.training.checkpoint import CheckpointHeader, collect_versions
from kinegraph.training.data import (
    ClipDataset,
    TrainingSplits,
    balanced_class_weights,
    create_loader,
    split_training_clips,
)
from kinegraph.training.devices import default_device, device_name, is_out_of_memory
from kinegraph.training.distributed import (
    DDP_OPTIONS,
    ExternalClusterEnvironment,
    ProcessLayout,
    broadcast_from_rank_zero,
    get_rank,
    is_rank_zero,
    launched_by_torchrun,
    resolve_processes,
)
from kinegraph.training.initial_weights import load_initial_weights
from kinegraph.training.launcher import launch_workers
from kinegraph.training.lightning_module import TrainingModule
from kinegraph.training.objectives import Objective
from kinegraph.training.recipe import TENSORBOARD_FOLDER, Recipe, TrainConfig
from kinegraph.training.resume import ResumeCheckpointIO, load_resume_checkpoint
from kinegraph.training.stages import (
    RECIPE_FILE,
    STAGE_RUNS,
    StageRun,
    remaining_stages,
)


def train(
    recipe: Recipe, out: str | Path, *, resume: bool = False, progress: Callback | None = None
) -> Path:
    """Train a model with a recipe.

    Args:
        out: folder of the run; must be new or empty unless ``resume``.
        resume: continue the run in ``out`` after its last finished epoch; a finished run stays.
        progress: callback that shows the progress; by default a bar on standard error.

    Returns:
        ``out``, which then contains recipe.yaml, environment.json, history.csv, the checkpoints
        best.safetensors (if clips were held out) and last.safetensors, resume.ckpt and the one
        before it, TensorBoard event files, and such a folder for each stage and for the selection
        of the epochs.

    Raises:
        RecipeError: the recipe does not fit the store, or this machine.
        CheckpointError: ``out`` holds another run, nothing to resume, or a damaged file, or another
            training is writing to it.
        TrainingError: training ran out of memory or diverged, or another process failed.
    """
    out = Path(out)
    layout = resolve_processes(recipe.train)
    stages = remaining_stages(recipe, out, resume=resume) if is_rank_zero() else []
    if launched_by_torchrun():
        stages = broadcast_from_rank_zero(stages)
    is_launched = layout.world_size == 1 or launched_by_torchrun() or not stages
    text = STAGE_RUNS.dump_json(stages).decode()
    with nullcontext() if is_launched else launch_workers(layout.per_node - 1, text):
        train_stages(stages, progress or (ProgressBar() if is_rank_zero() else None))
    return out


def train_stages(stages: Sequence[StageRun], progress: Callback | None = None) -> None:
    """Train stages in this process, as one of the processes that train together.

    Raises:
        RecipeError, CheckpointError, TrainingError: see `train`.
    """
    for stage in stages:
        settings = stage.run_recipe.train
        try:
            _train_stage(stage, resolve_processes(settings), progress or Callback())
        except (RuntimeError, OSError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(_out_of_memory_message(stage.recipe.train)) from error


def _out_of_memory_message(settings: TrainConfig) -> str:
    """Return a message that suggests smaller batches with the same effective batch size."""
    size, accumulate = settings.batch_size, settings.accumulate
    text = f"out of memory with train.batch_size={size} train.accumulate={accumulate}: try "
    if size == 1:
        return f"{text}train.precision=bf16-mixed, fewer frames, or a smaller model"
    parts = next(n for n in range(2, size + 1) if size % n == 0)
    return (
        f"{text}train.batch_size={size // parts} train.accumulate={accumulate * parts} in a new "
        "folder"
    )


def _train_stage(stage: StageRun, layout: ProcessLayout, progress: Callback) -> None:
    started = time.monotonic()
    store = ClipStore(Path(stage.run_recipe.store))
    recipe = fit_recipe(stage.recipe, store, layout.world_size)
    settings, selection = recipe.train, stage.load_selection()
    splits = split_training_clips(recipe, store)
    _check_enough_clips(splits, layout)
    _set_threads(settings, layout)
    seed_everything(recipe.seed, workers=True, verbose=False)
    objective = recipe.objective.create()
    classes, background = store.classes, None
    if objective.names_frames:
        classes, background = frame_classes(store.classes or ())
    preprocessor = recipe.preprocessor(background)
    train_set = ClipDataset(
        store,
        splits.train,
        preprocessor,
        recipe.seed,
        splits.soft_labels,
        views=(None,) * objective.draws,
    )
    val_set = ClipDataset(store, splits.val, preprocessor)
    test_set = ClipDataset(store, splits.test, preprocessor)
    channels = train_set[0, 0].x.shape[0]
    header = _build_header(recipe, store, classes, in_channels=channels, splits=splits)
    if selection is not None:
        header.training["selection"] = selection.model_dump()
    model = header.build_model()
    changed = describe_settings(stage.recipe, recipe)
    notes = [f"settings that follow the clips: {changed}"] if changed else []
    if stage.init_from is not None:
        notes += load_initial_weights(model, header, stage.init_from).describe(stage.init_from)
    loading = {
        "workers": settings.workers,
        "rank": get_rank(),
        "world_size": layout.world_size,
    }
    batches, val_batches = (
        create_loader(dataset, settings.batch_size, **loading) for dataset in (train_set, val_set)
    )
    module = TrainingModule(
        model,
        objective,
        settings,
        steps_per_epoch=max(1, -(-len(batches) // settings.accumulate)),
        seed=recipe.seed,
        class_weights=_class_weights(
            settings, store.num_classes, {"train": train_set, "val": val_set, "test": test_set}
        ),
    )
    _check_forward(model, objective, train_set)
    with _open_folders(stage, layout) if is_rank_zero() else nullcontext():
        best_by = objective.best_metric
        if isinstance(progress, ProgressBar):
            progress.announce(stage.title, notes)
        checkpoints = Checkpoints(stage.folder, header, started, best_by)
        callbacks = [PlainSigterm(), SpeedMeter(), checkpoints, progress]
        if settings.evaluate_every:
            test_batches = create_loader(test_set, settings.batch_size, **loading)
            callbacks.insert(0, PeriodicEvaluation(test_batches, settings.evaluate_every))
        if settings.early_stop:
            metric, sign = best_by
            mode = "max" if sign > 0 else "min"
            patience = settings.early_stop
            callbacks.append(ResumableEarlyStopping(metric, mode=mode, patience=patience))
        trainer = _create_trainer(settings, layout, stage.folder, callbacks)
        fit(trainer, module, batches, val_batches if len(splits.val) else None, stage.resume_from)


def _check_enough_clips(splits: TrainingSplits, layout: ProcessLayout) -> None:
    """Check that every process gets clips, so that all of them log the same metrics."""
    sizes = [len(part) for part in (splits.train, splits.val) if len(part)]
    if min(sizes, default=layout.world_size) < layout.world_size:
        raise RecipeError(
            f"{layout.world_size} processes cannot share {len(splits.train)} training and "
            f"{len(splits.val)} held-out clips: use fewer (train.devices, train.nodes)"
        )


def _set_threads(settings: TrainConfig, layout: ProcessLayout) -> None:
    """Set CPU threads: those of the recipe, or an equal part of the cores for each process."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    elif layout.per_node > 1 and default_device().type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // layout.per_node))


def _class_weights(
    settings: TrainConfig, num_classes: int, datasets: dict[str, ClipDataset]
) -> dict[str, Tensor] | None:
    """Return the weight of each class in the loss of each split, None where all clips count."""
    if settings.class_weights is None:
        return None
    return {
        split: torch.from_numpy(balanced_class_weights(dataset.labels, num_classes))
        for split, dataset in datasets.items()
    }


def _check_forward(model: nn.Module, objective: Objective, clips: ClipDataset) -> None:
    """Compute the loss of one clip, so that an error occurs before any file is written."""
    model.eval()
    with torch.no_grad():
        objective.compute_loss(model, collate([clips[0, 0]]))
    model.train()


def _create_trainer(
    settings: TrainConfig, layout: ProcessLayout, folder: Path, callbacks: list[Callback]
) -> Trainer:
    options: dict[str, Any] = {
        "accelerator": "auto",
        "devices": settings.devices if isinstance(settings.devices, list) else layout.per_node,
        "num_nodes": layout.nodes,
        "strategy": DDPStrategy(**DDP_OPTIONS) if layout.world_size > 1 else "auto",
        "precision": settings.precision,
        "plugins": [ExternalClusterEnvironment(layout), ResumeCheckpointIO()],
    }
    if default_device().type == "npu":
        from kinegraph.training.npu import adapt_trainer_options

        options = adapt_trainer_options(options)
    with _quiet_lightning():
        return Trainer(
            **options,
            max_epochs=settings.epochs,
            gradient_clip_val=settings.clip_grad,
            accumulate_grad_batches=settings.accumulate,
            callbacks=callbacks,
            logger=TensorBoardLogger(folder, name="", version=TENSORBOARD_FOLDER),
            default_root_dir=folder,
            deterministic=True,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )


def fit(
    trainer: Trainer, module: LightningModule, batches: Any, val_batches: Any, resume: Path | None
) -> None:
    """Train a module, from a resume checkpoint if there is one.

    Raises:
        KeyboardInterrupt: training was interrupted; Lightning alone would exit the process.
    """
    if resume is not None:
        # Lightning sets the epoch only after loader processes were asked for the first batches
        batches.sampler.set_epoch(load_resume_checkpoint(resume)["epoch"] + 1)
    with _quiet_lightning():
        try:
            trainer.fit(module, batches, val_batches, ckpt_path=resume)
        except SystemExit as end:
            if end.code != 1:  # of Lightning after Ctrl-C; others are of SIGTERM
                raise
    if trainer.interrupted:
        raise KeyboardInterrupt


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Hide advice of Lightning on loader workers and hardware, and of DDP on memory layouts."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", module=r"torch\.utils\.tensorboard.*")
            warnings.filterwarnings("ignore", message="Grad strides do not match")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _open_folders(stage: StageRun, layout: ProcessLayout) -> Iterator[None]:
    """Create and lock the folders of a stage, with its recipe and environment."""
    environment = {
        "python": platform.python_version(),
        "system": platform.system(),
        "device": device_name(),
        "processes": layout.world_size,
        "threads": torch.get_num_threads(),
        **collect_versions(),
    }
    stage.folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(stage.run_folder):
        recipes = {stage.folder: stage.recipe, stage.run_folder: stage.run_recipe}
        for folder, recipe in recipes.items():
            atomic_write(folder / RECIPE_FILE, recipe.to_yaml())
            atomic_write(folder / "environment.json", json.dumps(environment, indent=1))
        yield


def _build_header(
    recipe: Recipe,
    store: ClipStore,
    classes: Sequence[str] | None,
    *,
    in_channels: int,
    splits: TrainingSplits,
) -> CheckpointHeader:
    provenance, pipeline = store.provenance, recipe.pipeline()
    header = CheckpointHeader(
        model=recipe.model_spec(),
        layout=pipeline.output_layout(store.layout).to_dict(),
        num_classes=max(1, store.num_classes if classes is None else len(classes)),
        in_channels=in_channels,
        classes=list(classes) if classes else None,
        persons=recipe.persons,
        confidence=recipe.confidence,
        stream=recipe.stream,
        transforms=pipeline.to_list(),
        reader={"name": provenance.get("reader"), "options": provenance.get("options", {})},
        recipe=recipe.model_dump(),
        training={
            "clips": len(splits.train),
            "held_out": len(splits.val),
            "unlabeled": splits.unlabeled,
            "store": recipe.store,
            "coordinates": store.num_channels,
        },
        versions=collect_versions(),
        objective=recipe.objective.model_dump(),
        fps=store.fps,
        space=store.space.to_dict(),
    )
    # The training's model is the second one made from the seed: with the first one, every seed
    # would give other weights than those of the published numbers.
    header.build_model()
    return header
