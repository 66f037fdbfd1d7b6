"""The true objects of a batch in the form that metrics and pictures take."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from seglab import rle
from seglab.types import Instances


def truth(batch: dict[str, Tensor]) -> list[Instances]:
    """The objects of each image from its maps of ids; those that no pixel shows are left out."""
    maps, labels, crowd = (batch[key].cpu().numpy() for key in ("instances", "labels", "crowd"))
    return [_of(layers.transpose(1, 2, 0), *one) for layers, *one in zip(maps, labels, crowd, strict=True)]


def _of(ids: np.ndarray, labels: np.ndarray, crowd: np.ndarray) -> Instances:
    shown = np.unique(ids)
    shown = shown[shown > 0]
    return rle.instances(rle.encode_ids(ids, shown.tolist()), ids.shape[:2], labels[shown - 1], crowd=crowd[shown - 1])
