"""The runs below the folders that were named; what cannot be compared is named with the reason and left out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seglab.compare.counting import read_counts
from seglab.config.differences import RECORD
from seglab.errors import DataError, shown, visible
from seglab.results import FILE, is_number, part, read_results

COUNTED = "per_image.csv"


@dataclass
class Run:
    """A finished run. counts: (N, K, 3) tp, fp, fn of each test image `ids` and class. config: its configuration as text."""

    folder: Path
    seed: int | None
    fold: int | None
    choices: dict[str, str]
    overrides: list[str]
    monitor: str
    score: float | None
    headline: float
    parameters: float | None
    speed: float | None
    seconds: float | None
    fingerprint: str
    split: dict[str, int]
    classes: list[str]
    ids: list[str]
    counts: np.ndarray
    config: str
    written: float  # when its results were
    definition: str | None  # of its mIoU; older runs do not say
    group: str | None  # data.group: what it finds in the names of images belongs together

    @property
    def name(self) -> str:
        """The folder, as a user would type it."""
        return shown(self.folder)


def collect(paths: Sequence[str]) -> tuple[list[Run], list[str]]:
    """The finished runs in and below the folders, and a line for each that is left out. DataError where a folder is none."""
    folders: dict[Path, Path] = {}
    for path in map(Path, paths):
        path = path.parent if path.name == FILE else path
        if not path.is_dir():
            raise DataError(f"There is no folder '{path}'; name the folders of runs or sweeps, such as multirun/.")
        for folder in run_folders(path):
            folders.setdefault(folder.resolve(), folder)
    runs, skipped = [], []
    for folder in folders.values():
        try:
            runs.append(_read(folder))
        except DataError as error:
            skipped.append(f"left out: {error}")
    return runs, skipped


def run_folders(path: Path) -> Iterator[Path]:
    """Run folders in the order of their names, numbers by value. What lies below a run is its own; links are not followed."""
    if (path / FILE).exists() or (path / RECORD).exists():
        yield path
        return
    try:
        inside = [entry for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")]
    except OSError:
        return
    for entry in sorted(inside, key=lambda e: (not e.name.isdecimal(), int(e.name) if e.name.isdecimal() else 0, e.name)):
        yield from run_folders(Path(entry.path))


def _read(folder: Path) -> Run:
    found = read_results(folder)
    if found["status"] != "finished":
        raise DataError(f"{shown(folder)} is {visible(str(found['status']))}, not finished.")
    metrics, data = _table(found, "metrics", folder), _table(found, "data", folder)
    if metrics.get("test/iou") is None:
        raise DataError(f"{shown(folder)} has no test/iou; it was not tested (test=false), or that ended early.")
    try:
        config = (folder / RECORD).read_text(encoding="utf-8")
        written = (folder / FILE).stat().st_mtime
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{shown(folder)} has no {RECORD.as_posix()} that can be read (an evaluation has none); name the run itself."
        ) from error
    ids, classes, counts = read_counts(folder / COUNTED)
    if not ids:
        raise DataError(f"{shown(folder / COUNTED)} holds no image.")
    if data.get("classes") != classes:
        raise DataError(f"{shown(folder / COUNTED)} has other classes than {FILE} beside it.")
    choices = {key: value for key, value in _table(found, "choices", folder).items() if isinstance(value, str)}
    overrides = found["overrides"] if isinstance(found["overrides"], list) else []
    sizes = part(data, "whole") or part(data, "counts")
    split = {key: value for key, value in sizes.items() if isinstance(value, int)}
    definition, group, fold = part(found, "passport").get("definition"), data.get("group"), data.get("fold")
    return Run(
        folder=folder,
        seed=found["seed"] if isinstance(found["seed"], int) else None,
        fold=fold if isinstance(fold, int) else None,
        choices=choices,
        overrides=[str(word) for word in overrides],
        monitor=str(found["monitor"]),
        score=_number(found["score"]),
        headline=float(metrics["test/iou"]),
        parameters=_number(found["parameters"]),
        speed=_number(part(found, "speed").get("train_images_per_s")),
        seconds=_number(found["seconds"]),
        fingerprint=str(data.get("fingerprint")),
        split=split,
        classes=classes,
        ids=ids,
        counts=counts,
        config=config,
        written=written,
        definition=definition if isinstance(definition, str) else None,
        group=group if isinstance(group, str) else None,
    )


def _table(found: dict[str, Any], key: str, folder: Path) -> dict[str, Any]:
    """A part of results.json that must be a table, with numbers where scores are."""
    value = found[key]
    score = value.get("test/iou") if isinstance(value, dict) else None
    if not isinstance(value, dict) or (key == "metrics" and score is not None and _number(score) is None):
        raise DataError(f"{shown(folder / FILE)} has no {key} that can be read.")
    return value


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None
