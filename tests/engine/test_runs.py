"""Whole small runs through the engine: the run folder, equality of evaluate, what a bad run leaves behind."""

from __future__ import annotations

import csv
import functools
import json
import os
import re

import cv2
import numpy as np
import pytest
import torch
from conftest import TINY

from seglab import checkpoint, results
from seglab.config import load, override, plain
from seglab.engine import assemble, evaluate, predict, running
from seglab.errors import CheckpointError, ConfigError, DataError, TrainingError


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One small finished run, shared by the tests that only read it."""
    from seglab.engine import fit

    run = tmp_path_factory.mktemp("shared") / "run"
    config = plain(
        load([*TINY, "trainer.max_epochs=3", "data.val=5", "optimizer.lr=5e-3", "trainer.log_every_n_steps=1", "logger=csv"])
    )
    score = fit(config, run, {"model": "tiny", "loss": "dice+ce", "data": "cells"}, ["model=tiny"])
    return run, score


def test_the_run_folder_holds_what_it_promises(done):
    run, score = done
    for name in (
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "metrics.csv",
        "results.json",
        "per_image.csv",
        "train.log",
        "logs/metrics.csv",
    ):
        assert (run / name).is_file(), name
    assert len(list((run / "predictions").glob("*.png"))) == 1
    found = results.read_results(run)
    assert found["status"] == "finished"
    assert found["score"] == score == found["metrics"]["val/iou"]
    assert found["choices"] == {"model": "tiny", "loss": "dice+ce", "data": "cells"}
    assert set(found["per_class"]) == {"val", "test"}
    assert list(found["per_class"]["test"]) == found["data"]["classes"] == ["background", "round", "spindle"]
    assert found["data"]["counts"] == {"train": 8, "val": 5, "test": 4}
    assert found["speed"]["train_images_per_s"] > 0
    assert found["speed"]["first_step_s"] > 0
    assert found["parameters"] == 28_355
    assert found["error"] is None
    assert "NaN" not in (run / "results.json").read_text()


def test_metrics_csv_has_one_row_an_epoch_and_the_best_is_the_score(done):
    run, score = done
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [int(r["epoch"]) for r in rows] == [0, 1, 2]
    assert {"lr", "train/loss", "train/loss/dice", "train/loss/ce", "val/loss", "val/iou"} <= set(rows[0])
    assert float(rows[-1]["train/loss"]) < float(rows[0]["train/loss"])
    assert max(float(r["val/iou"]) for r in rows) == pytest.approx(score, abs=1e-7)


def test_per_image_counts_add_up_to_the_headline(done):
    run, _ = done
    ids, classes, counts = results.read_per_image(run / "per_image.csv")
    assert ids == sorted(ids)
    tp, fp, fn = counts.sum(0).T
    found = results.read_results(run)
    assert (tp / (tp + fp + fn)).mean() == pytest.approx(found["metrics"]["test/iou"], abs=1e-12)
    assert [found["per_class"]["test"][c]["support"] for c in classes] == (tp + fn).tolist()


def test_evaluate_equals_the_runs_own_test_to_the_last_digit(done, tmp_path):
    run, _ = done
    saved = checkpoint.load(run / "checkpoints" / "best.ckpt")
    scores = evaluate(saved, saved.config, "test", tmp_path / "out", [])
    own = results.read_results(run)
    assert scores == {k: v for k, v in own["metrics"].items() if k.startswith("test/")}
    assert (tmp_path / "out" / "per_image.csv").read_bytes() == (run / "per_image.csv").read_bytes()
    # Another batch size changes no count: the network treats images one by one.
    again = evaluate(saved, override(saved.config, {"data.batch_size": 1}), "test", tmp_path / "one", [])
    assert again["test/iou"] == scores["test/iou"]


def test_two_runs_with_one_seed_are_one_run_and_another_seed_is_another(train):
    one, two, other = (train(f"seed={s}", folder=f"run{i}") for i, s in enumerate((4, 4, 5)))
    assert one["metrics"] == two["metrics"]
    assert (one["run"] / "metrics.csv").read_bytes() == (two["run"] / "metrics.csv").read_bytes()
    assert one["metrics"] != other["metrics"]
    a, b = (torch.load(r["run"] / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for r in (one, two))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_drawn_seed_is_recorded(train):
    assert isinstance(train("seed=null")["seed"], int)


def test_predict_writes_masks_at_the_original_size(done, tmp_path):
    run, _ = done
    saved = checkpoint.load(run / "checkpoints" / "best.ckpt")
    (tmp_path / "in" / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "in" / "a.png"), rng.integers(0, 255, (37, 53, 3), dtype=np.uint8))
    cv2.imwrite(str(tmp_path / "in" / "deep" / "b.jpg"), rng.integers(0, 255, (64, 20, 3), dtype=np.uint8))
    written = predict(saved, saved.config, tmp_path / "in", tmp_path / "out")
    assert [p.relative_to(tmp_path / "out").as_posix() for p in written] == ["masks/a.png", "masks/deep/b.png"]
    mask = cv2.imread(str(written[0]), cv2.IMREAD_UNCHANGED)
    assert (mask.shape, mask.dtype) == ((37, 53), np.uint8)
    assert mask.max() <= 2
    for folder in ("colors", "overlays"):
        assert cv2.imread(str(tmp_path / "out" / folder / "a.png")).shape == (37, 53, 3)


def test_predict_goes_on_past_a_broken_file_and_says_so(done, tmp_path):
    run, _ = done
    saved = checkpoint.load(run / "checkpoints" / "best.ckpt")
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "z.png"), np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 of 2 images were left out.*a\.png"):
        predict(saved, saved.config, tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / "masks" / "z.png").is_file()
    with pytest.raises(DataError, match="does not exist"):
        predict(saved, saved.config, tmp_path / "nowhere", tmp_path / "out")


def test_checkpoints_hold_plain_data_and_refuse_the_rest(done, tmp_path):
    run, _ = done
    path = run / "checkpoints" / "last.ckpt"
    data = torch.load(path, weights_only=True)
    assert json.loads(json.dumps(data["seglab"]["config"])) == data["seglab"]["config"]
    saved = checkpoint.load(path)
    assert saved.spec.classes == ("background", "round", "spindle")

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'hacked'}",)

    for name, content in {
        "evil.ckpt": {**data, "x": Evil()},
        "foreign.ckpt": {"state_dict": {}},
        "edited.ckpt": {**data, "seglab": {}},
    }.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(CheckpointError, match=re.escape(name)):
            checkpoint.load(tmp_path / name)
    (tmp_path / "short.ckpt").write_bytes(path.read_bytes()[:5000])
    for name in ("short.ckpt", "missing.ckpt", "."):
        with pytest.raises(CheckpointError):
            checkpoint.load(tmp_path / name)
    assert not (tmp_path / "hacked").exists()


def test_a_hostile_configuration_inside_a_checkpoint_does_not_run(done, tmp_path):
    run, _ = done
    data = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    data["seglab"]["config"]["model"] = {"_target_": "os.system", "command": f"touch {tmp_path / 'hacked'}"}
    torch.save(data, tmp_path / "evil.ckpt")
    saved = checkpoint.load(tmp_path / "evil.ckpt")
    with pytest.raises(ConfigError, match="not trusted"):
        evaluate(saved, saved.config, "test", tmp_path / "out", [])
    assert not (tmp_path / "hacked").exists()


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_images(train, tmp_path):
    with pytest.raises(TrainingError, match=r"The loss is (nan|inf) at step \d+, in the batch of train_0\d+.*best|kept"):
        train(
            "optimizer.lr=1e30",
            "trainer.max_epochs=4",
            "trainer.gradient_clip_val=null",
            "scheduler=constant",
            "scheduler.warmup=0",
        )
    found = results.read_results(tmp_path / "run")
    assert found["status"] == "failed"
    assert "The loss is" in found["error"]


def test_without_validation_images_the_last_weights_are_kept(train):
    found = train("data.val=0")
    assert found["score"] is None
    assert "test/iou" in found["metrics"]


def test_a_folder_holds_one_run(train):
    train()
    with pytest.raises(ConfigError, match="holds a run already"):
        train()


def test_early_stopping_and_plateau_follow_the_monitor(train):
    found = train("patience=1", "trainer.max_epochs=12", "optimizer.lr=0.0", "scheduler=plateau")
    rows = list(csv.DictReader((found["run"] / "metrics.csv").open()))
    assert len(rows) == 2


def test_plateau_waits_for_the_monitor_in_its_own_direction():
    for monitor, mode in (("val/iou", "max"), ("val/loss", "min")):
        config = plain(load([*TINY, "scheduler=plateau", f"monitor={monitor}"]))
        task = assemble.task(config, assemble.source(config).spec)
        made = task.optimization.make_scheduler(task.optimization.make_optimizer([{"params": list(task.parameters())}]), 10)
        assert (made["scheduler"].mode, made["frequency"]) == (mode, 1)


def test_the_training_loss_can_be_the_monitor(train):
    found = train("monitor=train/loss", "trainer.max_epochs=2")
    rows = list(csv.DictReader((found["run"] / "metrics.csv").open()))
    assert found["score"] == pytest.approx(min(float(r["train/loss"]) for r in rows), rel=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("scheduler", ["poly", "cosine", "constant", "plateau"])
def test_every_optimizer_runs_with_every_scheduler(train, optimizer, scheduler):
    overrides = [f"optimizer={optimizer}", f"scheduler={scheduler}", "trainer.fast_dev_run=true", "pictures=0", "test=false"]
    assert train(*overrides)["status"] == "finished"


def test_any_torch_optimizer_needs_no_glue(train):
    assert train("optimizer._target_=torch.optim.Adam", "trainer.fast_dev_run=true")["status"] == "finished"


def test_bf16_is_chosen_only_where_the_hardware_has_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert running.precision("auto", "cpu") in ("bf16-mixed", "32-true")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert running.precision("auto", "cpu") == "32-true"
    assert running.precision("16-mixed", "cpu") == "16-mixed"


def test_last_is_the_last_epoch_and_best_the_best(train):
    found = train("trainer.max_epochs=3", "optimizer.lr=0.0", "scheduler=constant")  # nothing improves after the first
    epochs = {n: checkpoint.load(found["run"] / "checkpoints" / f"{n}.ckpt").epoch for n in ("best", "last")}
    assert epochs == {"best": 0, "last": 3}  # epochs done: best.ckpt is written within its epoch


@pytest.mark.parametrize(
    ("overrides", "scored"),
    [(["trainer.limit_val_batches=0"], {"test"}), (["trainer.limit_test_batches=0"], {"val"}), (["data.test=0"], {"val"})],
)
def test_what_is_switched_off_is_left_out_not_fatal(train, overrides, scored):
    found = train(*overrides)
    assert {k.split("/")[0] for k in found["metrics"]} == scored
    assert (found["score"] is None) == ("val" not in scored)


def test_a_class_can_be_the_monitor_and_has_a_curve(train):
    found = train("monitor=val/iou/background", "trainer.max_epochs=2")
    rows = list(csv.DictReader((found["run"] / "metrics.csv").open()))
    assert found["score"] == pytest.approx(max(float(r["val/iou/background"]) for r in rows), abs=1e-6)


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "64-true"])
def test_other_precisions_run(train, precision):
    assert train(f"trainer.precision={precision}", "trainer.fast_dev_run=true")["status"] == "finished"


def test_wandb_gets_the_users_settings_and_is_closed(train, monkeypatch):
    import wandb

    seen = {}
    real = wandb.init

    @functools.wraps(real)
    def init(**settings):
        seen.update(settings)
        return real(**settings)

    monkeypatch.setattr(wandb, "init", init)
    node = ["logger=wandb", "logger.mode=offline", "logger.group=mine", "logger.tags=[a]", "+logger.notes=hello"]
    train(*node)
    assert (seen["group"], seen["tags"], seen["notes"], seen["project"]) == ("mine", ["a"], "hello", "seglab")
    assert wandb.run is None


def test_wandb_shows_a_sweep_without_a_click(train, monkeypatch):
    import wandb

    seen, real = {}, wandb.init

    @functools.wraps(real)
    def init(**settings):
        seen.update(settings)
        seen["run"] = real(**settings)
        return seen["run"]

    finish = wandb.Run.finish

    def finishing(run, **settings):
        seen["summary"] = dict(run.summary)  # gone afterwards
        finish(run, **settings)

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb.Run, "finish", finishing)
    told = {"sweep": "2026-01-02/03-04-05", "number": 7, "axes": {"loss": "0.5*dice+ce", "optimizer.lr": "0.01"}}
    monkeypatch.setenv("SEGLAB_TRIAL", json.dumps(told))
    found = train("logger=wandb", "logger.mode=offline", "logger.tags=[mine]")
    assert (seen["group"], seen["job_type"]) == ("2026-01-02/03-04-05", "trial")
    assert seen["name"] == "7 loss=0.5*dice+ce optimizer.lr=0.01"
    assert seen["tags"] == ["mine", "loss=0.5*dice+ce", "optimizer.lr=0.01"]
    assert seen["run"].config["choices"]["data"] == "cells"
    assert (seen["summary"]["score"], seen["summary"]["monitor"]) == (found["score"], "val/iou")


@pytest.mark.parametrize("mode", ["binary", "multilabel"])
def test_folders_of_other_modes_go_all_the_way(tmp_path, mode):
    from seglab.engine import fit

    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for i in range(3):
            for kind in ("images", "masks"):
                (tmp_path / "set" / split / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(
                str(tmp_path / "set" / split / "images" / f"{i}.png"), rng.integers(0, 2**16, (40, 30 + i), dtype=np.uint16)
            )
            mask = rng.integers(0, 2, (40, 30 + i, 3) if mode == "multilabel" else (40, 30 + i), dtype=np.uint8) * 255
            cv2.imwrite(str(tmp_path / "set" / split / "masks" / f"{i}.png"), mask)
    more = ["data.mode=multilabel", "data.classes=[a,b,c]"] if mode == "multilabel" else []
    small = [o for o in TINY if not o.startswith(("data.size", "data.train", "data.val", "data.test"))]
    config = plain(load([*small, "data=folder", f"data.root={tmp_path / 'set'}", "data.scale=0.5", "data.crop=[16,16]", *more]))
    fit(config, tmp_path / "run", {}, [])
    saved = checkpoint.load(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert saved.spec.mode == mode
    scores = evaluate(saved, saved.config, "test", tmp_path / "again", [])
    assert scores == {k: v for k, v in results.read_results(tmp_path / "run")["metrics"].items() if k.startswith("test/")}
    written = predict(saved, saved.config, tmp_path / "set" / "test" / "images", tmp_path / "out")
    assert cv2.imread(str(written[1]), cv2.IMREAD_UNCHANGED).shape == (40, 31)


def test_the_loss_of_an_auxiliary_head_cannot_be_watched_in_validation(train):
    with pytest.raises(ConfigError, match=r"monitor=val/loss/aux/stem: no such value is logged"):
        train("model=bisenetv2", "model.head_width=8", "monitor=val/loss/aux/stem")


@pytest.mark.slow
def test_a_compiled_run_leaves_checkpoints_that_load_without_it(train, tmp_path):
    found = train("compile=true", "ema=0.9", "trainer.max_epochs=2")
    saved = checkpoint.load(found["run"] / "checkpoints" / "best.ckpt")
    assert not [name for name in saved.state if "_orig_mod" in name]
    again = evaluate(saved, override(saved.config, {"compile": False}), "test", tmp_path / "again", [])
    assert again == pytest.approx({k: v for k, v in found["metrics"].items() if k.startswith("test/")}, abs=1e-3)
