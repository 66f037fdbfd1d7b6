"""What is asked of a study, and optuna's samplers and pruners by name, with the settings that suit trainings."""

from __future__ import annotations

import inspect
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from seglab.errors import ConfigError, nearest
from seglab.sweep.space import Axis, check

SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "tpe": ("TPESampler", {}),
    "gp": ("GPSampler", {}),
    "nsga2": ("NSGAIISampler", {"population_size": 10}),  # optuna's 50 are more than most studies of trainings have
    "random": ("RandomSampler", {}),
    "grid": ("RandomSampler", {}),  # its points are given
}
PRUNERS: dict[str, tuple[str, dict[str, Any]]] = {
    "median": ("MedianPruner", {"n_startup_trials": 4}),
    "percentile": ("PercentilePruner", {"percentile": 66.0, "n_startup_trials": 4}),
    "hyperband": ("HyperbandPruner", {}),
    "none": ("NopPruner", {}),
}


@dataclass(frozen=True)
class Plan:
    """What is asked of a study; ConfigError if it cannot be done. `fixed` are the overrides that all trials share."""

    axes: Sequence[Axis]
    fixed: Sequence[str] = ()
    beside: Sequence[str] = ()  # more of them, that do not change what is computed
    trials: int = 20
    parallel: int = 1
    sampler: str = "tpe"
    sampler_settings: Mapping[str, Any] = field(default_factory=dict)
    pruner: str = "median"
    pruner_settings: Mapping[str, Any] = field(default_factory=dict)
    objectives: Mapping[str, str] | None = None  # name -> max | min; None = the run's monitor
    higher: bool = True  # whether more of the monitor is better
    seed: int = 0
    epochs: int | None = None  # of a trial, for the pruner

    def __post_init__(self) -> None:
        for key, table in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
            if (name := getattr(self, key)) not in table:
                raise ConfigError(f"There is no hydra.sweeper.{key}={name}.{nearest(str(name), table)}")
        for key in ("trials", "parallel"):
            if getattr(self, key) < 1:
                raise ConfigError(f"hydra.sweeper.{key} is {getattr(self, key)}; it must be 1 or more.")
        for name, direction in (self.objectives or {}).items():
            if direction not in ("max", "min"):
                raise ConfigError(f"hydra.sweeper.objectives: '{name}' is {direction}; write {name}: max, or {name}: min.")
        check(self.axes, self.sampler, self.trials)

    @property
    def directions(self) -> list[str]:
        """As optuna has them."""
        words = self.objectives.values() if self.objectives else ["max" if self.higher else "min"]
        return [f"{word}imize" for word in words]

    def overrides(self) -> list[str]:
        """Those that all trials share."""
        return [*self.fixed, *self.beside]

    def record(self) -> dict[str, Any]:
        """What a study must share with the one that goes on with it, in words."""
        aim = dict(self.objectives) if self.objectives else self.directions[0]
        return {"axes": [axis.describe() for axis in self.axes], "objectives": aim, "overrides": sorted(self.fixed)}

    def try_out(self) -> None:
        """ConfigError for settings of the sampler or the pruner that they refuse, at the latest when they are asked first."""
        optuna = quiet()
        self.make_pruner()
        study = optuna.create_study(directions=self.directions, sampler=self.make_sampler(0))
        try:
            study.ask({axis.name: axis.distribution() for axis in self.axes})
        except TypeError as error:
            raise ConfigError(f"hydra.sweeper.sampler_settings: {self.sampler} cannot use them: {_short(error)}.") from error
        except (ImportError, ValueError):  # said when it is asked in earnest
            return

    def make_sampler(self, *address: int, name: str | None = None) -> Any:
        """The sampler, or that of another name, with a seed that follows from the plan's seed and the address."""
        seed = self.address(*address)
        if name is not None:
            return _built("sampler", SAMPLERS[name], {}, {"seed": seed})
        given: dict[str, Any] = {"seed": seed}
        if self.sampler == "tpe" and self.parallel > 1:
            given["constant_liar"] = True  # trials that still run count as bad ones: no two look at the same place
        return _built("sampler", SAMPLERS[self.sampler], self.sampler_settings, given)

    def make_pruner(self) -> Any:
        """The pruner."""
        epochs, given = self.epochs or 0, dict[str, Any]()
        if self.pruner in ("median", "percentile"):  # early scores favour large learning rates, which a schedule makes small
            given = {"n_warmup_steps": max(2, epochs // 4)}
        elif self.pruner == "hyperband":
            given = {"min_resource": max(2, epochs // 9), **({"max_resource": epochs} if epochs else {})}
        return _built("pruner", PRUNERS[self.pruner], self.pruner_settings, given)

    def address(self, *address: int) -> int:
        """A seed of 32 bits that follows from the plan's and the address."""
        return int.from_bytes(sha256(repr((self.seed, *address)).encode()).digest()[:4])

    def any_of(self, points: Sequence[Any], *address: int) -> Any:
        """One of the points, by lot."""
        return random.Random(self.address(*address)).choice(points)


def quiet() -> Any:
    """The module optuna, which says nothing from now on; ConfigError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise ConfigError('hydra/sweeper=optuna needs optuna; install it with pip install "seglab[optuna]".') from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", module=r"optuna\.")
    return optuna


def _built(kind: str, entry: tuple[str, dict[str, Any]], settings: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """The object of optuna's `kind`s, from its defaults here, the user's settings, and what is given with it."""
    name, defaults = entry
    cls = getattr(getattr(quiet(), f"{kind}s"), name)
    known = [k for k in inspect.signature(cls).parameters if k != "seed"]
    for key in settings:
        if key not in known:
            raise ConfigError(f"There is no key '{key}' in 'hydra.sweeper.{kind}_settings'.{nearest(key, known)}")
    try:
        return cls(**{**defaults, **given, **settings})
    except ImportError as error:
        raise ConfigError(f"hydra.sweeper.{kind} needs {error.name}, which is not installed; take another one.") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"hydra.sweeper.{kind}_settings: {name} refuses them: {_short(error)}") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
