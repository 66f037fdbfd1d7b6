"""YOLO, LabelMe and CVAT: the same objects, saved as each tool saves them, become the same samples as from COCO's JSON."""

import base64
import inspect
import io
import json
import logging
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seglab.config import conf_dir
from seglab.data.coco import Coco
from seglab.data.cvat import Cvat
from seglab.data.labelme import Labelme
from seglab.data.outlined import box, counts, ellipse
from seglab.data.yolo import Yolo
from seglab.errors import DataError, SeglabError
from seglab.rle import decode

H, W = 32, 64  # powers of two: shares of them are exact
NAMES = ["cat", "dog"]
KINDS = {"yolo": Yolo, "labelme": Labelme, "cvat": Cvat}
# For each image its objects: (class, polygons of one object). Some overlap; one image is empty.
TRIANGLE, SQUARE, CROSSING = [2, 2, 20, 3, 9.5, 25], [8, 8, 28, 8, 28, 28, 8, 28], [30, 4, 60, 9, 50, 30]
SET = {
    "train": {"a": [(1, [TRIANGLE]), (0, [SQUARE])], "b": [], "c": [(0, [CROSSING])]},
    "val": {"d": [(1, [CROSSING]), (1, [TRIANGLE])]},
}


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(path.stem.encode())
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (H, W, 3), np.uint8)).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))


def build_coco(root, content=SET):
    for split, images in content.items():
        entries, objects = [], []
        for name, some in images.items():
            picture(root / split / f"{name}.png")
            entries.append({"id": name, "file_name": f"{name}.png", "height": H, "width": W})
            objects += [{"image_id": name, "category_id": c, "segmentation": drawn, "iscrowd": 0} for c, drawn in some]
        objects = [{"id": n, **one} for n, one in enumerate(objects)]
        categories = [{"id": n, "name": name} for n, name in enumerate(NAMES)]
        write(
            root / f"annotations/instances_{split}.json", {"images": entries, "categories": categories, "annotations": objects}
        )


def build_yolo(root, content=SET):
    for split, images in content.items():
        for name, some in images.items():
            picture(root / f"images/{split}/{name}.png")
            lines = [
                " ".join(map(repr, [c, *(v / (W, H)[n % 2] for n, v in enumerate(part))]))
                for c, drawn in some
                for part in drawn
            ]
            if lines:
                write(root / f"labels/{split}/{name}.txt", "\n".join(lines) + "\n")
    write(root / "data.yaml", f"path: /somebody/else\ntrain: images/train\nnames:\n  0: {NAMES[0]}\n  1: {NAMES[1]}\n")


def shape(c, points, kind="polygon", group=None, **more):
    return {
        "label": NAMES[c],
        "points": np.reshape(points, (-1, 2)).tolist(),
        "shape_type": kind,
        "group_id": group,
        "flags": {},
        **more,
    }


def build_labelme(root, content=SET):
    for split, images in content.items():
        for name, some in images.items():
            picture(root / split / f"{name}.png")
            shapes = [shape(c, part) for c, drawn in some for part in drawn]
            write(root / split / f"{name}.json", {"version": "5.5.0", "shapes": shapes, "imagePath": f"{name}.png", "imageData": None,
                                                  "imageHeight": H, "imageWidth": W})  # fmt: skip


def xml(images):
    """annotations.xml: images are (name, subset or None, [elements])."""
    labels = "".join(f"<label><name>{n}</name><type>any</type></label>" for n in NAMES)
    body = ""
    for n, (name, subset, shapes) in enumerate(images):
        place = f" subset={quoteattr(subset)}" if subset else ""
        body += f'<image id="{n}" name={quoteattr(name)}{place} width="{W}" height="{H}">{"".join(shapes)}</image>'
    return f"<annotations><version>1.1</version><meta><project><labels>{labels}</labels></project></meta>{body}</annotations>"


def polygon(c, part):
    points = ";".join(f"{x},{y}" for x, y in np.reshape(part, (-1, 2)))
    return f'<polygon label="{NAMES[c]}" source="manual" occluded="0" points="{points}" z_order="0"></polygon>'


def build_cvat(root, content=SET):
    images = []
    for split, some in content.items():
        subset = {"train": "Train", "val": "Validation"}[split]
        for name, objects in some.items():
            picture(root / f"images/{subset}/{name}.png")
            images.append((f"{name}.png", subset, [polygon(c, part) for c, drawn in objects for part in drawn]))
    write(root / "annotations.xml", xml(images))


BUILD = {"yolo": build_yolo, "labelme": build_labelme, "cvat": build_cvat}


@pytest.mark.parametrize("name", BUILD)
def test_the_samples_are_those_of_coco(name, tmp_path):
    BUILD[name](tmp_path / name)
    build_coco(tmp_path / "coco")
    ours, theirs = KINDS[name](tmp_path / name), Coco(tmp_path / "coco")
    assert (ours.spec.classes, ours.spec.mode, ours.spec.instances) == (("background", "cat", "dog"), "multiclass", True)
    assert ours.spec == theirs.spec
    for split in ("train", "val", "test"):
        assert [i.split("/")[-1] for i in ours.ids(split)] == theirs.ids(split) == list(SET.get(split, {}))
        for n in range(len(theirs.ids(split))):
            got, want = ours.load(split, n), theirs.load(split, n)
            for key in ("image", "mask", "instances", "labels", "crowd"):
                np.testing.assert_array_equal(got[key], want[key], err_msg=f"{want['id']} {key}")
    assert set(np.unique(ours.load("train", 0)["mask"])) == {0, 1, 2}


@pytest.mark.parametrize("name", BUILD)
def test_the_yaml_has_the_arguments_with_their_defaults(name):
    node = yaml.safe_load((conf_dir() / f"data/{name}.yaml").read_text())
    assert node.pop("defaults") == [{"/loader@_here_": "default"}]
    assert node.pop("_target_") == f"{KINDS[name].__module__}.{KINDS[name].__name__}"
    parameters = inspect.signature(KINDS[name]).parameters
    assert node == {
        k: None if p.default is p.empty else list(p.default) if isinstance(p.default, tuple) else p.default
        for k, p in parameters.items()
    }


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=3, max_size=3))
def test_run_lengths_of_a_mask_are_that_mask(rows):
    from faster_coco_eval import mask as api

    mask = np.array(rows)
    rle = counts(mask)
    assert int(rle["counts"].sum()) == mask.size
    whole = api.frPyObjects({"size": [3, 5], "counts": rle["counts"].tolist()}, 3, 5)["counts"]
    np.testing.assert_array_equal(decode([whole], (3, 5))[0], mask)


@settings(max_examples=25, deadline=None)
@given(st.floats(1, 40), st.floats(1, 40), st.floats(0, 360))
def test_a_turned_shape_keeps_its_area_and_middle(rx, ry, degrees):
    for points, area in (
        (ellipse(50, 60, rx, ry, degrees), np.pi * rx * ry),
        (box(50 - rx, 60 - ry, 50 + rx, 60 + ry, degrees), 4 * rx * ry),
    ):
        x, y = points.reshape(-1, 2).T
        assert abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 == pytest.approx(area)
        assert (x.mean(), y.mean()) == pytest.approx((50, 60))


def test_a_quarter_turn_is_clockwise():
    np.testing.assert_allclose(box(0, 0, 4, 2, 90).reshape(-1, 2)[0], [3, -1])  # the upper left corner becomes the upper right


BLOB = np.zeros((H, W), bool)
BLOB[4:9, 10:14], BLOB[5, 11] = True, False


def test_labelme_reads_every_shape_with_an_area(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="seglab")
    build_labelme(tmp_path, {"train": {"a": []}})
    file = tmp_path / "train/a.json"
    data = io.BytesIO()
    Image.fromarray(BLOB[4:9, 10:14]).save(data, "PNG")
    mask = base64.b64encode(data.getvalue()).decode()
    shapes = [shape(0, [20, 20, 6, 10], "rectangle"), shape(1, [45, 15, 45, 25], "circle"), shape(0, [10, 4, 13, 8], "mask", mask=mask),
              shape(1, [0, 0, 4, 0, 4, 4], group=7), shape(1, [60, 28, 64, 28, 64, 32], group=7), shape(0, [0, 0, 4, 0, 4, 4], group=7),
              shape(0, [1, 1], "point"), shape(0, [1, 1, 5, 5], "line")]  # fmt: skip
    write(file, {**json.loads(file.read_text()), "shapes": shapes})
    sample = Labelme(tmp_path).load("train", 0)
    masks = [(sample["instances"] == n).any(-1) for n in range(1, 6)]
    assert sample["labels"].tolist() == [1, 2, 1, 2, 1]
    assert (masks[0][10:20, 6:20].all(), masks[0].sum()) == (True, 140)
    assert masks[1].sum() == pytest.approx(np.pi * 100, rel=0.05)
    np.testing.assert_array_equal(masks[2], BLOB)
    assert masks[3][:, :4].any()
    assert masks[3][:, 60:].any()
    assert "left out: 1 of type line, 1 of type point" in caplog.text


def test_cvat_reads_every_shape_with_an_area_and_splits_by_name_without_subsets(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="seglab")
    part = BLOB[4:9, 10:14].ravel()
    edges = np.flatnonzero(np.diff(np.r_[False, part]))
    rle = ", ".join(map(str, np.diff(np.r_[0, edges, part.size])))
    shapes = ['<box label="cat" xtl="6" ytl="10" xbr="20" ybr="20"></box>', '<ellipse label="dog" cx="45" cy="15" rx="10" ry="6"></ellipse>',
              f'<mask label="cat" rle="{rle}" left="10" top="4" width="4" height="5"></mask>', '<points label="cat" points="1,1"></points>',
              '<tag label="dog"></tag>']  # fmt: skip
    for n in range(12):
        picture(tmp_path / f"images/{n}.png")
    write(tmp_path / "annotations.xml", xml([(f"{n}.png", None, shapes) for n in range(12)]))
    data = Cvat(tmp_path, split=(0.5, 0.5, 0))
    assert sorted([*data.ids("train"), *data.ids("val")]) == sorted(map(str, range(12)))
    sample = data.load("train", 0)
    masks = [(sample["instances"] == n).any(-1) for n in range(1, 4)]
    assert sample["labels"].tolist() == [1, 2, 1]
    assert (masks[0][10:20, 6:20].all(), masks[0].sum()) == (True, 140)
    assert masks[1].sum() == pytest.approx(np.pi * 60, rel=0.06)
    np.testing.assert_array_equal(masks[2], BLOB)
    assert "left out: 12 points, 12 tag" in caplog.text


def test_yolo_finds_other_layouts_and_names(tmp_path):
    build_yolo(tmp_path)
    want = Yolo(tmp_path)
    for split, new in (("train", "train"), ("val", "valid")):  # as Roboflow exports them
        for kind in ("images", "labels"):
            (tmp_path / new).mkdir(exist_ok=True)
            (tmp_path / kind / split).rename(tmp_path / new / kind)
    (tmp_path / "data.yaml").unlink()
    write(tmp_path / "classes.txt", "cat\ndog\n")
    got = Yolo(tmp_path)
    assert got.fingerprint() == want.fingerprint()
    for new in ("train", "valid"):
        (tmp_path / new).rename(tmp_path / f"{new}2017")
    assert Yolo(tmp_path).fingerprint() == want.fingerprint()


def text(file, content):
    return lambda root: write(root / file, content)


def entry(**change):
    def plant(root):
        file = root / "train/a.json"
        write(file, {**json.loads(file.read_text()), **change})

    return plant


def replaced(old, new):
    def plant(root):
        file = root / "annotations.xml"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new, 1))

    return plant


MISTAKES = {
    "yolo, a box": ("yolo", text("labels/train/a.txt", "0 .5 .5 .1 .1"), r"a\.txt line 1 is a box \(4 numbers\)"),
    "yolo, two points": ("yolo", text("labels/train/a.txt", "0 .5 .5"), r"a\.txt line 1 has a polygon of 2 numbers"),
    "yolo, odd": ("yolo", text("labels/train/a.txt", "0 .1 .1 .5 .5 .1 .5 .2"), r"an odd number of coordinates"),
    "yolo, pixels": ("yolo", text("labels/train/a.txt", "0 1 1 20 20 1 20"), r"line 1 has coordinates outside of 0\.\.1"),
    "yolo, a word": ("yolo", text("labels/train/a.txt", "\ncat .1 .1"), r"line 2 holds 'cat \.1 \.1'"),
    "yolo, class 2": ("yolo", text("labels/train/a.txt", "2 .1 .1 .5 .5 .1 .5"), r"line 1 has the class 2, but .* are 0\.\.1"),
    "yolo, lost image": ("yolo", text("labels/train/z.txt", ""), r"z\.txt has no image in .*images/train"),
    "yolo, no names": ("yolo", text("data.yaml", "names: 3"), r"data\.yaml: 'names' must name every class"),
    "yolo, no list": ("yolo", text("data.yaml", "nc: 3"), r"data\.yaml has no readable list 'names'"),
    "yolo, two": ("yolo", text("other.yaml", "nc: 3"), r"one file with the names of classes.*it has data\.yaml, other\.yaml"),
    "yolo, no labels": ("yolo", lambda r: (r / "labels").rename(r / "x"), r"labels/train does not exist; expected are"),
    "yolo, no images": ("yolo", lambda r: (r / "images").rename(r / "x"), r"has no folder images, nor train/images"),
    "labelme, no image": ("labelme", lambda r: (r / "train/a.png").unlink(), r"a\.json names the image a\.png, which does not exist"),
    "labelme, no path": ("labelme", entry(imagePath=None), r"a\.json names no image"),
    "labelme, a size": ("labelme", entry(imageHeight=9), r"a\.png is 32 x 64 .* says 9 x 64"),
    "labelme, shared": ("labelme", entry(imagePath="b.png"), r"lists the image b\.png twice"),
    "labelme, other json": ("labelme", text("train/z.json", {"a": 1}), r"z\.json has no list 'shapes'"),
    "labelme, no json": ("labelme", lambda r: (r / "val/d.json").unlink(), r"val holds no \.json file of LabelMe"),
    "labelme, a star": ("labelme", entry(shapes=[shape(0, TRIANGLE, "star")]), r"a\.json shape 1 is of the unknown type star"),
    "labelme, half": ("labelme", entry(shapes=[shape(0, [1, 1], "circle")]), r"a\.json shape 1 \(circle\) cannot be read"),
    "labelme, a line": ("labelme", entry(shapes=[shape(0, [1, 1, 5, 5])]), r"shape 1 has a polygon of 4 numbers"),
    "cvat, no file": ("cvat", lambda r: (r / "annotations.xml").unlink(), r"has no annotations\.xml; export it again"),
    "cvat, no images": ("cvat", lambda r: (r / "images").rename(r / "x"), r"has no folder images; export it again"),
    "cvat, an image": ("cvat", lambda r: (r / "images/Train/b.png").unlink(), r"lists the image b\.png, but .*images has no such file"),
    "cvat, cut": ("cvat", text("annotations.xml", "<annotations><im"), r"annotations\.xml is not valid XML"),
    "cvat, a video": ("cvat", text("annotations.xml", "<annotations><track/></annotations>"), r"lists no image \(tracks"),
    "cvat, a label": ("cvat", replaced('<polygon label="dog"', '<polygon label="cow"'), r"has the label cow, which the file's list"),
    "cvat, points": ("cvat", replaced('points="2.0', 'points="x'), r"a\.png polygon 1 cannot be read"),
    "cvat, a subset": ("cvat", replaced('subset="Train"', 'subset="Trian"'), r"the subset 'Trian' must be train, val or test\. Did you mean 'train'"),
    "cvat, one without": ("cvat", lambda r: (picture(r / "images/a.png"), replaced(' subset="Train"', "")(r)), r"some images have a subset"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake, tmp_path):
    name, plant, message = MISTAKES[mistake]
    BUILD[name](tmp_path)
    plant(tmp_path)
    with pytest.raises(SeglabError, match=message) as error:
        KINDS[name](tmp_path)
    assert isinstance(error.value, DataError)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith((".", "?"))


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILD)
def test_a_run(name, tmp_path, train):
    BUILD[name](tmp_path)
    small = ["model=tiny", "data.batch_size=2", "data.num_workers=0", "trainer.max_epochs=1", "logger=none", "pictures=1",
             "trainer.accelerator=cpu", "trainer.precision=32-true", "instances=components"]  # fmt: skip
    found = train(f"data={name}", f"data.root={tmp_path}", *small, tiny=False)
    assert found["status"] == "finished"
    assert found["data"]["classes"] == ["background", "cat", "dog"]
    assert 0 <= found["metrics"]["val/iou"] < 1
