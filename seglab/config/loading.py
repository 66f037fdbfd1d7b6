"""Configurations as data: composed outside a door, resolved to plain values, changed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seglab.config.composing import COMPOSING, composed
from seglab.config.mistakes import explain, first_line
from seglab.errors import ConfigError, nearest


def load(overrides: list[str], name: str = "train", hydra: bool = False) -> DictConfig:
    """Compose a configuration outside a door (tests, notebooks, evaluate); ConfigError in one sentence."""
    try:
        return composed(overrides, name, hydra)
    except COMPOSING as error:
        raise ConfigError(explain(error, overrides)) from error


def compose(overrides: list[str], name: str = "train") -> tuple[dict[str, Any], dict[str, str]]:
    """The plain configuration and the choice of each group, as a door composes them: what `seglab.engine.fit` asks for."""
    whole = load(overrides, name, hydra=True)
    picked = {str(group): choice for group, choice in whole.hydra.runtime.choices.items() if choice is not None}
    choices = {group: str(choice) for group, choice in picked.items() if not group.startswith("hydra/")}
    return plain(OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])), choices


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as dicts, lists, numbers and strings, interpolations resolved, without Hydra's own section."""
    try:
        data = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"The configuration cannot be resolved: {first_line(error)}") from error
    assert isinstance(data, dict)
    return {str(k): v for k, v in data.items() if k != "hydra"}


def chosen(config: dict[str, Any], group: str, name: str | None) -> dict[str, Any]:
    """The configuration with one group replaced by a file of conf/ (None: as it is); ConfigError if there is no such file."""
    return config if name is None else {**config, group: plain(load([f"{group}={name}"]))[group]}


def override(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of the plain configuration with dotted keys set; ConfigError if a key leads through a value.

    Only the changes are resolved: ${...} inside a checkpoint is text, which reads neither the environment nor anything else.
    """
    done = copy.deepcopy(config)
    for key, value in plain(OmegaConf.create({"changes": {k: v for k, v in changes.items()}}))["changes"].items():
        *parents, last = key.split(".")
        node: Any = done
        for part in parents:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            parent = ".".join(parents)
            raise ConfigError(f"There is no key '{parent}' in the checkpoint's configuration.{nearest(parent, config)}")
        node[last] = value
    return done


def write_hydra(run: Path, config: dict[str, Any], overrides: list[str]) -> None:
    """Replace the record that Hydra left in the run's folder, if it left one, by these settings."""
    folder = run / ".hydra"
    if folder.is_dir():
        OmegaConf.save(OmegaConf.create({**config, "resume": None}), folder / "config.yaml")
        OmegaConf.save(OmegaConf.create(overrides), folder / "overrides.yaml")
