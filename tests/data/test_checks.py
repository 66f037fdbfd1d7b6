"""Faults planted in a small sound folder: each is found under its kind, names its file, and its override mends it."""

import json
import os
import re
import shutil
from functools import cache

import cv2
import numpy as np
import pytest
import tifffile
from conftest import ROOT
from PIL import Image

from seglab.config import load, override, parse, plain
from seglab.data.checks.cache import place, recall
from seglab.data.checks.doctor import examine_folder, examine_source
from seglab.data.checks.findings import ORDER
from seglab.data.folder import Folder

COUNTS = {"train": 8, "val": 4, "test": 4}
NAMES = {s: [f"{s}{chr(97 + i)}" for i in range(n)] for s, n in COUNTS.items()}
FIRST = "train/{}/traina.png"


def pair(seed, height=48, width=64):
    """An image of bright ellipses (1) and dark boxes (2) on textured grey, and its mask."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(3):
        y, x = (int(v) for v in rng.integers(8, (height - 8, width - 8)))
        cv2.ellipse(mask, (x, y), tuple(int(v) for v in rng.integers(3, 8, 2)), int(rng.integers(180)), 0, 360, 1, -1)
    y, x = (int(v) for v in rng.integers(0, (height - 12, width - 12)))
    mask[y : y + 10, x : x + 10] = 2
    image = np.array([100, 190, 30])[mask][..., None] + rng.normal(0, 6, (height, width, 3))
    image += cv2.resize(rng.normal(0, 25, (4, 5)), (width, height))[..., None]
    return image.clip(0, 255).astype(np.uint8), mask


def save(path, array, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **how)


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound") / "set"
    for number, split in enumerate(COUNTS):
        for i, name in enumerate(NAMES[split]):
            image, mask = pair(100 * number + i)
            save(root / split / "images" / f"{name}.png", image)
            save(root / split / "masks" / f"{name}.png", mask)
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "set")


def examine(root, **settings):
    told = {k: v for k, v in settings.items() if k != "scale"}
    return examine_folder(lambda: Folder(root=root, **told), root, processes=1, **settings)


def above_info(report):
    return [(one.kind, one.text) for one in report.findings if one.severity != "info"]


def found(report, kind):
    assert kind in {one.kind for one in report.findings}, [(one.kind, one.text) for one in report.findings]
    return next(one for one in report.findings if one.kind == kind)


@cache
def defaults():
    return plain(load(["data=folder"]))


def mended(root, remedy):
    """The report under the printed override, read as a user's command is; the source it builds has no fault left."""
    changes = parse([remedy])
    assert all(key.removeprefix("data.") in defaults()["data"] for key in changes)
    config = override(defaults(), changes)["data"]
    keys = ("classes", "mode", "ignore_index", "foreground", "colors", "split", "group", "channels")
    settings = {key: config[key] for key in keys}
    report = examine(root, **settings, scale=config["scale"])
    assert report.count("error") == 0, [(one.kind, one.text) for one in report.findings]
    source = Folder(root=root, **settings)
    for split in COUNTS:
        for index in range(len(source.ids(split))):
            source.load(split, index)
    return report


def each_mask(root, change, only=None):
    """Replace the masks (or those of some names) by `change(mask)`."""
    for path in sorted(root.rglob("masks/*.png")):
        if only is None or path.stem in only:
            mask = np.array(Image.open(path))
            path.unlink()
            save(path, change(mask))


def each_image(root, change, only=None):
    for path in sorted(root.rglob("images/*.png")):
        if only is None or path.stem in only:
            image = np.array(Image.open(path))
            path.unlink()
            save(path, change(image))


def test_a_sound_folder_has_nothing_above_info(sound):
    report = examine(sound)
    assert above_info(report) == []
    assert report.verdict == "Training would start: no error, no warning."
    assert report.classes == ("class_0", "class_1", "class_2")


def test_the_table_equals_a_recount(sound):
    report = examine(sound)
    for split in COUNTS:
        masks = [np.array(Image.open(path)) for path in sorted((sound / split / "masks").iterdir())]
        for k in range(3):
            row = report.shares[split].rows[k]
            assert row.pixels == sum((mask == k).sum() for mask in masks)
            assert row.images == sum((mask == k).any() for mask in masks)
            assert row.objects == sum(cv2.connectedComponents((mask == k).view(np.uint8))[0] - 1 for mask in masks)


# Each plants one fault and gives the settings; the table says under which kind it is found, where, and what mends it.


def remove(what):
    return lambda root: (root / what).unlink()


def copy(old, new):
    return lambda root: shutil.copy(root / old, root / new)


def cut(what, share):
    def plant(root):
        data = (root / what).read_bytes()
        (root / what).write_bytes(data[: int(len(data) * share)])

    return plant


def scramble(root):
    path = root / FIRST.format("images")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    path.write_bytes(data)


def emptied(root):
    for path in (root / "test/masks").iterdir():
        path.unlink()


def turned(root):
    path = root / "train/images/traina.png"
    exif = Image.Exif()
    exif[274] = 6
    Image.open(path).save(path.with_suffix(".jpg"), quality=95, exif=exif)
    path.unlink()


def jpeg_mask(root):
    path = root / "train/masks/traina.png"
    Image.open(path).save(path.with_suffix(".jpg"), quality=95)
    path.unlink()


def palette(root):
    for path in sorted(root.rglob("masks/*.png")):
        image = Image.fromarray(np.array(Image.open(path)), "P")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        (image.convert("RGB") if path.stem == "traina" else image).save(path)


COLORS = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [9, 9, 200]], np.uint8)


def colored(root):
    each_mask(root, lambda mask: COLORS[mask])


def odd_color(root):
    colored(root)
    each_mask(root, lambda mask: np.where(mask == 128, 127, mask).astype(np.uint8), ["traina"])


def one_hot(count):
    def plant(root):
        for path in sorted(root.rglob("masks/*.png")):
            tifffile.imwrite(path.with_suffix(".tif"), one_of(count, np.array(Image.open(path))), photometric="minisblack")
            path.unlink()

    return plant


def one_of(count, mask):
    return np.eye(count, dtype=np.uint8)[mask] * 255


def binary(high, only=None):
    return lambda root: each_mask(root, lambda mask: ((mask > 0) * high).astype(np.uint8), only)


def two_scales(root):
    binary(255)(root)
    binary(1, ["traina", "vala"])(root)


def smoothed(root):
    each_mask(root, lambda mask: cv2.GaussianBlur(((mask > 0) * 255).astype(np.uint8), (5, 5), 0))


def smooth_ids(root):
    each_mask(
        root, lambda mask: cv2.resize(cv2.resize(mask * 120, None, fx=2, fy=2), mask.shape[::-1], interpolation=cv2.INTER_AREA)
    )


def void_id(root):
    each_mask(root, lambda mask: np.where(mask == 2, 7, mask).astype(np.uint8), ["traina", "trainb"])


def objects(root):
    each_mask(root, lambda mask: spread(mask))


def spread(mask):
    """Ids 1..N of the parts of the foreground cut into tiles: N differs from mask to mask."""
    tiles = np.arange(mask.shape[0])[:, None] // 6 * 100 + np.arange(mask.shape[1]) // 6 + 1
    _, ids = np.unique(np.where(mask > 0, tiles, 0), return_inverse=True)
    return ids.reshape(mask.shape).astype(np.uint16)


def moved(root):
    each_mask(root, lambda mask: np.roll(mask, (-3, 4), (0, 1)))


def only_in_val(root):
    each_mask(root, lambda mask: np.where(mask == 2, 0, mask).astype(np.uint8), NAMES["train"])


def mostly_void(root):
    each_mask(root, lambda mask: np.where(np.arange(64) < 26, 255, mask).astype(np.uint8))


def dots(root):
    def change(mask):
        mask[::6, ::6] = 1
        return mask

    each_mask(root, change)


def copy_across(root):
    for kind in ("images", "masks"):
        shutil.copy(root / f"train/{kind}/traina.png", root / f"test/{kind}/copied.png")


def near_copy(root):
    copy_across(root)
    each_image(root, lambda image: (image * 0.97 + 2).astype(np.uint8), ["copied"])


def other_mask(root):
    for kind in ("images", "masks"):
        shutil.copy(root / f"train/{kind}/traina.png", root / f"train/{kind}/copied.png")
    each_mask(root, np.fliplr, ["copied"])


def clip(root):
    """Frames of a slow pan, one in three in val and test."""
    image, mask = pair(7, 48, 200)
    for i in range(12):
        split = "train" if i % 3 else "val" if i % 2 else "test"
        save(root / split / f"images/clip_{i:03d}.png", np.ascontiguousarray(image[:, 3 * i : 3 * i + 64]))
        save(root / split / f"masks/clip_{i:03d}.png", np.ascontiguousarray(mask[:, 3 * i : 3 * i + 64]))


def single(name, value):
    return lambda root: each_image(root, lambda image: (image * 0 + value).astype(np.uint8), [name])


def near_black(root):
    each_image(root, lambda image: (image // 64).astype(np.uint8), ["traina"])


def gray(root):
    each_image(root, lambda image: image[..., 0], ["traina"])


def alpha(root):
    each_image(root, lambda image: np.dstack([image, image[..., :1] * 0 + 255]))


def deep(root):
    path = root / FIRST.format("images")
    cv2.imwrite(str(path), np.array(Image.open(path)).astype(np.uint16) * 257)


def not_a_number(root):
    path = root / FIRST.format("images")
    image = np.array(Image.open(path)).astype(np.float32)
    image[3, 3] = np.nan
    path.unlink()
    cv2.imwrite(str(path.with_suffix(".tiff")), image)


def other_size(root):
    each_mask(root, lambda mask: mask[:-1], ["traina"])


def other_sides(root):
    each_mask(root, lambda mask: np.ascontiguousarray(mask.T), ["traina"])


def listed(root, names=None):
    for kind in ("images", "masks"):
        for path in sorted(root.rglob(f"{kind}/*.png")):
            (root / kind).mkdir(exist_ok=True)
            path.rename(root / kind / path.name)
    for split in COUNTS:
        shutil.rmtree(root / split)
    (root / "split.json").write_text(json.dumps(names or {**NAMES, "val": [*NAMES["val"], "nobody"]}))


def left_out(root):
    listed(root, {**NAMES, "train": NAMES["train"][1:]})


def no_masks(root):
    shutil.rmtree(root / "test/masks")


THREE = {"classes": ["a", "b c", "d"]}
FAULTS = {  # plant, settings, severity and kind, a file it names ("" = none), the override that mends it (None = words)
    "image without mask": (remove(FIRST.format("masks")), {}, "error", "no_mask", FIRST.format("images"), None),
    "mask without image": (remove(FIRST.format("images")), {}, "error", "no_image", FIRST.format("masks"), None),
    "two of one stem": (copy(FIRST.format("images"), "train/images/traina.bmp"), {}, "error", "same_stem", "train/images/traina.bmp", None),
    "empty folder": (emptied, {}, "error", "empty_folder", "test/masks", None),
    "no folder": (no_masks, {}, "error", "no_folder", "", None),
    "other format": (lambda root: (root / "train/images/list.txt").write_text("x"), {}, "info", "other_files", "train/images/list.txt", None),
    "zero bytes": (lambda root: (root / FIRST.format("images")).write_bytes(b""), {}, "error", "empty_file", FIRST.format("images"), None),
    "truncated image": (cut(FIRST.format("images"), 0.6), {}, "error", "unreadable", FIRST.format("images"), None),
    "truncated mask": (cut(FIRST.format("masks"), 0.6), {}, "error", "unreadable", FIRST.format("masks"), None),
    "scrambled image": (scramble, {}, "error", "unreadable", FIRST.format("images"), None),
    "exif": (turned, {}, "warning", "exif_orientation", "train/images/traina.jpg", None),
    "size": (other_size, {}, "error", "size_mismatch", FIRST.format("masks"), None),
    "swapped sides": (other_sides, {}, "error", "swapped_sides", FIRST.format("masks"), None),
    "channels": (gray, {}, "error", "channels", FIRST.format("images"), "data.channels=3"),
    "impossible channels": (alpha, {"channels": 5}, "error", "channels", FIRST.format("images"), None),
    "alpha": (alpha, {}, "warning", "alpha", "", "data.channels=3"),
    "depth": (deep, {}, "warning", "bit_depth", FIRST.format("images"), None),
    "nan": (not_a_number, {}, "error", "not_finite", "train/images/traina.tiff", None),
    "blank image": (single("traina", 90), {}, "warning", "constant_image", FIRST.format("images"), None),
    "black image": (near_black, {}, "warning", "black_image", FIRST.format("images"), None),
    "jpeg mask": (jpeg_mask, {}, "error", "jpeg_mask", "train/masks/traina.jpg", None),
    "palette and rgb": (palette, {}, "error", "mask_kinds", FIRST.format("masks"), None),
    "rgb masks": (colored, {}, "error", "color_table", FIRST.format("masks"), "data.colors=[[0,0,0],[128,0,0],[0,128,0]]"),
    "unknown colour": (odd_color, {"colors": COLORS.tolist()}, "error", "unknown_colors", FIRST.format("masks"), None),
    "0 and 255": (binary(255), {}, "info", "full_scale", "", None),
    "two scales": (two_scales, {}, "error", "two_scales", FIRST.format("masks"), "data.foreground=true"),
    "one-hot, as layers": (one_hot(5), {}, "warning", "one_hot", "train/masks/traina.tif", None),
    "one-hot, as colours": (lambda root: each_mask(root, lambda mask: one_of(3, mask)), {}, "error", "one_hot", FIRST.format("masks"),
                            "data.mode=multilabel"),
    "one-hot, multiclass": (one_hot(5), {"mode": "multiclass"}, "error", "one_hot", "train/masks/traina.tif", "data.mode=multilabel"),
    "off by one": (lambda root: each_mask(root, lambda mask: mask + 1), THREE, "error", "off_by_one", FIRST.format("masks"),
                   "data.classes=[unlabelled,a,'b c',d]"),
    "begins at 1": (lambda root: each_mask(root, lambda mask: mask + 1), {}, "warning", "off_by_one", FIRST.format("masks"), None),
    "smoothed": (smoothed, {}, "error", "smoothed_masks", FIRST.format("masks"), None),
    "resized": (smooth_ids, {}, "error", "smoothed_masks", FIRST.format("masks"), None),
    "void id": (void_id, THREE, "error", "unknown_ids", FIRST.format("masks"), "data.ignore_index=7"),
    "objects": (objects, {}, "warning", "object_ids", FIRST.format("masks"), "data.foreground=true"),
    "objects, named": (objects, {"classes": ["background", "cell"]}, "error", "object_ids", FIRST.format("masks"), "data.foreground=true"),
    "empty masks": (lambda root: each_mask(root, np.zeros_like), THREE, "error", "empty_masks", FIRST.format("masks"), None),
    "one empty mask": (lambda root: each_mask(root, np.zeros_like, ["traina"]), {}, "info", "constant_mask", FIRST.format("masks"), None),
    "shifted": (moved, {}, "warning", "shifted_masks", "train/masks/", None),
    "never seen": (lambda root: None, {"classes": ["a", "b", "c", "d"]}, "warning", "class_never_seen", "", None),
    "not in train": (only_in_val, {}, "warning", "class_not_trained", "", None),
    "void": (mostly_void, {}, "warning", "void", "", None),
    "vanishing": (dots, {"scale": 0.5}, "warning", "vanishing_objects", "", "data.scale=1.0"),
    "copies": (copy_across, {}, "warning", "copies_across_splits", "test/images/copied.png", None),
    "near copies": (near_copy, {}, "warning", "near_copies", "test/images/copied.png", None),
    "two masks": (other_mask, {}, "warning", "copies_with_other_masks", "train/images/copied.png", None),
    "clip": (clip, {}, "warning", "clip_across_splits", "val/images/clip_003.png", None),
    "groups": (clip, {"group": "^(clip|.*)"}, "warning", "group_across_splits", "val/images/clip_003.png", None),
    "bad group": (lambda root: None, {"group": "("}, "error", "group", "", None),
    "split file": (listed, {}, "error", "split_file", "nobody", None),
    "left out": (left_out, {}, "info", "left_out", "traina", None),
    "classes.json": (lambda root: (root / "classes.json").write_text("{"), {}, "error", "classes", "", None),
}  # fmt: skip


def test_the_page_lists_the_kinds_there_are():
    rows = re.findall(r"^\| (`[^|]*) \|", (ROOT / "docs/check.md").read_text(), re.M)
    listed = {kind for row in rows for kind in re.findall(r"`(\w+)`", row)}
    code = "".join(path.read_text() for path in (ROOT / "seglab/data/checks").glob("*.py"))
    assert {kind for *_, kind, _, _ in FAULTS.values()} <= listed
    assert {kind for kind in listed if f'"{kind}"' not in code} == set()


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_its_override_mends_it(name, root):
    plant, settings, severity, kind, file, remedy = FAULTS[name]
    plant(root)
    report = examine(root, **settings)
    one = found(report, kind)
    assert one.severity == severity
    assert not file or any(path.startswith(file) for path in one.files)
    assert one.text.endswith(".")
    assert str(root) not in one.text
    worse = [other.kind for other in report.findings if ORDER.index(other.severity) < ORDER.index(severity)]
    assert worse == []  # nothing else is blamed before it
    if remedy is not None:
        assert one.remedy == remedy
        assert kind not in {other.kind for other in mended(root, remedy).findings}


def test_errors_say_whether_training_starts(root):
    """A refusal of the source always comes with an error, and without an error the source can be built."""
    for plant in (remove(FIRST.format("masks")), two_scales, void_id):
        plant(root)
        report = examine(root)
        assert (report.refusal is not None) <= (report.count("error") > 0)


def test_all_faults_of_one_folder_are_told_at_once(root):
    for plant in (remove("train/masks/trainb.png"), cut("train/images/trainc.png", 0.5), gray, copy_across, void_id):
        plant(root)
    kinds = {one.kind for one in examine(root, classes=["a", "b", "c"]).findings}
    assert kinds >= {"no_mask", "unreadable", "channels", "copies_across_splits", "unknown_ids"}


def test_a_shift_is_told_with_its_size(root):
    moved(root)
    one = found(examine(root), "shifted_masks")
    assert (one.evidence["dy"], one.evidence["dx"]) == (3, -4)  # the way back


def test_a_clip_split_by_chance_is_mended_by_its_group(tmp_path):
    for k in range(7):
        image, mask = pair(40 + k, 48, 200)
        for i in range(6):
            save(tmp_path / f"set/images/c{k}_{i:03d}.png", np.ascontiguousarray(image[:, 3 * i : 3 * i + 64]))
            save(tmp_path / f"set/masks/c{k}_{i:03d}.png", np.ascontiguousarray(mask[:, 3 * i : 3 * i + 64]))
    one = found(examine(tmp_path / "set"), "clip_across_splits")
    kinds = {other.kind for other in mended(tmp_path / "set", one.remedy).findings}
    assert not kinds & {"clip_across_splits", "group_across_splits"}


def test_numbered_images_that_show_other_things_are_no_clip(tmp_path):
    for i in range(30):
        image, mask = pair(i)
        save(tmp_path / f"set/images/scan_{i:03d}.png", image)
        save(tmp_path / f"set/masks/scan_{i:03d}.png", mask)
    assert above_info(examine(tmp_path / "set")) == []


def test_drift_of_images_and_of_classes(tmp_path):
    for number, split in enumerate(("train", "val", "test")):
        for i in range(10):
            image, mask = pair(50 * number + i)
            if split == "val":
                image = (image * 0.4).astype(np.uint8)
            if split == "test":
                mask[:, :30] = 1
                image[:, :30] = 190
            save(tmp_path / f"set/{split}/images/{split}{chr(97 + i)}.png", image)
            save(tmp_path / f"set/{split}/masks/{split}{chr(97 + i)}.png", mask)
    report = examine(tmp_path / "set")
    assert "val" in {one.evidence["split"] for one in report.findings if one.kind == "image_drift"}
    assert {one.evidence["split"] for one in report.findings if one.kind == "class_drift"} == {"test"}


def test_folds_are_judged_as_they_would_be_trained_on(root):
    from seglab.data.selection import select

    report = examine_folder(lambda: select(Folder(root=root), folds=4, fold=1), root)
    assert report.shares["train"].images == 9
    assert report.shares["val"].images == 3


def test_unchanged_files_are_not_read_again_and_changed_ones_are(root, monkeypatch):
    from seglab.data.checks import gather

    read = []
    real = gather.look_at
    monkeypatch.setattr(gather, "look_at", lambda *told: read.append(told[0]) or real(*told))
    before = examine(root).to_dict()
    assert len(read) == 16
    assert examine(root).to_dict() == before
    assert len(read) == 16
    single("traina", 90)(root)
    assert "constant_image" in {one.kind for one in examine(root).findings}
    assert len(read) == 17
    os.utime(root / FIRST.format("masks"), (1, 1))  # of the same size, but written at another time
    examine(root)
    assert len(read) == 18


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"rubbish", lambda data: data[: len(data) // 2]])
def test_a_broken_cache_is_ignored(root, damage):
    before = examine(root).to_dict()
    file = place(root)
    file.write_bytes(damage(file.read_bytes()))
    assert examine(root).to_dict() == before
    assert len(recall(file)) == 16  # and written anew
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_no_file_is_changed(root):
    colored(root)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}
    examine(root)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()} == before


def test_drawn_cells_are_sound_and_their_objects_are_counted():
    from seglab.data.cells import Cells

    source = Cells(size=64, train=12, val=8, test=8)
    report = examine_source(lambda: source)
    assert report.count("error") == 0
    ids = [len(np.unique(source.load("val", i)["instances"])) - 1 for i in range(8)]
    assert sum(row.objects for row in report.shares["val"].rows) == sum(ids)


def sorted_by_kind(tmp_path):
    """Numbered images of three kinds, one kind after the other, of one kind all alike: no film, though neighbours are alike."""
    for i in range(60):
        image, mask = pair(i)
        kind = cv2.resize(np.random.default_rng(i // 20).normal(0, 60, (4, 5)), (64, 48))[..., None]
        save(tmp_path / f"set/images/scan_{i:03d}.png", (image + kind).clip(0, 255).astype(np.uint8))
        save(tmp_path / f"set/masks/scan_{i:03d}.png", mask)
    return tmp_path / "set"


def test_images_sorted_by_kind_are_no_clip(tmp_path):
    assert "clip_across_splits" not in {one.kind for one in examine(sorted_by_kind(tmp_path)).findings}


def test_an_empty_folder_is_told_without_a_traceback(tmp_path):
    report = examine(tmp_path)
    assert {one.kind for one in report.findings} == {"no_folder"}
    assert report.verdict == "Training would not start: 2 errors, 0 warnings."


def test_a_known_format_is_looked_at_file_by_file(root):
    """A damage that its headers do not show is found, although the source can be built."""
    from seglab.data.layout import find_pairs
    from seglab.data.paired import Paired, stated

    scramble(root)
    turned_mask = root / "val/masks/vala.png"
    save(turned_mask, np.full((48, 64), 2, np.uint8))
    told = {"mean": [0.5] * 3, "std": [0.25] * 3}

    def build():
        return Paired("known", find_pairs(root), stated(["a", "b", "c"], {0: 0, 1: 1, 2: 2}, ""), **told)

    report = examine_source(build, root)
    assert found(report, "unreadable").files == ("train/images/traina.png",)
    assert found(report, "constant_mask").files == ("val/masks/vala.png",)
    assert report.verdict == "Training would start, and end or go wrong later: 1 error, 0 warnings."


def test_objects_and_copies_of_a_coco_set(tmp_path):
    from seglab.data.coco import Coco

    image, _ = pair(0)
    for split, names in {"train": ["a.png", "b.png"], "val": ["c.png"]}.items():
        listed = [{"id": n, "file_name": name, "height": 48, "width": 64} for n, name in enumerate(names)]
        box = {"image_id": 0, "category_id": 1, "iscrowd": 0, "area": 100, "bbox": [2, 2, 10, 10]}
        outlines = [[[2, 2, 12, 2, 12, 12, 2, 12]], [[30, 20, 40, 20, 40, 30, 30, 30]]]
        objects = [{**box, "id": n, "segmentation": outline} for n, outline in enumerate(outlines)]
        content = {"images": listed, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / f"annotations/instances_{split}.json").write_text(json.dumps(content))
        for name in names:
            save(tmp_path / split / name, pair(9)[0] if name == "b.png" else image)
    report = examine_source(lambda: Coco(tmp_path), tmp_path)
    assert report.classes == ("background", "cat")
    assert [report.shares[split].rows[1].objects for split in ("train", "val")] == [2, 2]
    assert report.shares["train"].rows[1].area == 100
    assert found(report, "copies_across_splits").files == ("a", "c")
