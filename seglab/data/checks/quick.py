"""The quick part of the doctor, for the start of training: an even sample of pairs, and what is known of the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seglab.data.checks import cache, doctor, edges, files, masks, shares, verdicts
from seglab.data.checks.findings import Finding, ranked
from seglab.data.checks.gather import Task, bare, even_places, home, load, look, named_in, tasks_of
from seglab.data.checks.looks import Look
from seglab.data.checks.meaning import Meaning, of_rules, of_source, whole
from seglab.data.checks.verdicts import Verdict
from seglab.data.folder import Folder
from seglab.data.folder_classes import told_classes
from seglab.data.folder_scan import in_threads
from seglab.data.layout import Pair
from seglab.data.paired import Paired, existing
from seglab.data.selection import Selected
from seglab.data.source import Source

SAMPLE = edges.SAMPLE  # the same pairs as those whose fit the whole check measures, so that these are looked at once


def look_over(source: Source, data: Mapping[str, Any]) -> Verdict:
    """What is wrong with a data set that could be built from the settings `data`, errors first.

    All findings, if all files have been looked at as they are; else what a sample of pairs shows. What was found before of the
    same files and settings is not looked for again. A set without files (data=cells) is sound.
    """
    verdict, inner = verdicts.recall(source, data), bare(source)
    if verdict is not None and verdict.whole:
        return verdict
    if isinstance(inner, Paired) and _all_known(inner, source, data):
        report = doctor.examine(type(inner), lambda: source, data, processes=1)
        total = verdicts.count(source)
        return Verdict(tuple(report.findings), total, total, whole=True)
    if verdict is not None:
        return verdict
    if isinstance(inner, Paired):
        looks = _looks(inner, source, data)
    else:
        places = even_places(source, SAMPLE)
        if not places or not source.stamp(*places[0]):
            return Verdict((), 0, 0)
        looks = list(in_threads(lambda one: load(source, (*one, True)), places, "Looking at samples", len(places)))
    return verdicts.keep(source, data, _judged(inner, looks, data), len(looks))


def _judged(inner: Source, looks: Sequence[Look], data: Mapping[str, Any]) -> list[Finding]:
    """What can be said of a sample: of its files, of their values, but not of what is missing or there twice."""
    found = files.usable(looks)
    meaning = of_source(inner.spec)
    if isinstance(inner, Paired):
        meaning = of_rules(inner.rules)
        found += files.channels(looks, data.get("channels") if isinstance(inner, Folder) else inner.spec.channels)
        found += _of_masks(inner, looks, data, meaning)
    table = shares.count({"all": looks}, meaning)
    found += [*shares.void(table, meaning), *shares.constant(looks, meaning), *edges.shifted(looks)]
    return ranked([*found, *shares.vanishing(table, meaning, data.get("scale", 1.0))])


def _of_masks(inner: Paired, looks: Sequence[Look], data: Mapping[str, Any], meaning: Meaning) -> list[Finding]:
    readable = whole(looks)
    if not readable or not isinstance(inner, Folder):
        return masks.unknown(readable, meaning)
    told = told_classes(existing(data.get("root")), *(data.get(name) for name in ("classes", "ignore_index", "colors")))
    return masks.of_masks(readable, told, data.get("mode"), bool(data.get("foreground")), meaning, "", sample=True)


def _all_known(inner: Paired, source: Source, data: Mapping[str, Any]) -> bool:
    """Whether there is a look at every file as it is now."""
    known = cache.known(cache.place(home(source, data.get("root"))))
    if len(known) < sum(map(len, inner.pairs.values())):
        return False
    return {task.stamp(_layered(inner, data)) for task in tasks_of(inner.pairs)} <= known


def _looks(inner: Paired, source: Source, data: Mapping[str, Any]) -> list[Look]:
    """Looks at an even sample of the pairs that are trained and scored on; the new ones are kept."""
    root, layered = home(source, data.get("root")), _layered(inner, data)
    tasks = [Task(*_pair(source, inner, *place), True) for place in even_places(source, SAMPLE)]
    stamps = [task.stamp(layered) for task in tasks]
    own, wanted = cache.place(root, ".sample.json.gz"), set(stamps)
    kept = cache.recall(cache.place(root), wanted)
    kept |= cache.recall(own, wanted - kept.keys())
    missing = [n for n, stamp in enumerate(stamps) if stamp not in kept]
    new = in_threads(lambda n: look(layered, tasks[n]), missing, "Looking at a sample", len(missing))
    fresh = dict(zip([stamps[n] for n in missing], new, strict=True))
    known = {**kept, **fresh}
    if fresh:
        cache.keep(own, known)
    return [named_in(root, task, known[stamp]) for task, stamp in zip(tasks, stamps, strict=True)]


def _pair(source: Source, inner: Paired, split: str, index: int) -> Pair:
    if isinstance(source, Selected):
        split, index = source.places[split][index]
    return inner.pairs[split][index]


def _layered(inner: Paired, data: Mapping[str, Any]) -> bool:
    return data.get("mode") == "multilabel" if isinstance(inner, Folder) else inner.rules.mode == "multilabel"
