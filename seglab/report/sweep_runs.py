"""The runs of a comparison's page, whether or not they could be compared: what each was asked for, and what became of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from seglab.compare.answer import Comparison
from seglab.compare.collecting import run_folders
from seglab.errors import DataError
from seglab.report.reading import rows
from seglab.results import is_number, part, read_results
from seglab.sweep.folder import Sweep
from seglab.sweep.listing import Seen, sweeps
from seglab.sweep.trial import Trial

PAGE = "report.html"


@dataclass
class RunLine:
    """A run. group: its place in Comparison.rows. curve: (epoch, value of the monitor). link: to its own page, or ''."""

    folder: Path
    name: str
    axes: dict[str, str] = field(default_factory=dict)
    status: str = "unknown"
    monitor: str = ""
    score: float | None = None
    test: float | None = None
    epochs: int | None = None
    seconds: float | None = None
    reason: str = ""
    group: int | None = None
    curve: list[tuple[float, float]] = field(default_factory=list)
    link: str = ""


@dataclass
class Listing:
    """All runs in and below some folders, the sweeps among those, and lines on records that cannot be read."""

    runs: list[RunLine]
    sweeps: list[Sweep]
    notes: list[str]

    @property
    def monitor(self) -> str:
        """What most of the runs are selected by."""
        found = Counter(run.monitor for run in self.runs if run.monitor not in ("", "auto"))
        return found.most_common(1)[0][0] if found else "val/iou"


def listed(paths: Sequence[str], found: Comparison | None, out: Path) -> Listing:
    """The trials of sweeps in their order, then the other runs; `found` tells their groups, links are relative to `out`."""
    notes: list[str] = []
    recorded = _sweeps(paths, notes)
    trials = {sweep.folder(trial).resolve(): trial for sweep in recorded for trial in sweep.trials}
    folders = {sweep.folder(trial).resolve(): sweep.folder(trial) for sweep in recorded for trial in sweep.trials}
    for path in paths:
        for folder in run_folders(Path(path)):
            folders.setdefault(folder.resolve(), folder)
    groups: dict[Path, int] = {}
    for n, row in enumerate(found.rows if found else ()):
        groups |= {Path(folder).resolve(): n for folder in row.folders}
    base = Path(paths[0]) if len(paths) == 1 else Path(os.path.commonpath([os.path.abspath(path) for path in paths]))
    runs = []
    for place, folder in folders.items():
        run = RunLine(folder, os.path.relpath(folder, base), link=_link(folder, out), group=groups.get(place))
        run.name = folder.resolve().name if run.name == "." else run.name
        _results(run)
        if place in trials:
            _trial(run, trials[place])
        elif found and run.group is not None:
            run.axes = {**found.rows[run.group].axes, **run.axes}
        _curve(run)
        runs.append(run)
    if found and len(recorded) > 1 and all(run.group is not None for run in runs if run.score is not None):
        for run in runs:  # each sweep has axes of its own; the groups have the same for all
            run.axes = {**found.rows[run.group].axes, **_seed(run)} if run.group is not None else run.axes
    return Listing(runs, recorded, notes)


def _sweeps(paths: Sequence[str], notes: list[str]) -> list[Sweep]:
    found: dict[Path, Sweep] = {}
    for path in (path for root in paths for path in reversed(sweeps(Path(root)))):
        try:
            found.setdefault(path.resolve(), Seen(path).sweep)
        except DataError as error:
            notes.append(f"left out: {error}")
    return list(found.values())


def _results(run: RunLine) -> None:
    """What results.json says, as far as it can be read."""
    try:
        found = read_results(run.folder)
    except DataError as error:
        run.reason = str(error) if (run.folder / "results.json").exists() else "No results.json was written."
        return
    run.status, run.monitor = str(found["status"]), str(found["monitor"])
    run.score, run.seconds = _number(found["score"]), _number(found["seconds"])
    run.test = _number(part(found, "metrics").get("test/iou"))
    run.reason = str(found.get("error") or "")
    run.axes = {} if found["seed"] is None else {"seed": str(found["seed"])}


def _trial(run: RunLine, trial: Trial) -> None:
    """What the sweep's record says besides."""
    run.axes, run.status, run.epochs = trial.axes, trial.state, trial.epoch if trial.attempts else None
    run.monitor = trial.monitor if trial.monitor != "auto" else run.monitor
    run.score = _number(trial.score) if run.score is None else run.score
    run.seconds = _number(trial.seconds) if trial.attempts else None
    failed = trial.state in ("failed", "interrupted")
    run.reason = (trial.error or run.reason if failed else "") or (run.reason if run.status == "finished" else "")


def _curve(run: RunLine) -> None:
    if not (run.folder / "metrics.csv").is_file():
        return
    with suppress(DataError):
        head, *lines = rows(run.folder / "metrics.csv")
        run.epochs = len(lines) if run.epochs is None else run.epochs
        along = next((head.index(key) for key in ("epoch", "step") if key in head), None)
        if along is None or run.monitor not in head:
            return
        at, first = head.index(run.monitor), int(head[along] == "epoch")  # the file counts from 0, the terminal from 1
        for line in lines:
            with suppress(ValueError, IndexError):
                x, y = float(line[along]), float(line[at])
                if abs(x) < 1e9 and is_number(y):
                    run.curve.append((x + first, y))


def _link(folder: Path, out: Path) -> str:
    """The run's own page as a relative address, every character quoted that an address does not have."""
    page = folder / PAGE
    if not page.is_file() or page.resolve() == out.resolve():
        return ""
    relative = os.path.relpath(page, os.path.abspath(out.parent))
    return quote(os.fsencode(relative)) if relative.startswith("..") else "./" + quote(os.fsencode(relative))


def _seed(run: RunLine) -> dict[str, str]:
    return {"seed": run.axes["seed"]} if "seed" in run.axes else {}


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None
