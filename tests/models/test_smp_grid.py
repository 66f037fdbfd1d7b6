"""Slow: all twelve architectures x three awkward sizes x batch 1 and 2 x 1, 3 and 7 channels, as conf/model ships them (slimmer)."""

from functools import lru_cache
from pathlib import Path

import pytest
import torch
import yaml

from seglab.models.smp import ARCHITECTURES, SMP
from seglab.types import Spec

CONF = Path(__file__).parents[2] / "conf" / "model"


@lru_cache(maxsize=1)
def network(arch, channels):
    settings = yaml.safe_load((CONF / f"{arch}.yaml").read_text(encoding="utf-8"))
    del settings["_target_"]
    if isinstance(settings.get("decoder_channels"), list):  # most of the time goes into their finest scales
        settings["decoder_channels"] = [64, 32, 16, 8, 8]
    torch.manual_seed(0)
    net = SMP(Spec(classes=("a", "b", "c"), channels=channels), **settings)
    return net.to(memory_format=torch.channels_last).train()  # as the task runs it; about a third faster


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", [(360, 480), (97, 131), (33, 500)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("channels", [1, 3, 7])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_output_size_and_gradients(arch, channels, size, batch):
    net = network(arch, channels)
    net.zero_grad()
    logits = net(torch.randn(batch, channels, *size).to(memory_format=torch.channels_last))
    assert logits.shape == (batch, 3, *size)
    logits.square().mean().backward()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
