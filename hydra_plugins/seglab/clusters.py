"""hydra/launcher=slurm and ray: the trials of a sweep on a cluster."""

from __future__ import annotations

from dataclasses import fields
from importlib.util import find_spec
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.seglab.launchers import TrialLauncher
from seglab.errors import ConfigError, nearest
from seglab.sweep.backend import Backend
from seglab.sweep.folder import Sweep


class ClusterLauncher(TrialLauncher):
    """What both share: settings that are looked at in `setup`; an error of `__init__` Hydra would tell in its own words."""

    def __init__(
        self, retries: int = 0, halve_batch: bool = False, trial_timeout: float | None = None, resume: bool = False, **own: Any
    ) -> None:
        super().__init__(retries=retries, halve_batch=halve_batch, trial_timeout=trial_timeout, resume=resume)
        self.own = {k: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for k, v in own.items()}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """ConfigError for a missing package or a wrong setting, before anything is written."""
        self.settings = self.checked()
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def checked(self) -> Any:
        """The settings. Raises ConfigError."""
        raise NotImplementedError


class SlurmLauncher(ClusterLauncher):
    """Each trial a job of SLURM."""

    name = "slurm"

    def checked(self) -> Any:
        """The settings of slurm.yaml."""
        needed("submitit", self.name)
        from seglab.sweep.slurm import Settings

        return settings(Settings, self.own)

    def backend(self, sweep: Sweep) -> Backend:
        """SLURM's queue."""
        from seglab.sweep.slurm import Slurm

        return Slurm(self.settings, sweep.path / ".slurm", sweep.path.name)


class RayLauncher(ClusterLauncher):
    """Each trial a task of Ray."""

    name = "ray"

    def checked(self) -> Any:
        """The settings of ray.yaml."""
        needed("ray", self.name)
        from seglab.sweep.ray_cluster import Settings

        return settings(Settings, self.own)

    def backend(self, sweep: Sweep) -> Backend:
        """This machine's Ray, or a cluster's."""
        from seglab.sweep.ray_cluster import Ray

        return Ray(self.settings)


def needed(package: str, extra: str) -> None:
    """ConfigError with the command that installs it, if the package is missing."""
    if find_spec(package) is None:
        raise ConfigError(f'hydra/launcher={extra} needs {package}; install it with pip install "seglab[{extra}]".')


def settings(kind: type, given: dict[str, Any]) -> Any:
    """The settings of that kind, looked over. Raises ConfigError."""
    known = [field.name for field in fields(kind)]
    if unknown := [key for key in given if key not in known]:
        raise ConfigError(f"hydra.launcher.{unknown[0]} is no setting of it.{nearest(unknown[0], known)}")
    made = kind(**given)
    made.check()
    return made
