"""Any architecture of segmentation_models_pytorch with any encoder, for any image size, channels and batch."""

from __future__ import annotations

import inspect
import typing
import warnings
from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import timm
from torch import Tensor, nn

from seglab.errors import ConfigError, nearest
from seglab.models import weights as pretrained
from seglab.models.auxiliary import AuxHeads, check_names
from seglab.models.batchnorm import allow_one_value
from seglab.models.encoders import check_name
from seglab.models.probe import probe
from seglab.models.sizes import pad
from seglab.types import Output, Spec

ARCHITECTURES: dict[str, type[nn.Module]] = smp.MODEL_ARCHITECTURES_MAPPING

# What the Spec, this class or the promise "logits of the image's size" decides.
_FIXED = {
    "encoder_name", "encoder_weights", "encoder_output_stride", "in_channels", "classes", "activation", "aux_params",
    "upsampling", "kwargs",
}  # fmt: skip
# Settings of timm's networks that pass through a `tu-` encoder.
_TIMM = {"img_size", "drop_rate", "drop_path_rate", "dynamic_img_size", "strict_img_size"}
# Least image side in strides, where it is not 2: PAN halves its deepest features three times more, DPT once.
_SMALLEST = {"pan": 8, "dpt": 4}


class SMP(nn.Module):
    """Normalised float image B C H W -> logits B spec.out_channels H W.

    `weights` is None, "imagenet" or a file; `aux` names parts of smp's network that get auxiliary heads, then Output comes in
    training; `decoder_options` are the architecture's own. `mean` and `std` are what the loaded weights expect of images in
    0..1, or None: then the data's own count. ConfigError names the wrong key.
    """

    def __init__(
        self, spec: Spec, arch: str, encoder: str, weights: str | None = None, aux: Sequence[str] = (),
        output_stride: int | None = None, **decoder_options: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        if arch not in ARCHITECTURES:
            raise ConfigError(f"There is no architecture model.arch={arch}.{nearest(arch, ARCHITECTURES)}")
        check_name(encoder)
        _check_options(arch, encoder, decoder_options)
        self.model = _build(spec, arch, encoder, {**decoder_options, **_output_stride(arch, output_stride)})
        check_names(self.model, aux)
        allow_one_value(self.model)
        stride = int(self.encoder.output_stride)  # type: ignore[arg-type]
        self.smallest = stride * _SMALLEST.get(arch, 2)
        # DPT takes twice its stride, transformers that shrink their keys (mit, PVT) 32 even where only their first scales are
        # in use, encoders that divide the image into fixed windows (MaxViT) the size they were made for.
        config = timm.get_pretrained_cfg(encoder[3:]) if encoder.startswith("tu-") else None
        sides = (stride, 2 * stride, 32, *([max(config.input_size)] if config else []))
        name = f"model.arch={arch} with model.encoder={encoder}"
        self.multiple, widths = probe(self.model, spec.channels, sides, self.smallest, name, aux)
        self.heads = AuxHeads(self.model, widths, spec)
        self.aux = self.heads.names
        self.mean, self.std = pretrained.start(self.encoder, encoder, weights, spec.channels)

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights fill; it may have a learning rate of its own."""
        return self.model.encoder  # type: ignore[return-value]

    def forward(self, image: Tensor) -> Tensor | Output:
        """Logits of exactly the image's height and width."""
        height, width = image.shape[-2:]
        padded = pad(image, self.multiple, self.smallest)
        logits: Tensor = self.model(padded)
        return self.heads(logits[..., :height, :width], padded.shape[-2:])


def _output_stride(arch: str, stride: int | None) -> dict[str, int]:
    if stride is None:
        return {}
    allowed = _strides(arch)
    if stride not in allowed:
        dilatable = ", ".join(a for a in ARCHITECTURES if _strides(a))
        need = f"it must be {' or '.join(map(str, allowed))} for {arch}"
        lacks = f"{arch} has none to choose, {dilatable} have; leave it out"
        raise ConfigError(f"model.output_stride is {stride}; {need if allowed else lacks}.")
    return {"encoder_output_stride": stride}


def _strides(arch: str) -> tuple[int, ...]:
    # smp states the values in the type: Literal[8, 16].
    parameter = inspect.signature(ARCHITECTURES[arch]).parameters.get("encoder_output_stride")
    return typing.get_args(parameter.annotation) if parameter else ()


def _check_options(arch: str, encoder: str, options: dict[str, Any]) -> None:
    known = set(inspect.signature(ARCHITECTURES[arch]).parameters) - _FIXED
    known |= {"aux", "output_stride"} if _strides(arch) else {"aux"}
    known |= _TIMM if encoder.startswith("tu-") else set()
    for name in options:
        if name not in known:
            raise ConfigError(f"model.{name} is no option of {arch} with {encoder}.{nearest(name, known)}")


def _build(spec: Spec, arch: str, encoder: str, options: dict[str, Any]) -> nn.Module:
    options = dict(options)
    if arch == "pspnet":  # its logits come at the encoder's last scale, FPN's two scales above; smp assumes the usual depth
        options["upsampling"] = 2 ** options.get("encoder_depth", 3)
    if arch == "fpn":
        options["upsampling"] = 2 ** (options.get("encoder_depth", 5) - 3)
    # Transformers of timm are built for one image size unless told otherwise; which of them knows which word shows in trying.
    fixed = encoder.startswith("tu-") and getattr(timm.get_pretrained_cfg(encoder[3:]), "fixed_input_size", False)
    words: tuple[dict[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}) if fixed else ()
    for free in (*words, {}):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # smp's own, on names that begin with timm-
                return ARCHITECTURES[arch](
                    encoder_name=encoder, encoder_weights=None, in_channels=spec.channels, classes=spec.out_channels,
                    **{**free, **options},
                )  # fmt: skip
        except TypeError as error:
            if free and next(iter(free)) in str(error):
                continue
            raise _refused(arch, encoder, error) from error
        except Exception as error:
            raise _refused(arch, encoder, error) from error
    raise AssertionError("the last attempt returns or raises")


def _refused(arch: str, encoder: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:200].rstrip(".")
    hints = {
        "downsampling pattern": "a plain ViT goes with model=dpt",
        "'output_stride'": f"it cannot be dilated, which {arch} needs",
    }
    hint = next((f"; {hint}" for sign, hint in hints.items() if sign in reason), "")
    return ConfigError(f"model.arch={arch} cannot be built with model.encoder={encoder}: {reason}{hint}.")
