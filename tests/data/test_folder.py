"""A folder of images and masks becomes a Source: classes, mode, pairs and pixels as the files say."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from seglab.data.folder import Folder
from seglab.data.folder_stats import to_channels

RNG = np.random.default_rng(0)
ALL_TRAIN = {"split": (1, 0, 0)}
REAL = Path(os.environ.get("SEGLAB_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack")
    else:
        Image.fromarray(array).save(path)


def build(root, masks, image=None, suffix=".png"):
    """A folder root/{images,masks} with one random RGB image (or `image`) per mask."""
    for i, mask in enumerate(masks):
        picture = RNG.integers(0, 256, (*mask.shape[:2], 3), np.uint8) if image is None else image
        write(root / f"images/i{i}{'.png' if picture.dtype == np.uint8 else '.tif'}", picture)
        write(root / f"masks/i{i}{suffix}", mask)
    return root


def ids_mask(*values, size=(6, 8)):
    mask = RNG.choice(np.array(values), size)
    mask.ravel()[: len(values)] = values
    return mask.astype(np.uint8)


def test_two_counted_classes_are_binary(tmp_path, caplog):
    masks = [ids_mask(0, 1), ids_mask(0, 1, 255)]
    data = Folder(build(tmp_path / "set", masks), **ALL_TRAIN)
    assert (data.name, data.spec.classes, data.spec.mode) == ("set", ("background", "foreground"), "binary")
    assert (data.spec.ignore_index, data.spec.channels, data.spec.instances) == (255, 3, False)
    sample = data.load("train", 1)
    np.testing.assert_array_equal(sample["mask"], masks[1])
    assert (sample["id"], sample["size"], sample["mask"].dtype) == ("i1", (6, 8), np.uint8)
    assert (data.ids("val"), data.sizes("train")) == ([], [(6, 8), (6, 8)])


def test_0_and_255_are_binary_and_said_so(tmp_path, caplog):
    caplog.set_level("INFO", logger="seglab")
    masks = [ids_mask(0, 255), ids_mask(0, 255)]
    data = Folder(build(tmp_path, masks), **ALL_TRAIN)
    assert data.spec.mode == "binary"
    np.testing.assert_array_equal(data.load("train", 0)["mask"], masks[0] // 255)
    assert sum("only 0 and 255" in r.message for r in caplog.records) == 1


def test_0_and_255_with_two_names(tmp_path):
    data = Folder(build(tmp_path, [ids_mask(0, 255)]), classes=["bg", "crack"], **ALL_TRAIN)
    assert (data.spec.classes, data.spec.mode) == (("bg", "crack"), "binary")
    assert set(np.unique(data.load("train", 0)["mask"])) == {0, 1}


def test_255_told_to_be_ignore_stays_ignore_and_the_lack_of_objects_is_warned_about(tmp_path, caplog):
    data = Folder(build(tmp_path, [ids_mask(0, 255)]), classes=["bg", "crack"], ignore_index=255, **ALL_TRAIN)
    assert set(np.unique(data.load("train", 0)["mask"])) == {0, 255}
    assert "is that meant" in caplog.text


def test_counted_classes_of_all_splits(tmp_path, caplog):
    caplog.set_level("INFO", logger="seglab")
    for split, values in (("train", (0, 1)), ("test", (0, 3))):
        write(tmp_path / f"{split}/images/a.png", ids_mask(0, 9))
        write(tmp_path / f"{split}/masks/a.png", ids_mask(*values))
    data = Folder(tmp_path)
    assert data.spec.classes == ("class_0", "class_1", "class_2", "class_3")
    assert (data.spec.mode, data.spec.channels) == ("multiclass", 1)
    assert "1 were not met" in caplog.text


@pytest.mark.parametrize(
    ("classes", "mode", "found"),
    [
        (["background", "road"], None, "binary"),
        (["Not-road", "road"], None, "binary"),
        (["cat", "dog"], None, "multiclass"),
        (["background", "road"], "multiclass", "multiclass"),
        (["cat", "dog"], "binary", "binary"),
        (["other", "cat", "dog"], None, "multiclass"),
        (["crack"], None, "binary"),
    ],
)
def test_the_mode_follows_from_the_classes_unless_told(tmp_path, classes, mode, found):
    data = Folder(build(tmp_path, [ids_mask(0, 1)]), classes=classes, mode=mode, **ALL_TRAIN)
    assert data.spec.mode == found
    assert data.spec.classes == (tuple(classes) if len(classes) > 1 else ("background", "crack"))


CLASSES_JSON = {
    "full": {"classes": ["a", "b", "c"], "ignore_index": 11, "palette": [[1, 1, 1], [2, 2, 2], [3, 3, 4]]},
    "names": ["a", "b", "c"],
    "colours": {"a": [1, 1, 1], "b": [2, 2, 2], "c": [3, 3, 4]},
}


@pytest.mark.parametrize("form", CLASSES_JSON)
def test_forms_of_classes_json(tmp_path, form):
    ignore = 11 if form == "full" else 255
    build(tmp_path, [ids_mask(0, 1, 2, ignore)])
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES_JSON[form]))
    spec = Folder(tmp_path, **ALL_TRAIN).spec
    assert (spec.classes, spec.ignore_index, spec.mode) == (("a", "b", "c"), ignore, "multiclass")
    assert (spec.colors == ((1, 1, 1), (2, 2, 2), (3, 3, 4))) == (form != "names")


def test_arguments_override_classes_json(tmp_path):
    build(tmp_path, [ids_mask(0, 1, 7)])
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES_JSON["full"]))
    spec = Folder(tmp_path, classes=["x", "y"], ignore_index=7, **ALL_TRAIN).spec
    assert (spec.classes, spec.ignore_index) == (("x", "y"), 7)


TABLE = [[128, 0, 0], [0, 128, 0], [0, 0, 128]]


@pytest.mark.parametrize("source", ["argument", "file"])
@pytest.mark.parametrize("alpha", [False, True])
def test_rgb_masks_through_a_colour_table(tmp_path, source, alpha):
    ids = ids_mask(0, 1, 2, 3)
    rgb = np.array([*TABLE, [0, 0, 0]], np.uint8)[ids]
    if alpha:
        rgb = np.dstack([rgb, np.full(ids.shape, 255, np.uint8)])
    build(tmp_path, [rgb])
    told = {"classes": ["a", "b", "c"], "ignore_color": [0, 0, 0], **({"palette": TABLE} if source == "file" else {})}
    (tmp_path / "classes.json").write_text(json.dumps(told))
    data = Folder(tmp_path, colors=TABLE if source == "argument" else None, **ALL_TRAIN)
    np.testing.assert_array_equal(data.load("train", 0)["mask"], np.where(ids == 3, 255, ids))
    assert data.spec.colors == tuple(map(tuple, TABLE))


def test_colours_without_names(tmp_path):
    build(tmp_path, [np.array(TABLE, np.uint8)[ids_mask(0, 1, 2)]])
    assert Folder(tmp_path, colors=TABLE, **ALL_TRAIN).spec.classes == ("class_0", "class_1", "class_2")


def test_grey_ids_saved_as_rgb_are_ids_with_and_without_a_palette(tmp_path):
    ids = ids_mask(0, 1, 2)
    build(tmp_path, [np.dstack([ids] * 3)])
    for colors in (None, TABLE):
        np.testing.assert_array_equal(Folder(tmp_path, colors=colors, **ALL_TRAIN).load("train", 0)["mask"], ids)


def test_grey_colours_of_the_table_are_colours(tmp_path):
    ids = ids_mask(0, 1)
    build(tmp_path, [np.array([[10, 10, 10], [200, 200, 200]], np.uint8)[ids]])
    data = Folder(tmp_path, colors=[[10, 10, 10], [200, 200, 200], [9, 0, 0]], **ALL_TRAIN)
    np.testing.assert_array_equal(data.load("train", 0)["mask"], ids)


def test_foreground_of_instance_ids_keeps_the_instances(tmp_path):
    stored = np.arange(48, dtype=np.uint16).reshape(6, 8) * 20  # 255 * n and ids past a byte are objects like any other
    data = Folder(build(tmp_path, [stored], suffix=".tif"), foreground=True, **ALL_TRAIN)
    sample = data.load("train", 0)
    assert (data.spec.mode, data.spec.instances, data.spec.classes) == ("binary", True, ("background", "foreground"))
    np.testing.assert_array_equal(sample["mask"], stored > 0)
    np.testing.assert_array_equal(sample["instances"], stored)
    assert (sample["mask"].dtype, sample["instances"].dtype) == (np.uint8, np.int32)


def test_foreground_leaves_ignore_out_of_the_instances(tmp_path):
    data = Folder(build(tmp_path, [ids_mask(0, 1, 2, 99)]), foreground=True, ignore_index=99, classes=["cell"], **ALL_TRAIN)
    sample = data.load("train", 0)
    assert data.spec.classes == ("background", "cell")
    assert set(np.unique(sample["mask"])) == {0, 1, 99}
    assert set(np.unique(sample["instances"])) == {0, 1, 2}


def test_foreground_of_coloured_instances(tmp_path):
    rgb = np.array([[0, 0, 0], [255, 0, 0], [0, 200, 7]], np.uint8)[ids_mask(0, 1, 2)]
    sample = Folder(build(tmp_path, [rgb]), foreground=True, **ALL_TRAIN).load("train", 0)
    np.testing.assert_array_equal(sample["mask"], rgb.any(axis=-1))
    assert len(np.unique(sample["instances"])) == 3


def test_plain_binary_masks_have_no_instances(tmp_path):
    data = Folder(build(tmp_path, [ids_mask(0, 255)]), foreground=True, **ALL_TRAIN)
    assert not data.spec.instances
    assert "instances" not in data.load("train", 0)


@pytest.mark.parametrize(
    ("layers", "suffix", "mode"), [(2, ".tif", None), (5, ".tif", None), (3, ".png", "multilabel"), (4, ".png", "multilabel")]
)
@pytest.mark.parametrize("scale", [1, 255])
def test_multilabel_masks(tmp_path, layers, suffix, mode, scale):
    truth = RNG.integers(0, 2, (6, 8, layers)).astype(np.uint8)
    data = Folder(build(tmp_path, [truth * scale], suffix=suffix), mode=mode, **ALL_TRAIN)
    assert (data.spec.mode, data.spec.num_classes) == ("multilabel", layers)
    np.testing.assert_array_equal(data.load("train", 0)["mask"], truth)


def test_more_classes_than_a_byte_holds(tmp_path):
    stored = np.arange(300, dtype=np.uint16).reshape(15, 20)
    data = Folder(build(tmp_path, [stored], suffix=".tif"), classes=[f"c{i}" for i in range(300)], **ALL_TRAIN)
    mask = data.load("train", 0)["mask"]
    np.testing.assert_array_equal(mask, stored)
    assert (mask.dtype, data.spec.ignore_index) == (np.int32, 65535)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mixture_of_channels_is_converted(tmp_path, channels):
    for i, shape in enumerate([(6, 8), (6, 8, 3), (6, 8, 4), (6, 8, 2)]):
        write(tmp_path / f"images/{i}.png", RNG.integers(0, 256, shape, np.uint8))
        write(tmp_path / f"masks/{i}.png", ids_mask(0, 1))
    data = Folder(tmp_path, channels=channels, **ALL_TRAIN)
    assert {data.load("train", i)["image"].shape for i in range(4)} == {(6, 8, channels)}
    assert len(data.spec.mean) == channels


def test_conversions_of_channels():
    rgba = RNG.integers(0, 256, (4, 5, 4), np.uint8)
    np.testing.assert_array_equal(to_channels(rgba, 3, ""), rgba[..., :3])
    luma = rgba[..., :3].astype(float) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(to_channels(rgba, 1, "")[..., 0], luma, atol=1)
    np.testing.assert_array_equal(to_channels(rgba[..., :1], 3, ""), rgba[..., [0, 0, 0]])


def test_8_and_16_bit_images_of_one_set_come_as_float(tmp_path):
    grey = RNG.integers(0, 256, (6, 8), np.uint8)
    write(tmp_path / "images/a.png", grey)
    write(tmp_path / "images/b.tif", grey.astype(np.uint16) * 257)
    for name in "ab":
        write(tmp_path / f"masks/{name}.png", ids_mask(0, 1))
    a, b = (Folder(tmp_path, **ALL_TRAIN).load("train", i)["image"] for i in (0, 1))
    assert a.dtype == b.dtype == np.float32
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_mean_and_std_are_those_of_the_training_images(tmp_path):
    images = RNG.integers(0, 256, (5, 20, 30, 3), np.uint8) // np.array([1, 2, 4], np.uint8)
    for i, image in enumerate(images):
        write(tmp_path / f"train/images/{i}.png", image)
        write(tmp_path / f"train/masks/{i}.png", ids_mask(0, 1, size=(20, 30)))
        write(tmp_path / f"test/images/{i}.png", image * 0 + 255)
        write(tmp_path / f"test/masks/{i}.png", ids_mask(0, 1, size=(20, 30)))
    spec = Folder(tmp_path).spec
    np.testing.assert_allclose(spec.mean, images.mean((0, 1, 2)) / 255, rtol=1e-5)
    np.testing.assert_allclose(spec.std, images.std((0, 1, 2)) / 255, rtol=1e-5)
    given = Folder(tmp_path, mean=[0.1, 0.2, 0.3], std=[1, 1, 1]).spec
    assert (given.mean, given.std) == ((0.1, 0.2, 0.3), (1, 1, 1))


def test_a_constant_image_has_a_usable_std(tmp_path):
    build(tmp_path, [ids_mask(0, 1)], image=np.full((6, 8, 3), 7, np.uint8))
    assert Folder(tmp_path, **ALL_TRAIN).spec.std == (1, 1, 1)


def test_the_fingerprint_follows_the_data_and_not_the_place_or_date(tmp_path):
    masks = [ids_mask(0, 1), ids_mask(0, 1)]
    image = RNG.integers(0, 256, (6, 8, 3), np.uint8)
    one, two = (build(tmp_path / name, masks, image) for name in "ab")
    os.utime(two / "images/i0.png", (1, 1))
    for root in (one, two):
        (root / "classes.json").write_text('["background", "cell"]')
    first = Folder(one, **ALL_TRAIN).fingerprint()
    assert first == Folder(two, **ALL_TRAIN).fingerprint()
    assert (
        len({first, Folder(one, split=(0, 1, 0)).fingerprint(), Folder(one, classes=["a", "b"], **ALL_TRAIN).fingerprint()})
        == 3
    )
    write(two / "images/i0.png", np.zeros((6, 8, 3), np.uint8))
    assert Folder(two, **ALL_TRAIN).fingerprint() != first


def test_a_folder_travels_to_a_worker(tmp_path):
    data = Folder(build(tmp_path, [np.array(TABLE, np.uint8)[ids_mask(0, 1, 2)]]), colors=TABLE, **ALL_TRAIN)
    sent = pickle.dumps(data)
    assert len(sent) < 20_000  # the 16 MB colour table stays at home
    np.testing.assert_array_equal(pickle.loads(sent).load("train", 0)["mask"], data.load("train", 0)["mask"])


@pytest.mark.slow
def test_camvid():
    root = REAL / "camvid"
    if not root.is_dir():
        pytest.skip(f"no real data in {root}; set SEGLAB_TEST_DATA")
    data = Folder(root)
    assert [len(data.ids(s)) for s in ("train", "val", "test")] == [367, 101, 233]
    assert (data.spec.num_classes, data.spec.ignore_index, data.spec.mode) == (11, 11, "multiclass")
    np.testing.assert_allclose(data.spec.mean, [0.4116, 0.4249, 0.4322], atol=0.01)
    found = set()
    for index in range(0, 101, 10):
        sample = data.load("val", index)
        stored = np.asarray(Image.open(root / f"val/masks/{sample['id']}.png"))
        np.testing.assert_array_equal(sample["mask"], stored)
        assert sample["image"].shape == (360, 480, 3)
        found |= set(np.unique(sample["mask"]).tolist())
    assert found == set(range(12))


@pytest.mark.slow
def test_nuclei():
    root = REAL / "nuclei"
    if not root.is_dir():
        pytest.skip(f"no real data in {root}; set SEGLAB_TEST_DATA")
    data = Folder(root, foreground=True)
    listed = json.loads((root / "split.json").read_text())
    assert {s: data.ids(s) for s in listed} == {s: sorted(Path(n).stem for n in names) for s, names in listed.items()}
    assert [len(data.ids(s)) for s in ("train", "val", "test")] == [100, 20, 20]
    samples = [data.load("train", i) for i in range(100)]
    assert sum(int(s["instances"].max()) for s in samples) == 2837
    assert np.mean([s["mask"].mean() for s in samples]) == pytest.approx(0.166, abs=0.001)
