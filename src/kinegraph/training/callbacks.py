"""What happens beside the fitting: history, checkpoints, and a bar that shows how far it is."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping

from kinegraph.training.checkpoint import BEST_FILE, LAST_FILE, CheckpointHeader, save_checkpoint
from kinegraph.training.history import append_history
from kinegraph.training.resume import RESUME_FILE

Progress = Callback


class HistoryWriter(Callback):
    """One row of history.csv an epoch."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.started = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row; rows of epochs that a resumed run repeats are dropped."""
        if not trainer.is_global_zero:
            return
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        row = {
            "epoch": trainer.current_epoch,
            **metrics,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(time.monotonic() - self.started, 3),
        }
        append_history(self.out, row)


class Checkpoints(Callback):
    """Writes last.safetensors and resume.ckpt each epoch, best.safetensors when it improves."""

    def __init__(
        self, out: Path, header: CheckpointHeader, started: float, best_by: tuple[str, int]
    ) -> None:
        self.out = out
        self.header = header
        self.started = started
        self.figure, self.sign = best_by
        self.best = -math.inf
        self.seconds_before = 0.0
        self.finished = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after each epoch."""
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        facts = {"epoch": trainer.current_epoch, "metrics": metrics, "seconds": self._seconds()}
        training = {**self.header.training, **facts}
        header = dataclasses.replace(self.header, training=training)
        state = pl_module.eval_model.state_dict()
        reached = self.sign * metrics.get(self.figure, math.nan)
        names = [BEST_FILE, LAST_FILE] if reached > self.best else [LAST_FILE]
        if BEST_FILE in names:
            self.best = reached
        if trainer.is_global_zero:
            for name in names:
                save_checkpoint(self.out / name, state, header)
        last = trainer.current_epoch + 1 == trainer.max_epochs
        self.finished = last or trainer.should_stop
        trainer.save_checkpoint(self.out / RESUME_FILE)  # by ResumeFiles, in the first process

    def _seconds(self) -> float:
        return round(self.seconds_before + time.monotonic() - self.started, 1)

    def state_dict(self) -> dict[str, Any]:
        """Goes into resume.ckpt."""
        return {"best": self.best, "seconds": self._seconds(), "finished": self.finished}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Comes from resume.ckpt."""
        self.best = state_dict["best"]
        self.seconds_before = state_dict["seconds"]


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping that a resumed run takes up where it was."""

    def __init__(self, figure: str, *, mode: str, patience: int) -> None:
        # right after the validation: at the epoch's end resume.ckpt would be written before it
        super().__init__(figure, mode=mode, patience=patience, check_on_train_epoch_end=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning forgets that it had stopped, and would train an epoch more."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class ProgressBar(Callback):
    """One line an epoch, and a bar with loss, accuracy, clips/s and time left below them."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %  {task.description}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.clips = 0
        self.epoch_started = self.shown = 0.0
        self.waiting = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar."""
        steps = int(trainer.num_training_batches)
        first = trainer.current_epoch * steps
        self.task = self.bar.add_task("", total=(trainer.max_epochs or 1) * steps, completed=first)
        self.bar.start()

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Start counting clips."""
        self.clips, self.epoch_started = 0, time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        """Move on."""
        self.clips += len(batch.labels) * trainer.world_size
        self.waiting += 1
        if self.bar.disable or time.monotonic() - self.shown < 0.5:
            return  # to read the loss, a GPU has to come to a halt
        text = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  "
        text += f"loss {float(outputs['loss']):.3f}  {self._rate()}"
        self.bar.update(self.task, advance=self.waiting, description=text)
        self.shown, self.waiting = time.monotonic(), 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's line."""
        figures = {key: float(value) for key, value in trainer.callback_metrics.items()}
        line = f"epoch {trainer.current_epoch + 1:3d}/{trainer.max_epochs}"
        line += _told(figures, "train_")
        if "val_loss" in figures:
            line += f"  held out:{_told(figures, 'val_')}"
        self.bar.console.print(f"{line}  {self._rate()}", highlight=False, soft_wrap=True)

    def _rate(self) -> str:
        return f"{self.clips / max(time.monotonic() - self.epoch_started, 1e-6):.0f} clips/s"

    def on_train_end(self, *_: Any) -> None:
        """Put the bar away."""
        self.bar.stop()

    def on_exception(self, *_: Any) -> None:
        """Put the bar away."""
        self.bar.stop()


def _told(figures: dict[str, float], split: str) -> str:
    """The figures of a split, loss first."""
    own = {key.removeprefix(split): v for key, v in figures.items() if key.startswith(split)}
    names = sorted(own, key=lambda name: (name != "loss", name != "accuracy", name))
    return "".join(f"  {name.replace('_', ' ')} {own[name]:.3f}" for name in names)
