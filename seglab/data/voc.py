"""Pascal VOC's semantic segmentation: `data=voc data.root=VOCdevkit/VOC2012`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from seglab.data.layout import Pair
from seglab.data.paired import IGNORE, Paired, existing, same_images, stated, within
from seglab.errors import ConfigError, DataError, nearest
from seglab.types import Color

log = logging.getLogger("seglab")

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
IDS = {**{n: n for n in range(len(CLASSES))}, 255: IGNORE}  # 255: the border of an object
_LISTS, _IMAGES = "ImageSets/Segmentation", "JPEGImages"
_MASKS = ("SegmentationClass", "SegmentationClassAug")  # the second: SBD's masks, as PNG
_AUGMENTED = ("train_aug", "trainaug")
_REMEDY = "VOC's masks hold 0..20, and 255 for borders; take the original file"


class Voc(Paired):
    """Images that the lists `train`, `val` and `test` of ImageSets/Segmentation name; a split without a list is empty.

    Masks lie in SegmentationClass, or else in SegmentationClassAug. Palette PNGs hold the ids 0..20, and 255 at borders.
    """

    def __init__(
        self,
        root: str | Path | None,
        train: str | None = "train",
        val: str | None = "val",
        test: str | None = None,
        group: str | None = None,
        channels: int | None = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        folder = existing(root, "voc", "Pascal VOC")
        folder = within(folder, (_IMAGES, _LISTS), ("VOC2012", "VOCdevkit/VOC2012"))
        chosen = {"train": train, "val": val, "test": test}
        pairs = {s: _listed(folder, s, name) if name else [] for s, name in chosen.items()}
        _apart(chosen, pairs)
        if test is None:
            log.info("The masks of VOC's test images are not public, so test is empty; data.test=val scores val as test.")
        there = [name for name in _AUGMENTED if (folder / _LISTS / f"{name}.txt").is_file()]
        if train == "train" and there:
            log.info("There is a list %s; data.train=%s takes its images (SBD's) for training.", there[0], there[0])
        meaning = stated(CLASSES, IDS, _REMEDY)
        super().__init__(folder.resolve().name, pairs, meaning, palette(len(CLASSES)), group, channels, mean, std)


def palette(count: int) -> tuple[Color, ...]:
    """VOC's colours: the bits of an id, three at a time, become the highest bits of red, green and blue."""
    channel = lambda n, c: sum((n >> (3 * k + c) & 1) << (7 - k) for k in range(8))  # noqa: E731
    return tuple((channel(n, 0), channel(n, 1), channel(n, 2)) for n in range(count))


def _listed(folder: Path, split: str, name: str) -> list[Pair]:
    file = folder / _LISTS / f"{name}.txt"
    if not file.is_file():
        lists = [p.stem for p in (folder / _LISTS).glob("*.txt")]
        raise ConfigError(f"data.{split}={name}: {folder / _LISTS} has no list of that name.{nearest(name, lists)}")
    lines = file.read_text(encoding="utf-8").splitlines()
    # A line is a name, or (in lists made from SBD) the paths of image and mask.
    stems = sorted({Path(line.split()[0]).stem for line in lines if line.strip()})
    return [Pair(stem, str(folder / _IMAGES / f"{stem}.jpg"), _mask(folder, stem, file)) for stem in stems]


def _mask(folder: Path, stem: str, file: Path) -> str:
    if not (folder / _IMAGES / f"{stem}.jpg").is_file():
        raise DataError(
            f"{file} lists '{stem}', but {folder / _IMAGES} has no {stem}.jpg; unpack all images, or correct the list."
        )
    for name in _MASKS:
        if (folder / name / f"{stem}.png").is_file():
            return str(folder / name / f"{stem}.png")
    secret = " (those of VOC2012's test images are not public: data.test=val)" if file.stem == "test" else ""
    raise DataError(
        f"{file} lists '{stem}', but neither {' nor '.join(_MASKS)} has a mask {stem}.png{secret}; add it, or choose another "
        "list."
    )


def _apart(chosen: dict[str, str | None], pairs: dict[str, list[Pair]]) -> None:
    """No image in two splits; but test may be val, if that is said."""
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        both = sorted({one.id for one in pairs[a]} & {one.id for one in pairs[b]})
        if both and (a, chosen[a]) == ("val", chosen[b]):
            same_images(len(both))
        elif both:
            raise ConfigError(
                f"data.{a}={chosen[a]} and data.{b}={chosen[b]} share {len(both)} images ({both[0]} is one); choose lists "
                "that share none."
            )
