"""Images and masks that CSV or JSONL files name: `data=list data.train=train.csv data.val=val.csv`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from seglab.data.compact import Sizes
from seglab.data.folder_classes import told_classes
from seglab.data.layout import FIRST, SPLITS, split_numbers
from seglab.data.listed_reading import WORDS, Rows, distinct, read_rows
from seglab.data.paired import Paired, found_out
from seglab.errors import ConfigError, DataError

log = logging.getLogger("seglab")


class Listed(Paired):
    """Lists with the columns image and mask (paths relative to the list), and if wanted id, group, height and width.

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
        every = list(rows.values())
        grouped = _grouped(every)
        distinct(every)
        _same_split(rows)
        first = next(iter(lists.values()))
        told = told_classes(first.parent, classes, ignore_index, colors)
        pattern = FIRST if grouped else None
        parts = _parts(rows, split, pattern)
        pairs = {s: some.pairs.take(order) for s, (some, order) in parts.items()}
        sizes = {s: Sizes(some.sizes.array[order]) for s, (some, order) in parts.items() if some.sizes is not None}
        name, meaning = first.resolve().parent.name, found_out(told, mode, foreground)
        super().__init__(name, pairs, meaning, told.colors or (), pattern, channels, mean, std, sizes)


def _parts(rows: Mapping[str, Rows], fractions: Sequence[float], group: str | None) -> dict[str, tuple[Rows, np.ndarray]]:
    """Of which list a split is, and which of its rows, sorted by name."""
    if "file" not in rows:
        return {s: (rows[s], rows[s].pairs.ids.order()) for s in SPLITS if s in rows} | {
            s: (next(iter(rows.values())), np.zeros(0, np.int64)) for s in SPLITS if s not in rows
        }
    some = rows["file"]
    if (some.words < 0).all():
        log.info("The list has no column 'split'; its images are split by data.split.")
        numbers = split_numbers(some.pairs.ids, fractions, group)
    else:
        without = np.flatnonzero(some.words < 0)
        if len(without):
            raise DataError(f"{some.where(int(without[0]))} has no split; it must be train, val or test.")
        numbers = some.splits
    order = some.pairs.ids.order()
    return {s: (some, order[numbers[order] == n]) for n, s in enumerate(SPLITS)}


def _grouped(lists: Sequence[Rows]) -> bool:
    """Whether images have groups: all of them or none."""
    without, with_one = (
        next((rows.where(int(np.flatnonzero(rows.grouped == has)[0])) for rows in lists if (rows.grouped == has).any()), None)
        for has in (False, True)
    )
    if with_one and without:
        raise DataError(f"{without} has no 'group', but {with_one} has one; give every image a group, or none.")
    return with_one is not None


def _same_split(rows: Mapping[str, Rows]) -> None:
    """A list of one split holds no image of another: a list of all splits that is named by data.train would be a leak."""
    for key, some in rows.items():
        if key in SPLITS:
            wrong = np.flatnonzero((some.words >= 0) & (some.splits != list(SPLITS).index(key)))
            if len(wrong):
                n = int(wrong[0])
                raise DataError(
                    f"{some.where(n)} has the split '{WORDS[some.words[n]]}', but its list is data.{key}; name a list of all "
                    "splits by data.file."
                )
