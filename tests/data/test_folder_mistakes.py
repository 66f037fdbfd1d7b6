"""Each mistake a user can make with a folder ends in one sentence that names the file or key, before training starts."""

import json

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from seglab.data.folder import Folder
from seglab.errors import ConfigError, DataError, SeglabError

RNG = np.random.default_rng(0)
MASK = np.array([[0, 1, 2, 0], [1, 2, 0, 1], [0, 0, 1, 2]], np.uint8)
BINARY = (MASK > 0).astype(np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack")
    else:
        Image.fromarray(array).save(path)


@pytest.fixture
def root(tmp_path):
    """Three sound pairs a, b, c with the ids 0, 1, 2."""
    for name in "abc":
        save(tmp_path / f"set/images/{name}.png", RNG.integers(0, 256, (3, 4, 3), np.uint8))
        save(tmp_path / f"set/masks/{name}.png", MASK)
    return tmp_path / "set"


def mask(name, array, suffix="png"):
    def plant(root):
        (root / f"masks/{name}.png").unlink()
        save(root / f"masks/{name}.{suffix}", array)

    return plant


def masks(*arrays, suffix="png"):
    return lambda root: [mask(name, array, suffix)(root) for name, array in zip("abc", arrays, strict=True)]


def image(name, array, suffix="png"):
    def plant(root):
        (root / f"images/{name}.png").unlink()
        save(root / f"images/{name}.{suffix}", array)

    return plant


def content(name, data):
    return lambda root: (root / name).write_bytes(data)


def cut(name, share):
    def plant(root):
        path = root / name
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return plant


def classes(value):
    return content("classes.json", (value if isinstance(value, str) else json.dumps(value)).encode())


def nothing(root):
    pass


RGB = np.dstack([MASK * 100, MASK * 20, MASK])
TABLE = [[0, 0, 0], [100, 20, 1], [200, 40, 2]]
MISTAKES = {
    # the folder
    "no root": (nothing, {"root": None}, r"data\.root is not set"),
    "root mistyped": (nothing, {"root": "{root}x"}, r"data\.root=.*setx does not exist.*Did you mean 'set'"),
    "root is a file": (nothing, {"root": "{root}/masks/a.png"}, r"data\.root=.*a\.png is a file"),
    "mask deleted": (lambda root: (root / "masks/b.png").unlink(), {}, r"images.b\.png has no mask"),
    "image deleted": (lambda root: (root / "images/b.png").unlink(), {}, r"masks.b\.png has no image"),
    "fractions": (nothing, {"split": (0.5, 0.2, 0.2)}, r"data\.split=\[0\.5, 0\.2, 0\.2\]"),
    # damaged files
    "empty image": (content("images/b.png", b""), {}, r"images.b\.png cannot be read: the file is empty"),
    "empty mask": (content("masks/b.png", b""), {}, r"masks.b\.png cannot be read: the file is empty"),
    "text as image": (content("images/b.png", b"<html>404</html>" * 9), {}, r"images.b\.png cannot be read"),
    "half an image": (cut("images/b.png", 0.5), {}, r"images.b\.png cannot be read"),
    "half a mask": (cut("masks/c.png", 0.6), {}, r"masks.c\.png cannot be read"),
    # pairs that do not fit
    "mask too small": (mask("b", MASK[:2]), {}, r"masks.b\.png is 2 x 4 .*images.b\.png is 3 x 4; give both the same size"),
    "mask turned": (mask("b", np.ascontiguousarray(MASK.T)), {}, r"b\.png is 4 x 3 .*b\.png is 3 x 4 \(turned by 90 degrees"),
    "grey among RGB": (image("b", MASK), {}, r"a\.png has 3 channels and .*b\.png has 1; set data\.channels=3"),
    "channels from seven": (
        lambda root: (image("b", np.zeros((11, 12, 7), np.uint8), "tif")(root), mask("b", np.zeros((11, 12), np.uint8))(root)),
        {"channels": 3},
        r"b\.tif has 7 channels, which data\.channels=3",
    ),
    "channels is zero": (nothing, {"channels": 0}, r"data\.channels=0"),
    "integer TIFF image": (image("b", np.ones((3, 4), np.int32), "tif"), {"channels": 1}, r"b\.tif has pixels of type int32"),
    # masks
    "JPEG mask": (lambda root: Image.fromarray(MASK).save(root / "masks/b.png", "jpeg"), {}, r"masks.b\.png is JPEG"),
    "fractional mask": (mask("b", MASK / np.float32(2), "tif"), {}, r"b\.tif holds fractions"),
    "id outside": (
        mask("b", MASK * 3),
        {"classes": ["x", "y", "z"]},
        r"b\.png holds the id 3 at row 0, column 1.*0\.\.2.*data\.ignore_index=3",
    ),
    "id outside a 16-bit mask": (
        mask("b", MASK.astype(np.uint16) * 300, "tif"),
        {"classes": ["x", "y", "z"]},
        r"b\.tif holds the id 300",
    ),
    "negative id": (mask("b", MASK.astype(np.int16) - 1, "tif"), {"classes": ["x", "y", "z"]}, r"b\.tif holds the id -1"),
    "instance ids": (mask("b", MASK.astype(np.uint16) * 150, "tif"), {}, r"b\.tif holds the id 300.*data\.foreground=true"),
    "trimap": (masks(*[np.array([0, 128, 255], np.uint8)[MASK]] * 3), {}, r"a\.png holds the id 128.*data\.classes"),
    "0/1 and 0/255 mixed": (masks(BINARY, BINARY * 255, BINARY), {}, r"a\.png marks the foreground by 1 and .*b\.png by 255"),
    "one class only": (masks(*[MASK * 0] * 3), {}, r"hold only \[0\] \(.*a\.png"),
    "all ignored": (masks(*[MASK * 0 + 255] * 3), {}, r"hold only \[255\]"),
    "colours without a table": (masks(RGB, RGB, RGB), {}, r"a\.png has RGB colours and no table"),
    "one coloured mask among ids": (mask("b", RGB), {}, r"b\.png has RGB colours and no table"),
    "colour not in the table": (
        masks(RGB, RGB, RGB + 1),
        {"colors": TABLE},
        r"c\.png holds the colour \[1, 1, 1\] at row 0, column 0",
    ),
    "ids among coloured masks": (
        masks(RGB, MASK, RGB),
        {"colors": TABLE},
        r"b\.png has one channel, but the other masks have RGB",
    ),
    "grey colour not in the table": (
        # The grey 5 must not pass for the colour (5, 0, 0), whose code is 5.
        masks(RGB, RGB, np.dstack([MASK * 5] * 3)),
        {"colors": [*TABLE, [5, 0, 0], [10, 0, 0]]},
        r"c\.png holds the colour \[5, 5, 5\]",
    ),
    "two classes of one colour": (
        masks(RGB, RGB, RGB),
        {"colors": [*TABLE, [0, 0, 0]]},
        r"colour \[0, 0, 0\] stands for two classes",
    ),
    "mask of two channels and ids": (
        mask("b", np.zeros((3, 4, 2), np.uint8), "tif"),
        {"mode": "multiclass"},
        r"b\.tif has 2 channels; a mask has one",
    ),
    "layers differ": (mask("b", np.zeros((3, 4, 2), np.uint8), "tif"), {}, r"a\.png has 1 channel and .*b\.tif has 2"),
    "layers and classes differ": (
        masks(*[np.zeros((3, 4, 2), np.uint8)] * 3, suffix="tif"),
        {"classes": ["x", "y", "z"]},
        r"a\.tif has 2 channels for the 3 classes of data\.classes",
    ),
    "multilabel of ids": (
        nothing,
        {"mode": "multilabel", "classes": ["x", "y"]},
        r"a\.png has 1 channel for the 2 classes of data\.classes",
    ),
    "multilabel values": (
        masks(RGB, RGB, RGB),
        {"mode": "multilabel"},
        r"a\.png holds the id 100 .*0, 1 and the ignore_index 255",
    ),
    # what is told
    "classes.json broken": (classes('{"classes": ['), {}, r"classes\.json is not valid JSON"),
    "classes.json without classes": (classes({"names": "x"}), {}, r"classes\.json has no 'classes'"),
    "classes.json number": (classes("3"), {}, r"classes\.json has a int"),
    "classes.json palette": (classes({"classes": ["x", "y", "z"], "palette": [[0, 0, 0]]}), {}, r"classes\.json: palette"),
    "classes.json ignore": (classes({"classes": ["x", "y", "z"], "ignore_index": "void"}), {}, r"classes\.json: ignore_index"),
    "classes.json twice": (classes(["x", "y", "x"]), {}, r"classes\.json names the class 'x' twice"),
    "classes.json colour": (classes({"x": [0, 0, 256], "y": [1, 1, 1]}), {}, r"classes\.json has the colour \[0, 0, 256\]"),
    "classes as a word": (nothing, {"classes": "road"}, r"data\.classes must be a list"),
    "no classes": (nothing, {"classes": []}, r"data\.classes must be a list"),
    "too few classes": (nothing, {"classes": ["x", "y"]}, r"a\.png holds the id 2 .*data\.classes have the ids 0\.\.1"),
    "one colour too few": (
        nothing,
        {"classes": ["x", "y", "z"], "colors": TABLE[:2]},
        r"data\.colors has 2 colours for 3 classes",
    ),
    "colour out of range": (nothing, {"colors": [[0, 0, 300]]}, r"data\.colors has the colour \[0, 0, 300\]"),
    "mode mistyped": (nothing, {"mode": "multi-class"}, r"data\.mode is 'multi-class'.*Did you mean 'multiclass'"),
    "binary with three": (nothing, {"mode": "binary"}, r"data\.mode=binary needs two classes.*the masks gave 3"),
    "foreground with three": (
        nothing,
        {"foreground": True, "classes": ["x", "y", "z"]},
        r"data\.foreground=true needs two classes",
    ),
    "foreground and multiclass": (nothing, {"foreground": True, "mode": "multiclass"}, r"data\.foreground=true"),
    "ignore is a class": (
        nothing,
        {"ignore_index": 1, "classes": ["x", "y", "z"]},
        r"ignore_index 1 is .*choose an id outside",
    ),
    "ignore is a word": (nothing, {"ignore_index": "void"}, r"data\.ignore_index='void'"),
    "mean without std": (nothing, {"mean": [0.5] * 3}, r"data\.mean and data\.std"),
    "mean too short": (nothing, {"mean": [0.5], "std": [0.5]}, r"one value per channel \(3\)"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(root, name):
    plant, options, pattern = MISTAKES[name]
    plant(root)
    options = {k: v.format(root=root) if k == "root" and v else v for k, v in options.items()}
    with pytest.raises((DataError, ConfigError), match=pattern) as error:
        Folder(**{"root": root, "split": (1, 0, 0), **options})
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 500 + len(str(root)) * 3


def test_the_sound_folder_is_accepted(root):
    assert Folder(root, split=(1, 0, 0)).spec.num_classes == 3


def test_a_mistake_beyond_the_sampled_masks_is_found_when_loaded(root, monkeypatch):
    monkeypatch.setattr("seglab.data.folder_checks._SAMPLE", 2)
    mask("b", MASK * 20)(root)
    data = Folder(root, split=(1, 0, 0))
    data.load("train", 0)
    with pytest.raises(DataError, match=r"b\.png holds the id 20"):
        data.load("train", 1)


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_file_that_goes_bad_later(root, kind):
    data = Folder(root, split=(1, 0, 0))
    pixels = bytearray((root / kind / "b.png").read_bytes())
    pixels[45] ^= 0xFF  # inside the compressed pixels: header and end stay sound
    (root / kind / "b.png").write_bytes(pixels)
    with pytest.raises(DataError, match=rf"{kind}.b\.png cannot be read"):
        data.load("train", 1)
    (root / kind / "b.png").unlink()
    with pytest.raises(DataError, match=rf"{kind}.b\.png cannot be read"):
        data.load("train", 1)


def test_a_file_that_changes_its_size_later(root):
    data = Folder(root, split=(1, 0, 0))
    mask("b", MASK[:2])(root)
    with pytest.raises(DataError, match=r"b\.png.*changed its size"):
        data.load("train", 1)


def test_a_truncated_jpeg_is_found_before_training(root):
    big = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    (root / "images/b.png").unlink()
    mask("b", np.zeros((64, 64), np.uint8))(root)
    data = cv2.imencode(".jpg", big)[1].tobytes()
    (root / "images/b.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(SeglabError, match=r"b\.jpg cannot be read"):
        Folder(root)
