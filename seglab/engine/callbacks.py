"""What happens beside the training loop: metrics.csv, speed, the configuration inside each checkpoint.

What they gather is their state, which goes into the checkpoints: a resumed run knows all of the run so far.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from seglab import results
from seglab.tasks.base import Task


class MetricsCsv(Callback):
    """metrics.csv: one row an epoch with everything that was logged; rewritten whole, so never half a row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.latest: dict[str, float] = {}  # of this epoch's validation

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {"rows": list(self.rows), "latest": dict(self.latest)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        self.rows, self.latest = list(state_dict["rows"]), dict(state_dict["latest"])

    def on_train_epoch_start(self, *_: Any) -> None:  # noqa: D102
        self.latest = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Task) -> None:  # type: ignore[override]  # noqa: D102
        if not trainer.sanity_checking:
            self.latest = {**pl_module.scores["val"], **pl_module.class_scores["val"]}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Task) -> None:  # type: ignore[override]  # noqa: D102
        row: dict[str, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": learning_rate(trainer)}
        self.rows.append(row | {k: v.item() for k, v in pl_module.train_means().items()} | self.latest)
        if trainer.is_global_zero:
            self._write()

    def _write(self) -> None:
        columns = list(dict.fromkeys(k for row in self.rows for k in row))
        with results.replacing(self.path) as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)


class Speed(Callback):
    """Images per second in training and validation, and the share of training time spent waiting for data.

    The first steps of the run and the first batch of each loop are left out: they start workers and choose kernels.
    """

    WARM_UP = 3

    def __init__(self) -> None:
        self.images = {"train": 0, "val": 0}
        self.seconds = {"train": 0.0, "val": 0.0}
        self.waited = 0.0
        self.first_step: float | None = None
        self._start = self._last = 0.0
        self._steps = 0

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {
            "images": dict(self.images),
            "seconds": dict(self.seconds),
            "waited": self.waited,
            "first_step": self.first_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        self.images, self.seconds = dict(state_dict["images"]), dict(state_dict["seconds"])
        self.waited, self.first_step = state_dict["waited"], state_dict["first_step"]

    def on_fit_start(self, *_: Any) -> None:  # noqa: D102
        self._start = time.perf_counter()

    def on_train_epoch_start(self, *_: Any) -> None:  # noqa: D102
        self._last = 0.0

    def on_train_batch_start(self, *_: Any) -> None:  # noqa: D102
        if self._last:
            self.waited += time.perf_counter() - self._last

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: D102
        self._steps += 1
        if self.first_step is None:
            _wait(module)
            self.first_step = time.perf_counter() - self._start
        if self._steps > self.WARM_UP:
            if trainer.is_last_batch:
                _wait(module)
            self._count("train", len(batch["image"]) * trainer.world_size)
        self._last = time.perf_counter() if self._steps >= self.WARM_UP else 0.0

    def on_validation_epoch_start(self, *_: Any) -> None:  # noqa: D102
        self._last = 0.0

    def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any) -> None:  # noqa: D102
        if trainer.sanity_checking:
            return
        _wait(module)
        self._count("val", len(batch["image"]) * trainer.world_size)
        self._last = time.perf_counter()

    def _count(self, phase: str, images: int) -> None:
        if self._last:
            self.images[phase] += images
            self.seconds[phase] += time.perf_counter() - self._last

    def numbers(self) -> dict[str, float | None]:
        """train_images_per_s, val_images_per_s, first_step_s, data_wait_share; None where too little was run."""
        rate = {p: self.images[p] / self.seconds[p] if self.seconds[p] else None for p in ("train", "val")}
        share = self.waited / self.seconds["train"] if self.seconds["train"] else None
        return {
            "train_images_per_s": rate["train"], "val_images_per_s": rate["val"],
            "first_step_s": self.first_step, "data_wait_share": share,
        }  # fmt: skip


def _wait(module: pl.LightningModule) -> None:
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)


def learning_rate(trainer: pl.Trainer) -> float:
    """The rate of the last parameter group: the decoder's, where the encoder has one of its own."""
    return trainer.optimizers[0].param_groups[-1]["lr"]


class Stamp(Callback):
    """Puts `seglab`, plain data about the run, into every checkpoint."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: D102
        checkpoint["seglab"] = self.content
