"""Jobs of Hydra's as trials: how they were asked for, the command that runs one, and what a sweeper hears of its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, cast

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from seglab.config.commandline import places
from seglab.errors import ConfigError, TrainingError
from seglab.sweep.trial import DONE, Trial
from seglab.sweep.watching import Row


class Listed:
    """The jobs of one multirun, in their order."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.left = list(trials)

    def next(self) -> Trial | None:
        """The next one."""
        return self.left.pop(0) if self.left else None

    def prune(self, trial: Trial, rows: list[Row]) -> bool:
        """Never."""
        return False

    def ended(self, trial: Trial) -> None:
        """Nothing follows from it."""


def contents(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as Hydra hands them over, OmegaConf's lists and dicts as plain ones."""
    return {k: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for k, v in settings.items()}


def class_of(node: DictConfig) -> type:
    """The class that a section of Hydra's names."""
    from hydra.core.plugins import Plugins

    return Plugins.instance().class_name_to_class[str(node["_target_"])]


def typed(config: DictConfig) -> tuple[list[str], list[str]]:
    """(task's, Hydra's) overrides as they were typed; an iteration over OmegaConf's lists would fill in their ${...}."""
    given = cast(dict[str, list[str]], OmegaConf.to_container(config.hydra.overrides, resolve=False))
    return given["task"], given["hydra"]


def command() -> list[str]:
    """Python and the module or script that this process runs, with the flags that say where its configuration is."""
    main = sys.modules["__main__"]
    start = ["-m", main.__spec__.name] if main.__spec__ else [os.path.abspath(sys.argv[0])]
    return [sys.executable, *(["-P"] if sys.flags.safe_path else []), *start, *places(sys.argv[1:])]


def devices_of(trainer: dict[str, Any]) -> int:
    """How many devices a trial trains on; -1 = all. ConfigError for a list: a trial's own devices count from 0."""
    asked = trainer.get("devices")
    several = asked if isinstance(asked, list) else str(asked).split(",") if "," in str(asked) else None
    if several is not None:
        raise ConfigError(
            f"trainer.devices={asked}: the trials of a sweep get their devices from hydra.launcher.devices; give a number, "
            f"trainer.devices={len(several)}."
        )
    if asked == "auto":
        return -1 if trainer.get("accelerator") != "cpu" else 1
    try:
        return 1 if asked is None else int(asked)
    except ValueError:
        return 1  # the trial itself says what is wrong with it


def returned(trial: Trial) -> JobReturn:
    """What a sweeper of others is told of a trial."""
    done = JobReturn(overrides=trial.overrides, working_dir=trial.folder, task_name="train")
    ended = trial.state in DONE
    done.status = JobStatus.COMPLETED if ended else JobStatus.FAILED
    done.return_value = trial.score if ended else TrainingError(f"trial {trial.number}: {trial.error}")
    return done
