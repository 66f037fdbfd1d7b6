"""Looks at all samples of a data set, by split; what is known of unchanged files is not looked at again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seglab.data.cache import Cached
from seglab.data.checks import cache, edges
from seglab.data.checks.looking import look_at, look_at_sample
from seglab.data.checks.looks import Fault, Look
from seglab.data.checks.pool import each
from seglab.data.compact import Joined, even
from seglab.data.folder_scan import even_sample
from seglab.data.layout import SPLITS, Pair
from seglab.data.selection import Selected
from seglab.data.shards_bytes import shown_path
from seglab.data.source import Source
from seglab.errors import DataError

_SAMPLE = 500
Looks = dict[str, list[Look]]
Pairs = Mapping[str, Sequence[Pair]]


class Task(NamedTuple):
    """One pair to look at, and whether the fit of its mask is measured."""

    id: str
    image: str
    mask: str
    edges: bool

    def stamp(self, layered: bool) -> str:
        """Under which the look at it is kept."""
        return cache.stamp(self.image, self.mask, layered, self.edges)


def tasks_of(pairs: Pairs) -> list[Task]:
    """All pairs; of an even sample the fit of the mask is measured."""
    every = [one for some in pairs.values() for one in some]
    sampled = set(even_sample(every, edges.SAMPLE))
    return [Task(*one, one in sampled) for one in every]


def looks_at(folder: Path, pairs: Pairs, layered: bool, processes: int | None) -> Looks:
    """Looks at all pairs; unchanged files are remembered from the last time."""
    tasks = tasks_of(pairs)
    stamps = [task.stamp(layered) for task in tasks]
    file = cache.place(folder)
    kept = cache.recall(file)
    missing = [n for n, stamp in enumerate(stamps) if stamp not in kept]
    work = partial(look, layered)
    fresh = zip(missing, each(work, [tasks[n] for n in missing], "Looking at files", processes), strict=True)
    looks = {stamps[n]: one for n, one in fresh}
    if missing or len(kept) != len(stamps):
        cache.keep(file, {stamp: looks[stamp] if stamp in looks else kept[stamp] for stamp in stamps})
    both = zip(tasks, stamps, strict=True)
    named = iter(named_in(folder, task, looks.get(stamp) or kept[stamp]) for task, stamp in both)
    return {split: [next(named) for _ in some] for split, some in pairs.items()}


def look(layered: bool, task: Task) -> Look:
    """The look at one pair."""
    return look_at(task.id, task.image, task.mask, layered, task.edges)


def named_in(folder: Path, task: Task, look: Look) -> Look:
    """The look with its files' names below `folder`, whatever they were called when they were looked at."""
    return replace(look, id=task.id, image=below(folder, task.image), mask=below(folder, task.mask))


def below(folder: Path, path: str) -> str:
    """The name of a file, or of a part of one, for messages: its path from `folder`."""
    return os.path.relpath(shown_path(path), folder)


def looks_loaded(source: Source, processes: int | None) -> Looks:
    """Looks at all samples as `source` loads them."""
    places = [(split, index) for split in SPLITS for index in range(len(source.ids(split)))]
    sampled = set(even_sample(places, edges.SAMPLE))
    tasks = [(*place, place in sampled) for place in places]
    looks: Looks = {split: [] for split in SPLITS}
    done = each(partial(load, source), tasks, "Looking at samples", processes)
    for (split, _index, _edges), one in zip(tasks, done, strict=True):
        looks[split].append(one)
    return looks


def load(source: Source, task: tuple[str, int, bool]) -> Look:
    """The look at one sample, (split, index, whether the fit of its mask is measured)."""
    split, index, with_edges = task
    try:
        sample = source.load(split, index)
    except DataError as error:
        id = source.ids(split)[index]
        return Look(id, id, id, None, None, (Fault("image", "unreadable", str(error)),))
    return look_at_sample(sample, source.spec.num_classes, source.spec.mode == "multilabel", with_edges)


def bare(source: Source) -> Source:
    """The data set itself, without its cache and the selection made from it."""
    while isinstance(source, Selected | Cached):
        source = source.source
    return source


def as_selected(source: Source, looks: Looks) -> Looks:
    """The looks in the splits that data.fold and data.limit make of the folder's."""
    if not isinstance(source, Selected):
        return looks
    by_id = {(split, look.id): look for split, some in looks.items() for look in some}
    return {split: list(_picked(source, places, by_id)) for split, places in source.places.items()}


def _picked(source: Selected, places: Sequence[tuple[str, int]], by_id: Mapping[tuple[str, str], Look]) -> Iterator[Look]:
    ids = {split: source.source.ids(split) for split in {of for of, _ in places}}
    for of, index in places:
        if (of, ids[of][index]) in by_id:
            yield by_id[of, ids[of][index]]


def home(source: Source, root: str | Path | None) -> Path:
    """The folder below which the data set's files are named: `root`, or else the one that holds (a sample of) its files."""
    if root:
        return Path(root).expanduser()
    inner = bare(source)
    some = [one for pairs in getattr(inner, "pairs", {}).values() for one in even_sample(pairs, _SAMPLE)]
    folders = [os.path.dirname(os.path.abspath(shown_path(path))) for one in some for path in one[1:]]
    return Path(os.path.commonpath(folders)) if folders else Path(inner.name)


def even_places(source: Source, count: int) -> list[tuple[str, int]]:
    """At most `count` samples (split, index), evenly spread over all splits."""
    every = Joined([range(len(source.ids(split))) for split in SPLITS])
    ends = np.cumsum([len(source.ids(split)) for split in SPLITS])
    names = list(SPLITS)
    return [(names[int(np.searchsorted(ends, n, "right"))], every[n]) for n in even(len(every), count).tolist()]
