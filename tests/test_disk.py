"""Disks that are full or read-only: one sentence, exit code 1, the files before are whole, nothing half-written is left."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import TINY

from seglab import checkpoint, evaluate, predict, results, torchfile
from seglab.engine.journal import console, journal
from seglab.errors import CheckpointError

FULL, READ_ONLY = r"disk is full|[Nn]o space left", r"disk is read-only|[Rr]ead-only"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small disk of its own in memory; the test is skipped where that is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*how: str) -> Path:
        done = subprocess.run(["mount", *how, str(folder)], capture_output=True, text=True) if shutil.which("mount") else None
        if done is None or done.returncode:
            pytest.skip(f"mounting is not permitted here ({done.stderr.strip() if done else 'no mount command'})")
        return folder

    yield lambda size: mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    while os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def read_only(folder: Path) -> None:
    """What is opened below the folder from now on is on a read-only disk, though files already open can be written."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)


def fill(folder: Path, leave: int = 0) -> None:
    """Leave no more than so many bytes free, by one file that grows."""
    with (folder / "filler").open("ab", buffering=0) as file:
        try:
            while shutil.disk_usage(folder).free > leave:
                file.write(bytes(4096))
        except OSError:
            pass


def leftovers(folder: Path) -> list[str]:
    """Files that were not finished; W&B keeps a folder named tmp of its own."""
    return [str(p) for p in folder.rglob("*") if p.is_file() and p.suffix in (".tmp", ".part")]


def one_sentence(text: str, kind: str) -> str:
    """The only line of an error output, which says what the disk refused."""
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert re.match(r"(Checkpoint|Training|Config|Data)Error: ", lines[0])
    assert re.search(kind, lines[0]), text
    return lines[0]


def start(run: Path, *overrides: str) -> subprocess.Popen[str]:
    """A training run of many short epochs as a process of its own."""
    command = [sys.executable, "-m", "seglab.train", *TINY, "trainer.max_epochs=60", *overrides, f"hydra.run.dir={run}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until_saved(process: subprocess.Popen[str], run: Path) -> None:
    """Wait for the first last.ckpt."""
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("leave", "logger"), [(0, "none"), (100_000, "none"), (100_000, "csv"), (0, "wandb")], ids=["all", "most", "csv", "wandb"]
)
def test_a_disk_that_fills_up_during_a_run(disk, leave, logger):
    folder = disk("1300k")
    process = start(folder / "run", f"logger={logger}")
    until_saved(process, folder / "run")
    while process.poll() is None:  # a checkpoint that takes another's place makes room again
        fill(folder, leave)
        time.sleep(0.01)
    text = one_sentence(process.communicate()[1], FULL)
    assert process.returncode == 1
    assert str(folder / "run") in text
    for name in ("best", "last"):
        assert checkpoint.load(folder / "run" / "checkpoints" / f"{name}.ckpt").state
    assert not leftovers(folder)
    found = json.loads((folder / "run" / "results.json").read_text())
    assert found["status"] == ("failed" if leave else "running")  # no room for another word
    assert not leave or found["error"] in text


@pytest.mark.slow
def test_after_making_room_the_run_goes_on(disk):
    folder = disk("1300k")
    process = start(folder / "run", "trainer.max_epochs=12", "pictures=0")
    until_saved(process, folder / "run")
    while process.poll() is None:
        fill(folder, 100_000)
        time.sleep(0.01)
    assert process.communicate()[1]
    (folder / "filler").unlink()
    command = [sys.executable, "-m", "seglab.train", f"resume={folder / 'run'}"]
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert results.read_results(folder / "run")["status"] == "finished"
    assert len((folder / "run" / "metrics.csv").read_text().splitlines()) == 13


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["none", "csv"])
def test_a_disk_that_becomes_read_only_during_a_run(disk, logger):
    folder = disk("8m")
    process = start(folder / "run", f"logger={logger}")
    until_saved(process, folder / "run")
    read_only(folder)
    text = one_sentence(process.communicate()[1], READ_ONLY)
    assert process.returncode == 1
    assert str(folder / "run") in text
    assert checkpoint.load(folder / "run" / "checkpoints" / "last.ckpt").state


@pytest.mark.slow
@pytest.mark.parametrize("size", ["4k", "12k", "24k", "400k", "read-only"])
def test_a_disk_that_was_too_small_from_the_start(disk, size):
    folder = disk("8k" if size == "read-only" else size)
    if size == "read-only":
        read_only(folder)
    process = start(folder / "run")
    one_sentence(process.communicate()[1], READ_ONLY if size == "read-only" else FULL)
    assert process.returncode == 1
    assert not leftovers(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small run, and a folder of images beside it."""
    from seglab.config import load, plain
    from seglab.engine import fit

    folder = tmp_path_factory.mktemp("trained")
    fit(plain(load([*TINY, "pictures=0"])), folder / "run", {"model": "tiny"}, list(TINY))
    (folder / "in").mkdir()
    for i in range(6):
        picture = np.random.default_rng(i).integers(0, 255, (60, 60, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "in" / f"{i}.png"), picture)
    return folder


@pytest.mark.parametrize("full", [True, False], ids=["full", "read-only"])
@pytest.mark.parametrize("door", [evaluate, predict], ids=["evaluate", "predict"])
def test_the_other_doors(disk, trained, door, full, monkeypatch, capsys):
    folder = disk("40k")
    if full and door is evaluate:
        fill(folder)
    elif not full:
        read_only(folder)
    more = ["split=test"] if door is evaluate else [f"input={trained / 'in'}"]
    ckpt = trained / "run" / "checkpoints" / "last.ckpt"
    monkeypatch.setattr(sys, "argv", ["x", f"ckpt={ckpt}", *more, f"output={folder / 'out'}"])
    with pytest.raises(SystemExit) as left:
        door.main()
    assert left.value.code == 1
    one_sentence(capsys.readouterr().err, FULL if full else READ_ONLY)
    assert not leftovers(folder)
    for path in folder.rglob("*.png"):
        assert cv2.imread(str(path)) is not None, f"{path} is broken"


@pytest.mark.parametrize("full", [True, False], ids=["full", "read-only"])
def test_a_checkpoint_that_cannot_be_written_keeps_the_one_before(disk, full):
    folder, saver = disk("300k"), checkpoint.AtomicCheckpointIO()
    path = folder / "last.ckpt"
    saver.save_checkpoint({"x": torch.ones(10_000)}, path)
    if not full:
        read_only(folder)
    with pytest.raises(CheckpointError, match=FULL if full else READ_ONLY) as error:
        saver.save_checkpoint({"x": torch.zeros(100_000), "y": [torch.zeros(9)] * 9}, path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert [p.name for p in folder.iterdir()] == ["last.ckpt"]
    assert torch.equal(torchfile.read(path)["x"], torch.ones(10_000))


def test_an_error_that_is_not_the_disks_is_not_called_so(tmp_path):
    class Strange:
        def __reduce__(self) -> str:
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        checkpoint.AtomicCheckpointIO().save_checkpoint({"x": Strange()}, tmp_path / "x.ckpt")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which this system lacks")
def test_a_log_that_cannot_be_written_is_silent(capfd):
    with journal(Path("/dev/full"), console()):
        logging.getLogger("library").warning("lost")
        logging.getLogger("seglab").warning("shown")
    out, err = capfd.readouterr()
    assert "shown" in out
    assert err == ""
    logging.getLogger("library").handlers.clear()
    assert logging.raiseExceptions


def test_results_that_cannot_be_written_keep_the_ones_before(disk):
    folder = disk("16k")
    content = {**dict.fromkeys(results.KEYS), "status": "running"}
    results.write_results(folder, content)
    fill(folder)
    with pytest.raises(OSError, match="No space left"):
        results.write_results(folder, {**content, "seed": 1, "choices": {str(i): "x" * 99 for i in range(99)}})
    assert results.read_results(folder)["seed"] is None
    assert {p.name for p in folder.iterdir()} == {"results.json", "filler"}
