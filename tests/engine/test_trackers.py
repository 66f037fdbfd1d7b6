"""What a run tells Weights & Biases: the summary follows the kept weights, the end is told truly, nothing comes after it."""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from seglab.engine import trackers, wandb_page
from seglab.engine.tracking import Trackers
from seglab.errors import ConfigError, Ended, Stopped
from seglab.weights_and_biases import check_project, has_key, is_offline, staged

KEYS = ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DATA_DIR")


class Page:
    """A W&B run that remembers what it was told, and takes nothing after its end."""

    def __init__(self, folder="/nowhere/run"):
        self.dir, self.step, self.logged, self.defined, self.code = f"{folder}/files", 0, [], {}, None
        self.values = {}
        self.summary = SimpleNamespace(update=self._told)

    def _told(self, values):
        assert self.code is None
        self.values |= values

    def log(self, values, step=None):
        assert self.code is None
        self.logged.append((values, os.environ.get("WANDB_DATA_DIR")))

    def define_metric(self, name, **settings):
        assert "*" not in name[:-1], "W&B refuses such a name"
        self.defined[name] = settings

    def finish(self, exit_code):
        assert self.code is None
        self.code = exit_code


@pytest.fixture
def page():
    return Page()


@pytest.fixture
def made(page):
    return [WandbLogger(experiment=page)]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def trainer(loggers, monitor, mode, fn="fit"):
    chosen = SimpleNamespace(monitor=monitor, mode=mode)
    return SimpleNamespace(
        loggers=loggers, checkpoint_callback=chosen, current_epoch=0, sanity_checking=False, state=SimpleNamespace(fn=fn)
    )


def task(val, train):
    means = {k: SimpleNamespace(item=lambda v=v: v) for k, v in train.items()}
    return SimpleNamespace(scores={"val": val}, class_scores={"val": {}}, train_means=lambda: means)


SCORES = st.lists(st.tuples(*[st.sampled_from([0.1, 0.2, 0.3, 0.4, float("nan")])] * 3), min_size=1, max_size=6)


@settings(deadline=None)
@hypothesis.given(
    SCORES, st.sampled_from([("val/iou", "max"), ("val/loss", "min"), ("train/loss", "min"), (None, "max")]), st.integers(0, 5)
)
def test_the_summary_is_of_the_epoch_whose_weights_are_kept(epochs, watched, killed):
    """Whatever is watched; and a run that was ended between two epochs and resumed says the same."""
    monitor, mode = watched
    page, callback = Page(), Trackers()
    at, kept = trainer([WandbLogger(experiment=page)], monitor, mode), None
    for n, (iou, loss, train) in enumerate(epochs):
        values = {"val/iou": iou, "val/loss": loss, "train/loss": train}
        at.current_epoch = n
        callback.on_train_epoch_start(at, None)
        callback.on_validation_end(at, task({k: v for k, v in values.items() if k[:3] == "val"}, {}))
        if n == killed:
            state, callback = callback.state_dict(), Trackers()
            callback.load_state_dict(state)
        callback.on_train_epoch_end(at, task({}, {"train/loss": train}))
        old = None if kept is None or monitor is None else epochs[kept][list(values).index(monitor)]
        new = None if monitor is None else values[monitor]
        worst = -np.inf if mode == "max" else np.inf  # what Lightning takes a NaN for
        old, new = (worst if v is not None and np.isnan(v) else v for v in (old, new))
        if old is None or new is None or (new > old if mode == "max" else new < old):
            kept = n
    shown = [page.values[key] for key in ("val/iou", "val/loss", "train/loss")]
    assert np.array_equal(shown, epochs[kept], equal_nan=True)
    assert page.values.get("best_epoch") == (None if monitor is None else kept)


def test_scoring_the_kept_weights_is_no_further_epoch_of_a_chart(made, tmp_path):
    csv, callback = CSVLogger(tmp_path), Trackers()
    at = trainer([*made, csv], "val/iou", "max", fn="validate")
    for begin, end in (("on_validation_start", "on_validation_end"), ("on_test_start", "on_test_end")):
        getattr(callback, begin)(at, None)
        assert at.loggers == [csv]
        getattr(callback, end)(at, None)
        assert at.loggers == [*made, csv]
    at.state.fn = "fit"
    callback.on_validation_start(at, None)
    assert at.loggers == [*made, csv]


def test_values_of_an_epoch_are_drawn_over_epochs_and_have_no_summary_of_w_and_bs_own(made, page):
    means = {p: SimpleNamespace(names=("loss", "loss/dice")) for p in ("train", "val")}
    metric = SimpleNamespace(names=("iou",))
    spec = SimpleNamespace(classes=("car", "a*b", "v1.5"))
    wandb_page.define_axes(
        made, SimpleNamespace(metrics=lambda phase: {"a": metric, "b": object()}, means=means.get, spec=spec)
    )
    epochs = {name for name, how in page.defined.items() if how == {"step_metric": "epoch", "summary": "none"}}
    losses = {f"{p}/{n}" for p in ("train", "val") for n in ("loss", "loss/dice")}
    assert epochs == {"val/iou", "val/iou/car", "val/iou/v1.5", *losses}
    assert {page.defined[name]["step_metric"] for name in ("lr", "train/loss_step")} == {"trainer/global_step"}


def test_the_end_of_a_run_tells_what_a_person_wants_first(made, page):
    content = {
        "score": 0.5, "monitor": "val/iou", "parameters": 7, "seconds": 3.0, "speed": {"train_images_per_s": 9.0, "first_step_s": None},
        "metrics": {"val/iou": 0.5, "test/iou": 0.4},
        "per_class": {"test": {"sky": {"iou": 0.25, "dice": 0.4}, "car": {"dice": 0.1, "ap": 0.3}}},
    }  # fmt: skip
    pictures = [(f"image {n}", np.zeros((4, 4, 3), np.uint8)) for n in range(20)]
    trackers.report(made, content, pictures)
    assert page.values == {
        "score": 0.5, "monitor": "val/iou", "parameters": 7, "seconds": 3.0, "train_images_per_s": 9.0, "val/iou": 0.5,
        "test/iou": 0.4, "test/iou/sky": 0.25,
    }  # fmt: skip
    [(shown, _)] = page.logged  # one row of its history, not one a table
    assert shown["test/classes"].columns == ["class", "iou", "dice", "ap"]
    assert shown["test/classes"].data == [["sky", 0.25, 0.4, None], ["car", None, 0.1, 0.3]]
    assert [picture._caption for picture in shown["predictions"]] == [f"image {n}" for n in range(wandb_page.MOST)]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (None, "finished", 0), (ConfigError("wrong"), "failed", 1), (ValueError(), "failed", 1), (KeyboardInterrupt(), "interrupted", 1),
        (Stopped("ended", 143), "interrupted", 143), (Ended(), "interrupted", 1), (SystemExit(0), "interrupted", 1),
    ],
    ids=repr,
)  # fmt: skip
def test_the_end_is_told_truly(made, page, error, status, code):
    def job():
        with trackers.opened(made):
            if error:
                raise error

    if error is None:
        job()
    else:
        with pytest.raises(type(error)) as caught:
            job()
        assert caught.value is error
        assert page.values["error"] == (str(error) or type(error).__name__)
    assert (page.values["status"], page.code) == (status, code)


def test_a_tracker_that_fails_hides_no_error(made, page):
    page.summary.update = lambda values: 1 / 0
    with pytest.raises(ConfigError, match="mine"), trackers.opened(made):
        raise ConfigError("mine")
    assert page.code == 1


def test_files_wait_beside_the_run_unless_the_user_says_where(page, monkeypatch, tmp_path):
    with staged(page):
        assert os.environ["WANDB_DATA_DIR"] == "/nowhere/run"
    assert "WANDB_DATA_DIR" not in os.environ
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    with staged(page):
        assert os.environ["WANDB_DATA_DIR"] == str(tmp_path)
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path)


def test_on_line_only_with_a_key(monkeypatch, tmp_path):
    assert [is_offline(mode) for mode in ("auto", "online", "offline")] == [True, False, True]
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n")
    assert has_key()
    assert [is_offline(mode) for mode in ("auto", "online", "offline")] == [False, False, True]
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert is_offline("auto")
    with pytest.raises(ConfigError, match=r"Did you mean 'offline'"):
        is_offline("ofline")


@settings(deadline=None)
@hypothesis.given(st.text(max_size=140))
def test_a_projects_name_is_taken_or_refused_in_one_line(name):
    allowed = bool(name.strip()) and len(name) <= 128 and name.isprintable() and not set(name) & set("/\\#?%:")
    try:
        assert check_project(name) == name
    except ConfigError as error:
        assert not allowed
        assert len(str(error).splitlines()) == 1
    else:
        assert allowed


def given_logger(tmp_path, **settings):
    node = {"_target_": "lightning.pytorch.loggers.WandbLogger", "mode": "auto", "project": "seglab", **settings}
    return trackers.loggers({"logger": node, "name": None}, tmp_path, "name", "id", {})


def test_what_w_and_b_would_refuse_is_one_sentence(tmp_path):
    for given, text in (
        ({"project": "a/b"}, r"^logger.project='a/b' is no name of a W&B project"),
        ({"mode": "of-line"}, r"^logger.mode is 'of-line'; it must be auto, online or offline"),
        ({"projekt": "x"}, r"There is no key 'projekt' in 'logger'. Did you mean 'project'"),
    ):
        with pytest.raises(ConfigError, match=text):
            given_logger(tmp_path, **given)


def test_a_user_who_disabled_w_and_b_has_no_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert given_logger(tmp_path) == []


@pytest.fixture
def run_offline(train, monkeypatch):
    """Train a small run offline; its folder at W&B."""
    from wandb_log import NO_LEET

    if NO_LEET:
        pytest.skip(NO_LEET)

    def start(*overrides):
        return train("logger=wandb", "logger.mode=offline", "trainer.max_epochs=3", "trainer.log_every_n_steps=1", *overrides)

    return start


@pytest.mark.slow
def test_w_and_bs_own_tool_reads_what_a_run_writes(run_offline, tmp_path):
    from wandb_log import records, summary

    found = run_offline("pictures=2", "optimizer.lr=0.05", "scheduler=constant")
    [folder] = (tmp_path / "run" / "wandb").glob("offline-run-*")
    told, kept = summary(folder), records(folder)
    assert (told["state"], told["exit_code"], told["project"]) == ("finished", 0, "seglab")
    assert told["config"]["optimizer"]["lr"] == 0.05  # nested, as in conf/
    assert told["config"]["choices"]["data"] == "cells"
    top = told["summary"]
    for key, value in found["metrics"].items():
        assert top[key] == pytest.approx(value, rel=1e-12), key
    assert (top["score"], top["monitor"], top["status"]) == (found["score"], "val/iou", "finished")
    assert top["parameters"] == found["parameters"]
    assert 0 < top["seconds"] <= found["seconds"]
    assert top["train_images_per_s"] == pytest.approx(found["speed"]["train_images_per_s"])
    assert top["test/iou/round"] == pytest.approx(found["per_class"]["test"]["round"]["iou"])
    rows = [r["history"]["item"] for r in kept if r["type"] == "history"]
    assert [r["_step"] for r in rows] == list(range(len(rows)))
    assert len(rows) == 3 * 2 + 6 + 1  # of each epoch's validation and training, of each step, of the end
    for key in ("val/iou", "train/loss"):
        assert [r["epoch"] for r in rows if key in r] == [0, 1, 2]
    assert not [key for r in rows for key in r if key.startswith("test/") and "classes" not in key]
    assert [r["trainer/global_step"] for r in rows if "lr" in r] == [1, 2, 3, 4, 5, 6]
    # Every value of an epoch has its axis by its full name: of several patterns W&B takes any.
    axes = {
        r["metric"]["name"]: r["metric"].get("step_metric") for r in kept if r["type"] == "metric" and "name" in r["metric"]
    }
    values = {k for r in rows for k in r if k.startswith(("val/", "train/")) and "classes" not in k} - {"train/loss_step"}
    assert {axes[key] for key in values} == {"epoch"}
    assert (kept[-1]["type"], kept[-1]["exit"]["exit_code"]) == ("exit", 0)


@pytest.mark.slow
def test_all_that_sync_sends_lies_in_the_runs_folder(run_offline, tmp_path, monkeypatch):
    from wandb_log import WANDB, records, summary, table

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = run_offline("pictures=2")
    [folder] = (tmp_path / "run" / "wandb").glob("offline-run-*")
    kept, top = records(folder), summary(folder)["summary"]
    named = [f["path"] for r in kept if r["type"] == "files" for f in r["files"]["files"]]
    assert {path for path in named if not (folder / "files" / path).is_file()} == set()
    staged = [c["local_path"] for r in kept if r["type"] == "artifact" for c in r["artifact"]["manifest"]["contents"]]
    assert len(staged) == 2
    for path in staged:
        assert path.startswith(str(folder.resolve()))
        assert os.path.getsize(path) > 0
    assert top["predictions"]["count"] == 2
    assert all("IoU" in caption for caption in top["predictions"]["captions"])
    assert set(top["predictions"]["filenames"]) <= set(named)
    columns, rows = table(folder, top["test/classes"])
    assert [row[0] for row in rows] == ["background", "round", "spindle"]
    ious = [found["per_class"]["test"][row[0]]["iou"] for row in rows]
    assert [row[columns.index("iou")] for row in rows] == pytest.approx(ious)
    listed = subprocess.run([WANDB, "sync", "--dry-run", str(folder)], capture_output=True, text=True)
    assert listed.returncode == 0
    assert folder.name in listed.stdout + listed.stderr
    assert not (tmp_path / "home").exists() or not list((tmp_path / "home").rglob("*.table.json"))


@pytest.mark.slow
def test_a_failed_run_ends_as_failed(run_offline, tmp_path, monkeypatch):
    from wandb_log import records, summary

    from seglab.engine import scoring
    from seglab.errors import DataError

    def broken(*_):
        raise DataError("image_3.png cannot be read.")

    monkeypatch.setattr(scoring, "score", broken)
    mode = os.environ.get("WANDB_MODE")
    with pytest.raises(DataError):
        run_offline()
    assert os.environ.get("WANDB_MODE") == mode  # the next run of this process may go on line
    [folder] = (tmp_path / "run" / "wandb").glob("offline-run-*")
    told = summary(folder)
    assert (told["state"], told["exit_code"]) == ("failed", 1)
    assert (told["summary"]["status"], told["summary"]["error"]) == ("failed", "image_3.png cannot be read.")
    assert told["summary"]["val/iou"] == told["summary"]["score"]  # what was known is there
    assert records(folder)[-1]["exit"]["exit_code"] == 1
