"""Batch norm that also trains on a single value per channel, or not at all."""

from __future__ import annotations

from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional as F


class OneValueNorm(nn.BatchNorm2d):
    """torch's BatchNorm2d, which normalises by its running statistics where a batch has one value per channel."""

    # After a global pooling a batch of one leaves one value per channel. Its variance is 0, so torch refuses to train on it,
    # and normalising by it would erase the value. The running statistics are the sensible estimate in just that case: what
    # evaluation uses as well. They are not updated, since one value says nothing about a spread.
    def forward(self, x: Tensor) -> Tensor:
        """B C H W -> B C H W."""
        if not self.training or x.numel() != x.shape[1]:
            return super().forward(x)
        self.training = False
        try:
            return super().forward(x)
        finally:
            self.training = True


class OneValueNormAct(OneValueNorm, BatchNormAct2d):
    """The same for timm's batch norm with its activation."""


_INSTEAD = {nn.BatchNorm2d: OneValueNorm, BatchNormAct2d: OneValueNormAct}


def allow_one_value(module: nn.Module) -> None:
    """Let every batch norm inside `module` train on one value per channel; names and values of its state stay."""
    for part in module.modules():
        # The class is exchanged, not the module: parameters, hooks and references to it stay what they are.
        part.__class__ = _INSTEAD.get(type(part), type(part))


class FrozenNorm(nn.Module):
    """Batch norm by its running statistics, in training too; no batch norm by kind, so that nothing makes it learn again."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    eps: float

    def forward(self, x: Tensor) -> Tensor:
        """B C H W -> B C H W."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


class FrozenNormAct(FrozenNorm):
    """The same for timm's batch norm with its activation."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """B C H W -> B C H W."""
        return self.act(self.drop(super().forward(x)))


def freeze(module: nn.Module) -> None:
    """Every batch norm inside `module` keeps its statistics, scale and shift for good."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            kind = FrozenNormAct if isinstance(part, BatchNormAct2d) else FrozenNorm
            part.__class__ = kind  # type: ignore[assignment]  # exchanged as above
            part.requires_grad_(False)
