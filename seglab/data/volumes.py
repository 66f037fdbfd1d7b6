"""Slices of volumes: what `data=nifti` and `data=dicom` share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from seglab.data.folder_classes import Told
from seglab.data.folder_scan import Seen, even_sample, in_threads
from seglab.data.folder_stats import both_or_neither, mean_and_std
from seglab.data.layout import FIRST, Pair
from seglab.data.mask_rules import Rules, decide
from seglab.data.source import Source, written
from seglab.data.volumes_agree import Both, alike, matched, whole_numbers
from seglab.data.volumes_grid import AXES, Axis, place, plane, plane_size, turned
from seglab.data.volumes_volume import VOLUME, Recent, Volume
from seglab.data.volumes_window import check_window, own_window, windowed
from seglab.errors import ConfigError, DataError
from seglab.types import Sample, Spec, group_labels

_MASKS, _IMAGES, _SLICES = 24, 12, 4  # volumes of masks and of images that are read before training, and slices of each


class Slices(NamedTuple):
    """The slices of a split: of which volume each is, its number in it, and its name."""

    of: list[int]
    numbers: list[int]
    ids: list[str]


class Volumes(Source):
    """The slices of pairs of volumes along an axis; a slice is NAME/NUMBER, counted from the left, the back or the feet.

    `open_pair` gives both volumes of a Pair from their headers. `window` is in the units of the images (None: uint8 stays,
    others by each volume's percentiles). Without `empty` train has only slices on which something but class 0 is marked.
    `group` finds what belongs together in the names of volumes; without it that is the volume.
    """

    def __init__(
        self,
        name: str,
        pairs: dict[str, list[Pair]],
        open_pair: Callable[[Pair], tuple[Volume, Volume]],
        told: Told,
        axis: Axis = "axial",
        window: Sequence[float] | None = None,
        empty: bool = True,
        mode: str | None = None,
        foreground: bool = False,
        group: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        both_or_neither(mean, std)
        if mode == "multilabel":
            raise ConfigError("data.mode=multilabel needs masks of one channel per class; the labels of volumes have one.")
        self.name, self.pairs, self._axis, self._window = name, pairs, AXES[axis], check_window(window)
        every = [one for some in pairs.values() for one in some]
        if not every:
            raise DataError(f"The data set '{name}' has no volume; correct data.root.")
        found = iter(list(in_threads(lambda one: matched(*open_pair(one)), every, "Reading headers", len(every))))
        self._volumes = {split: [next(found) for _ in some] for split, some in pairs.items()}
        self._recent, self._masks, self._windows = Recent(), Recent(), dict[str, np.ndarray]()
        both = [one for some in self._volumes.values() for one in some]
        self._channels, self._bytes = alike([one.image for one in both], self._window)
        self.rules = r = self._ruled(even_sample(both, _MASKS), told, mode, foreground)
        self.group = VOLUME if group is None else FIRST
        self._slices = {split: self._listed(split, group, empty or split != "train") for split in pairs}
        if mean is None or std is None:
            mean, std = mean_and_std(self._sampled())
        palette = tuple(told.colors or ()) if len(told.colors or ()) == len(r.classes) else ()
        self.spec = Spec(r.classes, r.mode, r.ignore_index, self._channels, tuple(mean), tuple(std), palette, r.instances)

    @staticmethod
    def reader(**_: Any) -> Callable[[str], np.ndarray]:
        """ConfigError: an image file is no volume, and nothing would bring its values into the window."""
        raise ConfigError(
            "The network was trained on windowed slices of volumes, and predict reads image files; score volumes by "
            "python -m seglab.evaluate."
        )

    def ids(self, split: str) -> list[str]:
        """VOLUME/NUMBER of each slice; with data.group GROUP/VOLUME/NUMBER."""
        return self._slices[split].ids

    def sizes(self, split: str) -> list[tuple[int, int]]:
        """(height, width) of every slice, from the headers."""
        sizes = [plane_size(one.shape, self._axis) for one in self._volumes[split]]
        return [sizes[n] for n in self._slices[split].of]

    def load(self, split: str, index: int) -> Sample:
        """The slice as H W C (uint8 as stored, or float32 in 0..1), and its class ids."""
        both, number = self._at(split, index)
        stored, rules = self._stored(both, number), self.rules
        mask = rules.codec(stored, both.mask.path)
        size = mask.shape[0], mask.shape[1]
        sample: Sample = {"image": self._image(both, number), "mask": mask, "id": self.ids(split)[index], "size": size}
        if rules.instances:
            sample["instances"] = rules.objects(stored, mask, both.mask.path)
        return sample

    def load_mask(self, split: str, index: int) -> np.ndarray:
        """The class ids, without the image."""
        both, number = self._at(split, index)
        return self.rules.codec(self._stored(both, number), both.mask.path)

    def stamp(self, split: str, index: int) -> int:  # noqa: D102
        both, number = self._at(split, index)
        parts = zip(both[:2], both.turns, strict=True)
        return written(*(file for one, turns in parts for file in one.behind(*place(turns, one.shape, self._axis, number))))

    def fingerprint(self) -> str:
        """16 hex digits over names, splits, headers, file sizes, and what images and masks mean; not over dates or `root`."""
        r = self.rules
        text = repr((r.classes, r.mode, r.ignore_index, r.instances, r.codec.ids, r.codec.rest, self._axis, self._window))
        for split, some in self._volumes.items():
            text += repr((split, self.ids(split)))
            for both in some:
                text += repr([(v.shape, v.channels, v.dtype, [os.path.getsize(f) for f in v.files]) for v in both[:2]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _at(self, split: str, index: int) -> tuple[Both, int]:
        found = self._slices[split]
        return self._volumes[split][found.of[index]], found.numbers[index]

    def _image(self, both: Both, number: int) -> np.ndarray:
        image, path = both.image, both.image.path
        values = plane(self._slab(image, both.turns[0], number, self._recent), self._axis)
        if self._bytes:
            return values
        window: Any = self._window
        if window is None:
            if path not in self._windows:
                self._windows[path] = own_window(self._recent.whole(image), path)
            window = self._windows[path]
        return windowed(values, window, path)

    def _stored(self, both: Both, number: int) -> np.ndarray:
        """The labels of a slice as stored, H W."""
        return whole_numbers(
            plane(self._slab(both.mask, both.turns[1], number, self._masks), self._axis)[..., 0], both.mask.path
        )

    def _slab(self, volume: Volume, turns: np.ndarray, number: int, recent: Recent) -> np.ndarray:
        axis, at = place(turns, volume.shape, self._axis, number)
        slab = volume.part(axis, at)
        if slab is None:  # a view: numpy's take would copy a whole volume in Fortran's order
            slab = recent.whole(volume)[(slice(None),) * axis + (slice(at, at + 1),)]
        return turned(slab, turns)

    def _ruled(self, some: Sequence[Both], told: Told, mode: str | None, foreground: bool) -> Rules:
        """The meaning of the labels, from what was told and from some volumes; DataError names one with another label."""
        look = lambda both: (both, frozenset(int(v) for v in np.unique(whole_numbers(both.mask.read(), both.mask.path))))  # noqa: E731
        seen = list(in_threads(look, some, "Looking at masks", len(some) * 100))
        rules = decide(told, mode, foreground, 1, False, [Seen(both.mask.path, values) for both, values in seen])
        for both, values in seen:
            if rules.codec.rest is None and not values <= {old for old, _ in rules.codec.ids}:
                for number in range(both.shape[self._axis]):
                    rules.codec(self._stored(both, number), f"{both.mask.path} (slice {number})")  # raises, with the place
        return rules

    def _listed(self, split: str, group: str | None, empty: bool) -> Slices:
        names = [one.id for one in self.pairs[split]]
        if group is not None:  # a name begins with its group, so that the pattern need not know of slices
            labels = group_labels(names, group, "data.group")
            names = [f"{label.replace('/', '-')}/{name}" for label, name in zip(labels, names, strict=True)]
        volumes = self._volumes[split]
        kept: Iterator[Sequence[int]] = (range(one.shape[self._axis]) for one in volumes)
        if not empty:
            kept = in_threads(self._marked, volumes, "Looking for labels", len(volumes) * 100)
        rows = [(n, number) for n, numbers in enumerate(kept) for number in numbers]
        ids = [f"{names[n]}/{number:04d}" for n, number in rows]
        return Slices([n for n, _ in rows], [number for _, number in rows], ids)

    def _marked(self, both: Both) -> list[int]:
        """The slices on which something is marked."""
        stored = turned(whole_numbers(both.mask.read(), both.mask.path)[..., 0], both.turns[1])
        mask = self.rules.codec(stored.reshape(len(stored), -1), both.mask.path).reshape(stored.shape)
        others = tuple(n for n in range(3) if n != self._axis)
        return np.flatnonzero(((mask != 0) & (mask != self.rules.ignore_index)).any(others)).tolist()

    def _sampled(self) -> Iterator[np.ndarray]:
        volumes = next(some for some in self._volumes.values() if some)  # train, unless there is none
        for both in even_sample(volumes, _IMAGES):
            for number in even_sample(range(both.shape[self._axis]), _SLICES):
                yield self._image(both, number)
