"""Every network of conf/model from the command's point of view: it trains, is scored again to the digit, and predicts."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from conftest import TINY

from seglab import checkpoint, results
from seglab.config import conf_dir, load, plain
from seglab.engine import evaluate, predict

ROOT = Path(__file__).parents[1]
MODELS = sorted(p.stem for p in (conf_dir() / "model").glob("*.yaml"))
SETTINGS = [*(o for o in TINY if not o.startswith("model=")), "data.size=64", "test=true"]
LIGHTER = {  # hundreds of megabytes less
    "fcn8s": ["model.fc_channels=64"], "deeplabv1": ["model.fc_channels=64"], "mask_rcnn": ["model.encoder=resnet18", "model.width=32"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_it_trains_is_scored_again_and_predicts(model, tmp_path):
    from seglab.engine import fit

    given = [*SETTINGS, f"model={model}", *LIGHTER.get(model, [])]
    config, run = plain(load(given)), tmp_path / "run"
    fit(config, run, {"model": model, "loss": "own", "data": "cells"}, given)
    found = results.read_results(run)
    assert found["status"] == "finished"
    unknown = {k for k, v in found["metrics"].items() if v is None or not math.isfinite(v)}
    assert {k.split("/")[1] for k in unknown} <= {"ap_medium", "ap_large"}  # of 64x64 there are none
    saved = checkpoint.load(run / "checkpoints" / "best.ckpt")
    evaluate(saved, saved.config, "test", tmp_path / "again", [])
    again = results.read_results(tmp_path / "again")["metrics"]
    assert again == {k: v for k, v in found["metrics"].items() if k.startswith("test/")}
    image = (cv2.imread(str(next((run / "predictions").glob("*.png"))))[:50, :70]).copy()
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), image)
    predict(saved, saved.config, tmp_path / "images", tmp_path / "out")
    assert cv2.imread(str(tmp_path / "out" / "masks" / "a.png"), cv2.IMREAD_UNCHANGED).shape == image.shape[:2]


@pytest.mark.slow
def test_the_script_of_the_table_says_what_is_below_the_floor(tmp_path):
    page = tmp_path / "page.md"
    page.write_text((ROOT / "docs" / "networks.md").read_text(encoding="utf-8"), encoding="utf-8")
    command = [
        sys.executable,
        "benchmarks/networks.py",
        "--models",
        "tiny",
        "--write",
        str(page),
        "data.train=4",
        "trainer.max_epochs=1",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "below a mean IoU of 0.4: tiny" in done.stderr
    assert "| tiny | 0.03 M | 0." in page.read_text(encoding="utf-8")


def test_the_table_has_every_network():
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    rows = [
        line.split("|")[1].split()[0] for line in page.split("<!-- table: begin -->")[1].splitlines() if line.startswith("| ")
    ]
    assert rows[1:] == MODELS
