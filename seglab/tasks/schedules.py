"""Learning rates over time as torch schedulers: warm-up, then poly, cosine or constant."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from seglab.errors import ConfigError


class WarmUp(LambdaLR):
    """A linear rise over `warmup` steps (below 1: that fraction of all steps), then factor(t), t from 0 to 1."""

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float, factor: Callable[[float], float]) -> None:
        if warmup < 0:
            raise ConfigError(f"scheduler.warmup is {warmup}; it must be 0 or more (below 1: a fraction of all steps).")
        rise = round(warmup * total_steps) if warmup < 1 else int(warmup)
        rest = max(1, total_steps - rise)
        super().__init__(
            optimizer, lambda step: (step + 1) / (rise + 1) if step < rise else factor(min(1.0, (step - rise) / rest))
        )


class Poly(WarmUp):
    """lr * (1 - t)^power (Chen et al. 2017, DeepLab, https://arxiv.org/abs/1606.00915)."""

    def __init__(self, optimizer: Optimizer, total_steps: int, power: float = 0.9, warmup: float = 0.05) -> None:
        super().__init__(optimizer, total_steps, warmup, lambda t: (1 - t) ** power)


class Cosine(WarmUp):
    """Half a cosine from lr to floor * lr (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983)."""

    def __init__(self, optimizer: Optimizer, total_steps: int, floor: float = 0.0, warmup: float = 0.05) -> None:
        super().__init__(optimizer, total_steps, warmup, lambda t: floor + (1 - floor) * (1 + math.cos(math.pi * t)) / 2)


class Constant(WarmUp):
    """The same learning rate throughout, after the warm-up."""

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.05) -> None:
        super().__init__(optimizer, total_steps, warmup, lambda t: 1.0)
