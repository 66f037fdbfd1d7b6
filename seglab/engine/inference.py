"""Class ids and objects for images, in the precision and on the device that training would use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from seglab.tasks.base import Task
from seglab.types import Instances


class Predictor:
    """`predictor(image B C H W, size)` -> class ids B H W int32 (multilabel: B H W K) at (H, W) `size`."""

    def __init__(self, task: Task, precision: str | int | None, device: torch.device) -> None:
        self.task, self.device = task.to(device).eval(), device
        self.half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(str(precision))

    def __call__(self, image: torch.Tensor, size: Sequence[int]) -> np.ndarray:
        """Predict one batch as the task's own validation does."""
        with self._answer(image, size) as output:
            return _ids(self.task.decode(output))

    def objects(self, image: torch.Tensor, size: Sequence[int]) -> tuple[np.ndarray, list[Instances], list[Instances]]:
        """The same, and for each image all objects found, and those that share its pixels; of a task that separates."""
        with self._answer(image, size) as output:
            decoded = self.task.decode(output)
            return (_ids(decoded), *self.task.objects(output, decoded))

    @contextmanager
    def _answer(self, image: torch.Tensor, size: Sequence[int]) -> Iterator[Any]:
        half = torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None)
        with torch.inference_mode(), half:
            yield self.task.at_size(self.task(image.to(self.device)), size)


def _ids(decoded: torch.Tensor) -> np.ndarray:
    ids = decoded.cpu()
    return (ids.permute(0, 2, 3, 1) if ids.ndim == 4 else ids).numpy().astype(np.int32)
