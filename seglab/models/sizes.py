"""Sizes: grow an image to what a network takes; its logits are cropped back."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def grown(size: int, multiple: int, smallest: int = 1) -> int:
    """The least multiple of `multiple` that is at least `size` and `smallest`, in pixels."""
    return -(-max(size, smallest) // multiple) * multiple


def pad(image: Tensor, multiple: int, smallest: int = 1) -> Tensor:
    """Grow B C H W at the right and the bottom to `grown` sizes by mirroring; the same tensor where it fits already.

    The top left corner stays, so a network's output cropped to [..., :H, :W] lies on the input's pixels.
    """
    height, width = image.shape[-2:]
    image = _mirror(image, grown(width, multiple, smallest), vertical=False)
    return _mirror(image, grown(height, multiple, smallest), vertical=True)


def _mirror(image: Tensor, goal: int, vertical: bool) -> Tensor:
    while (missing := goal - image.shape[-2 if vertical else -1]) > 0:
        # A reflection is at most one pixel shorter than the image, so small images are mirrored again and again.
        room = image.shape[-2 if vertical else -1] - 1
        step = min(missing, room) if room else missing
        image = F.pad(image, (0, 0, 0, step) if vertical else (0, step, 0, 0), mode="reflect" if room else "replicate")
    return image
