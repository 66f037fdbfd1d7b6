"""Scoring: the kept weights on val and test, and what the scores leave in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from seglab import results
from seglab.engine.record import Record
from seglab.tasks.base import Task
from seglab.types import Phase

Config = dict[str, Any]


def score(config: Config, trainer: pl.Trainer, task: Task, data: Any, record: Record) -> None:
    """Score the task's weights on val and, if `test`, on test into the record, and write per_image.csv."""
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
    record.content |= {"metrics": metrics, "per_class": per_class}
    phases: tuple[Phase, ...] = ("test", "val")
    last = next((s for s in phases if s in per_class), None)
    if last is None:
        return
    record.content["passport"] = passport(task, last, last)
    if trainer.is_global_zero:
        write_counts(task, last, data.source.ids(last), record.run)


def class_table(task: Task, phase: Phase) -> Config:
    """{class: {iou, dice, ...}} of a phase that just ended, from every metric that has one."""
    found: Any = task.metrics(phase).values()
    tables = [metric.per_class() for metric in found if hasattr(metric, "per_class")]
    tables.sort(key=lambda table: not any("iou" in row for row in table.values()))  # what is read first comes first
    return {name: {k: v for t in tables for k, v in t.get(name, {}).items()} for name in task.spec.classes}


def write_counts(task: Task, phase: Phase, ids: Sequence[str], run: Path) -> None:
    """per_image.csv, confusion.csv and confidence.csv of a phase that just ended, as far as its metrics have them."""
    counted, sure = _first(task, phase, "rows"), _first(task, phase, "table")
    if counted is not None:
        results.write_per_image(run / "per_image.csv", ids, counted.rows(), task.spec.classes)
        if not counted.multilabel:
            names, ignored = [*task.spec.classes, "(ignored)"], counted.predicted_on_ignored().sum(0)
            rows = [*counted.confusion().tolist(), ignored.tolist()]
            pairs = ([name, *row] for name, row in zip(names, rows, strict=True))
            results.write_table(run / "confusion.csv", ["truth", *task.spec.classes], pairs)
    if sure is not None:
        results.write_table(run / "confidence.csv", ["class", "bin", "pixels", "right"], sure.table())


def passport(task: Task, phase: Phase, split: str) -> Config | None:
    """The definition behind a phase's mIoU, and what other conventions would have given."""
    counted = _first(task, phase, "passport")
    return {"split": split, **counted.passport()} if counted is not None else None


def _first(task: Task, phase: Phase, has: str) -> Any:
    found: Any = task.metrics(phase).values()
    return next((metric for metric in found if hasattr(metric, has)), None)
