"""Class ids for images, in the precision and on the device that training would use."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch

from seglab.tasks.base import Task


class Predictor:
    """`predictor(image B C H W, size)` -> class ids B H W int32 (multilabel: B H W K) at (H, W) `size`."""

    def __init__(self, task: Task, precision: str | int | None, device: torch.device) -> None:
        self.task, self.device = task.to(device).eval(), device
        self.half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(str(precision))

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None)

    def __call__(self, image: torch.Tensor, size: Sequence[int]) -> np.ndarray:
        """Predict one batch as the task's own validation does."""
        with torch.inference_mode(), self._autocast():
            ids = self.task.decode(self.task.at_size(self.task(image.to(self.device)), size)).cpu()
        return (ids.permute(0, 2, 3, 1) if ids.ndim == 4 else ids).numpy().astype(np.int32)
