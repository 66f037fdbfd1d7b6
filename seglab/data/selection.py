"""A data set with other splits: folds for cross-validation, and a part of the training images for learning curves."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from seglab.data.layout import SPLITS, hashed
from seglab.data.source import Source
from seglab.errors import ConfigError, DataError, visible
from seglab.types import Sample, Spec, group_labels

log = logging.getLogger("seglab")
Place = tuple[str, int]  # a split of the data set, and the position in it
_THREADS = 8


class Selected(Source):
    """A data set whose splits are lists of places in another's; `fold` is the number of its fold, if it is one."""

    def __init__(self, source: Source, places: dict[str, list[Place]], fold: int | None = None) -> None:
        self.source, self.places, self.fold = source, places, fold
        self.name, self.spec, self.group = source.name, source.spec, source.group
        sizes = {split: source.sizes(split) for split in SPLITS}
        self._ids = {split: _names(source, some) for split, some in places.items()}
        self._sizes = {split: [sizes[of][n] for of, n in some] for split, some in places.items()}

    def ids(self, split: str) -> list[str]:  # noqa: D102
        return self._ids[split]

    def sizes(self, split: str) -> list[tuple[int, int]]:  # noqa: D102
        return self._sizes[split]

    def load(self, split: str, index: int) -> Sample:  # noqa: D102
        return self.source.load(*self.places[split][index])

    def load_mask(self, split: str, index: int) -> np.ndarray:  # noqa: D102
        return self.source.load_mask(*self.places[split][index])

    def stamp(self, split: str, index: int) -> int:  # noqa: D102
        return self.source.stamp(*self.places[split][index])

    def fingerprint(self) -> str:
        """That of the data set: what is selected follows from the settings."""
        return self.source.fingerprint()


def select(
    source: Source, limit: float | int | None = None, folds: int | None = None, fold: int = 0, split_seed: int = 0
) -> Source:
    """The data set with fold number `fold` of `folds` as val, the others as train, and of train a part (`limit`).

    Folds and part follow from the data and `split_seed`, not from a run's seed. Images of one group (source.group) are in one
    fold. ConfigError for impossible values, DataError where there are too few images or groups.
    """
    _check_groups(source)
    if folds is None and fold:
        raise ConfigError(f"data.fold={fold} needs the number of folds: data.folds=5.")
    if folds is None and limit is None:
        return source
    places = {split: [(split, n) for n in range(len(source.ids(split)))] for split in SPLITS}
    if folds is not None:
        if folds < 2 or not 0 <= fold < folds:
            raise ConfigError(f"data.fold={fold} of data.folds={folds}: folds must be 2 or more, and fold 0 to folds - 1.")
        pool = [*places["train"], *places["val"]]
        if not pool:
            raise DataError(f"data.folds={folds}: the data set '{source.name}' has no images in train and val.")
        numbers = assign(_labels(source, pool), _classes(source, pool), folds, split_seed)
        places["train"] = [place for place, number in zip(pool, numbers, strict=True) if number != fold]
        places["val"] = [place for place, number in zip(pool, numbers, strict=True) if number == fold]
    if limit is not None:
        places["train"] = _limited(source, places["train"], limit, split_seed)
    return Selected(source, places, None if folds is None else fold)


def _check_groups(source: Source) -> None:
    """DataError where the groups cannot be found in all names; a warning where a group is in two splits."""
    if source.group is None:
        return
    held = {split: set(group_labels(source.ids(split), source.group, "data.group")) for split in SPLITS}
    for one, other in (("train", "test"), ("train", "val"), ("val", "test")):
        if both := sorted(held[one] & held[other]):
            text = "data.group: %d groups are in %s and in %s, such as '%s'; scores on images of known groups flatter"
            log.warning(text, len(both), one, other, visible(both[0]))


def _names(source: Source, places: Sequence[Place]) -> list[str]:
    ids = {split: source.ids(split) for split in {of for of, _ in places}}
    return [ids[of][n] for of, n in places]


def _labels(source: Source, places: Sequence[Place]) -> list[str]:
    """The group of each image; an image is its own where there are none."""
    if source.group is None:
        return [f"{of}/{name}" for (of, _), name in zip(places, _names(source, places), strict=True)]
    return group_labels(_names(source, places), source.group, "data.group")


def _classes(source: Source, places: Sequence[Place]) -> np.ndarray:
    """Which classes each image shows, bool (N, K)."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return np.stack(list(pool.map(lambda place: _shown(source.load_mask(*place), source.spec), places)))


def _shown(mask: np.ndarray, spec: Spec) -> np.ndarray:
    if spec.mode == "multilabel":
        return (mask == 1).any((0, 1))
    return np.bincount(mask[mask != spec.ignore_index], minlength=spec.num_classes) > 0


def assign(groups: Sequence[str], shown: np.ndarray, folds: int, seed: int) -> list[int]:
    """A fold for each image, whole groups together, so that each class is shown by about as many images of every fold.

    groups: N labels; shown: bool (N, K). The rarest class is dealt out first, each time to the fold that lacks it most
    (Sechidis et al. 2011, doi 10.1007/978-3-642-23808-6_10, of groups instead of samples). DataError for too few groups.
    """
    labels = sorted(set(groups), key=lambda label: (hashed(f"{seed}/{label}"), label))
    if len(labels) < folds:
        raise DataError(f"data.folds={folds}: there are only {len(labels)} images or groups in train and val together.")
    number = {label: n for n, label in enumerate(labels)}
    of = np.array([number[label] for label in groups])
    ones = np.ones((len(shown), 1), bool)  # every image counts as well, so that folds get equally many
    have = np.zeros((len(labels), shown.shape[1] + 1), np.int64)
    np.add.at(have, of, np.concatenate([shown, ones], 1))
    lack = np.tile(have.sum(0) / folds, (folds, 1))
    fold, left = np.full(len(labels), -1), np.ones(len(labels), bool)
    while left.any():
        rest = (have[left] > 0).sum(0)
        rarest = int(np.argmin(np.where(rest > 0, rest, len(labels) + 1)))
        for label in np.flatnonzero(left & (have[:, rarest] > 0)):
            # Of equals the one that lacks most images.
            best = max(range(folds), key=lambda f: (lack[f, rarest], lack[f, -1], -f))
            fold[label], left[label] = best, False
            lack[best] -= have[label]
    return fold[of].tolist()


def _limited(source: Source, places: list[Place], limit: float | int, seed: int) -> list[Place]:
    """The first so many of the training images in an order of their own, kept in the order of the data set."""
    if isinstance(limit, bool) or not limit > 0 or (isinstance(limit, float) and limit > 1):
        raise ConfigError(f"data.limit={limit} must be a number of images, or a fraction above 0 and at most 1.")
    count = math.ceil(round(limit * len(places), 9)) if isinstance(limit, float) else limit
    if count > len(places):
        raise ConfigError(f"data.limit={limit} is more than the {len(places)} training images; leave it out to use all.")
    groups, names = _labels(source, places), _names(source, places)
    order = sorted(range(len(places)), key=lambda n: (hashed(f"{seed}/{groups[n]}"), groups[n], hashed(f"{seed}/{names[n]}")))
    return [places[n] for n in sorted(order[:count])]
