"""ledger.csv: what each epoch of training showed of each class, and the sum of it all for results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from seglab import results
from seglab.tasks.base import Task
from seglab.types import SEEN

FILE = "ledger.csv"


class LedgerCsv(Callback):
    """One line for each epoch and class; its state goes into the checkpoints, so that a resumed run knows all epochs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.epochs: list[int] = []
        self.samples: list[int] = []
        self.counts: list[Tensor] = []  # (4, K) for each of them

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {"epochs": list(self.epochs), "samples": list(self.samples), "counts": list(self.counts)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        self.epochs, self.samples, self.counts = (list(state_dict[key]) for key in ("epochs", "samples", "counts"))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Task) -> None:  # type: ignore[override]  # noqa: D102
        samples, counts = pl_module.ledger.compute()
        self.epochs.append(trainer.current_epoch)
        self.samples.append(int(samples))
        self.counts.append(counts.cpu().clone())
        if trainer.is_global_zero:
            self._write(pl_module)

    def _write(self, task: Task) -> None:
        told = [self._told(task, name) for name in SEEN]
        rows = (
            [epoch, samples, name, *(count if known else "" for count, known in zip(column, told, strict=True))]
            for epoch, samples, counts in zip(self.epochs, self.samples, self.counts, strict=True)
            for name, column in zip(task.spec.classes, counts.T.tolist(), strict=True)
        )
        results.write_table(self.path, ["epoch", "samples", "class", *SEEN], rows)

    def _told(self, task: Task, name: str) -> bool:
        """Whether there is such a count: objects only where batches have them."""
        return name != "objects" or task.separates

    def totals(self, task: Task) -> dict[str, Any] | None:
        """Epochs, samples, and for each class the sums over all epochs; None where they are not of the whole run.

        No epoch has ended, or the run began before there were ledgers.
        """
        if not self.epochs or self.epochs[0] != 0:
            return None
        sums = torch.stack(self.counts).sum(0).T.tolist()
        rows = {
            name: {key: value for key, value in zip(SEEN, row, strict=True) if self._told(task, key)}
            for name, row in zip(task.spec.classes, sums, strict=True)
        }
        return {"epochs": len(self.epochs), "samples": sum(self.samples), "per_class": rows}
