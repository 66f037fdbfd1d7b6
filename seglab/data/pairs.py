"""Which image and which mask belong together: one pair, and a million of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from seglab.data.compact import Compact, Texts


class Pair(NamedTuple):
    """One image and its mask; `id` is the image's path below its folder, without the suffix."""

    id: str
    image: str
    mask: str


class Pairs(Compact[Pair]):
    """Many pairs, as three Texts of equal length."""

    def __init__(self, ids: Texts, images: Texts, masks: Texts) -> None:
        self.ids, self.images, self.masks = ids, images, masks

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> Pairs:
        """The same pairs, compact."""
        if isinstance(pairs, Pairs):
            return pairs
        return cls(*(Texts(one[column] for one in pairs) for column in range(3)))

    def __len__(self) -> int:
        return len(self.ids)

    def one(self, index: int) -> Pair:  # noqa: D102
        return Pair(self.ids.one(index), self.images.one(index), self.masks.one(index))

    def __iter__(self) -> Iterator[Pair]:
        return map(Pair, self.ids, self.images, self.masks)

    def take(self, order: np.ndarray) -> Pairs:
        """The pairs at these positions, in this order."""
        return Pairs(self.ids.take(order), self.images.take(order), self.masks.take(order))
