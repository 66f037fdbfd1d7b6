"""COCO's JSON becomes a Source, in each of the forms that real tools write it."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as reference
from pycocotools.coco import COCO

from seglab.data.coco import Coco
from seglab.data.coco_layout import find_files, image_folders
from seglab.data.coco_masks import run_length
from seglab.rle import decode

RNG = np.random.default_rng(0)
SIZE = (12, 16)
TOLD = {"mean": [0.5] * 3, "std": [0.25] * 3}
ALL_TRAIN = {"split": (1, 0, 0), **TOLD}
CATS = [{"id": 1, "name": "cat", "supercategory": "animal"}, {"id": 2, "name": "dog", "supercategory": "animal"}]


def square(x, y, side):
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def thing(number, image, segmentation=None, category=1, crowd=0, **more):
    seg = [square(2, 3, 4)] if segmentation is None else segmentation
    one = {"id": number, "image_id": image, "category_id": category, "segmentation": seg, "iscrowd": crowd}
    return {**one, "area": 1.0, "bbox": [0, 0, 1, 1], **more}


def picture(number, name=None, size=SIZE, **more):
    return {"id": number, "file_name": name or f"{number}.png", "height": size[0], "width": size[1], **more}


def write(file, images, annotations, categories=CATS, folder=None, **more):
    """A JSON file, and (in `folder`) a random RGB file for each image."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories, **more}))
    for one in images if folder else ():
        path = folder / one["file_name"].replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (*SIZE, 3), np.uint8)).save(path)


def single(root, annotations, categories=CATS, images=None, **more):
    write(root / "labels.json", images or [picture(1)], annotations, categories, root / "images", **more)
    return root


def filled(x, y, side):
    mask = np.zeros(SIZE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def plain_rle(mask):
    flat = mask.ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.r_[0, edges, flat.size]).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(mask.shape)}


def packed_rle(mask):
    one = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"counts": one["counts"].decode(), "size": one["size"]}


# layouts


@pytest.mark.parametrize("place", ["{s}2017", "{s}", "images/{s}2017", "images/{s}", "images", "."])
def test_the_layout_of_coco_itself(tmp_path, place):
    for number, split in enumerate(("train", "val"), 1):
        folder = tmp_path / place.format(s=split)
        write(tmp_path / f"annotations/instances_{split}2017.json", [picture(number)], [thing(7, number)], folder=folder)
        write(tmp_path / f"annotations/captions_{split}2017.json", [picture(number)], [{"id": 1, "caption": "a cat"}])
        write(tmp_path / f"annotations/person_keypoints_{split}2017.json", [picture(number)], [])
    (tmp_path / "annotations/image_info_test2017.json").write_text('{"images": []}')
    data = Coco(tmp_path, **TOLD)
    assert {s: data.ids(s) for s in ("train", "val", "test")} == {"train": ["1"], "val": ["2"], "test": []}
    assert data.load("val", 0)["image"].shape == (*SIZE, 3)
    assert data.name == tmp_path.name


def test_the_export_of_roboflow(tmp_path):
    cats = [{"id": 0, "name": "fish", "supercategory": "none"}, {"id": 1, "name": "fish", "supercategory": "fish"}]
    for split in ("train", "valid", "test"):
        folder = tmp_path / split
        write(folder / "_annotations.coco.json", [picture(0, f"{split}.rf.1a.png")], [thing(0, 0)], cats, folder)
    (tmp_path / "README.dataset.txt").write_text("")
    data = Coco(tmp_path, **TOLD)
    assert [data.ids(s) for s in ("train", "val", "test")] == [["train.rf.1a"], ["valid.rf.1a"], ["test.rf.1a"]]
    assert (data.spec.classes, data.spec.mode) == (("background", "fish"), "binary")
    assert data.load("val", 0)["mask"].max() == 1


def test_one_file_is_split_by_hash_as_a_folder_is(tmp_path):
    images = [picture(n, f"sub/{n:03}.png") for n in range(40)]
    single(tmp_path, [thing(n, n) for n in range(40)], images=images)
    data = Coco(tmp_path, split=(0.5, 0.3, 0.2), **TOLD)
    ids = [data.ids(s) for s in ("train", "val", "test")]
    assert sorted(name for some in ids for name in some) == [f"sub/{n:03}" for n in range(40)]
    assert 12 < len(ids[0]) < 28
    rest = images[:20]
    single(tmp_path, [], images=rest)
    assert Coco(tmp_path, split=(0.5, 0.3, 0.2), **TOLD).ids("train") == [n for n in ids[0] if n < "sub/020"]


def test_only_the_validation_file_was_downloaded(tmp_path):
    write(tmp_path / "annotations/instances_val2017.json", [picture(1)], [thing(1, 1)], folder=tmp_path / "val2017")
    assert Coco(tmp_path, **ALL_TRAIN).ids("train") == ["1"]
    told = Coco(tmp_path, val="annotations/instances_val2017.json", **TOLD)
    assert [told.ids(s) for s in ("train", "val")] == [[], ["1"]]


def test_files_and_folders_that_are_told(tmp_path):
    for name in "ab":
        write(tmp_path / f"json/{name}.json", [picture(1)], [thing(1, 1)], folder=tmp_path / f"pixels/{name}")
    files = {"train": "json/a.json", "val": "json/b.json"}
    data = Coco(tmp_path, **files, images={"train": "pixels/a", "val": "pixels/b"}, **TOLD)
    assert (data.load("train", 0)["image"] != data.load("val", 0)["image"]).any()
    alone = Coco(tmp_path, train="json/a.json", images=["json", "pixels/a"], **ALL_TRAIN)
    assert alone.ids("train") == ["1"]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["train.json", "val.json"], {"train": "train.json", "val": "val.json"}),
        (["annotations/Train.json", "annotations/myVALIDATION.json"], {"train": "Train.json", "val": "myVALIDATION.json"}),
        (["annotations/instances_default.json"], {"all": "instances_default.json"}),
        (["result.json"], {"all": "result.json"}),
        (["instances_train_val.json"], {"all": "instances_train_val.json"}),
        (["train/labels.json", "validation/labels.json"], {"train": "labels.json", "val": "labels.json"}),
        (["train/a.json", "train/b.json", "train.json", "test.json"], {"train": "train.json", "test": "test.json"}),
        (["train.json", "val.json", "other.json"], {"train": "train.json", "val": "val.json"}),
    ],
)
def test_names_of_json_files(tmp_path, files, found):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert {s: f.name for s, f in find_files(tmp_path, {}).items()} == found


def test_images_lie_beside_the_file_or_in_the_folder_of_its_subset(tmp_path):
    for name in ("data", "annotations", "images/default"):
        (tmp_path / name).mkdir(parents=True)
    folders = image_folders(tmp_path, tmp_path / "annotations/instances_default.json", "all", None)
    assert [os.path.relpath(f, tmp_path) for f in folders] == ["annotations", "images/default", "images", "data", "."]


@pytest.mark.parametrize("name", ["sub/folder/a.png", "sub\\a.png", "./a.png", "sub/../a.png"])
def test_file_names_with_folders(tmp_path, name):
    (tmp_path / "images/sub").mkdir(parents=True)
    data = Coco(single(tmp_path, [thing(1, 1)], images=[picture(1, name)]), **ALL_TRAIN)
    assert data.ids("train") == [os.path.normpath(name.replace("\\", "/")).removesuffix(".png")]


def test_ids_keep_the_suffix_where_two_stems_are_equal(tmp_path):
    data = Coco(single(tmp_path, [], images=[picture(1, "a.png"), picture(2, "a.jpg"), picture(3, "b.png")]), **ALL_TRAIN)
    assert data.ids("train") == ["a.jpg", "a.png", "b.png"]


def test_ids_are_sorted(tmp_path):
    images = [picture(n, name) for n, name in enumerate(("b.png", "a.png", "a-1.png", "a/c.png"))]
    assert Coco(single(tmp_path, [], images=images), **ALL_TRAIN).ids("train") == ["a", "a-1", "a/c", "b"]


# forms of segmentation

GAPLESS = np.isin(np.arange(192), range(27, 31)).reshape(SIZE, order="F")
OUTSIDE = np.zeros(SIZE, bool)
OUTSIDE[:6, :5] = True
TWO_PARTS = [square(1, 1, 3), square(8, 5, 5)]
FORMS = {
    "one polygon": ([square(2, 3, 4)], filled(2, 3, 4)),
    "two polygons": (TWO_PARTS, filled(1, 1, 3) | filled(8, 5, 5)),
    "uncompressed RLE": (plain_rle(filled(2, 3, 4)), filled(2, 3, 4)),
    "uncompressed RLE from the first pixel": (plain_rle(filled(0, 0, 4)), filled(0, 0, 4)),
    "compressed RLE": (packed_rle(filled(2, 3, 4)), filled(2, 3, 4)),
    "runs of no length": ({"size": list(SIZE), "counts": [5, 0, 22, 2, 0, 2, 161]}, GAPLESS),
    "outside of the image": ([square(-3, -2, 8)], OUTSIDE),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("crowd", [0, 1])
def test_forms_of_segmentation(tmp_path, form, crowd):
    segmentation, wanted = FORMS[form]
    data = Coco(single(tmp_path, [thing(5, 1, segmentation, crowd=crowd)]), **ALL_TRAIN)
    sample = data.load("train", 0)
    np.testing.assert_array_equal(sample["mask"], wanted)
    np.testing.assert_array_equal(sample["instances"][..., 0], wanted)
    assert sample["crowd"].tolist() == [bool(crowd)]


def test_a_run_of_no_length_leaves_the_library_s_own_string():
    segmentation, _ = FORMS["runs of no length"]
    clean = run_length({"size": list(SIZE), "counts": np.array([27, 4, 161])}, SIZE)
    gaps = {**segmentation, "counts": np.array(segmentation["counts"])}
    assert run_length(gaps, SIZE) == clean == run_length({"size": list(SIZE), "counts": clean.decode()}, SIZE)


def test_masks_are_those_of_pycocotools(tmp_path):
    """Random polygons, of whole numbers and not, inside and outside: every pixel as annToMask has it."""
    images, annotations = [], []
    for n in range(60):
        images.append(picture(n))
        for k in range(3):
            scale = RNG.choice([1.0, 0.3])
            parts = [((RNG.random(2 * RNG.integers(3, 9)) * 1.6 - 0.3) * 16 * scale + 0.1) for _ in range(RNG.integers(1, 4))]
            parts = [(np.round(p) if n % 2 else p).tolist() for p in parts]
            annotations.append(thing(10 * n + k, n, parts, category=1 + k % 2))
    single(tmp_path, annotations, images=images)
    data, official = Coco(tmp_path, **ALL_TRAIN), COCO(str(tmp_path / "labels.json"))
    for index, name in enumerate(data.ids("train")):
        sample = data.load("train", index)
        truth = [official.annToMask(a).astype(bool) for a in official.loadAnns(official.getAnnIds(imgIds=[int(name)]))]
        truth = [mask for mask in truth if mask.any()]
        found = [(sample["instances"] == n + 1).any(-1) for n in range(len(sample["labels"]))]
        np.testing.assert_array_equal(np.array(found), np.array(truth))


# garbage in strings that a C library would trust


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=125), max_size=40) | st.text(max_size=20))
def test_a_garbled_string_is_refused_or_read_whole(text):
    try:
        found = run_length({"size": [6, 7], "counts": text}, (6, 7))
    except ValueError as error:
        assert str(error).startswith("has an RLE whose counts ")
        assert "\n" not in str(error)
    else:
        assert decode([found], (6, 7)).shape == (1, 6, 7)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**42 - 1), st.integers(0, 30), st.characters(min_codepoint=48, max_codepoint=111))
def test_a_changed_character_never_reads_past_the_image(bits, at, char):
    mask = np.array([bits >> i & 1 for i in range(42)], bool).reshape(6, 7)
    text = packed_rle(mask)["counts"]
    np.testing.assert_array_equal(decode([run_length({"size": [6, 7], "counts": text}, (6, 7))], (6, 7))[0], mask)
    at = at % len(text)
    try:
        decode([run_length({"size": [6, 7], "counts": text[:at] + char + text[at + 1 :]}, (6, 7))], (6, 7))
    except ValueError as error:
        assert "counts" in str(error)


# oddities of the JSON


def test_annotations_in_any_order_ids_large_or_zero_and_keys_nobody_knows(tmp_path):
    images = [picture(2**53, "b.png", license=3, flickr_url="x"), picture(0, "a.png", date_captured=None)]
    odd = [thing(10**15, 0, [square(8, 6, 2)], 2, attributes={"occluded": False}), thing(0, 2**53), thing(3, 0)]
    single(tmp_path, odd, images=images, info={"year": "2017"})
    data = Coco(tmp_path, **ALL_TRAIN)
    assert data.ids("train") == ["a", "b"]
    assert [data.load("train", i)["labels"].tolist() for i in (0, 1)] == [[2, 1], [1]]


def test_ids_that_are_texts_and_whole_numbers_with_a_point(tmp_path):
    single(tmp_path, [thing("x", "img"), thing(1.0, 7.0, category=2.0)], images=[picture("img", "a.png"), picture(7, "b.png")])
    data = Coco(tmp_path, **ALL_TRAIN)
    assert [data.load("train", i)["labels"].tolist() for i in (0, 1)] == [[1], [2]]


def test_gaps_in_category_ids_and_categories_without_objects(tmp_path):
    cats = [{"id": i, "name": f"c{i}"} for i in (90, 3, 17, 1)]
    data = Coco(single(tmp_path, [thing(1, 1, category=90), thing(2, 1, [square(9, 6, 3)], 3)], cats), **ALL_TRAIN)
    assert data.spec.classes == ("background", "c1", "c3", "c17", "c90")
    assert (data.spec.mode, data.spec.ignore_index, data.spec.instances) == ("multiclass", 255, True)
    assert data.load("train", 0)["labels"].tolist() == [4, 2]


def test_categories_are_one_by_name_whatever_their_ids_in_the_files(tmp_path, caplog):
    caplog.set_level("INFO", logger="seglab")
    swapped = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "cow"}]
    write(tmp_path / "train.json", [picture(1)], [thing(1, 1, category=1)], folder=tmp_path)
    write(tmp_path / "val.json", [picture(2)], [thing(1, 2, category=2)], swapped, folder=tmp_path)
    data = Coco(tmp_path, **TOLD)
    assert data.spec.classes == ("background", "cat", "dog", "cow")
    assert data.load("train", 0)["labels"].tolist() == data.load("val", 0)["labels"].tolist() == [1]
    assert "categories that earlier files lack: cow" in caplog.text


def test_images_without_objects_are_kept(tmp_path):
    data = Coco(single(tmp_path, [thing(1, 1)], images=[picture(1), picture(2)]), **ALL_TRAIN)
    sample = data.load("train", 1)
    assert (sample["mask"].any(), sample["instances"].shape, sample["instances"].any()) == (False, (*SIZE, 1), False)
    assert (sample["labels"].shape, sample["labels"].dtype, sample["crowd"].dtype) == ((0,), np.int64, bool)


def test_sizes_that_the_file_does_not_give_come_from_the_image(tmp_path):
    data = Coco(single(tmp_path, [thing(1, 1)], images=[{"id": 1, "file_name": "1.png"}]), **ALL_TRAIN)
    assert data.sizes("train") == [SIZE]


def test_a_byte_order_mark(tmp_path):
    single(tmp_path, [thing(1, 1)])
    (tmp_path / "labels.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "labels.json").read_bytes())
    assert Coco(tmp_path, **ALL_TRAIN).ids("train") == ["1"]


def test_objects_without_pixels_are_left_out_and_counted(tmp_path, caplog):
    outside = [square(20, 3, 4)]
    data = Coco(single(tmp_path, [thing(31, 1, outside), thing(4, 1), thing(32, 1, outside)]), **ALL_TRAIN)
    assert data.load("train", 0)["labels"].tolist() == [1]
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        f"{tmp_path / 'labels.json'}: 2 objects have no pixel inside of their image and are left out; the first is annotation 31."
    ]


# classes


def test_named_classes_are_a_subset_in_their_order(tmp_path):
    things = [thing(1, 1), thing(2, 1, [square(9, 6, 3)], 2)]
    root = single(tmp_path, things)
    assert Coco(root, classes=["dog", "cat"], **ALL_TRAIN).load("train", 0)["labels"].tolist() == [2, 1]
    dogs = Coco(root, classes=["dog"], **ALL_TRAIN)
    sample = dogs.load("train", 0)
    assert (dogs.spec.mode, dogs.spec.classes) == ("binary", ("background", "dog"))
    np.testing.assert_array_equal(sample["mask"], filled(9, 6, 3))
    assert sample["labels"].tolist() == [1]


def test_an_unused_background_is_no_class(tmp_path):
    cats = [{"id": 0, "name": "background"}, *CATS]
    assert Coco(single(tmp_path, [thing(1, 1)], cats), **ALL_TRAIN).spec.classes == ("background", "cat", "dog")


def test_a_used_parent_stays_a_class(tmp_path):
    cats = [{"id": 0, "name": "animal"}, *CATS]
    root = single(tmp_path, [thing(1, 1, category=0)], cats)
    assert Coco(root, **ALL_TRAIN).spec.classes == ("background", "animal", "cat", "dog")


def test_colours_of_the_categories(tmp_path):
    cats = [{**c, "color": [i, 200, 30]} for i, c in enumerate(CATS)]
    assert Coco(single(tmp_path / "a", [], cats), **ALL_TRAIN).spec.colors[1:] == ((0, 200, 30), (1, 200, 30))
    plain = Coco(single(tmp_path / "b", []), **ALL_TRAIN).spec.colors
    cats[0]["color"] = "#ff0000"
    assert Coco(single(tmp_path / "c", [], cats), **ALL_TRAIN).spec.colors == plain


def test_more_categories_than_a_byte_holds(tmp_path):
    cats = [{"id": i, "name": f"c{i}"} for i in range(1, 301)]
    data = Coco(single(tmp_path, [thing(1, 1, category=300)], cats), **ALL_TRAIN)
    mask = data.load("train", 0)["mask"]
    assert (mask.max(), mask.dtype, data.spec.ignore_index) == (300, np.int32, 65535)


# what is drawn


def test_smaller_objects_lie_on_larger_ones_and_all_on_crowds(tmp_path):
    things = [
        thing(1, 1, [square(4, 4, 3)], 2),  # small, first
        thing(2, 1, [square(2, 2, 8)], 1),
        thing(3, 1, plain_rle(filled(5, 5, 2)), 1, crowd=1),  # the smallest, but a crowd
    ]
    sample = Coco(single(tmp_path, things), **ALL_TRAIN).load("train", 0)
    wanted = np.where(filled(4, 4, 3), 2, np.where(filled(2, 2, 8), 1, 0))
    np.testing.assert_array_equal(sample["mask"], wanted)
    assert (sample["labels"].tolist(), sample["crowd"].tolist()) == ([2, 1, 1], [False, False, True])


def test_of_two_of_equal_size_the_later_lies_on_top(tmp_path):
    things = [thing(9, 1, [square(2, 2, 4)], 1), thing(1, 1, [square(4, 4, 4)], 2)]
    mask = Coco(single(tmp_path, things), **ALL_TRAIN).load("train", 0)["mask"]
    np.testing.assert_array_equal(mask, np.where(filled(4, 4, 4), 2, filled(2, 2, 4)))


def test_layers_hold_overlapping_objects_whole(tmp_path):
    boxes = [(2, 2, 8), (4, 4, 3), (5, 5, 6), (0, 0, 2)]
    sample = Coco(single(tmp_path, [thing(n, 1, [square(*b)]) for n, b in enumerate(boxes)]), **ALL_TRAIN).load("train", 0)
    assert (sample["instances"].shape, sample["instances"].dtype) == ((*SIZE, 3), np.int32)
    for number, box in enumerate(boxes, 1):
        np.testing.assert_array_equal((sample["instances"] == number).any(-1), filled(*box))


def test_the_mask_alone_is_the_mask_of_the_sample(tmp_path):
    things = [
        thing(n, 1, [(RNG.random(10) * 16).tolist()], 1 + n % 2, crowd=int(n % 5 == 0), area=RNG.random()) for n in range(30)
    ]
    data = Coco(single(tmp_path, things), **ALL_TRAIN)
    sample, alone = data.load("train", 0), data.load_mask("train", 0)
    np.testing.assert_array_equal(sample["mask"], alone)
    assert alone.dtype == sample["mask"].dtype == np.uint8


# images


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array) if path.suffix == ".tif" else Image.fromarray(array).save(path)


def test_grey_among_colour_images_is_read_as_colour(tmp_path, caplog):
    caplog.set_level("INFO", logger="seglab")
    single(tmp_path, [], images=[picture(1), picture(2)])
    save(tmp_path / "images/2.png", np.full(SIZE, 7, np.uint8))
    data = Coco(tmp_path, split=(1, 0, 0))
    assert (data.load("train", 1)["image"] == np.full((*SIZE, 3), 7, np.uint8)).all()
    assert (data.spec.channels, len(data.spec.mean)) == (3, 3)
    assert "1 or 3 channels" in caplog.text
    assert Coco(tmp_path, split=(1, 0, 0), channels=1).load("train", 0)["image"].shape == (*SIZE, 1)


def test_8_and_16_bit_images_of_one_set_come_as_float(tmp_path):
    single(tmp_path, [], images=[picture(1), picture(2, "2.tif")])
    rgb = np.asarray(Image.open(tmp_path / "images/1.png"))
    save(tmp_path / "images/2.tif", rgb.astype(np.uint16) * 257)
    data = Coco(tmp_path, **ALL_TRAIN)
    one, two = (data.load("train", i)["image"] for i in (0, 1))
    assert one.dtype == two.dtype == np.float32
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_mean_and_std_are_measured_on_training_images(tmp_path):
    for n, split in enumerate(("train", "val")):
        write(tmp_path / f"{split}.json", [picture(n)], [], folder=tmp_path)
    pixels = np.asarray(Image.open(tmp_path / "0.png")) / 255
    spec = Coco(tmp_path).spec
    np.testing.assert_allclose(spec.mean, pixels.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(spec.std, pixels.std((0, 1)), rtol=1e-5)


# the object as a whole


def test_the_fingerprint_follows_the_data_and_not_the_place_date_or_order(tmp_path):
    def root(name, things, **more):
        RNG.bit_generator.state = state
        return single(tmp_path / name, things, images=[picture(1), picture(2)], **more)

    state = RNG.bit_generator.state
    things = [thing(1, 1), thing(2, 2, [square(4, 4, 3)], 2)]
    first = Coco(root("a", things), **ALL_TRAIN).fingerprint()
    os.utime(tmp_path / "a/images/1.png", (1, 1))
    assert first == Coco(root("b", things[::-1], info={"x": 1}), **ALL_TRAIN).fingerprint()
    others = [
        Coco(tmp_path / "a", **{**ALL_TRAIN, "split": (0, 1, 0)}),
        Coco(tmp_path / "a", classes=["dog", "cat"], **ALL_TRAIN),
        Coco(root("c", [thing(1, 1), thing(2, 2, [square(4, 4, 4)], 2)]), **ALL_TRAIN),
        Coco(root("d", [thing(1, 1), thing(2, 2, [square(4, 4, 3)], 1)]), **ALL_TRAIN),
        Coco(root("e", [thing(1, 1), thing(2, 2, [square(4, 4, 3)], 2, crowd=1)]), **ALL_TRAIN),
    ]
    assert len({first, *(one.fingerprint() for one in others)}) == 6


def test_it_travels_to_a_worker_without_the_json(tmp_path):
    data = Coco(single(tmp_path, [thing(1, 1, note="x" * 50_000)]), **ALL_TRAIN)
    sent = pickle.dumps(data)
    assert len(sent) < 5_000
    np.testing.assert_array_equal(pickle.loads(sent).load("train", 0)["mask"], data.load("train", 0)["mask"])


def test_a_sample_is_the_reader_s_own(tmp_path):
    data = Coco(single(tmp_path, [thing(1, 1)]), **ALL_TRAIN)
    data.load("train", 0)["labels"][0] = 9
    assert data.load("train", 0)["labels"].tolist() == [1]


def test_through_the_configuration(tmp_path):
    from seglab.config import load, plain
    from seglab.engine.assemble import source

    for n, split in enumerate(("train", "val")):
        write(tmp_path / f"{split}.json", [picture(n)], [thing(1, n)], folder=tmp_path)
    config = plain(load(["data=coco", f"data.root={tmp_path}", "data.classes=[cat]", "data.images=."]))
    data = source(config)
    assert isinstance(data, Coco)
    assert (data.ids("val"), data.spec.classes) == (["1"], ("background", "cat"))
    assert Path(data.name).name == tmp_path.name
