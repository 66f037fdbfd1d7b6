"""Parameter groups: learning rates of their own for the encoder and its layers, no weight decay on norms and biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from seglab.errors import ConfigError
from seglab.tasks.layers import layer_numbers


def parameter_groups(
    network: nn.Module, encoder_lr: float | None, decay_norms: bool, layer_decay: float | None = None
) -> list[dict[str, Any]]:
    """Groups for an optimizer, named, the encoder's first; those without keys of their own use its lr and weight_decay.

    Parameters with one dimension or none (norm scales, biases) do not decay unless `decay_norms`. With `layer_decay` d,
    layer i of the encoder's n (1 = the stem) is to learn at d^(n+1-i) of the encoder's rate, its `lr_scale` (Clark et al.
    2020, https://arxiv.org/abs/2003.10555; Bao et al. 2021, https://arxiv.org/abs/2106.08254): see `scale_rates`.
    """
    encoder = getattr(network, "encoder", None)
    for key, value in (("encoder_lr", encoder_lr), ("layer_decay", layer_decay)):
        if value is not None and not isinstance(encoder, nn.Module):
            raise ConfigError(f"optimizer.{key} is {value}, but {type(network).__name__} has no encoder; set it to null.")
    own: dict[int, int] = {}  # the encoder's parameters; with a layer each, if that matters
    if isinstance(encoder, nn.Module):
        if layer_decay is not None:
            own = layer_numbers(network, encoder)
        elif encoder_lr is not None:
            own = dict.fromkeys(map(id, encoder.parameters()), 0)
    depth = max(own.values(), default=0)
    groups: dict[str, dict[str, Any]] = {}
    for parameter in sorted(network.parameters(), key=lambda p: own.get(id(p), len(own) + 1)):
        if not parameter.requires_grad:
            continue
        layer, no_decay = own.get(id(parameter)), parameter.ndim <= 1 and not decay_norms
        name = "network" if layer is None else f"encoder/{layer}" if layer else "encoder"
        name += "/no_decay" if no_decay else ""
        group = groups.setdefault(name, {"params": [], "name": name})
        if layer is not None and encoder_lr is not None:
            group["lr"] = encoder_lr
        if layer and layer_decay is not None:
            group["lr_scale"] = layer_decay ** (depth + 1 - layer)
        if no_decay:
            group["weight_decay"] = 0.0
        group["params"].append(parameter)
    return list(groups.values())


def scale_rates(optimizer: Optimizer) -> Optimizer:
    """The optimizer, each group's lr multiplied by its `lr_scale`; schedules that are made afterwards keep the ratios."""
    for group in optimizer.param_groups:
        group["lr"] *= group.get("lr_scale", 1.0)
    return optimizer


def check_rates_kept(rates: Sequence[float], optimizer: Optimizer) -> None:
    """ConfigError if groups that had the `rates` all got one rate from the schedule just made, as OneCycleLR's max_lr does."""
    if len(set(rates)) > 1 and len({group["lr"] for group in optimizer.param_groups} | {0.0}) == 2:
        raise ConfigError(
            "This scheduler gives all weights one learning rate, so that optimizer.encoder_lr and layer_decay would have no "
            "effect; leave these null, or use scheduler=cosine."
        )
