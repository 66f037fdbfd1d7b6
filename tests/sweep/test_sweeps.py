"""Sweeps of real runs, by the command a user would give."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from conftest import TINY
from kill_trials import unlike
from sweep_runs import LONG, WHOLE, command, run

from seglab import results
from seglab.sweep.folder import Sweep

pytestmark = pytest.mark.slow


def trials(sweep: Path) -> dict[str, dict]:
    return {t["folder"]: t for t in json.loads((sweep / "sweep.json").read_text())["trials"]}


def alive(sweep: Path) -> list[str]:
    """The command lines of processes that work in the sweep's folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_text().replace("\0", " ")
        except OSError:
            continue
        if str(sweep) in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A sweep that nobody disturbs."""
    folder = tmp_path_factory.mktemp("unbroken")
    run(folder, *LONG, "seed=1,2,3", "hydra.sweep.dir=s", "hydra.launcher.per_trial=0.5")
    return folder / "s"


def test_kill_9_of_the_parent_and_on(unbroken, tmp_path):
    sweep = tmp_path / "s"
    given = [*LONG, "seed=1,2,3", f"hydra.sweep.dir={sweep}", "hydra.launcher.per_trial=0.5"]
    parent = subprocess.Popen(command(*given), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any((sweep / n / "checkpoints" / "last.ckpt").exists() for n in "01"):
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    assert {t["state"] for t in trials(sweep).values()} <= {"running", "waiting"}
    said = run(tmp_path, f"sweep.resume={sweep}")  # at once: it waits for the orphans to save and leave
    assert {n: (t["state"], t["attempts"]) for n, t in trials(sweep).items()} == {
        "0": ("finished", 2), "1": ("finished", 2), "2": ("finished", 1)
    }  # fmt: skip
    assert [line["trial"] for line in csv.DictReader((sweep / "summary.csv").open())] == ["0", "1", "2"]
    for name in "012":
        assert unlike(unbroken / name, sweep / name) == []
    assert "0 goes on" in " ".join(said.split()) or "goes on" in said
    assert alive(sweep) == []


def test_orphans_save_and_leave_by_themselves(tmp_path):
    sweep = tmp_path / "s"
    parent = subprocess.Popen(command(*LONG, "trainer.max_epochs=200", "seed=1,2", f"hydra.sweep.dir={sweep}"), cwd=tmp_path)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (sweep / "0" / "metrics.csv").exists():
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    while time.monotonic() < deadline and alive(sweep):
        time.sleep(0.1)
    assert alive(sweep) == []
    assert results.read_results(sweep / "0")["status"] == "interrupted"
    assert (sweep / "0" / "checkpoints" / "last.ckpt").exists()


def test_ctrl_c_saves_every_trial_and_the_same_command_goes_on(unbroken, tmp_path):
    given = [*LONG, "seed=1,2,3", "hydra.launcher.per_trial=0.5"]
    parent = subprocess.Popen(
        command(*given), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(tmp_path.glob("multirun/*/*/0/metrics.csv")):
        time.sleep(0.02)
    os.killpg(parent.pid, signal.SIGINT)
    said, _ = parent.communicate(timeout=120)
    [sweep] = tmp_path.glob("multirun/*/*")
    assert parent.returncode == 130
    assert "Traceback" not in said
    assert f"sweep.resume={sweep.relative_to(tmp_path)}" in said
    assert alive(sweep) == []
    assert {t["state"] for t in trials(sweep).values()} <= {"interrupted", "waiting", "finished"}
    run(tmp_path, *given, "sweep.resume=auto")
    assert [t["state"] for t in trials(sweep).values()] == ["finished"] * 3
    for name in "012":
        assert unlike(unbroken / name, sweep / name) == []


def test_a_finished_sweep_is_not_repeated_and_can_grow(unbroken, tmp_path):
    shutil.copytree(unbroken, tmp_path / "s", symlinks=True)
    before = {n: (tmp_path / "s" / n / "results.json").stat().st_mtime_ns for n in "012"}
    run(tmp_path, "sweep.resume=s")
    run(tmp_path, *LONG, "trainer.max_epochs=1", "sweep.resume=s", "seed=3")  # other settings: another trial
    run(tmp_path, *LONG, "seed=3,2,1,4", "sweep.resume=s")
    assert before == {n: (tmp_path / "s" / n / "results.json").stat().st_mtime_ns for n in "012"}
    found = Sweep.read(tmp_path / "s").trials
    assert [(t.number, t.axes.get("seed", "3")) for t in found] == [(0, "1"), (1, "2"), (2, "3"), (3, "3"), (4, "4")]
    assert {t.state for t in found} == {"finished"}
    said = run(tmp_path, *LONG, "seed=1,2,3", "hydra.sweep.dir=s", code=1)
    assert "holds a sweep already" in said


def test_several_processes_in_trials(tmp_path, monkeypatch):
    given = [o for o in WHOLE if not o.startswith("model=")]
    # Without batch norm, which sees one process's images, and without steps, whose sums round: then all must be equal.
    given += [
        "trainer.max_epochs=1",
        "data.train=8",
        "pictures=0",
        "data.val=5",
        "loss=ce",
        "augment=none",
        "optimizer.lr=0",
    ]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    for model, setting in (("unet", "decoder_use_norm: false"), ("fpn", "decoder_dropout: 0.0")):
        text = f"# @package _global_\ndefaults: [override /model: {model}]\nmodel: {{encoder: vgg11, {setting}}}\n"
        (tmp_path / "conf" / "experiment" / f"{model}.yaml").write_text(text)
    run(tmp_path, "--config-dir=conf", *given, "trainer.devices=1,2", "experiment=unet,fpn", "hydra.sweep.dir=s")
    sweep = Sweep.read(tmp_path / "s")
    assert [t.state for t in sweep.trials] == ["finished"] * 4
    place = {}
    for trial in sweep.trials:
        stamp = torch.load(sweep.folder(trial) / "checkpoints" / "best.ckpt", weights_only=True)["seglab"]
        place[trial.number] = stamp["place"]["processes"]
    assert place == {0: 1, 1: 1, 2: 2, 3: 2}
    for alone, both in ((0, 2), (1, 3)):
        a, b = (results.read_results(tmp_path / "s" / str(n)) for n in (alone, both))
        assert a["metrics"] == b["metrics"]
        assert a["choices"] == b["choices"]
        rows = [list(csv.DictReader((tmp_path / "s" / str(n) / "metrics.csv").open())) for n in (alone, both)]
        assert [[r["step"] for r in found] for found in rows] == [["2"], ["2"]]
        assert float(rows[0][0]["train/loss"]) == pytest.approx(float(rows[1][0]["train/loss"]), rel=1e-5)


def test_a_trial_out_of_memory_starts_again_with_half_its_batch(tmp_path, monkeypatch):
    (tmp_path / "hungry.py").write_text(
        "from lightning.pytorch.callbacks import Callback\n"
        "class Hungry(Callback):\n"
        "    def on_train_batch_start(self, trainer, module, batch, index):\n"
        "        if len(batch['image']) > 2:\n"
        "            raise RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')\n"
    )
    monkeypatch.setenv("SEGLAB_TRUST", "hungry")
    run(
        tmp_path, *WHOLE, "data.train=8", "trainer.max_epochs=1", "+callbacks.h._target_=hungry.Hungry", "seed=1,2",
        "hydra.launcher.halve_batch=true", "hydra.sweep.dir=s",
    )  # fmt: skip
    for trial in trials(tmp_path / "s").values():
        assert trial["state"] == "finished"
        assert trial["changed"] == ["data.batch_size=2", "trainer.accumulate_grad_batches=2"]
    assert (tmp_path / "s" / "0.1-out-of-memory" / "train.log").exists()


def test_one_mistake_in_a_sweep_is_one_sentence_and_the_others_finish(tmp_path):
    said = run(tmp_path, *TINY, "loss=bce,ce", "hydra.sweep.dir=s", code=1)
    assert [t["state"] for t in trials(tmp_path / "s").values()] == ["failed", "finished"]
    assert "loss 'bce'" in said
    assert said.rstrip().splitlines()[-1].startswith("TrainingError: 1 of 2 trials failed")
