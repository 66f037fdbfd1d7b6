"""The page of a run at Weights & Biases: the axes of its charts, its summary, its tables and pictures.

The summary tells of the weights that are kept, never of the last epoch: a table of runs then shows what each run is worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, WandbLogger

from seglab.errors import Ended, Stopped, visible
from seglab.tasks.base import Task
from seglab.weights_and_biases import staged

MOST = 8  # pictures sent to a tracker
FACTS = ("score", "monitor", "parameters", "seconds")
LONG = 300  # characters of an error


def pages(made: Iterable[Logger]) -> list[Any]:
    """The W&B runs among the loggers."""
    return [logger.experiment for logger in made if isinstance(logger, WandbLogger)]


def define_axes(made: Iterable[Logger], task: Task) -> None:
    """Values of an epoch are drawn over epochs, those of a step over steps.

    Each by its full name: of two patterns that fit, W&B takes any. And it makes no summary of its own from them, for its
    last value is not that of the kept weights, and its `val/iou.max` would stand beside the `val/iou` that is.
    """
    scores = [name for metric in task.metrics("val").values() for name in getattr(metric, "names", ())]
    names = [f"val/{name}" for name in (*scores, *(f"iou/{c}" for c in task.spec.classes))]
    names += [f"{phase}/{name}" for phase in ("train", "val") for name in task.means(phase).names]
    for page in pages(made):
        page.define_metric("epoch")
        for name in dict.fromkeys(names):
            if "*" not in name:  # a class's name may hold anything
                page.define_metric(name, step_metric="epoch", summary="none")
        for name in ("train/loss_step", "lr"):
            page.define_metric(name, step_metric="trainer/global_step", summary="none")


def summarize(made: Iterable[Logger], values: Mapping[str, Any]) -> None:
    """Put values into the summary; those that are not known (None) are left out."""
    for page in pages(made):
        page.summary.update({key: value for key, value in values.items() if value is not None})


def report(made: Iterable[Logger], content: Mapping[str, Any], pictures: list[tuple[str, np.ndarray]]) -> None:
    """What is known at the end: `content` as results.json will have it, and (caption, H W 3 uint8) pictures."""
    summarize(made, {**{key: content[key] for key in FACTS}, **content["speed"], **content["metrics"]})
    for split, classes in content["per_class"].items():
        summarize(made, {f"{split}/iou/{name}": row["iou"] for name, row in classes.items() if "iou" in row})
    for page in pages(made):
        import wandb

        shown: dict[str, Any] = {f"{split}/classes": _table(rows) for split, rows in content["per_class"].items()}
        if pictures:  # JPEG is far cheaper than its own mask images
            shown["predictions"] = [wandb.Image(p, caption=caption, file_type="jpg") for caption, p in pictures[:MOST]]
        if shown:
            with staged(page):
                page.log(shown)


def _table(classes: Mapping[str, Mapping[str, float]]) -> Any:
    import wandb

    keys = list(dict.fromkeys(key for numbers in classes.values() for key in numbers))  # a background has no AP
    return wandb.Table(columns=["class", *keys], data=[[name, *map(row.get, keys)] for name, row in classes.items()])


def close(logger: Logger, error: BaseException | None) -> None:
    """End a logger with the run's true status; to W&B also its exit code and what went wrong."""
    status = "finished" if error is None else "interrupted" if _from_outside(error) else "failed"
    if error is None:
        summarize([logger], {"status": status})
    else:
        with suppress(Exception):  # the error itself is the one to tell
            told = (str(error) or type(error).__name__).strip().splitlines()[0]
            summarize([logger], {"status": status, "error": visible(told)[:LONG]})
    logger.finalize("success" if error is None else "failed")
    for page in pages([logger]):
        page.finish(exit_code=0 if error is None else (getattr(error, "exit_code", None) or 1))


def _from_outside(error: BaseException) -> bool:
    return isinstance(error, KeyboardInterrupt | SystemExit | Stopped | Ended)
