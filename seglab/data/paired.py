"""Images whose masks are files of their own: what `data=folder` and the formats of known data sets share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from seglab.data.compact import Sizes
from seglab.data.folder_checks import common_channels, common_layers, mask_rules
from seglab.data.folder_classes import Told
from seglab.data.folder_scan import Scan, even_sample, kinds, see
from seglab.data.folder_stats import both_or_neither, mean_and_std, read_alike
from seglab.data.headers import Headers
from seglab.data.layout import Pair, Pairs
from seglab.data.mask_codec import Codec
from seglab.data.mask_rules import Rules
from seglab.data.reading import read_mask
from seglab.data.reduced import read_reduced
from seglab.data.source import Source, written
from seglab.errors import ConfigError, DataError, nearest
from seglab.types import Color, Mode, Sample, Spec

log = logging.getLogger("seglab")

IGNORE = 255  # of the formats whose classes are fixed
_IMAGES, _MASKS = 64, 200  # decoded before training: images for mean and std, masks for their ids
P = TypeVar("P", bound=Sequence[Pair])
_MODES = ("binary", "multiclass", "multilabel")


@dataclass(frozen=True)
class Meaning:
    """What masks mean: rules follow from files and headers; `check` raises DataError for headers that do not go with them."""

    decide: Callable[[Sequence[Pair], Sequence[Scan]], Rules]
    check: Callable[[Sequence[Pair], Sequence[Scan], Rules], object]

    def __call__(self, pairs: Sequence[Pair], scans: Sequence[Scan]) -> Rules:
        """The rules."""
        return self.decide(pairs, scans)


class Paired(Source):
    """Pairs of image and mask, in splits; all files are checked when it is made, of very many (see Headers) when loaded.

    `meaning` says what the masks hold (see `found_out` and `stated`); `colors` are used if there is one for each class.
    `channels` (1 or 3) converts images; mean and std are measured unless given. `sizes` of a split's images, if known.
    """

    can_reduce = True

    def __init__(
        self,
        name: str,
        pairs: Mapping[str, Sequence[Pair]],
        meaning: Meaning,
        colors: Sequence[Color] = (),
        group: str | None = None,
        channels: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        sizes: Mapping[str, Sizes] | None = None,
    ) -> None:
        both_or_neither(mean, std)
        self.name, self.group, self.pairs = name, group, {split: Pairs.of(some) for split, some in pairs.items()}
        if not any(len(some) for some in pairs.values()):
            raise DataError(f"The data set '{name}' has no image; correct data.root, or the lists of its images.")
        self._headers, self._check, self._asked = Headers(self.pairs, sizes), meaning.check, channels
        every, scans = self._headers.looked, self._headers.scans
        self._channels = common_channels(every, scans, channels)
        self._as_float = any(found.image.dtype != "uint8" for _, found in kinds(every, scans))  # so that samples stack
        self.rules = r = meaning(every, scans)
        if mean is None or std is None:
            mean, std = self._measured()
        palette = tuple(colors) if len(colors) == len(r.classes) else ()
        self.spec = Spec(r.classes, r.mode, r.ignore_index, self._channels, tuple(mean), tuple(std), palette, r.instances)

    def ids(self, split: str) -> Sequence[str]:
        """The images' names, sorted: for most their paths below their folder, without suffix."""
        return self.pairs[split].ids

    def sizes(self, split: str) -> Sequence[tuple[int, int]]:
        """(height, width) of every image, from the headers."""
        return self._headers.sizes(split)

    def seen_sizes(self, split: str) -> tuple[set[tuple[int, int]], bool]:  # noqa: D102
        return self._headers.seen_sizes(split)

    def load(self, split: str, index: int) -> Sample:
        """The image as H W C (uint8 or float32) and the mask as class ids, in the orientation in which they are stored."""
        pair, rules, size = self.pairs[split][index], self.rules, self._size(split, index)
        image, stored = self._image(pair, size), self._stored(pair, size)
        if self.reduced is None and image.shape[:2] != size:
            raise DataError(f"{pair.image} changed its size while in use; start again.")
        sample: Sample = {"image": image, "mask": rules.codec(stored, pair.mask), "id": pair.id, "size": size}
        if rules.instances:
            sample["instances"] = rules.objects(stored, sample["mask"], pair.mask)
        return sample

    def load_mask(self, split: str, index: int) -> np.ndarray:
        """The mask as class ids, without its image."""
        pair = self.pairs[split][index]
        return self.rules.codec(self._stored(pair, self._size(split, index)), pair.mask)

    def _size(self, split: str, index: int) -> tuple[int, int]:
        """The size in the headers, which are checked now if they were not at the start."""
        found = self._headers.known(split, index)
        if found is None:
            found = self._headers.read(split, index)
            pairs, scans = [self._headers.looked[0], self.pairs[split][index]], [self._headers.scans[0], found]
            common_channels(pairs, scans, self._asked)
            self._check(pairs, scans, self.rules)
            if found.image.dtype != "uint8" and not self._as_float:
                raise DataError(
                    f"{pairs[1].image} has pixels of type {found.image.dtype}, but all images that were looked at before "
                    "training have uint8; convert it to uint8."
                )
        return found.image.height, found.image.width

    def _stored(self, pair: Pair, size: tuple[int, int]) -> np.ndarray:
        stored = read_mask(pair.mask)
        if stored.shape[:2] != size:
            raise DataError(f"{pair.mask} changed its size while in use; start again.")
        return stored

    def stamp(self, split: str, index: int) -> int:  # noqa: D102
        return written(self.pairs[split][index].image, self.pairs[split][index].mask)

    def fingerprint(self) -> str:
        """16 hex digits over names, splits, file sizes, headers and the meaning of the masks; not over dates or `root`.

        Where only a sample was looked at (see Headers), the sizes and headers are those of the sample.
        """
        r, c = self.rules, self.rules.codec  # without the codec's remedy, which may name a path
        text = repr((r.classes, r.mode, r.ignore_index, r.instances, c.ids, c.rest, c.colored, c.layered, self._channels))
        return self._headers.fingerprint(text)

    def _image(self, pair: Pair, size: tuple[int, int] = (0, 0)) -> np.ndarray:
        if self.reduced is not None:
            return read_reduced(pair.image, self._channels, self._as_float, size, self.reduced)
        return read_alike(pair.image, self._channels, self._as_float)

    def _measured(self) -> tuple[Sequence[float], Sequence[float]]:
        pairs = next(some for some in self._headers.parts.values() if some)  # train, unless there is none
        return mean_and_std(self._image(one) for one in even_sample(pairs, _IMAGES))


def found_out(told: Told, mode: str | None, foreground: bool) -> Meaning:
    """Masks of a user's own: what was not told is found out from them (see mask_rules)."""
    if mode is not None and mode not in _MODES:
        raise ConfigError(f"data.mode is '{mode}'; it must be one of {', '.join(_MODES)}.{nearest(mode, _MODES)}")
    return Meaning(lambda pairs, scans: mask_rules(pairs, scans, told, mode, foreground), _alike)


def _alike(pairs: Sequence[Pair], scans: Sequence[Scan], rules: Rules) -> None:
    common_layers(pairs, scans, rules.codec.layered)


def stated(classes: Sequence[str], ids: dict[int, int], remedy: str, mode: Mode = "multiclass") -> Meaning:
    """Masks of a known format: one channel in which `ids` (stored value -> class, or IGNORE) says all.

    An even sample is looked at; DataError names a mask with another value, and goes on as `remedy` says (see Codec).
    """
    rules = Rules(tuple(classes), mode, IGNORE, Codec(tuple(ids.items()), remedy=remedy))

    def looked_at(pairs: Sequence[Pair], scans: Sequence[Scan]) -> Rules:
        _single(pairs, scans, rules)
        for one in see([pair.mask for pair in even_sample(pairs, _MASKS)], False):
            if one.values is None or not one.values <= ids.keys():
                rules.codec(read_mask(one.path), one.path)  # raises, with the place
        return rules

    return Meaning(looked_at, _single)


def _single(pairs: Sequence[Pair], scans: Sequence[Scan], _: Rules) -> None:
    for pair, found in kinds(pairs, scans):
        if found.mask.layers != 1:
            raise DataError(
                f"{pair.mask} has {found.mask.layers} channels, but the masks of this format have one, of class ids; take "
                "the original file (data=folder with data.colors reads masks of RGB colours)."
            )


def existing(root: Any, choice: str = "folder", what: str = "your images and masks", remedy: str = "") -> Path:
    """The folder `root` of `data=choice`; Config- or DataError unless it exists. `remedy`: how to get it, if it can be got."""
    if not root:
        raise ConfigError(f"data.root is not set; name the folder of {what}: data={choice} data.root=DIR.")
    folder = Path(root).expanduser()
    if folder.is_file():
        raise DataError(f"data.root={root} is a file; name the (unpacked) folder of {what.removeprefix('your ')}.")
    if not folder.is_dir():
        near = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
        hint = nearest(folder.name, near)
        hint = hint if "Did" in hint else f" Relative paths start at {Path.cwd()}." if not folder.is_absolute() else ""
        raise DataError(f"data.root={root} does not exist; correct the path{remedy}.{hint}")
    return folder


def within(root: Path, holds: Sequence[str], below: Sequence[str], remedy: str = "") -> Path:
    """`root`, or that of its folders `below`, which holds all of the folders `holds`; DataError says what is missing."""
    for folder in (root, *(root / name for name in below)):
        if all((folder / name).is_dir() for name in holds):
            return folder
    missing = next(name for name in holds if not (root / name).is_dir())
    there = ", ".join(sorted(p.name for p in root.iterdir() if not p.name.startswith("."))[:8]) or "nothing"
    raise DataError(f"{root} has no folder {missing} (it holds {there}); expected are {' and '.join(holds)}{remedy}.")


def public_test(val: P, test: str | None, whose: str) -> P:
    """The test split where the true one has no public masks: nothing, or with data.test=val the validation images again."""
    if test is None:
        log.info("The masks of %s's test images are not public, so test is empty; data.test=val scores val as test.", whose)
        return cast(P, [])
    if test != "val":
        raise ConfigError(f"data.test={test} must be null, or val to score the validation images as test.")
    same_images(len(val))
    return val


def same_images(count: int) -> None:
    """Say that test is val."""
    log.warning("test and val are the same %d images: the weights are chosen on them, so the test score is flattered.", count)
