"""Planted mistakes, through the door a user takes: one sentence that names the culprit, exit code 1, nothing pretended."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import TINY

from seglab import evaluate, predict, train


@pytest.fixture
def door(tmp_path, monkeypatch, capsys):
    """Call a door as `python -m` does; (exit code, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(arguments: list[str], module=train) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [f"seglab.{module.__name__}", *arguments])
        try:
            module.main()
            code = 0
        except SystemExit as left:
            code = int(left.code or 0)
        return code, capsys.readouterr().err

    return call


def check(code: int, text: str, culprit: str, folder: Path) -> None:
    """Exit 1, one line, the culprit in it, no code run, no run that looks finished."""
    assert code == 1, text
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert culprit in lines[0], text
    assert "Traceback" not in text
    assert not list(folder.rglob("hacked*"))
    for path in folder.rglob("results.json"):
        found = json.loads(path.read_text())
        assert found["status"] == "failed"
        assert found["error"] in lines[0]
        assert not list(path.parent.rglob("*.ckpt"))


KEYS = [
    ("modle=unet", "'model'"), ("loss.dice.smoth=1", "'smooth'"), ("trainer.max_epoch=3", "'max_epochs'"), ("+trainer.max_epoch=3", "'max_epochs'"),
    ("data.batchsize=3", "'batch_size'"), ("+data.batchsize=3", "'batch_size'"), ("sede=1", "'seed'"), ("+sede=1", "'seed'"), ("optimiser=sgd", "'optimizer'"),
    ("optimizer.weigth_decay=0", "'weight_decay'"), ("+optimizer.momentun=0.9", "momentun"), ("+model.depht=3", "width"), ("scheduler.powr=2", "'power'"),
    ("+logger.projcet=x", "'project'"), ("monitr=val/iou", "'monitor'"), ("+callbacks.x=3", "callbacks.x"), ("trainer.logger=true", "trainer"),
    ("+trainer.logger=true", "logger=wandb"), ("+metrics.iou.x=1", "metrics.iou"), ("augment.flp.p=1", "'flip'"), ("+augment.flip.prob=1", "prob"),
]  # fmt: skip
CHOICES = [
    ("model=unett", "'unet'"), ("model=deeplab_v3", "'deeplabv3'"), ("loss=dise", "'dice'"), ("loss=dice+cee", "'ce'"), ("loss=dice++ce", "term"),
    ("loss=dice+dice", "twice"), ("loss=0*dice+ce", "above 0"), ("loss=dice-ce", "dice-ce"), ("loss=2", "loss"), ("data=fodler", "'folder'"), ("augment=lite", "'light'"),
    ("optimizer=adam", "'adamw'"), ("scheduler=pol", "'poly'"), ("logger=wanb", "'wandb'"), ("experiment=camvid_cp", "'camvid_cpu'"), ("trainer=defualt", "'default'"),
]  # fmt: skip
VALUES = [
    ("trainer.max_epochs=ten", "trainer.max_epochs"), ("data.batch_size=0", "data.batch_size"), ("data.batch_size=big", "data.batch_size"),
    ("data.num_workers=-1", "data.num_workers"), ("data.scale=0", "data.scale"), ("data.crop=[0,5]", "data.crop"), ("data.crop=[5]", "data.crop"),
    ("seed=-1", "seed"), ("seed=x", "seed"), ("monitor=val/iuo", "'val/iou'"), ("monitor=test/iou", "monitor=test/iou"), ("mode=maximum", "mode"),
    ("optimizer.lr=fast", "lr"), ("optimizer.lr=-1", "learning rate"), ("loss.ce.class_weights=[1,2]", "class_weights"), ("loss.dice.smooth=-1", "smooth"),
    ("scheduler.warmup=-1", "warmup"), ("data.size=abc", "data.size"), ("data.train=0", "train"), ("data.val=-1", "data.val"), ("model.width=abc", "model.width"),
    ("trainer.precision=bf17", "trainer"), ("trainer.accelerator=quantum", "trainer"), ("augment.flip.p=2", "augment.flip"), ("pictures=many", "pictures"),
    ("logger.mode=sometimes", "logger.mode"), ("patience=soon", "patience"), ("keep.every_step=5", "every_steps"), ("keep.every_minutes=0", "above 0"), ("deterministic=maybe", "deterministic"), ("trainer.strategy=fsdp", "ddp only"), ("trainer.sync_batchnorm=true", "GPUs"), ("trainer.strategy=dpd", "trainer"), ("loss=bce", "bce"), ("model.encoder=resnet1", "resnet1"),
]  # fmt: skip
HOSTILE = [
    "os.system", "torch.load", "torch.hub.load", "builtins.open", "builtins.exec", "subprocess.run", "pickle.load", "torch.os.system", "shutil.rmtree",
]  # fmt: skip


def given(override: str) -> list[str]:
    """The override after a small job, with the real U-Net where it speaks of its settings, and a logger where of that."""
    base = [o for o in TINY if not (o.split("=")[0] == override.split("=")[0] and o != override)]
    if override.startswith("model.encoder"):
        base = ["model=unet", *base[1:]]
    if "logger." in override:
        base = [o for o in base if o != "logger=none"]
    return [*base, override]


@pytest.mark.parametrize(("override", "culprit"), KEYS + CHOICES + VALUES, ids=lambda v: v if "=" in v else "")
def test_mistakes_in_overrides(door, tmp_path, override, culprit):
    check(*door(given(override)), culprit, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["-m", "model=tiny,unet", "trainer.max_epoch=3"], "'max_epochs'"), (["~augment"], "'augment'"), (["pictures=-1"], "pictures"),
        (["scheduler=plateau", "data.val=0"], "plateau"), (["+trainer.overfit_batches=1"], "limit_train_batches"),
        (["trainer.max_epochs=-1"], "trainer.max_epochs"), (["model._target_=os.path.join"], "os"),
    ],
)  # fmt: skip
def test_mistakes_of_several_parts(door, tmp_path, arguments, culprit):
    check(
        *door(
            [a for a in arguments if a == "-m"]
            + [o for o in TINY if o.split("=")[0] not in str(arguments)]
            + [a for a in arguments if a != "-m"]
        ),
        culprit,
        tmp_path,
    )


@pytest.mark.parametrize("target", HOSTILE)
@pytest.mark.parametrize("slot", ["model", "loss.dice", "optimizer", "data", "augment.flip"])
def test_hostile_targets(door, tmp_path, slot, target):
    check(*door([*TINY, f"{slot}._target_={target}", f"+{slot}.command='touch hacked'"]), f"{slot}._target_={target}", tmp_path)


@pytest.fixture
def folder(tmp_path):
    """A sound little data set of three splits."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            (tmp_path / "set" / split / kind).mkdir(parents=True)
        for i in range(3):
            cv2.imwrite(
                str(tmp_path / "set" / split / "images" / f"{i}.png"), rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            )
            cv2.imwrite(str(tmp_path / "set" / split / "masks" / f"{i}.png"), rng.integers(0, 3, (32, 32), dtype=np.uint8))
    (tmp_path / "set" / "classes.json").write_text(json.dumps({"classes": ["a", "b", "c"], "ignore_index": 255}))
    return tmp_path / "set"


def break_it(root: Path, how: str) -> None:
    image, mask = root / "train" / "images" / "1.png", root / "val" / "masks" / "2.png"
    if how == "corrupt image":
        image.write_bytes(image.read_bytes()[:200])
    elif how == "no image":
        image.write_text("hello")
    elif how == "corrupt mask":
        mask.write_bytes(b"")
    elif how == "missing mask":
        mask.unlink()
    elif how == "missing image":
        (root / "val" / "images" / "2.png").unlink()
    elif how == "another size":
        cv2.imwrite(str(mask), np.zeros((32, 31), np.uint8))
    elif how == "id outside":
        cv2.imwrite(str(mask), np.full((32, 32), 7, np.uint8))
    elif how == "channels":
        cv2.imwrite(str(image), np.zeros((32, 32), np.uint8))
    elif how == "empty split":
        shutil.rmtree(root / "train")
    elif how == "nothing":
        shutil.rmtree(root)
        root.mkdir()
    elif how == "broken json":
        (root / "classes.json").write_text("{")
    elif how == "ignore is a class":
        (root / "classes.json").write_text(json.dumps({"classes": ["a", "b", "c"], "ignore_index": 1}))


FILES = {
    "corrupt image": "train/images/1.png", "no image": "train/images/1.png", "corrupt mask": "val/masks/2.png", "missing mask": "2", "missing image": "2",
    "another size": "val/masks/2.png", "id outside": "val/masks/2.png", "channels": "1.png", "empty split": "no training images", "nothing": "set",
    "broken json": "classes.json", "ignore is a class": "ignore_index",
}  # fmt: skip
SMALL = [o for o in TINY if not o.startswith(("data.size", "data.train", "data.val", "data.test"))]


@pytest.mark.parametrize("how", FILES)
def test_broken_files(door, folder, tmp_path, how):
    break_it(folder, how)
    check(*door([*SMALL, "data=folder", f"data.root={folder}"]), FILES[how], tmp_path)


@pytest.mark.parametrize(
    ("override", "culprit"),
    [
        ("data.root=nowhere", "nowhere"), ("data.root=null", "data.root"), ("data.mode=binray", "'binary'"), ("data.channels=2", "channels"),
        ("data.classes=[a]", "classes"), ("data.ignore_index=0", "ignore_index"), ("data.crop=null", "ok"),
    ],
)  # fmt: skip
def test_mistakes_about_a_folder(door, folder, tmp_path, override, culprit):
    code, text = door([*SMALL, "data=folder", f"data.root={folder}", override])
    if culprit == "ok":
        assert code == 0, text
    else:
        check(code, text, culprit, tmp_path)


def test_a_file_that_breaks_after_the_checks_is_named_from_inside_a_worker(door, folder, tmp_path, monkeypatch):
    from seglab.data import folder_stats as module

    real = module.read_image

    def sometimes(path):
        if path.endswith("train/images/2.png") and sys._getframe(3).f_code.co_name != "_measured":
            raise module.DataError(f"{path} vanished.")
        return real(path)

    monkeypatch.setattr(module, "read_image", sometimes)
    small = [o for o in SMALL if "num_workers" not in o]
    code, text = door(
        [*small, "data.num_workers=2", "data=folder", f"data.root={folder}", "data.mean=[0.5,0.5,0.5]", "data.std=[1,1,1]"]
    )
    check(code, text, "train/images/2.png vanished.", tmp_path)


@pytest.mark.parametrize(
    ("module", "arguments", "culprit"),
    [
        (evaluate, ["split=test"], "'ckpt'"), (evaluate, ["ckpt=nowhere.ckpt"], "nowhere.ckpt"), (evaluate, ["ckpt=x", "splt=test"], "'split'"),
        (evaluate, ["ckpt=x", "model=unet"], "model"), (predict, ["ckpt=x", "input=y"], "'output'"), (predict, ["ckpt=x", "input=y", "output=z"], "x"),
        (evaluate, ["ckpt=."], "folder"), (evaluate, ["ckpt"], "ckpt"),
    ],
)  # fmt: skip
def test_mistakes_at_the_other_doors(door, tmp_path, module, arguments, culprit):
    check(*door(arguments, module), culprit, tmp_path)


def test_resume_auto_needs_a_folder_that_stays(door, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text = door([*SMALL, "resume=auto"])
    assert (code, len(text.splitlines())) == (1, 1)
    assert "hydra.run.dir=DIR" in text
