"""Lightning callbacks: history, checkpoints, early stopping, progress bar, signals."""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping

from kinegraph.training.batch import Batch
from kinegraph.training.checkpoint import BEST_FILE, LAST_FILE, CheckpointHeader, save_checkpoint
from kinegraph.training.history import append_history
from kinegraph.training.resume import RESUME_FILE

#: Seconds between two updates of the progress bar; to read the loss, a GPU has to synchronize.
REFRESH_INTERVAL_S = 0.5
#: Seconds between two lines within an epoch where there is no terminal for the progress bar.
LOG_INTERVAL_S = 60.0


class PeriodicEvaluation(Callback):
    """Evaluates the test split every few epochs and after the last one; it selects nothing.

    Args:
        batches: the batches of this process.
        every: number of epochs from one evaluation to the next.
    """

    def __init__(self, batches: Iterable[Batch], every: int) -> None:
        self.batches = batches
        self.every = every

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the split, and log its metrics for the callbacks that follow."""
        epochs = trainer.current_epoch + 1
        if epochs % self.every == 0 or epochs == trainer.max_epochs or trainer.should_stop:
            pl_module.evaluate_split("test", self.batches)  # type: ignore[operator]
            return
        # Lightning keeps the metrics of the last evaluation, which are not those of this epoch
        for name in [name for name in trainer.callback_metrics if name.startswith("test_")]:
            del trainer.callback_metrics[name]


class PlainSigterm(Callback):
    """Keeps the handler of SIGTERM that was there before the training.

    Lightning's handler broadcasts a tensor to the other processes, which do not expect one within a
    step, so that all of them wait forever.
    """

    def on_fit_start(self, *_: Any) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, *_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


class SpeedMeter(Callback):
    """Measures the clips per second of the training, without validation, in every epoch."""

    def __init__(self) -> None:
        self.clips = 0
        self.started = time.monotonic()
        self.trained_at: float | None = None

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self.clips, self.started, self.trained_at = 0, time.monotonic(), None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        self.clips += len(batch.labels) * trainer.world_size

    def on_validation_start(self, *_: Any) -> None:
        self.trained_at = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the speed for the callbacks that follow."""
        trained_seconds = (self.trained_at or time.monotonic()) - self.started
        rate = round(self.clips / max(trained_seconds, 1e-6), 1)
        pl_module.log("clips_per_second", rate, on_step=False, on_epoch=True, batch_size=1)


class Checkpoints(Callback):
    """Writes a row of history.csv and the checkpoints every epoch.

    Of equally good epochs the later one is the best: it has learned more.

    Args:
        started: time (`time.monotonic`) at which the training was started.
        best_by: the metric that selects the best epoch, and 1 (higher is better) or -1.
    """

    def __init__(
        self, out: Path, header: CheckpointHeader, started: float, best_by: tuple[str, int]
    ) -> None:
        self.out = out
        self.header = header
        self.started = started
        self.metric, self.sign = best_by
        self.best = -math.inf
        self.seconds_before = 0.0
        self.finished = False

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self.epoch_started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files of the epoch."""
        epoch, metrics = trainer.current_epoch, _metrics(trainer)
        seconds = round(time.monotonic() - self.epoch_started, 3)
        facts = {"epoch": epoch, "metrics": metrics, "seconds": self._seconds()}
        training = {**self.header.training, **facts}
        header = dataclasses.replace(self.header, training=training)
        state = pl_module.eval_model.state_dict()
        value = self.sign * metrics.get(self.metric, math.nan)
        names = [BEST_FILE, LAST_FILE] if value >= self.best else [LAST_FILE]
        if BEST_FILE in names:
            self.best = value
        if trainer.is_global_zero:
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            append_history(self.out, {"epoch": epoch, **metrics, "lr": lr, "seconds": seconds})
            for name in names:
                save_checkpoint(self.out / name, state, header)
        is_last = epoch + 1 == trainer.max_epochs
        self.finished = is_last or trainer.should_stop
        trainer.save_checkpoint(self.out / RESUME_FILE)  # by ResumeCheckpointIO, in rank 0

    def _seconds(self) -> float:
        return round(self.seconds_before + time.monotonic() - self.started, 1)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "seconds": self._seconds(), "finished": self.finished}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
        self.seconds_before = state_dict["seconds"]


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping whose patience counter survives a resume."""

    def __init__(self, metric: str, *, mode: str, patience: int) -> None:
        # check after validation: resume.ckpt is written before a check at the epoch's end
        super().__init__(metric, mode=mode, patience=patience, check_on_train_epoch_end=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop again if training had stopped; Lightning would train one more epoch."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class ProgressBar(Callback):
    """Prints one line per epoch, and a bar with loss, clips/s and remaining time.

    Without a terminal there is no bar, but a line every `LOG_INTERVAL_S` within a long epoch.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.fields[title]}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %  {task.description}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.title = ""
        self.clips = 0
        self.epoch_started = self.refreshed = 0.0
        self.new_steps = 0

    def announce(self, title: str, notes: Sequence[str]) -> None:
        """Set what the next training is for, and print a line for each note."""
        self.title = title
        for note in notes:
            self._print(note)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        steps = int(trainer.num_training_batches)
        first = trainer.current_epoch * steps
        total = (trainer.max_epochs or 1) * steps
        for finished in self.bar.task_ids:
            self.bar.remove_task(finished)
        title = self.title or "training"
        self.task = self.bar.add_task("", total=total, completed=first, title=title)
        if self.title:
            self._print(f"{title}: {trainer.max_epochs} epochs of {steps} steps")
        self.bar.start()

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self.clips, self.epoch_started = 0, time.monotonic()
        if self.bar.disable:
            self.refreshed = self.epoch_started

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, number: int
    ) -> None:
        """Count the batch, and update the bar or print a line if it is due."""
        self.clips += len(batch.labels) * trainer.world_size
        self.new_steps += 1
        interval = LOG_INTERVAL_S if self.bar.disable else REFRESH_INTERVAL_S
        if time.monotonic() - self.refreshed < interval:
            return
        text = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  "
        text += f"loss {float(outputs['loss']):.3f}  {self._rate()}"
        if self.bar.disable:
            self._print(f"{text}  {(number + 1) / trainer.num_training_batches:.0%} of the epoch")
        else:
            self.bar.update(self.task, advance=self.new_steps, description=text)
        self.refreshed, self.new_steps = time.monotonic(), 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the epoch."""
        metrics = _metrics(trainer)
        line = f"epoch {trainer.current_epoch + 1:3d}/{trainer.max_epochs}"
        line += _format_split_metrics(metrics, "train_")
        if "val_loss" in metrics:
            line += f"  validation:{_format_split_metrics(metrics, 'val_')}"
        if "test_loss" in metrics:
            line += f"  test:{_format_split_metrics(metrics, 'test_')}"
        self._print(f"{line}  {metrics['clips_per_second']:.0f} clips/s")

    def _print(self, line: str) -> None:
        self.bar.console.print(line, highlight=False, soft_wrap=True)

    def _rate(self) -> str:
        return f"{self.clips / max(time.monotonic() - self.epoch_started, 1e-6):.0f} clips/s"

    def on_train_end(self, *_: Any) -> None:
        self.bar.stop()

    on_exception = on_train_end


def _metrics(trainer: Trainer) -> dict[str, float]:
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


def _format_split_metrics(metrics: dict[str, float], prefix: str) -> str:
    """Return the metrics of a split, the loss first."""
    own = {key.removeprefix(prefix): v for key, v in metrics.items() if key.startswith(prefix)}
    own.pop("loss_std", None)
    names = sorted(own, key=lambda name: (name != "loss", name != "accuracy", name))
    return "".join(f"  {name.replace('_', ' ')} {own[name]:.3f}" for name in names)
