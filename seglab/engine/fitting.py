"""fit: train, choose the best checkpoint, score it on val and test, draw, and write the run folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from seglab import checkpoint, results
from seglab.data.source import Source
from seglab.engine import assemble, pictures, summary, trackers
from seglab.engine.callbacks import Last, MetricsCsv, Speed, Stamp, Trackers
from seglab.engine.inference import Predictor
from seglab.engine.journal import claim, console, journal
from seglab.engine.progress import Bar
from seglab.errors import ConfigError, TrainingError, nearest
from seglab.tasks.base import Task
from seglab.tasks.watch import NotFiniteError
from seglab.types import Phase

log = logging.getLogger("seglab")
Config = dict[str, Any]


@dataclass
class Record:
    """What results.json will say; written at the start, at the end, and when something goes wrong."""

    run: Path
    content: Config = field(default_factory=lambda: dict.fromkeys(results.KEYS))
    started: float = field(default_factory=time.perf_counter)

    def write(self, status: str, error: str | None = None) -> None:
        """Write results.json with this status."""
        seconds = time.perf_counter() - self.started
        results.write_results(self.run, {**self.content, "status": status, "error": error, "seconds": seconds})


def fit(config: Config, run: Path, choices: dict[str, str], overrides: list[str]) -> float | None:
    """Run the whole job of a plain `config` in the folder `run`; the best score of `monitor` (None without validation)."""
    run = run.resolve()
    out, path = console(), claim(run)
    record = Record(run)
    record.content |= {"choices": choices, "overrides": overrides, "monitor": config.get("monitor"), "seed": config.get("seed")}
    record.content |= {"versions": results.versions(), "git": results.git_state(Path.cwd())}
    with journal(path, out):
        try:
            config = assemble.check_top(config)
            record.content["seed"] = config["seed"]
            record.write("running")
            score = _fit(config, run, choices, record, out)
        except BaseException as error:
            logging.getLogger().error("the run ended early", exc_info=True)  # train.log only; the door prints one sentence
            if isinstance(error, KeyboardInterrupt | SystemExit):
                record.write("interrupted", "interrupted from outside")
            else:
                record.write("failed", str(error) or type(error).__name__)
            raise
        record.write("finished")
        return score


def _fit(config: Config, run: Path, choices: dict[str, str], record: Record, out: Any) -> float | None:
    pl.seed_everything(config["seed"], verbose=False)
    source = assemble.source(config)
    task = assemble.task(config, source.spec)
    monitor, higher = _monitor(config, task, source)
    name = config["name"] or f"{choices.get('model')} | {choices.get('loss')} | {choices.get('data')}"
    stamp = Stamp({"config": config, "choices": choices, "spec": source.spec.to_dict(), "versions": results.versions()})
    speed = Speed()
    # What is logged when a training epoch ends is known only after the validation within it.
    watch: Config = {"monitor": monitor, "mode": "max" if higher else "min"}
    at_end = True if monitor is None or monitor.startswith("train/") else None
    folder = run / "checkpoints"
    keep = ModelCheckpoint(folder, "best", **watch, enable_version_counter=False, save_on_train_epoch_end=at_end)
    callbacks: list[Callback] = [
        MetricsCsv(run / "metrics.csv"),
        speed,
        stamp,
        Trackers(),
        Bar(out, monitor or "", higher),
        keep,
        Last(folder / "last.ckpt"),
    ]
    if config["patience"] is not None and monitor:
        callbacks.append(EarlyStopping(**watch, patience=config["patience"], check_on_train_epoch_end=at_end))
    data = assemble.datamodule(config, source, pin_memory=assemble.where_to_run(config)[1].type == "cuda")
    data.check()
    trainer = assemble.trainer(assemble.trainer_settings(config), run, callbacks, [])
    record.content["data"] = describe(source)
    where = f"{trainer.strategy.root_device}, {trainer.precision}, seed {config['seed']}"
    summary.header(out, name, where, source, task.network, run)
    # Last, and closed whatever happens: a tracker reports a run to others, and the next job of a sweep opens its own.
    with trackers.opened([] if config["trainer"].get("fast_dev_run") else trackers.loggers(config, run, name)) as made:
        trainer.loggers = made
        _train(trainer, task, data, source)
        if Path(keep.best_model_path).is_file():
            checkpoint.restore(task, checkpoint.load(keep.best_model_path))
        score = _score(config, trainer, task, data, record, keep)
        record.content["speed"] = speed.numbers()
        if config["pictures"] and trainer.is_global_zero:
            split = next(s for s in ("val", "test", "train") if source.ids(s))
            predictor = Predictor(task, trainer.precision, trainer.strategy.root_device)
            drawn = pictures.draw(predictor, data, split, config["pictures"], run / "predictions")
            trackers.log_pictures(made, drawn)
        trackers.log_classes(made, record.content["per_class"])
    summary.scores(out, source.spec, record.content["per_class"], record.content["metrics"])
    summary.places(
        out, run, ("results.json", "per_image.csv", "metrics.csv", "checkpoints/best.ckpt", "predictions", "train.log", "wandb")
    )
    return score


def _train(trainer: pl.Trainer, task: Task, data: pl.LightningDataModule, source: Source) -> None:
    try:
        if source.ids("val"):
            trainer.fit(task, datamodule=data)
        else:
            trainer.fit(task, train_dataloaders=data.train_dataloader())
    except NotFiniteError as error:
        names = [source.ids("train")[i] for i in error.index]
        raise TrainingError(
            f"The loss is {error.value} at step {error.step}, in the batch of {', '.join(names)}; the last good checkpoint "
            "is kept. Look at these images, lower optimizer.lr, or set trainer.precision=32-true."
        ) from error


def _monitor(config: Config, task: Task, source: Source) -> tuple[str | None, bool]:
    """The key to watch (None without validation images) and whether higher is better; ConfigError for an unknown key."""
    key = config["monitor"]
    losses = [f"{phase}/{n}" for phase in ("train", "val") for n in task.means("train").names]
    scores = [f"val/{n}" for metric in task.metrics("val").values() for n in getattr(metric, "names", ())]
    scores += [f"val/iou/{name}" for name in source.spec.classes]
    if key not in losses + scores:
        raise ConfigError(f"monitor={key}: no such value is logged.{nearest(key, losses + scores)}")
    if key.startswith("val/") and (not source.ids("val") or config["trainer"].get("limit_val_batches") == 0):
        if str(config["scheduler"].get("_target_", "")).endswith("ReduceLROnPlateau"):
            raise ConfigError("scheduler=plateau needs validation images; use scheduler=poly, or monitor=train/loss.")
        log.warning("no validation: the last weights are kept as best, and there is no score")
        return None, True
    return key, assemble.higher_is_better(config)


def _score(config: Config, trainer: pl.Trainer, task: Task, data: Any, record: Record, keep: ModelCheckpoint) -> float | None:
    """Score the kept weights on val and test into the record; the value of `monitor`."""
    metrics: dict[str, float] = {}
    per_class: Config = {}
    splits: list[tuple[Phase, Callable[..., Any]]] = [("val", trainer.validate), ("test", trainer.test)]
    for split, run_split in splits:
        if not data.source.ids(split) or (split == "test" and not config["test"]):
            continue
        task.scores.pop(split, None)  # of an earlier epoch
        run_split(task, datamodule=data, verbose=False)
        if split not in task.scores:  # trainer.limit_val_batches=0
            continue
        metrics |= task.scores[split]
        per_class[split] = class_table(task, split)
    best = keep.best_model_score  # of train/..., which scoring does not repeat
    score = metrics.get(keep.monitor or "", float(best) if best is not None else None)
    record.content |= {"metrics": metrics, "per_class": per_class, "score": score}
    phases: tuple[Phase, ...] = ("test", "val")
    last = next((s for s in phases if s in per_class), None)
    if last and trainer.is_global_zero:
        write_counts(task, last, data.source.ids(last), record.run)
    return score


def class_table(task: Task, phase: Phase) -> Config:
    """{class: {iou, dice, ...}} of a phase that just ended, from every metric that has one."""
    found: Any = task.metrics(phase).values()
    tables = [metric.per_class() for metric in found if hasattr(metric, "per_class")]
    return {name: {k: v for t in tables for k, v in t.get(name, {}).items()} for name in task.spec.classes}


def write_counts(task: Task, phase: Phase, ids: list[str], run: Path) -> None:
    """per_image.csv of a phase that just ended."""
    found: Any = task.metrics(phase).values()
    for metric in found:
        if hasattr(metric, "rows"):
            results.write_per_image(run / "per_image.csv", ids, metric.rows(), task.spec.classes)


def describe(source: Source) -> Config:
    """name, classes, counts of images and the fingerprint of a data set."""
    counts = {s: len(source.ids(s)) for s in ("train", "val", "test")}
    return {"name": source.name, "classes": list(source.spec.classes), "counts": counts, "fingerprint": source.fingerprint()}
