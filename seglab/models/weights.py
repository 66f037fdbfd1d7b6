"""Pretrained weights for an encoder: from a file, or from the hub through smp and timm."""

from __future__ import annotations

import logging
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub.constants as hub
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from segmentation_models_pytorch.encoders import encoders as SMP_ENCODERS
from segmentation_models_pytorch.encoders import get_encoder, get_preprocessing_params
from torch import Tensor, nn

from seglab import torchfile
from seglab.errors import CheckpointError, ConfigError, nearest
from seglab.models.encoders import Values, check_trap, normalisation, per_channel

log = logging.getLogger("seglab")
_ENOUGH = 0.9  # of the encoder's parameters; below it the file belongs to another network
Tensors = dict[str, Tensor]


def load(encoder: nn.Module, name: str, weights: str, channels: int) -> tuple[Values, Values]:
    """Fill `encoder` (built as `name`, with `channels` inputs) from a file or from the hub.

    Returns mean and std of the images (0..1) the weights expect. CheckpointError if too little of the file fits.
    """
    check_trap(name)
    kinds = ["imagenet"] if name.startswith("tu-") else list(SMP_ENCODERS[name]["pretrained_settings"])
    path = Path(weights).expanduser()
    if weights in kinds:
        source, values = download(name, weights)
    elif path.suffix or path.exists() or "/" in weights:
        source = read(path)
        values = own_normalisation(source) or normalisation(name)
    else:
        hint = nearest(weights, kinds)
        raise ConfigError(f"model.weights={weights} is neither a file nor pretrained weights of {name}.{hint}")
    fill(encoder, source, weights, channels)
    return values


def start(encoder: nn.Module, name: str, weights: str | None, channels: int) -> tuple[Values | None, Values | None]:
    """`load` unless `weights` is None; mean and std per channel for `channels` channels, None: the data's own count."""
    if weights is None:
        return None, None
    mean, std = load(encoder, name, weights, channels)
    return per_channel(mean, channels), per_channel(std, channels)


def own_normalisation(source: Tensors) -> tuple[Values, Values] | None:
    """Mean and std that a checkpoint of ours was trained with; None in other files."""
    mean, std = source.get("state_dict.mean"), source.get("state_dict.std")
    return (tuple(mean.flatten().tolist()), tuple(std.flatten().tolist())) if mean is not None and std is not None else None


def read(path: Path) -> Tensors:
    """The tensors of a .safetensors or torch file by dotted name; CheckpointError if it is missing, broken or hostile."""
    if path.suffix != ".safetensors" or not path.is_file():
        data = torchfile.read(path, "model.weights")
        if not isinstance(data, Mapping):
            raise torchfile.foreign(data, path, "model.weights")
        return dict(_tensors(data))
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"model.weights={path} is damaged or no safetensors file ({error}).") from error


def _tensors(tree: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    # Nests such as {"state_dict": {"model": ...}} become parts of the names; the match looks behind any of them.
    for key, value in tree.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping):
            yield from _tensors(value, f"{prefix}{key}.")


def match(source: Tensors, target: Tensors, channels: int) -> tuple[str, Tensors]:
    """(prefix, {target's name: source's tensor}) for the prefix of the source's names that fits most targets.

    A fit is the same name behind the prefix and the same shape, but for the input channels of the first convolution.
    """
    # smp wraps timm's networks as `model.`; timm's feature extractors write stages_0 where its files say stages.0.
    wrapped = "model." if all(name.startswith("model.") for name in target) else ""
    wanted = {name.removeprefix(wrapped).replace(".", "_"): name for name in target}
    found: dict[str, Tensors] = {"": {}}
    for name, tensor in source.items():
        parts = name.split(".")
        for i in range(len(parts)):
            key = wanted.get("_".join(parts[i:]))
            if key is not None and _fits(tensor, target[key], channels):
                found.setdefault(".".join(parts[:i]), {})[key] = tensor
    return max(found.items(), key=lambda item: (len(item[1]), -len(item[0])))


def _fits(tensor: Tensor, target: Tensor, channels: int) -> bool:
    if tensor.shape == target.shape:
        return True
    first = tensor.ndim == target.ndim == 4 and target.shape[1] == channels
    return first and tensor.shape[0] == target.shape[0] and tensor.shape[2:] == target.shape[2:]


def adapt(weight: Tensor, channels: int) -> Tensor:
    """The first convolution O C k k for another number of input channels, its response to a grey image kept.

    One channel: the sum over C. More: the C slices in turn, scaled by C / channels.
    """
    known = weight.shape[1]
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight[:, torch.arange(channels) % known] * (known / channels)


def fill(encoder: nn.Module, source: Tensors, weights: str, channels: int) -> None:
    """Copy what fits of a file's tensors; CheckpointError where that is too little. What did not fit is told."""
    target = encoder.state_dict()
    prefix, fitting = match(source, target, channels)
    parameters = dict(encoder.named_parameters())
    share = sum(parameters[k].numel() for k in fitting if k in parameters) / sum(p.numel() for p in parameters.values())
    missing = [k for k in target if k not in fitting and not k.endswith("num_batches_tracked")]
    if share < _ENOUGH:
        raise CheckpointError(
            f"model.weights={weights} does not belong to this encoder: {len(fitting)} of {len(target)} tensors match "
            f"({share:.0%} of the parameters); the file has '{next(iter(source), 'no tensor')}', "
            f"the encoder wants '{missing[0] if missing else next(iter(target))}'."
        )
    with torch.no_grad():
        for key, tensor in fitting.items():
            target[key].copy_(tensor if tensor.shape == target[key].shape else adapt(tensor.float(), channels))
    used = {id(tensor) for tensor in fitting.values()}
    left = sorted({name.removeprefix(f"{prefix}.").split(".")[0] for name, tensor in source.items() if id(tensor) not in used})
    tail = f"; in the file but not in the encoder: {', '.join(left[:6])}{' ...' * (len(left) > 6)}" if left else ""
    log.info("model.weights=%s: %d of %d encoder tensors loaded%s", weights, len(fitting), len(target), tail)
    if missing:
        log.warning("model.weights=%s: %d tensors stay at random, first '%s'", weights, len(missing), missing[0])


def download(name: str, weights: str) -> tuple[Tensors, tuple[Values, Values]]:
    """Tensors, mean and std of the pretrained encoder `name` from the hub or its cache.

    CheckpointError where there are none, or the internet is needed and absent.
    """
    try:
        with _quick_hub():
            if name.startswith("tu-"):
                return timm.create_model(name[3:], pretrained=True).state_dict(), normalisation(name)
            state = get_encoder(name, weights=weights).state_dict()
            said = get_preprocessing_params(name, weights)
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"model.weights={weights} for {name} could not be downloaded ({reason}); "
            "give a local file (model.weights=FILE) or model.weights=null."
        ) from error
    top = said["input_range"][1]  # 255 for networks that were fed bytes
    return state, (tuple(m / top for m in said["mean"]), tuple(s / top for s in said["std"]))


@contextmanager
def _quick_hub() -> Iterator[None]:
    # Without network the hub's client retries for most of a minute; its offline mode answers from the cache at once.
    before = hub.HF_HUB_OFFLINE
    hub.HF_HUB_OFFLINE = before or not _reachable(hub.ENDPOINT)
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before


def _reachable(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError:
        return True  # an answer, if a grumpy one
    except OSError:
        return False
    return True
