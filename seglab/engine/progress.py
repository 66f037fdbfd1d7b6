"""Progress: one live line in a terminal, one printed line an epoch where there is none."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 0.5  # seconds between two looks at the loss, each of which makes a CUDA device wait


class Bar(Callback):
    """Epoch, batches, loss, monitor, images per second and the time that is left."""

    def __init__(self, out: Console, monitor: str, higher: bool) -> None:
        self.out, self.monitor, self.higher = out, monitor, higher
        self.live: Progress | None = None
        self.best: float | None = None
        self._looked = self._since = self._began = 0.0
        self._seen, self._fresh = 0, False

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        self.best = state_dict["best"]

    def on_fit_start(self, trainer: pl.Trainer, module: Any) -> None:  # noqa: D102
        self._open(trainer, "training")

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:  # noqa: D102
        total = int(trainer.num_training_batches) * (trainer.max_epochs or 1)
        self._update(total=total if trainer.max_epochs and trainer.max_epochs > 0 else None)
        self._since = self._began = time.perf_counter()
        self._seen = 0

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: D102
        self._seen += len(batch["image"]) * trainer.world_size
        if self.live is None or time.perf_counter() - self._looked < EVERY:
            return
        now = time.perf_counter()
        rate = self._seen / max(now - self._since, 1e-9)
        text = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  loss {outputs['loss'].item():.3f}{self._best_text()}"
        done = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx + 1
        self._update(completed=done, text=text, rate=f"{rate:.0f} images/s")
        self._looked = now

    def on_train_epoch_start(self, *_: Any) -> None:  # noqa: D102
        self._began, self._fresh = time.perf_counter(), False

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:  # noqa: D102
        value = trainer.callback_metrics.get(self.monitor)
        score = float(value) if value is not None and self._fresh else None
        if score is not None and (self.best is None or (score > self.best if self.higher else score < self.best)):
            self.best = score
        self._since, self._seen = time.perf_counter(), 0
        if self.live is None:
            loss = float(module.train_means()["train/loss"])
            shown = "" if score is None else f"  {self.monitor} {score:.4f}{self._best_text()}"
            epoch = f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}"
            self.out.print(f"{epoch}  {time.perf_counter() - self._began:4.0f} s  train/loss {loss:.4f}{shown}", markup=False)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: D102
        if self.live and not trainer.sanity_checking and trainer.state.fn == "validate":
            self.live.advance(self._task)
        elif self.live and not trainer.sanity_checking:
            self._update(rate="validating")

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: D102
        self._fresh = not trainer.sanity_checking
        # The time of a validation is not training time.
        self._since, self._seen = time.perf_counter(), 0
        if trainer.state.fn == "validate":
            self._close()

    def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: D102
        if trainer.state.fn == "validate":
            self._open(trainer, "scoring val", sum(int(n) for n in trainer.num_val_batches))

    def on_test_start(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: D102
        self._open(trainer, "scoring test", sum(int(n) for n in trainer.num_test_batches))

    def on_test_batch_end(self, *_: Any) -> None:  # noqa: D102
        if self.live:
            self.live.advance(self._task)

    def on_test_end(self, *_: Any) -> None:  # noqa: D102
        self._close()

    def on_fit_end(self, *_: Any) -> None:  # noqa: D102
        self._close()

    def on_exception(self, *_: Any) -> None:  # noqa: D102
        self._close()

    def _best_text(self) -> str:
        return "" if self.best is None else f"  best {self.monitor} {self.best:.4f}"

    def _open(self, trainer: pl.Trainer, text: str, total: int | None = None) -> None:
        self._close()
        if not (self.out.is_terminal and trainer.is_global_zero):
            return
        plain = [TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("text", "rate")]
        columns = (plain[0], BarColumn(), plain[1], TimeRemainingColumn())
        self.live = Progress(*columns, console=self.out, transient=True)
        self._task = self.live.add_task("", total=total, text=text, rate="")
        self.live.start()

    def _update(self, **changes: Any) -> None:
        if self.live:
            self.live.update(self._task, **changes)

    def _close(self) -> None:
        if self.live:
            self.live.stop()
            self.live = None
