"""Resume: which checkpoint to go on from, and whether the settings still are those of the run."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from seglab import checkpoint, results
from seglab.checkpoint import Checkpoint
from seglab.config import flat, load, override, plain
from seglab.config.identity import INERT
from seglab.data.source import Source
from seglab.errors import CheckpointError, ConfigError, DataError, shown

log = logging.getLogger("seglab")
Config = dict[str, Any]

# What may change without changing what is computed; `data.root` and `model.weights` may have moved with the machine.
HARMLESS = (
    "logger", "keep", "name", "pictures", "test", "resume", "check", "data.root", "data.num_workers", "data.cache",
    "data.cache_dir", "data.cache_gb", "metrics.calibration", "model.weights", "trainer.devices", "trainer.max_epochs",
    "trainer.log_every_n_steps",
)  # fmt: skip

EXACT = {"point": str, "position": list, "ranks": list, "stepped": int, "seconds": float, "max_epochs": int}  # by Keep


def previous(config: Config, run: Path) -> Checkpoint | None:
    """The last.ckpt that `resume` asks for; None without one, and for resume=auto in a folder that holds none yet."""
    asked = config.get("resume")
    if asked is None:
        return None
    path = run / "checkpoints" / "last.ckpt"
    if path.is_file():
        saved = checkpoint.load(path)
        kinds = {key: type(value) for key, value in (saved.exact or {}).items()} if isinstance(saved.exact, dict) else {}
        if kinds != EXACT and kinds != {**EXACT, "max_epochs": type(None)}:
            raise CheckpointError(f"{path} is no last.ckpt of this seglab, a run cannot go on from it; start anew.")
        return saved
    if asked == "auto":
        return None
    raise CheckpointError(f"resume={asked}: there is no {path}; the run ended before its first checkpoint, start it anew.")


def whole(config: Config, run: Path, overrides: list[str]) -> tuple[Config, list[str]]:
    """The configuration and overrides as if the run's whole command had been repeated with resume=auto.

    resume=FOLDER alone means the run's own settings, changed by the overrides given now; a seed to be drawn was drawn then.
    """
    saved = previous(config, run)
    if saved is None:
        return config, overrides
    if config["resume"] != "auto":
        given = [o for o in overrides if not o.lstrip("+").startswith("resume=")]
        before, after = (plain(load([*saved.overrides, *more])) if given else {} for more in ([], given))
        changed = differences(before, after)
        inner = [
            key for key in changed if not any(other.startswith(f"{key}.") for other in changed)
        ]  # of a group that was empty
        config = override(saved.config, {key: changed[key][1] for key in inner})
        overrides = [*saved.overrides, *given]
    drawn = {"seed": None, "monitor": "auto"}  # what the run found out for itself when it began
    kept = {key: saved.config[key] for key, asked in drawn.items() if config[key] == asked}
    return {**config, **kept, "resume": "auto"}, overrides


def check_same_settings(saved: Checkpoint, config: Config) -> None:
    """ConfigError where a setting would change the run; each harmless difference is shown."""
    changed = differences({**saved.config, "resume": None}, {**config, "resume": None})
    changed = {key: pair for key, pair in changed.items() if key not in INERT or pair != (None, INERT[key])}
    harmful = {k: v for k, v in changed.items() if not any(k == h or k.startswith(f"{h}.") for h in HARMLESS)}
    old, new = saved.config["trainer"].get("max_epochs"), config["trainer"].get("max_epochs")
    if "trainer.max_epochs" in changed and not (old is not None and new is not None and new > old > -1):
        harmful["trainer.max_epochs"] = (old, new)
    if harmful:
        shown = ", ".join(f"{key} {old} -> {new}" for key, (old, new) in harmful.items())
        raise ConfigError(
            f"{saved.path} belongs to a run with other settings: {shown}; leave them as they were, or start anew."
        )
    if finished(saved, config, saved.path.parents[1]):
        return
    for key, (old, new) in changed.items():
        log.info("resumed with %s %s -> %s", key, old, new)


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """{dotted key: (old, new)} where two configurations differ; None where one lacks the key."""
    a, b = flat(old), flat(new)
    return {key: (a.get(key), b.get(key)) for key in [*a, *(k for k in b if k not in a)] if a.get(key) != b.get(key)}


def remedy(run: Path) -> str:
    """How a run that was ended goes on, as the end of a sentence."""
    return f"; go on with: python -m seglab.train resume={shlex.quote(shown(run))}"


def finished(saved: Checkpoint, config: Config, run: Path) -> Config | None:
    """The results of a run that has ended and is not asked for more epochs, or for its test; else None."""
    try:
        found = results.read_results(run)
    except DataError:
        return None
    more = (config["trainer"].get("max_epochs") or 0) > (saved.config["trainer"].get("max_epochs") or 0)
    more = more or (config["test"] and not saved.config["test"])
    return found if found["status"] == "finished" and not more else None


def check_same_place(saved: Checkpoint, source: Source, trainer: pl.Trainer) -> None:
    """DataError or ConfigError unless the data, the kind of device, its precision and the number of processes are the same."""
    if saved.own["data"] != source.fingerprint():
        raise DataError(f"The data set '{source.name}' has changed since {saved.path} was written; start a new run.")
    for key, value in place(trainer).items():
        if saved.own["place"][key] != value:
            was = saved.own["place"][key]
            raise ConfigError(f"{saved.path} was written with {key} {was}, here it is {value}; resume where it is {was}.")
    for name, version in results.versions().items():
        if saved.own["versions"].get(name) != version:
            was = saved.own["versions"].get(name)
            log.warning("resumed with another version of %s (%s, was %s): the last digits may differ", name, version, was)


def place(trainer: pl.Trainer) -> dict[str, Any]:
    """What must stay the same for a run to be continued bit for bit."""
    return {"device": trainer.strategy.root_device.type, "precision": str(trainer.precision), "processes": trainer.world_size}
