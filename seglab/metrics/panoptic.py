"""Panoptic quality of a map of classes, for data whose objects are not told apart (definition: objects.py)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from seglab.metrics.confusion import Confusion
from seglab.metrics.objects import stuff_pq
from seglab.types import Spec


class Panoptic(Confusion):
    """PQ, SQ and RQ where all pixels of a class in an image are one segment; of each image once, so by `per_image` only."""

    names = ("pq", "sq", "rq")  # type: ignore[assignment]  # fewer than Confusion's

    def __init__(self, spec: Spec, per_image: bool = True, sync_on_compute: bool = True) -> None:
        if not per_image:
            raise ValueError("Panoptic compares the regions of each image; it needs per_image=True.")
        super().__init__(spec, per_image=True, sync_on_compute=sync_on_compute)

    def compute(self) -> dict[str, Tensor]:
        """The means over the scored classes, 0-d float64 on the CPU; NaN where none has a score."""
        super().compute()
        self._qualities = stuff_pq(self._image_counts(), self.spec.scored)
        finite = {name: values[np.isfinite(values)] for name, values in self._qualities.items()}
        means = {name: values.mean() if values.size else float("nan") for name, values in finite.items()}
        return {name: torch.tensor(means[name], dtype=torch.float64) for name in self.names}

    def per_class(self) -> dict[str, dict[str, float]]:
        """pq, sq, rq of each scored class by name. Calls `compute` where that is due, as Confusion's does."""
        self.compute()
        return {self.spec.classes[k]: {n: float(v[k]) for n, v in self._qualities.items()} for k in self.spec.scored}
