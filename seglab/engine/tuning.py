"""tune: what a configuration's training would need to know before it starts, tried out on its own data and network."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch.optim import Optimizer

from seglab.build import check_type
from seglab.data.counting import class_counts
from seglab.data.module import DataModule
from seglab.data.source import Source
from seglab.engine import assemble, disk, keys, launch, recipe, running, summary
from seglab.engine.journal import claim, console, journal
from seglab.engine.largest_batch import search
from seglab.engine.lr_range import Curve, Sweep, rate_multiples
from seglab.errors import ConfigError, TrainingError, shown
from seglab.tasks.base import Task
from seglab.tasks.watch import NotFiniteError
from seglab.viz.lr_curve import lr_curve
from seglab.viz.panel import save

log = logging.getLogger("seglab")
Config = dict[str, Any]
# One device and one process; no validation, no limits, no schedule, no averages: they have no part in what is measured.
_TRAINER = {
    "devices": 1, "num_nodes": 1, "strategy": "auto", "sync_batchnorm": False, "fast_dev_run": False, "max_epochs": -1,
    "min_epochs": None, "min_steps": None, "max_steps": -1, "max_time": None, "limit_train_batches": None,
    "limit_val_batches": 0,
}  # fmt: skip


@dataclass
class Job:
    """What is asked for (`name` and `overrides` are for the words), and where its files go."""

    config: Config
    run: Path
    name: str
    overrides: list[str]


@dataclass
class Bench:
    """The configuration as objects on one device."""

    config: Config
    out: Console
    source: Source
    task: Task
    data: DataModule
    devices: int

    def trainer(self, run: Path, callbacks: list[Callback], **settings: Any) -> pl.Trainer:
        """A Trainer that keeps nothing, with `settings` of its own."""
        config = {**self.config, "trainer": {**self.config["trainer"], **settings}}
        given = running.trainer_settings(config) | {"num_sanity_val_steps": 0, "enable_checkpointing": False}
        return running.trainer(given, run, [*recipe.callbacks(config, self.task), *callbacks], [])


def tune_lr(job: Job, steps: int, low: float, high: float) -> float | None:
    """Sweep the rate from `low` to `high` over `steps` optimizer steps; the suggestion (None if the loss does not fall).

    Writes lr.png and lr.csv. ConfigError for a range that is none.
    """
    for key, value, kind in (("steps", steps, int), ("min", low, float), ("max", high, float)):
        check_type(value, kind, key)
    if steps < 10 or not 0 < low < high:
        raise ConfigError(f"steps={steps} min={low} max={high}: give at least 10 steps, and 0 < min < max.")
    if not job.config["optimizer"].get("lr", 1):
        raise ConfigError("optimizer.lr is 0; the groups' rates are multiples of it, so give it a value.")
    with _bench(job) as bench:
        optimizer = _optimizer(bench.task)
        bench.out.print(groups(bench.task, optimizer, job.config["optimizer"].get("freeze_encoder", 0)))
        curve = Curve(np.geomspace(low, high, steps))
        sweep = Sweep(curve, bench.out)
        try:
            bench.trainer(job.run, [sweep], max_steps=steps).fit(bench.task, bench.data.train_dataloader())
        except NotFiniteError:
            curve.end = "the loss was no longer finite"
        except torch.OutOfMemoryError as error:
            size = bench.config["data"]["batch_size"]
            raise TrainingError(f"data.batch_size={size} does not fit; see python -m seglab.tune batch.") from error
        if len(curve.losses) < 3:
            raise TrainingError(f"{curve.end} after {len(curve.losses)} steps; start lower with min={low / 1000:.0e}.")
        curve.write(job.run / "lr.csv")
        _draw(job, curve)
        return _suggest(job, bench, curve)


def tune_batch(job: Job) -> int:
    """The largest (on a CPU: the fastest) number of images per step; its value for `data.batch_size`.

    TrainingError if not even one image fits.
    """
    with _bench(job) as bench:
        table, size, why = search(
            bench.task, bench.data, bench.out, lambda calls, **given: bench.trainer(job.run, calls, **given)
        )
        bench.out.print(table)
        several = f" ({size} on each of {bench.devices} devices)" if bench.devices > 1 else ""
        bench.out.print(f"{why}{several}", markup=False)
        _command(job, bench.out, {"data.batch_size": str(size * bench.devices)})
        return size * bench.devices


@contextmanager
def _bench(job: Job) -> Iterator[Bench]:
    """Everything built and introduced; train.log and errors of the disk as in training."""
    job.run, out = job.run.resolve(), console()
    with disk.told(job.run), journal(claim(job.run, "output"), out):
        config = keys.check_top(job.config)
        devices = launch.processes(config)
        # A rate must suit the epochs in which everything learns, so an encoder that only waits is not frozen here.
        frozen = config["optimizer"].get("freeze_encoder", 0) == "always"
        held = (
            {"freeze_encoder": "always"} if frozen else {"freeze_encoder": 0} if "freeze_encoder" in config["optimizer"] else {}
        )
        alone = {k: v for k, v in (config["trainer"] | _TRAINER).items() if v is not None}
        small = {"trainer": alone, "scheduler": {}, "callbacks": {}, "ema": None, "optimizer": config["optimizer"] | held}
        pl.seed_everything(config["seed"], verbose=False)
        source = assemble.source(config)
        task = assemble.task(config | small, source.spec, None, cache(lambda: class_counts(source, "train")))
        data = assemble.datamodule(config, source, task.separates, pin_memory=running.where_to_run(config)[1].type == "cuda")
        data.check()
        bench = Bench(config | small, out, source, task, data, devices)
        where = summary.where(bench.trainer(job.run, []))
        summary.header(out, job.name, f"{where}, seed {config['seed']}", source, task.network, job.run)
        yield bench


def _optimizer(task: Task) -> Optimizer:
    assert task.optimization is not None
    return task.optimization.configure(task.network, 1)["optimizer"]


def groups(task: Task, optimizer: Optimizer, freeze: int | str = 0) -> Table:
    """The optimizer's parameter groups: how many parameters, their rate, its multiple of optimizer.lr, what is frozen."""
    encoder = getattr(task.network, "encoder", None)
    held = {id(p) for p in encoder.parameters()} if freeze and encoder is not None else set()
    when = "always" if freeze == "always" else f"{freeze} epochs"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("parameter group", no_wrap=True)
    for name in ("parameters", "lr", "x lr", "decay", "frozen"):
        table.add_column(name, justify="right")
    for i, (group, multiple) in enumerate(zip(optimizer.param_groups, rate_multiples(optimizer), strict=True)):
        count = sum(p.numel() for p in group["params"])
        frozen = sum(p.numel() for p in group["params"] if id(p) in held)
        state = "-" if not frozen else when if frozen == count else f"{frozen:,} of them, {when}"
        decay = f"{group.get('weight_decay', 0):g}"
        table.add_row(Text(str(group.get("name", i))), f"{count:,}", f"{group['lr']:.3g}", f"{multiple:.4g}", decay, state)
    never = sum(p.numel() for p in task.network.parameters() if not p.requires_grad)
    if never:
        table.add_row("in no group", f"{never:,}", "-", "-", "-", "always")
    return table


def _draw(job: Job, curve: Curve) -> None:
    losses, chosen = np.array(curve.losses), curve.chosen
    kind = str(job.config["optimizer"].get("_target_")).rpartition(".")[2]
    below = f"{job.name}, {kind}: {len(losses)} steps, {curve.end}"
    label = "" if chosen is None else f"optimizer.lr={short(curve.rates[chosen])}"
    rates = curve.rates[: len(losses)]
    words = ("Learning-rate range test", below, label)
    save(job.run / "lr.png", lr_curve(rates, losses, curve.smooth, curve.top, curve.lowest, chosen, words))


def _suggest(job: Job, bench: Bench, curve: Curve) -> float | None:
    """Say what the curve tells, and how to train with it."""
    out, lowest = bench.out, curve.rates[curve.lowest]
    out.print(f"{len(curve.losses)} steps, {curve.end}; the smoothed loss is lowest at {short(lowest)}.", markup=False)
    if curve.chosen is None:
        out.print("The loss does not fall by more than its noise: no rate can be told; try steps=300 or a wider min=, max=.")
        rate = None
    else:
        rate = float(short(curve.rates[curve.chosen]))
        out.print("Suggested: where half of its fall is done, but at most a tenth of that rate.")
        found = {"optimizer.lr": short(rate)}
        if (encoder := bench.config["optimizer"].get("encoder_lr")) is not None:  # the ratio that was swept
            found["optimizer.encoder_lr"] = short(rate * encoder / bench.config["optimizer"]["lr"])
        _command(job, out, found)
    out.print(f"{shown(job.run)}/", markup=False, style="bold")
    out.print(f"  {'lr.png':<22}loss over learning rate\n  {'lr.csv':<22}the numbers behind it", markup=False)
    return rate


def _command(job: Job, out: Console, found: dict[str, str]) -> None:
    kept = [shlex.quote(o) for o in job.overrides if o.split("=")[0].lstrip("+") not in found]
    words = ["python -m seglab.train", *kept, *(f"{key}={value}" for key, value in found.items())]
    out.print(f"  {' '.join(words)}", markup=False, style="bold")


def short(value: float) -> str:
    """Two digits, as one would type a learning rate: 0.0031 -> 3.1e-3, 0.03 -> 0.03."""
    text = f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-").replace("e+00", "")
    return text if value < 0.01 else f"{float(text):g}"
