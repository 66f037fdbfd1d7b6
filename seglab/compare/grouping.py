"""Groups of runs that differ in nothing but the seed (or the fold), with short names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from seglab.compare.collecting import Run
from seglab.config.refusing import key_of
from seglab.errors import shown

ABSENT = "-"


@dataclass
class Group:
    """Runs of one configuration. axes: the settings that tell it from the other groups."""

    runs: list[Run]
    axes: dict[str, str] = field(default_factory=dict)
    name: str = ""


def grouped(runs: Sequence[Run], settings: Sequence[dict[str, str]]) -> tuple[list[Group], list[str]]:
    """The groups in the order of their first runs, and notes: seeds that occur twice, settings that differ besides names."""
    keys = list(dict.fromkeys(key for table in settings for key in table))
    keys = [key for key in keys if len({table.get(key, ABSENT) for table in settings}) > 1]
    members: dict[tuple[str, ...], list[Run]] = {}
    for run, table in zip(runs, settings, strict=True):
        members.setdefault(tuple(table.get(key, ABSENT) for key in keys), []).append(run)
    notes: list[str] = []
    groups = [Group(list(_once(found, notes))) for found in members.values()]
    columns = dict(zip(keys, zip(*members, strict=True), strict=True))
    chosen = _axes(groups, columns)
    last = [key.rpartition(".")[2] for key in chosen]
    for n, group in enumerate(groups):
        group.axes = {key: column[n] for key, column in chosen.items()}
        short = zip(last if len(set(last)) == len(last) else chosen, group.axes.values(), strict=True)
        name = " ".join(f"{key}={value}" for key, value in short) or _plain(group.runs[0])
        group.name = name if name not in (g.name for g in groups[:n]) else f"{name} ({n + 1})"  # a value may hold spaces
    if any(len(repetitions(group.runs)) < len(group.runs) for group in groups):
        notes.append("n counts folds: the runs of a fold share its training images, and are taken together.")
    if beside := _beside(groups, columns, chosen):
        notes.append(f"besides their names the groups differ in {beside}")
    return groups, notes


def _once(runs: list[Run], notes: list[str]) -> Iterator[Run]:
    """The runs, of those with the same seed (and fold) the newest: a repetition says nothing about other seeds."""
    newest = {(run.seed, run.fold): run for run in sorted(runs, key=lambda r: r.written) if run.seed is not None}
    for run in runs:
        other = newest[run.seed, run.fold] if run.seed is not None else run
        if other is run:
            yield run
        else:
            notes.append(f"left out: {shown(run.folder)} repeats seed {run.seed} of {shown(other.folder)}.")


def repetitions(runs: Sequence[Run]) -> list[np.ndarray]:
    """Counts (N, K, 3) of each independent repetition: of a run, or of a fold, whose runs are summed.

    Seeds of one fold share its training images: as runs of their own they would pass for more than they are.
    """
    units: dict[tuple[str, int | str | None], list[np.ndarray]] = {}
    for run in runs:
        key = ("run", str(run.folder)) if run.fold is None else ("fold", run.fold)
        units.setdefault(key, []).append(run.counts)
    return [counts[0] if len(counts) == 1 else np.stack(counts).sum(0, dtype=np.int64) for counts in units.values()]


def _axes(groups: list[Group], columns: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The fewest settings that tell all groups apart: those of the command line first, then choices, then any."""
    typed = dict.fromkeys(key_of(o) for g in groups for run in g.runs for o in run.overrides)
    offered = {**{key: column for key in typed if (column := _choice(groups, key) or columns.get(key))}}
    for key in dict.fromkeys(key for g in groups for run in g.runs for key in run.choices):
        if (column := _choice(groups, key)) and any(k.split(".")[0] == key for k in columns):
            offered.setdefault(key, column)
    offered = {**offered, **{key: column for key, column in columns.items() if key not in offered}}
    chosen: dict[str, tuple[str, ...]] = {}
    for key, column in offered.items():
        if len(set(zip(*chosen.values(), column, strict=True))) > len(set(zip(*chosen.values(), strict=True)) or {()}):
            chosen[key] = column
    return chosen


def _choice(groups: list[Group], key: str) -> tuple[str, ...] | None:
    """The choice of each group; None where a group has several, or all have the same."""
    found = [{run.choices.get(key, ABSENT) for run in group.runs} for group in groups]
    if any(len(values) > 1 for values in found):
        return None
    column = tuple(values.pop() for values in found)
    return column if len(set(column)) > 1 else None


def _beside(groups: list[Group], columns: dict[str, tuple[str, ...]], chosen: dict[str, tuple[str, ...]]) -> str:
    """Settings that differ and are neither in the names nor below a choice that is; at most three of them."""
    told = {key for key in chosen if _choice(groups, key)}
    rest = {key: column for key, column in columns.items() if key not in chosen and key.split(".")[0] not in told}
    for group in dict.fromkeys(key.split(".")[0] for key in list(rest)):
        if column := _choice(groups, group):
            rest = {group: column, **{key: c for key, c in rest.items() if key.split(".")[0] != group}}
    few = [f"{key} ({', '.join(dict.fromkeys(column))})" for key, column in list(rest.items())[:3]]
    return ", ".join(few) + (f" and {len(rest) - 3} more" if len(rest) > 3 else "")


def _plain(run: Run) -> str:
    """The name of the only group: its model and loss."""
    return " ".join(f"{key}={run.choices[key]}" for key in ("model", "loss") if key in run.choices) or "all runs"
