"""The logger a run reports to, built from `logger`; Weights & Biases stays offline unless a key is configured."""

from __future__ import annotations

import inspect
import io
import json
import logging
import netrc
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from seglab.build import build
from seglab.checkpoint import Checkpoint
from seglab.errors import ConfigError, nearest
from seglab.processes import TRIAL

MOST = 8  # pictures sent to a tracker
TAG = 64  # characters of a tag, by W&B's rule
_FOLDERS = {CSVLogger: "logs", TensorBoardLogger: "tensorboard"}


def run_id(saved: Checkpoint | None) -> str:
    """The run's name to a tracker: a resumed run goes on under the one it had."""
    return saved.own["tracker"] if saved else secrets.token_hex(4)


def loggers(config: dict[str, Any], run: Path, name: str, run_id: str, choices: dict[str, str]) -> list[Logger]:
    """The loggers of the run folder `run`: one, or none. ConfigError for wrong settings or a missing package."""
    node = dict(config["logger"])
    if not node:
        return []
    target = str(node.get("_target_", ""))
    if target.endswith("WandbLogger"):
        return [_wandb(node, config, run, name, run_id, choices)]
    given: dict[str, Any] = {"save_dir": str(run)}
    for cls, folder in _FOLDERS.items():
        if target.endswith(cls.__name__):
            if cls is CSVLogger and (run / folder).exists():  # a resumed run; Lightning would delete what is there
                folder = f"{folder}_{len(list(run.glob(f'{folder}*'))) + 1}"
            given |= {"name": "", "version": folder}
    return [build(node, Logger, "logger", **{k: v for k, v in given.items() if k not in node})]


def _wandb(
    node: dict[str, Any], config: dict[str, Any], run: Path, name: str, run_id: str, choices: dict[str, str]
) -> WandbLogger:
    mode = node.pop("mode", "auto")
    if mode not in ("auto", "online", "offline"):
        raise ConfigError(
            f"logger.mode is {mode!r}; it must be auto, online or offline.{nearest(str(mode), ['auto', 'online', 'offline'])}"
        )
    offline = mode == "offline" or (mode == "auto" and not _has_key())
    os.environ.setdefault("WANDB_SILENT", "true")  # its lines would cut into the progress; read when wandb is first used
    import wandb

    known = [*inspect.signature(WandbLogger).parameters, *inspect.signature(wandb.init).parameters]
    for key in node:
        if key not in known and key != "_target_":
            raise ConfigError(f"There is no key '{key}' in 'logger'.{nearest(key, ['mode', *known])}")
    more: dict[str, Any] = {k: node.pop(k) for k in ("entity", "group", "job_type", "tags") if k in node}
    place = _place_in_sweep(run)
    name = place.pop("name", name) if config["name"] is None else name
    for key, value in place.items():
        more[key] = [*(more.get(key) or []), *value] if key == "tags" else more.get(key) or value
    settings = wandb.Settings(silent=True, console="off", disable_git=True)
    given = {k: v for k, v in more.items() if v is not None}
    said = io.StringIO()
    with redirect_stderr(said):  # it warns of an argument that Lightning, not the user, gives
        # In the node, because WandbLogger hands what it does not know itself on to wandb.init.
        node = {"id": run_id, **node, **given, "settings": settings}
        made = build(node, WandbLogger, "logger", save_dir=str(run), name=name, offline=offline)
        # The names of choices are columns beside the settings: a dashboard groups by choices.loss, not by a dict of terms.
        made.experiment.config.update({**config, "choices": choices}, allow_val_change=True)
    logging.getLogger("wandb").info(said.getvalue().strip())
    return made


def _place_in_sweep(run: Path) -> dict[str, Any]:
    """name, group, job_type and tags of a sweep's trial, so that a dashboard shows the sweep without a click."""
    parent = run.parent
    if not (text := os.environ.get(TRIAL)):
        return {"group": f"{parent.parent.name}/{parent.name}"} if (parent / "multirun.yaml").exists() else {}
    told = json.loads(text)
    tags = [f"{key}={value}"[:TAG] for key, value in told["axes"].items()]
    name = " ".join([str(told["number"]), *(f"{key}={value}" for key, value in told["axes"].items())])
    return {"name": name[:128], "group": told["sweep"], "job_type": "trial", "tags": tags}


def log_score(made: list[Logger], monitor: str | None, score: float | None) -> None:
    """The run's score under the name of its monitor as well as `score`, which is a column for whatever was monitored."""
    for logger in made:
        if isinstance(logger, WandbLogger) and score is not None:
            logger.experiment.summary.update({"score": score, "monitor": monitor})


def _has_key() -> bool:
    """Whether this machine knows a W&B key: in the environment, or in the netrc file that `wandb login` writes."""
    if os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun"):
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return any("wandb" in host for host in netrc.netrc(os.environ.get("NETRC")).hosts)
    except (OSError, netrc.NetrcParseError):
        return False


def log_pictures(made: list[Logger], pictures: list[tuple[str, np.ndarray]]) -> None:
    """Send (caption, H W 3 uint8) pictures to Weights & Biases as JPEG, which is far cheaper than its own mask images."""
    for logger in made:
        if isinstance(logger, WandbLogger):
            import wandb

            images = [wandb.Image(picture, caption=caption, file_type="jpg") for caption, picture in pictures[:MOST]]
            logger.experiment.log({"predictions": images})


def log_classes(made: list[Logger], per_class: dict[str, dict[str, dict[str, float]]]) -> None:
    """The table of classes of each split to Weights & Biases."""
    for logger in made:
        if isinstance(logger, WandbLogger):
            import wandb

            for split, classes in per_class.items():
                keys = list(dict.fromkeys(key for numbers in classes.values() for key in numbers))  # a background has no AP
                rows = [[name, *map(numbers.get, keys)] for name, numbers in classes.items()]
                logger.experiment.log({f"{split}/classes": wandb.Table(columns=["class", *keys], data=rows)})


@contextmanager
def opened(made: list[Logger]) -> Iterator[list[Logger]]:
    """The loggers, closed at the end with the run's true status."""
    failed = True
    try:
        yield made
        failed = False
    finally:
        for logger in made:
            logger.finalize("failed" if failed else "success")
            if isinstance(logger, WandbLogger):
                logger.experiment.finish(exit_code=int(failed))
