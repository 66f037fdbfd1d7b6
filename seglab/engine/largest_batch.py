"""How many images a step takes: whole training steps and a validation on made-up batches, larger and larger."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from rich import box
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from seglab.data.module import DataModule, collate
from seglab.data.objects import objects
from seglab.data.resizing import resize_layers, scaled
from seglab.errors import TrainingError
from seglab.tasks.base import Batch, Task

SPARE = 0.1  # of the GPU's memory: real batches are never all alike, and other programs want some
STEPS = 4  # the first of them is not timed: it chooses kernels
GAIN = 1.05  # a larger batch on a CPU is worth it if it is faster by this factor
GIB = 2**30
MakeTrainer = Callable[..., pl.Trainer]


@dataclass
class Trial:
    """So many images per step; memory in bytes (on a CPU: what the process has grown by), None if they do not fit."""

    size: int
    memory: int | None
    rate: float = 0.0


def search(task: Task, data: DataModule, out: Console, make: MakeTrainer) -> tuple[Table, int, str]:
    """All trials as a table, the number of images to use, and why; TrainingError if not even one image fits."""
    most = len(data.source.ids("train"))
    shape = _shape(data)
    device, before = make([]).strategy.root_device, _peak()

    def attempt(size: int) -> Trial:
        with out.status(f"{size} images per step"):
            return _attempt(size, task, data, make, device, before)

    trials = _on_gpu(attempt, most, device) if device.type == "cuda" else _on_cpu(attempt, most)
    fits = [t for t in trials if t.memory is not None]
    if not fits:
        raise TrainingError(
            f"Not even one image of {shape[0]}x{shape[1]} fits; lower data.crop or data.scale, or choose a smaller model."
        )
    if device.type == "cuda":
        best = max(fits, key=lambda t: t.size)
        why = f"{best.size} images of {shape[0]}x{shape[1]} per step fit, with {SPARE:.0%} of the memory to spare."
    else:
        best = _fastest(fits)
        why = f"On this CPU {best.size} images of {shape[0]}x{shape[1]} per step are the fastest within {1 - 1 / GAIN:.0%}."
    if fits[-1].size == most and max(t.size for t in trials) == most:
        why += f" There are no more than {most} training images."
    return _table(trials, device), best.size, why


def _on_gpu(attempt: Callable[[int], Trial], most: int, device: torch.device) -> list[Trial]:
    """Doubling until it does not fit, then halving the gap down to an eighth of the size."""
    torch.cuda.set_per_process_memory_fraction(1 - SPARE, device)
    try:
        trials = [attempt(1)]
        while trials[-1].memory is not None and trials[-1].size < most:
            trials.append(attempt(min(2 * trials[-1].size, most)))
        low = max((t.size for t in trials if t.memory is not None), default=0)
        high = trials[-1].size
        while low and trials[-1].size and high - low > max(1, low // 8):
            trials.append(attempt((low + high) // 2))
            low, high = (low, trials[-1].size) if trials[-1].memory is None else (trials[-1].size, high)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    return sorted(trials, key=lambda t: t.size)


def _on_cpu(attempt: Callable[[int], Trial], most: int) -> list[Trial]:
    """Doubling while it gets faster (one size may be no better) and twice as much memory is there: a CPU does not say no."""
    trials = [attempt(1)]
    while (last := trials[-1]).size < most:
        room = _available()
        if room is not None and last.memory is not None and 2 * last.memory > room:
            break
        if last.size >= 4 * _fastest(trials).size:
            break
        trials.append(attempt(min(2 * last.size, most)))
    return trials


def _fastest(trials: list[Trial]) -> Trial:
    """The smallest size that is within GAIN of the best rate."""
    best = max(t.rate for t in trials)
    return next(t for t in trials if t.rate * GAIN >= best)


class _Clock(Callback):
    """Images per second of the steps after the first. The rate is 0: steps on noise must not break the weights."""

    def __init__(self) -> None:
        self.images, self.seconds, self._since = 0, 0.0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = 0.0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        now = time.perf_counter()
        if batch_idx:
            self.images, self.seconds = self.images + len(batch["image"]), self.seconds + now - self._since
        self._since = time.perf_counter()


def _attempt(size: int, task: Task, data: DataModule, make: MakeTrainer, device: torch.device, before: int) -> Trial:
    clock, cuda = _Clock(), device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    fits = True
    try:
        trainer = make([clock], max_epochs=1, accumulate_grad_batches=1, limit_val_batches=1, check_val_every_n_epoch=1)
        trainer.fit(task, _training(size, data, cuda), _validation(size, data, cuda))
    except torch.OutOfMemoryError:
        fits = False
    if cuda:
        memory = torch.cuda.max_memory_reserved(device)
        task.zero_grad()
        gc.collect()  # the error held on to the frames of the step, and with them to its tensors
        torch.cuda.empty_cache()
    else:
        memory = max(_peak() - before, 0)
    return Trial(size, memory if fits else None, clock.images / clock.seconds if clock.seconds else 0.0)


def _shape(data: DataModule) -> tuple[int, int]:
    """(H, W) of a training image, the largest where there are several sizes."""
    return data.augment.crop or max(
        (scaled(s, data.scale) for s in data.source.seen_sizes("train")[0]), key=lambda s: s[0] * s[1]
    )


def _training(size: int, data: DataModule, pin: bool) -> DataLoader:
    shape = _shape(data)
    return _repeated(_batch(size, shape, shape, data), STEPS, pin)


def _validation(size: int, data: DataModule, pin: bool) -> DataLoader | None:
    """As many of the largest validation images as may meet in a batch: they come whole, whatever the crop."""
    sizes = data.source.sizes("val")
    if not sizes:
        return None
    largest = max(sizes, key=lambda s: s[0] * s[1])
    return _repeated(_batch(min(size, sizes.count(largest)), scaled(largest, data.scale), largest, data), 1, pin)


def _batch(size: int, shape: tuple[int, int], mask: tuple[int, int], data: DataModule) -> Batch:
    """Noise in which every class is everywhere: no batch of real images asks more of a loss."""
    spec, rng, kind = data.source.spec, np.random.default_rng(0), data.source.load("train", 0)["image"].dtype
    samples = []
    for index in range(size):
        image = rng.integers(0, 256, (*shape, spec.channels), dtype=np.uint8)
        several = spec.mode == "multilabel"
        ids = rng.integers(0, 2, (*mask, spec.num_classes)) if several else rng.integers(0, spec.num_classes, mask)
        pixels = image if kind == np.uint8 else image.astype(kind) / 255
        samples.append({"image": pixels, "mask": ids.astype(np.int32), "index": index, **_objects(index, mask, data)})
    return collate(samples)


def _objects(index: int, size: tuple[int, int], data: DataModule) -> dict[str, np.ndarray]:
    """The objects of a real image, all of them brought to this size: noise has none."""
    if not data.instances:
        return {}
    sample = data.source.load("train", index % len(data.source.ids("train")))
    held = objects(sample, data.source.spec.ignore_index)
    return {"instances": resize_layers(held.ids, size), "labels": held.labels, "crowd": held.crowd}


def _repeated(batch: Batch, times: int, pin: bool) -> DataLoader:
    return DataLoader([batch] * times, batch_size=None, pin_memory=pin)  # type: ignore[arg-type]


def _peak() -> int:
    """The most memory this process ever had, in bytes; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _available() -> int | None:
    """Bytes that can still be had without pushing others out; None where the system does not say."""
    rooms = []
    memory, limit, used = (Path(p) for p in ("/proc/meminfo", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"))
    if memory.exists():
        rooms += [int(line.split()[1]) * 1024 for line in memory.read_text().splitlines() if line.startswith("MemAvailable")]
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        rooms.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if limit.exists() and used.exists() and limit.read_text().strip().isdigit():  # of a container
        rooms.append(int(limit.read_text()) - int(used.read_text()))
    return min(rooms, default=None)


def _table(trials: list[Trial], device: torch.device) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    cuda = device.type == "cuda"
    total = torch.cuda.get_device_properties(device).total_memory if cuda else None
    for name in ("images per step", "memory" if cuda else "memory grew by", "images/s"):
        table.add_column(name, justify="right")
    for trial in trials:
        if trial.memory is None:
            table.add_row(str(trial.size), "does not fit", "-")
            continue
        share = f" ({trial.memory / total:.0%})" if total else ""
        table.add_row(str(trial.size), f"{trial.memory / GIB:.2f} GiB{share}", f"{trial.rate:.1f}")
    return table
