"""The sweep's folder: sweep.json (axes, trials, states), summary.csv, and `best`, a link to the best trial."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seglab.errors import ConfigError, DataError
from seglab.processes import SAVING
from seglab.results import replacing
from seglab.sweep.trial import DONE, State, Trial, broken, fits

SCHEMA = 1
FILE = "sweep.json"
LOCK = ".sweep.lock"  # held by the sweep and by its trials
OWNER = ".sweep.owner"  # held by the sweep alone
COLUMNS = ("trial", "state", "score", "epochs", "seconds", "place", "attempts", "folder", "error")


@dataclass
class Sweep:
    """All that is known of a sweep; `write` puts it on the disk."""

    path: Path
    command: list[str]  # the overrides of the command, with the values that are swept over
    hydra: list[str] = field(default_factory=list)  # and those of Hydra's own section, without the folder
    launcher: str = "pool"
    study: bool = False  # a sampler thinks of the trials
    created: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S"))
    trials: list[Trial] = field(default_factory=list)
    total: int | None = None  # how many trials it will have, where that is known
    again: bool = False  # this is not its first session
    _lock: int | None = None
    _own: int | None = None

    @property
    def axes(self) -> list[str]:
        """The keys in which the trials differ."""
        return list(dict.fromkeys(key for trial in self.trials for key in trial.axes))

    def best(self) -> Trial | None:
        """The finished trial with the best score; None where none has one, or where they are of different kinds."""
        top: Trial | None = None
        finished = [trial for trial in self.trials if trial.state == "finished"]
        if len({(trial.monitor, trial.higher) for trial in finished if trial.score is not None}) > 1:
            return None
        for trial in finished:
            if trial.better(top.score if top else None):
                top = trial
        return top

    def count(self, *states: State) -> int:
        """How many trials are in one of these states."""
        return sum(trial.state in states for trial in self.trials)

    def folder(self, trial: Trial) -> Path:
        """The trial's run folder."""
        return self.path / trial.folder

    def write(self) -> None:
        """sweep.json, summary.csv and the link, each replaced whole."""
        self.path.mkdir(parents=True, exist_ok=True)
        best, keys = self.best(), self.axes
        with replacing(self.path / FILE) as file:
            json.dump(self.to_dict(best), file, indent=1)
            file.write("\n")
        with replacing(self.path / "summary.csv") as file:
            writer = csv.writer(file)
            writer.writerow([*COLUMNS[:3], *keys, *COLUMNS[3:]])
            for t in self.trials:
                axes = [t.axes.get(key, "") for key in keys]
                after = (t.epoch, round(t.seconds, 1), t.place, t.attempts, t.folder, t.error)
                writer.writerow([t.number, t.state, t.score, *axes, *after])
        if best:
            _link(self.path / "best", best.folder)

    def to_dict(self, best: Trial | None) -> dict[str, Any]:
        """Plain data, as sweep.json holds it."""
        keys = ("created", "launcher", "study", "command", "hydra")
        head = {"schema": SCHEMA, **{key: getattr(self, key) for key in keys}}
        found = {"axes": self.axes, "total": self.total, "best": best.number if best else None}
        return {**head, **found, "trials": [trial.to_dict() for trial in self.trials]}

    @classmethod
    def read(cls, path: Path) -> Sweep:
        """The sweep of a folder. Raises DataError where there is none, or it is broken."""
        file = path / FILE
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error.strerror}); name the folder of a sweep.") from error
        except ValueError as error:
            raise broken(file, str(error)) from error
        if not isinstance(data, dict) or data.get("schema") != SCHEMA or not isinstance(data.get("trials"), list):
            raise broken(file, f"its schema is not {SCHEMA}")
        kinds = {"command": list[str], "hydra": list[str], "launcher": str, "study": bool, "created": str, "total": int | None}
        for key, kind in kinds.items():
            if key not in data or not fits(data[key], kind):
                raise broken(file, f"{key} is {data.get(key)!r}")
        trials = [Trial.from_dict(trial, file) for trial in data["trials"]]
        return cls(path, trials=trials, **{key: data[key] for key in kinds})

    def go_on(self, old: Sweep) -> None:
        """Take the trials of the sweep's earlier session over. What it left running was cut off.

        ConfigError if it has jobs of another launcher, of which this one knows nothing, or is a study, which this is not.
        """
        if old.study and not self.study:
            raise ConfigError(
                f"{self.path} holds a study; go on with its own command (sweep.resume=DIR alone), or choose another folder "
                f"with hydra.sweep.dir=DIR."
            )
        if old.launcher != self.launcher and any(t.job is not None for t in old.trials if t.state not in DONE):
            raise ConfigError(
                f"{self.path} has jobs of hydra/launcher={old.launcher} that may still run; go on with the same launcher."
            )
        self.created, self.trials, self.total, self.again = old.created, old.trials, old.total, True
        for trial in self.trials:
            if trial.state == "running":
                trial.state = "interrupted"

    def claim(self, waiting: Callable[[], None] = lambda: None, patience: float = SAVING + 30) -> None:
        """Make the folder this process's, as long as it or one of its trials lives. ConfigError if another keeps it.

        The trials inherit one of two locks: those of a sweep that was killed save their state first, for which `waiting` is
        called once and which may take `patience` seconds. The other one only a sweep at work has; that is not waited for.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._own = self._locked(OWNER, lambda: None, min(patience, 1.0))
        try:
            self._lock = self._locked(LOCK, waiting, patience)
        except ConfigError:
            self.release()
            raise

    def _locked(self, name: str, waiting: Callable[[], None], patience: float) -> int | None:
        """The descriptor of a file of the folder that is locked now; None where there are no locks."""
        try:
            import fcntl
        except ImportError:
            return None
        lock, deadline = os.open(self.path / name, os.O_RDWR | os.O_CREAT, 0o644), 0.0
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not deadline:
                    deadline = time.monotonic() + patience
                    waiting()
                if time.monotonic() > deadline:
                    os.close(lock)
                    raise ConfigError(f"{self.path} is being written by another sweep; wait for it, or end it.") from None
                time.sleep(0.1)
            except OSError:  # a disk without locks
                return lock
            else:
                return lock

    @property
    def inherited(self) -> tuple[int, ...]:
        """The file descriptors that trials shall inherit: that of the lock."""
        return () if self._lock is None else (self._lock,)

    def release(self) -> None:
        """Give the folder up."""
        for lock in (self._lock, self._own):
            if lock is not None:
                os.close(lock)
        self._lock = self._own = None


def _link(link: Path, target: str) -> None:
    with suppress(OSError):  # a disk without links; summary.csv says it as well
        if not link.is_symlink() or os.readlink(link) != target:
            temporary = link.with_name(f".best.{os.getpid()}.tmp")
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target, target_is_directory=True)
            os.replace(temporary, link)
