"""The keys at the top of the configuration: their types and limits, and a seed drawn where none is given."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal

from seglab.build import check_type, find
from seglab.checkpoint import GROUPS
from seglab.errors import ConfigError, nearest
from seglab.tasks.base import Task

Config = dict[str, Any]

TOP = {
    "seed": int | None, "monitor": str, "mode": Literal["auto", "max", "min"], "patience": int | None, "test": bool,
    "pictures": int, "name": str | None, "callbacks": dict, "resume": str | None, "keep": dict,
    "deterministic": bool | Literal["warn"], "ema": float | None, "compile": bool,
    "check": str | bool,
}  # fmt: skip
KEEP = ("every_steps", "every_minutes")
CHECKS = ("quick", "off")


def check_top(config: Config) -> Config:
    """The configuration with a drawn seed where it is null, and the score that `monitor: auto` means.

    ConfigError for an unknown key or a wrong type at the top.
    """
    config = {"check": "quick", **config}  # older runs lack the key
    for key, value in config.items():
        if key not in TOP and key not in GROUPS:
            raise ConfigError(f"There is no key '{key}'.{nearest(key, [*TOP, *GROUPS])}")
        check_type(value, TOP.get(key, Mapping), key)
    for key in (*GROUPS, *TOP):
        if key not in config:
            raise ConfigError(f"'{key}' is missing from the configuration; set it (for example augment=none, logger=none).")
    if config["monitor"] == "auto":
        kind: type[Task] = find(config["task"].get("_target_"), Task, "task")
        config = {**config, "monitor": f"val/{kind.headline}"}
    if config["ema"] is not None and not 0 < config["ema"] < 1:
        raise ConfigError(f"ema is {config['ema']}; it must be above 0 and below 1 (0.999), or null for no average.")
    if (check := config["check"]) not in CHECKS:
        hint = " In a YAML file write 'off' in quotes." if check is False else nearest(str(check), CHECKS)
        told = str(check).lower() if isinstance(check, bool) else check
        raise ConfigError(f"check is {told}; it must be quick or off.{hint}")
    if config["pictures"] < 0:
        raise ConfigError(f"pictures is {config['pictures']}; it must be 0 or more.")
    check_type(config["keep"].get("every_steps"), int | None, "keep.every_steps")
    check_type(config["keep"].get("every_minutes"), float | None, "keep.every_minutes")
    for key, value in config["keep"].items():
        if key not in KEEP:
            raise ConfigError(f"There is no key '{key}' in 'keep'.{nearest(key, KEEP)}")
        if value is not None and value <= 0:
            raise ConfigError(f"keep.{key} is {value}; it must be above 0, or null for never.")
    if config["seed"] is None:
        config = {**config, "seed": random.SystemRandom().randrange(2**31)}
    if not 0 <= config["seed"] < 2**32:
        raise ConfigError(f"seed is {config['seed']}; it must be from 0 to 4294967295, or null to draw one.")
    return config
