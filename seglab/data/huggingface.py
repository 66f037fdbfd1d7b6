"""Images and masks in tables of the package datasets: `data=huggingface data.root=FOLDER` or `data.root=OWNER/NAME`."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seglab.data.folder_classes import Told, told_classes
from seglab.data.huggingface_tables import Cells, cells, is_image, split_names, tables
from seglab.data.layout import SPLITS, Pair, hashed_split, read_json
from seglab.data.paired import Paired, found_out
from seglab.data.shards_bytes import part_of
from seglab.data.source import written
from seglab.errors import ConfigError, DataError, nearest, visible

log = logging.getLogger("seglab")

_SPLITS = {**SPLITS, "val": (*SPLITS["val"], "dev")}
_IMAGES = ("image", "img", "images", "pixel_values", "picture", "input")
_MASKS = ("mask", "annotation", "label", "labels", "masks", "segmentation", "semantic_mask", "segmentation_mask", "seg", "gt")
_NAMES = ("classes", "class_names", "labels", "categories")  # columns whose ClassLabel names the masks' ids


class HuggingFace(Paired):
    """Rows of a table with a column of images and one of masks, each stored as a PNG or other file within the table.

    `root` is a folder that save_to_disk wrote, one of parquet files, or a name on the hub (fetched by datasets, into its
    cache); `config` chooses one of several tables of a name. `train`, `val` and `test` are splits (null: by their names,
    none: nothing); a val that is missing is a share of train by hash, and where test is missing too it is one as well.
    """

    def __init__(
        self,
        root: str | None,
        config: str | None = None,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        image: str | None = None,
        mask: str | None = None,
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
        if not root:
            raise ConfigError("data.root is not set; name a folder, or a data set on the hub: data=huggingface data.root=DIR.")
        found = tables(root, config)
        chosen = split_names(list(found), {"train": train, "val": val, "test": test}, _SPLITS)
        if not chosen:
            raise DataError(f"data.root={root} has the splits {', '.join(found)}; name one by data.train.")
        first = found[next(iter(chosen.values()))]
        columns = _columns(first.features, image, mask)
        folder = Path(root).expanduser()
        pairs = {s: _pairs(found[name], name, columns, folder) for s, name in chosen.items()}
        pairs = _completed(pairs, split, group, {"val": val, "test": test})
        told = _told(told_classes(folder, classes, ignore_index, colors), folder, first.features, columns[1], classes)
        meaning = found_out(told, mode, foreground)
        super().__init__(Path(root).name, pairs, meaning, told.colors or (), group, channels, mean, std)

    def stamp(self, split: str, index: int) -> int:
        """Another number when the table's file is written anew."""
        paths = (self.pairs[split][index].image, self.pairs[split][index].mask)
        return written(*(part.file if (part := part_of(path)) else path for path in paths))


def _columns(features: Any, image: str | None, mask: str | None) -> tuple[str, str]:
    """The columns of images and masks: as told, else the only two that hold images, or the only ones of such names."""
    pictures = [name for name, feature in features.items() if is_image(feature)]
    for key, name in (("image", image), ("mask", mask)):
        if name is not None and name not in features:
            raise ConfigError(f"data.{key}={name}: there is no column of that name.{nearest(name, features)}")
        if name is not None and name not in pictures:
            raise ConfigError(f"data.{key}={name}: it holds no images; those that do: {', '.join(pictures) or 'none'}.")
    images = [image] if image else [n for n in pictures if n != mask and n.lower() in _IMAGES]
    masks = [mask] if mask else [n for n in pictures if n != image and n.lower() in _MASKS]
    if len(pictures) == 2:  # what one of them is says what the other is
        images = images or [n for n in pictures if masks == [m for m in pictures if m != n]]
        masks = masks or [n for n in pictures if images == [m for m in pictures if m != n]]
    if len(images) != 1 or len(masks) != 1 or images == masks:
        there = ", ".join(visible(n) for n in pictures) or "none"
        raise ConfigError(f"Which columns hold image and mask? Set data.image and data.mask; those with images: {there}.")
    return images[0], masks[0]


def _pairs(table: Any, name: str, columns: tuple[str, str], folder: Path) -> list[Pair]:
    """The rows, sorted by name: that of the image's file where each has one of its own, else SPLIT_NUMBER."""
    import datasets

    within = [folder, Path(datasets.config.HF_CACHE_HOME)]
    missing = next((one for one in columns if one not in table.features), None)
    if missing:
        raise DataError(f"The split '{name}' has no column '{missing}'; leave it out, or name another column.")
    images, masks = (cells(table, column, within) for column in columns)
    ids = _ids(images, name)
    for id, image, mask in zip(ids, images.places, masks.places, strict=True):
        if image is None or mask is None:
            raise DataError(
                f"The row '{visible(id)}' of the split '{name}' has no {'image' if image is None else 'mask'}; leave out "
                "the row, or the split (data.test=none, for example)."
            )
    return sorted(map(Pair, ids, images.places, masks.places))  # type: ignore[arg-type]


def _ids(images: Cells, split: str) -> list[str]:
    stems = [os.path.splitext(name)[0] if name else "" for name in images.names]
    if all(stems) and max(Counter(stems).values(), default=1) == 1 and not any(s.startswith(".") or "\0" in s for s in stems):
        return stems
    width = max(6, len(str(len(stems))))
    return [f"{split}_{n:0{width}d}" for n in range(len(stems))]


def _completed(
    pairs: dict[str, list[Pair]], fractions: Sequence[float], group: str | None, given: dict[str, str | None]
) -> dict[str, list[Pair]]:
    """All three splits: a missing val is made of train's images, and so is test where both are missing and neither refused."""
    train = pairs.get("train", [])
    if train and "val" not in pairs and given["val"] != "none":
        alone = "test" not in pairs and given["test"] != "none"
        share = list(fractions) if alone else _without_test(fractions)
        log.info("There is no split for val%s; train is split by data.split.", " and test" if alone else "")
        made = hashed_split(train, share, group)
        pairs = {**pairs, **(made if alone else {s: made[s] for s in ("train", "val")})}
    return {s: pairs.get(s, []) for s in SPLITS}


def _without_test(fractions: Sequence[float]) -> list[float]:
    if len(fractions) != 3 or not sum(fractions[:2]) > 0:
        return list(fractions)  # hashed_split says what is wrong
    share = fractions[1] / (fractions[0] + fractions[1])
    return [1 - share, share, 0]


def _told(told: Told, folder: Path, features: Any, mask: str, classes: list[str] | None) -> Told:
    """What was told; else class names from id2label.json in the folder, or from a column of lists of ClassLabel."""
    if told.classes is not None or classes is not None:
        return told
    file = folder / "id2label.json"
    if file.is_file():
        names = {str(k): v for k, v in read_json(file, dict).items()}
        if names.keys() != {str(n) for n in range(len(names))}:
            raise DataError(f"{file} must name the ids 0..{len(names) - 1}, each once; correct it, or set data.classes.")
        return told_classes(folder, [names[str(n)] for n in range(len(names))], told.ignore_index, None)
    for column in (f"{mask}_classes", f"{mask}_labels", *_NAMES):
        listed = features.get(column)  # a list of labels: a single one would be of the image, not of its pixels
        feature: Any = listed[0] if isinstance(listed, list) and listed else getattr(listed, "feature", None)
        if type(feature).__name__ == "ClassLabel":
            log.info("The classes are those of the column '%s'.", column)
            return told_classes(folder, list(feature.names), told.ignore_index, None)
    return told
