"""Hydra's own section is kept from running code that a configuration file names.

Hydra instantiates hydra.callbacks, its loggers and the settings of sweepers and launchers itself, whatever class a file
names there (torch.load on a pickle, for example); hydra.job.env_set could widen SEGLAB_TRUST.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import hydra._internal.hydra as internals
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf

from seglab.errors import ConfigError

_RUNS = ("_target_", "()", "class")  # the keys whose value Hydra or logging.config calls
_HARMLESS = re.compile(
    r"hydra\._internal\.core_plugins\.\w+\.\w+|hydra_plugins\.[\w.]+|logging\.Formatter"
    r"|logging\.(handlers\.)?(Null|Stream|File|RotatingFile|TimedRotatingFile|WatchedFile)Handler"
)
KEPT = 200  # configurations of a sweep's jobs, of 0.2 MB each; composing one takes a tenth of a second
_PRIVATE = ("SEGLAB_", "PYTHON", "HYDRA_", "LD_", "DYLD_")  # variables that decide which code runs


def check_hydra(section: DictConfig) -> None:
    """ConfigError if Hydra's section names a class or sets a variable that could run foreign code."""
    own = os.environ.get("SEGLAB_TRUST", "").replace(" ", "").split(",")
    for key, value in _leaves(OmegaConf.to_container(section, resolve=False), "hydra"):
        path, _, name = key.rpartition(".")
        runs = name in _RUNS and value is not None
        if runs and not _HARMLESS.fullmatch(str(value)) and str(value).split(".")[0] not in own:
            raise ConfigError(
                f"{key}={value}: Hydra would run this; only plugins of Hydra and handlers of logging may stand there."
            )
        if path == "hydra.job.env_set" and name.upper().startswith(_PRIVATE):
            raise ConfigError(f"{key}: no configuration may set {name}; set it in the environment.")


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict | list):
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(value, f"{key}.{name}")
    else:
        yield key, node


class GuardedLoader(ConfigLoaderImpl):
    """Hydra's loader, which also composes each job of a sweep, with the check at its end."""

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        """The composed configuration, before Hydra acts on it; ConfigError as in `check_hydra`."""
        config = super().load_configuration(*args, **kwargs)
        check_hydra(config.hydra)
        return config

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The configuration of a job. Kept until it is asked for again: Hydra checks all jobs before a launcher has them."""
        kept: dict[tuple[str, ...], DictConfig] = self.__dict__.setdefault("kept", {})
        key = tuple(sweep_overrides)
        config = kept.pop(key, None)
        if config is None:
            config = super().load_sweep_config(master_config, sweep_overrides)
            if len(kept) < KEPT:
                kept[key] = config
        OmegaConf.set_readonly(config.hydra, False)  # what Hydra sets for the one job at work; of equal jobs it is the other's
        return config


def register() -> None:
    """Let Hydra use the guarded loader (harmless when repeated)."""
    internals.ConfigLoaderImpl = GuardedLoader  # type: ignore[misc]
