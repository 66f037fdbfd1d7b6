"""tune: the range test finds the rate of a problem whose rate is known; the largest batch is the largest that fits."""

from __future__ import annotations

import csv
import re
import shlex
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from conftest import TINY, TINY_RCNN
from rich.console import Console
from torch import nn

from seglab import tune
from seglab.config import load
from seglab.engine import largest_batch, tuning
from seglab.engine.largest_batch import Trial, _on_cpu, _on_gpu
from seglab.engine.lr_range import Curve, Sweep
from seglab.errors import ConfigError, SeglabError, TrainingError

ARGUMENTS = [a for a in TINY if not a.startswith(("trainer.max_epochs", "logger", "pictures"))]
CURVATURE = 10.0  # gradient descent on 10/2 |w|^2 is best at a rate of 1/10 and diverges above 2/10


class Quadratic(pl.LightningModule):
    """|w|^2 times half the curvature; the second group, if any, learns at a tenth of the rate."""

    def __init__(self, groups=1, nan_at=None):
        super().__init__()
        self.w = nn.ParameterList([nn.Parameter(torch.ones(5)) for _ in range(groups)])
        self.nan_at, self.seen = nan_at, []

    def training_step(self, batch, index):
        self.seen.append([g["lr"] for g in self.optimizers().param_groups])
        loss = CURVATURE / 2 * sum((w**2).sum() for w in self.w)
        return loss * float("nan") if self.global_step == self.nan_at else loss

    def configure_optimizers(self):
        rates = (0.5, 0.05)
        return torch.optim.SGD([{"params": [w], "lr": rate} for w, rate in zip(self.w, rates, strict=False)], lr=0.5)


def sweep(module, steps=100, low=1e-7, high=10.0, **settings):
    curve = Curve(np.geomspace(low, high, steps))
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    callbacks = [Sweep(curve, Console(quiet=True))]
    trainer = pl.Trainer(**quiet, **settings, max_steps=steps, max_epochs=-1, accelerator="cpu", callbacks=callbacks)
    trainer.fit(module, torch.utils.data.DataLoader(torch.zeros(7)))
    return curve


def descend(rate, steps=150):
    w = 1.0
    for _ in range(steps):
        w -= rate * CURVATURE * w
    return abs(w)


def test_the_suggested_rate_trains_and_a_hundred_times_it_diverges():
    curve = sweep(Quadratic())
    rate = curve.rates[curve.chosen]
    assert 2e-3 < rate < 0.2
    assert rate <= curve.rates[curve.lowest] / 10
    assert descend(rate) < 0.1
    assert descend(100 * rate) > 1e6
    assert curve.end == "the loss diverged"
    assert len(curve.losses) < 100
    assert 0.1 < curve.rates[len(curve.losses) - 1] < 10


def test_groups_keep_their_ratio_and_the_rate_follows_optimizer_steps():
    module = Quadratic(groups=2)
    curve = sweep(module, steps=30, high=1e-2, accumulate_grad_batches=2)
    first, second = np.array(module.seen).T
    batches = np.resize([2, 2, 2, 1], 30)  # of the 7 of an epoch, the last makes a step by itself
    assert first == pytest.approx(np.geomspace(1e-7, 1e-2, 30).repeat(batches))
    assert second == pytest.approx(first / 10)
    assert len(curve.losses) == 30
    assert curve.losses[:8] == pytest.approx([CURVATURE / 2 * 10] * 8, rel=1e-3)
    assert curve.end == "the whole range was swept"


def test_a_loss_that_is_not_finite_ends_the_sweep():
    curve = sweep(Quadratic(nan_at=20), high=1e-3)
    assert curve.end == "the loss was no longer finite"
    assert len(curve.losses) == 20


def test_nothing_is_suggested_where_nothing_falls():
    rng = np.random.default_rng(0)
    assert Curve(np.geomspace(1e-7, 1, 60), (1 + rng.normal(0, 0.1, 60)).tolist()).chosen is None
    assert Curve(np.geomspace(1e-7, 1, 60), np.linspace(1, 3, 60).tolist()).chosen is None
    assert Curve(np.geomspace(1e-7, 1, 60), [1.0, 0.5]).chosen is None


def test_the_average_does_not_move_the_curve_nor_feel_an_explosion():
    rates = np.geomspace(1e-7, 1, 101)
    step = np.where(np.arange(101) < 50, 2.0, 1.0)
    smooth = Curve(rates, step.tolist()).smooth
    assert int(np.argmax(smooth < 1.5)) == 50, "half of the fall stays where it is"
    broken = step.copy()
    broken[-3:] = 1e12
    assert Curve(rates, broken.tolist()).smooth[:80] == pytest.approx(smooth[:80], abs=0.01)
    assert Curve(rates, broken.tolist()).lowest < 95


def test_the_lr_door(tmp_path, capsys):
    folder = tmp_path / "out"
    tune.run(["lr", *ARGUMENTS, "model=tiny", "optimizer.lr=5", "steps=12", "max=0.5", f"output={folder}"])
    said = capsys.readouterr().out
    assert sorted(p.name for p in folder.iterdir()) == ["lr.csv", "lr.png", "train.log"], "no weights are kept"
    rows = list(csv.DictReader((folder / "lr.csv").open()))
    assert (len(rows), float(rows[0]["lr"]), float(rows[-1]["lr"])) == (12, 1e-7, pytest.approx(0.5))
    assert re.search(r"network/no_decay +\d+ +5 +1 +0 +-", said)
    if "Suggested" in said:
        [command] = re.findall(r"python -m seglab\.train (.*)", said)
        config = load(shlex.split(command))
        assert 0 < config.optimizer.lr <= 0.05
        assert config.data.size == 48
    with pytest.raises(ConfigError, match="holds a run already"):
        tune.run(["lr", *ARGUMENTS, "steps=12", f"output={folder}"])


def test_the_batch_door(tmp_path, capsys):
    tune.run(["batch", *ARGUMENTS, "data.crop=[32,32]", f"output={tmp_path / 'out'}"])
    said = capsys.readouterr().out
    sizes = [int(n) for n in re.findall(r"^ +(\d+) +[\d.]+ GiB +[\d.]+ *$", said, re.M)]
    assert sizes == [1, 2, 4, 8][: len(sizes)]
    [command] = re.findall(r"python -m seglab\.train (.*)", said)
    config = load(shlex.split(command))
    assert config.data.batch_size in sizes
    assert command.count("data.batch_size") == 1
    assert "images of 32x32" in said


@pytest.mark.parametrize("fits", [0, 1, 2, 7, 16, 37, 1000])
def test_the_largest_batch_on_a_gpu(monkeypatch, fits):
    shares, tried = [], []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: shares.append(share))

    def attempt(size):
        tried.append(size)
        return Trial(size, size if size <= fits else None, 1.0)

    trials = _on_gpu(attempt, 160, torch.device("cpu"))
    best = max((t.size for t in trials if t.memory is not None), default=0)
    assert best <= fits
    assert min(fits, 160) - best <= best // 8
    assert len(set(tried)) == len(tried) <= 13
    assert shares == [0.9, 1.0]
    assert [t.size for t in trials] == sorted(tried)


def test_the_batch_on_a_cpu_stops_where_memory_ends_or_speed(monkeypatch):
    def attempt(size):
        return Trial(size, size * 100, min(size, 8) * 1.0)

    monkeypatch.setattr(largest_batch, "_available", lambda: 500)
    assert [t.size for t in _on_cpu(attempt, 160)] == [1, 2, 4], "8 would take 800"
    monkeypatch.setattr(largest_batch, "_available", lambda: None)
    assert [t.size for t in _on_cpu(attempt, 160)] == [1, 2, 4, 8, 16, 32]
    assert largest_batch._fastest(_on_cpu(attempt, 160)).size == 8
    assert [t.size for t in _on_cpu(attempt, 5)] == [1, 2, 4, 5]


def test_not_even_one_image(monkeypatch, tmp_path):
    monkeypatch.setattr(pl.Trainer, "fit", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(TrainingError, match=r"Not even one image of 48x48 fits; lower data\.crop"):
        tune.run(["batch", *ARGUMENTS, "data.crop=null", f"output={tmp_path / 'batch'}"])
    with pytest.raises(TrainingError, match=r"data\.batch_size=4 does not fit"):
        tune.run(["lr", *ARGUMENTS, f"output={tmp_path / 'lr'}"])


def test_the_table_of_groups():
    network = nn.Sequential()
    network.encoder, network.head = nn.Linear(3, 4), nn.Linear(4, 2)
    network.head.bias.requires_grad_(False)
    parts = [
        {"params": [network.encoder.weight, network.encoder.bias], "lr": 1e-4, "name": "encoder"},
        {"params": [network.head.weight], "name": "network", "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(parts, lr=1e-3, weight_decay=0.05)
    out = Console(width=120, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    out.print(tuning.groups(SimpleNamespace(network=network), optimizer, 3))
    said = out.export_text()
    assert re.search(r"encoder +16 +0.0001 +0.1 +0.05 +3 epochs", said)
    assert re.search(r"network +8 +0.001 +1 +0 +-", said)
    assert re.search(r"in no group +2 .* always", said)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rate"], "the first word is lr or batch"), (["lr", "steps=3"], "at least 10 steps"), (["lr", "min=1", "max=0.1"], "0 < min < max"),
        (["lr", "optimizer.lr=0"], r"optimizer\.lr is 0"), (["lr", "modell=unet"], "modell"), (["batch", "steps=5"], "steps"),
        (["lr", "steps=many"], "steps"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SeglabError, match=says) as caught:
        tune.run(arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_both_doors_take_a_detector(tmp_path, capsys):
    given = [a for a in ARGUMENTS if not a.startswith("model=")] + TINY_RCNN
    tune.run(["lr", *given, "steps=10", "max=0.01", f"output={tmp_path / 'lr'}"])
    assert len((tmp_path / "lr" / "lr.csv").read_text().splitlines()) == 11
    tune.run(["batch", *given, "data.train=2", f"output={tmp_path / 'batch'}"])
    assert re.search(r"On this CPU [12] images of 128x128 per step", capsys.readouterr().out)
