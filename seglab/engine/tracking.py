"""What a run tells its trackers while it trains; what it has told is part of its state."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, WandbLogger

from seglab.engine import wandb_page
from seglab.engine.callbacks import learning_rate
from seglab.tasks.base import Task


class Trackers(Callback):
    """Loss and learning rate to the loggers every `log_every_n_steps`; nothing waits for the device in between.

    Weights & Biases numbers what it is sent; a resumed run goes on with the numbers, so that no line replaces another.
    Its summary follows the weights that are kept: the scores of an epoch go there if it is the best so far.
    """

    def __init__(self) -> None:
        self.trainer: pl.Trainer | None = None
        self.sent = 0
        self.best: dict[str, Any] = {"score": None, "epoch": None}
        self.known: dict[str, float] = {}  # of this epoch's weights
        self._aside: list[Logger] = []

    def setup(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:  # noqa: D102
        self.trainer = trainer

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Task) -> None:  # type: ignore[override]  # noqa: D102
        wandb_page.define_axes(trainer.loggers, pl_module)

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: D102
        self._step = trainer.global_step

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        sent = max([self.sent, *(int(page.step) for page in wandb_page.pages(self.trainer.loggers if self.trainer else []))])
        return {"sent": sent, "best": dict(self.best), "known": dict(self.known)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        self.sent = state_dict["sent"]
        self.best = dict(state_dict.get("best", self.best))
        self.known = dict(state_dict.get("known", self.known))
        for page in wandb_page.pages(self.trainer.loggers if self.trainer else []):
            page.log({}, step=self.sent)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: D102
        stepped, self._step = trainer.global_step > self._step, trainer.global_step  # not after each batch that accumulates
        if stepped and trainer.loggers and trainer.global_step % trainer.log_every_n_steps == 0:
            values = {"train/loss_step": outputs["loss"].item(), "lr": learning_rate(trainer)}
            for logger in trainer.loggers:
                logger.log_metrics(values, step=trainer.global_step)

    def on_train_epoch_start(self, *_: Any) -> None:  # noqa: D102
        self.known = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Task) -> None:  # type: ignore[override]  # noqa: D102
        self._look(trainer, {k: v.item() for k, v in pl_module.train_means().items()})

    # The kept weights are scored once more at the end. That is for the summary: in a chart it would be one more epoch.

    def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: D102
        if trainer.state.fn == "validate":
            self._set_aside(trainer)

    def on_test_start(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: D102
        self._set_aside(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Task) -> None:  # type: ignore[override]  # noqa: D102
        if trainer.state.fn == "validate":
            self._put_back(trainer)
        elif not trainer.sanity_checking:
            self._look(trainer, {**pl_module.scores["val"], **pl_module.class_scores["val"]})

    def on_test_end(self, trainer: pl.Trainer, *_: Any) -> None:  # noqa: D102
        self._put_back(trainer)

    def _set_aside(self, trainer: pl.Trainer) -> None:
        self._aside = list(trainer.loggers)
        trainer.loggers = [logger for logger in self._aside if not isinstance(logger, WandbLogger)]

    def _put_back(self, trainer: pl.Trainer) -> None:
        trainer.loggers = self._aside

    def _look(self, trainer: pl.Trainer, values: dict[str, float]) -> None:
        """Keep what is known of the weights; it is the summary where they are the best so far, or the last are kept."""
        chosen: Any = trainer.checkpoint_callback
        monitor = chosen.monitor if chosen else None
        if monitor in values:
            value, before = values[monitor], self.best["score"]
            if before is not None and before == before:  # anything is better than no number
                if not (value > before if chosen.mode == "max" else value < before):
                    return
            elif before is not None and value != value:
                return
            self.best = {"score": value, "epoch": trainer.current_epoch}
        self.known |= values
        if monitor is None or self.best["epoch"] == trainer.current_epoch:
            found = {"score": self.best["score"], "monitor": monitor, "best_epoch": self.best["epoch"]}
            wandb_page.summarize(trainer.loggers, {**self.known, **found})
