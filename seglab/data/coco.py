"""Images whose objects are outlined in JSON files of COCO's format: `data=coco data.root=DIR`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from seglab.data.coco_classes import classes_of, labels_of
from seglab.data.coco_layout import ALL, existing, find_files, image_folders
from seglab.data.coco_reading import Content, read
from seglab.data.coco_scan import Found, Item, compact, distinct, find_images, without_suffix
from seglab.data.folder_checks import common_channels
from seglab.data.folder_scan import Scan, even_sample
from seglab.data.folder_stats import both_or_neither, mean_and_std, read_alike
from seglab.data.layout import SPLITS, Pair, hashed_split
from seglab.data.objects import layered
from seglab.data.reduced import read_reduced
from seglab.data.source import Source, written
from seglab.errors import DataError
from seglab.rle import areas, decode
from seglab.types import Color, Mode, Sample, Spec

log = logging.getLogger("seglab")

_IMAGES = 64  # decoded before training, for mean and std


class Coco(Source):
    """Objects from COCO JSON files below `root` (see coco_layout.find_files); all is checked when it is made.

    Class 0 is the background, then come the categories by id, or those that `classes` names. The mask shows crowd regions
    below objects and larger objects below smaller ones; of two of equal size, the later annotation lies on top.
    `images` (one folder, several, or one per split) and `train`, `val`, `test` (JSON files) are relative to `root`.
    """

    can_reduce = True

    def __init__(
        self,
        root: str | Path | None,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        images: str | list[str] | dict[str, str] | None = None,
        classes: list[str] | None = None,
        split: Sequence[float] = (0.7, 0.15, 0.15),
        group: str | None = None,
        channels: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        both_or_neither(mean, std)
        folder = existing(root)
        self.name, self.group = folder.resolve().name, group
        files = find_files(folder, {"train": train, "val": val, "test": test})
        contents = {s: read(file) for s, file in files.items()}
        names, colors = classes_of(list(contents.values()), classes)
        found = {s: find_images(one, image_folders(folder, files[s], s, images)) for s, one in contents.items()}
        self._take(contents, found, names, colors, split, channels, mean, std)

    def _take(
        self, contents: Mapping[str, Content], found: Mapping[str, list[Found]], names: tuple[str, ...],
        colors: tuple[Color, ...], split: Sequence[float], channels: int | None, mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ) -> None:  # fmt: skip
        """Make the data set of what the files hold, and of where their images were found."""
        distinct((contents[s], found[s]) for s in contents)
        items = {s: _named(compact(one, found[s], labels_of(one, names))) for s, one in contents.items()}
        self._items = _split(items.pop(ALL), split, self.group) if ALL in items else {s: items.get(s, []) for s in SPLITS}
        every = [one for some in self._items.values() for one in some]
        self._channels = _channels(every, channels)
        self._as_float = any(one.found.header.dtype != "uint8" for one in every)  # one dtype, so that samples stack
        if mean is None or std is None:
            mean, std = self._measured()
        mode: Mode = "binary" if len(names) == 2 else "multiclass"
        ignore = 255 if len(names) <= 255 else 65535
        self._dtype = np.uint8 if ignore == 255 else np.int32
        self.spec = Spec(names, mode, ignore, self._channels, tuple(mean), tuple(std), colors, instances=True)

    def ids(self, split: str) -> list[str]:
        """The file names as the JSON lists them, without suffix (unless two would be the same), sorted."""
        return [one.id for one in self._items[split]]

    def sizes(self, split: str) -> list[tuple[int, int]]:
        """(height, width) of every image, from the headers."""
        return [one.size for one in self._items[split]]

    def load(self, split: str, index: int) -> Sample:
        """The image as H W C (uint8 or float32), mask, and the objects in the order of their annotations, crowds included."""
        item = self._items[split][index]
        image = self._image(item)
        if self.reduced is None and image.shape[:2] != item.size:
            raise DataError(f"{item.found.path} changed its size while in use; start again.")
        masks = decode(item.rles, item.size)
        return {
            "image": image, "mask": self._drawn(item, masks.__getitem__), "id": item.id, "size": item.size,
            "instances": layered(masks), "labels": item.labels.copy(), "crowd": item.crowd.copy(),
        }  # fmt: skip

    def image_file(self, split: str, index: int) -> str:
        """The path of the image's file."""
        return self._items[split][index].found.path

    def load_mask(self, split: str, index: int) -> np.ndarray:
        """The mask as class ids, without its image."""
        item = self._items[split][index]
        return self._drawn(item, lambda i: decode(item.rles[i : i + 1], item.size)[0])

    def _drawn(self, item: Item, mask: Callable[[int], np.ndarray]) -> np.ndarray:
        drawn = np.zeros(item.size, self._dtype)
        for i in _order(item):
            drawn[mask(i)] = item.labels[i]
        return drawn

    def stamp(self, split: str, index: int) -> int:  # noqa: D102
        return written(self._items[split][index].found.path)  # the objects are in the fingerprint

    def fingerprint(self) -> str:
        """16 hex digits over classes, names, splits, headers, file sizes and every object; not over dates or `root`."""
        digest = hashlib.sha256(repr((self.spec.classes, self.spec.mode, self._channels)).encode())
        for split, items in self._items.items():
            for one in items:
                text = (split, one.id, one.found.header, one.found.bytes, one.labels.tolist(), one.crowd.tolist(), one.rles)
                digest.update(repr(text).encode())
        return digest.hexdigest()[:16]

    def _image(self, item: Item) -> np.ndarray:
        if self.reduced is not None:
            return read_reduced(item.found.path, self._channels, self._as_float, item.size, self.reduced)
        return read_alike(item.found.path, self._channels, self._as_float)

    def _measured(self) -> tuple[Sequence[float], Sequence[float]]:
        items = next(some for some in self._items.values() if some)  # train, unless there is none
        return mean_and_std(self._image(one) for one in even_sample(items, _IMAGES))


def _order(item: Item) -> np.ndarray:
    """The objects from the lowest to the topmost: crowds first, then from large to small, else as annotated."""
    return np.lexsort((-areas(item.rles, item.size), ~item.crowd))


def _named(items: list[Item]) -> list[Item]:
    names = without_suffix([one.id for one in items])
    return sorted((one._replace(id=name) for one, name in zip(items, names, strict=True)), key=lambda one: one.id)


def _split(items: list[Item], fractions: Sequence[float], group: str | None) -> dict[str, list[Item]]:
    """By the hash of the name, as a folder's images are split."""
    by_path = {one.found.path: one for one in items}
    split = hashed_split([Pair(one.id, one.found.path, "") for one in items], fractions, group)
    return {s: [by_path[pair.image] for pair in some] for s, some in split.items()}


def _channels(items: Sequence[Item], wanted: int | None) -> int:
    """As a folder's, but grey among colour images, as in COCO itself, makes all of them three channels."""
    headers = [one.found.header for one in items]
    found = {header.channels for header in headers}
    if wanted is None and len(found) > 1 and max(found) <= 4:
        log.info("Images have %s channels; all are read as 3.", " or ".join(map(str, sorted(found))))
        wanted = 3
    pairs = [Pair(one.id, one.found.path, "") for one in items]
    return common_channels(pairs, [Scan(header, header, (0, 0)) for header in headers], wanted)
