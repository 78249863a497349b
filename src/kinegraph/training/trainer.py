"""Lightning trainer of one stage: devices, precision, callbacks, logging."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from kinegraph.training.callbacks import ResumableEarlyStopping
from kinegraph.training.devices import default_device
from kinegraph.training.distributed import (
    DDP_OPTIONS,
    ExternalClusterEnvironment,
    ProcessLayout,
)
from kinegraph.training.recipe import TENSORBOARD_FOLDER, TrainConfig
from kinegraph.training.resume import ResumeCheckpointIO


def create_trainer(
    settings: TrainConfig,
    layout: ProcessLayout,
    folder: Path,
    callbacks: list[Callback],
    best_by: tuple[str, int],
) -> Trainer:
    """Create the trainer of a stage.

    Args:
        callbacks: callbacks; early stopping is added if the recipe asks for it.
        best_by: the metric that early stopping monitors, and 1 (higher is better) or -1.
    """
    if settings.early_stop:
        metric, sign = best_by
        mode = "max" if sign > 0 else "min"
        stopping = ResumableEarlyStopping(metric, mode=mode, patience=settings.early_stop)
        callbacks = [*callbacks, stopping]
    options: dict[str, Any] = {
        "accelerator": "auto",
        "devices": layout.per_node,
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
    with _quiet_lightning():
        try:
            trainer.fit(module, batches, val_batches, ckpt_path=resume)
        except SystemExit:
            if not trainer.interrupted:
                raise
    if trainer.interrupted:
        raise KeyboardInterrupt


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Hide Lightning's advice on loader workers and hardware."""
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
