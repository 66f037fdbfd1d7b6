"""hydra/launcher=slurm and ray: the trials of a sweep on a cluster."""

from __future__ import annotations

from dataclasses import fields
from importlib.util import find_spec
from typing import Any, get_origin, get_type_hints

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.seglab.jobs import contents
from hydra_plugins.seglab.launchers import COMMON, TrialLauncher
from seglab.build import check_type
from seglab.config.commandline import by_record
from seglab.errors import ConfigError, nearest
from seglab.sweep.backend import Backend
from seglab.sweep.folder import Sweep


class ClusterLauncher(TrialLauncher):
    """What both share: settings of their own, which are looked at before anything is written."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{key: given.pop(key) for key in COMMON if key in given})
        self.own = contents(given)

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

        for key in ("setup", "more"):
            if by_record and self.own.get(key):
                raise ConfigError(
                    f"hydra.launcher.{key} would run what a sweep's record holds, which anybody may have written; repeat the "
                    f"sweep's own command with sweep.resume=DIR."
                )
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
        raise ConfigError(f"There is no key '{unknown[0]}' in 'hydra.launcher'.{nearest(unknown[0], known)}")
    for key, hint in get_type_hints(kind).items():
        if get_origin(hint) in (list, dict) or key == "address":  # what else they hold they look at themselves
            check_type(given.get(key), hint | None, f"hydra.launcher.{key}")
    given = {key: value for key, value in given.items() if value is not None or get_origin(get_type_hints(kind)[key]) is None}
    made = kind(**given)
    made.check()
    return made
