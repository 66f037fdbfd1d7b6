"""EMA, a frozen encoder and schedule-free optimizers do what they say, and a run with them resumes bit for bit."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY
from lightning.pytorch.callbacks import Callback
from test_resume import At, equal_runs

from seglab import checkpoint, results
from seglab.config import load, plain
from seglab.engine import assemble, evaluate, fit, recipe
from seglab.engine.launch import supervise
from seglab.errors import ConfigError, Stopped

# An encoder with batch norm, small enough for a second a run.
SMALL = [
    *TINY, "model=unet", "model.encoder=tu-test_resnet", "+model.encoder_depth=4", "model.decoder_channels=[8,8,8,8]",
    "data.size=32", "data.train=16", "data.val=6", "trainer.max_epochs=3", "pictures=0", "keep.every_minutes=null", "test=false",
    "augment=none", "scheduler=constant",
]  # fmt: skip
CHOICES = {"model": "unet", "loss": "dice+ce", "data": "cells"}


def run(folder, *overrides):
    given = [*SMALL, *overrides]
    return fit(plain(load(given)), folder, CHOICES, given)


def built(*overrides):
    config = plain(load([*SMALL, *overrides]))
    return config, assemble.task(config, assemble.source(config).spec)


class Spy(Callback):
    """Notes copies of a module's state, and what else `look` returns, at the hooks of training and validation."""

    def __init__(self, monkeypatch, look):
        self.seen = {}
        self.look = look
        before = recipe.callbacks
        monkeypatch.setattr(recipe, "callbacks", lambda config, task: [*before(config, task), self])

    def note(self, hook, trainer, task):
        if not trainer.sanity_checking:
            self.seen.setdefault(hook, []).append(self.look(trainer, task))

    def on_fit_start(self, trainer, task):
        self.note("start", trainer, task)

    def on_train_batch_end(self, trainer, task, *_):
        self.note("step", trainer, task)

    def on_validation_batch_start(self, trainer, task, *_):
        if trainer.state.fn == "fit":
            self.note("validation", trainer, task)

    def on_train_epoch_end(self, trainer, task):
        self.note("epoch", trainer, task)


def state(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def best(folder):
    return torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)


def network_of(saved):
    return {k.removeprefix("network."): v for k, v in saved["state_dict"].items() if k.startswith("network.")}


def test_the_average_is_validated_scored_and_kept(tmp_path, monkeypatch):
    spy = Spy(monkeypatch, lambda trainer, task: state(task.network))
    first = ["monitor=train/loss", "mode=max"]  # the first epoch is kept, so that the last average would show
    run(tmp_path / "run", "ema=0.5", "optimizer.lr=0.01", "data.val=2", "trainer.max_epochs=2", *first)
    steps, average, averages = spy.seen["step"], {}, []
    for t, weights in enumerate(steps):
        decay = min(0.5, (1 + t) / (10 + t))
        for name, value in weights.items():
            if t == 0 or not value.is_floating_point():
                average[name] = value.double() if value.is_floating_point() else value
            else:
                average[name] = decay * average[name] + (1 - decay) * value.double()
        averages.append(dict(average))
    assert len(steps) == 8
    for epoch, seen in enumerate(spy.seen["validation"]):
        expected = averages[4 * epoch + 3]
        assert all(torch.allclose(seen[n].double(), expected[n].double(), atol=1e-6) for n in seen)
        assert not all(torch.allclose(seen[n].double(), steps[4 * epoch + 3][n].double(), atol=1e-3) for n in seen)
    kept = best(tmp_path / "run")
    assert kept["epoch"] == 0
    assert equal(network_of(kept), spy.seen["validation"][0])
    found = results.read_results(tmp_path / "run")
    saved = checkpoint.load(tmp_path / "run" / "checkpoints" / "best.ckpt")
    again = evaluate(saved, saved.config, "val", tmp_path / "again", [])
    assert {key: value for key, value in again.items() if key != "val/ece"} == found["metrics"]  # asked of a scored split alone
    assert found["metrics"]["val/loss"] in [row["val/loss"] for row in rows(tmp_path / "run")]


def rows(folder):
    return [{k: float(v) for k, v in row.items()} for row in csv.DictReader((folder / "metrics.csv").open())]


@pytest.mark.parametrize("epochs", ["1", pytest.param("always", marks=pytest.mark.slow)])
def test_a_frozen_encoder_does_not_move(tmp_path, monkeypatch, epochs):
    def look(trainer, task):
        waits = [p.grad is None for p in task.network.encoder.parameters()]
        return state(task.network), any(m.training for m in task.network.encoder.modules()), all(waits)

    spy = Spy(monkeypatch, look)
    run(tmp_path, f"optimizer.freeze_encoder={epochs}", "optimizer.weight_decay=0.5", "+trainer.val_check_interval=2")
    encoder = [{k: v for k, v in s.items() if ".encoder." in k} for s, _, _ in [*spy.seen["start"], *spy.seen["epoch"]]]
    decoder = [{k: v for k, v in s.items() if ".encoder." not in k} for s, _, _ in [*spy.seen["start"], *spy.seen["epoch"]]]
    assert any("running_mean" in name for name in encoder[0])
    assert equal(encoder[0], encoder[1])
    assert not equal(decoder[0], decoder[1])
    assert [training for _, training, _ in spy.seen["step"][:4]] == [False] * 4  # also after a validation within the epoch
    assert all(waits for _, _, waits in spy.seen["step"][:4])
    if epochs == "always":
        assert equal(encoder[0], encoder[3])
        return
    moved = [n for n in encoder[0] if not torch.equal(encoder[1][n], encoder[2][n])]
    assert {n for n in encoder[0] if "running_mean" in n or n.endswith("conv1.weight")} <= set(moved)
    assert all(training for _, training, _ in spy.seen["step"][4:])


@pytest.mark.slow
def test_schedule_free_weights_are_the_averaged_ones_where_they_count(tmp_path, monkeypatch):
    pytest.importorskip("schedulefree")

    def look(trainer, task):
        optimizer = trainer.optimizers[0]
        z = {id(p): s["z"].clone() for p, s in optimizer.state.items() if "z" in s}
        mixed = {n: (p.detach().clone(), z.get(id(p))) for n, p in task.network.named_parameters()}
        return mixed, {g["train_mode"] for g in optimizer.param_groups}

    spy = Spy(monkeypatch, look)
    run(tmp_path, "optimizer=schedulefree", "scheduler=constant", "optimizer.lr=0.01", "data.val=2")
    assert all(modes == {True} for _, modes in spy.seen["step"])
    for epoch, (seen, modes) in enumerate(spy.seen["validation"]):
        assert modes == {False}
        for name, (y, z) in spy.seen["step"][4 * epoch + 3][0].items():
            x = (y - (1 - 0.9) * z) / 0.9  # y = 0.9 x + 0.1 z
            assert torch.allclose(seen[name][0], x, atol=1e-5), name
        y = spy.seen["step"][4 * epoch + 3][0]
        assert not all(torch.equal(seen[name][0], y[name][0]) for name in seen)
    kept = best(tmp_path)
    seen, _ = spy.seen["validation"][kept["epoch"]]
    assert all(torch.equal(value, seen[n][0]) for n, value in network_of(kept).items() if n in seen)
    assert {g["train_mode"] for g in kept["optimizer_states"][0]["param_groups"]} == {False}


@pytest.mark.slow
def test_without_validation_the_last_averaged_weights_are_kept(tmp_path):
    pytest.importorskip("schedulefree")
    run(tmp_path, "optimizer=schedulefree", "scheduler=constant", "data.val=0", "monitor=train/loss", "trainer.max_epochs=2")
    assert {g["train_mode"] for g in best(tmp_path)["optimizer_states"][0]["param_groups"]} == {False}


RECIPES = {
    "ema": ["ema=0.9", "trainer.accumulate_grad_batches=3"],
    "frozen": ["optimizer.freeze_encoder=1", "ema=0.9"],
    "always": ["optimizer.freeze_encoder=always", "trainer.accumulate_grad_batches=3"],
    "layers": ["optimizer.layer_decay=0.7", "optimizer=sgd", "scheduler=poly"],
    "schedulefree": ["optimizer=schedulefree", "scheduler=constant"],
    "schedulefree_sgd": [
        "optimizer=schedulefree_sgd",
        "optimizer.lr=0.1",
        "scheduler=constant",
        "+trainer.val_check_interval=2",
    ],
    "lamb": ["optimizer=lamb"],
}
POINTS = [("on_train_batch_start", n) for n in (3, 6)] + [("on_validation_start", 2), ("on_validation_batch_end", 1)]


def resumed(tmp_path, monkeypatch, name, points, *more):
    settings = [*RECIPES[name], *more]
    run(tmp_path / "whole", *settings)
    for i, (hook, n) in enumerate(points):
        with monkeypatch.context() as patch:
            At(patch, hook, n)
            with pytest.raises(Stopped):
                run(tmp_path / str(i), *settings)
        run(tmp_path / str(i), *settings, "resume=auto")
        equal_runs(tmp_path / "whole", tmp_path / str(i))


@pytest.mark.slow
def test_ended_within_a_validation_and_resumed(tmp_path, monkeypatch):
    resumed(tmp_path, monkeypatch, "schedulefree", [("on_validation_batch_end", 1)], "trainer.max_epochs=2")


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_ended_anywhere_and_resumed(tmp_path, monkeypatch, name):
    resumed(tmp_path, monkeypatch, name, POINTS)


def test_rates_of_layers_reach_the_optimizer():
    _, task = built("optimizer.layer_decay=0.5", "optimizer.encoder_lr=0.1", "optimizer=sgd", "scheduler=poly")
    optimizer = task.optimization.configure(task.network, 100)["optimizer"]
    rates = {g["name"]: g["initial_lr"] for g in optimizer.param_groups}
    assert {n: r for n, r in rates.items() if "no_decay" not in n} == pytest.approx(
        {"encoder/1": 0.1 / 16, "encoder/2": 0.1 / 8, "encoder/3": 0.1 / 4, "encoder/4": 0.1 / 2, "network": 0.01}
    )


def test_nothing_asked_for_nothing_added():
    assert recipe.callbacks(*built()) == []
    assert [type(c).__name__ for c in recipe.callbacks(*built("ema=0.9", "optimizer.freeze_encoder=always"))] == [
        "FreezeEncoder",
        "Ema",
    ]


def test_schedule_free_brings_its_schedule():
    assert load(["optimizer=schedulefree"]).scheduler._target_.endswith("Constant")
    assert load(["optimizer=schedulefree_sgd", "scheduler=poly"]).scheduler._target_.endswith("Poly")


LIGHTNINGS = "+callbacks.ema._target_=lightning.pytorch.callbacks.EMAWeightAveraging"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer.freeze_encoder=-1"], "freeze_encoder is -1"), (["optimizer.freeze_encoder=ever"], "freeze_encoder is ever"),
        (["ema=0.9", LIGHTNINGS], "callbacks.ema"),
        (["ema=0.9", "optimizer=schedulefree", "scheduler=constant"], "AdamWScheduleFree"),
        (["optimizer.freeze_encoder=1", "optimizer=schedulefree", "scheduler=constant"], "AdamWScheduleFree"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(overrides, words):
    with pytest.raises(ConfigError, match=words) as error:
        recipe.callbacks(*built(*overrides))
    assert "\n" not in str(error.value)


def test_a_network_without_encoder_cannot_freeze_it():
    with pytest.raises(ConfigError, match=r"freeze_encoder is set, but Conv2d has no encoder"):
        recipe.FreezeEncoder(torch.nn.Conv2d(3, 3, 1), 1)


def frozen_on_two(folder):
    """Of each process the sums of its encoder's weights at the start and after each epoch."""
    import torch.distributed as dist

    seen = []

    class Look(Callback):
        def on_fit_start(self, trainer, task):
            seen.append([p.detach().double().sum().item() for p in task.network.encoder.parameters()])

        def on_train_epoch_end(self, trainer, task):
            self.on_fit_start(trainer, task)

    before = recipe.callbacks
    recipe.callbacks = lambda config, task: [*before(config, task), Look()]
    run(Path(folder), "optimizer.freeze_encoder=1", "trainer.devices=2", "data.val=4", "ema=0.9")
    found = [None, None]
    dist.all_gather_object(found, seen)
    return found


@pytest.mark.slow
def test_two_processes_freeze_and_thaw_together(tmp_path, monkeypatch):
    here = Path(__file__).parent
    monkeypatch.setattr(sys, "path", [str(here), str(here.parent), *sys.path])
    one, two = supervise(frozen_on_two, {"folder": str(tmp_path / "run")}, 2)
    assert one == two  # gradients of a thawed encoder are averaged over both
    start, *epochs = one
    assert epochs[0] == start
    assert epochs[0] != epochs[1] != epochs[2]
