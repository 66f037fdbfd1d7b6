"""Keep: last.ckpt, from which a run goes on bit for bit; written by epoch, by steps, by the clock, and on a signal."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, WeightAveraging

from seglab.engine import exact
from seglab.engine.exact import Point
from seglab.engine.signals import Interrupts
from seglab.tasks.base import Task


class Keep(Callback):
    """Saves before a training batch, before or within a validation, and when training has ended.

    It comes before the callbacks that change anything: "before a batch" is then after all that belongs to the one before.
    `keep` holds every_steps and every_minutes (None = never), `seconds` tells how long all sessions of the run took.
    """

    def __init__(self, path: Path, interrupts: Interrupts, keep: dict[str, Any], seconds: Callable[[], float]) -> None:
        self.path, self.interrupts, self.seconds = path, interrupts, seconds
        self.every_steps, self.every_minutes = keep.get("every_steps"), keep.get("every_minutes")
        self._saved_step, self._saved_at, self._saved_epoch = 0, time.monotonic(), 0
        self._point: Point | None = None  # set while a state is saved from which a run can go on
        self._loaded: dict[str, Any] | None = None
        self._group: Any = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        if trainer.world_size > 1:  # a group of its own on the CPU: asking the others must not make a GPU wait
            self._group = dist.new_group(backend="gloo")
        if self._loaded and self._loaded["point"] == "end" and not self._loaded["more"]:
            trainer.should_stop = True  # the run had ended, perhaps early

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        self._saved_step, self._saved_at, self._saved_epoch = trainer.global_step, time.monotonic(), trainer.current_epoch

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: D102
        self._resume(trainer, pl_module)
        stop, due = self._decide(trainer, trainer.current_epoch > self._saved_epoch or self._due(trainer))
        if stop or due:
            self._save(trainer, pl_module, "batch")
        if stop:
            self._leave(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:  # noqa: D102
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._resume(trainer, pl_module)
        stop, due = self._decide(trainer, self._due(trainer))
        if stop or due:
            self._save(trainer, pl_module, "validation")
        if stop:
            self._leave(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:  # noqa: D102
        if not self._decide(trainer, False)[0]:
            return
        if trainer.state.fn != "fit" or trainer.sanity_checking:  # nothing to save
            raise self.interrupts.stopped()
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):  # within a validation the averaged weights sit in the module
                callback.on_validation_epoch_end(trainer, pl_module)
        self._save(trainer, pl_module, "validation")
        self._leave(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:  # noqa: D102
        self._save(trainer, pl_module, "end")
        if self._decide(trainer, False)[0]:
            self._leave(trainer)

    def on_test_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: D102
        if self._decide(trainer, False)[0]:
            raise self.interrupts.stopped()

    def _due(self, trainer: pl.Trainer) -> bool:
        steps, minutes = trainer.global_step - self._saved_step, (time.monotonic() - self._saved_at) / 60
        by_steps = self.every_steps is not None and steps >= self.every_steps
        return by_steps or (self.every_minutes is not None and minutes >= self.every_minutes)

    def _decide(self, trainer: pl.Trainer, due: bool) -> tuple[bool, bool]:
        """(leave, save): what any of the processes wants, so that all do it at the same step."""
        wishes = (self.interrupts.asked is not None, due)
        if self._group is None:
            return wishes
        votes = torch.tensor(wishes, dtype=torch.uint8)
        dist.all_reduce(votes, dist.ReduceOp.MAX, group=self._group)
        return bool(votes[0]), bool(votes[1])

    def _save(self, trainer: Any, task: Task, point: Point) -> None:
        if trainer.fast_dev_run:
            return
        task.watch.settle()  # weights that a bad step has touched are not saved
        self._point = point
        try:
            trainer.save_checkpoint(self.path)
        finally:
            self._point = None
        self.interrupts.resumable = True
        self._saved_step, self._saved_at, self._saved_epoch = trainer.global_step, time.monotonic(), trainer.current_epoch

    def _leave(self, trainer: pl.Trainer) -> None:
        raise self.interrupts.stopped(f" at epoch {trainer.current_epoch + 1}, step {trainer.global_step}")

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:  # noqa: D102
        if self._point is None:  # best.ckpt, which is for its weights
            return
        exact.mark(checkpoint["loops"], self._point)
        own = exact.capture(trainer, pl_module)
        ranks: list[Any] | None = [own]
        if self._group is not None:
            ranks = [None] * trainer.world_size if trainer.is_global_zero else None
            dist.gather_object(own, ranks, dst=0, group=self._group)
        checkpoint["exact"] = {
            "point": self._point, "position": list(exact.position(trainer, self._point)), "ranks": ranks,
            "stepped": trainer.fit_loop.epoch_loop._batches_that_stepped, "seconds": self.seconds(),
            "max_epochs": trainer.max_epochs,
        }  # fmt: skip

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:  # noqa: D102
        found = checkpoint["exact"]
        self._loaded = {**found, "more": (trainer.max_epochs or 0) > (found["max_epochs"] or 0)}

    def _resume(self, trainer: pl.Trainer, task: Task) -> None:
        """Once, before the first step after a restart: everything is as it was when the state was saved."""
        if self._loaded is None:
            return
        state, self._loaded = self._loaded, None
        exact.settle(trainer, state["stepped"])
        exact.restore(state["ranks"][trainer.global_rank], task, state["point"])


class Best(ModelCheckpoint):
    """best.ckpt by `monitor`; its memory of the best score survives a run folder that was moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        old, new = str(state_dict["dirpath"]), str(self.dirpath)
        moved = {k: v.replace(old, new, 1) if isinstance(v, str) else v for k, v in state_dict.items()}
        moved["best_k_models"] = {k.replace(old, new, 1): v for k, v in state_dict["best_k_models"].items()}
        super().load_state_dict(moved)
        self.current_score = state_dict["current_score"]  # Lightning forgets it: a run that was ended after its last validation
