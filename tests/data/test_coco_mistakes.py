"""Each mistake in a COCO data set ends in one sentence that names the file and the entry, before training starts."""

import copy
import json

import numpy as np
import pytest
from PIL import Image

from seglab.data.coco import Coco
from seglab.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
SQUARE = [2, 2, 6, 2, 6, 6, 2, 6]
SOUND = {
    "images": [{"id": n, "file_name": f"{n}.png", "height": 8, "width": 10} for n in (1, 2, 3)],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [{"id": 40 + n, "image_id": n, "category_id": 1, "iscrowd": 0, "segmentation": [SQUARE]} for n in (1, 2, 3)],
}


@pytest.fixture
def root(tmp_path):
    """A sound set/set.json with three images in set/images."""
    (tmp_path / "set/images").mkdir(parents=True)
    for n in (1, 2, 3):
        Image.fromarray(RNG.integers(0, 256, (8, 10, 3), np.uint8)).save(tmp_path / f"set/images/{n}.png")
    (tmp_path / "set/set.json").write_text(json.dumps(SOUND))
    return tmp_path / "set"


def entry(key, **values):
    """Change values of the second entry of a list; None removes the key."""

    def plant(root):
        content = copy.deepcopy(SOUND)
        one = content[key][1]
        one.update(values)
        content[key][1] = {k: v for k, v in one.items() if v is not None}
        (root / "set.json").write_text(json.dumps(content))

    return plant


def drawn(segmentation):
    return entry("annotations", segmentation=segmentation)


def top(**values):
    return lambda root: (root / "set.json").write_text(
        json.dumps({k: v for k, v in {**SOUND, **values}.items() if v is not None})
    )


def text(content):
    return lambda root: (root / "set.json").write_bytes(content)


def picture(content):
    return lambda root: (root / "images/2.png").write_bytes(content)


def sized(*shape):
    return lambda root: Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(root / "images/2.png")


def named(*names):
    return lambda root: [(root / "set.json").rename(root / names[0]), *[(root / n).write_text("{}") for n in names[1:]]]


def twice(same):
    def plant(root):
        (root / "set.json").rename(root / "train.json")
        (root / "link").symlink_to(root / "images")
        other = {**SOUND, "images": [{**SOUND["images"][1], "file_name": same}], "annotations": []}
        (root / "val.json").write_text(json.dumps(other))

    return plant


def within(root):
    (root / "images/again.png").symlink_to(root / "images/1.png")
    entry("images", file_name="again.png")(root)


def nothing(root):
    pass


ANN = r"set\.json: annotation 42 "
MISTAKES = {
    # arguments
    "no root": (nothing, {"root": None}, r"data\.root is not set.*data=coco"),
    "root mistyped": (nothing, {"root": "{root}x"}, r"data\.root=.*setx does not exist.*Did you mean 'set'"),
    "root is a file": (nothing, {"root": "{root}/set.json"}, r"data\.root=.*set\.json is a file"),
    "file mistyped": (nothing, {"train": "sett.json"}, r"data\.train=sett\.json is no file.*Did you mean 'set\.json'"),
    "folder mistyped": (nothing, {"images": "imagse"}, r"data\.images=imagse is no folder.*Did you mean 'images'"),
    "split mistyped": (nothing, {"images": {"trian": "images"}}, r"data\.images has the unknown split 'trian'.*'train'"),
    "folders by split of one file": (nothing, {"images": {"train": "images"}}, r"data\.images names folders by split"),
    "a split without folder": (
        nothing,
        {"images": {"train": "images"}, "val": "set.json"},
        r"data\.images names no folder for val",
    ),
    "class mistyped": (nothing, {"classes": ["cta"]}, r"data\.classes names 'cta'.*Did you mean 'cat'"),
    "class twice": (nothing, {"classes": ["cat", "cat"]}, r"data\.classes names 'cat' twice"),
    "background as a class": (nothing, {"classes": ["cat", "background"]}, r"data\.classes names 'background'"),
    "classes as a word": (nothing, {"classes": "cat"}, r"data\.classes must be a list"),
    "no classes": (nothing, {"classes": []}, r"data\.classes must be a list"),
    "fractions": (nothing, {"split": (0.5, 0.2, 0.2)}, r"data\.split=\[0\.5, 0\.2, 0\.2\]"),
    "mean without std": (nothing, {"mean": [0.5] * 3}, r"data\.mean and data\.std"),
    "channels is zero": (nothing, {"channels": 0}, r"data\.channels=0"),
    # which files
    "no JSON": (lambda root: (root / "set.json").unlink(), {}, r"set holds no COCO JSON file \(it holds images\)"),
    "two of no split": (named("a.json", "b.json"), {}, r"several JSON files for no split \(a\.json, b\.json\)"),
    "two for one split": (
        named("instances_train2014.json", "instances_train2017.json", "instances_val2017.json"),
        {},
        r"several JSON files for train \(instances_train2014\.json, instances_train2017\.json\); choose by data\.train",
    ),
    # the JSON as a whole
    "empty file": (text(b""), {}, r"set\.json cannot be read as JSON: Expecting value"),
    "cut off": (text(json.dumps(SOUND).encode()[:200]), {}, r"set\.json cannot be read as JSON"),
    "no text": (text(b"\x89PNG\r\n\xff\xfe"), {}, r"set\.json cannot be read as JSON"),
    "deep": (text(b"[" * 100_000), {}, r"set\.json cannot be read as JSON"),
    "results": (text(b'[{"image_id": 1, "category_id": 1, "score": 0.5}]'), {}, r"set\.json is a list or"),
    "one annotation alone": (text(b'{"image_id": 1}'), {}, r"set\.json is a list or a single entry"),
    "no images": (top(images=None), {}, r"set\.json has no list 'images'"),
    "empty images": (top(images=[], annotations=[]), {}, r"set\.json lists no images"),
    "no annotations": (top(annotations=None), {}, r"set\.json has no list 'annotations'"),
    "categories as object": (top(categories={"1": "cat"}), {}, r"set\.json has no list 'categories'"),
    "no categories": (top(categories=[], annotations=[]), {}, r"set\.json lists no categories"),
    # images
    "image missing": (lambda root: (root / "images/2.png").unlink(), {}, r"set\.json lists the image 2\.png.*set.images"),
    "image is empty": (picture(b""), {}, r"images.2\.png cannot be read: the file is empty.*image 2 from .*set\.json"),
    "image is a page": (picture(b"<html>404</html>" * 9), {}, r"images.2\.png cannot be read"),
    "image of another size": (sized(8, 11), {}, r"2\.png is 8 x 11 .*set\.json says 8 x 10 of image 2; correct"),
    "image turned": (sized(10, 8), {}, r"2\.png is 10 x 8 .*set\.json says 8 x 10 of image 2 \(turned by 90 degrees"),
    "size as a word": (entry("images", width="wide"), {}, r"2\.png is 8 x 10 .*set\.json says 8 x wide of image 2"),
    "image id twice": (entry("images", id=1), {}, r"set\.json: the id 1 stands twice in 'images'"),
    "image without id": (entry("images", id=None), {}, r"set\.json: entry 1 of 'images' has no usable id"),
    "image without name": (entry("images", file_name=None), {}, r"set\.json: image 2 has no file_name"),
    "image name twice": (entry("images", file_name="1.png"), {}, r"set\.json lists 1\.png twice, as image 1 and as image 2"),
    "image is a word": (top(images=["1.png"]), {}, r"set\.json: entry 0 of 'images' is 1\.png, not an object"),
    "name leads out": (
        entry("images", file_name="a/../../2.png"),
        {},
        r"set\.json: image 2 has the file_name a/\.\./\.\./2\.png,",
    ),
    "name leads out the other way": (entry("images", file_name="..\\2.png"), {}, r"image 2 has the file_name .*outside"),
    "absolute name": (
        entry("images", file_name="/data/2.png"),
        {},
        r"image 2 has the file_name /data/2\.png, which leads outside",
    ),
    "name with a drive": (entry("images", file_name="C:\\x\\2.png"), {}, r"image 2 has the file_name C:.*outside"),
    "name of many lines": (entry("images", file_name="2\n\x1b[31m.png"), {}, r"lists the image 2\\n\\x1b\[31m\.png"),
    "image in two files": (twice("1.png"), {}, r"1\.png is listed in .*train\.json and .*val\.json"),
    "image in two files by a link": (twice("link/1.png"), {}, r"1\.png is listed in .*train\.json and .*val\.json"),
    "image twice by a link": (within, {}, r"again\.png is listed in .*set\.json twice"),
    # categories
    "category id twice": (entry("categories", id=1), {}, r"set\.json: the id 1 stands twice in 'categories'"),
    "category name twice": (entry("categories", name="cat"), {}, r"set\.json: the categories 1 and 2 have the same name 'cat'"),
    "category without name": (entry("categories", name=None), {}, r"set\.json: category 2 has no name"),
    "category without id": (entry("categories", id=True), {}, r"set\.json: entry 1 of 'categories' has no usable id \(True\)"),
    "objects of background": (
        top(categories=[{"id": 1, "name": "background"}, {"id": 2, "name": "dog"}]),
        {},
        r"category with objects is named 'background'",
    ),
    "background alone": (top(categories=[{"id": 1, "name": "background"}], annotations=[]), {}, r"no category that is a class"),
    # annotations
    "unknown category": (entry("annotations", category_id=7), {}, ANN + r"has the category_id 7, .*are 1, 2\)"),
    "no category": (entry("annotations", category_id=None), {}, ANN + r"has the category_id None"),
    "category is a list": (entry("annotations", category_id=[1]), {}, ANN + r"has the category_id \[1\]"),
    "unknown image": (entry("annotations", image_id=77), {}, ANN + "has the image_id 77"),
    "no image": (entry("annotations", image_id=None), {}, ANN + r"has the image_id None"),
    "annotation id twice": (entry("annotations", id=41), {}, r"set\.json: annotation 41 stands twice"),
    "annotation without id": (entry("annotations", id=None), {}, r"entry 1 of 'annotations' has the id None"),
    "annotation is a number": (top(annotations=[5]), {}, r"entry 0 of 'annotations' is 5"),
    # segmentations
    "box only": (drawn([]), {}, ANN + "has no segmentation .*draw its outline"),
    "segmentation missing": (drawn(None), {}, ANN + "has no segmentation"),
    "segmentation a word": (drawn("mask.png"), {}, ANN + r"has the segmentation mask\.png"),
    "crowd as text": (entry("annotations", iscrowd="0"), {}, ANN + "has iscrowd 0; it must be the number 0 or 1"),
    "two points": (drawn([SQUARE, [1, 1, 2, 2]]), {}, ANN + "has a polygon of 4 numbers"),
    "no points": (drawn([[]]), {}, ANN + "has a polygon of 0 numbers"),
    "odd": (drawn([[*SQUARE, 1]]), {}, ANN + "has a polygon of 9 numbers, an odd number"),
    "not a number": (drawn([[*SQUARE[:7], float("nan")]]), {}, ANN + "has the coordinate nan"),
    "infinite": (drawn([[*SQUARE[:7], float("inf")]]), {}, ANN + "has the coordinate inf"),
    "far away": (drawn([[*SQUARE[:7], -1e15]]), {}, ANN + r"has the coordinate -1e\+15, but its image is 8 x 10"),
    "larger than any number": (drawn([[*SQUARE[:7], 10**40]]), {}, ANN + "has a polygon that is no list of numbers"),
    "text for numbers": (drawn([[str(v) for v in SQUARE]]), {}, ANN + "has a polygon that is no list of numbers"),
    "null for a number": (drawn([[*SQUARE[:7], None]]), {}, ANN + "has a polygon that is no list of numbers"),
    "points in brackets": (drawn([[[2, 2], [6, 2], [6, 6]]]), {}, ANN + "has a polygon that is no list of numbers"),
    "ragged": (drawn([[[2, 2], [6], 3]]), {}, ANN + "has a polygon that is no list of numbers"),
    "bare list": (drawn(SQUARE), {}, ANN + "has a bare list of numbers"),
    "RLE of another size": (drawn({"size": [10, 8], "counts": [80]}), {}, ANN + r"has an RLE of size \[10, 8\].*\[8, 10\]"),
    "RLE without size": (drawn({"counts": [80]}), {}, ANN + "has an RLE of size None"),
    "RLE without counts": (drawn({"size": [8, 10]}), {}, ANN + r"has an RLE whose counts cannot be read \(None\)"),
    "counts too few": (drawn({"size": [8, 10], "counts": [10, 5, 60]}), {}, ANN + ".*counts add up to 75, .*80 pixels"),
    "counts negative": (drawn({"size": [8, 10], "counts": [90, -10]}), {}, ANN + ".*counts hold -10"),
    "counts overflow": (
        drawn({"size": [8, 10], "counts": [2**62] * 4 + [80]}),
        {},
        ANN + ".*counts add up to 18446744073709551696",
    ),
    "counts of fractions": (drawn({"size": [8, 10], "counts": [79.5, 0.5]}), {}, ANN + ".*counts cannot be read"),
    "counts of words": (drawn({"size": [8, 10], "counts": ["80"]}), {}, ANN + ".*counts cannot be read"),
    "empty counts": (drawn({"size": [8, 10], "counts": []}), {}, ANN + ".*counts cannot be read"),
    "empty string": (drawn({"size": [8, 10], "counts": ""}), {}, ANN + ".*counts cannot be read"),
    "garbled string": (drawn({"size": [8, 10], "counts": "o" * 50}), {}, ANN + ".*counts cannot be read"),
    "string of half a character": (drawn({"size": [8, 10], "counts": "\ud800P"}), {}, ANN + ".*counts cannot be read"),
    "number of ten characters": (drawn({"size": [8, 10], "counts": "`RPPPPPPP0"}), {}, ANN + ".*counts cannot be read"),
    "string of another mask": (drawn({"size": [8, 10], "counts": "PPPP0"}), {}, ANN + ".*counts"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(root, name):
    plant, options, pattern = MISTAKES[name]
    plant(root)
    options = {k: v.format(root=root) if k == "root" and v else v for k, v in options.items()}
    with pytest.raises((DataError, ConfigError), match=pattern) as error:
        Coco(**{"root": root, "split": (1, 0, 0), **options})
    text = str(error.value)
    assert "\n" not in text
    assert "\x1b" not in text
    assert text.endswith((".", "?"))
    assert len(text) < 500 + len(str(root)) * 5


def test_the_sound_set_is_accepted(root):
    assert Coco(root, split=(1, 0, 0)).spec.num_classes == 3


def test_a_file_that_goes_bad_or_changes_its_size_later(root):
    data = Coco(root, split=(1, 0, 0))
    sized(9, 10)(root)
    with pytest.raises(DataError, match=r"2\.png changed its size"):
        data.load("train", 1)
    (root / "images/2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png cannot be read"):
        data.load("train", 1)
    assert data.load_mask("train", 1).shape == (8, 10)
