"""Encoders: which names exist, and how the images were normalised that their pretrained weights saw."""

from __future__ import annotations

import timm
from segmentation_models_pytorch.encoders import encoders as SMP_ENCODERS

from seglab.errors import ConfigError, nearest

Values = tuple[float, ...]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# smp keeps these on the Hugging Face hub; a weights file has to do without network. By the start of the name.
_SMP = {
    "xception": _HALF,
    "inception": _HALF,
    "timm-tf_efficientnet_lite": _HALF,
    "dpn": ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3),
}


def check_name(encoder: str) -> None:
    """ConfigError unless smp has an encoder of that name, or timm one after the prefix `tu-`."""
    if encoder in SMP_ENCODERS or (encoder.startswith("tu-") and timm.is_model(encoder[3:])):
        return
    if timm.is_model(encoder):
        raise ConfigError(f"model.encoder={encoder} is a name of timm; write model.encoder=tu-{encoder}.")
    hint = nearest(encoder, [*SMP_ENCODERS, *(f"tu-{name}" for name in timm.list_models())])
    if "Did you mean" not in hint:  # else it lists more than a thousand names
        hint = " Take a name of smp (resnet34, mit_b0) or tu- and a name of timm (tu-convnext_tiny)."
    raise ConfigError(f"There is no encoder model.encoder={encoder}.{hint}")


def check_trap(encoder: str) -> None:
    """ConfigError for smp's ports of the TensorFlow EfficientNets, which take the weights but compute something else.

    smp 0.6 pads them symmetrically and uses a batch norm eps of 1e-5 (TensorFlow: "same", 1e-3): features correlate
    with the right ones by 0.34 to 0.68 only, a silent loss of the pretraining.
    """
    for start, twin in (("timm-tf_efficientnet", "tu-tf_efficientnet"), ("timm-efficientnet-", "tu-tf_efficientnet_")):
        if encoder.startswith(start):
            right = twin + encoder.removeprefix(start)
            raise ConfigError(
                f"model.encoder={encoder} would load pretrained weights and compute wrong features from them "
                f"(smp builds it with other padding and norms); use model.encoder={right}."
            )


def normalisation(encoder: str) -> tuple[Values, Values]:
    """Mean and std per RGB channel, for images in 0..1, that the encoder's ImageNet weights expect."""
    if encoder.startswith("tu-"):
        config = timm.get_pretrained_cfg(encoder[3:])
        return (tuple(config.mean), tuple(config.std)) if config else _IMAGENET
    return next((values for start, values in _SMP.items() if encoder.startswith(start)), _IMAGENET)


def per_channel(values: Values, channels: int) -> Values | None:
    """RGB values for `channels` channels: as they are, their average for one channel, else None (use the data's)."""
    if len(values) == channels:
        return values
    return (sum(values) / len(values),) if channels == 1 else None
