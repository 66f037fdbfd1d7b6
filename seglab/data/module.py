"""The one DataModule: samples of a Source, scaled, augmented, batched; uint8 to the device."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import cv2
import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from seglab.data.aiming import Aim, check_shares
from seglab.data.counting import tally
from seglab.data.mixing import Mix
from seglab.data.objects import Pair, counted, objects
from seglab.data.resizing import check_scale, resize_image, resize_layers, resize_mask, scaled
from seglab.data.sampling import EvalBatches, Key, TrainBatches
from seglab.data.source import Source
from seglab.data.transforms import Augment, sample_seed
from seglab.errors import ConfigError, DataError
from seglab.processes import cores

log = logging.getLogger("seglab")
WHOLE = 512 * 512  # up to so many pixels, training takes whole images unless told otherwise
GRACE = 30  # seconds a loader's worker outlives SIGTERM


class Split(Dataset[dict[str, Any]]):
    """One split, sample by sample. In training the mask is scaled with the image; else it keeps its own size.

    With `instances` samples have their objects too. `aim` chooses what some training samples show.
    """

    def __init__(
        self, source: Source, split: str, scale: float, augment: Augment | None, mix: Mix | None = None,
        instances: bool = False, aim: Aim | None = None,
    ) -> None:  # fmt: skip
        self.source, self.split, self.scale, self.augment, self.mix = source, split, scale, augment, mix
        self.instances, self.aim = instances, aim

    def __len__(self) -> int:
        return len(self.source.ids(self.split))

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Image H W C, mask h w, index; with objects instances h w L, labels N, crowd N; in training target, objects K.

        `key` is (epoch, address): the image is the one of this index, unless the sample is aimed at a class.
        """
        epoch, address = key
        target, index = (self.aim and self.aim(epoch, address)) or (None, address)
        pair = self._pair(index, epoch, address, target)
        if self.mix and self.augment:
            rng = np.random.default_rng(sample_seed(self.augment.seed, epoch, address, "mix"))
            if rng.random() < self.mix.p:
                others = self.mix.draw(index, len(self), rng)
                # A partner is augmented at an address of its own: it does not look as it does as a sample of this epoch.
                partners = [self._pair(other, epoch, int(rng.integers(2**63))) for other in others]
                pair = self.mix([pair, *partners], self.source.spec.ignore_index, rng)
        held = pair.objects if self.instances else None
        more: dict[str, Any] = {} if held is None else {"instances": held.ids, "labels": held.labels, "crowd": held.crowd}
        if self.augment:
            more["target"] = -1 if target is None else target
            if held is not None:
                more["objects"] = counted(held, self.source.spec.num_classes)
        return {"image": pair.image, "mask": pair.mask, "index": index, **more}

    def _pair(self, index: int, epoch: int, address: int, target: int | None = None) -> Pair:
        """The image and mask at `index`, scaled, and augmented as (epoch, address) says, so that it shows class `target`."""
        sample = self.source.load(self.split, index)
        wanted = self.instances or (self.mix is not None and self.mix.needs_objects)
        image, mask, held = sample["image"], sample["mask"], objects(sample, self.source.spec.ignore_index) if wanted else None
        if self.scale != 1:
            size = scaled(sample["size"], self.scale)  # a source may give images at this scale already
            image = resize_image(image, size)
            if self.augment:
                mask = resize_mask(mask, size)
                held = None if held is None else held._replace(ids=resize_layers(held.ids, size))
        pair = Pair(image, mask, held)
        return self.augment(pair, epoch, address, target) if self.augment else pair


def collate(samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Stack H W C arrays and view them as B C H W: channels_last memory, no copy. Masks stay small integers.

    Of no samples (see EvalBatches): tensors with B = 0. Objects are filled up to the most layers and ids of a sample.
    """
    if not samples:
        none = torch.zeros((0, 1, 1, 1), dtype=torch.uint8)
        return {"image": none, "mask": none[:, 0], "index": torch.zeros(0, dtype=torch.int64)}
    image = torch.from_numpy(np.stack([s["image"] for s in samples])).permute(0, 3, 1, 2)
    mask = torch.from_numpy(np.stack([s["mask"] for s in samples]))
    if mask.ndim == 4:
        mask = mask.permute(0, 3, 1, 2)
    batch = {"image": image, "mask": mask, "index": torch.tensor([s["index"] for s in samples])}
    if "instances" in samples[0]:
        batch["instances"] = _filled([s["instances"].transpose(2, 0, 1) for s in samples], 0)
        batch["labels"], batch["crowd"] = _filled([s["labels"] for s in samples], -1), _filled([s["crowd"] for s in samples], 0)
    if "target" in samples[0]:
        batch["target"] = torch.tensor([s["target"] for s in samples])
    if "objects" in samples[0]:
        batch["objects"] = torch.from_numpy(np.stack([s["objects"] for s in samples]))
    return batch


def _filled(arrays: list[np.ndarray], value: int) -> torch.Tensor:
    """The arrays stacked, each lengthened along its first axis by `value`."""
    longest = max(len(a) for a in arrays)
    edges = [((0, longest - len(a)), *[(0, 0)] * (a.ndim - 1)) for a in arrays]
    return torch.from_numpy(np.stack([np.pad(a, e, constant_values=value) for a, e in zip(arrays, edges, strict=True)]))


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # each worker is one thread; OpenCV's own pool would fight the others for the cores
    # Ctrl-C and SLURM reach the workers too, but the main process wants to finish its step with them; it ends them, too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))  # SIGALRM ends a process that has no handler for it
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


class DataModule(pl.LightningDataModule):
    """Loaders for train, val and test over one Source.

    `batch_size` counts the images over all processes together, `num_workers` (or 'auto') is of each. `crop` is [H, W], None
    (whole images) or 'auto'; `scale` resizes images before everything else; `sampling` aims shares of the samples at classes
    (see Aim); `mix` pastes training images into each other; with `instances` batches have the objects too. Training begins
    at `start`, (epoch, batches of it that are done). ConfigError for impossible values, DataError for a data set that cannot
    be batched as asked.
    """

    start = (0, 0)

    def __init__(
        self,
        source: Source,
        transforms: Mapping[str, Any],
        seed: int,
        batch_size: int = 8,
        num_workers: int | Literal["auto"] = "auto",
        scale: float = 1.0,
        crop: list[int] | Literal["auto"] | None = "auto",
        sampling: dict[str, float] | None = None,
        mix: Mix | None = None,
        pin_memory: bool = False,
        instances: bool = False,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ConfigError(f"data.batch_size is {batch_size}; it must be at least 1.")
        check_scale(scale)
        self.source, self.seed, self.batch_size, self.scale = source, seed, batch_size, scale
        self.num_workers, self.pin_memory = _workers(num_workers), pin_memory
        seen, of_all = source.seen_sizes("train")
        if crop is None and not of_all:  # whole images: one of another size would end training
            seen, of_all = set(source.sizes("train")), True
        sizes = {scaled(s, scale) for s in seen}
        self.augment = Augment(transforms, source.spec, _crop(crop, sizes, of_all, batch_size) if sizes else None, seed)
        self.mix, self.instances, self.sampling = mix, instances, sampling or {}
        if instances and not source.spec.instances:
            raise ConfigError(
                f"The data set '{source.name}' does not tell objects apart, so that there are no true ones to compare with; "
                "set instances=none (predict takes it), or data.foreground=true where masks hold instance ids."
            )
        if mix and mix.needs_objects and not source.spec.instances:
            raise ConfigError(
                f"mix ({type(mix).__name__}) pastes single objects, and the data set '{source.name}' does not tell them apart; "
                "use mix=classmix or none."
            )
        if mix and self.augment.crop is None and len(set(sizes)) > 1:
            raise ConfigError(
                f"mix ({type(mix).__name__}) needs training images of one size, but they have {len(set(sizes))}; "
                "set data.crop=[H,W] or auto, or mix=none."
            )

    def check(self) -> None:
        """Fail before training: DataError if there are no training images, ConfigError if a transform cannot take them."""
        if not self.source.ids("train"):
            raise DataError(f"The data set '{self.source.name}' has no training images.")
        sample = self.source.load("train", 0)
        mask, size = sample["mask"], sample["image"].shape[:2]
        self.augment.check(sample["image"], mask if mask.shape[:2] == size else resize_mask(mask, size))
        if self.aim:
            log.info("training samples are aimed at %s", self.aim)

    @cached_property
    def aim(self) -> Aim | None:
        """What training samples are aimed at; made when it is asked for, because all training masks are read for it."""
        check_shares(self.sampling, self.source.spec)  # before many masks are read for nothing
        if not any(self.sampling.values()):
            return None
        return Aim(self.sampling, self.source.spec, tally(self.source, "train", self.scale).pixels, self.seed, self.batch_size)

    def train_dataloader(self) -> DataLoader[Any]:  # noqa: D102
        split = Split(self.source, "train", self.scale, self.augment, self.mix, self.instances, self.aim)
        return self._loader(split, TrainBatches(len(split), self.batch_size, self.seed, self.start))

    def val_dataloader(self) -> DataLoader[Any]:  # noqa: D102
        return self.eval_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:  # noqa: D102
        return self.eval_loader("test")

    def eval_loader(self, split: str) -> DataLoader[Any]:
        """Every image of the split once, masks at their own size."""
        batches = EvalBatches(self.source.sizes(split), self.batch_size)
        return self._loader(self.split(split), batches)

    def split(self, name: str) -> Split:
        """A split for evaluation: nothing is augmented."""
        return Split(self.source, name, self.scale, None, instances=self.instances)

    def _loader(self, split: Split, batches: Sampler[list[Key]]) -> DataLoader[Any]:
        return DataLoader(
            split,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.pin_memory,
            worker_init_fn=_start_worker,
            generator=torch.Generator().manual_seed(self.seed % 2**63),  # a private one: drawing from it disturbs nothing else
        )


def _workers(asked: int | Literal["auto"]) -> int:
    if asked == "auto":
        share = cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # of a distributed run's processes on this machine
        return 0 if share <= 2 else min(8, share - 1)
    if asked < 0:
        raise ConfigError(f"data.num_workers is {asked}; it must be 0 or more, or auto.")
    return asked


def _crop(
    asked: list[int] | Literal["auto"] | None, sizes: set[tuple[int, int]], of_all: bool, batch_size: int
) -> tuple[int, int] | None:
    equal = len(sizes) == 1
    if asked == "auto":
        height, width = min(sizes)
        if equal and height * width <= WHOLE:
            return None if of_all else (height, width)  # of which whole images are crops, and any other size has one
        log.info("training on random crops of 512x512 (images are %s)", "larger" if equal else "of different sizes")
        return 512, 512
    if asked is None:
        if not equal and batch_size > 1:
            a, b = sorted(sizes)[:2]
            raise ConfigError(
                f"data.crop=null needs images of one size, but there are {a} and {b}; set data.crop=[H,W] or auto."
            )
        return None
    if len(asked) != 2 or min(asked) < 1:
        raise ConfigError(f"data.crop is {asked}; it must be [height, width].")
    return asked[0], asked[1]
