"""The weighted sum of losses that an expression such as `0.5*ce+dice` names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

from torch import Tensor, nn

from seglab.errors import ConfigError
from seglab.losses.base import Loss


class Total(nn.Module):
    """Sum of weight * loss over named terms; ConfigError where there is no term or a weight is not a number above 0."""

    def __init__(self, terms: Mapping[str, tuple[float, Loss]]) -> None:
        super().__init__()
        if not terms:
            raise ConfigError("loss has no terms; name at least one, for example loss=ce.")
        for name, (weight, _) in terms.items():
            number = isinstance(weight, Real) and not isinstance(weight, bool)
            if not number or not math.isfinite(weight) or weight <= 0:
                raise ConfigError(f"loss.{name}.weight is {weight!r}; it must be a finite number above 0 (or drop the term).")
        self.weights = {name: float(weight) for name, (weight, _) in terms.items()}
        self.losses = nn.ModuleDict({name: loss for name, (_, loss) in terms.items()})

    def forward(self, logits: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum (with gradient) and each term before its weight (detached scalars) for the log."""
        values = {name: loss(logits, mask) for name, loss in self.losses.items()}
        total = sum(self.weights[name] * value for name, value in values.items())
        return total, {name: value.detach() for name, value in values.items()}
