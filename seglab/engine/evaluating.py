"""evaluate: score a checkpoint on a split, by the same code and in the same batches as the run's own test."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from seglab import checkpoint, results
from seglab.build import find
from seglab.checkpoint import Checkpoint
from seglab.data.source import Source
from seglab.engine import assemble, disk, launch, running, summary
from seglab.engine.callbacks import Speed
from seglab.engine.examples import examples
from seglab.engine.inference import Predictor
from seglab.engine.journal import claim, console, journal
from seglab.engine.keys import check_top
from seglab.engine.progress import Bar
from seglab.engine.record import Record, completed, describe
from seglab.engine.scoring import class_table, passport, write_counts
from seglab.engine.signals import Interrupts
from seglab.errors import ConfigError, DataError
from seglab.metrics.calibration import Calibration

SPLITS = ("train", "val", "test")


def evaluate(saved: Checkpoint, config: dict[str, Any], split: str, run: Path, overrides: list[str]) -> dict[str, float]:
    """Score `saved` with its `config` (after overrides) on `split`; write results.json and per_image.csv into `run`."""
    run = run.resolve()
    if (count := launch.processes(config)) > 1:
        with completed(run):
            asked = {"ckpt": str(saved.path), "config": config, "split": split, "run": str(run), "overrides": overrides}
            return launch.supervise(evaluate_in_rank, asked, count)
    with disk.told(run):
        return _evaluate_here(saved, config, split, run, overrides)


def _evaluate_here(saved: Checkpoint, config: dict[str, Any], split: str, run: Path, overrides: list[str]) -> dict[str, float]:
    out, path, record = console(), claim(run, "output"), Record(run)
    record.content |= {"choices": saved.choices, "overrides": overrides, "seed": config["seed"]}
    record.content |= {"versions": results.versions(), "git": results.git_state(Path.cwd())}
    with journal(path, out), Interrupts().listening(), record.kept():
        metrics = _evaluate(saved, config, split, record, out, overrides)
    summary.places(out, run, ("results.json", "per_image.csv", "examples"))
    return metrics


def evaluate_in_rank(ckpt: str, config: dict[str, Any], split: str, run: str, overrides: list[str]) -> dict[str, float]:
    """The same from plain data, as one of several processes."""
    return evaluate(checkpoint.load(ckpt), config, split, Path(run), overrides)


def _evaluate(
    saved: Checkpoint, config: dict[str, Any], split: str, record: Record, out: Any, overrides: list[str]
) -> dict[str, float]:
    config = check_top(config)
    pl.seed_everything(config["seed"], verbose=False)
    config = {**config, "data": with_classes(_for_this_set(config["data"], saved, split, overrides), saved)}
    if "calibration" not in config["metrics"]:  # of a checkpoint from before there was one
        config["metrics"] = {**config["metrics"], "calibration": {"_target_": f"{Calibration.__module__}.Calibration"}}
    source = assemble.source(config)
    check_same_classes(saved, source)
    if not source.ids(split):
        raise DataError(f"The data set '{source.name}' has no {split} images; choose another split=.")
    told_apart = saved.spec.instances or source.spec.instances
    spec = dataclasses.replace(saved.spec, ignore_index=source.spec.ignore_index, instances=told_apart)
    task = assemble.task(config, spec, saved.state, instances=source.spec.instances)
    checkpoint.restore(task, saved)
    objects = task.grouping is not None or (task.separates and source.spec.instances)  # a map alone needs no true objects
    speed, bar = Speed(), Bar(out, "", True)
    trainer = running.trainer(running.trainer_settings({**config, "callbacks": {}}), record.run, [speed, bar], [])
    data = assemble.datamodule({**config, "augment": {}, "mix": {}}, source, objects)
    record.content |= {"data": describe(source), "parameters": summary.count(task.network), "device": summary.where(trainer)}
    name = f"{saved.choices.get('model')} | {saved.choices.get('loss')} | {source.name} {split}"
    summary.header(out, name, summary.where(trainer), source, task.network, record.run)
    trainer.test(task, dataloaders=data.eval_loader(split), verbose=False)
    metrics = {f"{split}/{k.split('/', 1)[1]}": v for k, v in task.scores["test"].items()}
    per_class, monitor = {split: class_table(task, "test")}, f"{split}/{task.headline}"
    record.content["passport"] = passport(task, "test", split)
    if trainer.is_global_zero:
        write_counts(task, "test", source.ids(split), record.run)
        examples(Predictor(task, trainer.precision, trainer.strategy.root_device), data, split, record.run)
    record.content |= {"metrics": metrics, "per_class": per_class, "score": metrics.get(monitor), "monitor": monitor}
    summary.scores(out, spec, per_class, metrics)
    return metrics


def _for_this_set(node: dict[str, Any], saved: Checkpoint, split: str, overrides: list[str]) -> dict[str, Any]:
    """The data settings without folds, parts and groups that were chosen for other images, or do not touch the split."""
    asked = {override.split("=")[0] for override in overrides}
    other = node.get("root") != saved.config["data"].get("root")
    inert = {"folds": None, "fold": 0, "limit": None} if other or split == "test" else {}
    inert |= {"group": None, "split_seed": 0} if other else {}
    return {**node, **{k: v for k, v in inert.items() if k in node and f"data.{k}" not in asked}}


def with_classes(node: dict[str, Any], saved: Checkpoint) -> dict[str, Any]:
    """The data settings with the checkpoint's classes and mode where none are given: other images may lack a class."""
    takes = inspect.signature(find(node.get("_target_"), Source, "data")).parameters
    told = {"classes": list(saved.spec.classes), "mode": saved.spec.mode}
    return {**node, **{k: v for k, v in told.items() if k in takes and node.get(k) is None}}


def check_same_classes(saved: Checkpoint, source: Source) -> None:
    """DataError unless the data set has the classes, mode and channels the checkpoint was trained for."""
    for what in ("classes", "mode", "channels"):
        theirs, ours = getattr(source.spec, what), getattr(saved.spec, what)
        if theirs != ours:
            raise DataError(f"The data set '{source.name}' has {what} {theirs}, but {saved.path} was trained for {ours}.")


def check_split(split: Any) -> str:
    """The split's name; ConfigError if there is no such split."""
    if split not in SPLITS:
        raise ConfigError(f"split={split}: it must be train, val or test.")
    return split
