"""What a training image goes through. Image and mask move together; the randomness is addressed, not drawn.

albumentations 2.0.8 as it comes gives all DataLoader workers the same parameters and repeats them every epoch. Here the
generator is set anew for each sample from (seed, epoch, index), so nothing depends on workers, order or restarts.
All use of albumentations is behind this module.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping

import albumentations as A
import cv2
import numpy as np

from seglab.errors import ConfigError
from seglab.types import Spec

# They change what the numbers of an image mean; the task normalises on the device, from the Spec, in one place.
_NOT_HERE = (A.Normalize, A.ToFloat, A.FromFloat, A.pytorch.ToTensorV2, A.pytorch.ToTensor3D)


def sample_seed(seed: int, epoch: int, index: int, part: str) -> int:
    """63 bits addressed by (seed, epoch, index) and a part of the pipeline, well mixed so that neighbours share nothing."""
    digest = hashlib.blake2b(f"{seed},{epoch},{index},{part}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Augment:
    """Albumentations transforms, then a crop: `augment(image, mask, epoch, index) -> image, mask`.

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

    def __call__(self, image: np.ndarray, mask: np.ndarray, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The augmented (image, mask): the same for the same (seed, epoch, index), whoever asks."""
        target = self.crop or image.shape[:2]
        at = (self.seed, epoch, index)  # each part draws from a stream of its own: one stream would tie flips to brightness
        if self.before.transforms:
            self.before.set_random_seed(sample_seed(*at, "move"))
            moved = self.before(image=image, mask=mask)
            image, mask = moved["image"], moved["mask"]
        if image.shape[:2] != target:
            rng = np.random.default_rng(sample_seed(*at, "crop"))
            image, mask = pad_and_crop(image, mask, target, rng, self.spec.ignore_index)
        if self.after.transforms:
            self.after.set_random_seed(sample_seed(*at, "look"))
            image = self.after(image=image)["image"]
        return image, mask

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


def pad_and_crop(
    image: np.ndarray, mask: np.ndarray, size: tuple[int, int], rng: np.random.Generator, ignore: int
) -> tuple[np.ndarray, np.ndarray]:
    """A random window of `size` (H, W); where the image is smaller it is padded with 0, the mask with `ignore`."""
    (height, width), (h, w) = image.shape[:2], size
    missing_h, missing_w = max(h - height, 0), max(w - width, 0)
    if missing_h or missing_w:
        top, left = int(rng.integers(missing_h + 1)), int(rng.integers(missing_w + 1))
        edges = ((top, missing_h - top), (left, missing_w - left))
        image = np.pad(image, (*edges, (0, 0)))
        mask = np.pad(mask, (*edges, (0, 0))[: mask.ndim], constant_values=ignore)
    top = int(rng.integers(image.shape[0] - h + 1))
    left = int(rng.integers(image.shape[1] - w + 1))
    return image[top : top + h, left : left + w], mask[top : top + h, left : left + w]


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Image H W C at (H, W) `size`: averaged when it shrinks, linear when it grows."""
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    out = cv2.resize(image, size[::-1], interpolation=how)
    return out if out.ndim == 3 else out[..., None]


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mask H W (or H W K) at (H, W) `size`, nearest pixel centre; no id is ever mixed."""
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT).reshape(*size, *mask.shape[2:])


def scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(H, W) times `scale`, rounded, at least one pixel."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def check_scale(scale: float) -> None:
    """ConfigError unless images can be resized by this factor."""
    if not 0 < scale <= 16:
        raise ConfigError(f"data.scale is {scale}; it must be above 0 (0.5 = half size).")
