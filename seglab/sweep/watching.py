"""What a running trial writes about itself: the epochs of metrics.csv, the score and status of results.json."""

from __future__ import annotations

import csv
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from seglab.results import FILE
from seglab.sweep.trial import Trial

Row = dict[str, float]


class Watch:
    """Looks at a trial's files, and reads those that have changed."""

    def __init__(self, folder: Path, trial: Trial) -> None:
        self.folder, self.trial = folder, trial
        self.rows: list[Row] = []
        self._seen: dict[str, Any] = {}

    def look(self) -> list[Row]:
        """Bring the trial's epoch, monitor and score up to date; the rows that are new."""
        if self.trial.monitor == "auto" and (found := self.results()).get("monitor"):
            self.trial.monitor = found["monitor"]
        if not self._changed("metrics.csv"):
            return []
        before, self.rows = len(self.rows), _rows(self.folder / "metrics.csv")
        self.trial.epoch = len(self.rows)
        scores = [row[self.trial.monitor] for row in self.rows if self.trial.monitor in row]
        if scores:
            self.trial.score = (max if self.trial.higher else min)(scores)
        return self.rows[before:]

    def results(self) -> dict[str, Any]:
        """The trial's results.json, whatever its status; {} while there is none that can be read."""
        with suppress(OSError, ValueError):
            found = json.loads((self.folder / FILE).read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else {}
        return {}

    def _changed(self, name: str) -> bool:
        try:
            stat = (self.folder / name).stat()
        except OSError:
            return False
        now = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        changed, self._seen[name] = self._seen.get(name) != now, now
        return changed


def _rows(path: Path) -> list[Row]:
    """The finite numbers of each epoch."""
    rows: list[Row] = []
    with suppress(OSError, csv.Error), path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            numbers = {}
            for key, text in line.items():
                with suppress(TypeError, ValueError):
                    if math.isfinite(value := float(text)):
                        numbers[key] = value
            rows.append(numbers)
    return rows
