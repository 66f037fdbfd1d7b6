"""Cityscapes, 19 classes: `data=cityscapes data.root=DIR`, where DIR holds leftImg8bit and gtFine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seglab.data.layout import Pair
from seglab.data.paired import IGNORE, Paired, existing, public_test, stated, within
from seglab.errors import DataError
from seglab.types import Color

CLASSES: dict[str, tuple[int, Color]] = {  # id in *_labelIds.png, colour; the position is the train id
    "road": (7, (128, 64, 128)), "sidewalk": (8, (244, 35, 232)), "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)), "fence": (13, (190, 153, 153)), "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)), "traffic sign": (20, (220, 220, 0)), "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)), "sky": (23, (70, 130, 180)), "person": (24, (220, 20, 60)), "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)), "truck": (27, (0, 0, 70)), "bus": (28, (0, 60, 100)), "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)), "bicycle": (33, (119, 11, 32)),
}  # fmt: skip
_LABELS = range(34)  # of which those that CLASSES leaves out count nowhere
IDS = {
    "labelIds": {n: IGNORE for n in _LABELS} | {old: new for new, (old, _) in enumerate(CLASSES.values())},
    "labelTrainIds": {**{n: n for n in range(len(CLASSES))}, 255: IGNORE},
}
_REMEDY = {
    "labelIds": "Cityscapes' label ids are 0..33; take the original file",
    "labelTrainIds": "Cityscapes' train ids are 0..18, and 255 for what counts nowhere; take the original file",
}
_IMAGES, _MASKS, _ENDING = "leftImg8bit", "gtFine", "_leftImg8bit.png"


class Cityscapes(Paired):
    """leftImg8bit/{train,val}/CITY with gtFine/{train,val}/CITY: the 34 label ids become 19 classes, the rest counts nowhere.

    Masks are *_gtFine_labelIds.png, or where there are none *_gtFine_labelTrainIds.png. Names are CITY/CITY_NUMBER_NUMBER.
    """

    def __init__(
        self,
        root: str | Path | None,
        test: str | None = None,
        group: str | None = None,
        channels: int | None = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        folder = existing(root, "cityscapes", "Cityscapes")
        unpack = "; unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there"
        folder = within(folder, (_IMAGES, _MASKS), ("cityscapes",), unpack)
        kind = next((k for k in IDS if next((folder / _MASKS).glob(f"*/*/*_{_MASKS}_{k}.png"), None)), "labelIds")
        pairs = {split: _pairs(folder, split, kind) for split in ("train", "val")}
        pairs["test"] = public_test(pairs["val"], test, "Cityscapes")  # those in gtFine/test are void all over
        colors = [color for _, color in CLASSES.values()]
        meaning = stated(list(CLASSES), IDS[kind], _REMEDY[kind])
        super().__init__("cityscapes", pairs, meaning, colors, group, channels, mean, std)


def _pairs(folder: Path, split: str, kind: str) -> list[Pair]:
    found = []
    for image in (folder / _IMAGES / split).glob(f"*/*{_ENDING}"):
        city, stem = image.parent.name, image.name.removesuffix(_ENDING)
        mask = folder / _MASKS / split / city / f"{stem}_{_MASKS}_{kind}.png"
        if not mask.is_file():
            raise DataError(f"{image} has no mask: {mask} does not exist; unpack gtFine_trainvaltest.zip whole.")
        found.append(Pair(f"{city}/{stem}", str(image), str(mask)))
    if not found:
        raise DataError(f"{folder / _IMAGES / split} holds no CITY/*{_ENDING}; unpack leftImg8bit_trainvaltest.zip whole.")
    return sorted(found)
