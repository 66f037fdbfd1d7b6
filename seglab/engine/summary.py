"""What a run says on the terminal: three lines before, a table of classes and the places of things after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import nn

from seglab import __version__
from seglab.data.source import Source
from seglab.errors import shown, visible
from seglab.types import Spec

MAX_ROWS = 40
MUCH = 0.2  # of the time


def header(out: Console, name: str, where: str, source: Source, network: nn.Module, run: Path) -> None:
    """Name and device, the data, the network, the run folder."""
    counts = ", ".join(f"{len(source.ids(s))} {s}" for s in ("train", "val", "test"))
    sizes = next((found for s in ("train", "val", "test") if (found := source.seen_sizes(s)[0])), set())
    size = "x".join(map(str, *sizes)) if len(sizes) == 1 else f"{len(sizes)} sizes"
    classes = ", ".join(source.spec.classes[:12]) + (", ..." if source.spec.num_classes > 12 else "")
    out.print(Text.assemble((f"seglab {__version__}", "bold"), f"  {visible(name)}"))
    what = f"{source.name}: {counts}; {size}, {source.spec.channels} channels; {source.spec.mode}: {classes}"
    out.print(f"  data     {visible(what)}", markup=False)
    out.print(f"  network  {_short(count(network))} parameters on {where}", markup=False)
    out.print(f"  run      {shown(run)}", markup=False)


def count(network: nn.Module) -> int:
    """How many parameters the network has."""
    return sum(p.numel() for p in network.parameters())


def where(trainer: Any) -> str:
    """The device by name, how many of them, and the precision."""
    device = trainer.strategy.root_device
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{f'{trainer.world_size} processes on ' if trainer.world_size > 1 else ''}{kind}, {trainer.precision}"


def scores(out: Console, spec: Spec, per_class: dict[str, dict[str, dict[str, float]]], metrics: dict[str, float]) -> None:
    """One row a class and one for the headline, for test, or for val where there is no test; a second table of objects."""
    split = "test" if "test" in per_class else "val"
    if split not in per_class:
        return
    rows = per_class[split]
    pixels = sum(row["support"] for row in rows.values()) or 1
    shares = {name: f"{100 * row['support'] / pixels:.1f} %" for name, row in rows.items()}
    numbers = {key: metrics.get(f"{split}/{key}") for key in ("iou", "dice", "precision", "recall")}
    headline = "foreground" if spec.mode == "binary" else "mean"
    accuracy = f"accuracy {_number(metrics.get(f'{split}/accuracy'))}"
    out.print(_table((split, headline), ("pixels", accuracy), shares, rows, numbers))
    things = {name: row for name, row in rows.items() if "objects" in row}
    if things:
        counts = {name: str(row["objects"]) for name, row in things.items()}
        numbers = {key: metrics.get(f"{split}/{key}") for key in ("ap", "ap50", "f1_50", "aji", "pq")}
        out.print(_table((split, "mean"), ("objects", ""), counts, things, numbers))


def _table(
    first: tuple[str, str], second: tuple[str, str], shown: dict[str, str], rows: dict[str, dict[str, float]],
    numbers: dict[str, float | None],
) -> Table:  # fmt: skip
    """A row a class: its name, what is `shown`, its numbers; headers and footers are those of the columns."""
    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    table.add_column(first[0], footer=first[1])
    table.add_column(second[0], justify="right", footer=second[1])
    for key, value in numbers.items():
        table.add_column(key, justify="right", footer=_number(value))
    for name in list(rows)[:MAX_ROWS]:
        table.add_row(Text(visible(name)), shown[name], *(_number(rows[name].get(key)) for key in numbers))
    if len(rows) > MAX_ROWS:
        table.add_row(f"... {len(rows) - MAX_ROWS} more in results.json")
    return table


def speed(out: Console, numbers: Mapping[str, float | None], cached: bool) -> None:
    """Images per second, and what share of training was spent waiting for them; what to do where it is much."""
    rate, share = numbers.get("train_images_per_s"), numbers.get("data_wait_share")
    if not rate:
        return
    waited = "" if share is None else f", {100 * share:.0f} % of the time waiting for data"
    out.print(f"  speed    {rate:.3g} images/s in training{waited}", markup=False)
    if share is not None and share > MUCH:
        out.print(f"           less with data.num_workers=N{'' if cached else ' or data.cache=ram'}", markup=False)


def places(out: Console, run: Path, names: Iterable[str], predicts: bool = True) -> None:
    """Where everything lies, as far as it exists; `predicts`: whether predict reads images as the run's data set does."""
    here = [n for n in names if (run / n).exists()]
    out.print(f"{shown(run)}/", markup=False, style="bold")
    for name in here:
        text = _PLACES[name] if predicts else _PLACES[name].replace("|predict", "")
        out.print(f"  {name:<22}{text}", markup=False)


_PLACES = {
    "results.json": "scores, per class too; settings, versions, speed",
    "per_image.csv": "counts of every test image",
    "metrics.csv": "one row an epoch",
    "ledger.csv": "what each epoch showed of each class",
    "checkpoints/best.ckpt": "python -m seglab.evaluate|predict ckpt=...",
    "predictions": "image, truth, prediction, errors side by side",
    "examples": "best, median and worst scored images, for python -m seglab.report",
    "train.log": "everything the libraries said",
    "wandb": "upload with: wandb sync",
    "masks": "class ids as PNG",
    "instances": "ids of objects as 16-bit PNG",
    "objects": "image and objects together",
    "instances.json": "all objects found, in COCO's form",
    "colors": "classes in colour",
    "overlays": "image and classes together",
}


def _short(n: int) -> str:
    return f"{n / 1e6:.1f} M" if n >= 1e6 else f"{n:,}"


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.4f}"
