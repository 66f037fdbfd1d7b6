"""Slow: the real EfficientNet-Lite0 weights give timm's features; the wrong twin is refused."""

import os
from pathlib import Path

import pytest
import timm
import torch

from seglab.errors import ConfigError
from seglab.models.smp import SMP
from seglab.types import Spec

DATA = Path(os.environ.get("SEGLAB_TEST_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
FILE = DATA / "weights" / "tf_efficientnet_lite0.safetensors"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not FILE.is_file(), reason=f"{FILE} is not there")]


@pytest.mark.parametrize("channels", [3, 1, 6])
def test_features_are_timms(channels):
    overlay = {"file": str(FILE)}
    right = timm.create_model(
        "tf_efficientnet_lite0", pretrained=True, pretrained_cfg_overlay=overlay, features_only=True, in_chans=channels
    )
    ours = SMP(Spec(classes=("a", "b"), channels=channels), "unet", "tu-tf_efficientnet_lite0", str(FILE))
    image = torch.randn(2, channels, 96, 128)
    with torch.no_grad():
        for a, b in zip(ours.eval().encoder(image)[1:], right.eval()(image), strict=True):
            torch.testing.assert_close(a, b)
    assert ours.mean == {3: (0.5, 0.5, 0.5), 1: (0.5,), 6: None}[channels]


def test_the_wrong_twin_is_refused():
    with pytest.raises(ConfigError, match=r"model.encoder=tu-tf_efficientnet_lite0"):
        SMP(Spec(classes=("a", "b")), "unet", "timm-tf_efficientnet_lite0", str(FILE))
