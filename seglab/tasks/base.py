"""The Task: network, loss and metrics in one LightningModule, with one step for train, val and test.

A kind of task (semantic, instance) says how a loss is computed and how outputs become predictions; nothing here
knows which kinds exist. What it does not do: build data, networks or optimizers, draw, or write files.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from seglab.errors import ConfigError
from seglab.tasks.grouping import Grouping
from seglab.tasks.ledger import Ledger, seen
from seglab.tasks.optimization import Optimization
from seglab.tasks.truth import truth
from seglab.tasks.watch import FiniteWatch
from seglab.types import Instances, Phase, Spec

Batch = dict[str, Tensor]


class Means(Metric):
    """Means over all samples of the loss and its parts; exact under several processes (sums and counts are reduced)."""

    full_state_update = False
    sums: Tensor
    count: Tensor

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.add_state("sums", torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, values: Tensor, samples: int) -> None:
        """Add a batch's values (in the order of `names`), weighted by its number of samples."""
        self.sums += values.detach() * samples
        self.count += samples

    def compute(self) -> dict[str, Tensor]:
        """{name: mean}."""
        return dict(zip(self.names, (self.sums / self.count.clamp(min=1)).float(), strict=True))


class Task(pl.LightningModule):
    """Owns the network (B C H W in, its own outputs out), the loss and the metrics.

    `mean` and `std` are per channel for images in 0..1; without `optimization` the task can only be evaluated.
    Subclasses say what kind of output they take (`gives`) and by which score they are chosen (`headline`), whether they
    are objects by themselves (`finds_objects`), and write
    `compute_loss` and `decode`. A `grouping`, set from outside, makes objects of a map of classes.
    """

    gives: ClassVar[str] = "logits"
    headline: ClassVar[str] = "iou"
    finds_objects: ClassVar[bool] = False
    grouping: Grouping | None = None
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        metrics: Mapping[Phase, MetricCollection],
        spec: Spec,
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.loss, self.spec, self.optimization = loss, spec, optimization
        self._metrics = nn.ModuleDict(cast(dict[str, nn.Module], dict(metrics)))
        # A ModuleDict refuses the key "train", which is a method of every Module.
        phases: tuple[Phase, ...] = ("train", "val", "test")
        self._means = nn.ModuleDict({f"{p}_": Means(self.losses(p)) for p in phases})
        self.ledger = Ledger(spec.num_classes)
        self.watch = FiniteWatch()
        self.scores: dict[str, dict[str, float]] = {}  # of the last validation and test, in full precision
        self.class_scores: dict[str, dict[str, float]] = {}
        mean, std = getattr(network, "mean", None) or spec.mean, getattr(network, "std", None) or spec.std
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def losses(self, phase: Phase) -> tuple[str, ...]:
        """The names of the loss and of what `compute_loss` returns beside it; none in a phase without a loss."""
        return ("loss", *(f"loss/{name}" for name in getattr(self.loss, "weights", ())))

    @property
    def separates(self) -> bool:
        """Whether objects are told apart, so that `objects` may be asked for."""
        return self.finds_objects or self.grouping is not None

    def metrics(self, phase: Phase) -> MetricCollection:
        """The metrics of val or test; after the phase they still hold its counts."""
        return cast(MetricCollection, self._metrics[phase])

    def means(self, phase: Phase) -> Means:
        """The running means of the loss and its parts."""
        return cast(Means, self._means[f"{phase}_"])

    @abstractmethod
    def compute_loss(self, output: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise and its unweighted parts, named as `losses` says."""

    @abstractmethod
    def decode(self, output: Any) -> Any:
        """Predictions in the form the metrics take, from outputs that `at_size` brought to their size."""

    def at_size(self, output: Any, size: Sequence[int]) -> Any:
        """The output at the mask's (H, W) `size`; as it is, unless a kind of task knows better."""
        return output

    def confidence(self, output: Any) -> Tensor:
        """How probable the decoded class is at each pixel, B H W; NotImplementedError where outputs do not say."""
        raise NotImplementedError

    def probabilities(self, output: Any) -> Tensor:
        """The probability of each class at each pixel, float32 B K H W (binary: B 1 H W, of the foreground)."""
        raise NotImplementedError

    def objects(self, output: Any, decoded: Tensor) -> tuple[list[Instances], list[Instances]]:
        """The objects found in each image: all of them, which may overlap, and those that share its pixels among them.

        `decoded` is what `decode` gave for the output.
        """
        assert self.grouping is not None, "objects are asked for only where they are told apart"
        ids, sure = decoded.cpu().numpy(), self.confidence(output).float().cpu().numpy()
        found = [self.grouping(*one, self.spec) for one in zip(ids, sure, strict=True)]
        return found, found

    def answer(self, batch: Batch, phase: Phase) -> Any:
        """The network's output for a batch, brought to the mask's size."""
        return self.at_size(self(batch["image"]), batch["mask"].shape[-2:])

    def normalize(self, image: Tensor) -> Tensor:
        """uint8 or 0..1 float B C H W -> normalised float32 in channels_last memory, on the image's device."""
        scale = 255.0 if image.dtype == torch.uint8 else 1.0
        # One multiply and one add per pixel instead of a division by 255, a subtraction and a division.
        values = image.to(torch.float32, memory_format=torch.channels_last)
        return (values * (1 / (scale * self.std))).sub_(self.mean / self.std).to(self.mean.dtype)  # precision=bf16-true

    def forward(self, image: Tensor) -> Any:
        """The network's output for images as they are stored."""
        return self.network(self.normalize(image))

    def step(self, batch: Batch, phase: Phase) -> Tensor:
        """One batch of any phase: output, loss, watch, means, and outside training the metrics."""
        mask = batch["mask"]
        if phase != "train" and not len(mask):  # another process has a batch more
            return torch.zeros((), device=self.device)
        output, losses = self.answer(batch, phase), self.losses(phase)
        loss = torch.zeros((), device=self.device)
        if losses:
            loss, parts = self.compute_loss(output, batch)
            values = [loss.detach(), *(parts[name.removeprefix("loss/")] for name in losses[1:])]
            self.means(phase).update(torch.stack(values), len(batch["image"]))
        if phase == "train":
            self.watch.look(loss, batch["index"], self.global_step)
            if "seen" in batch:
                self.ledger.update(batch["seen"])
        else:
            decoded = self.decode(output)
            told = self._objects(output, decoded, batch)
            if any(getattr(metric, "needs", None) == "probabilities" for metric in self.metrics(phase).values()):
                told["probabilities"] = self.probabilities(output)
            self.metrics(phase).update(decoded, mask, batch["index"], **told)
        return loss

    def _objects(self, output: Any, decoded: Tensor, batch: Batch) -> dict[str, Any]:
        """What metrics of objects are told besides; nothing where the batch was not asked for true ones."""
        if "instances" not in batch:
            return {}
        found, segments = self.objects(output, decoded)
        return {"found": found, "segments": segments, "truth": truth(batch)}

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Masks become int64 on the device: they travel as the small integers they are stored in."""
        more = {"seen": seen(batch, self.spec)} if "target" in batch else {}
        return {**batch, **more, "mask": batch["mask"].long()}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: D102
        return self.step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: D102
        self.step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: D102
        self.step(batch, "test")

    def on_train_epoch_start(self) -> None:  # noqa: D102
        self.means("train").reset()
        self.ledger.reset()

    def on_validation_epoch_start(self) -> None:  # noqa: D102
        self.watch.settle()
        self._share_buffers()
        self._reset("val")

    def _share_buffers(self) -> None:
        # Each process has batch-norm statistics of its own after a training step; the checkpoint holds those of rank 0.
        # The callbacks' hooks, where averaged weights are swapped in, run before this one.
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            for buffer in self.network.buffers():
                value = buffer.contiguous()
                dist.broadcast(value, 0)
                buffer.copy_(value)

    def on_test_epoch_start(self) -> None:  # noqa: D102
        self._reset("test")

    def on_train_epoch_end(self) -> None:  # noqa: D102
        self.watch.settle()
        self.log_dict(self.train_means())

    def train_means(self) -> dict[str, Tensor]:
        """The epoch's means so far: {"train/loss": ..., "train/loss/dice": ...}."""
        return {f"train/{k}": v for k, v in self.means("train").compute().items()}

    def on_validation_epoch_end(self) -> None:  # noqa: D102
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:  # noqa: D102
        self._log_scores("test")

    def _log_scores(self, phase: Phase) -> None:
        # The values are already reduced over processes, so Lightning need not do it again.
        scores = {f"{phase}/{k}": v for k, v in self.means(phase).compute().items()}
        scores.update(self.metrics(phase).compute())
        self.scores[phase] = {k: float(v) for k, v in scores.items()}
        found: Any = self.metrics(phase).values()
        tables = [metric.per_class() for metric in found if hasattr(metric, "per_class")]
        self.class_scores[phase] = {f"{phase}/iou/{c}": row["iou"] for t in tables for c, row in t.items() if "iou" in row}
        self.log_dict({**{k: v.float() for k, v in scores.items()}, **self.class_scores[phase]})

    def _reset(self, phase: Phase) -> None:
        # At the start, not the end: after a phase its counts per class and image can still be read.
        self.means(phase).reset()
        self.metrics(phase).reset()

    def configure_optimizers(self) -> Any:  # noqa: D102
        assert self.optimization is not None, "this task was built for evaluation only"
        steps = self.trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise ConfigError("A learning-rate schedule needs an end; set trainer.max_epochs, or trainer.max_steps.")
        return self.optimization.configure(self.network, int(steps))
