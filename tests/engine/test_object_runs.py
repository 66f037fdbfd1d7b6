"""Runs with objects: a detector from the command to its files, and a semantic network whose map is cut into objects."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest
from conftest import TINY, TINY_RCNN
from faster_coco_eval import mask as api
from PIL import Image

from seglab import checkpoint, results
from seglab.config import chosen, load, override, plain
from seglab.engine import evaluate, fit, predict
from seglab.errors import ConfigError

OBJECTS = ("ap", "ap50", "ap75", "box_ap", "f1_50", "f1_90", "aji", "pq", "sq", "rq")
CHOICES = {"model": "x", "loss": "x", "data": "cells"}


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A run of the tiny detector, long enough to find something, with one low threshold for all that is asked of it."""
    folder = tmp_path_factory.mktemp("rcnn") / "run"
    given = [
        *TINY,
        *TINY_RCNN,
        "trainer.max_epochs=8",
        "data.train=16",
        "optimizer.lr=3e-3",
        "task.min_score=0.1",
        "mix=copypaste",
    ]
    fit(plain(load(given)), folder, CHOICES, given)
    return folder


@pytest.fixture(scope="module")
def semantic(tmp_path_factory):
    """A run of the tiny semantic network, its objects cut by watershed at every validation."""
    folder = tmp_path_factory.mktemp("unet") / "run"
    given = [
        *TINY,
        "trainer.max_epochs=12",
        "data.train=60",
        "data.test=8",
        "optimizer.lr=2e-2",
        "instances=watershed",
        "instances.min_pixels=4",
    ]
    fit(plain(load(given)), folder, CHOICES, given)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("which", ["detector", "semantic"])
def test_the_run_has_scores_of_objects_and_of_classes(which, request):
    run = request.getfixturevalue(which)
    found = results.read_results(run)
    assert found["status"] == "finished"
    assert found["monitor"] == ("val/ap" if which == "detector" else "val/iou")
    assert found["score"] == found["metrics"][found["monitor"]]
    for split in ("val", "test"):
        for name in (*OBJECTS, "iou", "accuracy"):
            assert 0 <= found["metrics"][f"{split}/{name}"] <= 1, name
        table = found["per_class"][split]
        assert "ap" not in table["background"]
        assert {"ap", "ap50", "box_ap", "f1_50", "pq", "aji", "objects", "iou", "support"} <= table["round"].keys()
    assert found["metrics"]["test/ap50" if which == "detector" else "test/aji"] > 0.001
    assert found["metrics"]["test/ap50"] >= found["metrics"]["test/ap"]
    header, *rows = (run / "metrics.csv").read_text().splitlines()
    assert "val/ap50" in header
    assert ("val/loss" in header) == (which == "semantic")  # a detector has no loss outside training
    assert len(rows) == (8 if which == "detector" else 12)
    assert [p.suffix for p in (run / "predictions").iterdir()] == [".png"]
    ids, classes, counts = results.read_per_image(run / "per_image.csv")
    assert (len(ids), classes) == (4 if which == "detector" else 8, ["background", "round", "spindle"])
    assert counts[..., [0, 2]].sum() == len(ids) * 48 * 48  # true positives and misses are all pixels


@pytest.mark.slow
@pytest.mark.parametrize("which", ["detector", "semantic"])
def test_evaluate_repeats_the_test(which, request, tmp_path):
    run = request.getfixturevalue(which)
    saved = checkpoint.load(run / "checkpoints" / "best.ckpt")
    again = evaluate(saved, saved.config, "test", tmp_path / "again", [])
    first = results.read_results(run)["metrics"]
    assert {k: v for k, v in again.items() if not math.isnan(v)} == {
        k: v for k, v in first.items() if k.startswith("test/") and v is not None
    }
    assert results.read_results(tmp_path / "again")["score"] == again["test/ap" if which == "detector" else "test/iou"]


@pytest.mark.slow
def test_the_parts_of_a_detectors_loss_are_logged(detector):
    header = (detector / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {f"train/loss/{p}" for p in ("own", "objectness", "proposal", "classifier", "box", "mask")} <= set(header)


@pytest.mark.slow
def test_predict_writes_ids_pictures_and_cocos_json(detector, tmp_path):
    saved = checkpoint.load(detector / "checkpoints" / "best.ckpt")
    rng = np.random.default_rng(0)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name, size in (("a.png", (50, 70)), ("deep/b.png", (33, 20))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / "in" / name)
    config = {**saved.config, "task": {**saved.config["task"], "min_score": 0.05}}
    predict(saved, config, tmp_path / "in", tmp_path / "out")
    told = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert [(i["file_name"], i["height"], i["width"]) for i in told["images"]] == [("a.png", 50, 70), ("deep/b.png", 33, 20)]
    assert told["categories"] == [{"id": 1, "name": "round"}, {"id": 2, "name": "spindle"}]
    assert [one["id"] for one in told["annotations"]] == list(range(1, len(told["annotations"]) + 1))
    for image, name in zip(told["images"], ("a", "deep/b"), strict=True):
        ids = cv2.imread(str(tmp_path / "out" / "instances" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert (ids.dtype, ids.shape) == (np.uint16, (image["height"], image["width"]))
        mine = [one for one in told["annotations"] if one["image_id"] == image["id"]]
        assert sorted(np.unique(ids)) == list(range(ids.max() + 1))  # no gaps
        assert len(mine) >= ids.max()
        assert [one["score"] for one in mine] == sorted((one["score"] for one in mine), reverse=True)
        classes = cv2.imread(str(tmp_path / "out" / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert ((classes > 0) == (ids > 0)).all()
        for one in mine:
            mask = api.decode({**one["segmentation"], "counts": one["segmentation"]["counts"].encode()})
            assert mask.shape == ids.shape
            assert int(mask.sum()) == one["area"]
        assert (tmp_path / "out" / "objects" / f"{name}.png").is_file()


@pytest.mark.slow
def test_instances_can_be_chosen_at_evaluation_and_prediction(semantic, tmp_path):
    saved = checkpoint.load(semantic / "checkpoints" / "best.ckpt")
    score = {}
    for name in ("components", "watershed", "none"):
        config = chosen(saved.config, "instances", name)
        if name == "watershed":  # so fine that it cuts wherever an outline is rough
            config = override(config, {"instances.smooth": 0.0, "instances.depth": 0.01})
        score[name] = evaluate(saved, config, "test", tmp_path / name, [])
    assert score["components"]["test/aji"] != score["watershed"]["test/aji"]
    assert "test/ap" not in score["none"]
    assert len({found["test/iou"] for found in score.values()}) == 1  # the map of classes is one and the same
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(tmp_path / "a.png")
    predict(saved, saved.config, tmp_path / "a.png", tmp_path / "with")
    predict(saved, chosen(saved.config, "instances", "none"), tmp_path / "a.png", tmp_path / "without")
    assert json.loads((tmp_path / "with" / "instances.json").read_text())["images"][0]["file_name"] == "a.png"
    assert sorted(p.name for p in (tmp_path / "without").iterdir()) == ["colors", "masks", "overlays"]
    with pytest.raises(ConfigError, match="watershed"):
        chosen(saved.config, "instances", "watersehd")


def folder_of(tmp_path, values):
    """Twelve images with one square each; its pixels hold `values`."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "d" / kind).mkdir(parents=True)
    for n in range(12):
        mask = np.zeros((48, 48), np.uint8)
        mask[8:30, 5:40] = values[n % len(values)]
        Image.fromarray(mask).save(tmp_path / "d" / "masks" / f"{n}.png")
        Image.fromarray((mask[..., None].astype(int) * 3 % 200 + rng.integers(0, 9, (48, 48, 3))).astype(np.uint8)).save(
            tmp_path / "d" / "images" / f"{n}.png"
        )
    return ["data=folder", f"data.root={tmp_path / 'd'}", "data.batch_size=4", "data.num_workers=0",
            *(o for o in TINY if not o.startswith("data."))]  # fmt: skip


def test_data_that_tell_no_objects_apart_are_refused_before_training(tmp_path):
    given = folder_of(tmp_path, [255])
    for more, words in (
        (
            TINY_RCNN,
            r"learns single objects, and these data do not tell them apart; with masks of instance ids set data\.foreground=true",
        ),
        (["instances=components"], r"'d' does not tell objects apart.*set instances=none \(predict takes it\)"),
        (["mix=copypaste"], r"mix \(CopyPaste\) pastes single objects, and the data set 'd' does not tell them apart"),
    ):
        with pytest.raises(ConfigError, match=words) as error:
            fit(plain(load([*given, *more])), tmp_path / words[:5], CHOICES, given)
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_masks_of_ids_make_a_folder_of_objects(tmp_path):
    given = [*folder_of(tmp_path, [1, 7, 200]), "data.foreground=true", *TINY_RCNN, "pictures=2"]
    fit(plain(load(given)), tmp_path / "run", CHOICES, given)
    found = results.read_results(tmp_path / "run")
    assert found["per_class"]["test"]["foreground"]["objects"] == found["data"]["counts"]["test"] > 0


def test_instances_without_a_background_are_refused(tmp_path):
    from seglab.engine import assemble
    from seglab.engine.keys import check_top
    from seglab.types import Spec

    config = check_top(plain(load([*TINY, "instances=components"])))
    with pytest.raises(ConfigError, match="instances=components makes objects of all classes but a background"):
        assemble.task(config, Spec(("sky", "road", "tree")))


def coco_of(folder):
    """Two splits of one square each on eight images, two categories, one of which only training has."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for n in range(8):
            x, y = (int(v) for v in rng.integers(4, 20, 2))
            pixels = rng.integers(0, 30, (48, 48, 3))
            pixels[y : y + 16, x : x + 20] += 200
            Image.fromarray(pixels.astype(np.uint8)).save(folder / split / f"{n}.png")
            images.append({"id": n, "file_name": f"{n}.png", "height": 48, "width": 48})
            square = [x, y, x + 20, y, x + 20, y + 16, x, y + 16]
            kind = 3 if split == "train" and n % 4 == 0 else 1
            annotations.append({"id": n + 1, "image_id": n, "category_id": kind, "segmentation": [square], "iscrowd": 0})
        categories = [{"id": k, "name": name} for k, name in ((1, "box"), (3, "rare")) if split == "train" or k == 1]
        told = {"images": images, "annotations": annotations, "categories": categories}
        (folder / split / "_annotations.coco.json").write_text(json.dumps(told))
    return [
        "data=coco",
        f"data.root={folder}",
        *(o for o in TINY if not o.startswith("data.") or "batch" in o or "workers" in o),
    ]


@pytest.mark.slow
def test_a_run_on_coco_is_evaluated_again_and_on_images_without_a_category(tmp_path):
    given = [*coco_of(tmp_path / "coco"), *TINY_RCNN, "trainer.max_epochs=2", "data.crop=null"]
    fit(plain(load(given)), tmp_path / "run", CHOICES, given)
    saved = checkpoint.load(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert saved.spec.classes == ("background", "box", "rare")
    evaluate(saved, saved.config, "test", tmp_path / "again", [])
    first, again = (results.read_results(tmp_path / name)["metrics"] for name in ("run", "again"))
    assert again == {k: v for k, v in first.items() if k.startswith("test/")}
    (tmp_path / "coco" / "train").rename(tmp_path / "coco" / "left out")
    elsewhere = override(saved.config, {"data.classes": None})
    evaluate(saved, elsewhere, "test", tmp_path / "without", [])  # no file names the category "rare" any more
    assert results.read_results(tmp_path / "without")["metrics"]["test/iou"] == first["test/iou"]


@pytest.mark.slow
def test_the_data_that_are_evaluated_on_decide_whether_objects_are_scored(tmp_path, detector, semantic):
    plain_masks, ids = folder_of(tmp_path / "a", [255]), folder_of(tmp_path / "b", [1, 7, 200])
    given = [*plain_masks, "trainer.max_epochs=1"]
    fit(plain(load(given)), tmp_path / "run", CHOICES, given)
    saved = checkpoint.load(tmp_path / "run" / "checkpoints" / "best.ckpt")
    other = override(saved.config, {"data.root": ids[1].split("=")[1], "data.foreground": True, "data.classes": None})
    found = evaluate(saved, chosen(other, "instances", "components"), "test", tmp_path / "objects", [])
    assert "test/ap" in found
    with pytest.raises(ConfigError, match="does not tell objects apart"):
        evaluate(saved, chosen(saved.config, "instances", "components"), "test", tmp_path / "none", [])
    with pytest.raises(ConfigError, match="add instances=watershed or components"):
        evaluate(saved, override(saved.config, {"instances.min_pixels": 4}), "test", tmp_path / "half", [])
    given = [*ids, "data.foreground=true", *TINY_RCNN]
    fit(plain(load(given)), tmp_path / "rcnn", CHOICES, given)
    saved = checkpoint.load(tmp_path / "rcnn" / "checkpoints" / "best.ckpt")
    maps = override(saved.config, {"data.root": plain_masks[1].split("=")[1], "data.foreground": False, "data.classes": None})
    found = evaluate(saved, maps, "test", tmp_path / "map", [])  # a detector's map, scored on masks without ids
    assert "test/iou" in found
    assert "test/ap" not in found


def test_a_detector_is_not_compiled_and_its_monitor_is_explained(tmp_path):
    given = [*TINY, *TINY_RCNN]
    with pytest.raises(ConfigError, match=r"compile=true: a detector's tensors change their sizes"):
        fit(plain(load([*given, "compile=true"])), tmp_path / "a", CHOICES, given)
    with pytest.raises(
        ConfigError, match=r"monitor=val/ap: no such value is logged. Scores of objects come with metrics=default"
    ):
        fit(plain(load([*given, "metrics=panoptic"])), tmp_path / "b", CHOICES, given)


@pytest.mark.slow
def test_a_run_is_not_resumed_with_other_instances(semantic):
    with pytest.raises(ConfigError, match=r"belongs to a run with other settings: instances\._target_"):
        fit(
            plain(load([f"resume={semantic}", "instances=components"])),
            semantic,
            CHOICES,
            [f"resume={semantic}", "instances=components"],
        )
