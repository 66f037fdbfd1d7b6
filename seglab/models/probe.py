"""Ask a network by running it once: which image sizes it takes, and which of its parameters it never uses."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from seglab.errors import ConfigError
from seglab.models.sizes import grown


def probe(model: nn.Module, channels: int, candidates: Iterable[int], smallest: int, name: str) -> int:
    """The first candidate whose multiples `model` answers in the input's size; ConfigError naming `name` if none is.

    Tried with a small image of unequal sides in eval mode (no random numbers are drawn), because encoders do not say which
    sizes they refuse. Parameters without influence on the output stop asking for a gradient.
    """
    training, reason = model.training, "its output has another size"
    model.eval()
    try:
        for multiple in candidates:
            side = grown(smallest, multiple)
            try:
                with torch.enable_grad():
                    output = model(torch.zeros(1, channels, side + multiple, side))
            except (RuntimeError, AssertionError, ValueError, IndexError) as error:
                reason = " ".join(str(error).split())[:200]
                continue
            if output.shape[-2:] == (side + multiple, side):
                _freeze_unused(model, output)
                return multiple
    finally:
        model.train(training)
    raise ConfigError(f"{name} cannot take images of any size ({reason}); choose another encoder.")


def _freeze_unused(model: nn.Module, output: torch.Tensor) -> None:
    # PSPNet ends at a third of its encoder, DPT leaves the classifier's norm: several processes (DDP) would wait for the
    # gradients of such parameters for ever.
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
