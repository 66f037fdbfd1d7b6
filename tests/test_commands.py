"""The commands as a user types them, in processes of their own: sweeps, a wheel, the built-in job, real data."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, TINY

from seglab import results

pytestmark = pytest.mark.slow


def run(*command: str, cwd: Path, timeout: float = 1500) -> subprocess.CompletedProcess:
    """Run it; the test fails with its output if it does."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_built_in_job(tmp_path):
    done = run(sys.executable, "-m", "seglab.train", cwd=tmp_path)
    [folder] = (tmp_path / "outputs").glob("*/*")
    found = results.read_results(folder)
    assert found["metrics"]["test/iou"] >= 0.80
    assert len(list((folder / "predictions").glob("*.png"))) == 8
    assert list((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stdout + done.stderr
    assert len(done.stdout.splitlines()) < 60

    best = str(folder / "checkpoints" / "best.ckpt")
    run(sys.executable, "-m", "seglab.evaluate", f"ckpt={best}", "output=again", cwd=tmp_path)
    again = results.read_results(tmp_path / "again")
    assert again["metrics"] == {k: v for k, v in found["metrics"].items() if k.startswith("test/")}
    run(sys.executable, "-m", "seglab.predict", f"ckpt={best}", f"input={folder / 'predictions'}", "output=out", cwd=tmp_path)
    assert len(list((tmp_path / "out" / "masks").glob("*.png"))) == 8


def test_a_sweep_over_models_and_expressions(tmp_path):
    sweep = [
        "-m",
        "model=unet,fpn",
        "loss=ce,dice+ce,0.3*dice+0.7*ce",
        "trainer.fast_dev_run=true",
        "logger=none",
        "data.size=64",
    ]
    run(sys.executable, "-m", "seglab.train", *sweep, cwd=tmp_path)
    folders = sorted(p.parent for p in (tmp_path / "multirun").glob("*/*/[0-9]*/results.json"))
    assert [f.name for f in folders] == list("012345")
    choices = [results.read_results(f)["choices"] for f in folders]
    assert [(c["model"], c["loss"]) for c in choices] == [
        (m, e) for m in ("unet", "fpn") for e in ("ce", "dice+ce", "0.3*dice+0.7*ce")
    ]


def test_one_bad_job_of_a_sweep_does_not_stop_the_others(tmp_path):
    command = [sys.executable, "-m", "seglab.train", "-m", *TINY, "trainer.fast_dev_run=true", "loss=bce,ce"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.count("  0  loss=bce  failed    ConfigError: loss 'bce' is for binary") == 1
    assert done.stderr.startswith("TrainingError: 1 of 2 trials failed; see multirun/")
    assert done.stderr.count("\n") == 1
    statuses = [json.loads(p.read_text())["status"] for p in sorted((tmp_path / "multirun").glob("*/*/[0-9]*/results.json"))]
    assert statuses == ["failed", "finished"]


def test_a_wheel_brings_its_configuration(tmp_path):
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT), cwd=tmp_path)
    [wheel] = tmp_path.glob("*.whl")
    shipped = {n for n in zipfile.ZipFile(wheel).namelist() if n.startswith("seglab/conf/")}
    assert shipped == {f"seglab/conf/{p.relative_to(ROOT / 'conf').as_posix()}" for p in (ROOT / "conf").rglob("*.yaml")}
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); from seglab import config; print(config.conf_dir()); config.load(['loss=0.5*dice+ce'])"
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert Path(done.stdout.strip()) == tmp_path / "site" / "seglab" / "conf"


def test_nuclei_preset(tmp_path, data_dir):
    root, weights = data_dir("nuclei"), data_dir("weights") / "tf_efficientnet_lite0.safetensors"
    run(
        sys.executable, "-m", "seglab.train", "experiment=nuclei_cpu", f"data.root={root}", f"model.weights={weights}",
        "logger=none", "hydra.run.dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert results.read_results(tmp_path / "run")["metrics"]["test/iou"] >= 0.83


def test_camvid_preset_starts_and_scores_all_images(tmp_path, data_dir):
    root, weights = data_dir("camvid"), data_dir("weights") / "tf_efficientnet_lite0.safetensors"
    run(
        sys.executable, "-m", "seglab.train", "experiment=camvid_cpu", f"data.root={root}", f"model.weights={weights}", "logger=none",
        "trainer.limit_train_batches=6", "trainer.limit_val_batches=2", "trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1", "hydra.run.dir=run", cwd=tmp_path,
    )  # fmt: skip
    ids, classes, counts = results.read_per_image(tmp_path / "run" / "per_image.csv")
    assert (len(ids), len(classes)) == (233, 11)
    found = results.read_results(tmp_path / "run")
    assert found["metrics"]["test/iou"] > 0.05
    assert (counts[..., 0] + counts[..., 2]).sum() < 233 * 360 * 480  # void is not counted
