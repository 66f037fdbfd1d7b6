"""A run that is ended anywhere and resumed equals one that was never ended: every tensor, every number."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
import torch
from conftest import TINY, TINY_RCNN
from omegaconf import OmegaConf

from seglab import results
from seglab.config import conf_dir, load, plain
from seglab.config.identity import INERT, NEW, identity
from seglab.engine import fit
from seglab.engine.journal import claim, console, journal
from seglab.engine.keeping import Keep
from seglab.errors import CheckpointError, ConfigError, DataError, Stopped

SETTINGS = [
    *TINY, "data.train=20", "data.val=6", "data.batch_size=4", "trainer.max_epochs=3", "trainer.accumulate_grad_batches=2",
    "keep.every_minutes=null", "pictures=0", "augment=medium", "trainer.log_every_n_steps=1",
    "+callbacks.ema._target_=lightning.pytorch.callbacks.EMAWeightAveraging", "+callbacks.ema.decay=0.9",
]  # fmt: skip
CHOICES = {"model": "tiny", "loss": "dice+ce", "data": "cells"}


def run(folder, *overrides):
    return fit(plain(load([*SETTINGS, *overrides])), folder, CHOICES, [*SETTINGS, *overrides])


def same(a, b, where=""):
    """Both trees hold the same values; what takes time may differ."""
    if isinstance(a, dict):
        if any("/" in str(key) for key in a):  # paths of the two run folders
            return
        assert a.keys() == b.keys(), where
        for key in a:
            if key not in ("seconds", "waited", "first_step", "images"):  # of the clock
                same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}.{i}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif not (isinstance(a, str) and ("/" in a)):
        assert a == b, where


def equal_runs(one, other):
    for name in ("last", "best"):
        a, b = (torch.load(r / "checkpoints" / f"{name}.ckpt", weights_only=True) for r in (one, other))
        for key in (
            "state_dict",
            "current_model_state",
            "averaging_state",
            "optimizer_states",
            "lr_schedulers",
            "epoch",
            "global_step",
        ):
            assert (key in a) == (key in b)
            same(a.get(key, {}), b.get(key, {}), f"{name}.{key}")
        same(a["callbacks"], {k: v for k, v in b["callbacks"].items()}, f"{name}.callbacks")
    same(*(torch.load(r / "checkpoints" / "last.ckpt", weights_only=True)["exact"] for r in (one, other)), "exact")
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    assert (one / "ledger.csv").read_bytes() == (other / "ledger.csv").read_bytes()
    assert (one / "per_image.csv").read_bytes() == (other / "per_image.csv").read_bytes()
    a, b = results.read_results(one), results.read_results(other)
    assert a["metrics"] == b["metrics"]
    assert a["score"] == b["score"]
    assert a["status"] == b["status"] == "finished"


class At:
    """Sends a signal to this process when a hook of Keep is called for the n-th time."""

    def __init__(self, monkeypatch, hook, n, number=signal.SIGTERM):
        self.left = n
        before = getattr(Keep, hook)

        def called(keep, trainer, *rest):
            self.left -= not trainer.sanity_checking
            if self.left == 0 and not trainer.sanity_checking:
                os.kill(os.getpid(), number)
            return before(keep, trainer, *rest)

        monkeypatch.setattr(Keep, hook, called)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    return folder


@pytest.mark.parametrize(
    ("hook", "n"),
    [
        *(("on_train_batch_start", n) for n in (6, 15)),  # 5 batches an epoch, so 6 and 11 begin one
        ("on_validation_start", 1),
        ("on_validation_batch_end", 2),
        ("on_train_end", 1),
        *(pytest.param("on_train_batch_start", n, marks=pytest.mark.slow) for n in (2, 3, 5, 7, 11)),
        pytest.param("on_validation_start", 3, marks=pytest.mark.slow),
        *(pytest.param("on_validation_batch_end", n, marks=pytest.mark.slow) for n in (1, 4)),
    ],
)
def test_ended_by_a_signal_and_resumed(whole, tmp_path, monkeypatch, hook, n):
    with monkeypatch.context() as patch:
        At(patch, hook, n)
        with pytest.raises(Stopped) as stopped:
            run(tmp_path / "run")
    assert stopped.value.exit_code == 143
    assert results.read_results(tmp_path / "run")["status"] == "interrupted"
    run(tmp_path / "run", "resume=auto")
    equal_runs(whole, tmp_path / "run")


VARIANTS = {
    "plateau": ["scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.05"],
    "several validations an epoch": ["+trainer.val_check_interval=2"],
    "steps instead of epochs": ["trainer.max_epochs=null", "+trainer.max_steps=7"],
    "early stopping": ["patience=1", "trainer.max_epochs=6", "optimizer.lr=1e-6"],
    "rare validation": ["trainer.check_val_every_n_epoch=2"],
    "no validation": ["data.val=0", "monitor=train/loss"],
    "no accumulation": ["trainer.accumulate_grad_batches=1"],
    "three at a time": ["trainer.accumulate_grad_batches=3"],
    "objects, whose proposals are drawn": [*TINY_RCNN, "mix=copypaste", "model.freeze_norms=true"],
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_run(tmp_path, monkeypatch, variant):
    run(tmp_path / "whole", *VARIANTS[variant])
    points = [("on_train_batch_start", n) for n in (4, 5, 6, 10)] + [("on_validation_batch_end", n) for n in (1, 3)]
    for i, (hook, n) in enumerate(points):
        with monkeypatch.context() as patch:
            At(patch, hook, n)
            try:
                run(tmp_path / str(i), *VARIANTS[variant])
            except Stopped:
                run(tmp_path / str(i), *VARIANTS[variant], "resume=auto")
        equal_runs(tmp_path / "whole", tmp_path / str(i))


@pytest.mark.slow
def test_dropout_goes_on_in_its_stream(tmp_path, monkeypatch):
    """fpn has dropout; its random states, and those of numpy and python, are part of the state."""
    settings = ["model=fpn", "model.encoder=resnet18", "trainer.max_epochs=1", "data.num_workers=1", "~callbacks.ema"]
    run(tmp_path / "whole", *settings)
    At(monkeypatch, "on_train_batch_start", 4, signal.SIGUSR1)
    with pytest.raises(Stopped) as stopped:
        run(tmp_path / "run", *settings)
    assert stopped.value.exit_code == 128 + signal.SIGUSR1
    run(tmp_path / "run", *settings, "resume=auto")
    equal_runs(tmp_path / "whole", tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["exact"]["ranks"][0]
    assert state.keys() == {"python", "numpy", "torch", "cuda", "sums", "ledger", "gradients", "buffers"}


@pytest.mark.slow
def test_signals_before_and_after_training_end_the_run_at_once(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    At(monkeypatch, "on_fit_start", 1, signal.SIGINT)
    with pytest.raises(Stopped, match=r"ended by SIGINT") as stopped:
        run(tmp_path / "run")
    assert stopped.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert run(tmp_path / "run", "resume=auto") is not None  # nothing to go on from: it starts anew
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").with_suffix(".tmp").exists()


@pytest.mark.slow
def test_kept_by_steps_and_by_the_clock(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(
        Keep,
        "_save",
        lambda keep, trainer, task, point: (
            saved.append((trainer.global_step, point))
            or setattr(keep, "_saved_step", trainer.global_step)
            or setattr(keep, "_saved_epoch", trainer.current_epoch)
        ),
    )
    run(tmp_path / "a", "trainer.accumulate_grad_batches=1", "keep.every_steps=2", "trainer.max_epochs=2")
    assert saved == [(2, "batch"), (4, "batch"), (5, "batch"), (7, "batch"), (9, "batch"), (10, "end")]
    saved.clear()
    run(tmp_path / "b", "keep.every_minutes=1e-9", "trainer.max_epochs=1")
    assert [point for _, point in saved] == ["batch"] * 5 + ["validation", "end"]


@pytest.mark.slow
def test_more_epochs_and_a_finished_run(tmp_path, capsys):
    short = ["scheduler=constant", "patience=null"]
    run(tmp_path / "whole", *short)
    run(tmp_path / "run", *short, "trainer.max_epochs=2")
    before = (tmp_path / "run" / "results.json").stat().st_mtime_ns
    assert run(tmp_path / "run", *short, "trainer.max_epochs=2", "resume=auto") is not None
    assert "has finished" in capsys.readouterr().out
    assert (tmp_path / "run" / "results.json").stat().st_mtime_ns == before
    run(tmp_path / "run", *short, "resume=auto")
    assert "resumed with trainer.max_epochs 2 -> 3" in capsys.readouterr().out
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()


def test_every_key_of_the_loader_that_came_later_is_known_to_change_nothing():
    first = {"batch_size", "num_workers", "scale", "crop"}
    keys = plain(load(["data=cells"]))["data"]
    loader = OmegaConf.load(conf_dir() / "loader" / "default.yaml")
    later = {f"data.{key}": keys[key] for key in loader if key not in first}
    assert later == {key: value for key, value in INERT.items() if key.startswith("data.")}


def test_a_job_from_before_a_setting_was_there_is_known_again():
    config = plain(load(["data=cells"]))
    older = {**config, "data": {k: v for k, v in config["data"].items() if f"data.{k}" not in NEW}}
    assert older != config
    assert identity(older, {}) == identity(config, {})
    assert identity({**config, "data": {**config["data"], "sampling": {"rare": 0.3}}}, {}) != identity(config, {})


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer.lr=0.5"], r"optimizer.lr 0.001 -> 0.5"), (["trainer.max_epochs=2"], "max_epochs 3 -> 2"),
        (["loss=ce"], r"loss.dice"), (["data.batch_size=2"], "batch_size 4 -> 2"), (["trainer.precision=bf16-mixed"], "precision"),
    ],
)  # fmt: skip
def test_other_settings_are_refused(whole, overrides, words):
    with pytest.raises(ConfigError, match=words):
        run(whole, *overrides, "resume=auto")
    assert results.read_results(whole)["status"] == "finished"  # the run that is there stays untouched
    with pytest.raises(ConfigError, match=words):
        fit(plain(load([f"resume={whole}"])), whole, CHOICES, [*overrides, f"resume={whole}"])


def test_resume_by_folder_needs_no_other_setting(tmp_path, whole, monkeypatch):
    with monkeypatch.context() as patch:
        At(patch, "on_train_batch_start", 8)
        with pytest.raises(Stopped, match=r"epoch 2, step 4; go on with: python -m seglab.train resume="):
            run(tmp_path / "run")
    moved = (tmp_path / "run").rename(tmp_path / "moved elsewhere")
    fit(plain(load([f"resume='{moved}'"])), moved, {}, [f"resume='{moved}'"])
    equal_runs(whole, moved)
    assert results.read_results(moved)["choices"] == CHOICES


def test_data_that_changed_are_refused(tmp_path, whole, monkeypatch):
    from seglab.data.cells import Cells

    before = (whole / "results.json").read_bytes()
    monkeypatch.setattr(Cells, "fingerprint", lambda self: "another")
    with pytest.raises(DataError, match=r"has changed since"):
        run(whole, "resume=auto", "trainer.max_epochs=4")
    assert (whole / "results.json").read_bytes() == before  # of the run that is there


def test_best_is_no_last(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "run")
    shutil.copy(whole / "checkpoints" / "best.ckpt", tmp_path / "run" / "checkpoints" / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"no last\.ckpt"):
        run(tmp_path / "run", "resume=auto")


@pytest.mark.slow
def test_a_changed_setting_is_one_of_the_runs_from_then_on(tmp_path):
    folder = tmp_path / "run"
    run(folder, "trainer.max_epochs=1")
    (folder / ".hydra").mkdir()
    fit(plain(load([f"resume={folder}"])), folder, {}, [f"resume={folder}", "trainer.max_epochs=2"])
    assert results.read_results(folder)["overrides"][-1] == "trainer.max_epochs=2"
    assert "max_epochs: 2" in (folder / ".hydra" / "config.yaml").read_text()
    with pytest.raises(ConfigError, match=r"max_epochs 2 -> 1"):
        fit(plain(load([f"resume={folder}"])), folder, {}, [f"resume={folder}", "trainer.max_epochs=1"])


def test_two_processes_do_not_write_into_one_folder(tmp_path):
    folder = tmp_path / "run"
    with journal(claim(folder), console()), pytest.raises(ConfigError, match=r"another process"):
        run(folder, "resume=auto")


def test_nothing_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match=r"before its first checkpoint"):
        fit(plain(load([f"resume={tmp_path}"])), tmp_path, {}, [])


@pytest.mark.slow
def test_weights_and_biases_sees_one_run(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        At(patch, "on_train_batch_start", 8)
        with pytest.raises(Stopped):
            run(tmp_path / "run", "logger=wandb", "logger.mode=offline")
    run(tmp_path / "run", "logger=wandb", "logger.mode=offline", "resume=auto")
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert len({f.name for f in files}) == 1  # named by the run's id
    first, second = (list(history(f)) for f in files)
    assert [n for n, _ in first + second] == list(range(len(first) + len(second)))
    steps = [step for _, step in first + second if step is not None]
    assert steps == list(range(1, 10))  # 3 optimizer steps an epoch, logged once each


def history(path):
    """(number, trainer/global_step of a training step) of each line in an offline log, whose framing is LevelDB's."""
    from wandb.proto import wandb_internal_pb2 as proto

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # a block's end is padded
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        part, at = data[at + 7 : at + 7 + length], at + 7 + length
        whole = part if kind in (1, 2) else whole + part
        if kind in (1, 4):
            record = proto.Record.FromString(whole)
            if record.HasField("history"):
                items = {i.key or "/".join(i.nested_key): i.value_json for i in record.history.item}
                yield record.history.step.num, int(items["trainer/global_step"]) if "train/loss_step" in items else None


def test_the_score_that_was_seen_last_is_remembered(tmp_path):
    """A run that is ended after its last validation writes last.ckpt again without another one."""
    from seglab.engine.keeping import Best

    one, other = (Best(tmp_path, "best", monitor="val/iou", mode="max") for _ in range(2))
    one.current_score, one.best_model_score = torch.tensor(0.25), torch.tensor(0.5)
    other.load_state_dict(one.state_dict())
    assert other.state_dict() == one.state_dict()
