"""The logger a run reports to, built from `logger`; Weights & Biases stays offline unless a key is configured."""

from __future__ import annotations

import inspect
import io
import json
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from seglab.build import build
from seglab.checkpoint import Checkpoint
from seglab.engine import wandb_page
from seglab.engine.wandb_page import report as report  # what a run tells its trackers at the end
from seglab.errors import ConfigError, nearest
from seglab.processes import TRIAL
from seglab.weights_and_biases import PROJECT, check_project, is_offline

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
        if node.get("mode", "auto") == "auto" and os.environ.get("WANDB_MODE") == "disabled":
            return []
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
    offline = is_offline(node.pop("mode", "auto"))
    check_project(node.get("project", PROJECT))
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
    with redirect_stderr(said), _mode_kept():  # it warns of an argument that Lightning, not the user, gives
        # In the node, because WandbLogger hands what it does not know itself on to wandb.init.
        node = {"id": run_id, **node, **given, "settings": settings}
        made = build(node, WandbLogger, "logger", save_dir=str(run), name=name, offline=offline)
        # The names of choices are columns beside the settings: a dashboard groups by choices.loss, not by a dict of terms.
        try:
            made.experiment.config.update({**config, "choices": choices}, allow_val_change=True)
        except (wandb.errors.Error, ValueError) as error:  # pydantic's ValidationError is a ValueError
            raise ConfigError(f"W&B refuses a setting of 'logger': {' '.join(str(error).split())[:200]}") from error
    logging.getLogger("wandb").info(said.getvalue().strip())
    return made


@contextmanager
def _mode_kept() -> Iterator[None]:
    """Lightning makes a process offline for good to open one run offline; the next run may be another."""
    before = os.environ.get("WANDB_MODE")
    try:
        yield
    finally:
        os.environ.pop("WANDB_MODE", None)
        if before is not None:
            os.environ["WANDB_MODE"] = before


def _place_in_sweep(run: Path) -> dict[str, Any]:
    """name, group, job_type and tags of a sweep's trial, so that a dashboard shows the sweep without a click."""
    parent = run.parent
    if not (text := os.environ.get(TRIAL)):
        return {"group": f"{parent.parent.name}/{parent.name}"} if (parent / "multirun.yaml").exists() else {}
    told = json.loads(text)
    tags = [f"{key}={value}"[:TAG] for key, value in told["axes"].items()]
    name = " ".join([str(told["number"]), *(f"{key}={value}" for key, value in told["axes"].items())])
    return {"name": name[:128], "group": told["sweep"], "job_type": "trial", "tags": tags}


@contextmanager
def opened(made: list[Logger]) -> Iterator[list[Logger]]:
    """The loggers, closed at the end with the run's true status."""
    error: BaseException | None = None
    try:
        yield made
    except BaseException as raised:
        error = raised
        raise
    finally:
        for logger in made:
            wandb_page.close(logger, error)
