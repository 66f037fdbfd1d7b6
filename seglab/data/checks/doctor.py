"""Look at a whole data set and say what is wrong with it: one Report, whatever state the files are in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from seglab.data.checks import cache, drift, edges, files, leaks, masks, pairing, shares
from seglab.data.checks.alike import shown
from seglab.data.checks.findings import Finding, many, ranked
from seglab.data.checks.looking import look_at, look_at_sample
from seglab.data.checks.looks import Fault, Look
from seglab.data.checks.meaning import Meaning, of_rules, of_source, understand, whole
from seglab.data.checks.pool import each
from seglab.data.checks.shares import Share
from seglab.data.folder_classes import Told, told_classes
from seglab.data.folder_scan import even_sample
from seglab.data.layout import SPLITS
from seglab.data.paired import Paired, existing
from seglab.data.selection import Selected
from seglab.data.source import Source
from seglab.errors import DataError, SeglabError

Looks = dict[str, list[Look]]


@dataclass(frozen=True)
class Report:
    """Findings, the worst first; whether training would start and, if not, its words; numbers by split and class."""

    name: str
    findings: list[Finding]
    refusal: str | None = None
    classes: tuple[str, ...] = ()
    shares: dict[str, Share] = field(default_factory=dict)

    def count(self, severity: str) -> int:
        """How many findings are of this severity."""
        return sum(one.severity == severity for one in self.findings)

    @property
    def verdict(self) -> str:
        """One line."""
        errors, warnings = self.count("error"), self.count("warning")
        if self.refusal is not None:
            return f"Training would not start: {many(errors, 'error')}, {many(warnings, 'warning')}."
        if errors:
            return f"Training would start, and end or go wrong later: {many(errors, 'error')}, {many(warnings, 'warning')}."
        return f"Training would start: no error, {many(warnings, 'warning') if warnings else 'no warning'}."

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "name": self.name, "verdict": self.verdict, "starts": self.refusal is None, "refusal": self.refusal,
            "errors": self.count("error"), "warnings": self.count("warning"), "classes": list(self.classes),
            "findings": [one.to_dict() for one in self.findings],
            "splits": {split: share.to_dict(self.classes) for split, share in self.shares.items()},
        }  # fmt: skip


class Task(NamedTuple):
    """One pair to look at, and whether the fit of its mask is measured."""

    id: str
    image: str
    mask: str
    edges: bool


def examine_folder(
    build: Callable[[], Source],
    root: str | Path | None,
    classes: list[str] | None = None,
    mode: str | None = None,
    ignore_index: int | None = None,
    foreground: bool = False,
    colors: list | None = None,
    split: Sequence[float] = (0.7, 0.15, 0.15),
    group: str | None = None,
    channels: int | None = None,
    scale: float = 1.0,
    processes: int | None = None,
    **others: Any,
) -> Report:
    """The Report on a folder, from its files; the arguments are data.folder's. `build` makes the source as training would.

    DataError or ConfigError only if there is no such folder, or data.split makes no sense.
    """
    folder = existing(root)
    found = pairing.find(folder, split, group)
    findings = [*found.findings]
    try:
        told = told_classes(folder, classes, ignore_index, colors)
    except SeglabError as error:
        findings.append(Finding("error", "classes", str(error), (), {}, "correct data.classes, data.colors or classes.json"))
        told = Told()
    looks = _look(folder, found, mode == "multilabel", processes)
    every = [look for some in looks.values() for look in some]
    findings += [*files.usable(every), *files.channels(every, channels)]
    readable = whole(every)
    meaning: Meaning | None = None
    if readable:
        meaning, why = understand(readable, told, mode, foreground)
        findings += masks.of_masks(readable, told, mode, foreground, meaning, why)
    source, refusal = _built(build)
    if source is not None:
        looks = _as_selected(source, looks)
    report = _judged(folder.resolve().name, findings, looks, meaning, refusal, found.by, group, scale)
    return replace(report, findings=[replace(one, text=one.text.replace(f"{folder}{os.sep}", "")) for one in report.findings])


def examine_source(
    build: Callable[[], Source], root: str | Path | None = None, scale: float = 1.0, processes: int | None = None, **others: Any
) -> Report:
    """The Report on any other data set, from what it loads; one that cannot be built is one error."""
    source, refusal = _built(build)
    if source is None:
        return Report("", [Finding("error", "refused", refusal or "")], refusal)
    inner = source.source if isinstance(source, Selected) else source
    if isinstance(inner, Paired) and root:
        return _paired(source, inner, Path(root).expanduser(), scale, processes)
    places = [(split, index) for split in SPLITS for index in range(len(source.ids(split)))]
    sampled = set(even_sample(places, edges.SAMPLE))
    tasks = [(*place, place in sampled) for place in places]
    looks: Looks = {split: [] for split in SPLITS}
    for (split, _index, _edges), look in zip(
        tasks, each(partial(_load, source), tasks, "Looking at samples", processes), strict=True
    ):
        looks[split].append(look)
    findings = files.usable([look for some in looks.values() for look in some])
    return _judged(source.name, findings, looks, of_source(source.spec), None, "folders", source.group, scale)


def _paired(source: Source, inner: Paired, root: Path, scale: float, processes: int | None) -> Report:
    """A known format whose masks are files: these are looked at as a folder's, by the format's own rules."""
    meaning = of_rules(inner.rules)
    looks = _look(root, pairing.Found(inner.pairs), meaning.mode == "multilabel", processes)
    every = [look for some in looks.values() for look in some]
    findings = [*files.usable(every), *files.channels(every, inner.spec.channels), *masks.unknown(whole(every), meaning)]
    return _judged(source.name, findings, _as_selected(source, looks), meaning, None, "folders", source.group, scale)


def _judged(
    name: str, findings: list[Finding], looks: Looks, meaning: Meaning | None, refusal: str | None, by: str, group: str | None,
    scale: float,
) -> Report:  # fmt: skip
    """What is true of every data set, added to what was found of the files."""
    every = [look for some in looks.values() for look in some]
    table: dict[str, Share] = {}
    if meaning is not None:
        table = shares.count(looks, meaning)
        findings += shares.of_classes(table, meaning) + shares.constant(every, meaning)
        findings += shares.vanishing(table, meaning, scale) + drift.of_classes(table, meaning)
    findings += edges.shifted(every) + leaks.leaks(shown(looks), by, group) + drift.of_images(looks)
    if refusal is not None and not any(one.severity == "error" for one in findings):
        findings.append(Finding("error", "refused", refusal))
    return Report(name, ranked(findings), refusal, meaning.classes if meaning else (), table)


def _look(folder: Path, found: pairing.Found, layered: bool, processes: int | None) -> Looks:
    """Looks at all pairs, by split; unchanged files are remembered from the last time."""
    every = [one for some in found.pairs.values() for one in some]
    sampled = set(even_sample(every, edges.SAMPLE))
    tasks = [Task(*one, one in sampled) for one in every]
    stamps = [cache.stamp(task.image, task.mask, layered, task.edges) for task in tasks]
    file = cache.place(folder)
    kept = cache.recall(file)
    missing = [n for n, stamp in enumerate(stamps) if stamp not in kept]
    work = partial(_look_at, layered)
    fresh = zip(missing, each(work, [tasks[n] for n in missing], "Looking at files", processes), strict=True)
    looks = {stamps[n]: look for n, look in fresh}
    if missing or len(kept) != len(stamps):
        cache.keep(file, {stamp: looks[stamp] if stamp in looks else kept[stamp] for stamp in stamps})
    named = iter(_relative(looks.get(stamp) or kept[stamp], folder) for stamp in stamps)
    return {split: [next(named) for _ in some] for split, some in found.pairs.items()}


def _relative(look: Look, folder: Path) -> Look:
    return replace(look, image=os.path.relpath(look.image, folder), mask=os.path.relpath(look.mask, folder))


def _look_at(layered: bool, task: Task) -> Look:
    return look_at(task.id, task.image, task.mask, layered, task.edges)


def _load(source: Source, task: tuple[str, int, bool]) -> Look:
    split, index, with_edges = task
    try:
        sample = source.load(split, index)
    except DataError as error:
        id = source.ids(split)[index]
        return Look(id, id, id, None, None, (Fault("image", "unreadable", str(error)),))
    return look_at_sample(sample, source.spec.num_classes, source.spec.mode == "multilabel", with_edges)


def _built(build: Callable[[], Source]) -> tuple[Source | None, str | None]:
    try:
        return build(), None
    except SeglabError as error:
        return None, str(error)


def _as_selected(source: Source, looks: Looks) -> Looks:
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
