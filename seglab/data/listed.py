"""Images and masks that CSV or JSONL files name: `data=list data.train=train.csv data.val=val.csv`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from seglab.data.folder_classes import told_classes
from seglab.data.layout import SPLITS, Pair, hashed_split
from seglab.data.listed_reading import Row, distinct, read_rows
from seglab.data.paired import Paired, found_out
from seglab.errors import ConfigError, DataError, nearest, visible

log = logging.getLogger("seglab")

_GROUP = "^[^/]+"  # the first part of a name, where the lists have a column `group`


class Listed(Paired):
    """Lists with the columns image and mask (paths relative to the list), and if wanted id and group.

    One list a split (`train`, `val`, `test`), or one `file` with a column split, or without it: then split by `fractions`,
    named `split` in the settings. What masks mean is told or found out as for a folder; classes.json lies beside the list.
    """

    def __init__(
        self,
        train: str | Path | None = None,
        val: str | Path | None = None,
        test: str | Path | None = None,
        file: str | Path | None = None,
        classes: list[str] | None = None,
        mode: str | None = None,
        ignore_index: int | None = None,
        foreground: bool = False,
        colors: list | None = None,
        split: Sequence[float] = (0.7, 0.15, 0.15),
        channels: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        given = {s: Path(name).expanduser() for s, name in (("train", train), ("val", val), ("test", test)) if name}
        if bool(given) == bool(file):
            raise ConfigError("Name the lists by data.train, data.val and data.test, or one list of all splits by data.file.")
        lists = given or {"file": Path(str(file)).expanduser()}
        rows = {key: read_rows(path, f"data.{key}") for key, path in lists.items()}
        every = [row for some in rows.values() for row in some]
        grouped = _grouped(every)
        distinct(every)
        _same_split(rows)
        first = next(iter(lists.values()))
        told = told_classes(first.parent, classes, ignore_index, colors)
        pattern = _GROUP if grouped else None
        pairs = _by_column(every, split, pattern) if file else {s: _pairs(rows.get(s, [])) for s in SPLITS}
        meaning = found_out(told, mode, foreground)
        super().__init__(first.resolve().parent.name, pairs, meaning, told.colors or (), pattern, channels, mean, std)


def _pairs(rows: Sequence[Row]) -> list[Pair]:
    return sorted(row.pair for row in rows)


def _grouped(rows: Sequence[Row]) -> bool:
    """Whether images have groups: all of them or none."""
    without = next((row for row in rows if row.group is None), None)
    with_one = next((row for row in rows if row.group is not None), None)
    if with_one and without:
        raise DataError(f"{without.where} has no 'group', but {with_one.where} has one; give every image a group, or none.")
    return with_one is not None


def _split_of(row: Row) -> str:
    """The split that the row names; DataError for any other word."""
    for split, names in SPLITS.items():
        if row.split in names:
            return split
    hint = nearest(row.split or "", SPLITS)
    raise DataError(
        f"{row.where} has the split '{visible(row.split or '')}'; it must be train, val or test.{hint if 'Did' in hint else ''}"
    )


def _same_split(rows: dict[str, list[Row]]) -> None:
    """A list of one split holds no image of another: a list of all splits that is named by data.train would be a leak."""
    for key, some in rows.items():
        for row in some:
            if key in SPLITS and row.split is not None and _split_of(row) != key:
                raise DataError(
                    f"{row.where} has the split '{row.split}', but its list is data.{key}; name a list of all splits by "
                    "data.file."
                )


def _by_column(rows: Sequence[Row], fractions: Sequence[float], group: str | None) -> dict[str, list[Pair]]:
    if all(row.split is None for row in rows):
        log.info("The list has no column 'split'; its images are split by data.split.")
        return hashed_split(_pairs(rows), fractions, group)
    splits = [_split_of(row) for row in rows]
    return {s: _pairs([row for row, split in zip(rows, splits, strict=True) if split == s]) for s in SPLITS}
