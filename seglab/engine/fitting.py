"""fit: train, choose the best checkpoint, score it on val and test, draw, and write the run folder; or go on with one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import Callback, EarlyStopping
from rich.console import Console

from seglab import checkpoint, results
from seglab.checkpoint import Checkpoint
from seglab.config import write_hydra
from seglab.data.counting import class_counts
from seglab.data.module import DataModule
from seglab.data.source import Source
from seglab.engine import assemble, determinism, disk, launch, pictures, recipe, resuming, running, scoring, summary, trackers
from seglab.engine.callbacks import MetricsCsv, Speed, Stamp
from seglab.engine.examples import examples
from seglab.engine.inference import Predictor
from seglab.engine.journal import claim, console, journal
from seglab.engine.keeping import Best, Keep
from seglab.engine.keys import check_top
from seglab.engine.ledger import LedgerCsv
from seglab.engine.progress import Bar
from seglab.engine.quick_check import quick_check
from seglab.engine.record import Record, completed, describe
from seglab.engine.signals import Interrupts
from seglab.engine.tracking import Trackers
from seglab.errors import CheckpointError, ConfigError, TrainingError, nearest
from seglab.tasks.base import Task
from seglab.tasks.watch import NotFiniteError
from seglab.types import Phase

log = logging.getLogger("seglab")
Config = dict[str, Any]
PHASES: tuple[Phase, ...] = ("train", "val")  # whose losses `monitor` may name
FILES = (
    "results.json", "per_image.csv", "metrics.csv", "ledger.csv", "checkpoints/best.ckpt", "predictions", "examples",
    "train.log", "wandb",
)  # fmt: skip


@dataclass
class Job:
    """One training job in one process: what is asked for, where, and what it goes on from."""

    config: Config
    run: Path
    choices: dict[str, str]
    overrides: list[str]
    out: Console
    saved: Checkpoint | None = None


def fit(config: Config, run: Path | str, choices: dict[str, str], overrides: list[str]) -> float | None:
    """Run the whole job of a plain `config` in the folder `run`; the best score of `monitor` (None without validation).

    `config["resume"]` goes on with the run in that folder. Several devices: one process each, and this one waits for them.
    """
    run = Path(run).resolve()
    config, overrides = resuming.whole(config, run, overrides)
    if (count := _processes(config)) > 1:
        config = check_top(config)  # a seed is drawn once, not by each
        with completed(run):
            asked = {"config": config, "run": str(run), "choices": choices, "overrides": overrides}
            return launch.supervise(fit, asked, count)
    with disk.told(run):
        return _fit_here(config, run, choices, overrides)


def _fit_here(config: Config, run: Path, choices: dict[str, str], overrides: list[str]) -> float | None:
    job, interrupts = Job(config, run, choices, overrides, console()), Interrupts(resuming.remedy(run))
    with journal(claim(run, again=config.get("resume") == "auto"), job.out), interrupts.listening():
        job.saved = resuming.previous(config, run)
        record = Record(run, begun=job.saved is None)
        if job.saved:
            resuming.check_same_settings(job.saved, config)
            job.choices, interrupts.resumable = job.saved.choices, True
            if done := resuming.finished(job.saved, config, run):
                log.info("this run has finished; nothing is left to do")
                return done["score"]
        record.content |= {"choices": job.choices, "overrides": job.overrides, "versions": results.versions()}
        record.content |= {"git": results.git_state(Path.cwd()), "monitor": config.get("monitor"), "seed": config.get("seed")}
        with record.kept():
            if launch.external() and config["seed"] is None:
                raise ConfigError("seed=null: processes that torchrun or srun started would each draw one; give seed=NUMBER.")
            job.config = check_top(config)
            launch.processes(job.config)
            record.content |= {key: job.config[key] for key in ("seed", "monitor")}
            record.write("running")
            _fit(job, record, interrupts)
        return record.content["score"]


def _processes(config: Config) -> int:
    try:
        return launch.processes(check_top(config))
    except ConfigError:  # it is raised again where it is written into the run's record
        return 1


def _fit(job: Job, record: Record, interrupts: Interrupts) -> None:
    config, run, saved, out = job.config, job.run, job.saved, job.out
    pl.seed_everything(config["seed"], verbose=False)
    source = assemble.source(config)
    if saved is None:
        quick_check(config, source)
    task = assemble.task(config, source.spec, saved.state if saved else None, cache(lambda: class_counts(source, "train")))
    if config["compile"] and task.finds_objects:
        raise ConfigError(
            "compile=true: a detector's tensors change their sizes with every image, so that it would be compiled again and "
            "again; set compile=false."
        )
    if config["compile"]:
        task.network.compile()  # in place: the names of its weights stay, and checkpoints load without it
    monitor, higher = _monitor(config, task, source)
    name = config["name"] or f"{job.choices.get('model')} | {job.choices.get('loss')} | {job.choices.get('data')}"
    data = assemble.datamodule(config, source, task.separates, pin_memory=running.where_to_run(config)[1].type == "cuda")
    data.check()
    if launch.global_rank():  # after everything that must be equal; now dropout differs from process to process
        pl.seed_everything(config["seed"] + launch.global_rank(), verbose=False)
    keep = Keep(run / "checkpoints" / "last.ckpt", interrupts, config["keep"], record.seconds)
    best, speed, stamp = _best(run, monitor, higher), Speed(), Stamp({})
    bar = Bar(out, monitor or "", higher)
    rows, ledger = MetricsCsv(run / "metrics.csv"), LedgerCsv(run / "ledger.csv")
    callbacks: list[Callback] = [speed, keep, *recipe.callbacks(config, task), rows, ledger, stamp, Trackers(), bar, best]
    if config["patience"] is not None and monitor:
        # A score may be no number where validation images show nothing to score; of losses, FiniteWatch knows.
        patience = {"patience": config["patience"], "check_on_train_epoch_end": _at_end(monitor), "check_finite": False}
        callbacks.append(EarlyStopping(**_watch(monitor, higher), **patience))
    trainer = running.trainer(running.trainer_settings(config), run, callbacks, [])
    record.content |= {"data": describe(source), "parameters": summary.count(task.network), "device": summary.where(trainer)}
    stamp.content |= {
        "config": {**config, "resume": None}, "choices": job.choices, "overrides": job.overrides, "spec": source.spec.to_dict(),
        "versions": results.versions(), "git": record.content["git"], "data": record.content["data"]["fingerprint"],
        "place": resuming.place(trainer), "tracker": trackers.run_id(saved),
    }  # fmt: skip
    summary.header(out, name, f"{summary.where(trainer)}, seed {config['seed']}", source, task.network, run)
    if saved:
        _go_on(job, saved, source, trainer, data, record)
    # Last, and closed whatever happens: a tracker reports a run to others, and the next job of a sweep opens its own.
    quiet = config["trainer"].get("fast_dev_run") or launch.global_rank() > 0
    with trackers.opened([] if quiet else trackers.loggers(config, run, name, stamp.content["tracker"], job.choices)) as made:
        trainer.loggers = made
        record.begin()
        if saved and trainer.is_global_zero:
            write_hydra(run, config, job.overrides)  # what is continued with; Hydra wrote only how the run began
        with determinism.watched() as record.content["not_deterministic"]:
            with interrupts.deferred():
                _train(trainer, task, data, source, saved)
            recipe.end(trainer)
            if Path(best.best_model_path).is_file():
                checkpoint.restore(task, checkpoint.load(best.best_model_path))
            with interrupts.deferred():
                scoring.score(config, trainer, task, data, record)
        top = best.best_model_score  # of train/..., which scoring does not repeat
        record.content["score"] = record.content["metrics"].get(monitor or "", float(top) if top is not None else None)
        if monitor and record.content["score"] != record.content["score"]:
            log.warning("%s was no number: the images show nothing that it could score; choose another monitor=", monitor)
        record.content |= {"speed": speed.numbers(), "ledger": ledger.totals(task)}
        drawn = config["pictures"] and trainer.is_global_zero
        shown = _draw(task, trainer, data, config["pictures"], record) if drawn else []
        trackers.report(made, {**record.content, "seconds": record.seconds()}, shown)
    summary.scores(out, source.spec, record.content["per_class"], record.content["metrics"])
    summary.speed(out, record.content["speed"], config["data"].get("cache", "none") != "none")
    summary.places(out, run, FILES, assemble.predicts(config))


def _watch(monitor: str | None, higher: bool) -> Config:
    return {"monitor": monitor, "mode": "max" if higher else "min"}


def _at_end(monitor: str | None) -> bool | None:
    # What is logged when a training epoch ends is known only after the validation within it.
    return True if monitor is None or monitor.startswith("train/") else None


def _best(run: Path, monitor: str | None, higher: bool) -> Best:
    settings = {**_watch(monitor, higher), "save_on_train_epoch_end": _at_end(monitor)}
    return Best(run / "checkpoints", "best", enable_version_counter=False, **settings)


def _go_on(job: Job, saved: Checkpoint, source: Source, trainer: pl.Trainer, data: DataModule, record: Record) -> None:
    """Check that the run can be continued here, and stand where it stood."""
    assert saved.exact is not None
    resuming.check_same_place(saved, source, trainer)
    for left in [] if launch.global_rank() else (job.run / "checkpoints").glob(".*.tmp"):  # of a kill within a write
        left.unlink(missing_ok=True)
    data.start = tuple(saved.exact["position"])
    record.before, record.content["resumed"] = saved.exact["seconds"], saved.step
    job.out.print(f"  resumed  at epoch {data.start[0] + 1}, step {saved.step}", markup=False)


def _draw(task: Task, trainer: pl.Trainer, data: DataModule, count: int, record: Record) -> list[tuple[str, np.ndarray]]:
    """The pictures of validation images; of the images that were scored last, the report's examples."""
    split = next(s for s in ("val", "test", "train") if data.source.ids(s))
    predictor = Predictor(task, trainer.precision, trainer.strategy.root_device)
    if record.content["passport"]:
        examples(predictor, data, record.content["passport"]["split"], record.run)
    return pictures.draw(predictor, data, split, count, record.run / "predictions")


def _train(trainer: pl.Trainer, task: Task, data: DataModule, source: Source, saved: Checkpoint | None) -> None:
    given: Config = {"datamodule": data} if source.ids("val") else {"train_dataloaders": data.train_dataloader()}
    try:
        trainer.fit(task, **given, ckpt_path=str(saved.path) if saved else None, weights_only=True)
    except NotFiniteError as error:
        names = [source.ids("train")[i] for i in error.index]
        raise TrainingError(
            f"The loss is {error.value} at step {error.step}, in the batch of {', '.join(names)}; the last good checkpoint "
            "is kept. Look at these images, lower optimizer.lr, or set trainer.precision=32-true."
        ) from error
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        if saved and trainer._checkpoint_connector._loaded_checkpoint:  # while its parts were put back
            raise CheckpointError(f"{saved.path} cannot be gone on from ({error!r}); it was edited.") from error
        raise
    finally:  # Lightning starts the training loader's workers early, and forgets them if it is left in the sanity check
        if (loader := trainer.fit_loop._combined_loader) is not None:
            loader.reset()


def _monitor(config: Config, task: Task, source: Source) -> tuple[str | None, bool]:
    """The key to watch (None without validation images) and whether higher is better; ConfigError for an unknown key."""
    key = config["monitor"]
    losses = [f"{phase}/{n}" for phase in PHASES for n in task.means(phase).names]
    scores = [f"val/{n}" for metric in task.metrics("val").values() for n in getattr(metric, "names", ())]
    scores += [f"val/iou/{name}" for name in source.spec.classes]
    if key not in losses + scores:
        hint = (
            " Scores of objects come with metrics=default." if key == f"val/{task.headline}" else nearest(key, losses + scores)
        )
        raise ConfigError(f"monitor={key}: no such value is logged.{hint}")
    if key.startswith("val/") and (not source.ids("val") or config["trainer"].get("limit_val_batches") == 0):
        if str(config["scheduler"].get("_target_", "")).endswith("ReduceLROnPlateau"):
            raise ConfigError("scheduler=plateau needs validation images; use scheduler=poly, or monitor=train/loss.")
        log.warning("no validation: the last weights are kept as best, and there is no score")
        return None, True
    return key, results.higher_is_better(key, config["mode"])
