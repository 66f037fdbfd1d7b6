"""What an exact resume needs beyond Lightning's own checkpoint: random states, running sums, gradients, the position.

Lightning restarts right from two places only, if its counters say so unmistakably: between two training batches, and
before a validation. `mark` writes the counters of the one that is meant; `Keep` saves at no other place.
"""

from __future__ import annotations

import random
from typing import Any, Literal, cast

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from seglab.tasks.base import Task

Point = Literal["batch", "validation", "end"]  # what comes next: a training batch, a validation, nothing
State = dict[str, Any]


def capture(trainer: pl.Trainer, task: Task) -> State:
    """This process's random states, the sums behind the epoch's training loss and ledger, gradients that wait for more
    batches, and in a further process its own batch-norm statistics.
    """
    name, keys, *rest = cast(tuple[str, np.ndarray, int, int, float], np.random.get_state())
    cuda = torch.cuda.get_rng_state(task.device) if task.device.type == "cuda" else None
    return {
        "python": random.getstate(),
        "numpy": [name, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "sums": _sums(task.means("train")),
        "ledger": _sums(task.ledger),
        "gradients": _gradients(task) if trainer.accumulate_grad_batches > 1 else {},
        # The checkpoint holds those of the first process, and DDP evens them out only when gradients are.
        "buffers": {name: value.cpu().clone() for name, value in task.network.named_buffers()} if trainer.global_rank else {},
    }


def _sums(metric: Metric) -> dict[str, Tensor]:
    return {key: value.cpu().clone() for key, value in metric.metric_state.items() if isinstance(value, Tensor)}


def _gradients(task: Task) -> dict[str, Tensor]:
    return {name: p.grad.detach().cpu() for name, p in task.named_parameters() if p.grad is not None}


def restore(state: State, task: Task, point: Point) -> None:
    """Put a captured state back, just before the step that follows it."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and task.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], task.device)
    if point == "end":  # the next epoch begins with sums of its own
        return
    for metric, sums in ((task.means("train"), state["sums"]), (task.ledger, state.get("ledger", {}))):  # older runs have none
        for key, value in sums.items():
            setattr(metric, key, value.to(task.device))
    for name, value in task.network.named_buffers():
        if name in state["buffers"]:
            value.copy_(state["buffers"][name])
    parameters = dict(task.named_parameters())
    for name, gradient in state["gradients"].items():
        parameters[name].grad = gradient.to(task.device)


def position(trainer: pl.Trainer, point: Point) -> tuple[int, int]:
    """(epoch, batches of it that are done) at the point."""
    if point == "end":
        return trainer.current_epoch, 0
    ready = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return trainer.current_epoch, ready - 1 if point == "batch" else ready


def mark(loops: State, point: Point) -> None:
    """Write into a checkpoint's `loops` that the run stands at `point`, in the form from which Lightning restarts right."""
    fit = loops["fit_loop"]
    if point == "batch":  # the batch that was about to begin counts as not begun
        progress = fit["epoch_loop.batch_progress"]
        for counters in (progress["total"], progress["current"]):
            counters.update(dict.fromkeys(counters, counters["ready"] - 1))
        progress["is_last_batch"] = False
    elif point == "validation":  # begun, and none of its batches done
        progress = fit["epoch_loop.val_loop.batch_progress"]
        for counters in (progress["total"], progress["current"]):
            counters.update(ready=1, started=1, processed=0, completed=0)


def settle(trainer: pl.Trainer, stepped: int) -> None:
    """Undo what Lightning does only because it restarts: its logging step, and no plateau schedule in this epoch."""
    trainer.fit_loop._restarting = False
    trainer.fit_loop.epoch_loop._batches_that_stepped = stepped
    trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.reset_on_restart()  # what `mark` wrote for Lightning to see
