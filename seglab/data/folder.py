"""The user's own images and masks in folders: `data=folder data.root=DIR`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.folder_checks import common_channels, mask_rules
from seglab.data.folder_classes import told_classes
from seglab.data.folder_scan import even_sample, scan
from seglab.data.folder_stats import mean_and_std, read_alike
from seglab.data.layout import Pair, find_pairs
from seglab.data.reading import read_mask
from seglab.data.source import Source, written
from seglab.errors import ConfigError, DataError, nearest
from seglab.types import Sample, Spec

_IMAGES = 64  # decoded before training, for mean and std
_MODES = ("binary", "multiclass", "multilabel")


class Folder(Source):
    """Images and masks of equal stem below `root` (see layout.find_pairs); all files are checked when it is made.

    What is not given is found out: classes from classes.json or counted, `mode` from the classes, mean and std measured.
    `foreground` reduces instance ids to 0/1; `colors` reads RGB masks; `channels` (1 or 3) converts images.
    """

    def __init__(
        self,
        root: str | Path | None,
        classes: list[str] | None = None,
        mode: str | None = None,
        ignore_index: int | None = None,
        foreground: bool = False,
        colors: list | None = None,
        split: Sequence[float] = (0.7, 0.15, 0.15),
        group: str | None = None,
        channels: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        if mode is not None and mode not in _MODES:
            raise ConfigError(f"data.mode is '{mode}'; it must be one of {', '.join(_MODES)}.{nearest(mode, _MODES)}")
        if (mean is None) != (std is None):
            raise ConfigError("data.mean and data.std belong together; give both, or neither to have them measured.")
        folder = _existing(root)
        self.name, self.group = folder.resolve().name, group
        told = told_classes(folder, classes, ignore_index, colors)
        self._pairs = find_pairs(folder, split, group)
        pairs = [one for some in self._pairs.values() for one in some]
        scans = scan(pairs)
        found = iter(scans)
        self._scans = {s: [next(found) for _ in some] for s, some in self._pairs.items()}
        self._channels = common_channels(pairs, scans, channels)
        self._as_float = any(s.image.dtype != "uint8" for s in scans)  # one dtype, so that samples stack
        self._rules = mask_rules(pairs, scans, told, mode, foreground)
        if mean is None or std is None:
            mean, std = self._measured()
        r, palette = self._rules, told.colors or ()
        palette = palette if len(palette) == len(r.classes) else ()
        self.spec = Spec(r.classes, r.mode, r.ignore_index, self._channels, tuple(mean), tuple(std), palette, r.instances)

    def ids(self, split: str) -> list[str]:
        """The images' paths below their folder, without suffix, sorted."""
        return [one.id for one in self._pairs[split]]

    def sizes(self, split: str) -> list[tuple[int, int]]:
        """(height, width) of every image, from the headers."""
        return [(s.image.height, s.image.width) for s in self._scans[split]]

    def load(self, split: str, index: int) -> Sample:
        """The image as H W C (uint8 or float32) and the mask as class ids, in the orientation in which they are stored."""
        pair, rules, size = self._pairs[split][index], self._rules, self._size(split, index)
        image, stored = self._image(pair), self._stored(split, index)
        if image.shape[:2] != size:
            raise DataError(f"{pair.image} changed its size while in use; start again.")
        sample: Sample = {"image": image, "mask": rules.codec(stored, pair.mask), "id": pair.id, "size": size}
        if rules.instances:
            values = rules.codec.values(stored, pair.mask).astype(np.int32)
            sample["instances"] = np.where(sample["mask"] == 1, values, 0)
        return sample

    def load_mask(self, split: str, index: int) -> np.ndarray:
        """The mask as class ids, without its image."""
        return self._rules.codec(self._stored(split, index), self._pairs[split][index].mask)

    def _size(self, split: str, index: int) -> tuple[int, int]:
        header = self._scans[split][index].image
        return header.height, header.width

    def _stored(self, split: str, index: int) -> np.ndarray:
        path = self._pairs[split][index].mask
        stored = read_mask(path)
        if stored.shape[:2] != self._size(split, index):
            raise DataError(f"{path} changed its size while in use; start again.")
        return stored

    def stamp(self, split: str, index: int) -> int:  # noqa: D102
        return written(self._pairs[split][index].image, self._pairs[split][index].mask)

    def fingerprint(self) -> str:
        """16 hex digits over names, splits, file sizes, headers and the meaning of the masks; not over dates or `root`."""
        r, c = self._rules, self._rules.codec  # without the codec's remedy, which may name a path
        text = repr((r.classes, r.mode, r.ignore_index, r.instances, c.ids, c.rest, c.colored, c.layered, self._channels))
        text += repr(
            [(s, one.id, found) for s in self._pairs for one, found in zip(self._pairs[s], self._scans[s], strict=True)]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _image(self, pair: Pair) -> np.ndarray:
        return read_alike(pair.image, self._channels, self._as_float)

    def _measured(self) -> tuple[Sequence[float], Sequence[float]]:
        pairs = next(some for some in self._pairs.values() if some)  # train, unless there is none
        return mean_and_std(self._image(one) for one in even_sample(pairs, _IMAGES))


def _existing(root: Any) -> Path:
    if not root:
        raise ConfigError("data.root is not set; name the folder of your images and masks: data=folder data.root=DIR.")
    folder = Path(root).expanduser()
    if folder.is_file():
        raise DataError(f"data.root={root} is a file; name the (unpacked) folder of images and masks.")
    if not folder.is_dir():
        near = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
        hint = nearest(folder.name, near)
        hint = hint if "Did" in hint else f" Relative paths start at {Path.cwd()}." if not folder.is_absolute() else ""
        raise DataError(f"data.root={root} does not exist; correct the path.{hint}")
    return folder
