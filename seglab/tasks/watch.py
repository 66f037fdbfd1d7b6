"""Stops a run whose loss is no longer a number, without making the device wait."""

from __future__ import annotations

import math

import torch

from seglab.errors import TrainingError


class FiniteWatch:
    """Reads each loss on the CPU at once; on CUDA one step late, from pinned memory, while the device is busy.

    `look` and `settle` raise TrainingError with the positions of the batch's images. Weights that a bad step may have
    touched are never saved, because `settle` is called before every checkpoint and validation.
    """

    def __init__(self) -> None:
        self._pending: tuple[torch.Tensor, torch.Tensor, torch.cuda.Event, int] | None = None

    def look(self, loss: torch.Tensor, index: torch.Tensor, step: int) -> None:
        """Check this loss (CPU) or the one before it (CUDA)."""
        self.settle()
        if loss.is_cuda:
            copy = torch.empty((), dtype=torch.float32, pin_memory=True)
            copy.copy_(loss.detach(), non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            self._pending = (copy, index, event, step)
        elif not math.isfinite(loss.item()):
            raise NotFiniteError(loss.item(), index.tolist(), step)

    def settle(self) -> None:
        """Check what is still pending."""
        if self._pending is None:
            return
        copy, index, event, step = self._pending
        self._pending = None
        event.synchronize()
        if not math.isfinite(copy.item()):
            raise NotFiniteError(copy.item(), index.tolist(), step)


class NotFiniteError(TrainingError):
    """The loss was NaN or infinite; `index` holds the positions of the batch's images in the training split."""

    def __init__(self, value: float, index: list[int], step: int) -> None:
        super().__init__(f"The loss is {value} at step {step} (images {index}).")
        self.value, self.index, self.step = value, index, step
