"""python -m seglab.convert, as a user types it: the line that it prints trains on the same samples; mistakes are one sentence."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from seglab import convert
from seglab.__main__ import COMMANDS
from seglab.config import load, plain
from seglab.errors import ConfigError, SeglabError

RNG = np.random.default_rng(0)
CELLS = ["data=cells", "data.size=32", "data.train=3", "data.val=2", "data.test=1"]


def spoken(capsys, *argv):
    """What the door prints, line by line."""
    convert.run(list(argv))
    return capsys.readouterr().out.splitlines()


def shard(path, count=10, size=(32, 40)):
    with tarfile.open(path, "w") as out:
        for n in range(count):
            for end, array in (("jpg", RNG.integers(0, 256, (*size, 3))), ("seg.png", RNG.integers(0, 3, size))):
                file = io.BytesIO()
                Image.fromarray(array.astype(np.uint8)).save(file, "JPEG" if end == "jpg" else "PNG")
                told = tarfile.TarInfo(f"p{n // 2}_{n:03d}.{end}")
                told.size = file.tell()
                out.addfile(told, io.BytesIO(file.getvalue()))


def test_it_is_among_the_commands():
    assert "output=DIR" in COMMANDS["convert"]


def test_cells(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = spoken(capsys, *CELLS, "output=plain")
    assert re.fullmatch(r"plain: 3 train, 2 val, 1 test images, [\d.e-]+ MB", told[0])
    assert told[1:] == [
        "not kept: single objects: data=folder has the map of classes only",
        "python -m seglab.train data=folder data.root=plain",
    ]
    assert sorted(os.listdir("plain")) == ["classes.json", "test", "train", "val"]


@pytest.mark.parametrize("place", ["plain", "a b/it's", "3", "ünï, x"])
def test_the_printed_line_is_read_back_by_a_shell_and_by_hydra(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shard(tmp_path / "x.tar")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    group = "'^(p\\d)_'"
    told = spoken(
        capsys, "data=webdataset", "data.train=x.tar", f"data.group={group}", "data.mean=[0.5,0.4,0.3]", "data.std=[0.2,0.2,0.2]",
        f"output={place}",
    )  # fmt: skip
    command, module, *overrides = shlex.split(told[-1])[1:]
    assert (command, module) == ("-m", "seglab.train")
    data = plain(load(overrides))["data"]
    assert (data["root"], data["group"], data["mean"]) == (place, r"^(p\d)_", [0.5, 0.4, 0.3])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (CELLS, "Name the folder to write, once: output=DIR"),
        ([*CELLS, "output="], "Name the folder to write, once"),
        ([*CELLS, "output=a", "output=b"], "once"),
        ([*CELLS, "data.sise=3", "output=a"], "no key 'sise' in 'data'. Did you mean 'size'"),
        ([*CELLS, "+data.sise=3", "output=a"], "no key 'sise' in 'data'. Did you mean 'size'"),
        ([*CELLS, "data.folds=1", "output=a"], r"data\.folds"),
        (["data=voc", "output=a"], r"data\.root is not set"),
        (["data=vox", "data.root=x", "output=a"], "Did you mean 'voc'"),
        (["data=folder", "data.root=x", "data._target_=os.system", "output=a"], "not trusted"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(argv, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SeglabError, match=words) as error:
        convert.run(list(argv))
    assert "\n" not in str(error.value)
    assert isinstance(error.value, ConfigError)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_shards_tables_and_the_converted_folder_train_alike(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    for split in ("train", "val", "test"):
        shard(tmp_path / f"{split}-0.tar", 8 if split == "train" else 3)
    run = lambda *argv: subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=600)  # noqa: E731
    named = [f"data.{split}={split}-*.tar" for split in ("train", "val", "test")]
    done = run(sys.executable, "-m", "seglab.convert", "data=webdataset", *named, "output=plain")
    assert done.returncode == 0, done.stderr
    tables = {}
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        rows = [
            {"image": {"bytes": one.read_bytes(), "path": one.name}, "annotation": {"bytes": (one.parents[1] / f"masks/{one.stem}.png").read_bytes(), "path": None}}
            for one in sorted((tmp_path / f"plain/{split}/images").iterdir())
        ]  # fmt: skip
        features = datasets.Features({"image": datasets.Image(), "annotation": datasets.Image()})
        tables[name] = datasets.Dataset.from_list(rows, features=features)
    datasets.DatasetDict(tables).save_to_disk(tmp_path / "table")
    tiny = ["model=tiny", "data.batch_size=4", "data.num_workers=2", "trainer.max_epochs=2", "trainer.accelerator=cpu", "trainer.precision=32-true", "logger=none", "pictures=1", "data.crop=[32,32]"]  # fmt: skip
    classes = "data.classes=[class_0,class_1,class_2]"
    found = {}
    for name, data in (
        ("shards", ["data=webdataset", *named, classes]), ("table", ["data=huggingface", "data.root=table", classes]),
        ("plain", shlex.split(done.stdout.splitlines()[-1])[3:]),
    ):  # fmt: skip
        ended = run(sys.executable, "-m", "seglab.train", *data, *tiny, f"hydra.run.dir=runs/{name}")
        assert ended.returncode == 0, ended.stderr
        found[name] = json.loads((tmp_path / f"runs/{name}/results.json").read_text())["metrics"]
    scores = {name: {k: v for k, v in one.items() if "time" not in k and "per_s" not in k} for name, one in found.items()}
    assert scores["shards"] == scores["table"] == scores["plain"]
    assert "test/iou" in scores["plain"]
