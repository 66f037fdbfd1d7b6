"""ADE20K's scene parsing challenge, 150 classes: `data=ade20k data.root=ADEChallengeData2016`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seglab.data.layout import pair
from seglab.data.paired import IGNORE, Paired, existing, public_test, stated, within
from seglab.errors import DataError

# By id, 1 to 150: the first of each class's names in objectInfo150.txt.
CLASSES = tuple(
    """wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, door, table,
    mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, field, armchair, seat, fence,
    desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, signboard, chest of drawers, counter, sand, sink,
    skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow, screen door, stairway,
    river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop, stove, palm, kitchen island,
    computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight,
    booth, television, airplane, dirt track, apparel, pole, land, bannister, escalator, ottoman, bottle, buffet, poster, stage,
    van, ship, fountain, conveyer belt, canopy, washer, plaything, swimming pool, stool, barrel, basket, waterfall, tent, bag,
    minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot, animal, bicycle, lake, dishwasher, screen,
    blanket, sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan, pier, crt screen, plate, monitor, bulletin board,
    shower, radiator, glass, clock, flag""".replace("\n   ", "").split(", ")
)  # fmt: skip
IDS = {0: IGNORE} | {n + 1: n for n in range(len(CLASSES))}  # 0: none of the classes
_REMEDY = "the challenge's masks hold 0..150; take the original file (masks of the full ADE20K are something else)"
_IMAGES, _MASKS = "images", "annotations"


class Ade20k(Paired):
    """images/{training,validation} with annotations/{training,validation}: the ids 1..150 become 0..149, 0 counts nowhere.

    Names of classes are those of objectInfo150.txt in the folder, or the same ones from here.
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
        folder = existing(root, "ade20k", "ADE20K (ADEChallengeData2016)")
        holds = tuple(f"{kind}/{split}" for kind in (_IMAGES, _MASKS) for split in ("training", "validation"))
        folder = within(folder, holds, ("ADEChallengeData2016",), "; unpack ADEChallengeData2016.zip there")
        pairs = {
            short: pair(folder / _IMAGES / split, folder / _MASKS / split)
            for short, split in (("train", "training"), ("val", "validation"))
        }
        pairs["test"] = public_test(pairs["val"], test, "ADE20K")
        super().__init__(
            "ade20k", pairs, stated(_names(folder / "objectInfo150.txt"), IDS, _REMEDY), (), group, channels, mean, std
        )


def _names(file: Path) -> Sequence[str]:
    """The last column of the table, the first of the names in it."""
    if not file.is_file():
        return CLASSES
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
    names = [row[-1].replace(";", ",").split(",")[0].strip() for row in rows]
    if [row[0].strip() for row in rows] != [str(n) for n in range(1, 151)] or len(set(names)) < 150 or not all(names):
        raise DataError(f"{file} does not name the classes 1 to 150, one a line; take the original file, or remove it.")
    return names
