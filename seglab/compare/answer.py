"""The comparison as plain data: a row for each group, and verdicts against a baseline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seglab.compare.checking import checked, clusters
from seglab.compare.collecting import Run, collect
from seglab.compare.grouping import Group, grouped, repetitions
from seglab.compare.settings import settings
from seglab.errors import ConfigError, DataError, nearest, visible
from seglab.results import higher_is_better
from seglab.stats.difference import Difference
from seglab.stats.scores import Scores
from seglab.stats.verdicts import Verdict, judge

MARGIN = 0.005
SORTS = ("val", "test", "params", "speed", "seconds", "name")


@dataclass(frozen=True)
class Row:
    """A group: its name, settings and runs, test mIoU with half its 95 % interval (and of each class), means of the rest."""

    name: str
    axes: dict[str, str]
    seeds: int
    folders: list[str]
    test: float
    half: float
    classes: list[float]
    val: float | None
    params: float | None
    speed: float | None
    seconds: float | None


@dataclass(frozen=True)
class Comparison:
    """All that was found. verdicts: of each group but the baseline, mIoU first, then each class."""

    rows: list[Row]
    classes: list[str]
    images: int
    clusters: int
    monitor: str | None
    best: str | None
    baseline: str
    pairs: int  # that Holm's correction goes over: all there are, where the baseline is the best
    margin: float
    verdicts: dict[str, list[Verdict]]
    notes: list[str]


def compare(
    paths: Sequence[str], baseline: str | None = None, margin: float = MARGIN, intersect: bool = False,
    cluster: str | None = None, sort: str = "val",
) -> Comparison:  # fmt: skip
    """Compare the finished runs in and below some folders. Raises DataError, ConfigError where that makes no sense."""
    if sort not in SORTS:
        raise ConfigError(f"There is no order '{sort}'.{nearest(sort, SORTS)}")
    runs, notes = collect(paths)
    if not runs:
        raise DataError(_nothing(paths, notes))
    runs, tables, skipped = settings(runs)
    kept = {id(run): table for run, table in zip(runs, tables, strict=True)}
    if runs:
        runs, scored, odd = checked(runs, intersect)
        skipped += odd
    notes += skipped
    if not runs:
        raise DataError(_nothing(paths, notes))
    groups, said = grouped(runs, [kept[id(run)] for run in runs])
    labels = clusters(runs[0].ids, cluster, [run.group for run in runs if run.group])
    scores = [Scores.of(np.stack(repetitions(group.runs)), scored, labels) for group in groups]
    rows = [_row(group, score) for group, score in zip(groups, scores, strict=True)]
    monitor, higher = _monitor(runs)
    best = _best(rows, higher) if monitor else None
    base = _baseline(rows, baseline, best)
    others = [n for n in range(len(rows)) if n != base]
    # A baseline that the scores chose is lucky in its seeds, on test as on val: any pair might have been looked at.
    pairs = len(others) if baseline is not None or best is None else len(rows) * len(others) // 2
    judged = judge([Difference.of(scores[n], scores[base]) for n in others], margin, pairs=pairs) if others else []
    verdicts = {rows[n].name: verdict for n, verdict in zip(others, judged, strict=True)}
    notes += said + _warnings(runs, rows, monitor, baseline)
    found = (len(runs[0].ids), scores[0].left.shape[1], monitor, best, rows[base].name, pairs, margin, verdicts, notes)
    return Comparison(_sorted(rows, sort, higher), runs[0].classes, *found)


def _nothing(paths: Sequence[str], notes: list[str]) -> str:
    where = ", ".join(visible(path) for path in paths)
    if not notes:
        return f"No run was found in {where}; name the folders of runs or sweeps, such as multirun/."
    more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
    return f"No run in {where} can be compared: {notes[0].removeprefix('left out: ').rstrip('.')}{more}."


def _row(group: Group, scores: Scores) -> Row:
    def mean(values: list[float | None]) -> float | None:
        there = [value for value in values if value is not None]
        return sum(there) / len(there) if there else None

    alone = Difference.of(scores)
    return Row(
        group.name, group.axes, len(scores.points), [str(run.folder) for run in group.runs],
        alone.value[0].item(), alone.half()[0].item(), alone.value[1:].tolist(),
        mean([r.score for r in group.runs]), mean([r.parameters for r in group.runs]),
        mean([r.speed for r in group.runs]), mean([r.seconds for r in group.runs]),
    )  # fmt: skip


def _monitor(runs: Sequence[Run]) -> tuple[str | None, bool]:
    """What the runs were selected by (None where they differ), and whether more of it is better."""
    names = {run.monitor for run in runs}
    modes = [match.group(1) if (match := re.search(r"^mode: (\w+)", run.config, re.MULTILINE)) else "auto" for run in runs]
    higher = all(higher_is_better(run.monitor, mode) for run, mode in zip(runs, modes, strict=True))
    return (names.pop() if len(names) == 1 else None), higher


def _best(rows: list[Row], higher: bool) -> str | None:
    scored = [row for row in rows if row.val is not None]
    return (max if higher else min)(scored, key=lambda row: row.val or 0.0).name if scored else None


def _baseline(rows: list[Row], asked: str | None, best: str | None) -> int:
    """The place of the group that was asked for: by its name, or by a part of it that no other has."""
    names = [row.name for row in rows]
    if asked is None:
        return names.index(best) if best is not None else 0
    if asked in names:
        return names.index(asked)
    words = set(asked.split())
    values = [
        {*name.split(), *row.axes.values(), *(f"{k}={v}" for k, v in row.axes.items())}
        for name, row in zip(names, rows, strict=True)
    ]
    found = [n for n, known in enumerate(values) if words <= known]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            f"--baseline='{asked}' fits {len(found)} groups, such as '{names[found[0]]}' and '{names[found[1]]}'."
        )
    raise ConfigError(f"There is no group '{asked}'.{nearest(asked, names[:50])}")


def _warnings(runs: Sequence[Run], rows: list[Row], monitor: str | None, baseline: str | None) -> list[str]:
    notes = []
    if monitor is None:
        which = "the baseline was named" if baseline is not None else "the first group is the baseline"
        notes.append(f"the runs were selected by different monitors, so that none is the best; {which}.")
    if any(run.monitor.startswith("test") for run in runs):
        notes.append("warning: checkpoints were chosen by a test score, so test scores and verdicts flatter; use val/iou.")
    if len(rows) > 1 and any(row.seeds == 1 for row in rows):
        if all(row.seeds == 1 for row in rows):
            notes.append("one seed a side: only the noise of the test images is judged, not that of training; add seed=1,2,3.")
        else:
            notes.append(
                "of a group with one seed the noise of training is unknown; against others their spread stands for it."
            )
    return notes


def _sorted(rows: list[Row], sort: str, higher: bool) -> list[Row]:
    if sort == "name":
        return sorted(rows, key=lambda row: row.name)
    sign = -1 if sort in ("test", "speed") or (sort == "val" and higher) else 1

    def key(row: Row) -> tuple[bool, float]:
        value: Any = getattr(row, sort)
        return value is None or value != value, sign * (value or 0.0)

    return sorted(rows, key=key)
