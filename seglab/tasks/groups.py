"""Parameter groups: a learning rate of its own for the encoder, no weight decay on norms and biases."""

from __future__ import annotations

from typing import Any

from torch import nn


def parameter_groups(network: nn.Module, encoder_lr: float | None, decay_norms: bool) -> list[dict[str, Any]]:
    """Groups for an optimizer, named; those without keys of their own use the optimizer's lr and weight_decay.

    Parameters with one dimension or none (norm scales, biases) do not decay unless `decay_norms`.
    """
    encoder = getattr(network, "encoder", None)
    in_encoder = {id(p) for p in encoder.parameters()} if isinstance(encoder, nn.Module) else set()
    groups: dict[str, dict[str, Any]] = {}
    for parameter in network.parameters():
        if not parameter.requires_grad:
            continue
        own_lr = encoder_lr is not None and id(parameter) in in_encoder
        no_decay = parameter.ndim <= 1 and not decay_norms
        name = ("encoder" if own_lr else "network") + ("/no_decay" if no_decay else "")
        group = groups.setdefault(name, {"params": [], "name": name})
        if own_lr:
            group["lr"] = encoder_lr
        if no_decay:
            group["weight_decay"] = 0.0
        group["params"].append(parameter)
    return list(groups.values())
