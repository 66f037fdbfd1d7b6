"""Training images mixed with others of the training split: CutMix, ClassMix, Mosaic, Copy-Paste.

Mixing is done sample by sample in the loader, so that it is addressed as every other augmentation is: partners, their
augmentation and the map are drawn from (seed, epoch, index) alone, and do not depend on what else is in the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from seglab.data.objects import Objects, Pair, merged
from seglab.errors import ConfigError


class Mix(ABC):
    """With probability `p`, pixels of a sample are replaced by those of its `partners`: image, mask and objects by one map.

    A mix that `needs_objects` asks `owners_of` instead of `owners`.
    """

    partners: ClassVar[int] = 1
    needs_objects: ClassVar[bool] = False

    def __init__(self, p: float) -> None:
        if not 0 <= p <= 1:
            raise ConfigError(f"mix.p is {p}; it must be from 0 (never) to 1 (always).")
        self.p = p

    @abstractmethod
    def owners(self, masks: Sequence[np.ndarray], ignore: int, rng: np.random.Generator) -> np.ndarray:
        """H W integers: 0 where the sample keeps its pixel, k where the pixel of its k-th partner is pasted."""

    def __call__(self, pairs: Sequence[Pair], ignore: int, rng: np.random.Generator) -> Pair:
        """The sample (`pairs[0]`) with its partners (the others, of the same size) pasted in; its arrays are left alone."""
        images, masks = [pair.image for pair in pairs], [pair.mask for pair in pairs]
        held = [pair.objects for pair in pairs if pair.objects is not None]
        owner, held = self.owners_of(held, rng) if self.needs_objects else (self.owners(masks, ignore, rng), held)
        return Pair(_pasted(images, owner), _pasted(masks, owner), merged(held, owner) if held else None)

    def owners_of(self, held: Sequence[Objects], rng: np.random.Generator) -> tuple[np.ndarray, list[Objects]]:
        """The same as `owners`, from the objects of the sample and its partners; and those of them that take part."""
        raise NotImplementedError

    def draw(self, index: int, length: int, rng: np.random.Generator) -> list[int]:
        """Indices of the partners of sample `index`: uniform over the `length` samples without itself, if there are others."""
        others = rng.integers(max(length - 1, 1), size=self.partners)
        return [int(other + (other >= index)) % length for other in others]


class CutMix(Mix):
    """A box of the partner, with an area of 1 - lambda, lambda ~ Beta(alpha, alpha), around a uniform centre.

    Yun et al. 2019, arXiv:1905.04899. The box is cut off at the border, as in the paper.
    """

    def __init__(self, p: float = 0.5, alpha: float = 1.0) -> None:
        super().__init__(p)
        if alpha <= 0:
            raise ConfigError(f"mix.alpha is {alpha}; it must be above 0 (1 = every area is equally likely).")
        self.alpha = alpha

    def owners(self, masks: Sequence[np.ndarray], ignore: int, rng: np.random.Generator) -> np.ndarray:  # noqa: D102
        size = np.array(masks[0].shape[:2])
        box = size * np.sqrt(1 - rng.beta(self.alpha, self.alpha))
        centre = size * rng.random(2)
        (top, left), (bottom, right) = (np.clip(np.rint(centre + d * box / 2), 0, size).astype(int) for d in (-1, 1))
        owner = np.zeros(size, np.uint8)
        owner[top:bottom, left:right] = 1
        return owner


class ClassMix(Mix):
    """All pixels of half of the classes that the partner shows (rounded up); its ignored pixels are never pasted.

    Olsson et al. 2020, arXiv:2007.07936, with masks in place of their predictions. Multilabel: the pixels of half of the
    labels, with all the labels they have.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def owners(self, masks: Sequence[np.ndarray], ignore: int, rng: np.random.Generator) -> np.ndarray:  # noqa: D102
        mask = masks[1]
        if mask.ndim == 3:
            present = np.flatnonzero((mask == 1).any((0, 1)))
            chosen = rng.choice(present, (len(present) + 1) // 2, replace=False)
            return (mask[..., chosen] == 1).any(2) & (mask != ignore).all(2)
        present = np.unique(mask)
        present = present[present != ignore]
        chosen = rng.choice(present, (len(present) + 1) // 2, replace=False)
        return np.isin(mask, chosen)


class Mosaic(Mix):
    """Four images meet at a random centre that keeps `edge` (a share of height and width) from each border.

    Bochkovskiy et al. 2020, arXiv:2004.10934. Each gives the quadrant that is its own at this place: sky stays above.
    """

    partners = 3

    def __init__(self, p: float = 0.5, edge: float = 0.2) -> None:
        super().__init__(p)
        if not 0 <= edge <= 0.5:
            raise ConfigError(f"mix.edge is {edge}; it must be from 0 (anywhere) to 0.5 (always the middle).")
        self.edge = edge

    def owners(self, masks: Sequence[np.ndarray], ignore: int, rng: np.random.Generator) -> np.ndarray:  # noqa: D102
        height, width = masks[0].shape[:2]
        y, x = np.rint(rng.uniform(self.edge, 1 - self.edge, 2) * (height, width)).astype(int)
        quadrants = rng.permutation(4).astype(np.uint8).reshape(2, 2)
        return quadrants.repeat((y, height - y), 0).repeat((x, width - x), 1)


class CopyPaste(Mix):
    """Whole objects of the partner, each with probability `share`, pasted over the sample; what they cover is hidden.

    Ghiasi et al. 2021, arXiv:2012.07177, without blurred borders. The partner is augmented as any sample, so that sizes vary
    by augment.zoom. Crowds are never pasted. An object that is covered wholly is one no more.
    """

    needs_objects = True

    def __init__(self, p: float = 0.5, share: float = 0.5) -> None:
        super().__init__(p)
        if not 0 < share <= 1:
            raise ConfigError(f"mix.share is {share}; it must be above 0 and at most 1 (all objects of the other image).")
        self.share = share

    def owners(self, masks: Sequence[np.ndarray], ignore: int, rng: np.random.Generator) -> np.ndarray:
        """Not from masks: it pastes objects."""
        raise NotImplementedError

    def owners_of(self, held: Sequence[Objects], rng: np.random.Generator) -> tuple[np.ndarray, list[Objects]]:  # noqa: D102
        first, partner = held
        chosen = (rng.random(len(partner.labels)) < self.share) & ~partner.crowd
        pasted = np.concatenate([[False], chosen])[partner.ids]
        # Of another object that overlaps a chosen one, a piece would come along.
        return pasted.any(2), [first, partner._replace(ids=np.where(pasted, partner.ids, 0))]


def _pasted(arrays: Sequence[np.ndarray], owner: np.ndarray) -> np.ndarray:
    """The first array (H W or H W C) with the pixels that `owner` gives to the k-th one taken from it."""
    kind = np.result_type(*arrays)
    out = arrays[0].astype(kind, order="C")
    for k, other in enumerate(arrays[1:], 1):
        np.copyto(_pixels(out), _pixels(other.astype(kind, order="C", copy=False)), where=owner == k)
    return out


def _pixels(array: np.ndarray) -> np.ndarray:
    """H W C as H W items of C values, which numpy copies 20 times faster than under a mask that is broadcast over C."""
    return array.view(f"V{array.shape[2] * array.itemsize}")[..., 0] if array.ndim == 3 else array
