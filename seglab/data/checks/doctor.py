"""Look at a whole data set and say what is wrong with it: one Report, whatever state the files are in."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from seglab.data.checks import drift, edges, files, leaks, masks, pairing, shares, verdicts
from seglab.data.checks.alike import shown
from seglab.data.checks.examples import of_pairs, of_samples
from seglab.data.checks.findings import Finding, ranked
from seglab.data.checks.gather import Looks, as_selected, bare, home, looks_at, looks_loaded
from seglab.data.checks.meaning import Meaning, of_rules, of_source, silence, understand, whole
from seglab.data.checks.report import Report
from seglab.data.checks.shares import Share
from seglab.data.folder import Folder
from seglab.data.folder_classes import Told, told_classes
from seglab.data.paired import Paired, existing
from seglab.data.source import Source
from seglab.errors import SeglabError


def examine(kind: type[Source], build: Callable[[], Source], data: Mapping[str, Any], processes: int | None = None) -> Report:
    """The Report on the data set that the settings `data` describe, and `build` makes as training would.

    What it finds is kept for the start of training (see quick). Errors as of `examine_folder`.
    """
    own = {k: v for k, v in data.items() if k in inspect.signature(kind).parameters}
    scale, built = data.get("scale", 1.0), _built(build)
    if issubclass(kind, Folder):
        report = examine_folder(lambda: _given(built), **own, scale=scale, processes=processes)
    elif isinstance(built, SeglabError) and issubclass(kind, Paired):
        report = _refused(kind, own, str(built), scale, processes)
    else:
        report = examine_source(lambda: _given(built), own.get("root"), scale, processes)
    if isinstance(built, Source) and report.refusal is None:
        verdicts.keep(built, data, report.findings)
    return report


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
    looks = looks_at(folder, found.pairs, mode == "multilabel", processes)
    source = _built(build)
    meaning: Meaning | None = None
    if isinstance(source, Source):  # what is judged is what training would take, by the rules by which it would read it
        looks, inner = as_selected(source, looks), bare(source)
        meaning = of_rules(inner.rules) if isinstance(inner, Paired) else None
    every = [look for some in looks.values() for look in some]
    findings += [*files.usable(every), *files.channels(every, channels)]
    if readable := whole(every):
        why = ""
        if meaning is None:
            meaning, why = understand(readable, told, mode, foreground)
        findings += masks.of_masks(readable, told, mode, foreground, meaning, why)
    report = _judged(folder.resolve().name, findings, looks, meaning, _words(source), found.by, group, scale)
    texts = [replace(one, text=one.text.replace(f"{folder}{os.sep}", "")) for one in report.findings]
    return replace(report, findings=texts, example=of_pairs(folder, found.pairs, meaning))


def examine_source(
    build: Callable[[], Source], root: str | Path | None = None, scale: float = 1.0, processes: int | None = None, **others: Any
) -> Report:
    """The Report on any other data set, from what it loads; one that cannot be built is one error."""
    source = _built(build)
    if not isinstance(source, Source):
        return Report("", [Finding("error", "refused", str(source))], str(source))
    inner = bare(source)
    if isinstance(inner, Paired):
        return _paired(source, inner, home(source, root), scale, processes)
    looks = looks_loaded(source, processes)
    findings = files.usable([look for some in looks.values() for look in some])
    report = _judged(source.name, findings, looks, of_source(source.spec), None, "folders", source.group, scale)
    return replace(report, example=of_samples(source))


def _paired(source: Source, inner: Paired, root: Path, scale: float, processes: int | None) -> Report:
    """A known format whose masks are files: these are looked at as a folder's, by the format's own rules."""
    meaning = of_rules(inner.rules)
    looks = as_selected(source, looks_at(root, inner.pairs, meaning.mode == "multilabel", processes))
    every = [look for some in looks.values() for look in some]
    findings = [*files.usable(every), *files.channels(every, inner.spec.channels), *masks.unknown(whole(every), meaning)]
    report = _judged(source.name, findings, looks, meaning, None, "folders", source.group, scale)
    return replace(report, example=of_pairs(root, inner.pairs, meaning))


def _refused(kind: type[Paired], own: dict[str, Any], refusal: str, scale: float, processes: int | None) -> Report:
    """A known format that cannot be built: what its files say as far as its pairs were found, else the refusal alone."""
    half = kind.__new__(kind)
    with suppress(SeglabError), silence():
        half.__init__(**own)  # type: ignore[misc]  # its pairs are there before its files are looked at
    if not getattr(half, "pairs", None):
        return Report("", [Finding("error", "refused", refusal)], refusal)
    root = home(half, own.get("root"))
    looks = looks_at(root, half.pairs, False, processes)
    every = [look for some in looks.values() for look in some]
    found = [*files.usable(every), *files.channels(every, own.get("channels", 3))]
    report = _judged(half.name, found, looks, None, refusal, "folders", half.group, scale)
    return replace(report, example=of_pairs(root, half.pairs, None))


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
    classes, ignore = (meaning.classes, meaning.ignore) if meaning else ((), 255)
    return Report(name, ranked(findings), refusal, classes, table, ignore)


def _built(build: Callable[[], Source]) -> Source | SeglabError:
    try:
        return build()
    except SeglabError as error:
        return error


def _given(built: Source | SeglabError) -> Source:
    if isinstance(built, SeglabError):
        raise built
    return built


def _words(built: Source | SeglabError) -> str | None:
    return str(built) if isinstance(built, SeglabError) else None
