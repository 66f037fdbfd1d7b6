"""How alike two images are: their 64 x 64 grey thumbnails, compared for many pairs at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from seglab.data.checks.looks import Look

_CONTRAST = 0.5  # grey levels; thumbnails flatter than this are all alike
_RANDOM, _CHUNK = 4000, 500


class Shown(NamedTuple):
    """An image with what tells whether another one is alike."""

    split: str
    look: Look
    digest: str
    thumb: np.ndarray


def shown(looks: Mapping[str, Sequence[Look]]) -> list[Shown]:
    """All images that have something to see, by split."""
    found = []
    for split, some in looks.items():
        for look in some:
            if look.picture is not None:
                thumb = np.frombuffer(look.picture.thumb, np.uint8)
                if thumb.std() > _CONTRAST and look.picture.high > look.picture.low:
                    found.append(Shown(split, look, look.picture.digest, thumb))
    return found


def alike(images: Sequence[Shown], pairs: np.ndarray) -> np.ndarray:
    """Correlation of the thumbnails of each pair, N x 2 places in `images`; some pairs at a time, to spare memory."""
    parts = np.array_split(pairs, 1 + len(pairs) // _CHUNK)
    return np.concatenate([_correlation(images, part) for part in parts if len(part)] or [np.zeros(0)])


def _correlation(images: Sequence[Shown], pairs: np.ndarray) -> np.ndarray:
    sides = []
    for side in pairs.T:
        thumbs = _thumbs(images, side)
        thumbs -= thumbs.mean(1, keepdims=True)
        sides.append(thumbs / np.sqrt((thumbs * thumbs).sum(1, keepdims=True)))
    return (sides[0] * sides[1]).sum(1)


def difference(images: Sequence[Shown], pairs: np.ndarray) -> np.ndarray:
    """Mean absolute difference of the thumbnails of each pair, in grey levels."""
    one, other = (_thumbs(images, side) for side in pairs.T)
    return np.abs(one - other).mean(1)


def _thumbs(images: Sequence[Shown], places: np.ndarray) -> np.ndarray:
    return np.stack([images[k].thumb for k in places]).astype(np.float32)


def by_chance(images: Sequence[Shown]) -> np.ndarray:
    """Sorted correlations of pairs drawn by chance (always the same ones)."""
    draw = np.random.default_rng(0).integers(0, len(images), (min(_RANDOM, 20 * len(images)), 2))
    draw = draw[draw[:, 0] != draw[:, 1]]
    return np.sort(alike(images, draw))
