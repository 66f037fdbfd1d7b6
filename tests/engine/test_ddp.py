"""Two processes count like one: the same scores, rows and steps; one run folder. Gloo on the CPU."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY, TINY_RCNN
from rank_jobs import evaluate_sizes, shared_buffers

from seglab import checkpoint, results
from seglab.config import load, override, plain
from seglab.engine import evaluate
from seglab.engine.launch import environment, supervise
from seglab.errors import ConfigError, DataError

pytestmark = pytest.mark.slow  # two processes that import everything
CHOICES = {"model": "tiny", "loss": "dice+ce", "data": "cells"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run on two processes."""
    from seglab.engine import fit

    folder = tmp_path_factory.mktemp("two") / "run"
    overrides = [*TINY, "trainer.max_epochs=2", "data.val=5", "data.test=3", "trainer.devices=2", "optimizer.lr=5e-3"]
    score = fit(plain(load(overrides)), folder, CHOICES, overrides)
    return folder, score


@pytest.fixture
def importable(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path])


def test_one_run_folder_as_of_one_process(run):
    folder, score = run
    found = results.read_results(folder)
    assert (found["status"], found["score"], found["error"]) == ("finished", score, None)
    assert [p.name for p in folder.parent.iterdir()] == ["run"]
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert len(list((folder / "predictions").glob("*.png"))) == 1
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    # 8 images in batches of 4 over both processes: 2 steps an epoch, as on one
    assert [(row["epoch"], row["step"]) for row in rows] == [("0", "2"), ("1", "4")]
    ids, _, _ = results.read_per_image(folder / "per_image.csv")
    assert len(ids) == len(set(ids)) == 3


def test_a_training_step_of_two_processes_sees_the_images_of_one(run, train):
    folder, _ = run
    alone = train("trainer.max_epochs=2", "data.val=5", "data.test=3", "optimizer.lr=5e-3")
    one, two = (list(csv.DictReader((f / "metrics.csv").open())) for f in (alone["run"], folder))
    assert [r["lr"] for r in one] == [r["lr"] for r in two]
    assert (alone["run"] / "ledger.csv").read_bytes() == (folder / "ledger.csv").read_bytes()
    # Dice and batch norm look at the images of one process, so the losses are near, not equal.
    assert [float(r["train/loss"]) for r in one] == pytest.approx([float(r["train/loss"]) for r in two], rel=0.1)


@pytest.fixture
def threads_of_a_rank():
    """As many threads as each of two ranks has: a sum that is split among another number of threads is rounded otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(environment(0, 2, 0)["OMP_NUM_THREADS"]))
    yield
    torch.set_num_threads(before)


def test_the_scores_of_two_processes_are_those_of_one(run, tmp_path, importable, threads_of_a_rank):
    ckpt = run[0] / "checkpoints" / "best.ckpt"
    sizes = list(range(1, 10))
    two = supervise(evaluate_sizes, {"ckpt": str(ckpt), "folder": str(tmp_path / "two"), "sizes": sizes}, 2)
    saved = checkpoint.load(ckpt)
    for size in sizes:
        config = override(saved.config, {"data.test": size, "data.batch_size": 2, "trainer.devices": 1})
        one = evaluate(saved, config, "test", tmp_path / "one" / str(size), [])
        assert two[str(size)] == one, f"{size} images"
        tables = [(tmp_path / n / str(size) / "per_image.csv").read_bytes() for n in ("one", "two")]
        assert tables[0] == tables[1], f"{size} images"
        found = [results.read_results(tmp_path / n / str(size)) for n in ("one", "two")]
        assert found[0]["metrics"] == found[1]["metrics"]
        assert found[0]["per_class"] == found[1]["per_class"]


def test_objects_are_scored_on_two_processes_as_on_one(train, tmp_path, importable, threads_of_a_rank):
    settings = [
        "data.train=32",
        "data.test=8",
        "trainer.max_epochs=8",
        "optimizer.lr=3e-3",
        "task.min_score=0.05",
        "test=false",
    ]
    made = train(*TINY_RCNN, *settings)
    ckpt = made["run"] / "checkpoints" / "best.ckpt"
    two = supervise(evaluate_sizes, {"ckpt": str(ckpt), "folder": str(tmp_path / "two"), "sizes": [1, 4, 7]}, 2)
    saved = checkpoint.load(ckpt)
    for size in (1, 4, 7):
        config = override(saved.config, {"data.test": size, "data.batch_size": 2, "trainer.devices": 1})
        one = evaluate(saved, config, "test", tmp_path / "one" / str(size), [])
        assert one["test/ap50"] >= 0
        assert json.dumps(two[str(size)]) == json.dumps(one), f"{size} images"  # NaN too, where no object is large
    assert one["test/ap50"] > 0.001  # something was found
    with pytest.raises(AssertionError):  # and the comparison can tell
        assert json.dumps(two["4"]) == json.dumps(one)


def test_evaluate_starts_its_processes_itself(run, tmp_path):
    saved = checkpoint.load(run[0] / "checkpoints" / "best.ckpt")
    config = override(saved.config, {"data.test": 3, "trainer.devices": 2})
    found = evaluate(saved, config, "test", tmp_path / "two", [])
    run_found = results.read_results(run[0])["metrics"]
    assert found == {k: v for k, v in run_found.items() if k.startswith("test/")}


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [("data.batch_size=3", ConfigError, "data.batch_size=3"), ("data.train=1", DataError, "1 training images for 2 processes")],
)
def test_a_mistake_is_one_sentence(train, override, error, words):
    with pytest.raises(error, match=words) as found:
        train("trainer.devices=2", override)
    assert "\n" not in str(found.value)


def test_validation_uses_one_set_of_batch_norm_statistics(importable, tmp_path):
    alone = supervise(shared_buffers, {"how": "left alone", "folder": str(tmp_path)}, 2)
    shared = supervise(shared_buffers, {"how": "shared", "folder": str(tmp_path)}, 2)
    assert alone[0][1] != alone[1][1]  # what would be scored with otherwise
    assert shared[0][0] != shared[1][0]
    assert shared[0][1] == shared[1][1] == shared[0][0]
