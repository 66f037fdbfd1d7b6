"""What tests of sweeps share: the command as a user gives it, a source of listed trials, a launcher as Hydra sets one up."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from conftest import TINY
from hydra.types import RunMode

from hydra_plugins.seglab.jobs import Listed
from hydra_plugins.seglab.launchers import PoolLauncher
from seglab.config.composing import _loader
from seglab.sweep.trial import Trial

WHOLE = [o for o in TINY if o.split("=")[0] not in ("trainer.max_epochs", "pictures", "data.train")]
LONG = [*WHOLE, "data.train=40", "trainer.max_epochs=6", "pictures=0", "augment=medium", "keep.every_steps=3"]


def command(*more: str) -> list[str]:
    return [sys.executable, "-m", "seglab.train", "-m", *more]


def run(folder: Path, *more: str, code: int = 0) -> str:
    """Run a sweep; what it said."""
    done = subprocess.run(command(*more), cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


class Jobs(Listed):
    """The trials of a list, of which some are pruned; it remembers what it was told."""

    def __init__(self, trials: list[Trial], prune: tuple[int, ...] = ()) -> None:
        super().__init__(trials)
        self.told: list[tuple[int, str]] = []
        self.pruned = prune

    def prune(self, trial: Trial, rows: list) -> bool:
        return trial.number in self.pruned

    def ended(self, trial: Trial) -> None:
        self.told.append((trial.number, trial.state))


class Silent:
    """Shows nothing, and remembers the events."""

    def __init__(self) -> None:
        self.events: list[tuple[int, str]] = []

    def event(self, trial: Trial, text: str) -> None:
        self.events.append((trial.number, text))

    def update(self) -> None:
        pass


@contextmanager
def launcher(*overrides: str, resume: bool = False):
    """A launcher as Hydra sets it up for `-m overrides`; its sweep is in s/."""
    with _loader() as loader:
        config = loader.load_configuration("train", [*overrides, "hydra.sweep.dir=s"], RunMode.MULTIRUN)
        made = PoolLauncher(devices="cpu", resume=resume)
        made.setup(hydra_context=SimpleNamespace(config_loader=loader), task_function=None, config=config)
        yield made
