"""Configuration in, objects out: data, network, loss, metrics, task. Each slot says which class it holds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import albumentations as A
import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import Metric, MetricCollection

from seglab.build import build, check_settings, check_type, find
from seglab.data.cache import cached
from seglab.data.mixing import Mix
from seglab.data.module import DataModule
from seglab.data.reading import SUFFIXES, read_image
from seglab.data.reduced import reduced
from seglab.data.resizing import check_scale
from seglab.data.selection import select
from seglab.data.source import Source
from seglab.engine import running
from seglab.errors import ConfigError, nearest
from seglab.losses.base import Loss
from seglab.losses.total import Total
from seglab.losses.weights import Counts
from seglab.results import higher_is_better
from seglab.tasks.base import Task
from seglab.tasks.grouping import Grouping
from seglab.tasks.optimization import Optimization
from seglab.types import Phase, Spec

Config = dict[str, Any]

_RECIPE: dict[str, tuple[Any, Any]] = {  # keys of `optimizer` that are not the optimizer's: default and type
    "encoder_lr": (None, float | None), "layer_decay": (None, float | None), "freeze_encoder": (0, int | str),
    "decay_norms": (False, bool),
}  # fmt: skip
_LOSSES = {  # for each kind of output
    "logits": "loss=dice+ce", "masks": "loss=masks",
    "instances": "loss=own, whose parts have weights: loss.own.objectness, proposal, classifier, box, mask (2.0 counts double)",
}  # fmt: skip
_GIVEN = (
    "source",
    "transforms",
    "mix",
    "seed",
    "pin_memory",
    "instances",
)  # what DataModule is told from elsewhere than `data`
_LOADER = [n for n in inspect.signature(DataModule).parameters if n not in _GIVEN]
_SELECTION = [n for n in inspect.signature(select).parameters if n != "source"]
_CACHE = [n for n in inspect.signature(cached).parameters if n != "source"]


def source(config: Config) -> Source:
    """The data set that `data` names, behind its cache, with the folds and the part of its training images asked for."""
    data = config["data"]
    selection, cache = ({k: v for k, v in data.items() if k in keys} for keys in (_SELECTION, _CACHE))
    check_settings(selection, select, "data")
    check_settings(cache, cached, "data")
    made = reduced(build(_source_settings(config), Source, "data"), data.get("reduced_jpeg", False), data.get("scale", 1.0))
    return select(cached(made, **cache), **selection)


def reader(config: Config) -> tuple[Callable[[str], np.ndarray], Sequence[str]]:
    """What reads an image file without a mask as the data set of `data` reads its own, and the suffixes of such files.

    ConfigError where images of that data set are no files.
    """
    settings = _source_settings(config)
    kind: Any = find(settings.get("_target_"), Source, "data")
    if not hasattr(kind, "reader"):
        return read_image, SUFFIXES
    return kind.reader(**{k: v for k, v in settings.items() if not k.startswith("_")}), kind.suffixes


def predicts(config: Config) -> bool:
    """Whether there is such a reader."""
    try:
        return bool(reader(config))
    except ConfigError:
        return False


def _source_settings(config: Config) -> Config:
    others = [*_LOADER, *_SELECTION, *_CACHE, "reduced_jpeg"]
    check_type(config["data"].get("reduced_jpeg", False), bool, "data.reduced_jpeg")
    node = {k: v for k, v in config["data"].items() if k not in others}
    known = [*inspect.signature(find(node.get("_target_"), Source, "data")).parameters, *others]
    for key in node:
        if key not in known and not key.startswith("_"):
            raise ConfigError(f"There is no key '{key}' in 'data'.{nearest(key, known)}")
    return node


def datamodule(config: Config, source: Source, instances: bool = False, pin_memory: bool = False) -> DataModule:
    """The loaders over `source` with the transforms of `augment` and the mixing of `mix`; with `instances`, of objects too."""
    settings = {k: v for k, v in config["data"].items() if k in _LOADER}
    check_settings(settings, DataModule, "data")
    nodes = {k: v for k, v in config["augment"].items() if v is not None}
    bases = (A.BasicTransform, A.BaseCompose)
    transforms = {name: build(node, bases, f"augment.{name}") for name, node in nodes.items()}
    mix = build(config["mix"], Mix, "mix") if config["mix"] else None
    return DataModule(source, transforms, config["seed"], mix=mix, pin_memory=pin_memory, instances=instances, **settings)


def check_inference(config: Config) -> None:
    """ConfigError for unknown or wrong settings of `trainer` and the loader where neither is built."""
    running.trainer_settings({**config, "callbacks": {}})
    _source_settings(config)
    settings = {k: v for k, v in config["data"].items() if k in _LOADER}
    check_settings(settings, DataModule, "data")
    check_scale(settings.get("scale", 1.0))


def network(config: Config, spec: Spec) -> nn.Module:
    """The network that `model` names, told the Spec."""
    return build(config["model"], nn.Module, "model", spec=spec)


def loss(config: Config, spec: Spec, counts: Counts | None = None) -> Total:
    """The weighted sum of the terms in `loss`; `counts` is asked by class weights that follow from the data."""
    terms = {}
    for name, node in config["loss"].items():
        if not isinstance(node, Mapping):
            raise ConfigError(f"'loss.{name}' is {node!r}; it must be the settings of a loss, as in conf/loss/.")
        weight = node.get("weight", 1.0)
        check_type(weight, float, f"loss.{name}.weight")
        settings = {k: v for k, v in node.items() if k != "weight"}
        terms[name] = (float(weight), build(settings, Loss, f"loss.{name}", spec=spec, counts=counts))
    return Total(terms)


def metrics(config: Config, spec: Spec, phase: Phase, has: Collection[str] = ()) -> MetricCollection:
    """The metrics of one phase, their names behind `phase/`; those with a need only where the task `has` it.

    A need is "instances" (objects told apart) or "probabilities" (of the classes at each pixel).
    """
    given = {name: node for name, node in config["metrics"].items() if node is not None}
    nodes = {name: node for name, node in given.items() if _measurable(node, name, phase, has)}
    built: dict[str, Metric | MetricCollection] = {
        name: build(node, Metric, f"metrics.{name}", spec=spec, per_image=True) for name, node in nodes.items()
    }
    if not built:
        raise ConfigError("'metrics' is empty; use metrics=default.")
    return MetricCollection(built, prefix=f"{phase}/", compute_groups=False)


def _measurable(node: Any, name: str, phase: Phase, has: Collection[str]) -> bool:
    target = node.get("_target_") if isinstance(node, Mapping) else None
    kind = find(target, Metric, f"metrics.{name}")
    return phase in getattr(kind, "phases", (phase,)) and getattr(kind, "needs", None) in (None, *has)


def grouping(config: Config, spec: Spec, kind: type[Task]) -> Grouping | None:
    """How a map of classes becomes objects, by `instances`; None if it does not. ConfigError where it cannot."""
    if not config["instances"]:
        return None
    if "_target_" not in config["instances"]:
        raise ConfigError("instances has settings, but no way to find objects; add instances=watershed or components.")
    made = build(config["instances"], Grouping, "instances")
    if kind.finds_objects:
        raise ConfigError("This network finds objects itself; set instances=none.")
    if spec.mode != "binary" and not spec.instances:
        raise ConfigError(
            f"instances={type(made).__name__.lower()} makes objects of all classes but a background, and the classes "
            f"{', '.join(spec.classes[:4])} ... are not said to have one; set instances=none."
        )
    return made


def optimization(config: Config) -> Optimization:
    """How `optimizer` and `scheduler` want the weights updated; wrong names and values fail here, not during training."""
    optimizer = dict(config["optimizer"])
    own = {key: optimizer.pop(key, default) for key, (default, _) in _RECIPE.items()}
    for key, (_, kind) in _RECIPE.items():
        check_type(own[key], kind, f"optimizer.{key}")
    check_type(optimizer.get("lr", 0.0), float, "optimizer.lr")
    del own["freeze_encoder"]  # a callback's business (engine/recipe.py)
    made = Optimization(
        lambda groups: build(optimizer, Optimizer, "optimizer", params=groups), partial(_schedule, config), **own
    )
    made.make_scheduler(made.make_optimizer([{"params": [nn.Parameter(torch.zeros(1))]}]), 100)
    return made


def _schedule(config: Config, optimizer: Optimizer, steps: int) -> Config | None:
    """What Lightning is told of the schedule over so many optimizer steps; None without one."""
    schedule = dict(config["scheduler"])
    interval = schedule.pop("interval", None)
    if not schedule:
        return None
    plateau = issubclass(find(schedule.get("_target_"), LRScheduler, "scheduler"), ReduceLROnPlateau)
    given = {"optimizer": optimizer, "total_steps": steps}
    if plateau and "mode" not in schedule:  # torch's default would wait for val/iou to fall
        given["mode"] = "max" if higher_is_better(config["monitor"], config["mode"]) else "min"
    scheduler = build(schedule, LRScheduler, "scheduler", **given)
    told = {"scheduler": scheduler, "monitor": config["monitor"]}
    if plateau:
        return {**told, "interval": "epoch", "frequency": config["trainer"].get("check_val_every_n_epoch") or 1}
    in_steps = "total_steps" in inspect.signature(type(scheduler)).parameters  # told of steps, so stepped in steps
    return {**told, "interval": interval or ("step" if in_steps else "epoch")}


def task(
    config: Config, spec: Spec, state: dict[str, torch.Tensor] | None = None, counts: Counts | None = None,
    instances: bool | None = None,
) -> Task:  # fmt: skip
    """The task, ready to train; with `state` (a checkpoint's tensors) no pretrained weights are looked for.

    `instances` says whether the data tell objects apart, so that these can be scored; None: as the Spec says.
    """
    if state is not None and "weights" in config["model"]:
        config = {**config, "model": {**config["model"], "weights": None}}
    kind: type[Task] = find(config["task"].get("_target_"), Task, "task")
    made = network(config, spec)
    terms = loss(config, spec, None if state is not None else counts)
    _check_kinds(kind, made, terms)
    groups = grouping(config, spec, kind)
    told_apart = (spec.instances if instances is None else instances) and (kind.finds_objects or groups is not None)
    has = [*(["instances"] if told_apart else []), *([] if kind.finds_objects else ["probabilities"])]
    measured: tuple[Phase, ...] = ("val", "test")
    phases = {phase: metrics(config, spec, phase, has) for phase in measured}
    given = {"network": made, "loss": terms, "metrics": phases, "spec": spec, "optimization": optimization(config)}
    built = build(config["task"], Task, "task", **given)
    built.grouping = groups
    return built


def _check_kinds(kind: type[Task], network: nn.Module, terms: Total) -> None:
    """ConfigError unless network, loss and task speak of the same kind of output."""
    gives = getattr(network, "gives", "logits")
    if gives != kind.gives:
        raise ConfigError(
            f"model={type(network).__name__} gives {gives}, and task={kind.__name__} works on {kind.gives}; leave task out, "
            "the model's file chooses it."
        )
    for name, term in terms.losses.items():
        if term.of != gives:
            raise ConfigError(
                f"loss '{name}' is computed from {term.of}, and model={type(network).__name__} gives {gives}; "
                f"use {_LOSSES.get(gives, 'one of its own')} (or leave loss out, the model's file chooses it)."
            )
