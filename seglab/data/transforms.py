"""What a training image goes through. Image and mask move together; the randomness is addressed, not drawn.

albumentations 2.0.8 as it comes gives all DataLoader workers the same parameters and repeats them every epoch. Here the
generator is set anew for each sample from (seed, epoch, index), so nothing depends on workers, order or restarts.
All use of albumentations is behind this module.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping

import albumentations as A
import cv2
import numpy as np

from seglab.data.objects import Pair
from seglab.errors import ConfigError
from seglab.types import Spec

# They change what the numbers of an image mean; the task normalises on the device, from the Spec, in one place.
_NOT_HERE = (A.Normalize, A.ToFloat, A.FromFloat, A.pytorch.ToTensorV2, A.pytorch.ToTensor3D)


def sample_seed(seed: int, epoch: int, index: int, part: str) -> int:
    """63 bits addressed by (seed, epoch, index) and a part of the pipeline, well mixed so that neighbours share nothing."""
    digest = hashlib.blake2b(f"{seed},{epoch},{index},{part}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Augment:
    """Albumentations transforms, then a crop: `augment(pair, epoch, index) -> pair`.

    Transforms that only change the image run after the crop, on fewer pixels. `crop` is (H, W), or None to give back the
    size that came in. Masks are resampled nearest only; what a transform uncovers becomes ignore_index. ConfigError names
    `augment.<name>` when a transform cannot take the data set's images.
    """

    def __init__(self, transforms: Mapping[str, A.BasicTransform], spec: Spec, crop: tuple[int, int] | None, seed: int) -> None:
        self.spec, self.crop, self.seed, self.transforms = spec, crop, seed, dict(transforms)
        for name, transform in transforms.items():
            for part in _parts(transform):
                if isinstance(part, _NOT_HERE):
                    raise ConfigError(
                        f"augment.{name}: {type(part).__name__} is not needed; images are normalised on the device."
                    )
                # Each transform has its own default for the mask; one rule for all of them is set here.
                if hasattr(part, "fill_mask"):
                    part.fill_mask = float(spec.ignore_index)
                if hasattr(part, "mask_interpolation"):
                    part.mask_interpolation = _nearest_for(part)
        image_only = {n: t for n, t in transforms.items() if all(isinstance(p, A.ImageOnlyTransform) for p in _parts(t))}
        self.before = A.Compose([t for n, t in transforms.items() if n not in image_only])
        self.after = A.Compose(list(image_only.values()))

    def __call__(self, pair: Pair, epoch: int, index: int, target: int | None = None) -> Pair:
        """The augmented pair: the same for the same (seed, epoch, index), whoever asks. It shows `target`, if `pair` does."""
        at = (self.seed, epoch, index)  # each part draws from a stream of its own: one stream would tie flips to brightness
        moved, hold = self._moved(pair, at), None
        if target is not None:
            rng = np.random.default_rng(sample_seed(*at, "aimed pixel"))
            hold = pixel_of(moved.mask, target, self.spec, rng)
            if hold is None:  # it was turned or cut out of sight, or was so small that resampling lost it
                moved, hold = pair, pixel_of(pair.mask, target, self.spec, rng)
        size, held, ignore = self.crop or pair.image.shape[:2], moved.objects, self.spec.ignore_index
        image, mask = moved.image, moved.mask
        if image.shape[:2] != size:
            cut = window(image.shape[:2], size, np.random.default_rng(sample_seed(*at, "crop")), hold)
            image, mask = cut(image, 0), cut(mask, ignore)
            held = None if held is None else held._replace(ids=cut(held.ids, 0))
        if self.after.transforms:
            self.after.set_random_seed(sample_seed(*at, "look"))
            image = self.after(image=image)["image"]
        return Pair(image, mask, held)

    def _moved(self, pair: Pair, at: tuple[int, int, int]) -> Pair:
        """The pair after the transforms that move pixels; with its objects, as one list of one type.

        OpenCV rounds the places of bytes and of wider numbers differently.
        """
        image, mask, held = pair
        if not self.before.transforms:
            return pair
        self.before.set_random_seed(sample_seed(*at, "move"))
        if held is None:
            moved = self.before(image=image, mask=mask)
            return Pair(moved["image"], moved["mask"])
        ignore = self.spec.ignore_index
        layers = [_spared(held.ids[..., i], ignore) for i in range(held.ids.shape[2])]
        moved = self.before(image=image, masks=[mask.astype(np.int32), *layers])
        moved_mask, *layers = moved["masks"]
        ids = np.stack([_restored(layer, ignore) for layer in layers], -1)
        return Pair(moved["image"], moved_mask.astype(mask.dtype), held._replace(ids=ids))

    def check(self, image: np.ndarray, mask: np.ndarray) -> None:
        """Try every transform once for sure on a sample; ConfigError names the one that cannot take it."""
        for name, transform in self.transforms.items():
            certain = copy.deepcopy(transform)
            certain.p = 1.0
            what = f"{image.shape[2]} channels, {image.dtype}"
            try:
                out = A.Compose([certain], seed=0)(image=image, mask=mask)["image"]
            except Exception as error:
                why = " ".join(str(error).split())[:160]
                raise ConfigError(
                    f"augment.{name} ({type(transform).__name__}) cannot take these images ({what}): {why}; "
                    f"remove it with augment.{name}=null."
                ) from error
            if out.dtype != image.dtype or out.shape[2:] != image.shape[2:]:
                raise ConfigError(
                    f"augment.{name} ({type(transform).__name__}) turns images ({what}) into {out.dtype} of shape {out.shape}; "
                    "choose one that keeps type and channels."
                )


def _nearest_for(part: A.BasicTransform) -> int:
    # In cv2.resize INTER_NEAREST takes the pixel's corner and linear its centre: the mask would lie half a pixel beside the
    # image. The exact kind takes the centre too; warps, which do not know it, have no such shift.
    resizes = type(part).__module__.endswith(("geometric.resize", "crops.transforms"))
    return cv2.INTER_NEAREST_EXACT if resizes else cv2.INTER_NEAREST


def _parts(transform: A.BasicTransform | A.BaseCompose) -> Iterator[A.BasicTransform]:
    if isinstance(transform, A.BaseCompose):
        for inner in transform.transforms:
            yield from _parts(inner)
    else:
        yield transform


def _spared(ids: np.ndarray, ignore: int) -> np.ndarray:
    """Ids H W int32 that leave `ignore` free: it is what a transform writes where it uncovers a mask."""
    return ids + (ids >= ignore).astype(np.int32) if ignore > 0 else ids


def _restored(ids: np.ndarray, ignore: int) -> np.ndarray:
    """The ids that were spared, 0 where `ignore` was written."""
    back = np.where(ids == ignore, 0, ids)
    return (back - (back > ignore) if ignore > 0 else back).astype(np.int32)


def window(
    size: tuple[int, int], goal: tuple[int, int], rng: np.random.Generator, hold: tuple[int, int] | None = None
) -> Callable[[np.ndarray, int], np.ndarray]:
    """A random window of `goal` (H, W) for arrays of `size` (H, W ...): where they are smaller they are padded with a value.

    With `hold`, (row, column), one of the windows that show this pixel: anywhere in it, so that no place of it stands out.
    """
    missing = [max(g - s, 0) for s, g in zip(size, goal, strict=True)]
    before = [int(rng.integers(m + 1)) for m in missing] if any(missing) else [0, 0]
    last = [s + m - g for s, m, g in zip(size, missing, goal, strict=True)]  # where a window can begin at most
    first = [0, 0]
    if hold is not None:
        places = [place + b for place, b in zip(hold, before, strict=True)]
        first = [max(0, place - g + 1) for place, g in zip(places, goal, strict=True)]
        last = [min(end, place) for end, place in zip(last, places, strict=True)]
    start = [int(rng.integers(a, b + 1)) for a, b in zip(first, last, strict=True)]
    edges = [(b, m - b) for b, m in zip(before, missing, strict=True)]
    cuts = tuple(slice(at, at + g) for at, g in zip(start, goal, strict=True))

    def cut(array: np.ndarray, fill: int) -> np.ndarray:
        if any(missing):
            array = np.pad(array, (*edges, (0, 0))[: array.ndim], constant_values=fill)
        return array[cuts]

    return cut


def pixel_of(mask: np.ndarray, target: int, spec: Spec, rng: np.random.Generator) -> tuple[int, int] | None:
    """(row, column) of a pixel of the class, any of them with equal probability; None if there is none."""
    hits = np.flatnonzero((mask[..., target] == 1) if spec.mode == "multilabel" else (mask == target))
    if not len(hits):
        return None
    row, column = divmod(int(hits[rng.integers(len(hits))]), mask.shape[1])
    return row, column
