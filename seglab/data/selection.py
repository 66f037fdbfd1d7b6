"""A data set with other splits: folds for cross-validation, and a part of the training images for learning curves."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np

from seglab.data.compact import Compact, Sizes, Texts, array_of
from seglab.data.counting import tally
from seglab.data.layout import FIRST, SPLITS, hashed
from seglab.data.source import Source
from seglab.data.volumes_volume import VOLUME
from seglab.errors import ConfigError, DataError, visible
from seglab.types import Sample, group_labels

log = logging.getLogger("seglab")
Place = tuple[str, int]  # a split of the data set, and the position in it
_NAMES = list(SPLITS)


class Places(Compact[Place]):
    """Many places, as two arrays: the number of the split (of SPLITS), and the position in it."""

    def __init__(self, splits: np.ndarray, positions: np.ndarray) -> None:
        self.splits, self.positions = splits, positions

    @classmethod
    def of(cls, source: Source, *splits: str) -> Places:
        """All places of these splits of a data set, one split after the other."""
        counts = [len(source.ids(split)) for split in splits]
        numbers = np.array([_NAMES.index(split) for split in splits], np.int8)
        return cls(np.repeat(numbers, counts), np.concatenate([np.arange(n) for n in counts]))

    def __len__(self) -> int:
        return len(self.positions)

    def one(self, index: int) -> Place:  # noqa: D102
        return _NAMES[self.splits[index]], int(self.positions[index])

    def take(self, order: np.ndarray) -> Places:
        """The places at these positions, in this order."""
        return Places(self.splits[order], self.positions[order])

    def within(self) -> list[str]:
        """The splits in which there are any."""
        return [_NAMES[number] for number in np.unique(self.splits)]


class Selected(Source):
    """A data set whose splits are lists of places in another's; `fold` is the number of its fold, if it is one.

    Where a fold's train and val, pooled, have two images of one name, names begin with the split that they come from (and, as
    a pattern on names could not know that, with the group before it).
    """

    def __init__(self, source: Source, places: dict[str, Places], fold: int | None = None) -> None:
        self.source, self.places, self.fold = source, places, fold
        self.name, self.spec, self.group = source.name, source.spec, source.group
        self._renamed = fold is not None and not set(source.ids("train")).isdisjoint(source.ids("val"))
        name = _names if not self._renamed else _long_names
        self._ids = {split: Texts(name(source, some)) for split, some in places.items()}
        if self._renamed and self.group is not None:
            self.group = FIRST

    def ids(self, split: str) -> Sequence[str]:  # noqa: D102
        return self._ids[split]

    def sizes(self, split: str) -> Sequence[tuple[int, int]]:  # noqa: D102
        places = self.places[split]
        sizes = np.zeros((len(places), 2), np.int64)
        for of in places.within():
            here = places.splits == _NAMES.index(of)
            sizes[here] = array_of(self.source.sizes(of))[places.positions[here]]
        return Sizes(sizes)

    def seen_sizes(self, split: str) -> tuple[set[tuple[int, int]], bool]:  # noqa: D102
        seen = [self.source.seen_sizes(of) for of in self.places[split].within()]
        if all(whole for _, whole in seen):
            return set(self.sizes(split)), True
        return set().union(*(sizes for sizes, _ in seen)), False

    def load(self, split: str, index: int) -> Sample:  # noqa: D102
        sample = self.source.load(*self.places[split][index])
        return {**sample, "id": self._ids[split][index]} if self._renamed else sample

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
    places = {split: Places.of(source, split) for split in SPLITS}
    if folds is not None:
        if folds < 2 or not 0 <= fold < folds:
            raise ConfigError(f"data.fold={fold} of data.folds={folds}: folds must be 2 or more, and fold 0 to folds - 1.")
        pool = Places.of(source, "train", "val")
        if not len(pool):
            raise DataError(f"data.folds={folds}: the data set '{source.name}' has no images in train and val.")
        numbers = np.array(assign(_labels(source, pool), _classes(source, pool), folds, split_seed))
        places["train"], places["val"] = pool.take(np.flatnonzero(numbers != fold)), pool.take(np.flatnonzero(numbers == fold))
    if limit is not None:
        places["train"] = _limited(source, places["train"], limit, split_seed)
    return Selected(source, places, None if folds is None else fold)


def _check_groups(source: Source) -> None:
    """DataError where the groups cannot be found in all names; a warning where a group is in two splits."""
    if source.group is None:
        return
    held = {split: set(group_labels(source.ids(split), source.group, "data.group")) for split in SPLITS}
    for one, other in (("train", "test"), ("train", "val"), ("val", "test")):
        if (both := sorted(held[one] & held[other])) and source.group == VOLUME:
            text = "%s and %s have volumes of the same name (%d, such as '%s'); if they are the same volumes, scores flatter"
            log.warning(text, one, other, len(both), visible(both[0]))
        elif both:
            text = "data.group: %d groups are in %s and in %s, such as '%s'; scores on images of known groups flatter"
            log.warning(text, len(both), one, other, visible(both[0]))


def _names(source: Source, places: Places) -> Iterator[str]:
    within = places.within()
    if len(within) == 1 and isinstance(ids := source.ids(within[0]), Texts):
        return iter(ids.take(places.positions))
    names = {split: source.ids(split) for split in within}
    return (names[of][n] for of, n in places)


def _long_names(source: Source, places: Places) -> Iterator[str]:
    """SPLIT/NAME in train and val; with groups GROUP/SPLIT/NAME in all."""
    names = list(_names(source, places))
    if source.group is None:
        return (name if of == "test" else f"{of}/{name}" for (of, _), name in zip(places, names, strict=True))
    labels = group_labels(names, source.group, "data.group")
    return (f"{g.replace('/', '-')}/{of}/{name}" for g, (of, _), name in zip(labels, places, names, strict=True))


def _labels(source: Source, places: Places) -> list[str]:
    """The group of each image; an image is its own where there are none."""
    if source.group is None:
        return [f"{of}/{name}" for (of, _), name in zip(places, _names(source, places), strict=True)]
    return group_labels(list(_names(source, places)), source.group, "data.group")


def _classes(source: Source, places: Places) -> np.ndarray:
    """Which classes each image shows, bool (N, K): all masks are read, once."""
    shown = np.zeros((len(places), source.spec.num_classes), bool)
    for of in places.within():
        here = places.splits == _NAMES.index(of)
        shown[here] = (tally(source, of).pixels > 0)[places.positions[here]]
    return shown


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


def _limited(source: Source, places: Places, limit: float | int, seed: int) -> Places:
    """The first so many of the training images in an order of their own, kept in the order of the data set."""
    if isinstance(limit, bool) or not limit > 0 or (isinstance(limit, float) and limit > 1):
        raise ConfigError(f"data.limit={limit} must be a number of images, or a fraction above 0 and at most 1.")
    count = math.ceil(round(limit * len(places), 9)) if isinstance(limit, float) else limit
    if count > len(places):
        raise ConfigError(f"data.limit={limit} is more than the {len(places)} training images; leave it out to use all.")
    rank = _ranks(_labels(source, places), seed)
    if source.group is None:  # each image is its own label, so that no two have one rank
        return places.take(np.sort(np.argsort(rank)[:count]))
    names = np.fromiter((hashed(f"{seed}/{name}") for name in _names(source, places)), np.float64, len(places))
    return places.take(np.sort(np.lexsort((names, rank))[:count]))


def _ranks(labels: list[str], seed: int) -> np.ndarray:
    """For each label its place in the order of their hashes (of equal hashes: of the labels), the same for equal labels."""
    hashes = np.fromiter((hashed(f"{seed}/{label}") for label in labels), np.float64, len(labels))
    _, rank = np.unique(hashes, return_inverse=True)
    first: dict[int, str] = {}
    if all(first.setdefault(n, label) == label for n, label in zip(rank.tolist(), labels, strict=True)):
        return rank
    number = {label: n for n, (_, label) in enumerate(sorted({*zip(hashes.tolist(), labels, strict=True)}))}
    return np.array([number[label] for label in labels])
